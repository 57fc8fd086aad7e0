//! Limits, through the room's front door.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use loom::thread;

use super::request::{Request, SECOND, START, configuration};
use crate::filter::{RequestFilter, Tickets, Verdict};
use crate::limit::{self, LimitFacts};
use crate::threads::spawn;

fn filter(algorithm: &str, rule: &str) -> Arc<dyn RequestFilter> {
    let text = format!("[limit.one]\nkey = \"client_ip\"\nalgorithm = \"{algorithm}\"\n{rule}\n");
    let config = configuration(&text);
    let limit = config.limits.values().next().unwrap();
    limit::build(limit, Arc::default(), &LimitFacts::new())
}

/// How many of the requests pass that two threads send, each `(client, now)` of its list in turn.
fn passed(filter: &Arc<dyn RequestFilter>, of: [&'static [(u8, u64)]; 2]) -> usize {
    let ask = |list: &'static [(u8, u64)]| {
        let filter = Arc::clone(filter);
        move || {
            let request = Request::new();
            let passes = |(client, now): &&(u8, u64)| request.passes(&*filter, *client, *now);
            list.iter().filter(passes).count()
        }
    };
    let other = spawn(ask(of[1]));
    ask(of[0])() + other.join().unwrap()
}

/// Broken by hand: `Store::update` lets go of its lock between reading a time and keeping the next.
pub fn token_bucket() {
    let filter = filter("token_bucket", "rate = \"1/d\"\nburst = 2");
    let twice: &[(u8, u64)] = &[(1, START), (1, START)];
    assert_eq!(passed(&filter, [twice, twice]), 2);
}

/// Broken by hand: `Estimator::admit` does not look again once it has counted.
pub fn estimator() {
    let filter = filter("estimator", "rate = \"2/s\"");
    let twice: &[(u8, u64)] = &[(1, START), (1, START)];
    let passed = passed(&filter, [twice, twice]);
    assert!(passed <= 2, "{passed} passed");
}

/// One window ends while both ask. What was counted before that weighs on, so that two windows do not let more than
/// twice the rate pass. Broken by hand: `Sketch::turn` does not look again once it has the lock, and clears both.
pub fn turning() {
    let filter = filter("estimator", "rate = \"2/s\"");
    let request = Request::new();
    assert!(request.passes(&*filter, 1, START) && request.passes(&*filter, 1, START));
    // At the very turn what came before weighs in full: nobody passes.
    let turn: &[(u8, u64)] = &[(1, START + SECOND)];
    assert_eq!(passed(&filter, [turn, turn]), 0);
    // Half a window later one of the two has faded.
    let later: &[(u8, u64)] = &[(1, START + SECOND * 3 / 2)];
    let passed = passed(&filter, [later, later]);
    assert!(passed <= 1, "{passed} passed");
}

/// What a request holds while it is served.
fn enter(filter: &dyn RequestFilter, client: u8) -> Option<Tickets> {
    let request = Request::new();
    let mut context = request.context(client, START);
    let verdict = filter.check(&mut context);
    matches!(verdict, Verdict::Continue).then_some(context.tickets)
}

/// Broken by hand: `Counts::enter` looks at the count before it takes the lock.
pub fn concurrency() {
    let filter = filter("concurrency", "max = 1");
    let inside = Arc::new(AtomicUsize::new(0));
    let serve = || {
        let (filter, inside) = (Arc::clone(&filter), Arc::clone(&inside));
        move || {
            for _ in 0..2 {
                let Some(tickets) = enter(&*filter, 1) else {
                    continue;
                };
                assert_eq!(inside.fetch_add(1, Ordering::Relaxed), 0, "two at once");
                thread::yield_now();
                inside.fetch_sub(1, Ordering::Relaxed);
                drop(tickets);
            }
        }
    };
    let other = spawn(serve());
    serve()();
    other.join().unwrap();
    assert!(enter(&*filter, 1).is_some(), "a place was not given back");
}

/// Two keys, room for one. Broken by hand: `Counts::enter` does not take back what it counted in vain.
pub fn keys_in_flight() {
    let filter = filter("concurrency", "max = 1\ncapacity = 1");
    let inside = Arc::new(AtomicUsize::new(0));
    let serve = |client| {
        let (filter, inside) = (Arc::clone(&filter), Arc::clone(&inside));
        move || {
            if let Some(tickets) = enter(&*filter, client) {
                assert_eq!(inside.fetch_add(1, Ordering::Relaxed), 0, "two at once");
                thread::yield_now();
                inside.fetch_sub(1, Ordering::Relaxed);
                drop(tickets);
            }
        }
    };
    let other = spawn(serve(1));
    serve(2)();
    other.join().unwrap();
    assert!(enter(&*filter, 3).is_some(), "the room was not given back");
}

/// Keys come from two threads into a store for three and idle ones go; then exactly three more fit, as debts are seen
/// again only where they were kept. Broken by hand: `Store::make_room` does not count what it sweeps.
pub fn keys_of_a_store() {
    let filter = filter("token_bucket", "rate = \"1/s\"\nburst = 1\ncapacity = 3");
    // The second key of each comes when the first is idle, and its sweep may forget it.
    let one: &[(u8, u64)] = &[(1, START), (2, START + 2 * SECOND)];
    let other: &[(u8, u64)] = &[(3, START), (4, START + 2 * SECOND)];
    assert_eq!(passed(&filter, [one, other]), 4);
    let request = Request::new();
    let now = START + 9 * SECOND;
    let fits = |client| request.passes(&*filter, client, now);
    assert!(fits(11) && fits(12) && fits(13));
    for known in [11, 12, 13] {
        assert!(!fits(known), "{known} was forgotten though there was room");
    }
}
