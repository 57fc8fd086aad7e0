//! The numbers on `/metrics` are the numbers of requests.

use std::collections::BTreeSet;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::harness::{Answer, Gateway, Metrics, Origin, eventually, seconds};

const ROUTES: &str = r#"
[auth.app]
type = "jwt"
algorithms = ["HS256"]
secret = "0123456789abcdef0123456789abcdef"
[limit.three]
key = "client_ip"
algorithm = "token_bucket"
rate = "1/m"
burst = 3
[upstream.api]
endpoints = [{ address = "{origin}" }]
[upstream.api.retry]
attempts = 0
[[route]]
id = "proxied"
path = "/proxied/**"
upstream = "api"
[[route]]
id = "static"
path = "/static"
respond = { status = 200, text = "x" }
[[route]]
id = "closed"
path = "/closed"
auth = ["app"]
upstream = "api"
[[route]]
id = "limited"
path = "/limited"
limits = ["three"]
respond = { status = 200 }
"#;

fn start() -> (Origin, Gateway) {
    let origin = Origin::answering(|seen| match seen.target.as_str() {
        "/proxied/missing" => Answer::status(404),
        "/proxied/broken" => Answer::reset(),
        _ => Answer::echo(),
    });
    let gateway = Gateway::with(ROUTES).to(&origin).start();
    (origin, gateway)
}

#[test]
fn counts_equal_the_requests_sent() {
    let (origin, gateway) = start();
    let client = gateway.client();
    let plan: [(&str, &str, usize); 9] = [
        ("GET", "/proxied/x", 17),
        ("POST", "/proxied/x", 5),
        ("GET", "/proxied/missing", 4),
        ("GET", "/proxied/broken", 3),
        ("GET", "/static", 11),
        ("GET", "/closed", 6),
        ("GET", "/limited", 8),
        ("GET", "/nowhere", 7),
        ("BREW", "/proxied/x", 2),
    ];
    let mut connection = client.connect();
    for (method, target, times) in plan {
        for _ in 0..times {
            if connection.request(method, target).send().status == 502 {
                // It may have ended with the upstream's.
                connection = client.connect();
            }
        }
    }
    let by_route = |route: &str, status: &str, value: f64| {
        gateway.wait_for_metric(
            "gateway_requests_by_route_total",
            &[("routeId", route), ("status", status)],
            value,
        );
    };
    by_route("proxied", "200", 24.0);
    by_route("proxied", "404", 4.0);
    by_route("proxied", "502", 3.0);
    by_route("static", "200", 11.0);
    by_route("closed", "401", 6.0);
    by_route("limited", "200", 3.0);
    by_route("limited", "429", 5.0);
    by_route("_unmatched", "404", 7.0);
    let total = plan.iter().map(|(_, _, n)| *n).sum::<usize>() as f64;
    gateway.wait_for_metric("gateway_requests_by_route_total", &[], total);
    gateway.wait_for_metric("gateway_requests_seconds_count", &[], total);
    let duration = |route: &str, method: &str, class: &str, value: f64| {
        let labels = [("route", route), ("method", method), ("status", class)];
        gateway.wait_for_metric("gateway_requests_seconds_count", &labels, value);
    };
    duration("proxied", "GET", "2xx", 17.0);
    duration("proxied", "POST", "2xx", 5.0);
    duration("proxied", "_OTHER", "2xx", 2.0);
    duration("proxied", "GET", "4xx", 4.0);
    duration("proxied", "GET", "5xx", 3.0);
    duration("_unmatched", "GET", "4xx", 7.0);
    let refused = |route: &str, reason: &str, value: f64| {
        gateway.wait_for_metric(
            "gateway_refused_total",
            &[("route", route), ("reason", reason)],
            value,
        );
    };
    refused("closed", "token_missing", 6.0);
    refused("limited", "rate_limited", 5.0);
    refused("_unmatched", "route_not_found", 7.0);
    refused("proxied", "upstream_reset", 3.0);
    let endpoint = origin.address().to_string();
    let upstream = |status: &str, value: f64| {
        let labels = [
            ("upstream", "api"),
            ("endpoint", &endpoint as &str),
            ("status", status),
        ];
        gateway.wait_for_metric("http_client_requests_total", &labels, value);
    };
    upstream("200", 24.0);
    upstream("404", 4.0);
    assert!(gateway.metric("gateway_upstream_seconds_count", &[("upstream", "api")]) >= 28.0);
    let decisions = |outcome: &str| {
        gateway.metric(
            "gateway_limit_decisions_total",
            &[("limit", "three"), ("outcome", outcome)],
        )
    };
    let metrics = gateway.metrics();
    assert!(
        (metrics.sum("gateway_limit_decisions_total", &[("limit", "three")]) - 8.0).abs() < 1e-9
    );
    let outcomes: Vec<String> = metrics
        .matching("gateway_limit_decisions_total", &[])
        .map(|s| s.labels["outcome"].clone())
        .collect();
    assert!(
        outcomes.iter().any(|o| decisions(o) == 5.0)
            && outcomes.iter().any(|o| decisions(o) == 3.0),
        "{outcomes:?}"
    );
    gateway.wait_for_metric("gateway_routes_active", &[], 4.0);
}

#[test]
fn names_kinds_and_labels_are_those_that_were_promised() {
    let (_origin, gateway) = start();
    let client = gateway.client();
    for target in [
        "/proxied/x",
        "/proxied/broken",
        "/static",
        "/closed",
        "/limited",
        "/nowhere",
    ] {
        client.get(target).send();
    }
    gateway.reload_ok();
    gateway.wait_for_metric("gateway_requests_by_route_total", &[], 6.0);
    let metrics = gateway.metrics();
    for (name, kind, labels) in [
        (
            "gateway_requests_seconds",
            "histogram",
            "method route status",
        ),
        (
            "gateway_requests_by_route_total",
            "counter",
            "routeId status",
        ),
        ("gateway_routes_active", "gauge", ""),
        ("gateway_requests_in_flight", "gauge", "route"),
        ("gateway_refused_total", "counter", "reason route"),
        (
            "http_client_requests_total",
            "counter",
            "endpoint status upstream",
        ),
        ("gateway_upstream_seconds", "histogram", "upstream"),
        ("gateway_endpoint_healthy", "gauge", "endpoint upstream"),
        ("gateway_limit_decisions_total", "counter", "limit outcome"),
        ("gateway_connections_active", "gauge", "listener"),
        ("gateway_config_reloads_total", "counter", "result"),
        ("gateway_config_info", "gauge", "hash"),
        ("gateway_build_info", "gauge", "commit version"),
        ("gateway_log_dropped_total", "counter", "sink"),
    ] {
        assert_eq!(
            metrics.kinds.get(name).map(String::as_str),
            Some(kind),
            "{name}"
        );
        assert!(metrics.helped.iter().any(|n| n == name), "help for {name}");
        assert_eq!(
            metrics.label_names(name).join(" "),
            labels,
            "labels of {name}"
        );
    }
    let strange = metrics
        .kinds
        .keys()
        .find(|n| !n.starts_with("gateway_") && *n != "http_client_requests_total");
    assert_eq!(strange, None);
}

#[test]
fn both_reload_series_exist_from_the_start() {
    let gateway = start().1;
    let metrics = gateway.metrics();
    for result in ["ok", "error"] {
        assert!(
            metrics.has("gateway_config_reloads_total", &[("result", result)]),
            "{result}"
        );
        assert_eq!(
            metrics.sum("gateway_config_reloads_total", &[("result", result)]),
            0.0,
            "{result}"
        );
    }
    gateway.reload_ok();
    gateway.wait_for_metric("gateway_config_reloads_total", &[("result", "ok")], 1.0);
    gateway.write("tollgate.toml", "nonsense");
    gateway.reload();
    gateway.wait_for_metric("gateway_config_reloads_total", &[("result", "error")], 1.0);
    gateway.wait_for_metric("gateway_config_reloads_total", &[("result", "ok")], 1.0);
}

fn series(metrics: &Metrics) -> BTreeSet<String> {
    let stable = |s: &&crate::harness::Sample| !s.name.starts_with("gateway_config_info");
    metrics
        .samples
        .iter()
        .filter(stable)
        .map(|s| format!("{} {:?}", s.name, s.labels))
        .collect()
}

#[test]
fn ten_thousand_random_requests_add_no_series() {
    let (_origin, gateway) = start();
    let client = gateway.client();
    let mut random = StdRng::seed_from_u64(7);
    let mut word = || -> String { (0..8).map(|_| random.random_range('a'..='z')).collect() };
    let round = |connection: &mut crate::harness::Connection, word: &mut dyn FnMut() -> String| {
        for _ in 0..10 {
            connection
                .get(&format!("/{}/{}?{}={}", word(), word(), word(), word()))
                .host(&format!("{}.test", word()))
                .send();
            connection
                .request(&word().to_uppercase(), &format!("/{}", word()))
                .send();
        }
    };
    let mut connection = client.connect();
    round(&mut connection, &mut word);
    gateway.wait_for_metric("gateway_requests_by_route_total", &[], 20.0);
    let before = series(&gateway.metrics());
    for n in 0..500 {
        if n % 100 == 0 {
            connection = client.connect();
        }
        round(&mut connection, &mut word);
    }
    gateway.wait_for_metric("gateway_requests_by_route_total", &[], 10_020.0);
    let after = series(&gateway.metrics());
    let new: Vec<_> = after.difference(&before).collect();
    assert!(new.is_empty(), "{new:?}");
}

#[test]
fn gauges_go_up_and_come_down() {
    let origin = Origin::answering(|_| Answer::silence());
    let gateway = Gateway::with(ROUTES).to(&origin).start();
    let in_flight =
        |n: f64| gateway.wait_for_metric("gateway_requests_in_flight", &[("route", "proxied")], n);
    let connections = |n: f64| {
        gateway.wait_for_metric("gateway_connections_active", &[("listener", "public")], n);
    };
    let idle: Vec<_> = (0..3).map(|_| gateway.client().connect()).collect();
    let busy: Vec<_> = (0..2)
        .map(|_| gateway.client().get("/proxied/x").begin())
        .collect();
    in_flight(2.0);
    connections(5.0);
    busy.into_iter().for_each(crate::harness::Connection::abort);
    in_flight(0.0);
    connections(3.0);
    drop(idle);
    connections(0.0);
}

#[test]
fn a_route_that_went_away_leaves_its_counts_and_the_active_number_goes_down() {
    let (_origin, gateway) = start();
    gateway.client().get("/static").send().expect(200);
    gateway.wait_for_metric(
        "gateway_requests_by_route_total",
        &[("routeId", "static")],
        1.0,
    );
    let before = gateway.metrics();
    let hash = before
        .matching("gateway_config_info", &[])
        .next()
        .unwrap()
        .labels["hash"]
        .clone();
    gateway.rewrite("[[route]]\nid = \"only\"\npath = \"/only\"\nrespond = { status = 200 }\n");
    gateway.reload_ok();
    gateway.wait_for_metric("gateway_routes_active", &[], 1.0);
    eventually(seconds(5), "one hash, and another", || {
        let metrics = gateway.metrics();
        let infos: Vec<_> = metrics
            .matching("gateway_config_info", &[])
            .map(|s| s.labels["hash"].clone())
            .collect();
        infos.len() == 1 && infos[0] != hash
    });
    assert_eq!(
        gateway.info()["config_hash"].as_str().map(str::is_empty),
        Some(false)
    );
}

#[test]
fn what_never_became_a_request_is_counted_too() {
    let (_origin, gateway) = start();
    for _ in 0..3 {
        gateway
            .client()
            .raw("GET /x HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n");
    }
    gateway
        .client()
        .raw("GET /a%00 HTTP/1.1\r\nHost: a\r\n\r\n");
    let refused = |reason: &str, value: f64| {
        let labels = [("route", "_unmatched"), ("reason", reason)];
        gateway.wait_for_metric("gateway_refused_total", &labels, value);
    };
    refused("bad_request", 3.0);
    refused("path_ambiguous", 1.0);
    gateway.wait_for_log(|line| line["msg"] == "request" && line["reason"] == "bad_request");
}
