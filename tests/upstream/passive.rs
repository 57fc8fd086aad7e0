//! What live traffic tells about endpoints.

use super::{before, endpoint, to};
use crate::harness::{Gateway, Origin, eventually, reserve, seconds};

fn passive(max_fails: u32, fail_timeout: &str) -> String {
    format!("[upstream.api.passive]\nmax_fails = {max_fails}\nfail_timeout = \"{fail_timeout}\"\n")
}

/// Second tries are counted when their request is over, which its client may know before.
fn connect_failures(gateway: &Gateway, expected: f64) {
    gateway.wait_for_metric(
        "gateway_upstream_retries_total",
        &[("upstream", "api"), ("cause", "connect")],
        expected,
    );
}

fn healthy(gateway: &Gateway, endpoint: &str, expected: f64) {
    gateway.wait_for_metric(
        "gateway_endpoint_healthy",
        &[("upstream", "api"), ("endpoint", endpoint)],
        expected,
    );
}

#[test]
fn max_fails_failures_put_an_endpoint_out() {
    let a = Origin::named("a");
    let dead = reserve();
    let gateway = before(&(to(&a) + &endpoint(dead, "")), &passive(3, "60s")).start();
    let mut connection = gateway.client().connect();
    for _ in 0..40 {
        connection.get("/").send().expect(200);
    }
    healthy(&gateway, &dead.to_string(), 0.0);
    connect_failures(&gateway, 3.0);
}

#[test]
fn an_endpoint_comes_back_after_fail_timeout() {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let gateway = before(&(to(&a) + &to(&b)), &passive(1, "700ms")).start();
    b.kill();
    for _ in 0..6 {
        gateway.client().get("/").send().expect(200);
    }
    healthy(&gateway, &b.address().to_string(), 0.0);
    b.revive();
    eventually(seconds(5), "b serves again", || {
        gateway.client().get("/").send().seen().origin == "b"
    });
    healthy(&gateway, &b.address().to_string(), 1.0);
}

#[test]
fn max_fails_zero_never_ejects() {
    let a = Origin::named("a");
    let dead = reserve();
    let gateway = before(&(to(&a) + &endpoint(dead, "")), &passive(0, "60s")).start();
    let mut connection = gateway.client().connect();
    for _ in 0..10 {
        connection.get("/").send().expect(200);
    }
    // A second try takes no turn, so the turns still alternate and only every second request meets the dead one.
    connect_failures(&gateway, 5.0);
    healthy(&gateway, &dead.to_string(), 1.0);
}

#[test]
fn the_last_usable_endpoint_is_never_put_out() {
    let dead = reserve();
    let gateway = before(&endpoint(dead, ""), &passive(1, "60s")).start();
    for _ in 0..6 {
        gateway
            .client()
            .get("/")
            .send()
            .refused(502, "upstream_connect");
    }
    let back = Origin::named("back");
    let gateway = before(&to(&back), &passive(1, "60s")).start();
    back.kill();
    gateway
        .client()
        .get("/")
        .send()
        .refused(502, "upstream_connect");
    back.revive();
    gateway.client().get("/").send().expect(200);
}

#[test]
fn a_good_active_check_ends_the_ejection() {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let check = "[upstream.api.health]\ninterval = \"200ms\"\nrise = 1\nfall = 100\n";
    let gateway = before(
        &(to(&a) + &to(&b)),
        &format!("{}{check}", passive(1, "300s")),
    )
    .start();
    b.kill();
    for _ in 0..4 {
        gateway.client().get("/").send().expect(200);
    }
    healthy(&gateway, &b.address().to_string(), 0.0);
    b.revive();
    eventually(seconds(5), "b serves again", || {
        gateway.client().get("/").send().seen().origin == "b"
    });
}

#[test]
fn a_client_that_gives_up_is_not_the_endpoints_fault() {
    let (a, b) = (
        Origin::scripted("a", |seen| match seen.target.as_str() {
            "/slow" => crate::harness::Answer::silence(),
            _ => crate::harness::Answer::echo(),
        }),
        Origin::named("b"),
    );
    let gateway = before(&(to(&a) + &to(&b)), &passive(1, "60s")).start();
    for _ in 0..10 {
        let arrived = a.count() + b.count();
        let connection = gateway.client().get("/slow").begin();
        eventually(seconds(5), "it arrived", || a.count() + b.count() > arrived);
        connection.abort();
    }
    let mut names: Vec<String> = (0..6)
        .map(|_| gateway.client().get("/").send().seen().origin)
        .collect();
    names.sort();
    assert_eq!(names, ["a", "a", "a", "b", "b", "b"]);
}

#[test]
fn a_client_that_stalls_in_its_body_is_not_the_endpoints_fault() {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let text = format!(
        "{}[upstream.api.timeout]\nread = \"300ms\"\n",
        passive(1, "60s")
    );
    let gateway = before(&(to(&a) + &to(&b)), &text)
        .append("[server.client]\nbody_timeout = \"1s\"\n")
        .start();
    for _ in 0..2 {
        let mut stalled = gateway.client().connect();
        stalled
            .write("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nhalf")
            .unwrap();
        stalled
            .response("POST")
            .unwrap()
            .refused(408, "request_timeout");
    }
    for origin in [&a, &b] {
        healthy(&gateway, &origin.address().to_string(), 1.0);
    }
}
