//! Active checks: out after `fall` failures, back after `rise` successes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

use super::{before, to};
use crate::harness::{Answer, Gateway, Origin, always, eventually, millis, seconds};

/// An origin that answers checks with `status` and everything else with an echo.
fn checked(name: &str) -> (Origin, Arc<AtomicU16>) {
    let status = Arc::new(AtomicU16::new(200));
    let answer = Arc::clone(&status);
    let origin = Origin::scripted(name, move |seen| match seen.target.as_str() {
        "/healthz" => Answer::status(answer.load(Ordering::SeqCst)),
        _ => Answer::echo(),
    });
    (origin, status)
}

fn healthy(gateway: &Gateway, origin: &Origin, expected: bool) {
    let labels = [
        ("upstream", "api"),
        ("endpoint", &origin.address().to_string() as &str),
    ];
    gateway.wait_for_metric(
        "gateway_endpoint_healthy",
        &labels,
        f64::from(u8::from(expected)),
    );
}

fn served_by(gateway: &Gateway, times: usize) -> Vec<String> {
    let mut connection = gateway.client().connect();
    let mut names: Vec<String> = (0..times)
        .map(|_| connection.get("/x").send().seen().origin)
        .collect();
    names.sort();
    names.dedup();
    names
}

const CHECK: &str = "[upstream.api.health]\npath = \"/healthz\"\ninterval = \"100ms\"\ntimeout = \"300ms\"\nrise = 2\nfall = 3\n";

#[test]
fn an_endpoint_that_fails_its_checks_is_left_out_until_it_passes_them() {
    let ((a, a_status), (b, _)) = (checked("a"), checked("b"));
    let gateway = before(&(to(&a) + &to(&b)), CHECK).start();
    assert_eq!(served_by(&gateway, 6), ["a", "b"]);
    a_status.store(503, Ordering::SeqCst);
    healthy(&gateway, &a, false);
    assert_eq!(served_by(&gateway, 6), ["b"]);
    a_status.store(204, Ordering::SeqCst);
    healthy(&gateway, &a, true);
    assert_eq!(served_by(&gateway, 6), ["a", "b"]);
}

#[test]
fn fewer_failures_than_fall_change_nothing() {
    let (b, _) = checked("b");
    // Two failures, then a success, over and over.
    let turn = AtomicU16::new(0);
    let a = Origin::scripted("a", move |seen| match seen.target.as_str() {
        "/healthz" if turn.fetch_add(1, Ordering::SeqCst) % 3 != 2 => Answer::status(500),
        "/healthz" => Answer::status(200),
        _ => Answer::echo(),
    });
    let gateway = before(&(to(&a) + &to(&b)), CHECK).start();
    let checks = || a.count_of(|s| s.target == "/healthz");
    eventually(seconds(10), "a was checked twelve times", || {
        assert_eq!(served_by(&gateway, 4), ["a", "b"]);
        checks() >= 12
    });
}

#[test]
fn only_expected_statuses_count_as_healthy() {
    let (a, status) = checked("a");
    let gateway = before(&to(&a), &format!("{CHECK}expect = [204, 302]\n")).start();
    status.store(204, Ordering::SeqCst);
    healthy(&gateway, &a, true);
    status.store(200, Ordering::SeqCst);
    healthy(&gateway, &a, false);
    status.store(302, Ordering::SeqCst);
    healthy(&gateway, &a, true);
}

#[test]
fn a_check_that_is_not_answered_in_time_has_failed() {
    let a = Origin::scripted("a", |seen| match seen.target.as_str() {
        "/healthz" => Answer::silence(),
        _ => Answer::echo(),
    });
    let (b, _) = checked("b");
    let gateway = before(&(to(&a) + &to(&b)), CHECK).start();
    healthy(&gateway, &a, false);
    assert_eq!(served_by(&gateway, 4), ["b"]);
}

#[test]
fn without_a_path_a_connection_is_enough() {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let check =
        "[upstream.api.health]\ninterval = \"100ms\"\ntimeout = \"300ms\"\nrise = 2\nfall = 2\n";
    let gateway = before(&(to(&a) + &to(&b)), check).start();
    b.kill();
    healthy(&gateway, &b, false);
    assert_eq!(served_by(&gateway, 4), ["a"]);
    b.revive();
    healthy(&gateway, &b, true);
    assert_eq!(served_by(&gateway, 4), ["a", "b"]);
    assert_eq!(
        b.count_of(|s| s.target != "/x"),
        0,
        "a TCP check sends nothing"
    );
}

#[test]
fn without_any_healthy_endpoint_the_answer_is_503_at_once() {
    let (a, status) = checked("a");
    let gateway = before(&to(&a), CHECK).start();
    gateway.client().get("/x").send().expect(200);
    status.store(500, Ordering::SeqCst);
    healthy(&gateway, &a, false);
    let refused = gateway
        .client()
        .get("/x")
        .send()
        .refused(503, "no_endpoint");
    assert!(refused.number("retry-after") >= 1);
    assert_eq!(a.count_of(|s| s.target == "/x"), 1);
    status.store(200, Ordering::SeqCst);
    healthy(&gateway, &a, true);
    gateway.client().get("/x").send().expect(200);
}

#[test]
fn what_checks_found_outlives_a_reload() {
    let ((a, status), (b, _)) = (checked("a"), checked("b"));
    // A check that takes long to come round again.
    let check = CHECK
        .replace("100ms", "400ms")
        .replace("fall = 3", "fall = 1");
    let gateway = before(&(to(&a) + &to(&b)), &check).start();
    status.store(500, Ordering::SeqCst);
    healthy(&gateway, &a, false);
    gateway.reload_ok();
    assert_eq!(served_by(&gateway, 6), ["b"]);
}

#[test]
fn checks_end_with_their_upstream() {
    let (a, _) = checked("a");
    let gateway = before(&to(&a), CHECK).start();
    eventually(seconds(5), "checks run", || a.count() > 2);
    gateway.rewrite("[[route]]\nid = \"r\"\npath = \"/\"\nrespond = { status = 200 }\n");
    gateway.reload_ok();
    eventually(seconds(5), "the last check is over", || {
        let before = a.count();
        std::thread::sleep(millis(350));
        a.count() == before
    });
}

#[test]
fn repeated_reloads_do_not_multiply_the_checks() {
    let (a, _) = checked("a");
    let gateway = before(&to(&a), CHECK).start();
    for _ in 0..10 {
        gateway.reload_ok();
    }
    let before = a.count();
    always(millis(1000), "one check each 100 ms", || {
        a.count() - before <= 15
    });
    assert!(a.count() - before >= 4);
}

#[test]
fn an_operator_may_drain_an_endpoint_and_put_it_back() {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let gateway = before(&(to(&a) + &to(&b)), "").start();
    let endpoint = format!("/api/v1/upstreams/api/endpoints/{}", a.address());
    let nothing = serde_json::json!({});
    let drained = gateway.admin_post(&format!("{endpoint}/drain"), &nothing);
    assert!((200..300).contains(&drained.status), "{drained:?}");
    assert_eq!(served_by(&gateway, 6), ["b"]);
    let enabled = gateway.admin_post(&format!("{endpoint}/enable"), &nothing);
    assert!((200..300).contains(&enabled.status), "{enabled:?}");
    assert_eq!(served_by(&gateway, 6), ["a", "b"]);
    for unknown in [
        "/api/v1/upstreams/nobody/endpoints/127.0.0.1:1/drain",
        "/api/v1/upstreams/api/endpoints/127.0.0.1:1/drain",
    ] {
        assert_eq!(
            gateway.admin_post(unknown, &nothing).status,
            404,
            "{unknown}"
        );
    }
}

#[test]
fn below_min_healthy_every_endpoint_is_tried() {
    let ((a, a_status), (b, b_status)) = (checked("a"), checked("b"));
    let panic = "[upstream.api.passive]\nmin_healthy = \"60%\"\n";
    let gateway = before(&(to(&a) + &to(&b)), &format!("{CHECK}{panic}")).start();
    a_status.store(500, Ordering::SeqCst);
    healthy(&gateway, &a, false);
    assert_eq!(served_by(&gateway, 6), ["a", "b"], "half is less than 60 %");
    b_status.store(500, Ordering::SeqCst);
    healthy(&gateway, &b, false);
    assert_eq!(served_by(&gateway, 6), ["a", "b"]);
}
