//! A side that is clearly worse than the first is stopped, and says why.

use std::time::Instant;

use nix::sys::signal::Signal;
use serde_json::Value;

use super::{side, with};
use crate::harness::{Answer, Gateway, Origin, eventually, holds_within, millis, seconds};

const ROUTE: &str = "split = [{ upstream = \"old\", weight = 1 }, { upstream = \"next\", weight = 1, headers = { x-canary = \"1\" } }]\n";

fn stopped(gateway: &Gateway) -> Value {
    let routes = gateway.admin_get("/api/v1/routes").json();
    routes[0]["policy"]["sides"][1]["stopped"].clone()
}

/// Sends requests until the second side is stopped.
#[track_caller]
fn until_stopped(gateway: &Gateway) {
    let mut connection = gateway.client().connect();
    let found = holds_within(seconds(30), || {
        (0..20).for_each(|_| {
            connection.get("/").send();
        });
        stopped(gateway).is_object()
    });
    assert!(found, "the side was not stopped");
}

#[test]
fn errors_stop_it_until_somebody_starts_it_again() {
    let old = Origin::named("old");
    let next = Origin::scripted("next", |_| Answer::status(500));
    let gateway = with(&[&old, &next], ROUTE).start();
    until_stopped(&gateway);
    let seen = next.count();
    for _ in 0..30 {
        assert_eq!(side(&gateway.client(), &[]), "old");
        assert_eq!(side(&gateway.client(), &[("X-Canary", "1")]), "old");
    }
    assert_eq!(next.count(), seen);
    let why = stopped(&gateway)["reason"].as_str().unwrap().to_owned();
    assert!(
        why.starts_with("clearly worse than old: 5xx answers"),
        "{why}"
    );
    gateway.wait_for_log(|line| {
        line["upstream"] == "next" && line["msg"].as_str().is_some_and(|msg| msg.contains(&why))
    });
    let labels = [("route", "r"), ("upstream", "next")];
    gateway.wait_for_metric("gateway_split_stopped", &labels, 1.0);
    gateway
        .run_cli(&["status"], &[])
        .expect(0)
        .says("stopped: clearly worse than old");
    gateway
        .run_cli(&["explain"], &["GET", "/"])
        .expect(0)
        .says("next 1 (stopped)");
    gateway.reload_ok();
    assert!(
        stopped(&gateway).is_object(),
        "a reload of the same route changes nothing"
    );
    let start = "/api/v1/routes/r/sides/next/start";
    let (status, _) = gateway.over_socket("POST", start, b"").unwrap();
    assert_eq!(status, 200);
    assert!(stopped(&gateway).is_null());
    gateway.wait_for_metric("gateway_split_stopped", &labels, 0.0);
    gateway
        .client()
        .get("/")
        .header("X-Canary", "1")
        .send()
        .expect(500);
    let (status, _) = gateway
        .over_socket("POST", "/api/v1/routes/r/sides/old/stop", b"")
        .unwrap();
    assert_eq!(status, 404, "the main side is not stopped");
}

#[test]
fn slowness_stops_it() {
    let old = Origin::named("old");
    let next = Origin::scripted("next", |_| Answer::echo().after(millis(60)));
    let gateway = with(&[&old, &next], ROUTE).start();
    until_stopped(&gateway);
    let why = stopped(&gateway)["reason"].as_str().unwrap().to_owned();
    assert!(why.contains("p99"), "{why}");
}

#[test]
fn a_stop_by_an_operator_survives_a_restart_and_ends_with_another_split() {
    let (old, next) = (Origin::named("old"), Origin::named("next"));
    let gateway = with(&[&old, &next], ROUTE).start();
    let (status, _) = gateway
        .over_socket("POST", "/api/v1/routes/r/sides/next/stop", b"")
        .unwrap();
    assert_eq!(status, 200);
    gateway.restart(Signal::SIGTERM);
    assert_eq!(stopped(&gateway)["reason"], "by an operator");
    assert_eq!(side(&gateway.client(), &[("X-Canary", "1")]), "old");
    let text = std::fs::read_to_string(gateway.config()).unwrap();
    gateway.rewrite(&text.replace("\"next\", weight = 1", "\"next\", weight = 2"));
    gateway.reload_ok();
    assert!(stopped(&gateway).is_null());
    assert_eq!(side(&gateway.client(), &[("X-Canary", "1")]), "next");
}

#[test]
fn without_stop_it_goes_on_and_so_does_one_that_is_as_good() {
    let old = Origin::named("old");
    let next = Origin::scripted("next", |_| Answer::status(500));
    let unwatched = with(
        &[&old, &next],
        &format!("{ROUTE}rollout = {{ stop = false }}\n"),
    )
    .start();
    let good = Origin::named("next");
    let watched = with(&[&old, &good], ROUTE).start();
    let mut connections = [unwatched.client().connect(), watched.client().connect()];
    let begun = Instant::now();
    while begun.elapsed() < seconds(6) {
        for connection in &mut connections {
            (0..20).for_each(|_| {
                connection.get("/").send();
            });
        }
        std::thread::sleep(millis(50));
    }
    eventually(seconds(1), "both go on", || {
        stopped(&unwatched).is_null() && stopped(&watched).is_null()
    });
}

#[test]
fn what_clients_cut_short_stops_no_side() {
    let [old, next] = ["old", "next"]
        .map(|name| Origin::scripted(name, |_| Answer::text("late").after(millis(20))));
    let gateway = with(&[&old, &next], ROUTE).start();
    let client = gateway.client();
    let deadline = Instant::now() + seconds(6);
    let mut cut = 0;
    while Instant::now() < deadline {
        for _ in 0..20 {
            client.get("/").send();
            let hurried = client.get("/").header("X-Canary", "1");
            let answer = hurried.header("X-Request-Deadline", "1").send();
            cut += usize::from(answer.code().as_deref() == Some("deadline_exceeded"));
        }
        assert!(stopped(&gateway).is_null(), "{}", stopped(&gateway));
    }
    assert!(cut > 100, "{cut} were cut short");
}
