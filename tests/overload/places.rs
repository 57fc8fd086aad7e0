//! The places of an upstream: so many at once, a queue in the order of the classes, and each place comes back.

use std::time::Instant;

use serde_json::json;

use super::{classes, slow};
use crate::harness::{Connection, Gateway, Origin, eventually, millis, seconds};

fn start(origin: &Origin, concurrency: &str) -> Gateway {
    classes(&format!("concurrency = {{ {concurrency} }}"), "")
        .to(origin)
        .start()
}

/// So many requests that are on their way to the origin.
fn occupied(gateway: &Gateway, origin: &Origin, target: &str, count: usize) -> Vec<Connection> {
    let before = origin.count();
    let holders = (0..count).map(|_| gateway.client().get(target).begin());
    let holders = holders.collect();
    eventually(seconds(5), "they arrived", || {
        origin.count() == before + count
    });
    holders
}

const IN_FLIGHT: &str = "gateway_upstream_concurrency_in_flight";

fn free(gateway: &Gateway) {
    gateway.wait_for_metric(IN_FLIGHT, &[("upstream", "api")], 0.0);
}

#[test]
fn the_one_too_many_is_refused_and_served_afterwards() {
    let origin = slow();
    let gateway = start(&origin, "max = 2, queue = 0");
    let mut holders = occupied(&gateway, &origin, "/normal/slow", 2);
    let refused = gateway.client().get("/critical/x").send();
    let wait = refused.refused(503, "overloaded").number("retry-after");
    assert!((1..=3).contains(&wait), "{wait}");
    for holder in &mut holders {
        holder.response("GET").unwrap().expect(200);
    }
    free(&gateway);
    gateway.client().get("/critical/x").send().expect(200);
    let cause = [
        ("class", "critical"),
        ("cause", "queue_full"),
        ("upstream", "api"),
    ];
    assert_eq!(gateway.metric("gateway_shed_total", &cause), 1.0);
    assert_eq!(origin.count(), 3, "who was refused was not sent");
}

#[test]
fn clients_are_told_different_times_to_come_again() {
    let origin = slow();
    let gateway = start(&origin, "max = 1, queue = 0");
    let _held = occupied(&gateway, &origin, "/normal/never", 1);
    let told: std::collections::BTreeSet<u64> = (0..40)
        .map(|_| {
            gateway
                .client()
                .get("/normal/x")
                .send()
                .number("retry-after")
        })
        .collect();
    assert_eq!(told, [1, 2, 3].into());
}

#[test]
fn those_who_wait_are_served_by_class() {
    let origin = slow();
    let gateway = start(&origin, "max = 1, queue = 10, queue_timeout = \"5s\"");
    let _holder = occupied(&gateway, &origin, "/normal/slow", 1);
    let mut waiting = Vec::new();
    for class in ["sheddable", "normal", "critical"] {
        waiting.push(gateway.client().get(&format!("/{class}/x")).begin());
        let queued = waiting.len() as f64;
        gateway.wait_for_metric("gateway_upstream_queued", &[("upstream", "api")], queued);
    }
    for connection in &mut waiting {
        connection.response("GET").unwrap().expect(200);
    }
    let served: Vec<String> = origin.seen().into_iter().map(|seen| seen.target).collect();
    assert_eq!(
        served,
        ["/normal/slow", "/critical/x", "/normal/x", "/sheddable/x"]
    );
}

#[test]
fn who_waited_long_enough_is_refused() {
    let origin = slow();
    let gateway = start(&origin, "max = 1, queue = 10, queue_timeout = \"150ms\"");
    let _held = occupied(&gateway, &origin, "/normal/never", 1);
    let begun = Instant::now();
    let refused = gateway.client().get("/critical/x").send();
    refused.refused(503, "overloaded");
    let waited = begun.elapsed();
    assert!(waited >= millis(150) && waited < millis(1500), "{waited:?}");
    let cause = [
        ("class", "critical"),
        ("cause", "queue_timeout"),
        ("upstream", "api"),
    ];
    assert_eq!(gateway.metric("gateway_shed_total", &cause), 1.0);
}

#[test]
fn what_matters_less_makes_room_in_a_full_queue() {
    let origin = slow();
    let gateway = start(&origin, "max = 1, queue = 1, queue_timeout = \"5s\"");
    let _held = occupied(&gateway, &origin, "/normal/slow", 1);
    let mut sheddable = gateway.client().get("/sheddable/x").begin();
    gateway.wait_for_metric("gateway_upstream_queued", &[("upstream", "api")], 1.0);
    gateway
        .client()
        .get("/sheddable/y")
        .send()
        .refused(503, "overloaded");
    let mut critical = gateway.client().get("/critical/x").begin();
    let displaced = sheddable.response("GET").unwrap();
    displaced.refused(503, "overloaded");
    critical.response("GET").unwrap().expect(200);
    let cause = [
        ("class", "sheddable"),
        ("cause", "displaced"),
        ("upstream", "api"),
    ];
    assert_eq!(gateway.metric("gateway_shed_total", &cause), 1.0);
}

#[test]
fn a_place_comes_back_however_its_request_ends() {
    let origin = slow();
    let gateway = start(&origin, "max = 2, queue = 0");
    for _ in 0..3 {
        for holder in occupied(&gateway, &origin, "/normal/never", 2) {
            holder.abort();
        }
        free(&gateway);
        gateway
            .client()
            .get("/normal/reset")
            .send()
            .refused(502, "upstream_reset");
        gateway
            .client()
            .get("/normal/reset")
            .send()
            .refused(502, "upstream_reset");
        gateway
            .client()
            .get("/normal/reset")
            .send()
            .refused(502, "upstream_reset");
        free(&gateway);
    }
    gateway.client().get("/normal/x").send().expect(200);
}

#[test]
fn an_open_websocket_holds_no_place() {
    let origin = slow();
    let gateway = start(&origin, "max = 1, queue = 0");
    let mut socket = gateway.client().connect();
    let opened = socket
        .get("/normal/socket")
        .header("Connection", "Upgrade")
        .header("Upgrade", "websocket")
        .send();
    opened.expect(101);
    free(&gateway);
    gateway.client().get("/normal/x").send().expect(200);
    socket.write("ping").unwrap();
    assert_eq!(socket.bytes(4).unwrap(), b"ping");
}

#[test]
fn places_are_counted_through_a_reload_that_changes_their_number() {
    let origin = slow();
    let gateway = start(&origin, "max = 2, queue = 0");
    let _held = occupied(&gateway, &origin, "/normal/never", 2);
    gateway.reload_ok();
    gateway
        .client()
        .get("/normal/x")
        .send()
        .refused(503, "overloaded");
    let text = std::fs::read_to_string(gateway.config()).unwrap();
    std::fs::write(gateway.config(), text.replace("max = 2", "max = 3")).unwrap();
    gateway.reload_ok();
    gateway.client().get("/normal/x").send().expect(200);
    // A place is given back a moment after its answer is there.
    gateway.wait_for_metric(IN_FLIGHT, &[("upstream", "api")], 2.0);
    let _third = occupied(&gateway, &origin, "/normal/never", 1);
    gateway
        .client()
        .get("/normal/x")
        .send()
        .refused(503, "overloaded");
}

#[test]
fn people_and_programs_are_told() {
    let origin = slow();
    let gateway = start(&origin, "max = 1, queue = 5, queue_timeout = \"10s\"");
    let _held = occupied(&gateway, &origin, "/normal/never", 1);
    let _waits = gateway.client().get("/critical/x").begin();
    gateway.wait_for_metric("gateway_upstream_queued", &[("upstream", "api")], 1.0);
    let upstreams = gateway.admin_get("/api/v1/upstreams").json();
    let places = &upstreams[0]["concurrency"];
    assert_eq!(
        (&places["limit"], &places["in_flight"], &places["queued"]),
        (&json!(1), &json!(1), &json!(1))
    );
    let status = gateway.run_cli(&["status"], &[]).expect(0);
    status.says("1 of 1 places taken (fixed), 1 of 5 waiting");
    let question = json!({ "method": "GET", "url": "/critical/x" });
    let explained = gateway.admin_post("/api/v1/explain", &question).json();
    let steps = explained["steps"].to_string();
    assert!(
        steps.contains("critical: would wait, 1 of 1 places taken, 1 waiting"),
        "{steps}"
    );
}
