//! Requests that two readers could read differently: refused, and never forwarded.

use super::strict;
use crate::harness::{Gateway, Origin, Outcome, millis, seconds};

/// What an attacker hopes to have taken for a request of its own.
const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";

/// Each is refused with one of `statuses`, ends its connection, and leaves the origin untouched.
#[track_caller]
fn refuses(cases: &[&str], statuses: &[u16]) {
    let origin = Origin::start();
    let gateway = strict(&origin, "");
    for case in cases {
        refuse(&gateway, format!("{case}{SMUGGLED}").as_bytes(), statuses);
    }
    let completed: Vec<_> = origin
        .seen()
        .into_iter()
        .map(|s| String::from_utf8_lossy(&s.raw).into_owned())
        .collect();
    assert!(completed.is_empty(), "{completed:#?}");
}

#[track_caller]
fn refuse(gateway: &Gateway, bytes: &[u8], statuses: &[u16]) {
    let mut connection = gateway.client().connect();
    let _ = connection.write(bytes);
    let shown = String::from_utf8_lossy(bytes).into_owned();
    match connection.outcome("GET") {
        Outcome::Answered(response) => {
            assert!(
                statuses.contains(&response.status),
                "{shown:?}: {response:?}"
            );
            assert!(
                connection.closes_within(seconds(3)),
                "{shown:?}: still open"
            );
        }
        // Nothing was understood, so there may be nobody to answer.
        Outcome::Closed => {}
        Outcome::Silent => panic!("{shown:?}: neither refused nor closed"),
    }
}

/// Heads of a POST to `/x`, with these lines more.
fn posts(lines: &[&str]) -> Vec<String> {
    lines
        .iter()
        .map(|line| format!("POST /x HTTP/1.1\r\nHost: a\r\n{line}"))
        .collect()
}

#[track_caller]
fn refuses_posts(lines: &[&str], statuses: &[u16]) {
    let cases = posts(lines);
    refuses(
        &cases.iter().map(String::as_str).collect::<Vec<_>>(),
        statuses,
    );
}

#[test]
fn length_and_coding_in_one_message() {
    refuses_posts(
        &[
            "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
            "Transfer-Encoding: chunked\r\nContent-Length: 0\r\n\r\n0\r\n\r\n",
            "Content-Length: 5\r\nTransfer-Encoding: identity\r\n\r\nhello",
        ],
        &[400, 501],
    );
}

#[test]
fn lengths_that_are_no_plain_number() {
    let lengths = [
        "+3",
        "-3",
        "0x3",
        "3.0",
        "3a",
        "3e0",
        "0_3",
        "\"3\"",
        "3,4",
        "3, 4",
        "",
        " ",
        "3 3",
        "9223372036854775808",
        "99999999999999999999999",
        "\u{663}",
    ];
    let lines: Vec<String> = lengths
        .iter()
        .map(|l| format!("Content-Length: {l}\r\n\r\nabc"))
        .collect();
    refuses_posts(
        &lines.iter().map(String::as_str).collect::<Vec<_>>(),
        &[400],
    );
    refuses_posts(
        &[
            "Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
            "Content-Length: 3\r\nContent-Length: x\r\n\r\nabc",
        ],
        &[400],
    );
}

#[test]
fn codings_that_are_not_chunked_alone() {
    let codings = [
        "chunked, chunked",
        "identity",
        "identity, chunked",
        "gzip",
        "gzip, chunked",
        "chunked, identity",
        "xchunked",
        "chunkedx",
        "\"chunked\"",
        "chunked;q=1",
        "",
        ",chunked",
        "chunked,",
        "chunk\u{0}ed",
        "\u{b}chunked",
        "chunked\u{c}",
        "'chunked'",
        "x\r\n chunked",
    ];
    let lines: Vec<String> = codings
        .iter()
        .map(|c| format!("Transfer-Encoding: {c}\r\n\r\n0\r\n\r\n"))
        .collect();
    refuses_posts(
        &lines.iter().map(String::as_str).collect::<Vec<_>>(),
        &[400, 501],
    );
    refuses_posts(
        &[
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n\r\n0\r\n\r\n",
        ],
        &[400, 501],
    );
    refuses(
        &["POST /x HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"],
        &[400, 501],
    );
}

#[test]
fn an_unknown_coding_is_not_implemented() {
    let origin = Origin::start();
    let gateway = strict(&origin, "");
    let outcome = gateway
        .client()
        .raw("POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: br\r\n\r\n");
    let Outcome::Answered(response) = outcome else {
        panic!("{outcome:?}")
    };
    response.refused(501, "not_implemented");
    assert_eq!(origin.count(), 0);
}

#[test]
fn header_names_that_only_some_would_read() {
    refuses_posts(
        &[
            "Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
            "Transfer-Encoding\t: chunked\r\n\r\n0\r\n\r\n",
            " Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            "\tTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            "Transfer Encoding: chunked\r\n\r\n0\r\n\r\n",
            "Transfer-Encoding\u{0}: chunked\r\n\r\n0\r\n\r\n",
            "X: y\rTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            "X: y\r\n folded\r\n\r\n",
            "X: y\r\n\tfolded\r\n\r\n",
            "no colon here\r\n\r\n",
            ": empty name\r\n\r\n",
            "X(Y): z\r\n\r\n",
            "X@Y: z\r\n\r\n",
            "X: a\u{0}b\r\n\r\n",
            "X: a\u{1}b\r\n\r\n",
            "X: a\u{7f}b\r\n\r\n",
            "X: a\rb\r\n\r\n",
            "Content-Length : 3\r\n\r\nabc",
        ],
        &[400],
    );
}

#[test]
fn line_ends_that_are_not_crlf() {
    refuses(
        &[
            "POST /x HTTP/1.1\nHost: a\nContent-Length: 0\n\n",
            "POST /x HTTP/1.1\r\nHost: a\nContent-Length: 0\r\n\r\n",
            "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 0\n\r\n",
            "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\n",
            "POST /x HTTP/1.1\rHost: a\rContent-Length: 0\r\r",
            "POST /x HTTP/1.1\r\r\nHost: a\r\n\r\n",
        ],
        &[400],
    );
}

#[test]
fn request_lines_that_need_guessing() {
    refuses(
        &[
            "GET  /x HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET /x  HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET /x HTTP/1.1 \r\nHost: a\r\n\r\n",
            " GET /x HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET\t/x\tHTTP/1.1\r\nHost: a\r\n\r\n",
            "GET /x y HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET /x\u{0} HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET /x\u{7f} HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET /x\u{1} HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET x HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET /x#fragment HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET ?x HTTP/1.1\r\nHost: a\r\n\r\n",
            "G@T /x HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET(): /x HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET ftp://a/x HTTP/1.1\r\nHost: a\r\n\r\n",
            "\r\n\r\n\r\nnonsense\r\n\r\n",
            "\u{16}\u{3}\u{1}\u{2}\u{0}\u{1}\u{0}\u{1}\r\n\r\n",
        ],
        &[400],
    );
}

#[test]
fn versions_other_than_one_dot_something() {
    let line = |version: &str| format!("GET /x {version}\r\nHost: a\r\n\r\n");
    let cases = [
        "HTTP/1.1x",
        "http/1.1",
        "HTTP/11",
        "HTTP/1",
        "HTTP /1.1",
        "HTTQ/1.1",
        "HTTP/0.9",
        "HTTP/1.10",
    ]
    .map(line);
    refuses(
        &cases.iter().map(String::as_str).collect::<Vec<_>>(),
        &[400, 505],
    );
    refuses(&["GET /x\r\n", "GET /x\r\n\r\n"], &[400, 505]);
    let origin = Origin::start();
    let gateway = strict(&origin, "");
    for version in ["HTTP/2.0", "HTTP/3.0"] {
        let outcome = gateway.client().raw(line(version));
        let Outcome::Answered(response) = outcome else {
            panic!("{version}: {outcome:?}")
        };
        response.refused(505, "version_not_supported");
    }
    let preface = gateway.client().raw("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    assert!(matches!(preface.status(), 0 | 400 | 505), "{preface:?}");
    assert_eq!(origin.count(), 0);
}

#[test]
fn hosts_that_are_missing_or_more_than_one() {
    let line = |host: &str| format!("GET /x HTTP/1.1\r\n{host}\r\n");
    let cases = [
        "",
        "Host: a\r\nHost: a\r\n",
        "Host: a\r\nHost: b\r\n",
        "Host: a, b\r\n",
        "Host: user@a\r\n",
        "Host: a/b\r\n",
        "Host: a b\r\n",
        "Host: a?b\r\n",
        "Host: a#b\r\n",
        "Host: a\\b\r\n",
        "Host: a:b\r\n",
        "Host: a:80:80\r\n",
        "Host: [::1\r\n",
        "Host: a%00b\r\n",
        "Host: http://a\r\n",
    ]
    .map(line);
    refuses(
        &cases.iter().map(String::as_str).collect::<Vec<_>>(),
        &[400],
    );
    let origin = Origin::start();
    let gateway = strict(&origin, "");
    for host in [
        "a",
        "a.b.example",
        "a:8080",
        "127.0.0.1",
        "127.0.0.1:80",
        "[::1]",
        "[::1]:8080",
        "xn--nxasmq6b.example",
    ] {
        gateway.client().get("/x").host(host).send().expect(200);
    }
    let outcome = gateway.client().raw("GET /x HTTP/1.1\r\n\r\n");
    let Outcome::Answered(response) = outcome else {
        panic!("{outcome:?}")
    };
    assert_eq!(response.status, 400);
    assert!(
        matches!(
            response.code().as_deref(),
            Some("host_invalid" | "bad_request")
        ),
        "{response:?}"
    );
    gateway.client().raw("GET /x HTTP/1.0\r\n\r\n");
}

#[test]
fn chunks_that_need_guessing() {
    let body = |chunks: &str| format!("Transfer-Encoding: chunked\r\n\r\n{chunks}");
    let cases = [
        "+3\r\nabc\r\n0\r\n\r\n",
        "-3\r\nabc\r\n0\r\n\r\n",
        "0x3\r\nabc\r\n0\r\n\r\n",
        " 3\r\nabc\r\n0\r\n\r\n",
        "0_3\r\nabc\r\n0\r\n\r\n",
        "3g\r\nabc\r\n0\r\n\r\n",
        "\r\nabc\r\n0\r\n\r\n",
        "g\r\nabc\r\n0\r\n\r\n",
        "10000000000000003\r\nabc\r\n0\r\n\r\n",
        "3\u{0}\r\nabc\r\n0\r\n\r\n",
        "3\nabc\r\n0\r\n\r\n",
        "3\rabc\r\n0\r\n\r\n",
        "3\r\nabcX\r\n0\r\n\r\n",
        "3\r\nabc0\r\n\r\n",
        "3\r\nabc\n0\r\n\r\n",
        "3\r\r\nabc\r\n0\r\n\r\n",
        "3;a\nb\r\nabc\r\n0\r\n\r\n",
        "3\r\nabc\r\n\r\n\r\n",
        "3\r\nabc\r\n0\r\n bad\r\n\r\n",
    ]
    .map(body);
    // Too large a chunk may as well be refused for its size.
    refuses_posts(
        &cases.iter().map(String::as_str).collect::<Vec<_>>(),
        &[400, 413],
    );
}

#[test]
fn a_chunk_size_beyond_32_bits_is_what_it_says() {
    let origin = Origin::start();
    let gateway = strict(&origin, "body_timeout = \"500ms\"");
    for size in ["100000003", "FFFFFFFFFFFFFFFF"] {
        let head = "POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
        let outcome = gateway
            .client()
            .raw(format!("{head}{size}\r\nabc\r\n0\r\n\r\n{SMUGGLED}"));
        assert!(
            matches!(outcome.status(), 0 | 400 | 408 | 413),
            "{size}: {outcome:?}"
        );
    }
    assert_eq!(origin.count(), 0);
}

#[test]
fn chunk_extensions_are_dropped_and_bounded() {
    let origin = Origin::start();
    let gateway = strict(&origin, "");
    let body = |ext: &str| {
        format!(
            "POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3;{ext}\r\nabc\r\n0\r\n\r\n"
        )
    };
    let outcome = gateway.client().raw(body("name=value"));
    let Outcome::Answered(response) = outcome else {
        panic!("{outcome:?}")
    };
    assert_eq!(response.seen().body, b"abc");
    assert!(!String::from_utf8_lossy(&origin.bytes()).contains("name=value"));
    let outcome = gateway.client().raw(body(&"x".repeat(20_000)));
    assert!(
        matches!(outcome.status(), 0 | 400 | 413 | 431),
        "{outcome:?}"
    );
    assert_eq!(origin.count(), 1);
}

#[test]
fn repeated_equal_lengths_are_refused_or_become_one() {
    let origin = Origin::start();
    let gateway = strict(&origin, "");
    for line in [
        "Content-Length: 3\r\nContent-Length: 3\r\n",
        "Content-Length: 3, 3\r\n",
        "Content-Length: 003\r\n",
    ] {
        let before = origin.count();
        let outcome = gateway
            .client()
            .raw(format!("POST /x HTTP/1.1\r\nHost: a\r\n{line}\r\nabc"));
        if origin.count() > before {
            assert_eq!(origin.last().values("content-length"), ["3"], "{line:?}");
        } else {
            assert!(matches!(outcome.status(), 0 | 400), "{line:?}: {outcome:?}");
        }
    }
}

#[test]
fn expectations_other_than_continue_fail() {
    let origin = Origin::start();
    let gateway = strict(&origin, "");
    for value in ["200-ok", "100-continue, x", "nonsense", "100-continues"] {
        let response = gateway
            .client()
            .post("/x")
            .header("Expect", value)
            .body("abc")
            .send();
        response.refused(417, "expectation_failed");
    }
    assert_eq!(origin.count(), 0);
}

#[test]
fn a_body_is_never_a_request() {
    let origin = Origin::start();
    let gateway = strict(&origin, "");
    let mut connection = gateway.client().connect();
    // A method that usually has no body still has the one it announces.
    for method in ["GET", "HEAD", "DELETE", "OPTIONS"] {
        connection
            .request(method, "/outer")
            .body(SMUGGLED)
            .send()
            .expect(200);
        connection
            .request(method, "/static")
            .body(SMUGGLED)
            .send()
            .expect(200);
    }
    assert_eq!(origin.count_of(|s| s.target == "/smuggled"), 0);
    let upgrade = gateway.client();
    let upgrade = upgrade
        .get("/x")
        .header("Connection", "Upgrade")
        .header("Upgrade", "h2c")
        .header("HTTP2-Settings", "AAMAAABk");
    let seen = upgrade.body(SMUGGLED).send().seen();
    assert_eq!(
        (seen.header("upgrade"), seen.header("http2-settings")),
        (None, None)
    );
    assert_eq!(origin.count_of(|s| s.target == "/smuggled"), 0);
}

#[test]
fn what_follows_a_malformed_chunk_is_never_a_request() {
    let origin = Origin::start();
    let gateway = strict(&origin, "");
    // The data holds what would end the body, and a request, were it read again from the wrong place.
    let data = format!("\r\n0\r\n\r\n{SMUGGLED}");
    for head in ["POST /x", "GET /x"] {
        let mut connection = gateway.client().connect();
        let size = format!("{:x}\r\n", data.len());
        let begin =
            format!("{head} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{size}");
        connection.write(begin).unwrap();
        std::thread::sleep(millis(150));
        let _ = connection.write(format!("{data}G"));
        if let Outcome::Answered(response) = connection.outcome("POST") {
            assert_eq!(response.status, 400, "{response:?}");
            assert_eq!(response.header("connection"), Some("close"), "{response:?}");
        }
        assert!(connection.closes_within(seconds(3)));
    }
    assert_eq!(origin.count_of(|seen| seen.target.contains("smuggled")), 0);
}
