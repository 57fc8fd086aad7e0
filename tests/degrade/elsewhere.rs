//! The other upstream of a fallback has ways of its own to choose an endpoint: who is sent there is found as by it.

use std::collections::BTreeSet;

use super::{WAYS, get};
use crate::harness::{Gateway, Origin, reserve};

/// A dead upstream, and one with these keys that takes over, which may also be asked as it is.
fn gateway(origins: &[Origin], keys: &str) -> Gateway {
    let endpoints = origins.iter().map(|origin| {
        let address = origin.address();
        format!("{{ address = \"{address}\" }}, ")
    });
    let endpoints: String = endpoints.collect();
    Gateway::with(&format!(
        "[upstream.dead]\nendpoints = [{{ address = \"{{dead}}\" }}]\n\
         [upstream.spare]\nendpoints = [{endpoints}]\n{keys}\n\
         [[route]]\npath = \"/fallen/**\"\nupstream = \"dead\"\nfallback = {{ upstream = \"spare\" }}\n\
         [[route]]\npath = \"/direct/**\"\nupstream = \"spare\"\n"
    ))
    .fill("dead", reserve())
    .start()
}

fn four() -> [Origin; 4] {
    ["a", "b", "c", "d"].map(Origin::named)
}

#[test]
fn by_a_hash_of_what_it_is_hashed_on() {
    let origins = four();
    let keys = "balance = \"consistent_hash\"\nhash_on = \"header:X-User\"";
    let gateway = gateway(&origins, keys);
    let client = gateway.client();
    for way in WAYS {
        let mut met = BTreeSet::new();
        for user in 0..20 {
            let ask = |target: &str| {
                let request = get(&client, way, target).header("X-User", user);
                request.send().seen().origin
            };
            let direct = ask("/direct/x");
            for _ in 0..2 {
                assert_eq!(ask("/fallen/x"), direct, "user {user}, {way}");
            }
            met.insert(direct);
        }
        assert!(met.len() > 1, "{met:?}");
    }
}

#[test]
fn by_its_cookie() {
    let origins = four();
    let keys = "sticky = { secret = \"a secret of at least 32 bytes, for a test\" }";
    let gateway = gateway(&origins, keys);
    let client = gateway.client();
    for way in WAYS {
        let first = get(&client, way, "/fallen/x").send().expect(200);
        let cookie = first.header("set-cookie").expect("a cookie");
        let cookie = cookie.split(';').next().unwrap().to_owned();
        let origin = first.seen().origin;
        for _ in 0..8 {
            let again = get(&client, way, "/fallen/x").header("Cookie", &cookie);
            let again = again.send().expect(200);
            assert_eq!(again.header("set-cookie"), None, "{way}");
            assert_eq!(again.seen().origin, origin, "{way}");
        }
    }
    gateway.wait_for_metric(
        "gateway_sticky_requests_total",
        &[("upstream", "spare"), ("result", "kept")],
        16.0,
    );
}
