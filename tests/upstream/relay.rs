//! The way to upstreams of HTTP/1.

use std::collections::HashSet;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::Mutex;
use std::thread;

use super::{before, endpoint, to};
use crate::harness::{Answer, Origin, Seen, eventually, millis, seconds};

/// A field that concerns the connection: the head of such a request is changed on its way.
const OF_CONNECTION: (&str, &str) = ("TE", "trailers");

#[test]
fn with_fields_of_the_connection_or_without_the_same_is_sent() {
    let origin = Origin::start();
    let gateway = before(&to(&origin), "")
        .append("[route.request]\nset = { X-Set = \"s\" }\nremove = [\"X-Removed\"]\n")
        .start();
    let fields = |through: bool| {
        let client = gateway.client();
        let mut request = client
            .post("/a?b")
            .header("X-Trace-ID", "one-and-the-same")
            .header("X-Kept", "1")
            .header("X-Kept", "2")
            .header("X-Removed", "r")
            .header("X-Consumer", "forged")
            .header("X_Consumer", "forged")
            .header("X-Real-IP", "10.0.0.1")
            .header("X-Forwarded-For", "10.0.0.1")
            .header("X-Original-URL", "/admin")
            .chunked(&["he", "llo"]);
        if through {
            request = request.header(OF_CONNECTION.0, OF_CONNECTION.1);
        }
        let seen = request.send().seen();
        let mut fields: Vec<(String, Vec<String>)> = Vec::new();
        for name in [
            "host",
            "x-kept",
            "x-removed",
            "x-set",
            "x-consumer",
            "x_consumer",
            "x-real-ip",
            "x-forwarded-for",
            "x-forwarded-host",
            "x-forwarded-proto",
            "x-original-url",
            "x-trace-id",
            "transfer-encoding",
            "content-length",
            "connection",
            "te",
        ] {
            let values = seen.values(name).into_iter().map(str::to_owned);
            fields.push((name.to_owned(), values.collect()));
        }
        (fields, seen.values("traceparent").len())
    };
    let (short, changed) = (fields(false), fields(true));
    assert_eq!(short, changed);
    assert_eq!(short.0[1].1, ["1", "2"]);
    assert!(short.0[4].1.is_empty() && short.0[5].1.is_empty());
}

#[test]
fn a_silent_endpoint_is_not_taken_for_a_connection_that_was_closed() {
    for through in [None, Some(OF_CONNECTION)] {
        let origin = Origin::answering(|seen: &Seen| match seen.target.as_str() {
            "/silent" => Answer::silence(),
            _ => Answer::text("fine"),
        });
        let more = "timeout = { read = \"300ms\" }\nretry = { attempts = 0 }";
        let gateway = before(&to(&origin), more).start();
        let client = gateway.client();
        let ask = |target| {
            let request = client.get(target);
            match through {
                Some((name, value)) => request.header(name, value).send(),
                None => request.send(),
            }
        };
        // Enough that every worker has a connection it kept.
        (0..8).for_each(|_| drop(ask("/").expect(200)));
        for asked in 1..4 {
            ask("/silent").refused(504, "upstream_timeout");
            let silent = origin.count_of(|seen| seen.target == "/silent");
            assert_eq!(silent, asked, "{through:?}");
        }
    }
}

#[test]
fn after_a_connection_found_closed_a_new_one_is_tried() {
    // Every connection serves one request; the next on it finds a closed door.
    let served = Mutex::new(HashSet::new());
    let origin = Origin::answering(move |seen: &Seen| {
        if served.lock().unwrap().insert(seen.connection) {
            Answer::text("fine").after(millis(200))
        } else {
            Answer::close()
        }
    });
    let gateway = before(&to(&origin), "retry = { attempts = 0 }").start();
    thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| gateway.client().get("/first").send().expect(200));
        }
    });
    for _ in 0..3 {
        gateway.client().get("/second").send().expect(200);
    }
}

#[test]
fn what_came_of_an_answer_that_broke_off_is_passed_on() {
    let origin =
        Origin::answering(|_| Answer::raw("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nab"));
    let gateway = before(&to(&origin), "").start();
    let answer = gateway.client().get("/").try_send().expect("a head");
    assert_eq!((answer.status, answer.body.complete), (200, false));
    assert_eq!(answer.body.bytes, b"ab");
    let line = gateway.access_line(answer.header("x-trace-id").expect("an id"));
    assert_eq!(
        (&line["status"], &line["bytes_out"]),
        (&200.into(), &2.into())
    );
}

#[test]
fn a_chunk_is_passed_on_whole_before_the_next_comes() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("address");
    let origin = thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a connection");
        stream.set_read_timeout(Some(seconds(5))).expect("set");
        let (mut seen, mut piece) = (Vec::new(), [0; 1024]);
        while !seen.ends_with(b"\r\n\r\n5\r\nhello\r\n") {
            let read = stream.read(&mut piece).expect("the chunk and its end");
            assert!(read > 0, "the gateway closed");
            seen.extend_from_slice(&piece[..read]);
        }
        stream
            .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
            .expect("answered");
    });
    let gateway = before(&endpoint(address, ""), "").start();
    let mut connection = gateway.client().connect();
    connection
        .write("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
        .expect("sent");
    let answer = connection.response("POST").expect("an answer");
    assert_eq!(
        (answer.status, answer.body.bytes.as_slice()),
        (200, &b"ok"[..])
    );
    origin.join().expect("the origin saw the chunk");
}

#[test]
fn an_upstream_keeps_no_more_connections_than_it_may() {
    let origin = Origin::answering(|_| Answer::text("fine").after(millis(300)));
    let gateway = before(&to(&origin), "keepalive = 2")
        .append("[server]\nthreads = 1\n")
        .start();
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| gateway.client().get("/").send().expect(200));
        }
    });
    assert_eq!(origin.connections(), 8);
    eventually(seconds(5), "all but two are closed", || origin.open() == 2);
}

#[test]
fn an_answer_cut_short_for_an_old_client_ends_in_a_reset() {
    let origin = Origin::answering(|_| {
        Answer::raw("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
    });
    let gateway = before(&to(&origin), "").start();
    let mut connection = gateway.client().connect();
    connection
        .write("GET / HTTP/1.0\r\nHost: a\r\n\r\n")
        .expect("sent");
    let error = connection
        .response("GET")
        .map(|answer| answer.body.complete);
    assert!(!matches!(error, Ok(true)), "the cut must show: {error:?}");
}
