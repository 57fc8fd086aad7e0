//! Shares by weight, and what each way does about endpoints that are not alike: time is an argument, requests are counted
//! in and out by hand.

use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;

use super::{hash, mix};
use crate::config::{self, Source};
use crate::primitives::UpstreamName;
use crate::upstream::{Endpoint, EndpointFacts, Outcome, PeerTemplate, PickHints, Pool};

const SECOND: u64 = 1_000_000_000;
const KINDS: [&str; 6] = [
    "weighted_round_robin",
    "least_connections",
    "peak_ewma",
    "random",
    "score",
    "consistent_hash",
];

fn pool(balance: &str, weights: &[u32], more: &str) -> Pool {
    let each = weights.iter().enumerate();
    let endpoints: Vec<String> = each
        .map(|(i, weight)| format!("{{ address = \"127.0.0.1:{}\", weight = {weight} }}", i + 1))
        .collect();
    let text = format!(
        "[[listener]]\naddress = \"127.0.0.1:8080\"\n[upstream.u]\nbalance = \"{balance}\"\nendpoints = [{}]\n{more}",
        endpoints.join(", ")
    );
    let source = Source {
        file: "t.toml".into(),
        text: text.into(),
    };
    let config =
        config::load(&[source], &|_| Ok(None)).unwrap_or_else(|problems| panic!("{problems}"));
    let settings = config.upstreams[&UpstreamName::new("u")].clone();
    let peers = PeerTemplate::new(&settings, &|_| Err("no files".into())).expect("no TLS");
    let metrics = Arc::new(crate::observe::Metrics::new("0", "0").expect("metrics"));
    let facts = Arc::new(EndpointFacts::new(metrics));
    let pool = Pool::new(settings, peers, facts, Arc::default(), SECOND);
    pool.begin(&[], SECOND);
    pool
}

/// Its place in the configuration.
fn place(endpoint: &Endpoint) -> usize {
    usize::from(endpoint.address.inet().expect("address").port()) - 1
}

fn choose(pool: &Pool, number: u64, now: u64) -> Arc<Endpoint> {
    let hints = PickHints {
        chance: mix(number),
        key: Some(mix(number ^ 0xabcd)),
        ..PickHints::default()
    };
    pool.choose(now, &hints).expect("an endpoint")
}

/// Shares of `times` requests, one after the other, each answered as `took` says.
fn shares(pool: &Pool, count: usize, times: u64, took: impl Fn(usize) -> u64) -> Vec<f64> {
    let mut shares = vec![0.0; count];
    for number in 0..times {
        let now = SECOND + number * 1_000_000;
        let endpoint = choose(pool, number, now);
        let index = place(&endpoint);
        shares[index] += 1.0 / times as f64;
        pool.observe(&endpoint, Duration::from_micros(took(index)), false, now);
    }
    shares
}

/// Endpoints that take so many milliseconds under so many clients, each with one request at a time, simulated by the
/// millisecond: shares of what began in the last seconds.
fn loaded(pool: &Pool, clients: u64, seconds: u64, millis: impl Fn(usize, u64) -> u64) -> Vec<f64> {
    let count = pool.endpoints().len();
    let mut busy: Vec<Option<(Arc<Endpoint>, u64, u64)>> = vec![None; clients as usize];
    let (mut begun, mut number) = (vec![0.0; count], 0);
    for ms in 0..seconds * 1000 {
        let now = SECOND + ms * 1_000_000;
        if ms % 1000 == 0 {
            pool.watch(now);
        }
        for client in &mut busy {
            if let Some((endpoint, since, until)) = client
                && *until <= ms
            {
                endpoint.in_flight.down();
                pool.observe(endpoint, Duration::from_millis(ms - *since), false, now);
                *client = None;
            }
            if client.is_none() {
                let endpoint = choose(pool, number, now);
                number += 1;
                endpoint.in_flight.up();
                let index = place(&endpoint);
                if ms + 3000 >= seconds * 1000 {
                    begun[index] += 1.0;
                }
                let until = ms + millis(index, ms);
                *client = Some((endpoint, ms, until));
            }
        }
    }
    for (endpoint, ..) in busy.into_iter().flatten() {
        endpoint.in_flight.down();
    }
    let all: f64 = begun.iter().sum();
    begun.iter().map(|count| count / all).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]

    #[test]
    fn weights_are_honoured_by_all(weights in prop::collection::vec(1u32..6, 2..6)) {
        let sum: u32 = weights.iter().sum();
        for kind in KINDS {
            let pool = pool(kind, &weights, "");
            let shares = shares(&pool, weights.len(), 20_000, |_| 1000);
            for (share, weight) in shares.iter().zip(&weights) {
                let wanted = f64::from(*weight) / f64::from(sum);
                prop_assert!((share - wanted).abs() < 0.03, "{kind} {weights:?}: {shares:?}");
            }
        }
    }
}

#[test]
fn without_load_least_connections_takes_turns_exactly() {
    let pool = pool("least_connections", &[5, 1, 1], "");
    let order: Vec<usize> = (0..7).map(|n| place(&choose(&pool, n, SECOND))).collect();
    assert_eq!(order, [0, 0, 1, 0, 2, 0, 0]);
}

#[test]
fn the_endpoint_with_fewer_requests_for_its_weight_is_chosen() {
    let pool = pool("least_connections", &[2, 1], "");
    let endpoints: Vec<_> = pool.endpoints().into_iter().map(|(e, ..)| e).collect();
    (0..3).for_each(|_| endpoints[0].in_flight.up());
    endpoints[1].in_flight.up();
    // 3/2 against 1/1.
    assert_eq!(place(&choose(&pool, 1, SECOND)), 1);
    endpoints[1].in_flight.up();
    // 3/2 against 2/1.
    assert_eq!(place(&choose(&pool, 2, SECOND)), 0);
}

#[test]
fn a_slow_endpoint_is_left_within_three_seconds() {
    let slow = |index, ms| if index == 0 && ms >= 2000 { 50 } else { 5 };
    for (kind, clients, most) in [
        ("peak_ewma", 4, 0.01),
        ("peak_ewma", 20, 0.03),
        ("least_connections", 4, 0.01),
        // With more clients than endpoints each has something in flight, the slow one a tenth of the turnover: 1/41.
        ("least_connections", 20, 0.03),
        ("score", 4, 0.01),
        ("score", 20, 0.01),
    ] {
        let pool = pool(kind, &[1; 5], "");
        let shares = loaded(&pool, clients, 8, slow);
        assert!(shares[0] < most, "{kind}, {clients} clients: {shares:?}");
        assert!(
            shares[1..].iter().all(|share| *share > 0.15),
            "{kind}: {shares:?}"
        );
    }
}

#[test]
fn a_slow_endpoint_that_is_well_again_is_found_out() {
    let slow = |index, ms| {
        if index == 0 && (2000..5000).contains(&ms) {
            50
        } else {
            5
        }
    };
    for kind in ["peak_ewma", "least_connections", "score"] {
        let pool = pool(kind, &[1; 5], "");
        let shares = loaded(&pool, 8, 35, slow);
        assert!(shares[0] > 0.12, "{kind}: {shares:?}");
    }
}

#[test]
fn what_fails_fast_is_not_fast() {
    let pool = pool("peak_ewma", &[1, 1, 1], "");
    let mut failing = 0;
    for number in 0..3000 {
        let now = SECOND + number * 1_000_000;
        let endpoint = choose(&pool, number, now);
        let fails = place(&endpoint) == 0;
        failing += u64::from(fails);
        let took = Duration::from_micros(if fails { 100 } else { 5000 });
        pool.observe(&endpoint, took, fails, now);
    }
    assert!(failing < 30, "{failing} of 3000");
}

#[test]
fn a_key_stays_and_leaves_only_with_its_endpoint() {
    let pool = pool("consistent_hash", &[1; 5], "");
    let all = |pool: &Pool, now| -> Vec<usize> {
        let of = |n: u64| {
            let hints = PickHints {
                key: Some(hash(&n.to_be_bytes())),
                chance: n,
                ..PickHints::default()
            };
            place(&pool.choose(now, &hints).expect("an endpoint"))
        };
        (0..5000).map(of).collect()
    };
    let before = all(&pool, SECOND);
    assert_eq!(before, all(&pool, SECOND));
    pool.set_drained("127.0.0.1:3", true, SECOND);
    let after = all(&pool, SECOND);
    let moved = before.iter().zip(&after).filter(|(a, b)| a != b).count();
    assert!(moved <= 5000 / 5 + 100, "{moved} of 5000");
    assert!(before.iter().zip(&after).all(|(a, b)| a == b || *a == 2));
    let heirs = |place| {
        let pairs = before.iter().zip(&after);
        pairs.filter(|(a, b)| **a == 2 && **b == place).count()
    };
    assert!(
        [0, 1, 3, 4].iter().all(|heir| heirs(*heir) > moved / 8),
        "they are spread"
    );
}

#[test]
fn a_hot_key_is_bounded() {
    let pool = pool("consistent_hash", &[1; 5], "hash_excess = \"25%\"\n");
    let hints = PickHints {
        key: Some(42),
        ..PickHints::default()
    };
    for _ in 0..200 {
        pool.choose(SECOND, &hints)
            .expect("an endpoint")
            .in_flight
            .up();
    }
    let held: Vec<i64> = pool
        .endpoints()
        .iter()
        .map(|(e, ..)| e.in_flight.value())
        .collect();
    assert!(
        held.iter().all(|held| *held <= 51),
        "200 · 1.25 / 5: {held:?}"
    );
    assert_eq!(held.iter().max(), Some(&50), "{held:?}");
}

#[test]
fn a_second_try_goes_elsewhere() {
    for kind in KINDS {
        let pool = pool(kind, &[1; 3], "");
        for number in 0..100 {
            let first = choose(&pool, number, SECOND);
            let mut tried = vec![first.address.clone()];
            for _ in 0..2 {
                let hints = PickHints {
                    tried: &tried,
                    chance: mix(number),
                    key: Some(number),
                    ..PickHints::default()
                };
                let next = pool.choose(SECOND, &hints).expect("another");
                assert!(!tried.contains(&next.address), "{kind}");
                tried.push(next.address.clone());
            }
            let all_tried = PickHints {
                tried: &tried,
                ..PickHints::default()
            };
            assert!(pool.choose(SECOND, &all_tried).is_some(), "{kind}");
        }
    }
}

#[test]
fn panic_mode_holds_for_all() {
    let passive = "passive = { max_fails = 1, fail_timeout = \"60s\", min_healthy = \"50%\" }";
    for kind in KINDS {
        let pool = pool(kind, &[1; 4], passive);
        let endpoints: Vec<_> = pool.endpoints().into_iter().map(|(e, ..)| e).collect();
        let used = |now| {
            let mut used: Vec<usize> = (0..200).map(|n| place(&choose(&pool, n, now))).collect();
            used.sort_unstable();
            used.dedup();
            used
        };
        for endpoint in &endpoints[..2] {
            pool.report(endpoint, Outcome::Bad, SECOND);
        }
        assert_eq!(used(SECOND), [2, 3], "{kind}");
        pool.report(&endpoints[2], Outcome::Bad, SECOND);
        assert_eq!(used(SECOND), [0, 1, 2, 3], "{kind}: one of four is too few");
    }
}

#[test]
fn a_slow_start_ramps_the_share_up() {
    let passive = "passive = { max_fails = 1, fail_timeout = \"1s\", slow_start = \"10s\" }";
    for kind in [
        "weighted_round_robin",
        "random",
        "least_connections",
        "peak_ewma",
    ] {
        let pool = pool(kind, &[1, 1], passive);
        let share = |now: u64| {
            let count = 4000;
            let hits = (0..count).filter(|n| {
                let endpoint = choose(&pool, *n, now);
                pool.observe(&endpoint, Duration::from_millis(1), false, now);
                place(&endpoint) == 0
            });
            hits.count() as f64 / count as f64
        };
        assert!(
            (share(SECOND) - 0.5).abs() < 0.03,
            "{kind}: nobody warms up at the start"
        );
        let (first, ..) = pool.endpoints().remove(0);
        pool.report(&first, Outcome::Bad, SECOND);
        assert_eq!(share(SECOND + 1), 0.0, "{kind}");
        let back = 2 * SECOND + 1;
        let close = |now, weight: f64| {
            let (share, wanted) = (share(now), weight / (weight + 1.0));
            assert!(
                (share - wanted).abs() < 0.03,
                "{kind}: {share}, not {wanted}"
            );
        };
        close(back, 0.1);
        pool.report(&first, Outcome::Good, back);
        close(back + 5 * SECOND, 0.5);
        close(back + 11 * SECOND, 1.0);
    }
}

#[test]
fn a_score_falls_with_what_is_seen_and_says_why() {
    let pool = pool("score", &[1; 5], "");
    loaded(&pool, 10, 8, |index, _| if index == 0 { 60 } else { 5 });
    let standings = pool.standings(9 * SECOND);
    assert!(standings[0].effective < 0.1, "{}", standings[0].effective);
    assert!(
        standings[0]
            .why
            .iter()
            .any(|why| why.contains("first byte after 6")),
        "{:?}",
        standings[0].why
    );
    assert_eq!(standings[1].effective, 1.0);
    assert!(standings[1].why.is_empty());
}

#[test]
fn outliers_are_put_aside_longer_each_time_and_never_the_last() {
    let outlier = "passive = { max_fails = 0 }\n[upstream.u.outlier]\nconsecutive = 3\nbase_ejection = \"10s\"\nmax_ejection = \"25s\"\nmax_ejected = \"100%\"\n";
    let pool = pool("weighted_round_robin", &[1, 1], outlier);
    let endpoints: Vec<_> = pool.endpoints().into_iter().map(|(e, ..)| e).collect();
    let fail = |index: usize, now| {
        let endpoint: &Endpoint = &endpoints[index];
        (0..3).for_each(|_| pool.observe(endpoint, Duration::ZERO, true, now));
    };
    let mut now = SECOND;
    for seconds in [10, 20, 25, 25] {
        fail(0, now);
        assert!(
            !endpoints[0].usable(now + seconds * SECOND - 1),
            "{seconds} s"
        );
        assert!(endpoints[0].usable(now + seconds * SECOND), "{seconds} s");
        now += seconds * SECOND;
    }
    fail(0, now);
    fail(1, now);
    assert!(endpoints[1].usable(now), "it is the last one");
}

#[test]
fn an_endpoint_that_fails_by_half_is_an_outlier_and_is_forgiven_with_time() {
    let outlier = "passive = { max_fails = 0 }\n[upstream.u.outlier]\nconsecutive = 0\ninterval = \"1s\"\nbase_ejection = \"2s\"\n";
    let pool = pool("weighted_round_robin", &[1; 5], outlier);
    let mut states = Vec::new();
    for second in 1..=8 {
        let now = second * SECOND;
        pool.watch(now);
        states.push(pool.endpoints()[0].0.state(now));
        for number in 0..1000 {
            let endpoint = choose(&pool, number, now);
            let failed = place(&endpoint) == 0 && number % 2 == 0;
            pool.observe(&endpoint, Duration::from_millis(5), failed, now);
        }
    }
    assert_eq!(
        states,
        [
            "up", "ejected", "ejected", "up", "ejected", "ejected", "ejected", "ejected"
        ]
    );
}
