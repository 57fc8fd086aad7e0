//! The limits as the gateway builds and asks them.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use proptest::prelude::*;

use super::testing::{
    Built, Request, SECOND, START, concurrency, estimator, leaky_bucket, token_bucket,
};
use super::*;
use crate::config::{Algorithm, LimitKey, OnMissingKey};
use crate::filter::{FilterContext, Quota, Reason, Refusal, Verdict};

const MS: u64 = SECOND / 1000;

fn refused(verdict: Verdict) -> Refusal {
    match verdict {
        Verdict::Refuse(refusal) => refusal,
        other => panic!("{other:?}"),
    }
}

fn waits(verdict: &Verdict) -> Option<Duration> {
    match verdict {
        Verdict::Wait(time) => Some(*time),
        _ => None,
    }
}

#[test]
fn a_filter_bears_the_name_of_its_limit() {
    assert_eq!(Built::of(&estimator("5/s")).filter.name(), "limit.l");
}

#[test]
fn a_token_bucket_passes_its_burst_and_refills() {
    let built = Built::of(&token_bucket("10/s", 5));
    assert_eq!(built.passed(5, START), 5);
    let refusal = refused(built.at(START));
    assert_eq!(refusal.reason, Reason::RateLimited);
    assert_eq!(refusal.retry_after, Some(Duration::from_millis(100)));
    assert_eq!(built.passed(1, START + 99 * MS), 0);
    assert_eq!(built.passed(2, START + 100 * MS), 1);
    assert_eq!(built.passed(9, START + 10 * SECOND), 5);
    assert_eq!(
        (built.stats.allowed.value(), built.stats.refused.value()),
        (11, 7)
    );
}

#[test]
fn a_token_bucket_tells_what_is_left() {
    let built = Built::of(&token_bucket("10/s", 2));
    let request = Request::new();
    let met = || {
        let mut context = request.context(START);
        built.filter.check(&mut context);
        context.quota.unwrap()
    };
    for (remaining, reset) in [(1, 100), (0, 200), (0, 200)] {
        let reset = Duration::from_millis(reset);
        assert_eq!(
            met(),
            Quota {
                limit: 2,
                remaining,
                reset,
                policy: None
            }
        );
    }
}

#[test]
fn a_leaky_bucket_spaces_those_who_wait_and_refuses_the_rest() {
    let built = Built::of(&leaky_bucket("10/s", 2, "10s"));
    assert!(matches!(built.at(START), Verdict::Continue));
    for turn in [100, 200] {
        assert_eq!(waits(&built.at(START)), Some(Duration::from_millis(turn)));
    }
    let refusal = refused(built.at(START + 50 * MS));
    assert_eq!(refusal.retry_after, Some(Duration::from_millis(50)));
    assert_eq!(
        waits(&built.at(START + 100 * MS)),
        Some(Duration::from_millis(200))
    );
    assert!(matches!(built.at(START + SECOND), Verdict::Continue));
    assert_eq!(
        (built.stats.allowed.value(), built.stats.delayed.value()),
        (2, 3)
    );
}

#[test]
fn a_leaky_bucket_bounds_the_wait_itself() {
    let built = Built::of(&leaky_bucket("10/s", 100, "150ms"));
    assert!(matches!(built.at(START), Verdict::Continue));
    assert!(waits(&built.at(START)).is_some());
    assert_eq!(
        refused(built.at(START)).retry_after,
        Some(Duration::from_millis(50))
    );
}

#[test]
fn a_leaky_bucket_without_burst_only_spaces() {
    let built = Built::of(&leaky_bucket("10/s", 0, "1s"));
    assert_eq!(built.passed(3, START), 1);
    assert_eq!(built.passed(3, START + 100 * MS), 1);
}

#[test]
fn an_estimator_passes_n_in_a_fresh_window_and_not_one_more() {
    let built = Built::of(&estimator("5/s"));
    assert_eq!(built.passed(5, START), 5);
    let refusal = refused(built.at(START));
    assert_eq!(refusal.reason, Reason::RateLimited);
    assert_eq!(built.passed(100, START + 999 * MS), 0);
    // Of five requests one weighs less than nothing a fifth into the next window: the hammering above cost nothing.
    assert_eq!(built.passed(100, START + 1199 * MS), 0);
    assert_eq!(built.passed(100, START + 1200 * MS), 1);
    assert_eq!(built.passed(100, START + 10 * SECOND), 5);
}

#[test]
fn an_estimator_of_sixty_a_minute_is_not_one_a_second() {
    let built = Built::of(&estimator("60/m"));
    assert_eq!(built.passed(61, START), 60);
    assert_eq!(built.passed(5, START + 30 * SECOND), 0);
}

#[test]
fn concurrency_takes_a_place_back_when_its_ticket_is_dropped() {
    let built = Built::of(&concurrency(2));
    let request = Request::new();
    let ask = || {
        let mut context = request.context(START);
        let verdict = built.filter.check(&mut context);
        (verdict, context.tickets)
    };
    let (_, first) = ask();
    let (_, second) = ask();
    let (verdict, none) = ask();
    let refusal = refused(verdict);
    assert_eq!(refusal.reason, Reason::ConcurrencyLimited);
    assert_eq!(refusal.retry_after, Some(Duration::from_secs(1)));
    assert!(none.is_empty());
    drop(first);
    let (verdict, _third) = ask();
    assert!(matches!(verdict, Verdict::Continue));
    assert!(matches!(ask().0, Verdict::Refuse(_)));
    drop(second);
    assert!(matches!(ask().0, Verdict::Continue));
}

#[test]
fn a_dry_run_takes_nothing_and_counts_nothing() {
    for limit in [
        estimator("1/s"),
        token_bucket("1/s", 1),
        leaky_bucket("1/s", 0, "1s"),
        concurrency(1),
    ] {
        let built = Built::of(&limit);
        let request = Request::new();
        let dry = || {
            let mut context = request.context(START);
            context.dry_run = true;
            let verdict = built.filter.check(&mut context);
            assert!(context.tickets.is_empty());
            matches!(verdict, Verdict::Continue)
        };
        assert!(dry() && dry());
        let mut held = request.context(START);
        assert!(matches!(built.filter.check(&mut held), Verdict::Continue));
        assert!(!dry() && !dry(), "{limit:?}");
        assert_eq!(built.stats.allowed.value(), 1);
        assert_eq!(built.stats.refused.value(), 0);
    }
}

#[test]
fn a_missing_key_is_refused_skipped_or_counted_by_address() {
    let mut limit = token_bucket("1/s", 1);
    limit.key = LimitKey::Consumer;
    let with = |on_missing_key| {
        let mut limit = limit.clone();
        limit.on_missing_key = on_missing_key;
        let built = Built::of(&limit);
        let passed = built.passed(3, START);
        (passed, built.stats.skipped.value())
    };
    assert_eq!(with(OnMissingKey::Deny), (0, 0));
    assert_eq!(with(OnMissingKey::Skip), (3, 3));
    assert_eq!(with(OnMissingKey::ClientIp), (1, 0));
    let refusal = refused(Built::of(&limit).at(START));
    assert_eq!(refusal.reason, Reason::RateLimited);
}

#[test]
fn one_client_does_not_use_up_anothers_allowance() {
    let built = Built::of(&token_bucket("1/s", 1));
    assert_eq!(built.passed(2, START), 1);
    let other = Request::new().from("192.0.2.2");
    let verdict = built.filter.check(&mut other.context(START));
    assert!(matches!(verdict, Verdict::Continue));
}

#[test]
fn counters_outlive_a_reload() {
    for (limit, n) in [
        (estimator("3/s"), 3),
        (token_bucket("3/s", 3), 3),
        (leaky_bucket("3/s", 0, "1s"), 1),
    ] {
        let facts = LimitFacts::new();
        let in_force = Built::again(&limit, &facts);
        assert_eq!(in_force.passed(9, START), n);
        facts.prune([]);
        assert_eq!(Built::again(&limit, &facts).passed(9, START), 0);
        drop(in_force);
        facts.prune([]);
        assert_eq!(Built::again(&limit, &facts).passed(9, START), n);
    }
}

#[test]
fn room_for_keys_changes_when_it_is_applied_and_not_when_a_filter_is_built() {
    let with = |capacity: u32| {
        let mut limit = concurrency(1);
        limit.algorithm = Algorithm::Concurrency { max: 1, capacity };
        limit
    };
    let facts = LimitFacts::new();
    let (wide, narrow) = (with(2), with(1));
    let in_force = Built::again(&wide, &facts);
    let both = || {
        let (one, other) = (Request::new().from("192.0.2.7"), Request::new());
        let (mut one, mut other) = (one.context(START), other.context(START));
        [&mut one, &mut other]
            .map(|context| matches!(in_force.filter.check(context), Verdict::Continue))
    };
    let built = Built::again(&narrow, &facts);
    assert_eq!(both(), [true, true], "what was built is not in force");
    facts.apply([&narrow, &wide]);
    assert_eq!(both(), [true, true], "the larger of both holds");
    facts.apply([&narrow]);
    assert_eq!(both(), [true, false]);
    facts.apply([&wide]);
    assert_eq!(both(), [true, true]);
    drop(built);
}

#[test]
fn places_in_flight_outlive_a_reload() {
    let facts = LimitFacts::new();
    let request = Request::new();
    let mut held = request.context(START);
    Built::again(&concurrency(1), &facts)
        .filter
        .check(&mut held);
    assert_eq!(Built::again(&concurrency(1), &facts).passed(1, START), 0);
    assert_eq!(Built::again(&concurrency(2), &facts).passed(1, START), 1);
    drop(held);
    assert_eq!(Built::again(&concurrency(1), &facts).passed(1, START), 1);
}

#[test]
fn another_key_or_algorithm_begins_anew() {
    let facts = LimitFacts::new();
    let first = token_bucket("1/s", 1);
    Built::again(&first, &facts).passed(1, START);
    let mut by_route = first.clone();
    by_route.key = LimitKey::Route;
    assert_eq!(Built::again(&by_route, &facts).passed(1, START), 1);
    let leaky = leaky_bucket("1/s", 0, "1s");
    assert_eq!(Built::again(&leaky, &facts).passed(1, START), 1);
    assert_eq!(Built::again(&first, &facts).passed(1, START), 0);
}

#[test]
fn a_raised_limit_frees_those_who_waited_under_the_old_one() {
    let facts = LimitFacts::new();
    Built::again(&token_bucket("1/d", 1), &facts).passed(1, START);
    let raised = Built::again(&token_bucket("100/s", 10), &facts);
    assert_eq!(
        raised.passed(1, START),
        0,
        "the bucket is empty, not refilled"
    );
    assert_eq!(raised.passed(5, START + 10 * MS), 1);
    Built::again(&leaky_bucket("1/d", 0, "1s"), &facts).passed(1, START);
    let raised = Built::again(&leaky_bucket("10/s", 0, "1s"), &facts);
    assert_eq!(raised.passed(1, START), 0);
    assert_eq!(raised.passed(1, START + 100 * MS), 1);
}

#[test]
fn threads_together_never_exceed_a_limit() {
    for (limit, most) in [
        (estimator("1000/s"), 1000),
        (token_bucket("1/s", 1000), 1000),
        (concurrency(1000), 1000),
        (leaky_bucket("1/s", 999, "1d"), 1000),
    ] {
        let built = Built::of(&limit);
        let request = Request::new();
        let passed = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    let mut contexts: Vec<FilterContext<'_>> = Vec::new();
                    for _ in 0..400 {
                        let mut context = request.context(START);
                        let verdict = built.filter.check(&mut context);
                        let in_time = matches!(verdict, Verdict::Continue | Verdict::Wait(_));
                        passed.fetch_add(usize::from(in_time), Ordering::SeqCst);
                        contexts.push(context);
                    }
                    // No ticket comes back.
                    std::mem::forget(contexts);
                });
            }
        });
        let passed = passed.into_inner();
        assert!(passed <= most, "{passed} passed {limit:?}");
        assert!(passed + 8 >= most, "{passed} passed {limit:?}");
    }
}

proptest! {
    /// Whoever waits as long as told passes, whatever the traffic before; and no window passes more than N.
    #[test]
    fn an_estimator_tells_the_right_time(
        rate in 1u64..20,
        gaps in prop::collection::vec(0u64..400, 1..200),
    ) {
        let built = Built::of(&estimator(&format!("{rate}/s")));
        let mut now = START;
        let mut told = None;
        for gap in gaps {
            now += gap * MS;
            let early = told.is_some_and(|time| now < time);
            match built.at(now) {
                Verdict::Continue => {
                    prop_assert!(!early);
                    told = None;
                }
                verdict => {
                    let wait = refused(verdict).retry_after.unwrap();
                    told = Some(now + wait.as_nanos() as u64);
                }
            }
        }
        if let Some(time) = told {
            prop_assert_eq!(built.passed(1, time - 1), 0);
            prop_assert_eq!(built.passed(1, time), 1);
        }
    }

    /// Turns of a leaky bucket are never closer than the rate, whatever the arrival times.
    #[test]
    fn a_leaky_bucket_never_gives_two_turns_too_close(
        burst in 0u32..10,
        gaps in prop::collection::vec(0u64..150, 1..200),
    ) {
        let built = Built::of(&leaky_bucket("20/s", burst, "300ms"));
        let (mut now, mut last) = (START, 0);
        for gap in gaps {
            now += gap * MS;
            let verdict = built.at(now);
            let turn = match waits(&verdict) {
                Some(wait) => now + wait.as_nanos() as u64,
                None if matches!(verdict, Verdict::Continue) => now,
                None => continue,
            };
            prop_assert!(turn >= last + 50 * MS && turn <= now + 300 * MS);
            last = turn;
        }
    }
}

#[test]
fn what_an_older_version_counted_of_callers_belongs_to_nobody() {
    let mut limit = token_bucket("1/d", 1);
    limit.key = LimitKey::Consumer;
    let facts = LimitFacts::new();
    let _built = Built::again(&limit, &facts);
    let import = |identity: &str| {
        let kept = KeptTimes {
            identity: identity.to_owned(),
            entries: vec![(7, Duration::from_secs(9))],
        };
        facts.import([1, 2], &[kept], Duration::ZERO, START);
        facts.export(START).remove(0).entries.len()
    };
    assert_eq!(import("l token_bucket consumer"), 0);
    assert_eq!(import(&facts.export(START)[0].identity), 1);
}
