//! Endpoints and their turns, through the front door of the room.

use std::sync::Arc;

use super::request::{START, configuration};
use crate::observe::Metrics;
use crate::threads::spawn;
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
