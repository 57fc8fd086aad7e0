//! The other upstream of a fallback has ways of its own to choose an endpoint: who is sent there is found as by it.

use std::collections::BTreeSet;

use super::get;
use crate::harness::{Faces, Gateway, LATE, Origin, ways};

/// For each way a dead upstream, and one with these keys that takes over, which may also be asked as it is.
fn gateway(origins: &[Origin], keys: &str) -> Gateway {
    let faces: Vec<Faces> = origins
        .iter()
        .map(|origin| Faces::of(origin.address()))
        .collect();
    let mut text = String::new();
    for way in ways() {
        let endpoints = faces.iter().map(|faces| {
            let address = faces.over(way);
            format!("{{ address = \"{address}\" }}, ")
        });
        let endpoints: String = endpoints.collect();
        let own = way.keys(LATE);
        text += &way.upstream(&format!("dead-{way}"), &[way.nowhere()], LATE, "");
        text += &format!(
            "[upstream.spare-{way}]\nendpoints = [{endpoints}]\n{own}{keys}\n\
             [[route]]\npath = \"/{way}/fallen/**\"\nupstream = \"dead-{way}\"\nfallback = {{ upstream = \"spare-{way}\" }}\n\
             [[route]]\npath = \"/{way}/direct/**\"\nupstream = \"spare-{way}\"\n"
        );
    }
    let gateway = Gateway::with(&text).file("face.pem", Faces::ca());
    gateway.keeps(faces).start()
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
    for way in ways() {
        let mut met = BTreeSet::new();
        for user in 0..10 {
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
    for way in ways() {
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
        let spare = format!("spare-{way}");
        gateway.wait_for_metric(
            "gateway_sticky_requests_total",
            &[("upstream", &*spare), ("result", "kept")],
            8.0,
        );
    }
}
