//! A client stays with its endpoint by a signed cookie.

use super::{before, to};
use crate::harness::{Gateway, Origin, eventually, seconds};

const SECRET: &str = "a secret that signs cookies, long enough";

fn three(more: &str) -> (Vec<Origin>, Gateway) {
    let origins: Vec<Origin> = ["a", "b", "c"].map(Origin::named).into();
    let endpoints: String = origins.iter().map(to).collect();
    let keys = format!(
        "[upstream.api.passive]\nmax_fails = 1\nfail_timeout = \"60s\"\n\
         [upstream.api.sticky]\ncookie = \"stay\"\nsecret = \"{SECRET}\"\n{more}\n"
    );
    let gateway = before(&endpoints, &keys).start();
    (origins, gateway)
}

/// Asks with these cookies: who answered, and the cookie it gave.
fn ask(gateway: &Gateway, cookie: &str) -> (String, Option<String>) {
    let client = gateway.client();
    let mut request = client.get("/");
    if !cookie.is_empty() {
        request = request.header("Cookie", cookie);
    }
    let answer = request.send().expect(200);
    let given = answer.header("set-cookie").map(str::to_owned);
    (answer.seen().origin, given)
}

fn pair(given: &str) -> String {
    given.split(';').next().unwrap().to_owned()
}

fn results(gateway: &Gateway, result: &str) -> f64 {
    let labels = [("upstream", "api"), ("result", result)];
    gateway.metric("gateway_sticky_requests_total", &labels)
}

#[test]
fn a_client_stays_with_its_endpoint() {
    let (origins, gateway) = three("");
    let (first, given) = ask(&gateway, "");
    let given = given.expect("a cookie");
    assert!(
        given.ends_with("; Path=/; HttpOnly; SameSite=Lax"),
        "{given}"
    );
    for origin in &origins {
        let address = origin.address().to_string();
        assert!(!given.contains(&address), "it tells nothing of the network");
    }
    for _ in 0..12 {
        assert_eq!(
            ask(&gateway, &format!("x=y; {}", pair(&given))),
            (first.clone(), None)
        );
    }
    assert_eq!(results(&gateway, "kept"), 12.0);
    let others: Vec<String> = (0..3).map(|_| ask(&gateway, "").0).collect();
    assert!(others.iter().any(|other| *other != first), "{others:?}");
}

#[test]
fn the_cookie_outlives_a_reload_and_a_restart() {
    let (_origins, gateway) = three("");
    let (first, given) = ask(&gateway, "");
    let cookie = pair(&given.unwrap());
    gateway.reload_ok();
    assert_eq!(ask(&gateway, &cookie), (first, None));
}

#[test]
fn a_forged_cookie_is_none() {
    let (_origins, gateway) = three("");
    let (_, given) = ask(&gateway, "");
    let cookie = pair(&given.unwrap());
    let mut forged = cookie.into_bytes();
    let place = "stay=".len() + 3;
    forged[place] = if forged[place] == b'A' { b'B' } else { b'A' };
    for forged in [
        String::from_utf8(forged).unwrap(),
        "stay=127.0.0.1:80".to_owned(),
    ] {
        let mut names: Vec<String> = (0..3)
            .map(|_| {
                let (name, given) = ask(&gateway, &forged);
                assert!(given.is_some(), "it gets a good one");
                name
            })
            .collect();
        names.sort();
        assert_eq!(names, ["a", "b", "c"], "the balance decides");
    }
    assert_eq!(results(&gateway, "invalid"), 6.0);
}

#[test]
fn a_cookie_past_its_time_is_none_and_one_that_ages_is_renewed() {
    let (_origins, gateway) = three("ttl = \"4s\"\n");
    let (first, given) = ask(&gateway, "");
    let given = given.unwrap();
    assert!(given.contains("; Max-Age=4;"), "{given}");
    let cookie = pair(&given);
    assert_eq!(ask(&gateway, &cookie), (first.clone(), None));
    eventually(
        seconds(5),
        "it is written anew, for the same endpoint",
        || {
            let (name, again) = ask(&gateway, &cookie);
            assert!(name == first || results(&gateway, "invalid") > 0.0);
            again.is_some()
        },
    );
    eventually(seconds(5), "it is past its time", || {
        ask(&gateway, &cookie);
        results(&gateway, "invalid") > 0.0
    });
}

#[test]
fn a_dead_endpoint_s_clients_move_and_get_a_new_cookie() {
    let (origins, gateway) = three("");
    let (first, given) = ask(&gateway, "");
    let cookie = pair(&given.unwrap());
    let dead = origins
        .iter()
        .find(|origin| origin.name() == first)
        .unwrap();
    dead.kill();
    let (second, given) = ask(&gateway, &cookie);
    assert_ne!(second, first);
    let moved = pair(&given.expect("a cookie of the one that answered"));
    for _ in 0..6 {
        assert_eq!(ask(&gateway, &moved), (second.clone(), None));
    }
    // The old cookie leads elsewhere as well, for as long as its endpoint is aside.
    assert_ne!(ask(&gateway, &cookie).0, first);
    assert!(results(&gateway, "moved") > 0.0);
}

#[test]
fn clients_of_a_drained_endpoint_move() {
    let (origins, gateway) = three("");
    let (first, given) = ask(&gateway, "");
    let cookie = pair(&given.unwrap());
    let left = origins
        .iter()
        .find(|origin| origin.name() == first)
        .unwrap();
    let path = format!("/api/v1/upstreams/api/endpoints/{}/drain", left.address());
    gateway
        .admin_post(&path, &serde_json::Value::Null)
        .expect(200);
    assert_ne!(ask(&gateway, &cookie).0, first);
    let path = path.replace("/drain", "/enable");
    gateway
        .admin_post(&path, &serde_json::Value::Null)
        .expect(200);
    assert_eq!(ask(&gateway, &cookie), (first, None));
}
