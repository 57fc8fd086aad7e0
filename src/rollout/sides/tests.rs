use std::time::Duration;

use serde_json::json;

use super::super::judge::Rollouts;
use super::*;
use crate::filter::NamedBy;
use crate::observe::Metrics;
use crate::primitives::matcher::ValueMatch;
use crate::primitives::{AuthName, UpstreamName};

fn side(upstream: &str, weight: u32) -> Side {
    Side {
        upstream: UpstreamName::new(upstream),
        weight,
        headers: Vec::new(),
        cookies: Vec::new(),
        claims: Vec::new(),
    }
}

fn split(by: SplitKey, sides: Vec<Side>) -> Split {
    let settings = config::Split {
        sides,
        by,
        stop: true,
        window: Duration::from_secs(60),
    };
    let metrics = Metrics::new("0", "0").expect("metrics");
    let route = RouteName::new("checkout");
    let facts = Rollouts::default().route(&route, &settings, &metrics.rollouts);
    Split::new(&route, &settings, facts)
}

fn user(number: u32) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let value = format!("a=b; uid=user-{number}");
    headers.insert(header::COOKIE, value.parse().expect("value"));
    headers
}

fn pick(split: &Split, headers: &HeaderMap, random: u64) -> usize {
    let asked = Asked {
        headers,
        client_ip: IpAddr::from([192, 0, 2, 1]),
        principal: None,
        random,
    };
    split.pick(&asked).0
}

fn by_cookie(weights: &[(&str, u32)]) -> Split {
    let sides = weights.iter().map(|(name, weight)| side(name, *weight));
    split(SplitKey::Cookie("uid".into()), sides.collect())
}

#[test]
fn shares_are_those_of_the_weights() {
    let none = HeaderMap::new();
    let random = split(SplitKey::Random, vec![side("a", 90), side("b", 10)]);
    let taken = (0..20_000)
        .filter(|n| pick(&random, &none, *n) == 1)
        .count();
    assert!((1_700..2_300).contains(&taken), "{taken}");
    let keyed = by_cookie(&[("a", 70), ("b", 20), ("c", 10)]);
    let mut counts = [0; 3];
    (0..20_000).for_each(|n| counts[pick(&keyed, &user(n), 0)] += 1);
    for (count, wanted) in counts.into_iter().zip([14_000_i32, 4_000, 2_000]) {
        assert!((count - wanted).abs() < 500, "{counts:?}");
    }
}

#[test]
fn a_key_stays_where_it_is() {
    let split = by_cookie(&[("a", 50), ("b", 50)]);
    for number in 0..200 {
        let first = pick(&split, &user(number), 0);
        assert!((1..20).all(|random| pick(&split, &user(number), random) == first));
    }
}

#[test]
fn raising_a_share_keeps_those_who_were_there() {
    let steps = [1, 5, 10, 25, 50, 99].map(|next| by_cookie(&[("a", 100 - next), ("b", next)]));
    for pair in steps.windows(2) {
        for number in 0..5_000 {
            if pick(&pair[0], &user(number), 0) == 1 {
                assert_eq!(pick(&pair[1], &user(number), 0), 1, "user {number}");
            }
        }
    }
    // The same with several, whatever their order.
    let before = by_cookie(&[("a", 90), ("b", 5), ("c", 5)]);
    let after = by_cookie(&[("a", 85), ("c", 5), ("b", 10)]);
    for number in 0..5_000 {
        let (was, is) = (
            pick(&before, &user(number), 0),
            pick(&after, &user(number), 0),
        );
        assert!(was != 1 || is == 2, "user {number} left b");
    }
}

#[test]
fn another_route_has_others_first() {
    let one = by_cookie(&[("a", 90), ("b", 10)]);
    let mut other = by_cookie(&[("a", 90), ("b", 10)]);
    other.seeds = vec![[1, 2], [3, 4]];
    let both =
        (0..10_000).filter(|n| pick(&one, &user(*n), 0) == 1 && pick(&other, &user(*n), 0) == 1);
    let both = both.count();
    assert!((50..160).contains(&both), "{both}");
}

#[test]
fn a_side_takes_what_it_names_before_any_weight() {
    let mut canary = side("b", 0);
    canary.headers = vec![(
        HeaderName::from_static("x-canary"),
        ValueMatch::Exact("1".into()),
    )];
    canary.cookies = vec![("beta".into(), ValueMatch::Present)];
    canary.claims = vec![("role".into(), vec!["tester".into()])];
    let split = split(SplitKey::Random, vec![side("a", 1), canary]);
    let none = HeaderMap::new();
    assert!((0..100).all(|random| pick(&split, &none, random) == 0));
    let mut headers = HeaderMap::new();
    headers.insert("x-canary", "1".parse().expect("value"));
    assert_eq!(pick(&split, &headers, 1), 1);
    headers.insert("x-canary", "2".parse().expect("value"));
    assert_eq!(pick(&split, &headers, 1), 0);
    headers.insert(header::COOKIE, "x=y; beta=".parse().expect("value"));
    assert_eq!(pick(&split, &headers, 1), 1);
    for (claims, side) in [
        (json!({ "role": "tester" }), 1),
        (json!({ "role": ["user", "tester"] }), 1),
        (json!({ "role": "user" }), 0),
    ] {
        let principal = Principal {
            claims,
            ..Principal::named(&AuthName::new("app"), NamedBy::Subject, "c")
        };
        let asked = Asked {
            headers: &none,
            client_ip: IpAddr::from([192, 0, 2, 1]),
            principal: Some(&principal),
            random: 1,
        };
        assert_eq!(split.pick(&asked).0, side);
    }
    split.facts().side(1).expect("side").stop("test", 1);
    assert_eq!(pick(&split, &headers, 1), 0);
}

#[test]
fn a_stopped_side_leaves_the_others_alone() {
    let split = by_cookie(&[("a", 40), ("b", 30), ("c", 30)]);
    let before: Vec<usize> = (0..3_000).map(|n| pick(&split, &user(n), 0)).collect();
    split.facts().side(2).expect("side").stop("test", 1);
    for (number, was) in (0..).zip(before) {
        let is = pick(&split, &user(number), 0);
        assert!(if was == 2 { is != 2 } else { is == was });
    }
}

#[test]
fn a_number_that_others_read_like_is_no_key() {
    let split = split(
        SplitKey::Claim("id".into()),
        vec![side("a", 50), side("b", 50)],
    );
    let headers = HeaderMap::new();
    let has_key = |id: &str| {
        let id: Value = serde_json::from_str(id).expect("JSON");
        let principal = Principal {
            claims: json!({ "id": id }),
            ..Principal::named(&AuthName::new("app"), NamedBy::Subject, "c")
        };
        let asked = Asked {
            headers: &headers,
            client_ip: IpAddr::from([192, 0, 2, 1]),
            principal: Some(&principal),
            random: 0,
        };
        split.key(&asked, &mut SipHasher13::new())
    };
    for (id, expected) in [
        ("7", true),
        ("18446744073709551615", true),
        ("7.5", true),
        ("12345678901234567890123", false),
        ("9007199254740993.0", false),
    ] {
        assert_eq!(has_key(id), expected, "{id}");
    }
}

#[test]
fn without_its_key_a_request_goes_by_address() {
    let split = by_cookie(&[("a", 50), ("b", 50)]);
    let none = HeaderMap::new();
    let at = |last: u8| {
        let asked = Asked {
            headers: &none,
            client_ip: IpAddr::from([192, 0, 2, last]),
            principal: None,
            random: last.into(),
        };
        split.pick(&asked).0
    };
    let on_b = (0..=255).filter(|last| at(*last) == 1).count();
    assert!((80..176).contains(&on_b), "{on_b}");
    assert!((0..=255).all(|last| at(last) == at(last)));
}
