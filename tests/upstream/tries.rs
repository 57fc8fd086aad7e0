//! The tries of a request, as its access line tells them: alike whatever carried them.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::Mutex;

use serde_json::Value;

use super::endpoint;
use crate::harness::{Answer, Does, Gateway, Origin, StreamOrigin, millis, reserve, seconds};

fn gateway(endpoints: [SocketAddr; 2], more: &str) -> Gateway {
    let endpoints = endpoints.map(|address| endpoint(address, "")).concat();
    Gateway::with(&format!(
        "[server]\nthreads = 1\n[upstream.api]\nendpoints = [{endpoints}]\n{more}\
         [upstream.api.passive]\nmax_fails = 0\n\
         [[route]]\nid = \"all\"\npath = \"/**\"\nupstream = \"api\"\n"
    ))
    .start()
}

/// Endpoint and end of each try that a line tells of.
fn ends(line: &Value) -> Vec<(String, String)> {
    let tries = line["tries"].as_array().cloned().unwrap_or_default();
    let text = |value: &Value| value.as_str().expect("text").to_owned();
    for one in &tries {
        assert!(one["ms"].as_f64().is_some_and(|ms| ms >= 0.0), "{one}");
    }
    tries
        .iter()
        .map(|one| (text(&one["endpoint"]), text(&one["end"])))
        .collect()
}

/// What a request becomes: status, `attempts`, and endpoint and end of each try.
type Outcome = (u16, u64, Vec<(String, String)>);

/// What becomes of two requests, one of which meets the first endpoint first: status, `attempts` and tries of both, in an
/// order of its own.
fn outcomes(gateway: &Gateway, method: &str) -> Vec<Outcome> {
    let mut outcomes: Vec<_> = (0..2)
        .map(|number| {
            let trace = format!("{}-{number}", method.to_lowercase());
            let client = gateway.client();
            let request = client.request(method, "/").header("X-Trace-ID", &trace);
            let request = if method == "POST" {
                request.body("once")
            } else {
                request
            };
            let status = request.send().status;
            let line = gateway.access_line(&trace);
            (
                status,
                line["attempts"].as_u64().expect("attempts"),
                ends(&line),
            )
        })
        .collect();
    outcomes.sort();
    outcomes
}

fn quick() -> (Origin, StreamOrigin) {
    let quick = StreamOrigin::start("quick", Does::Answers(millis(0)));
    (Origin::named("quick"), quick)
}

/// The two kinds of transport, with an endpoint that fails in its way and one that answers.
fn both(
    bad: (SocketAddr, SocketAddr),
    (http1, http2): (&Origin, &StreamOrigin),
    more: &str,
) -> [(Gateway, SocketAddr, SocketAddr); 2] {
    let streams = format!("http_version = \"2\"\n{more}");
    [
        (
            gateway([bad.0, http1.address()], more),
            bad.0,
            http1.address(),
        ),
        (
            gateway([bad.1, http2.address()], &streams),
            bad.1,
            http2.address(),
        ),
    ]
}

#[test]
fn a_line_tells_of_each_try_where_there_was_more_than_one() {
    let good = quick();
    let nobody = reserve();
    for (gateway, bad, good) in both((nobody, nobody), (&good.0, &good.1), "") {
        for method in ["GET", "POST"] {
            let [one, two] = <[_; 2]>::try_from(outcomes(&gateway, method)).unwrap();
            assert_eq!(one, (200, 1, Vec::new()), "one try says nothing more");
            let tries = vec![
                (bad.to_string(), "connect".to_owned()),
                (good.to_string(), "answered".to_owned()),
            ];
            assert_eq!(two, (200, 2, tries));
        }
    }
}

#[test]
fn decisions_about_tries_are_the_same_over_every_transport() {
    let good = quick();
    let resets = (
        Origin::scripted("bad", |_| Answer::reset()),
        StreamOrigin::start("bad", Does::Resets(millis(0))),
    );
    let refuses = (
        Origin::scripted("bad", |_| Answer::status(503)),
        StreamOrigin::start("bad", Does::Says(503)),
    );
    let silent = (
        Origin::scripted("bad", |_| Answer::silence()),
        StreamOrigin::start("bad", Does::Answers(seconds(60))),
    );
    let status = "retry = { on = [\"503\"] }\n";
    let timeout = "retry = { on = [\"timeout\"] }\ntimeout = { read = \"300ms\" }\n";
    for ((http1, http2), more, end, method, status) in [
        (&resets, "", "reset", "GET", 200),
        (&resets, "", "", "POST", 502),
        (&refuses, status, "status", "GET", 200),
        (&refuses, status, "", "POST", 503),
        (&silent, timeout, "timeout", "GET", 200),
        (&silent, timeout, "", "POST", 504),
    ] {
        let told = both((http1.address(), http2.address()), (&good.0, &good.1), more).map(
            |(gateway, bad, good)| {
                let outcomes = outcomes(&gateway, method);
                let retries = gateway.metrics_text();
                let retries: Vec<_> = retries
                    .lines()
                    .filter(|line| line.starts_with("gateway_upstream_retries_total"))
                    .map(str::to_owned)
                    .collect();
                let tries = vec![
                    (bad.to_string(), end.to_owned()),
                    (good.to_string(), "answered".to_owned()),
                ];
                let expected = match end {
                    "" => vec![(200, 1, Vec::new()), (status, 1, Vec::new())],
                    _ => vec![(200, 1, Vec::new()), (200, 2, tries)],
                };
                assert_eq!(outcomes, expected, "{more} {method}");
                retries
            },
        );
        assert_eq!(told[0], told[1], "{more} {method}");
    }
}

#[test]
fn the_try_that_lost_a_race_is_told_of() {
    let good = quick();
    let slow = (
        Origin::scripted("slow", |_| Answer::silence()),
        StreamOrigin::start("slow", Does::Answers(seconds(60))),
    );
    let hedge = "hedge = { after = \"60ms\" }\n";
    let slow = (slow.0.address(), slow.1.address());
    for (gateway, slow, good) in both(slow, (&good.0, &good.1), hedge) {
        let [one, two] = <[_; 2]>::try_from(outcomes(&gateway, "GET")).unwrap();
        assert_eq!(one, (200, 1, Vec::new()));
        let tries = vec![
            (slow.to_string(), "lost".to_owned()),
            (good.to_string(), "answered".to_owned()),
        ];
        assert_eq!(two, (200, 2, tries));
        let won = [("upstream", "api"), ("outcome", "won")];
        assert_eq!(gateway.metric("gateway_upstream_hedges_total", &won), 1.0);
    }
}

#[test]
fn a_connection_that_was_found_closed_is_told_of_and_does_not_count() {
    let used = Mutex::new(HashSet::new());
    // It answers one request on each connection, and closes when another comes.
    let origin =
        Origin::answering(
            move |seen| match used.lock().unwrap().insert(seen.connection) {
                true => Answer::echo(),
                false => Answer::close(),
            },
        );
    let endpoints = endpoint(origin.address(), "");
    let gateway = Gateway::with(&format!(
        "[server]\nthreads = 1\n[upstream.api]\nendpoints = [{endpoints}]\n\
         [[route]]\nid = \"all\"\npath = \"/**\"\nupstream = \"api\"\n"
    ))
    .start();
    for (trace, expected) in [("first", &[][..]), ("second", &["stale", "answered"])] {
        let request = gateway.client();
        request
            .get("/")
            .header("X-Trace-ID", trace)
            .send()
            .expect(200);
        let line = gateway.access_line(trace);
        assert_eq!(line["attempts"], 1, "{line}");
        let told: Vec<_> = ends(&line).into_iter().map(|(_, end)| end).collect();
        assert_eq!(told, expected, "{line}");
    }
}

#[test]
fn a_first_try_that_failed_within_a_race_lasted_until_then() {
    let bad = StreamOrigin::start("bad", Does::Resets(millis(300)));
    let good = StreamOrigin::start("good", Does::Answers(millis(1500)));
    let endpoints = endpoint(bad.address(), "") + &endpoint(good.address(), ", backup = true");
    let gateway = Gateway::with(&format!(
        "[server]\nthreads = 1\n[upstream.api]\nendpoints = [{endpoints}]\nhttp_version = \"2\"\n\
         hedge = {{ after = \"60ms\" }}\n[upstream.api.passive]\nmax_fails = 0\n\
         [[route]]\nid = \"all\"\npath = \"/**\"\nupstream = \"api\"\n"
    ))
    .start();
    let client = gateway.client();
    let request = client.get("/").header("X-Trace-ID", "raced");
    request.send().expect(200);
    let line = gateway.access_line("raced");
    let ends: Vec<_> = ends(&line).into_iter().map(|(_, end)| end).collect();
    assert_eq!(ends, ["reset", "answered"], "{line}");
    let took = line["tries"][0]["ms"].as_f64().unwrap();
    assert!((250.0..1000.0).contains(&took), "{line}");
}
