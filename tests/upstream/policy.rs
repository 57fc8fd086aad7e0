//! Ways to choose an endpoint other than in turns, before origins that misbehave.

use std::collections::BTreeMap;

use super::{before, to};
use crate::harness::{Answer, Gateway, Origin, eventually, millis, seconds};

#[test]
fn requests_go_where_fewer_are_in_flight() {
    let a = Origin::scripted("a", |seen| match seen.target.as_str() {
        "/slow" => Answer::silence(),
        _ => Answer::echo(),
    });
    let b = Origin::named("b");
    let gateway = before(&(to(&a) + &to(&b)), "balance = \"least_connections\"\n").start();
    let held: Vec<_> = (0..4)
        .map(|n| {
            let arrived = a.count() + b.count();
            let held = gateway.client().get("/slow").begin();
            eventually(seconds(5), "it arrived", || a.count() + b.count() > arrived);
            assert!(n > 0 || a.count() == 1);
            held
        })
        .collect();
    // One connection: its next request is read when the one before has left its endpoint.
    let mut connection = gateway.client().connect();
    eventually(seconds(5), "what b answered has left it", || {
        connection.get("/").send().seen().origin == "b"
    });
    for _ in 0..10 {
        assert_eq!(connection.get("/").send().seen().origin, "b");
    }
    drop(held);
    eventually(seconds(5), "a is asked again", || {
        gateway.client().get("/").send().seen().origin == "a"
    });
}

#[test]
fn peak_ewma_avoids_what_fails_fast() {
    let a = Origin::scripted("a", |_| Answer::status(500));
    let (b, c) = (slowish("b"), slowish("c"));
    let gateway = before(&(to(&a) + &to(&b) + &to(&c)), "balance = \"peak_ewma\"\n").start();
    let mut connection = gateway.client().connect();
    for _ in 0..200 {
        connection.get("/").send();
    }
    assert!(a.count() <= 6, "{} of 200", a.count());
}

fn slowish(name: &str) -> Origin {
    Origin::scripted(name, |_| Answer::echo().after(millis(5)))
}

#[test]
fn random_goes_everywhere_by_weight() {
    let origins = ["a", "b", "c"].map(Origin::named);
    let endpoints: String = origins.iter().map(to).collect();
    let gateway = before(&endpoints, "balance = \"random\"\n").start();
    let mut connection = gateway.client().connect();
    for _ in 0..600 {
        connection.get("/").send().expect(200);
    }
    for origin in &origins {
        assert!((140..260).contains(&origin.count()), "{}", origin.count());
    }
}

fn hashed(on: &str) -> (Vec<Origin>, Gateway) {
    let origins: Vec<Origin> = ["a", "b", "c", "d", "e"].map(Origin::named).into();
    let endpoints: String = origins.iter().map(to).collect();
    let keys = format!("balance = \"consistent_hash\"\nhash_on = \"{on}\"\n");
    let gateway = before(&endpoints, &keys).start();
    (origins, gateway)
}

/// Where each of sixty keys goes, asked twice; they must spread and stay.
fn stays(ask: impl Fn(usize) -> String) -> BTreeMap<usize, String> {
    let first: BTreeMap<usize, String> = (0..60).map(|key| (key, ask(key))).collect();
    let again: BTreeMap<usize, String> = (0..60).map(|key| (key, ask(key))).collect();
    assert_eq!(first, again);
    let mut used: Vec<&String> = first.values().collect();
    used.sort();
    used.dedup();
    assert_eq!(used.len(), 5, "{first:?}");
    first
}

#[test]
fn a_header_a_cookie_or_a_path_decides_and_only_keys_of_a_dead_endpoint_move() {
    let (_origins, gateway) = hashed("path");
    let client = gateway.client();
    stays(|key| client.get(&format!("/{key}?{key}")).send().seen().origin);
    let (_origins, gateway) = hashed("cookie:sid");
    let client = gateway.client();
    stays(|key| {
        let cookie = format!("a=b; sid={key}");
        client
            .get("/")
            .header("Cookie", cookie)
            .send()
            .seen()
            .origin
    });
    let (origins, gateway) = hashed("header:X-User");
    let client = gateway.client();
    let ask = |key: usize| client.get("/").header("X-User", key).send().seen().origin;
    let before = stays(ask);
    origins[2].kill();
    for (key, origin) in &before {
        let now = ask(*key);
        assert_eq!(
            now == *origin,
            origin != "c",
            "{key} was at {origin}, is at {now}"
        );
    }
    origins[2].revive();
    eventually(seconds(20), "all are back", || {
        before.iter().all(|(key, origin)| ask(*key) == *origin)
    });
}

#[test]
fn without_its_key_a_request_goes_by_the_client_s_address() {
    let (_origins, gateway) = hashed("header:X-User");
    let ask = |last: u8| gateway.client().from(last).get("/").send().seen().origin;
    stays(|key| ask(key as u8 + 2));
}

#[test]
fn a_reported_load_lowers_the_weight_and_the_gateway_says_why() {
    let origins: Vec<Origin> = [("a", "0.95"), ("b", "0.2"), ("c", "0.2")]
        .into_iter()
        .map(|(name, load)| {
            let report = format!("TEXT cpu_utilization={load}");
            Origin::scripted(name, move |_| {
                Answer::echo().header("Endpoint-Load-Metrics", &report)
            })
        })
        .collect();
    let endpoints: String = origins.iter().map(to).collect();
    let gateway = before(&endpoints, "balance = \"score\"\n").start();
    let client = gateway.client();
    let weight = || {
        (0..20).for_each(|_| drop(client.get("/").send().expect(200)));
        let upstreams = gateway.admin_get("/api/v1/upstreams").json();
        upstreams[0]["endpoints"][0].clone()
    };
    eventually(seconds(10), "the weight falls", || {
        weight()["effective_weight"].as_f64().unwrap() < 0.5
    });
    let shown = weight();
    let why = shown["why"].to_string();
    assert!(why.contains("reports a load of 95 %"), "{shown}");
    assert_eq!(
        shown["score"]["figures"]["load"].as_f64().map(|l| l > 0.9),
        Some(true)
    );
    let status = gateway.run_cli(&["status"], &[]).expect(0);
    assert!(
        status.stdout.contains("reports a load of 95 %"),
        "{}",
        status.stdout
    );
    assert!(status.stdout.contains("score"), "{}", status.stdout);
    let (a, b) = (origins[0].count(), origins[1].count());
    (0..100).for_each(|_| drop(client.get("/").send().expect(200)));
    let (a, b) = (origins[0].count() - a, origins[1].count() - b);
    assert!(a * 2 < b, "{a} of 100 to the loaded one, {b} to another");
}

#[test]
fn a_load_in_the_answer_to_a_check_counts_too() {
    let origins: Vec<Origin> = [("a", "90%"), ("b", "10%"), ("c", "10%")]
        .into_iter()
        .map(|(name, load)| {
            Origin::scripted(name, move |_| Answer::text("").header("X-Load", load))
        })
        .collect();
    let endpoints: String = origins.iter().map(to).collect();
    let keys = "balance = \"score\"\nscore = { load_header = \"X-Load\" }\n\
                health = { path = \"/healthz\", interval = \"200ms\" }\n";
    let gateway = before(&endpoints, keys).start();
    let loaded = origins[0].address().to_string();
    eventually(seconds(10), "its weight falls", || {
        let labels = [("upstream", "api"), ("endpoint", loaded.as_str())];
        gateway.metric("gateway_endpoint_weight", &labels) < 0.5
    });
}

#[test]
fn an_endpoint_that_came_back_starts_slowly() {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let keys = "passive = { max_fails = 1, fail_timeout = \"500ms\", slow_start = \"4s\" }\n";
    let gateway = before(&(to(&a) + &to(&b)), keys).start();
    b.kill();
    (0..4).for_each(|_| drop(gateway.client().get("/").send().expect(200)));
    b.revive();
    let label = b.address().to_string();
    let weight = || {
        let labels = [("upstream", "api"), ("endpoint", label.as_str())];
        gateway.metric("gateway_endpoint_weight", &labels)
    };
    eventually(seconds(5), "it is back with a part of its weight", || {
        gateway.client().get("/").send().expect(200);
        (0.1..0.9).contains(&weight())
    });
    let status = gateway.run_cli(&["status"], &[]).expect(0);
    assert!(status.stdout.contains("slow start"), "{}", status.stdout);
    eventually(seconds(8), "it has all of its weight", || weight() == 1.0);
}
