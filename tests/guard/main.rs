//! What a request costs must not grow unseen.
//!
//! Requests go through the real binary with everything on (token, limit, metrics, trace headers, log to a file) under
//! callgrind, which counts instructions and calls exactly: those of a plain proxy, of a client that speaks HTTP/2 over TLS,
//! of upstreams over TLS and HTTP/2, of long answers, and of refusals. More than five in a hundred over the recorded
//! figures is a failure. Where the growth is meant: `TOLLGATE_GUARD=record cargo test --test guard`, and say why in the commit.
//!
//! Instructions depend on the compiler, so they are compared only where it is the one of the record; allocations and calls
//! of sockets always.

mod callgrind;
mod clients;
mod gateway;
mod origins;

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use self::callgrind::{CONNECTION, Cost, STREAM, UPSTREAM};
use self::clients::{Http1, Http2};
use self::gateway::Counted;
use self::origins::Origins;

/// What may be over the record.
const SLACK: f64 = 1.05;
const RECORD: &str = "tests/guard.record";

/// A kind of request, and what one of it costs.
type Row = (&'static str, Cost);

#[test]
fn a_request_costs_no_more_than_recorded() {
    let rows = measured();
    let compiler = compiler();
    let record = Path::new(env!("CARGO_MANIFEST_DIR")).join(RECORD);
    if std::env::var_os("TOLLGATE_GUARD").is_some_and(|wanted| wanted == "record") {
        std::fs::write(&record, recorded(&compiler, &rows)).expect("the record");
        return;
    }
    let known: toml::Table = std::fs::read_to_string(&record)
        .expect("the record")
        .parse()
        .expect("TOML");
    let same_compiler = known["compiler"].as_str() == Some(&compiler);
    let mut grown = String::new();
    let mut outdated = String::new();
    for (row, cost) in &rows {
        for (what, now) in cost.figures() {
            let before = number(&known[*row][what]);
            if now > before * SLACK && (same_compiler || what != "instructions") {
                let _ = write!(grown, "{row}: {now:.1} {what}, recorded {before:.1}; ");
            }
        }
        // A record far above what is true guards nothing.
        if cost.allocations < number(&known[*row]["allocations"]) / 1.25 {
            let _ = write!(outdated, "{row}: {cost:?}; ");
        }
    }
    assert!(
        grown.is_empty(),
        "a request costs {grown}if that is meant: TOLLGATE_GUARD=record cargo test --test guard"
    );
    assert!(outdated.is_empty(), "{outdated}the record is out of date");
}

fn number(value: &toml::Value) -> f64 {
    value
        .as_float()
        .or(value.as_integer().map(|n| n as f64))
        .expect("a number")
}

fn recorded(compiler: &str, rows: &[Row]) -> String {
    let mut text = format!("compiler = {compiler:?}\n");
    for (row, cost) in rows {
        let _ = write!(
            text,
            "\n[{row}]\ninstructions = {:.0}\nallocations = {:.1}\nsocket_calls = {:.1}\n",
            cost.instructions, cost.allocations, cost.socket_calls
        );
    }
    text
}

fn compiler() -> String {
    let told = Command::new(std::env::var("RUSTC").unwrap_or_else(|_| "rustc".to_owned()))
        .arg("--version")
        .output()
        .expect("rustc");
    String::from_utf8_lossy(&told.stdout).trim().to_owned()
}

/// Two gateways, side by side: one that serves, and one that is full.
fn measured() -> Vec<Row> {
    let origins = Origins::start();
    std::thread::scope(|scope| {
        let full = scope.spawn(|| full(&origins));
        let mut rows = serving(&origins);
        rows.push(full.join().expect("what is shed is counted"));
        rows
    })
}

fn serving(origins: &Origins) -> Vec<Row> {
    let directory = tempfile::tempdir().expect("a directory");
    let mut counted = Counted::start(directory.path(), origins, "");
    let token = gateway::token();
    let plain = Http1::connect(counted.listen);
    let mut rows = Vec::new();
    for (row, requests, tasks, path) in [
        ("plain", 1000, &[CONNECTION][..], "/orders/7"),
        ("tls_upstream", 300, &[CONNECTION], "/tls/7"),
        ("http2_upstream", 300, &[CONNECTION, UPSTREAM], "/http2/7"),
        ("large", 200, &[CONNECTION], "/large"),
    ] {
        let request = clients::request(path, Some(&token));
        let cost = counted.cost(requests, tasks, || plain.ask(&request, 200));
        rows.push((row, cost));
    }
    let request = clients::request("/orders/7", None);
    let refused = counted.cost(300, &[CONNECTION], || plain.ask(&request, 401));
    rows.push(("refused", refused));
    let http2 = Http2::connect(counted.secure, origins.authority());
    let cost = counted.cost(300, &[CONNECTION, STREAM], || {
        http2.ask("/orders/7", &token);
    });
    rows.insert(1, ("http2", cost));
    rows
}

/// A gateway with as many requests in flight as it takes of this class: the next ones are shed.
fn full(origins: &Origins) -> Row {
    const MOST: usize = 10;
    let directory = tempfile::tempdir().expect("a directory");
    let overload = format!("[server.overload]\nmax_in_flight = {MOST}");
    let mut counted = Counted::start(directory.path(), origins, &overload);
    let token = gateway::token();
    let request = clients::request("/never", Some(&token));
    let held: Vec<Http1> = (0..MOST)
        .map(|_| {
            let client = Http1::connect(counted.listen);
            client.send(&request);
            client
        })
        .collect();
    let plain = Http1::connect(counted.listen);
    let request = clients::request("/orders/7", Some(&token));
    plain.ask_until(&request, 503);
    let cost = counted.cost(300, &[CONNECTION], || plain.ask(&request, 503));
    drop(held);
    ("shed", cost)
}
