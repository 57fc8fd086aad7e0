//! Who is slow on purpose.

use std::time::{Duration, Instant};

use super::strict;
use crate::harness::{Connection, Gateway, Origin, Outcome, eventually, millis, seconds};

/// Sends `bytes` one at a time with `pause` between, until the gateway has had enough.
fn trickle(connection: &mut Connection, bytes: &[u8], pause: Duration) {
    for byte in bytes {
        if connection.write([*byte]).is_err() {
            return;
        }
        std::thread::sleep(pause);
    }
}

/// 408 or nothing, and the end of the connection.
#[track_caller]
fn timed_out(connection: &mut Connection) {
    match connection.outcome("GET") {
        Outcome::Answered(response) => {
            response.refused(408, "request_timeout");
            assert!(connection.closes_within(seconds(2)));
        }
        Outcome::Closed => panic!("closed without a word"),
        Outcome::Silent => panic!("still open"),
    }
}

const HEAD: &[u8] = b"GET /x HTTP/1.1\r\nHost: a\r\nX-Padding: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

fn slow_head_ends(gateway: &Gateway, connection: &mut Connection) {
    let start = Instant::now();
    // Each read succeeds in time; the total does not.
    trickle(connection, &HEAD[..24], millis(60));
    timed_out(connection);
    let took = start.elapsed();
    assert!((millis(700)..seconds(3)).contains(&took), "{took:?}");
    gateway.client().get("/static").send().expect(200);
}

#[test]
fn a_slow_head_is_cut_at_a_total_time() {
    let origin = Origin::start();
    let gateway = strict(&origin, "header_timeout = \"800ms\"");
    slow_head_ends(&gateway, &mut gateway.client().connect());
    assert_eq!(origin.count(), 0);
}

#[test]
fn a_slow_second_head_is_cut_as_well() {
    let origin = Origin::start();
    let gateway = strict(&origin, "header_timeout = \"800ms\"");
    for target in ["/x", "/static"] {
        let mut connection = gateway.client().connect();
        connection.get(target).send().expect(200);
        slow_head_ends(&gateway, &mut connection);
    }
}

#[test]
fn a_head_that_stops_is_cut_at_the_same_time() {
    let origin = Origin::start();
    let gateway = strict(&origin, "header_timeout = \"500ms\"");
    let mut connection = gateway.client().connect();
    connection.write(&HEAD[..20]).unwrap();
    let start = Instant::now();
    timed_out(&mut connection);
    assert!(
        (millis(400)..seconds(2)).contains(&start.elapsed()),
        "{:?}",
        start.elapsed()
    );
}

#[test]
fn a_head_in_pieces_is_welcome_within_the_time() {
    let origin = Origin::start();
    let gateway = strict(&origin, "header_timeout = \"5s\"");
    let mut connection = gateway.client().connect();
    trickle(
        &mut connection,
        b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n",
        millis(10),
    );
    connection.response("GET").unwrap().expect(200);
}

#[test]
fn slow_heads_hold_nothing_for_long() {
    let origin = Origin::start();
    let gateway = strict(&origin, "header_timeout = \"500ms\"");
    let before = gateway.fds();
    let mut slow: Vec<_> = (0..100).map(|_| gateway.client().connect()).collect();
    slow.iter_mut().for_each(|c| c.write("GET / HT").unwrap());
    gateway.client().get("/static").send().expect(200);
    eventually(seconds(5), "all descriptors are back", || {
        gateway.fds() <= before + 2
    });
    gateway.wait_for_metric("gateway_connections_active", &[("listener", "public")], 0.0);
}

#[test]
fn a_body_that_stops_is_cut() {
    let origin = Origin::start();
    let gateway = strict(&origin, "body_timeout = \"500ms\"");
    for head in [
        "Content-Length: 100\r\n\r\nabc",
        "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
        "Transfer-Encoding: chunked\r\n\r\n5\r\nab",
    ] {
        let mut connection = gateway.client().connect();
        connection
            .write(format!("POST /x HTTP/1.1\r\nHost: a\r\n{head}"))
            .unwrap();
        let start = Instant::now();
        timed_out(&mut connection);
        assert!(
            (millis(400)..seconds(3)).contains(&start.elapsed()),
            "{:?}",
            start.elapsed()
        );
    }
    assert_eq!(origin.count(), 0, "nothing was completed on its behalf");
    eventually(seconds(5), "the upstream connections are gone", || {
        origin.open() == 0
    });
}

#[test]
fn a_body_in_pieces_is_welcome_while_it_moves() {
    let origin = Origin::start();
    let gateway = strict(&origin, "body_timeout = \"500ms\"\nmin_rate = \"0\"");
    let mut connection = gateway.client().connect();
    connection
        .write("POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n")
        .unwrap();
    trickle(&mut connection, b"0123456789", millis(120));
    assert_eq!(
        connection.response("POST").unwrap().seen().body,
        b"0123456789"
    );
}

#[test]
fn who_does_not_read_is_let_go() {
    let origin = Origin::answering(|_| crate::harness::Answer::text(vec![b'x'; 30_000_000]));
    let gateway = strict(&origin, "write_timeout = \"700ms\"");
    let mut connection = gateway.client().connect();
    connection
        .write("GET /x HTTP/1.1\r\nHost: a\r\n\r\n")
        .unwrap();
    eventually(seconds(5), "it was asked", || origin.count() == 1);
    eventually(seconds(8), "the upstream is released", || {
        origin.open() == 0
    });
    gateway.wait_for_metric("gateway_connections_active", &[("listener", "public")], 0.0);
}
