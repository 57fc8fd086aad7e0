//! Idle connections end so that a request which comes late is answered, or at least costs no answer that came before.

use std::io::Read;
use std::time::Instant;

use nix::sys::signal::Signal;

use super::HELLO;
use crate::harness::{Connection, Gateway, eventually, millis, seconds};

fn upgraded(server: &str) -> (Gateway, Connection) {
    let gateway = Gateway::with(&format!("[server]\n{server}\n{HELLO}"))
        .own_program()
        .start();
    let mut connection = gateway.client().connect();
    connection.get("/hello").send().expect(200);
    gateway.upgrade().expect(0);
    (gateway, connection)
}

#[test]
fn a_replaced_process_answers_a_client_that_was_silent_for_long() {
    let (gateway, mut connection) = upgraded("grace_period = \"30s\"");
    std::thread::sleep(millis(6500));
    let answer = connection.get("/hello").send().expect(200);
    assert_eq!(answer.header("connection"), Some("close"));
    assert!(connection.closes_within(seconds(2)));
    gateway.wait_exit(seconds(5));
}

#[test]
fn it_ends_what_is_silent_when_its_time_is_over() {
    for server in [
        "grace_period = \"3s\"",
        "grace_period = \"30s\"\nclient = { keepalive_timeout = \"2s\" }",
    ] {
        // Counted from before the upgrade, which may take a while on a busy machine.
        let begun = Instant::now();
        let (gateway, connection) = upgraded(server);
        let start = Instant::now();
        let stream = connection.writer();
        connection.patience(seconds(10));
        assert_eq!((&*stream).read(&mut [0]).unwrap(), 0, "an end, no reset");
        let (took, since) = (start.elapsed(), begun.elapsed());
        assert!(
            took < millis(4000) && since > millis(1900),
            "{took:?}, {since:?}"
        );
        gateway.wait_exit(seconds(3));
    }
}

#[test]
fn a_request_that_crosses_the_end_gets_no_reset() {
    let gateway = Gateway::with(HELLO).start();
    let mut connection = gateway.client().connect();
    connection.get("/hello").send().expect(200);
    let stream = connection.writer();
    gateway.signal(Signal::SIGTERM);
    assert_eq!((&*stream).read(&mut [0]).unwrap(), 0);
    // As if it had been under way when the end came: a reset would take along what its client has not read yet.
    connection
        .write("GET /hello HTTP/1.1\r\nHost: a\r\n\r\n")
        .unwrap();
    std::thread::sleep(millis(50));
    connection
        .write("\r\n")
        .expect("the first write met no reset");
    drop(connection);
    drop(stream);
    assert!(gateway.wait_exit(seconds(5)).success());
}

#[test]
fn what_came_while_nobody_looked_is_answered() {
    let text = format!("{HELLO}[server.client]\nkeepalive_timeout = \"1s\"\n");
    let gateway = Gateway::with(&text).start();
    for last in [None, Some(Signal::SIGTERM)] {
        let mut connection = gateway.client().connect();
        connection.get("/hello").send().expect(200);
        gateway.signal(Signal::SIGSTOP);
        let stopped = || {
            let stat = std::fs::read_to_string(format!("/proc/{}/stat", gateway.pid())).unwrap();
            stat.rsplit(") ").next().unwrap().starts_with('T')
        };
        eventually(seconds(5), "it stands still", stopped);
        connection
            .write("GET /hello HTTP/1.1\r\nHost: a\r\n\r\n")
            .unwrap();
        // Its time is over before anybody could look.
        std::thread::sleep(millis(1200));
        if let Some(signal) = last {
            gateway.signal(signal);
        }
        gateway.signal(Signal::SIGCONT);
        connection.response("GET").unwrap().expect(200);
    }
    assert!(gateway.wait_exit(seconds(5)).success());
}
