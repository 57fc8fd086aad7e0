//! The end: nothing in flight is cut, and nothing idle is waited for.

use std::time::Instant;

use nix::sys::signal::Signal;

use super::HELLO;
use crate::harness::{
    Answer, Client, Gateway, Origin, eventually, holds_within, millis, seconds, wait_until_deaf,
};

fn slow(origin: &Origin, server: &str) -> Gateway {
    let text = format!(
        "[server]\n{server}\n{HELLO}[upstream.api]\nendpoints = [{{ address = \"{{origin}}\" }}]\n\
         [[route]]\nid = \"slow\"\npath = \"/slow\"\nupstream = \"api\"\n"
    );
    Gateway::with(&text).to(origin).start()
}

fn answering_after(n: u64) -> Origin {
    Origin::answering(move |_| Answer::text("late but whole").after(seconds(n)))
}

#[test]
fn sigterm_finishes_what_is_in_flight_and_then_ends() {
    let origin = answering_after(1);
    let gateway = slow(&origin, "grace_period = \"30s\"");
    let mut running: Vec<_> = (0..3)
        .map(|_| gateway.client().get("/slow").begin())
        .collect();
    eventually(seconds(5), "they arrived", || origin.count() == 3);
    let start = Instant::now();
    let mut times = Vec::new();
    let mut passed = |what: &str| times.push(format!("{what} {:?}", start.elapsed()));
    gateway.signal(Signal::SIGTERM);
    wait_until_deaf(gateway.listen(), seconds(5));
    passed("deaf");
    for connection in &mut running {
        let response = connection.response("GET").unwrap().expect(200);
        assert_eq!(response.text(), "late but whole");
        passed("answered");
        assert!(
            connection.closes_within(seconds(5)),
            "the connection ends with its last answer"
        );
        passed("closed");
    }
    assert!(gateway.wait_exit(seconds(10)).success());
    passed("ended");
    // Far from the grace period, however little time others leave this test.
    assert!(
        start.elapsed() < seconds(20),
        "not at grace_period but when idle: {times:?}"
    );
}

#[test]
fn an_idle_gateway_ends_at_once_although_clients_are_connected() {
    let origin = answering_after(1);
    let gateway = slow(&origin, "grace_period = \"30s\"");
    let mut idle: Vec<_> = (0..5).map(|_| gateway.client().connect()).collect();
    idle.iter_mut()
        .for_each(|c| drop(c.get("/hello").send().expect(200)));
    let _silent = gateway.client().connect();
    let start = Instant::now();
    gateway.signal(Signal::SIGTERM);
    assert!(gateway.wait_exit(seconds(5)).success());
    assert!(start.elapsed() < seconds(3), "{:?}", start.elapsed());
}

#[test]
fn grace_period_bounds_the_wait() {
    let origin = Origin::answering(|_| Answer::silence());
    let gateway = slow(&origin, "grace_period = \"1s\"");
    let _running = gateway.client().get("/slow").begin();
    eventually(seconds(5), "it arrived", || origin.count() == 1);
    let start = Instant::now();
    gateway.signal(Signal::SIGTERM);
    gateway.wait_exit(seconds(5));
    assert!(
        (millis(900)..seconds(4)).contains(&start.elapsed()),
        "{:?}",
        start.elapsed()
    );
}

#[test]
fn readiness_goes_first_and_accepting_later() {
    let origin = answering_after(1);
    let gateway = slow(&origin, "drain_delay = \"1500ms\"");
    let admin = gateway.admin();
    let start = Instant::now();
    gateway.signal(Signal::SIGTERM);
    eventually(seconds(1), "not ready", || {
        admin.get("/readyz").send().status == 503
    });
    let answer = admin.get("/readyz").send().json();
    assert_eq!(answer["reason"], "about to stop, still accepting");
    gateway
        .run_cli(&["status"], &[])
        .expect(0)
        .says("not ready (about to stop");
    admin.get("/livez").send().expect(200);
    // A balancer that has not looked yet still sends.
    gateway.client().get("/hello").send().expect(200);
    assert!(start.elapsed() < millis(1500));
    assert!(gateway.wait_exit(seconds(6)).success());
    assert!(start.elapsed() >= millis(1400), "{:?}", start.elapsed());
}

#[test]
fn readiness_says_no_while_draining() {
    let origin = answering_after(2);
    let gateway = slow(&origin, "grace_period = \"10s\"");
    let mut running = gateway.client().get("/slow").begin();
    eventually(seconds(5), "it arrived", || origin.count() == 1);
    gateway.signal(Signal::SIGTERM);
    let mut refused = false;
    holds_within(millis(1500), || {
        refused |= gateway
            .admin()
            .get("/readyz")
            .try_send()
            .is_ok_and(|r| r.status == 503 && r.json()["reason"] == "draining");
        refused
    });
    assert!(refused, "probes see the drain");
    running.response("GET").unwrap().expect(200);
}

#[test]
fn sigint_ends_at_once() {
    let origin = Origin::answering(|_| Answer::silence());
    let gateway = slow(&origin, "grace_period = \"30s\"\ndrain_delay = \"10s\"");
    let _running = gateway.client().get("/slow").begin();
    eventually(seconds(5), "it arrived", || origin.count() == 1);
    let start = Instant::now();
    gateway.signal(Signal::SIGINT);
    gateway.wait_exit(seconds(5));
    assert!(start.elapsed() < seconds(2), "{:?}", start.elapsed());
}

#[test]
fn a_second_sigterm_does_not_cut_what_is_in_flight() {
    let origin = answering_after(1);
    let gateway = slow(&origin, "grace_period = \"20s\"");
    let mut running = gateway.client().get("/slow").begin();
    eventually(seconds(5), "it arrived", || origin.count() == 1);
    gateway.signal(Signal::SIGTERM);
    gateway.signal(Signal::SIGHUP);
    gateway.signal(Signal::SIGTERM);
    running.response("GET").unwrap().expect(200);
    assert!(gateway.wait_exit(seconds(5)).success());
}

#[test]
fn the_last_access_lines_are_written_before_the_end() {
    let origin = answering_after(1);
    let gateway = slow(&origin, "grace_period = \"20s\"");
    let client: Client = gateway.client();
    for n in 0..200 {
        client
            .get("/hello")
            .header("X-Trace-ID", format!("line-{n}"))
            .send()
            .expect(200);
    }
    gateway.signal(Signal::SIGTERM);
    gateway.wait_exit(seconds(5));
    let written = gateway
        .log_lines()
        .iter()
        .filter(|l| l["msg"] == "request")
        .count();
    assert_eq!(written, 200);
}

#[test]
fn the_socket_and_the_pid_file_go_with_a_clean_stop() {
    let gateway = Gateway::with(HELLO).start();
    gateway.signal(Signal::SIGTERM);
    assert!(gateway.wait_exit(seconds(5)).success());
    assert!(!gateway.dir().join("run/admin.sock").exists());
}
