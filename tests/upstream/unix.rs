//! Endpoints on Unix sockets, served by nginx.

use serde_json::Value;

use super::{before, to};
use crate::harness::{Gateway, Nginx, Origin, eventually, seconds};

const ECHO: &str = "listen {address}; listen unix:{dir}/n.sock; keepalive_timeout 60s; client_max_body_size 10m; \
    location / { add_header X-Connection $connection; return 200 \"$host $request_uri $content_length\"; } \
    location /healthz { return 204; }";

fn address(nginx: &Nginx) -> String {
    format!("unix:{}/n.sock", nginx.dir().display())
}

fn endpoint(nginx: &Nginx, more: &str) -> String {
    format!("{{ address = \"{}\"{more} }}, ", address(nginx))
}

/// State of the upstream's only endpoint.
fn state(gateway: &Gateway) -> String {
    let known: Value = gateway.admin_get("/api/v1/upstreams").expect(200).json();
    let state = known[0]["endpoints"][0]["state"].as_str();
    state.unwrap_or_default().to_owned()
}

#[test]
fn requests_pass_and_connections_are_kept() {
    let nginx = Nginx::with(ECHO, &[]);
    let gateway = before(&endpoint(&nginx, ""), "[server]\nthreads = 1").start();
    let mut connection = gateway.client().connect();
    let first = connection.get("/a?b=c").send().expect(200);
    assert_eq!(first.text(), "gateway.test /a?b=c ");
    let second = connection.get("/b").send().expect(200);
    assert_eq!(first.header("x-connection"), second.header("x-connection"));
    let body = vec![b'x'; 300_000];
    let answer = gateway.client().post("/up").body(&body).send().expect(200);
    assert_eq!(answer.text(), "gateway.test /up 300000");
    let label = address(&nginx);
    gateway.wait_for_metric(
        "http_client_requests_total",
        &[("upstream", "api"), ("endpoint", &label), ("status", "200")],
        3.0,
    );
    let logged = gateway.wait_for_log(|line| line["path"] == "/b");
    assert_eq!(logged["endpoint"], label.as_str());
    gateway
        .run_cli(&["explain"], &["GET", "/a", "--json"])
        .expect(0)
        .says(&format!("\"endpoint\": \"{label}\""));
    gateway
        .run_cli(&["status"], &["--json"])
        .expect(0)
        .says(&label);
}

#[test]
fn weights_hold_beside_other_endpoints() {
    let (nginx, origin) = (Nginx::with(ECHO, &[]), Origin::start());
    let endpoints = endpoint(&nginx, ", weight = 3") + &to(&origin);
    let gateway = before(&endpoints, "").start();
    for _ in 0..40 {
        gateway.client().get("/").send().expect(200);
    }
    assert_eq!(origin.seen().len(), 10);
}

#[test]
fn one_that_nobody_listens_on_is_tried_elsewhere_and_put_aside() {
    let origin = Origin::start();
    let endpoints = "{ address = \"unix:/nowhere/a.sock\" }, ".to_owned() + &to(&origin);
    let gateway = before(&endpoints, "passive = { max_fails = 2 }").start();
    for _ in 0..8 {
        gateway.client().get("/").send().expect(200);
    }
    let labels = [("endpoint", "unix:/nowhere/a.sock")];
    gateway.wait_for_metric("gateway_endpoint_healthy", &labels, 0.0);
    gateway.wait_for_metric("http_client_requests_total", &labels, 2.0);
    let alone = before("{ address = \"unix:/nowhere/a.sock\" }", "").start();
    alone
        .client()
        .get("/")
        .send()
        .refused(502, "upstream_connect");
}

#[test]
fn checks_reach_it_and_an_operator_can_take_it_out() {
    for check in ["", "path = \"/healthz\"\nexpect = [204]"] {
        let nginx = Nginx::with(ECHO, &[]);
        let health =
            format!("[upstream.api.health]\ninterval = \"50ms\"\nfall = 1\nrise = 1\n{check}");
        let gateway = before(&endpoint(&nginx, ""), &health).start();
        gateway.client().get("/").send().expect(200);
        let path =
            |verb: &str| format!("/api/v1/upstreams/api/endpoints/{}/{verb}", address(&nginx));
        gateway.admin_post(&path("drain"), &Value::Null).expect(200);
        assert_eq!(state(&gateway), "drained");
        gateway.client().get("/").send().refused(503, "no_endpoint");
        gateway
            .admin_post(&path("enable"), &Value::Null)
            .expect(200);
        assert_eq!(state(&gateway), "up", "{check}");
        drop(nginx);
        eventually(seconds(5), "it is down", || state(&gateway) == "down");
    }
}
