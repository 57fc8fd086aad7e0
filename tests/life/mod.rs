//! Start, reload, stop: what a process promises.

mod loss;
mod manager;
mod outage;
mod parting;
mod reload;
mod stop;
mod trial;
mod upgrade;

use nix::sys::signal::Signal;

use crate::harness::{Gateway, Ran, eventually, listen, reserve, seconds};

const HELLO: &str =
    "[[route]]\nid = \"hello\"\npath = \"/hello\"\nrespond = { status = 200, text = \"hello\" }\n";

#[test]
fn a_listener_that_cannot_bind_ends_the_start_with_a_message() {
    let taken = listen(reserve());
    let address = taken.local_addr().unwrap().to_string();
    let free = reserve().to_string();
    let text = format!(
        "{HELLO}[[listener]]\nname = \"free\"\naddress = \"{free}\"\n[[listener]]\nname = \"taken\"\naddress = \"{address}\"\n"
    );
    Gateway::with(&text)
        .fails_to_start()
        .expect(1)
        .says(&address);
}

#[test]
fn an_admin_listener_that_cannot_bind_ends_the_start_too() {
    let taken = listen(reserve());
    let address = taken.local_addr().unwrap().to_string();
    Gateway::with(&format!("{HELLO}[admin]\naddress = \"{address}\"\n"))
        .fails_to_start()
        .expect(1)
        .says(&address);
}

#[test]
fn a_second_gateway_does_not_take_the_runtime_directory_of_a_living_one() {
    let first = Gateway::with(HELLO).start();
    let text = format!(
        "[server]\nruntime_dir = \"{}\"\n{HELLO}",
        first.dir().join("run").display()
    );
    Gateway::with(&text).fails_to_start().expect(1).says("run");
    first.admin().get("/readyz").send().expect(200);
    assert_eq!(first.over_socket("GET", "/readyz", b"").unwrap().0, 200);
}

#[test]
fn a_runtime_directory_that_others_can_write_to_is_refused() {
    use std::os::unix::fs::PermissionsExt;
    let elsewhere = Gateway::with(HELLO).start();
    let open = elsewhere.dir().join("open");
    std::fs::create_dir(&open).expect("directory");
    std::fs::set_permissions(&open, std::fs::Permissions::from_mode(0o777)).expect("mode");
    let text = format!("[server]\nruntime_dir = \"{}\"\n{HELLO}", open.display());
    Gateway::with(&text)
        .fails_to_start()
        .expect(1)
        .says("runtime_dir")
        .says("777");
}

#[test]
fn what_a_killed_gateway_left_behind_is_no_obstacle() {
    let first = Gateway::with(HELLO).start();
    first.signal(Signal::SIGKILL);
    first.wait_exit(seconds(5));
    assert!(first.dir().join("run/admin.sock").exists());
    let text = format!(
        "[server]\nruntime_dir = \"{}\"\n{HELLO}",
        first.dir().join("run").display()
    );
    let second = Gateway::with(&text).start();
    second.client().get("/hello").send().expect(200);
}

#[test]
fn the_log_says_that_it_started() {
    let gateway = Gateway::with(HELLO).start();
    let line = gateway.wait_for_log(|line| {
        line["level"] == "info" && line["msg"].as_str().is_some_and(|m| m.contains("start"))
    });
    assert!(line["timestamp"].is_string(), "{line}");
}

#[test]
fn several_listeners_serve_the_same_routes() {
    let (one, two) = (reserve(), reserve());
    let text = format!(
        "{HELLO}[[listener]]\nname = \"one\"\naddress = \"{one}\"\n[[listener]]\nname = \"two\"\naddress = \"{two}\"\n"
    );
    let gateway = Gateway::with(&text).start();
    for address in [one, two] {
        crate::harness::Client::to(address)
            .get("/hello")
            .send()
            .expect(200);
    }
    drop(gateway);
}

#[test]
fn idle_connections_are_cheap_and_given_back() {
    let gateway = Gateway::with(HELLO).start();
    gateway.client().get("/hello").send().expect(200);
    let (fds, rss, threads) = (gateway.fds(), gateway.rss(), gateway.threads());
    let mut connections: Vec<_> = (0..500).map(|_| gateway.client().connect()).collect();
    connections
        .iter_mut()
        .for_each(|c| drop(c.get("/hello").send().expect(200)));
    assert!(gateway.fds() >= fds + 490, "{fds} became {}", gateway.fds());
    assert!(
        gateway.rss() < rss + 500 * 24,
        "{} KiB for 500 connections",
        gateway.rss() - rss
    );
    assert_eq!(gateway.threads(), threads);
    drop(connections);
    eventually(seconds(5), "the descriptors are back", || {
        gateway.fds() <= fds + 2
    });
}

#[test]
fn the_verb_run_is_the_default() {
    let mut command = crate::harness::tollgate();
    let ran = Ran::of(command.args(["-c", "/nowhere/tollgate.toml"]));
    ran.expect(1).says("/nowhere/tollgate.toml");
}
