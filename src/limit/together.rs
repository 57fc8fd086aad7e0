//! Several limits of a route together: all are asked, and none counts what one of them refuses.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use proptest::prelude::*;

use super::testing::*;
use super::*;
use crate::config::{Limit, LimitKey};
use crate::filter::{FilterContext, NamedBy, Principal, RequestFilter, Tickets, Verdict};
use crate::primitives::calendar::{Calendar, Window};
use crate::primitives::{AuthName, LimitName};

fn named(name: &str, mut limit: Limit) -> Limit {
    limit.name = LimitName::new(name);
    limit
}

fn quota(most: u64) -> Limit {
    limit(Algorithm::Quota {
        most,
        calendar: Calendar {
            window: Window::Day,
            offset: 0,
        },
        capacity: 1000,
    })
}

/// What the gateway does with a chain of limits: asks in order, and tells those before the one that refuses.
fn asked(filters: &[Arc<dyn RequestFilter>], context: &mut FilterContext<'_>) -> bool {
    for (index, filter) in filters.iter().enumerate() {
        if matches!(filter.check(context), Verdict::Refuse(_)) {
            for before in filters[..index].iter().rev() {
                before.give_back(context);
            }
            context.tickets.clear();
            let holds = filters.iter().any(|filter| context.memory.holds(&**filter));
            assert!(!holds, "nothing is held any more");
            return false;
        }
    }
    true
}

fn built(facts: &LimitFacts, limits: &[(&Limit, u32)]) -> Vec<Arc<dyn RequestFilter>> {
    let each = limits.iter();
    each.map(|(limit, cost)| charging(limit, *cost, Arc::default(), facts))
        .collect()
}

#[test]
fn what_one_refuses_counts_for_no_other() {
    let first = [
        estimator("2/s"),
        token_bucket("1/d", 2),
        leaky_bucket("1/d", 1, "1d"),
        concurrency(2),
        quota(2),
    ];
    for first in first {
        let facts = LimitFacts::new();
        let last = named("last", token_bucket("1/d", 1));
        let both = built(&facts, &[(&first, 1), (&last, 1)]);
        let request = Request::new();
        let ask = || {
            let mut context = request.context(START);
            let passed = asked(&both, &mut context);
            (passed, context)
        };
        let held = ask();
        assert!(held.0);
        for _ in 0..5 {
            assert!(!ask().0);
        }
        // One of two places is free: the refused ones took none.
        let alone = built(&facts, &[(&first, 1)]);
        let mut one = request.context(START);
        assert!(asked(&alone, &mut one), "{first:?}");
        assert!(!asked(&alone, &mut request.context(START)), "{first:?}");
    }
}

#[test]
fn a_long_chain_gives_back_to_its_beginning() {
    let facts = LimitFacts::new();
    let names = ["a", "b", "c", "d", "e", "f", "g"];
    let mut limits: Vec<Limit> = names.map(|name| named(name, token_bucket("1/d", 2))).into();
    limits.push(named("last", token_bucket("1/d", 1)));
    let uses: Vec<_> = limits.iter().map(|limit| (limit, 1)).collect();
    let all = built(&facts, &uses);
    let request = Request::new();
    assert!(asked(&all, &mut request.context(START)));
    for _ in 0..3 {
        assert!(!asked(&all, &mut request.context(START)));
    }
    let others = &all[..names.len()];
    assert!(asked(others, &mut request.context(START)));
    assert!(!asked(others, &mut request.context(START)));
}

#[test]
fn a_request_counts_what_it_costs() {
    for (limit, fits) in [
        (estimator("10/s"), 3),
        (token_bucket("1/d", 10), 3),
        (quota(10), 3),
        (concurrency(10), 3),
    ] {
        let facts = LimitFacts::new();
        let dear = built(&facts, &[(&limit, 3)]);
        let request = Request::new();
        let mut contexts: Vec<_> = (0..5).map(|_| request.context(START)).collect();
        let passed = contexts
            .iter_mut()
            .filter_map(|e| asked(&dear, e).then_some(()));
        assert_eq!(passed.count(), fits, "{limit:?}");
        // What is left is enough for one that counts one.
        let cheap = built(&facts, &[(&limit, 1)]);
        let mut last = request.context(START);
        assert!(asked(&cheap, &mut last), "{limit:?}");
        assert!(!asked(&cheap, &mut request.context(START)), "{limit:?}");
    }
    let facts = LimitFacts::new();
    let mut slow = leaky_bucket("10/s", 10, "1d");
    slow.largest_cost = 3;
    let [dear, cheap] = [3, 1].map(|cost| built(&facts, &[(&slow, cost)]).remove(0));
    let request = Request::new();
    let turn = |filter: &Arc<dyn RequestFilter>| match filter.check(&mut request.context(START)) {
        Verdict::Wait(wait) => wait.as_millis(),
        verdict => u128::from(!matches!(verdict, Verdict::Continue)),
    };
    assert_eq!([turn(&dear), turn(&cheap), turn(&cheap)], [0, 300, 400]);
}

#[test]
fn tiers_have_amounts_of_their_own() {
    let mut limit = token_bucket("1/d", 1);
    limit.key = LimitKey::Consumer;
    let Limit {
        algorithm: gold, ..
    } = token_bucket("1/d", 3);
    limit.tiers = vec![("gold".to_owned(), gold)];
    assert!(limit.needs_principal());
    let facts = LimitFacts::new();
    let filters = built(&facts, &[(&limit, 1)]);
    let request = Request::new();
    let passed = |consumer: &str, tier: Option<&str>| {
        let principal = Arc::new(Principal {
            tier: tier.map(Into::into),
            ..Principal::named(&AuthName::new("app"), NamedBy::Subject, consumer)
        });
        let ask = |_: &usize| {
            let mut context = request.context(START);
            context.principal = Some(Arc::clone(&principal));
            asked(&filters, &mut context)
        };
        (0..9).filter(ask).count()
    };
    assert_eq!(passed("a", None), 1);
    assert_eq!(passed("b", Some("gold")), 3);
    assert_eq!(passed("c", Some("tin")), 1);
}

#[test]
fn what_was_taken_comes_back_by_the_amounts_it_was_taken_by() {
    let mut limit = token_bucket("1/d", 1);
    let Limit {
        algorithm: gold, ..
    } = token_bucket("1/h", 3);
    limit.tiers = vec![("gold".to_owned(), gold)];
    let built = Built::of(&limit);
    let request = Request::new();
    let named = Principal::named(&AuthName::new("app"), NamedBy::Subject, "a");
    let principal = Arc::new(Principal {
        tier: Some("gold".into()),
        ..named
    });
    let context = || {
        let mut context = request.context(START);
        context.principal = Some(Arc::clone(&principal));
        context
    };
    for _ in 0..2 {
        built.filter.check(&mut context());
    }
    let mut returned = context();
    built.filter.check(&mut returned);
    returned.principal = None;
    built.filter.give_back(&mut returned);
    let passes = |_: &usize| matches!(built.filter.check(&mut context()), Verdict::Continue);
    assert_eq!((0..9).filter(passes).count(), 1);
}

#[test]
fn a_limit_that_only_counts_refuses_nobody_and_says_so() {
    let mut limit = token_bucket("1/d", 1);
    limit.dry_run = true;
    let built = Built::of(&limit);
    assert_eq!(built.passed(4, START), 4);
    let stats = &built.stats;
    assert_eq!(
        (
            stats.allowed.value(),
            stats.would_refuse.value(),
            stats.refused.value()
        ),
        (1, 3, 0)
    );
    let request = Request::new();
    let mut context = request.context(START);
    built.filter.check(&mut context);
    assert!(context.quota.is_none(), "the client is told nothing of it");
    let mut limit = leaky_bucket("1/s", 5, "10s");
    limit.dry_run = true;
    let built = Built::of(&limit);
    assert_eq!(built.passed(3, START), 3);
    assert_eq!(built.stats.would_delay.value(), 2);
}

#[test]
fn a_quota_lasts_as_long_as_its_window() {
    let built = Built::of(&quota(2));
    let request = Request::new();
    let at = |unix_time| {
        let mut context = request.context(START);
        context.unix_time = unix_time;
        let verdict = built.filter.check(&mut context);
        (verdict, context.quota)
    };
    let midnight = 20_000 * 86_400;
    assert!(matches!(at(midnight - 10).0, Verdict::Continue));
    assert!(matches!(at(midnight - 10).0, Verdict::Continue));
    let (Verdict::Refuse(refusal), Some(told)) = at(midnight - 10) else {
        panic!("refused");
    };
    assert_eq!(refusal.retry_after.unwrap().as_secs(), 10);
    assert_eq!(
        (told.limit, told.remaining, told.reset.as_secs()),
        (2, 0, 10)
    );
    assert!(matches!(at(midnight).0, Verdict::Continue));
}

#[test]
fn quotas_go_on_in_another_process() {
    let (old, new) = (LimitFacts::new(), LimitFacts::new());
    let limit = quota(3);
    let before = Built::again(&limit, &old);
    assert_eq!(before.passed(2, START), 2);
    assert!(old.quotas_changed() && !old.quotas_changed());
    let after = Built::again(&limit, &new);
    new.import_quotas(&old.export_quotas());
    assert_eq!(after.passed(9, START), 1);
    let mut other = quota(3);
    other.name = LimitName::new("other");
    assert_eq!(Built::again(&other, &new).passed(9, START), 3);
}

#[test]
fn a_route_with_amounts_of_its_own_counts_apart() {
    let facts = LimitFacts::new();
    let shared = token_bucket("1/d", 2);
    let mut own = token_bucket("1/d", 1);
    own.route = Some(crate::primitives::RouteName::new("r"));
    assert_eq!(Built::again(&shared, &facts).passed(9, START), 2);
    assert_eq!(Built::again(&own, &facts).passed(9, START), 1);
}

/// Many threads, two keys' worth of several limits each, so that one refuses while others are in the middle of asking:
/// never more than the tightest lets pass; and when all is over the looser ones have counted those that passed, and
/// nobody else.
#[test]
fn threads_together_never_exceed_several_limits() {
    let facts = LimitFacts::new();
    let loose = named("loose", token_bucket("1/d", 900));
    let wide = named("wide", quota(800));
    let tight = named("tight", token_bucket("1/d", 500));
    let all = built(&facts, &[(&loose, 1), (&wide, 1), (&tight, 1)]);
    let request = Request::new();
    let passed = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..400 {
                    let fits = asked(&all, &mut request.context(START));
                    passed.fetch_add(usize::from(fits), Ordering::SeqCst);
                }
            });
        }
    });
    assert_eq!(passed.into_inner(), 500);
    let left = |limit: &Limit| {
        let alone = built(&facts, &[(limit, 1)]);
        (0..1000)
            .filter(|_| asked(&alone, &mut request.context(START)))
            .count()
    };
    assert_eq!((left(&loose), left(&wide)), (400, 300));
}

proptest! {
    /// Requests of a few callers at the same moment, each of a route that asks some of four limits of several kinds: each
    /// passes exactly when every limit that is asked has room for it, as a model with plain counts says.
    #[test]
    fn all_or_none_is_charged(
        most in prop::array::uniform4(1u32..12),
        costs in prop::array::uniform4(1u32..4),
        asked_by in prop::collection::vec((0u8..3, 1usize..16), 1..80),
    ) {
        let facts = LimitFacts::new();
        let rate = format!("{}/d", most[3]);
        let limits = [
            named("a", token_bucket("1/d", most[0])),
            named("b", quota(u64::from(most[1]))),
            named("c", concurrency(most[2])),
            named("d", estimator(&rate)),
        ];
        let uses: Vec<_> = limits.iter().zip(costs).collect();
        let filters = built(&facts, &uses);
        let mut counts: HashMap<u8, [u32; 4]> = HashMap::new();
        let mut tickets = Tickets::new();
        for (caller, route) in asked_by {
            let of_route: Vec<usize> = (0..4).filter(|i| route & (1 << i) != 0).collect();
            let chain: Vec<_> = of_route.iter().map(|i| Arc::clone(&filters[*i])).collect();
            let request = Request::new().from(&format!("192.0.2.{caller}"));
            let mut context = request.context(START);
            let passed = asked(&chain, &mut context);
            tickets.append(&mut context.tickets);
            let count = counts.entry(caller).or_default();
            let fits = of_route.iter().all(|i| count[*i] + costs[*i] <= most[*i]);
            prop_assert_eq!(passed, fits, "caller {} at {:?} of {:?}", caller, count, of_route);
            if fits {
                of_route.iter().for_each(|i| count[*i] += costs[*i]);
            }
        }
    }
}
