//! What those are told whom the gateway's own door turns away, and that their connections go on.

use serde_json::Value;

use super::slow;
use crate::harness::{Gateway, Http2, Origin, asking, eventually, fragment, seconds};

/// Full as soon as one request is in flight, but for critical ones; the routes differ in what a refusal takes.
fn full(origin: &Origin) -> Gateway {
    let gateway = Gateway::with(
        r#"
        [server.overload]
        max_in_flight = 2
        [[listener]]
        name = "public"
        address = "{listen}"
        http2 = true
        [[route]]
        id = "held"
        path = "/held/**"
        class = "critical"
        upstream = "api"
        [[route]]
        id = "plain"
        path = "/plain/**"
        class = "sheddable"
        upstream = "api"
        [[route]]
        id = "browsers"
        path = "/browsers/**"
        class = "sheddable"
        upstream = "api"
        cors = { origins = ["https://a.example"] }
        [[route]]
        id = "instead"
        path = "/instead/**"
        class = "sheddable"
        upstream = "api"
        fallback = { on = ["overloaded"], text = "later" }
        "#,
    )
    .append(&fragment::upstream("api"));
    gateway.to(origin).start()
}

fn hold(gateway: &Gateway, origin: &Origin) -> Vec<crate::harness::Connection> {
    let held = (0..2)
        .map(|_| gateway.client().get("/held/never").begin())
        .collect();
    eventually(seconds(5), "they arrived", || origin.count() == 2);
    held
}

#[test]
fn a_refusal_is_a_whole_answer_and_the_connection_goes_on() {
    let origin = slow();
    let gateway = full(&origin);
    let held = hold(&gateway, &origin);
    let mut connection = gateway.client().connect();
    let refused = connection
        .get("/plain/x?a=1")
        .header("X-Trace-ID", "asked-1")
        .send()
        .refused(503, "overloaded");
    assert_eq!(refused.header("x-trace-id"), Some("asked-1"));
    assert_eq!(
        refused.header("content-type"),
        Some("application/problem+json")
    );
    assert!((1..=3).contains(&refused.number("retry-after")));
    assert!(refused.header("date").is_some() && refused.header("server").is_none());
    let problem = refused.json();
    assert_eq!(problem["instance"], "/plain/x");
    assert_eq!(problem["trace_id"], "asked-1");
    // With a body that came along, without one where none belongs, and once there is room again.
    connection
        .post("/plain/x")
        .body("a=1")
        .send()
        .refused(503, "overloaded");
    let head = connection.request("HEAD", "/plain/x").send().expect(503);
    assert!(head.text().is_empty() && head.number("content-length") > 0);
    drop(held);
    eventually(seconds(5), "there is room", || {
        gateway.info()["overload"]["in_flight"] == 0
    });
    connection.get("/plain/x").send().expect(200);

    let line = gateway.access_line("asked-1");
    let said = ["route", "status", "reason", "path", "bytes_out"].map(|name| line[name].clone());
    let wanted: [Value; 5] = [
        "plain".into(),
        503.into(),
        "overloaded".into(),
        "/plain/x?a=1".into(),
        refused_bytes(&problem).into(),
    ];
    assert_eq!(said, wanted, "{line}");
    let shed = [
        ("class", "sheddable"),
        ("cause", "max_in_flight"),
        ("upstream", ""),
    ];
    assert_eq!(gateway.metric("gateway_shed_total", &shed), 3.0);
    let counted = [("route", "plain"), ("reason", "overloaded")];
    assert_eq!(gateway.metric("gateway_refused_total", &counted), 3.0);
}

/// How long a problem is as it was sent.
fn refused_bytes(problem: &Value) -> usize {
    problem.to_string().len()
}

#[test]
fn a_stream_is_refused_alike_and_its_connection_goes_on() {
    let origin = slow();
    let gateway = full(&origin);
    let held = hold(&gateway, &origin);
    let client = Http2::connect(gateway.listen());
    client.get("/plain/x").refused(503, "overloaded");
    client
        .send(asking("POST", "/plain/x"), Some(b"a=1"))
        .refused(503, "overloaded");
    drop(held);
    eventually(seconds(5), "there is room", || {
        gateway.info()["overload"]["in_flight"] == 0
    });
    client.get("/plain/x").expect(200);
}

#[test]
fn browsers_may_read_it_and_nothing_stands_in_for_it() {
    let origin = slow();
    let gateway = full(&origin);
    let _held = hold(&gateway, &origin);
    let refused = gateway
        .client()
        .get("/browsers/x")
        .header("Origin", "https://a.example")
        .send()
        .refused(503, "overloaded");
    let allowed = refused.header("access-control-allow-origin");
    assert_eq!(allowed, Some("https://a.example"));
    // Nobody was authenticated yet.
    let refused = gateway.client().get("/instead/x").send();
    assert_eq!(refused.header("x-fallback"), None);
    refused.refused(503, "overloaded");
    gateway.client().get("/nowhere").send().expect(404);
}
