//! More clients than the process may open files for.

use crate::harness::{Answer, Client, Connection, Gateway, Origin, eventually, millis, seconds};

const SHORT: &str = r#"
[server]
threads = 2
[server.client]
max_connections_per_ip = 10000
[upstream.o]
endpoints = [{ address = "{origin}" }, { address = "{second}" }]
[[route]]
path = "/here"
respond = { text = "fine" }
[[route]]
path = "/**"
upstream = "o"
"#;

fn turned_away(gateway: &Gateway) -> f64 {
    let labels = [("listener", "public"), ("reason", "descriptors")];
    gateway.metric("gateway_connections_refused_total", &labels)
}

/// As many connections as ask for it, those the gateway closes at once included.
fn flood(client: &Client, size: usize) -> Vec<Connection> {
    (0..size)
        .filter_map(|_| client.try_connect().ok())
        .collect()
}

#[test]
fn connections_are_kept_below_the_files_that_may_be_open() {
    let (origin, second) = (Origin::start(), Origin::start());
    let gateway = Gateway::with(SHORT)
        .to(&origin)
        .fill("second", second.address())
        .open_files(300)
        .start();
    gateway.wait_for_log(|line| {
        let said = line["msg"].as_str().unwrap_or_default();
        said.starts_with("at most 240 connections are taken, not the 100000")
    });
    let mut old = gateway.client().connect();
    old.get("/here").send().expect(200);
    let mut held = flood(&gateway.client(), 300);
    eventually(seconds(5), "the rest is turned away", || {
        turned_away(&gateway) >= 61.0
    });
    // What is left is for everything else: the upstream is reached, the admin side answers.
    old.get("/x").send().expect(200);
    let served = held
        .iter_mut()
        .filter_map(|connection| connection.get("/here").try_send().ok())
        .count();
    assert_eq!(served, 239);
    drop(held);
    eventually(seconds(5), "served again", || {
        let answer = gateway.client().get("/x").try_send();
        answer.is_ok_and(|answer| answer.status == 200)
    });
    old.get("/here").send().expect(200);
}

#[test]
fn running_out_of_descriptors_ends_no_accepting_and_spins_no_loop() {
    let [origin, second] = [(), ()].map(|()| {
        Origin::answering(|seen| match seen.target.as_str() {
            "/slow" => Answer::silence(),
            _ => Answer::text("fine"),
        })
    });
    let gateway = Gateway::with(SHORT)
        .to(&origin)
        .fill("second", second.address())
        .open_files(150)
        .start();
    let mut old = gateway.client().connect();
    old.get("/here").send().expect(200);
    let before = gateway.fds();
    // Each takes a descriptor here and one towards the upstream, which is more than there are.
    let mut held = Vec::new();
    for _ in 0..110 {
        held.push(gateway.client().get("/slow").begin());
    }
    eventually(seconds(5), "some are turned away", || {
        // Nothing can be asked over a new connection now, and the old one is served as ever.
        old.get("/here").send().expect(200);
        gateway.fds() >= 149
    });
    held.extend(flood(&gateway.client(), 50));
    let used = gateway.cpu();
    for _ in 0..10 {
        std::thread::sleep(millis(50));
        old.get("/here").send().expect(200);
    }
    let used = gateway.cpu() - used;
    assert!(used < millis(250), "{used:?} of processor time in 500 ms");
    // Endpoints are not to blame for it, and none is put aside.
    eventually(seconds(5), "an upstream cannot be reached", || {
        let answer = old.get("/x").send();
        answer.code().as_deref() == Some("overloaded")
    });
    drop(held);
    eventually(seconds(10), "served again", || {
        let answer = gateway.client().get("/x").try_send();
        answer.is_ok_and(|answer| answer.status == 200)
    });
    eventually(seconds(10), "the descriptors are back", || {
        gateway.fds() <= before + 4
    });
    gateway.wait_for_metric("gateway_endpoint_healthy", &[("upstream", "o")], 2.0);
    assert!(!gateway.stdout().contains("endpoint put aside"));
    assert!(turned_away(&gateway) > 0.0);
    gateway.wait_for_log(|line| {
        let said = line["msg"].as_str().unwrap_or_default();
        said.starts_with("no descriptor left for a connection")
    });
    old.get("/here").send().expect(200);
}
