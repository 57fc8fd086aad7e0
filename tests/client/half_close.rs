//! Clients that end their side of the connection behind a request.

use std::net::Shutdown;

use super::strict;
use crate::harness::{Answer, Connection, Gateway, Origin, eventually, millis, seconds};

const GET: &str = "GET /x HTTP/1.1\r\nHost: a\r\nX-Trace-ID: half\r\n\r\n";

/// Sends these bytes and ends its side.
fn ends_behind(gateway: &Gateway, bytes: &str) -> Connection {
    let mut connection = gateway.client().connect();
    connection.write(bytes).unwrap();
    connection.writer().shutdown(Shutdown::Write).unwrap();
    connection
}

fn slow() -> Origin {
    Origin::answering(|_| Answer::echo().after(millis(400)))
}

#[test]
fn they_get_their_answer_where_they_may() {
    let origin = slow();
    let gateway = strict(&origin, "half_close = true");
    let mut connection = ends_behind(&gateway, GET);
    let answer = connection.response("GET").unwrap().expect(200);
    assert_eq!(answer.header("connection"), Some("close"));
    assert!(connection.closes_within(seconds(2)));
    assert_eq!(gateway.access_line("half")["status"], 200);
    // Several requests, one behind the other.
    let mut connection = ends_behind(&gateway, &GET.repeat(3));
    for _ in 0..3 {
        connection.response("GET").unwrap().expect(200);
    }
    // Answers of our own, and bodies.
    ends_behind(&gateway, &GET.replace("/x", "/static"))
        .response("GET")
        .unwrap()
        .expect(200);
    let post = "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc";
    let answer = ends_behind(&gateway, post).response("POST").unwrap();
    assert_eq!(answer.seen().body, b"abc");
}

#[test]
fn a_body_that_is_not_whole_is_refused_where_its_client_may_still_read() {
    let origin = slow();
    let gateway = strict(&origin, "half_close = true");
    for body in [
        "Content-Length: 30\r\n\r\nabc",
        "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
    ] {
        let post = format!("POST /x HTTP/1.1\r\nHost: a\r\n{body}");
        ends_behind(&gateway, &post)
            .response("POST")
            .unwrap()
            .refused(400, "bad_request");
    }
    assert_eq!(origin.count(), 0);
}

#[test]
fn as_a_rule_they_count_as_gone() {
    let origin = slow();
    let gateway = strict(&origin, "");
    let mut connection = ends_behind(&gateway, GET);
    assert!(connection.response("GET").is_err());
    let line = gateway.access_line("half");
    assert_eq!(
        (&line["status"], &line["reason"]),
        (&499.into(), &"client_gone".into())
    );
    eventually(seconds(5), "the request is given up", || origin.open() == 0);
}

#[test]
fn who_is_reset_is_gone_in_any_case() {
    let origin = Origin::answering(|_| Answer::silence());
    let gateway = strict(&origin, "half_close = true");
    let mut connection = gateway.client().connect();
    connection.write(GET).unwrap();
    eventually(seconds(5), "it was asked", || origin.count() == 1);
    connection.abort();
    assert_eq!(gateway.access_line("half")["status"], 499);
}
