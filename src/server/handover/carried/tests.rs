use std::net::{IpAddr, SocketAddr};

use proptest::prelude::*;
use serde::de::DeserializeOwned;
use serde_json::json;

use super::*;
use crate::auth::UsedNonces;
use crate::limit::KeptTimes;
use crate::upstream::KnownEndpoint;

/// What rooms keep to themselves, as they read it.
fn of<T: DeserializeOwned>(value: serde_json::Value) -> T {
    serde_json::from_value(value).expect("as it is written")
}

fn sample() -> HandoverState {
    HandoverState {
        at: Duration::from_millis(1_000),
        nonces: CarriedNonces(vec![UsedNonces {
            auth: "partner".into(),
            fence_unix_ms: 5,
            lifetime: Duration::from_secs(602),
            at_unix_ms: 1_000,
            entries: vec![
                (1, Duration::from_secs(1)),
                (u128::MAX, Duration::from_nanos(2)),
            ],
        }]),
        times: Some(CarriedTimes {
            seed: [1, 2],
            limits: vec![KeptTimes {
                identity: "per_user".into(),
                entries: vec![(7, Duration::from_nanos(8))],
            }],
        }),
        quotas: KeptQuotas {
            seed: [3, 4],
            limits: vec![("daily".into(), vec![(9, 10)])],
        },
        endpoints: of(json!([
            { "upstream": "api", "label": "[::1]:2", "address": { "Inet": "[::1]:2" },
              "unhealthy": true, "drained": false, "ejected_ms": 3 },
            { "upstream": "api", "label": "unix:/run/a", "address": { "Unix": "/run/a" },
              "unhealthy": false, "drained": true, "ejected_ms": 0 },
        ])),
        levels: of(json!([{ "route": "a", "level": "lean", "left_ms": 5 }])),
        stops: of(
            json!([{ "route": "a", "split": "s", "upstream": "u", "reason": "r", "at_unix": 7 }]),
        ),
        breakers: of(json!([{ "guarded": { "route": "a" }, "left_ms": 11 }])),
        answers: CarriedAnswers::default(),
    }
}

/// How many sections are not as they were; `None` where nothing is read at all.
fn lost(bytes: &[u8]) -> Option<usize> {
    let read = HandoverState::decode(bytes).ok()?;
    let whole = sample();
    assert_eq!(read.at, whole.at);
    let HandoverState {
        at: _,
        nonces,
        times,
        quotas,
        endpoints,
        levels,
        stops,
        breakers,
        answers,
    } = read;
    // Each is whole or not there.
    let parts = [
        (nonces == whole.nonces, nonces.0.is_empty()),
        (times == whole.times, times.is_none()),
        (quotas == whole.quotas, quotas.limits.is_empty()),
        (endpoints == whole.endpoints, endpoints.0.is_empty()),
        (levels == whole.levels, levels.0.is_empty()),
        (stops == whole.stops, stops.0.is_empty()),
        (breakers == whole.breakers, breakers.0.is_empty()),
        (answers == whole.answers, false),
    ];
    assert!(parts.iter().all(|(same, missing)| same != missing));
    Some(parts.iter().filter(|(same, _)| !same).count())
}

#[test]
fn comes_back_as_it_was() {
    let carried = HandoverState::decode(&sample().encode().expect("encoded")).expect("decoded");
    assert_eq!(carried, sample());
}

#[test]
fn whatever_is_damaged_the_rest_is_taken() {
    let whole = sample().encode().expect("encoded");
    assert_eq!(lost(&whole), Some(0));
    for at in 0..whole.len() {
        for bit in [1, 0x80] {
            let mut bytes = whole.clone();
            bytes[at] ^= bit;
            assert!(lost(&bytes).is_some_and(|lost| lost <= 1), "{at}");
        }
    }
    let mut fewest = usize::MAX;
    for cut in 0..whole.len() {
        let lost = lost(&whole[..cut]).unwrap_or(usize::MAX);
        assert!(
            lost <= fewest,
            "{cut}: the more is there, the more is taken"
        );
        fewest = lost;
    }
    assert_eq!(fewest, 0);
}

#[test]
fn a_section_of_a_later_version_is_refused_alone() {
    #[derive(serde::Serialize, serde::Deserialize)]
    struct Later(u8);
    impl Section for Later {
        const NAME: &'static str = CarriedNonces::NAME;
        const VERSION: u16 = CarriedNonces::VERSION + 1;
        const LARGEST: usize = 1;
    }
    let mut sections = Sections::at(Duration::from_millis(1_000));
    sections.put(&Later(1)).expect("put");
    sections.put(&sample().levels).expect("put");
    let read = HandoverState::decode(&sections.encode().expect("encoded")).expect("decoded");
    let expected = HandoverState {
        at: sample().at,
        levels: sample().levels,
        ..HandoverState::default()
    };
    assert_eq!(read, expected);
}

#[test]
fn a_file_is_read_once() {
    let directory = tempfile::tempdir().expect("directory");
    assert!(HandoverState::take_from(directory.path()).is_none());
    sample().leave_in(directory.path()).expect("written");
    assert_eq!(HandoverState::take_from(directory.path()), Some(sample()));
    assert!(HandoverState::take_from(directory.path()).is_none());
    for rubbish in ["tollgat1 and rubbish", "tollsec1 and rubbish", ""] {
        fs::write(directory.path().join(FILE), rubbish).expect("written");
        assert!(HandoverState::take_from(directory.path()).is_none());
        assert!(!directory.path().join(FILE).exists());
    }
}

fn entries<K: Strategy>(key: K) -> impl Strategy<Value = Vec<(K::Value, Duration)>>
where
    K::Value: Clone,
{
    prop::collection::vec((key, any::<Duration>()), 0..20)
}

prop_compose! {
    fn nonces()(
        auth in "[a-z]{1,9}",
        [fence_unix_ms, at_unix_ms] in any::<[u64; 2]>(),
        lifetime in any::<Duration>(),
        entries in entries(any::<u128>()),
    ) -> UsedNonces {
        UsedNonces { auth, fence_unix_ms, lifetime, at_unix_ms, entries }
    }
}

prop_compose! {
    fn endpoint()(
        (ip, port, scope) in any::<(IpAddr, u16, u32)>(),
        upstream in ".{0,9}",
        [unhealthy, drained] in any::<[bool; 2]>(),
        ejected_ms in any::<u64>(),
    ) -> KnownEndpoint {
        use crate::primitives::address::Address;
        let mut address = SocketAddr::new(ip, port);
        if let SocketAddr::V6(address) = &mut address {
            address.set_scope_id(scope);
        }
        let label = address.to_string();
        KnownEndpoint { upstream, label, address: Address::Inet(address), unhealthy, drained, ejected_ms }
    }
}

proptest! {
    #[test]
    fn whatever_is_known_comes_back(
        at in 0..u64::MAX / 2,
        seeds in any::<[u64; 4]>(),
        nonces in prop::collection::vec(nonces(), 0..4),
        limits in prop::collection::vec((".{0,9}", entries(any::<u64>())), 0..4),
        quotas in prop::collection::vec((".{0,9}", prop::collection::vec(any::<(u64, u64)>(), 0..9)), 1..4),
        endpoints in prop::collection::vec(endpoint(), 0..4),
    ) {
        let limits = limits.into_iter();
        let limits = limits.map(|(identity, entries)| KeptTimes { identity, entries });
        let carried = HandoverState {
            at: Duration::from_millis(at),
            nonces: CarriedNonces(nonces),
            times: Some(CarriedTimes { seed: [seeds[0], seeds[1]], limits: limits.collect() }),
            quotas: KeptQuotas { seed: [seeds[2], seeds[3]], limits: quotas },
            endpoints: CarriedEndpoints(endpoints),
            ..sample()
        };
        let read = HandoverState::decode(&carried.encode().expect("encoded")).expect("decoded");
        prop_assert_eq!(read, carried);
    }
}
