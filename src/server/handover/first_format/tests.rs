//! The bytes are those that 0.1.0 wrote.

use serde_json::json;

use super::*;

const CARRIED_BYTES: &[u8] = include_bytes!(concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/tests/fixtures/carried/0.1.0.carried"
));
const QUOTAS_BYTES: &[u8] = include_bytes!(concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/tests/fixtures/carried/0.1.0.quotas"
));

#[test]
fn everything_that_0_1_0_left_is_read() {
    let read = decode(CARRIED_BYTES).expect("read");
    assert_eq!(read.at, Duration::from_millis(1_700_000_000_000));
    let nonces: CarriedNonces = read.get().expect("whole").expect("there");
    let used = UsedNonces {
        auth: "partner".into(),
        fence_unix_ms: 5,
        lifetime: Duration::from_secs(602),
        at_unix_ms: 1_700_000_000_000,
        // Rounded up by a millisecond.
        entries: [(1, 1_001), (u128::MAX, 2_001)]
            .map(|(nonce, left)| (nonce, Duration::from_millis(left)))
            .into(),
    };
    assert_eq!(nonces.0, [used]);
    let times: CarriedTimes = read.get().expect("whole").expect("there");
    assert_eq!(times.seed, [1, 2]);
    assert_eq!(times.limits[0].identity, "per_user");
    assert_eq!(times.limits[0].entries, [(7, Duration::from_nanos(8))]);
    let quotas: KeptQuotas = read.get().expect("whole").expect("there");
    assert_eq!(
        (quotas.seed, &*quotas.limits[0].1),
        ([3, 4], &[(9, 10)][..])
    );
    let endpoints: CarriedEndpoints = read.get().expect("whole").expect("there");
    let states = endpoints.0.iter().map(|known| {
        let address = known.address.to_string();
        (address, known.unhealthy, known.drained, known.ejected_ms)
    });
    let expected = [
        ("127.0.0.1:1".to_owned(), true, false, 0),
        ("[::1]:2".to_owned(), false, true, 0),
        ("unix:/run/a".to_owned(), false, false, 9),
    ];
    assert_eq!(states.collect::<Vec<_>>(), expected);
    let levels: CarriedLevels = read.get().expect("whole").expect("there");
    let levels = serde_json::to_value(levels.0).expect("JSON");
    let expected = json!([
        { "route": "a", "level": "lean", "left_ms": 5 },
        { "route": "b", "level": "off", "left_ms": null },
    ]);
    assert_eq!(levels, expected);
    let stops: CarriedStops = read.get().expect("whole").expect("there");
    let expected = json!([{ "route": "a", "split": "s", "upstream": "next", "reason": "worse", "at_unix": 7 }]);
    assert_eq!(serde_json::to_value(stops.0).expect("JSON"), expected);
    let breakers: CarriedBreakers = read.get().expect("whole").expect("there");
    let expected = json!([
        { "guarded": { "upstream": "api" }, "left_ms": 11 },
        { "guarded": { "route": "a" }, "left_ms": 0 },
    ]);
    assert_eq!(serde_json::to_value(breakers.0).expect("JSON"), expected);
    let answers: CarriedAnswers = read.get().expect("whole").expect("there");
    assert_eq!(answers.0[0].route, "reviews");
    // An answer, names by which others differ, and one of those.
    let shown = format!("{:?}", answers.0[0]);
    for part in [
        "b\"plain\"",
        "b\"hej\"",
        "Varies([\"accept-language\"])",
        "age: 2000000000",
    ] {
        assert!(shown.contains(part), "{part} in {shown}");
    }
}

#[test]
fn the_quotas_of_0_1_0_are_read() {
    let read = decode(QUOTAS_BYTES).expect("read");
    let limits = vec![("daily".to_owned(), vec![(9, 10)])];
    let quotas = KeptQuotas {
        seed: [3, 4],
        limits,
    };
    assert_eq!(read.get(), Ok(Some(quotas)));
}

#[test]
fn nothing_damaged_is_taken() {
    for bytes in [CARRIED_BYTES, QUOTAS_BYTES] {
        for cut in 0..bytes.len() {
            assert!(decode(&bytes[..cut]).is_err(), "{cut}");
        }
        for at in 0..bytes.len() {
            let mut bytes = bytes.to_vec();
            bytes[at] ^= 1;
            assert!(decode(&bytes).is_err(), "{at}");
        }
        // With a sum that is right, but a count that is not.
        let mut bytes = bytes[..bytes.len() - CHECKSUM].to_vec();
        bytes.push(0);
        bytes.extend_from_slice(&sha256(&bytes));
        assert!(decode(&bytes).is_err());
    }
}
