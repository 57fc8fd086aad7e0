//! The gateway's own door: so many requests at once, and of those so many of each class.

use serde_json::json;

use super::{classes, slow};
use crate::harness::{Connection, Gateway, Origin, eventually, fragment, seconds};

fn ten_at_once(origin: &Origin) -> Gateway {
    classes("", "[server.overload]\nmax_in_flight = 10\n")
        .to(origin)
        .start()
}

fn hold(gateway: &Gateway, origin: &Origin, count: usize) -> Vec<Connection> {
    let before = origin.count();
    let holders = (0..count).map(|_| gateway.client().get("/critical/never").begin());
    let holders = holders.collect();
    eventually(seconds(5), "they arrived", || {
        origin.count() == before + count
    });
    holders
}

/// Statuses of one more request of each class, beside those that are `held`. An answer may arrive a moment before its
/// request is over.
fn one_of_each(gateway: &Gateway, held: usize) -> [u16; 3] {
    ["critical", "normal", "sheddable"].map(|class| {
        eventually(seconds(5), "the others are over", || {
            gateway.info()["overload"]["in_flight"] == held
        });
        gateway.client().get(&format!("/{class}/x")).send().status
    })
}

#[test]
fn each_class_may_use_a_larger_share_than_the_one_below() {
    let origin = slow();
    let gateway = ten_at_once(&origin);
    let mut held = hold(&gateway, &origin, 5);
    assert_eq!(one_of_each(&gateway, 5), [200, 200, 200]);
    held.extend(hold(&gateway, &origin, 1));
    assert_eq!(one_of_each(&gateway, 6), [200, 200, 503]);
    held.extend(hold(&gateway, &origin, 1));
    assert_eq!(one_of_each(&gateway, 7), [200, 200, 503]);
    held.extend(hold(&gateway, &origin, 1));
    assert_eq!(one_of_each(&gateway, 8), [200, 503, 503]);
    held.extend(hold(&gateway, &origin, 2));
    assert_eq!(one_of_each(&gateway, 10), [503, 503, 503]);
    let refused = gateway.client().get("/critical/x").send();
    let wait = refused.refused(503, "overloaded").number("retry-after");
    assert!((1..=3).contains(&wait), "{wait}");
    gateway.client().get("/own").send().expect(200);
    let cause = [
        ("class", "sheddable"),
        ("cause", "max_in_flight"),
        ("upstream", ""),
    ];
    assert_eq!(gateway.metric("gateway_shed_total", &cause), 4.0);
    drop(held);
    eventually(seconds(5), "all may come again", || {
        one_of_each(&gateway, 0) == [200; 3]
    });
}

#[test]
fn what_is_refused_and_when_it_is_over_is_told_once() {
    let origin = slow();
    let gateway = ten_at_once(&origin);
    let held = hold(&gateway, &origin, 8);
    let question = json!({ "method": "GET", "url": "/normal/x" });
    let explained = gateway.admin_post("/api/v1/explain", &question).json();
    assert_eq!(explained["decision"], "overloaded", "{explained}");
    assert!(
        explained["steps"]
            .to_string()
            .contains("normal: refused now, by max_in_flight"),
        "{explained}"
    );
    eventually(seconds(5), "the level shows", || {
        assert_eq!(one_of_each(&gateway, 8), [200, 503, 503]);
        gateway.metric("gateway_overload_level", &[]) == 2.0
    });
    assert_eq!(gateway.info()["overload"]["refused_now"], "normal");
    gateway
        .run_cli(&["status"], &[])
        .expect(0)
        .says("OVERLOADED: requests down from class normal are refused");
    drop(held);
    gateway.wait_for_log(|line| {
        let text = line["msg"].as_str().unwrap_or_default();
        text.starts_with("no longer overloaded")
    });
    assert_eq!(gateway.metric("gateway_overload_level", &[]), 0.0);
    let lines = gateway.log_lines();
    let told = |start: &str| {
        let lines = lines.iter().filter_map(|line| line["msg"].as_str());
        lines.filter(|text| text.starts_with(start)).count()
    };
    assert_eq!((told("overloaded:"), told("no longer overloaded")), (1, 1));
}

#[test]
fn an_open_websocket_does_not_count() {
    let origin = slow();
    let gateway = classes("", "[server.overload]\nmax_in_flight = 1\n")
        .to(&origin)
        .start();
    let mut socket = gateway.client().connect();
    let opened = socket
        .get("/critical/socket")
        .header("Connection", "Upgrade")
        .header("Upgrade", "websocket")
        .send();
    opened.expect(101);
    gateway.client().get("/critical/x").send().expect(200);
    socket.write("ping").unwrap();
    assert_eq!(socket.bytes(4).unwrap(), b"ping");
}

#[test]
fn a_refused_request_used_up_no_quota() {
    let origin = slow();
    let gateway = Gateway::with(
        r#"
        [server.overload]
        max_in_flight = 1
        [limit.few]
        key = "client_ip"
        algorithm = "token_bucket"
        rate = "1/h"
        burst = 2
        [[route]]
        id = "limited"
        path = "/limited"
        limits = ["few"]
        upstream = "api"
        [[route]]
        id = "open"
        path = "/**"
        upstream = "api"
        "#,
    )
    .append(&fragment::upstream("api"))
    .to(&origin)
    .start();
    let held = gateway.client().get("/never").begin();
    eventually(seconds(5), "it arrived", || origin.count() == 1);
    for _ in 0..5 {
        gateway
            .client()
            .get("/limited")
            .send()
            .refused(503, "overloaded");
    }
    drop(held);
    let gone = || {
        eventually(seconds(5), "nothing is in flight", || {
            gateway.info()["overload"]["in_flight"] == 0
        });
    };
    for _ in 0..2 {
        gone();
        gateway.client().get("/limited").send().expect(200);
    }
    gone();
    gateway
        .client()
        .get("/limited")
        .send()
        .refused(429, "rate_limited");
}
