//! Which heads pass, and what the others are told.

use std::time::Duration;

use super::*;

const LIMITS: ClientLimits = ClientLimits {
    header_timeout: Duration::from_secs(1),
    body_timeout: Duration::from_secs(1),
    write_timeout: Duration::from_secs(1),
    longest_byte: Duration::ZERO,
    keepalive_timeout: Duration::from_secs(1),
    keepalive_requests: 1,
    max_header_bytes: 256,
    max_headers: 5,
    max_uri: 64,
    max_body: 0,
    max_connections: 1,
    max_connections_per_ip: 1,
    linger_body: 0,
    half_close: false,
};

fn read(text: &[u8]) -> Result<(Box<RequestHeader>, Head), Refusal> {
    parse(&Bytes::copy_from_slice(text), &LIMITS)
}

fn code(text: &[u8]) -> &'static str {
    match scan(text, 0, &LIMITS) {
        Scan::Whole(length) => {
            read(&text[..length]).map_or_else(|refusal| refusal.reason.code(), |_| "ok")
        }
        Scan::Partial => "partial",
        Scan::TooLong(refusal) => refusal.reason.code(),
    }
}

fn request(fields: &str) -> Vec<u8> {
    format!("POST /a HTTP/1.1\r\nHost: a\r\n{fields}\r\n").into_bytes()
}

#[test]
fn takes_what_every_parser_reads_alike() {
    let framing = |text: &[u8]| read(text).expect("head").1.framing;
    assert_eq!(framing(&request("")), Framing::None);
    assert_eq!(
        framing(&request("Content-Length: 3\r\n")),
        Framing::Length(3)
    );
    assert_eq!(framing(&request("Content-Length:\t 0 \r\n")), Framing::None);
    assert_eq!(
        framing(&request("Transfer-Encoding: Chunked\r\n")),
        Framing::Chunked
    );
    assert_eq!(
        framing(b"GET http://a:80/x HTTP/1.1\r\nHost: A:80\r\n\r\n"),
        Framing::None
    );
    assert_eq!(framing(b"GET / HTTP/1.0\r\n\r\n"), Framing::None);
    assert_eq!(
        framing(b"OPTIONS * HTTP/1.1\r\nHost: [::1]:80\r\n\r\n"),
        Framing::None
    );
}

#[test]
fn refuses_every_doubtful_framing() {
    for fields in [
        "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n",
        "Content-Length: 3\r\nContent-Length: 3\r\n",
        "Content-Length: 3, 3\r\n",
        "Content-Length: +3\r\n",
        "Content-Length: -3\r\n",
        "Content-Length: 0x3\r\n",
        "Content-Length: 3.0\r\n",
        "Content-Length: 03\r\n",
        "Content-Length: \"3\"\r\n",
        "Content-Length:\r\n",
        "Content-Length: 99999999999999999999\r\n",
        "Content-Length : 3\r\n",
        " Content-Length: 3\r\n",
        "Content_Length: 3\r\n",
        "Transfer-Encoding: chunked, chunked\r\n",
        "Transfer-Encoding: chunked, gzip\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding:\r\n",
        "Transfer-Encoding: \"chunked\"\r\n",
        "Transfer-Encoding: chunked;a=b\r\n",
        "Transfer-Encoding: \u{b}chunked\r\n",
        "Transfer-Encoding\t: chunked\r\n",
        "Transfer Encoding: chunked\r\n",
        "Transfer_Encoding: chunked\r\n",
        "X: a\r\n b\r\n",
        "X: a\u{0}b\r\n",
        "X: a\rb\r\n",
        "X: a\n",
        "X\r\n",
        ": a\r\n",
    ] {
        assert_eq!(code(&request(fields)), "bad_request", "{fields:?}");
    }
    for fields in [
        "Transfer-Encoding: gzip\r\n",
        "Transfer-Encoding: identity, chunked\r\n",
    ] {
        assert_eq!(code(&request(fields)), "not_implemented", "{fields:?}");
    }
    assert_eq!(
        code(b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n"),
        "bad_request"
    );
}

#[test]
fn refuses_a_malformed_request_line() {
    for (line, expected) in [
        ("GET  / HTTP/1.1", "bad_request"),
        ("GET / HTTP/1.1 ", "bad_request"),
        (" GET / HTTP/1.1", "bad_request"),
        ("GET /a b HTTP/1.1", "bad_request"),
        ("GET /", "bad_request"),
        ("GET a HTTP/1.1", "bad_request"),
        ("GET /#f HTTP/1.1", "bad_request"),
        ("GET /\u{1} HTTP/1.1", "bad_request"),
        ("G(T / HTTP/1.1", "bad_request"),
        ("GET * HTTP/1.1", "bad_request"),
        ("GET / http/1.1", "bad_request"),
        ("GET / HTTP/1.1x", "bad_request"),
        ("GET / HTTP/2.0", "version_not_supported"),
        ("PRI * HTTP/2.0", "version_not_supported"),
        ("GET / HTTP/0.9", "version_not_supported"),
        ("CONNECT a:443 HTTP/1.1", "method_not_allowed"),
        ("TRACE / HTTP/1.1", "method_not_allowed"),
    ] {
        assert_eq!(
            code(format!("{line}\r\nHost: a\r\n\r\n").as_bytes()),
            expected,
            "{line:?}"
        );
    }
}

#[test]
fn refuses_a_doubtful_host() {
    for head in [
        "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost:\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: u@a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a, b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a:x\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a:65536\r\n\r\n",
        "GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET http:/// HTTP/1.1\r\nHost: a\r\n\r\n",
    ] {
        assert_eq!(code(head.as_bytes()), "host_invalid", "{head:?}");
    }
}

#[test]
fn bounds_target_header_bytes_and_fields() {
    let target = |n: usize| format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(n));
    assert_eq!(code(target(63).as_bytes()), "ok");
    assert_eq!(code(target(64).as_bytes()), "uri_too_long");
    assert_eq!(code(&[b'x'; 64 + LINE_REST + 1]), "uri_too_long");
    assert_eq!(code(&request("A: 1\r\nB: 2\r\nC: 3\r\nD: 4\r\n")), "ok");
    assert_eq!(
        code(&request("A: 1\r\nB: 2\r\nC: 3\r\nD: 4\r\nE: 5\r\n")),
        "headers_too_large"
    );
    assert_eq!(
        code(&request(&format!("A: {}\r\n", "x".repeat(300)))),
        "headers_too_large"
    );
    let unfinished = format!("GET / HTTP/1.1\r\nA: {}", "x".repeat(300));
    assert_eq!(code(unfinished.as_bytes()), "headers_too_large");
    assert_eq!(code(b"GET / HTTP/1.1\r\nHost: a\r\n"), "partial");
}

#[test]
fn knows_expectations() {
    assert_eq!(code(&request("Expect: 100-continue\r\n")), "ok");
    assert_eq!(
        code(&request("Expect: 200-maybe\r\n")),
        "expectation_failed"
    );
}

#[test]
fn makes_a_request_of_it() {
    let text = b"GET http://A:80/x?y HTTP/1.1\r\nHost: a:80\r\nX-One: 1\r\nx-one:  2 \r\nConnection: Keep-Alive\r\n\r\n";
    let (request, head) = read(text).expect("head");
    assert_eq!(request.method, Method::GET);
    assert_eq!(
        (request.raw_path(), request.uri.query()),
        (&b"/x?y"[..], Some("y"))
    );
    let values: Vec<_> = request.headers.get_all("x-one").iter().collect();
    assert_eq!(values, ["1", "2"]);
    // What concerns this connection is not forwarded.
    assert!(!request.headers.contains_key("connection"));
    assert!(head.persistent && head.end_to_end);
    let raw = "GET /[\u{e9}]?{\"} HTTP/1.1\r\nHost: a\r\n\r\n";
    let (request, _) = read(raw.as_bytes()).expect("head");
    assert_eq!(request.raw_path(), b"/%5B%C3%A9%5D?%7B%22%7D");
    let received = request.extensions.get::<AsReceived>().expect("received");
    assert_eq!(received.0, "/[\u{e9}]?{\"}");
    assert_eq!(
        code(b"GET /\xe9 HTTP/1.1\r\nHost: a\r\n\r\n"),
        "bad_request"
    );
    let (request, _) = read(b"GET http://a HTTP/1.1\r\nHost: a\r\n\r\n").expect("head");
    assert_eq!(request.raw_path(), b"/");
}

#[test]
fn knows_what_concerns_the_connection() {
    let facts = |version: &str, fields: &str| {
        let text = format!("GET / HTTP/{version}\r\nHost: a\r\n{fields}\r\n");
        let (_, head) = read(text.as_bytes()).expect("head");
        (head.persistent, head.end_to_end)
    };
    assert_eq!(facts("1.1", ""), (true, true));
    assert_eq!(facts("1.0", ""), (false, true));
    assert_eq!(facts("1.0", "Connection: keep-alive\r\n"), (true, true));
    assert_eq!(facts("1.1", "Connection: close\r\n"), (false, true));
    assert_eq!(facts("1.1", "Connection: x-a, CLOSE\r\n"), (false, false));
    assert_eq!(
        facts("1.1", "Connection: Upgrade\r\nUpgrade: websocket\r\n"),
        (true, false)
    );
    assert_eq!(facts("1.1", "TE: trailers\r\n"), (true, false));
}
