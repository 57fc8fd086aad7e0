//! How much a client may send: N passes, N + 1 does not.

use std::io::Write;
use std::time::Instant;

use super::strict;
use crate::harness::{Gateway, Origin, Response, fragment, seconds};

#[test]
fn heads_are_bounded_in_bytes() {
    let origin = Origin::start();
    let gateway = strict(&origin, "max_header_bytes = \"4KiB\"");
    let with = |n: usize| {
        gateway
            .client()
            .get("/x")
            .header("X-Long", "x".repeat(n))
            .send()
    };
    with(3_800).expect(200);
    with(4_200).refused(431, "headers_too_large");
    let many = |n: usize| {
        let client = gateway.client();
        (0..n)
            .fold(client.get("/x"), |request, i| {
                request.header(&format!("X-{i}"), "x".repeat(80))
            })
            .send()
    };
    many(40).expect(200);
    many(60).refused(431, "headers_too_large");
    assert_eq!(origin.count(), 2);
}

#[test]
fn heads_are_bounded_in_lines() {
    let origin = Origin::start();
    let gateway = strict(&origin, "max_headers = 10");
    // `Host` is the first of them.
    let with = |n: usize| {
        let client = gateway.client();
        (1..n)
            .fold(client.get("/x"), |request, i| {
                request.header(&format!("X-{i}"), i)
            })
            .send()
    };
    with(10).expect(200);
    with(11).refused(431, "headers_too_large");
}

#[test]
fn a_head_without_end_is_cut() {
    let origin = Origin::start();
    let gateway = strict(&origin, "");
    let mut connection = gateway.client().connect();
    let _ = connection.write("GET /x HTTP/1.1\r\nHost: a\r\n");
    let mut sent = 0;
    while sent < 4_000_000
        && connection
            .write("X-Padding: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n")
            .is_ok()
    {
        sent += 63;
    }
    assert!(sent < 4_000_000, "the gateway took all of it");
    assert_eq!(origin.count(), 0);
}

#[test]
fn targets_are_bounded() {
    let origin = Origin::start();
    let gateway = strict(&origin, "max_uri = \"1KiB\"");
    let with = |n: usize| {
        gateway
            .client()
            .get(&format!("/{}", "x".repeat(n - 1)))
            .send()
    };
    with(1024).expect(200);
    with(1025).refused(414, "uri_too_long");
    let query = |n: usize| {
        gateway
            .client()
            .get(&format!("/?{}", "x".repeat(n - 2)))
            .send()
    };
    query(1024).expect(200);
    query(1025).refused(414, "uri_too_long");
}

#[test]
fn bodies_are_bounded_however_they_are_framed() {
    let origin = Origin::start();
    let gateway = strict(&origin, "max_body = \"2KiB\"");
    let client = gateway.client();
    let (fits, over) = ("x".repeat(2048), "x".repeat(2049));
    client.post("/x").body(&fits).send().expect(200);
    client
        .post("/x")
        .body(&over)
        .send()
        .refused(413, "body_too_large");
    let pieces = |body: &str| {
        body.as_bytes()
            .chunks(100)
            .map(<[u8]>::to_vec)
            .collect::<Vec<_>>()
    };
    client.post("/x").chunked(&pieces(&fits)).send().expect(200);
    client
        .post("/x")
        .chunked(&pieces(&over))
        .send()
        .refused(413, "body_too_large");
    assert_eq!(origin.count(), 2, "no request over the limit was completed");
    client
        .post("/static")
        .body(&over)
        .send()
        .refused(413, "body_too_large");
}

#[test]
fn a_route_may_raise_or_lower_the_limit() {
    let origin = Origin::start();
    let gateway = Gateway::with(
        r#"
        [server.client]
        max_body = "1KiB"
        [[route]]
        id = "more"
        path = "/more"
        upstream = "api"
        max_body = "4KiB"
        [[route]]
        id = "less"
        path = "/less"
        upstream = "api"
        max_body = "100B"
        "#,
    )
    .append(&fragment::upstream("api"))
    .to(&origin)
    .start();
    let send = |target: &str, n: usize| -> Response {
        gateway.client().post(target).body("x".repeat(n)).send()
    };
    send("/more", 4096).expect(200);
    send("/more", 4097).refused(413, "body_too_large");
    send("/less", 100).expect(200);
    send("/less", 101).refused(413, "body_too_large");
}

/// The answer to a client that goes on sending whatever it is told.
fn stubborn(gateway: &Gateway, head: &str) -> Response {
    let mut connection = gateway.client().connect();
    let writer = connection.writer();
    let head = head.to_owned();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let mut writer = &*writer;
            let _ = writer.write_all(head.as_bytes());
            for _ in 0..2_000 {
                if writer.write_all(&[b'x'; 1024]).is_err() {
                    break;
                }
            }
        });
        let start = Instant::now();
        let response = connection
            .response("POST")
            .expect("an answer in spite of everything");
        assert!(start.elapsed() < seconds(5));
        let _ = connection.closes_within(seconds(5));
        response
    })
}

#[test]
fn a_refusal_reaches_a_client_that_still_sends() {
    let origin = Origin::start();
    let text = "[auth.app]\ntype = \"jwt\"\nalgorithms = [\"HS256\"]\nsecret = \"0123456789abcdef0123456789abcdef\"\n\
        [upstream.api]\nendpoints = [{ address = \"{origin}\" }]\n\
        [[route]]\nid = \"open\"\npath = \"/open\"\nupstream = \"api\"\n\
        [[route]]\nid = \"closed\"\npath = \"/closed\"\nauth = [\"app\"]\nupstream = \"api\"\n";
    let gateway = Gateway::with(text).to(&origin).start();
    let head =
        |target: &str, more: &str| format!("POST {target} HTTP/1.1\r\nHost: a\r\n{more}\r\n");
    let long = "x".repeat(9_000);
    stubborn(&gateway, &head("/open", "Content-Length: 2048000\r\n"))
        .refused(413, "body_too_large");
    stubborn(&gateway, &head("/closed", "Content-Length: 1000000\r\n"))
        .refused(401, "token_missing");
    stubborn(
        &gateway,
        &head(&format!("/{long}"), "Content-Length: 2048000\r\n"),
    )
    .refused(414, "uri_too_long");
    stubborn(
        &gateway,
        &head(
            "/open",
            &format!("X-A: {long}\r\nX-B: {long}\r\nContent-Length: 2048000\r\n"),
        ),
    )
    .refused(431, "headers_too_large");
    assert_eq!(origin.count(), 0);
}

#[test]
fn what_follows_a_refused_body_is_never_a_request() {
    let origin = Origin::start();
    let gateway = strict(&origin, "max_body = \"1KiB\"");
    let inner = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";
    let mut connection = gateway.client().connect();
    let _ = connection.write(format!(
        "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n{}",
        inner.repeat(100)
    ));
    connection
        .response("POST")
        .unwrap()
        .refused(413, "body_too_large");
    assert!(connection.closes_within(seconds(3)), "the connection ends");
    assert_eq!(origin.count(), 0);
}
