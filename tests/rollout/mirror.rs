//! Copies of requests, which nobody who asks ever notices.

use std::time::Instant;

use super::with;
use crate::harness::{
    Answer, Faces, Gateway, LATE, Origin, crossings, eventually, millis, reserve, seconds, ways,
};

#[test]
fn a_copy_is_what_the_upstream_gets_with_a_mark() {
    let (main, shadow) = (Origin::named("main"), Origin::named("shadow"));
    let route = "upstream = \"main\"\nstrip_prefix = 0\nmirror = { upstream = \"shadow\", methods = [\"GET\", \"POST\"] }\n";
    let gateway = with(&[&main, &shadow], route).start();
    for way in ["close, X-Relayed", "close"] {
        let (before, copies) = (main.count(), shadow.count());
        let answer = gateway
            .client()
            .get("/a/b?c=d")
            .header("X-Mine", "1")
            .header("Connection", way)
            .send()
            .expect(200);
        assert_eq!(answer.header("X-Origin"), Some("main"));
        gateway
            .client()
            .post("/post")
            .header("Connection", way)
            .body("sized")
            .send()
            .expect(200);
        gateway
            .client()
            .post("/post")
            .header("Connection", way)
            .chunked(&["chun", "ked"])
            .send()
            .expect(200);
        assert_eq!(main.count(), before + 3);
        let expected = if way == "close" { 3 } else { 0 };
        eventually(seconds(5), "the copies came", || {
            shadow.count() == copies + expected
        });
    }
    let seen = shadow.seen();
    let got = seen.iter().find(|one| one.method == "GET").unwrap();
    assert_eq!(
        (got.target.as_str(), got.header("X-Mine")),
        ("/a/b?c=d", Some("1"))
    );
    assert_eq!(got.header("X-Shadow"), Some("true"));
    assert!(got.header("X-Trace-ID").is_some() && got.header("X-Forwarded-For").is_some());
    assert!(
        main.seen()
            .iter()
            .all(|one| one.header("X-Shadow").is_none())
    );
    for body in ["sized", "chunked"] {
        assert!(
            seen.iter().any(|one| one.body == body.as_bytes()),
            "{body}: {seen:?}"
        );
    }
    let labels = [
        ("route", "r"),
        ("upstream", "shadow"),
        ("outcome", "answered"),
    ];
    gateway.wait_for_metric("gateway_mirror_requests_total", &labels, 3.0);
    gateway.wait_for_metric("gateway_mirror_in_flight", &[("route", "r")], 0.0);
}

#[test]
fn a_copy_is_made_whatever_the_way_to_either() {
    let (main, shadow) = (Origin::named("main"), Origin::named("shadow"));
    let faces = [&main, &shadow].map(|origin| Faces::of(origin.address()));
    let mut text = String::new();
    for way in ways() {
        for (name, faces) in ["main", "shadow"].iter().zip(&faces) {
            text += &way.upstream(&format!("{name}-{way}"), &[faces.over(way)], LATE, "");
        }
    }
    let pairs = crossings(&ways(), 4);
    for (way, other) in &pairs {
        text += &format!(
            "[[route]]\npath = \"/{way}/{other}/**\"\nupstream = \"main-{way}\"\n\
             mirror = {{ upstream = \"shadow-{other}\", methods = [\"GET\", \"PUT\"], in_flight = 1000 }}\n"
        );
    }
    let gateway = Gateway::with(&text).file("face.pem", Faces::ca()).start();
    let client = gateway.client();
    for (way, other) in &pairs {
        let path = format!("/{way}/{other}/x?y=1");
        client.get(&path).send().expect(200);
        client
            .request("PUT", &path)
            .body("sized")
            .send()
            .expect(200);
        let chunked = client.request("PUT", &path).chunked(&["chun", "ked"]);
        chunked.send().expect(200);
        let bodies = |origin: &Origin| {
            let seen = origin.seen().into_iter().filter(|seen| seen.target == path);
            let mut bodies: Vec<_> = seen.map(|seen| seen.body).collect();
            bodies.sort();
            bodies
        };
        let sent = [b"".to_vec(), b"chunked".to_vec(), b"sized".to_vec()];
        assert_eq!(bodies(&main), sent, "{path}");
        eventually(seconds(5), &format!("copies of {path} came"), || {
            bodies(&shadow) == sent
        });
    }
}

#[test]
fn a_dead_stalled_or_failing_shadow_changes_nothing() {
    let main = Origin::named("main");
    for shadow in [
        Origin::scripted("shadow", |_| Answer::silence()),
        Origin::scripted("shadow", |_| Answer::status(500)),
        Origin::scripted("shadow", |_| Answer::reset()),
        Origin::scripted("shadow", |_| Answer::raw("rubbish\r\n\r\n")),
    ] {
        let route =
            "upstream = \"main\"\nmirror = { upstream = \"shadow\", timeout = \"500ms\" }\n";
        let gateway = with(&[&main, &shadow], route).start();
        let begun = Instant::now();
        for _ in 0..10 {
            let answer = gateway.client().get("/").send().expect(200);
            assert_eq!(answer.header("X-Origin"), Some("main"));
        }
        assert!(begun.elapsed() < seconds(3));
        eventually(seconds(5), "every copy came to its end", || {
            gateway.metric("gateway_mirror_in_flight", &[("route", "r")]) == 0.0
        });
        assert_eq!(
            gateway.metric("gateway_mirror_requests_total", &[("outcome", "answered")]),
            0.0
        );
        assert_eq!(
            gateway.metric("gateway_mirror_requests_total", &[("route", "r")]),
            10.0
        );
    }
    let nobody = "upstream = \"main\"\nmirror = { upstream = \"nobody\" }\n[upstream.nobody]\nendpoints = [{ address = \"{nobody}\" }]\n";
    let gateway = with(&[&main], nobody).fill("nobody", reserve()).start();
    for _ in 0..10 {
        gateway.client().get("/").send().expect(200);
    }
    gateway.wait_for_metric(
        "gateway_mirror_requests_total",
        &[("outcome", "failed")],
        10.0,
    );
}

#[test]
fn copies_are_bounded_in_number_and_size() {
    let main = Origin::named("main");
    let shadow = Origin::scripted("shadow", |_| Answer::echo().after(millis(1500)));
    let route = "upstream = \"main\"\nmirror = { upstream = \"shadow\", in_flight = 3, max_body = \"10B\", methods = [\"GET\", \"POST\"] }\n";
    let gateway = with(&[&main, &shadow], route).start();
    for _ in 0..10 {
        gateway.client().get("/").send().expect(200);
    }
    assert!(shadow.count() <= 3);
    gateway.wait_for_metric("gateway_mirror_requests_total", &[("outcome", "full")], 7.0);
    gateway.wait_for_metric(
        "gateway_mirror_requests_total",
        &[("outcome", "answered")],
        3.0,
    );
    gateway
        .client()
        .post("/")
        .body("eleven byte")
        .send()
        .expect(200);
    gateway
        .client()
        .post("/")
        .chunked(&["eleven", " byte"])
        .send()
        .expect(200);
    gateway
        .client()
        .post("/")
        .body("ten bytes!")
        .send()
        .expect(200);
    gateway.wait_for_metric("gateway_mirror_requests_total", &[("outcome", "body")], 2.0);
    gateway.wait_for_metric(
        "gateway_mirror_requests_total",
        &[("outcome", "answered")],
        4.0,
    );
}

#[test]
fn only_its_share_and_its_methods_are_copied_and_nothing_when_lean() {
    let (main, shadow) = (Origin::named("main"), Origin::named("shadow"));
    let route = "upstream = \"main\"\nmirror = { upstream = \"shadow\", share = \"20%\" }\n";
    let gateway = with(&[&main, &shadow], route).start();
    for _ in 0..300 {
        gateway.client().get("/").send().expect(200);
    }
    let copied = || gateway.metric("gateway_mirror_requests_total", &[("outcome", "answered")]);
    eventually(seconds(5), "copies came", || copied() > 20.0);
    eventually(seconds(5), "all of them", || {
        gateway.metric("gateway_mirror_in_flight", &[]) == 0.0
    });
    assert!(copied() < 120.0, "{}", copied());
    let before = shadow.count();
    for _ in 0..30 {
        gateway.client().post("/").body("x").send().expect(200);
    }
    gateway.run_cli(&["degrade"], &["r", "lean"]).expect(0);
    for _ in 0..60 {
        gateway.client().get("/").send().expect(200);
    }
    assert_eq!(shadow.count(), before);
    gateway
        .run_cli(&["explain"], &["GET", "/"])
        .expect(0)
        .says("no copy at this level");
}

#[test]
fn what_makes_no_sense_is_refused() {
    let main = Origin::named("main");
    for (mirror, why) in [
        ("{ upstream = \"man\" }", "did you mean \"main\"?"),
        ("{ upstream = \"main\", share = \"0%\" }", "copies nothing"),
        (
            "{ upstream = \"main\", share = \"101%\" }",
            "more than 100%",
        ),
        (
            "{ upstream = \"main\", methods = [] }",
            "would copy nothing",
        ),
        (
            "{ upstream = \"main\", max_body = \"1GiB\" }",
            "at most 16MiB",
        ),
        ("{ upstream = \"main\", in_flight = 0 }", "between 1 and"),
    ] {
        let route = format!("upstream = \"main\"\nmirror = {mirror}\n");
        with(&[&main], &route).fails_to_start().expect(1).says(why);
    }
    let own = "respond = { text = \"x\" }\nmirror = { upstream = \"main\" }\n";
    with(&[&main], own)
        .fails_to_start()
        .expect(1)
        .says("asks no upstream");
}

#[test]
fn copies_go_by_the_hash_of_their_upstream() {
    let main = Origin::named("main");
    let shadows = ["a", "b", "c"].map(Origin::named);
    let [a, b, c] = [0, 1, 2].map(|index: usize| shadows[index].address());
    let shadow = format!(
        "upstream = \"main\"\nmirror = {{ upstream = \"shadow\" }}\n[upstream.shadow]\n\
         endpoints = [{{ address = \"{a}\" }}, {{ address = \"{b}\" }}, {{ address = \"{c}\" }}]\n\
         balance = \"consistent_hash\"\nhash_on = \"header:X-User\"\n"
    );
    let gateway = with(&[&main], &shadow).start();
    let client = gateway.client();
    for user in (0..12).cycle().take(48) {
        client.get("/").header("X-User", user).send().expect(200);
    }
    let all = || shadows.iter().map(Origin::count).sum::<usize>();
    eventually(seconds(5), "the copies came", || all() == 48);
    let served = |origin: &Origin, user: usize| {
        let user = user.to_string();
        origin.count_of(|seen| seen.header("X-User") == Some(&*user))
    };
    for user in 0..12 {
        let each = shadows.each_ref().map(|origin| served(origin, user));
        assert!(each.contains(&4), "user {user}: {each:?}");
    }
    assert!(shadows.iter().all(|origin| origin.count() < 48));
}

#[test]
fn a_copy_takes_a_place_that_is_free_and_waits_for_none() {
    let main = Origin::named("main");
    let shadow = Origin::scripted("shadow", |_| Answer::silence());
    let gateway = Gateway::with(&format!(
        "[upstream.main]\nendpoints = [{{ address = \"{}\" }}]\n\
         [upstream.shadow]\nendpoints = [{{ address = \"{}\" }}]\nconcurrency = {{ max = 2, queue = 10 }}\n\
         [[route]]\nid = \"r\"\npath = \"/**\"\nupstream = \"main\"\nmirror = {{ upstream = \"shadow\", timeout = \"1s\" }}\n",
        main.address(),
        shadow.address()
    ))
    .start();
    for _ in 0..5 {
        gateway.client().get("/").send().expect(200);
    }
    eventually(seconds(5), "two copies came", || shadow.count() == 2);
    let labels = |outcome| [("upstream", "shadow"), ("outcome", outcome)];
    gateway.wait_for_metric("gateway_mirror_requests_total", &labels("full"), 3.0);
    assert_eq!(shadow.count(), 2);
    // Their time is over, and their places are free.
    gateway.wait_for_metric("gateway_mirror_requests_total", &labels("failed"), 2.0);
    let places = "gateway_upstream_concurrency_in_flight";
    gateway.wait_for_metric(places, &[("upstream", "shadow")], 0.0);
    gateway.client().get("/").send().expect(200);
    eventually(seconds(5), "another copy came", || shadow.count() == 3);
}
