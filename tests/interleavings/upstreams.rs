//! Endpoints and their turns, through the front door of the room.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use loom::thread;

use super::request::{SECOND, START, configuration};
use crate::observe::{BreakerState, Metrics};
use crate::threads::spawn;
use crate::upstream::breaker::{Breaker, Ending};
use crate::upstream::{EndpointFacts, Outcome, PeerTemplate, Pool};

fn pool(upstream: &str) -> Arc<Pool> {
    let config = configuration(&format!("[upstream.u]\n{upstream}\n"));
    let settings = config.upstreams.values().next().unwrap().clone();
    let peers = PeerTemplate::new(&settings, &|_| Err("no files".into())).unwrap();
    let metrics = Arc::new(Metrics::new("0", "0").unwrap());
    let facts = Arc::new(EndpointFacts::new(metrics));
    Arc::new(Pool::new(settings, peers, facts, Arc::default(), START))
}

/// Broken by hand: `Rotation::next` loads the cursor and stores it.
pub fn shares() {
    let pool = pool(
        "endpoints = [{ address = \"127.0.0.1:1\", weight = 2 }, { address = \"127.0.0.1:2\" }, { address = \"127.0.0.1:3\" }]",
    );
    let pick = |times| {
        let pool = Arc::clone(&pool);
        move || -> Vec<u16> {
            let picks = (0..times).map(|_| pool.pick(START, &[]).unwrap());
            picks
                .map(|endpoint| endpoint.address.inet().expect("address").port())
                .collect()
        }
    };
    let other = spawn(pick(2));
    let mut picked = pick(2)();
    picked.extend(other.join().unwrap());
    picked.sort_unstable();
    assert_eq!(picked, [1, 1, 2, 3]);
}

/// A failure and a success meet; then there is a success alone. One failure after that is not the second in a row.
/// Broken by hand: `Endpoint::forgive` puts the flag back after it has let go of the lock.
pub fn success_between_failures() {
    let pool = pool(
        "endpoints = [{ address = \"127.0.0.1:1\" }, { address = \"127.0.0.1:2\" }]\n\
         passive = { max_fails = 2, fail_timeout = \"10s\" }",
    );
    let (endpoint, ..) = pool.endpoints().remove(0);
    pool.report(&endpoint, Outcome::Bad, START);
    let other = {
        let (pool, endpoint) = (Arc::clone(&pool), Arc::clone(&endpoint));
        spawn(move || pool.report(&endpoint, Outcome::Good, START))
    };
    // Should this be the second in a row, the endpoint is put aside, and that is right.
    pool.report(&endpoint, Outcome::Bad, START);
    other.join().unwrap();
    if endpoint.state(START) == "up" {
        pool.report(&endpoint, Outcome::Good, START);
        pool.report(&endpoint, Outcome::Bad, START);
        assert_eq!(
            endpoint.state(START),
            "up",
            "a success in between was overlooked"
        );
    }
}

/// The first two retries of a second meet. Ten are allowed in it without any request, and no eleventh.
/// Broken by hand: a slot of the budget keeps its second and its count as two numbers.
pub fn retries() {
    let pool = pool("endpoints = [{ address = \"127.0.0.1:1\" }]");
    let retry = {
        let pool = Arc::clone(&pool);
        move || pool.may_retry(START)
    };
    let other = spawn(retry.clone());
    let first = usize::from(retry());
    let granted = first + usize::from(other.join().unwrap());
    let more = (0..20).filter(|_| retry()).count();
    assert_eq!(granted + more, 10);
}

/// A breaker that opens after `calls` failed calls, of which all must fail.
fn breaker(calls: usize) -> Arc<Breaker> {
    let pool = pool(&format!(
        "endpoints = [{{ address = \"127.0.0.1:1\" }}]\n\
         breaker = {{ window = {calls}, failure_rate = \"100%\", open_for = \"1s\", half_open_calls = 1 }}"
    ));
    Arc::clone(pool.breaker().unwrap())
}

fn fail(breaker: &Arc<Breaker>, now: u64) {
    if let Ok(permit) = breaker.enter(now) {
        permit.tell(Ending::Answered(503), Duration::ZERO, now);
    }
}

/// Two calls meet that fail, as the window asks for. Broken by hand: `Counted::put` loads and stores its sums.
pub fn failures() {
    let breaker = breaker(2);
    let other = {
        let breaker = Arc::clone(&breaker);
        spawn(move || fail(&breaker, START))
    };
    fail(&breaker, START);
    other.join().unwrap();
    assert_eq!(breaker.standing(START).state, BreakerState::Open);
}

/// One call may decide; two meet and leave without a word. Never are both under way, and afterwards a third may decide.
/// Broken by hand: `enter_trial` looks whether there is a place before it takes the lock.
pub fn probes() {
    let breaker = breaker(1);
    fail(&breaker, START);
    let later = START + SECOND;
    let inside = Arc::new(AtomicUsize::new(0));
    let probe = || {
        let (breaker, inside) = (Arc::clone(&breaker), Arc::clone(&inside));
        move || {
            let Ok(permit) = breaker.enter(later) else {
                return;
            };
            assert_eq!(inside.fetch_add(1, Ordering::Relaxed), 0, "two at once");
            thread::yield_now();
            inside.fetch_sub(1, Ordering::Relaxed);
            drop(permit);
        }
    };
    let other = spawn(probe());
    probe()();
    other.join().unwrap();
    let third = breaker.enter(later);
    assert!(third.is_ok(), "a place was not given back");
    assert!(breaker.enter(later).is_err());
}
