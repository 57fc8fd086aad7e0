//! Malformed frames and messages: the stream or the connection ends as RFC 9113 says, and nothing reaches an origin. The
//! codec says PROTOCOL_ERROR where the RFC has FRAME_SIZE_ERROR or FLOW_CONTROL_ERROR; the connection ends alike.

use super::gateway;
use crate::harness::{END_HEADERS, END_STREAM, Fate, Frames, Origin, block, frame, get, kind};

const PROTOCOL: u32 = 1;
const FLOW_CONTROL: u32 = 3;
const STREAM_CLOSED: u32 = 5;
const FRAME_SIZE: u32 = 6;
const REFUSED: u32 = 7;
const COMPRESSION: u32 = 9;

/// What may become of it.
#[derive(Clone, Copy, Debug)]
enum Ends {
    /// The connection, with one of these errors or a plain end.
    Connection(&'static [u32]),
    /// The stream, with one of these errors; ending the connection will do.
    Stream(&'static [u32]),
    /// Nothing: it is allowed, and the connection goes on.
    Lives,
}

fn whole(stream: u32, fields: &[(&str, &str)]) -> Vec<u8> {
    frame(
        kind::HEADERS,
        END_HEADERS | END_STREAM,
        stream,
        &block(fields),
    )
}

fn open(stream: u32) -> Vec<u8> {
    let mut fields = get("/upload");
    fields[0] = (":method", "POST");
    frame(kind::HEADERS, END_HEADERS, stream, &block(&fields))
}

fn with(field: (&str, &str)) -> Vec<u8> {
    whole(1, &[&get("/x")[..], &[field]].concat())
}

/// Sends the bytes after the preface and says what became of it.
fn check(name: &str, gateway: &crate::harness::Gateway, bytes: &[u8], ends: Ends) {
    let mut frames = Frames::open(gateway.listen());
    frames.raw(bytes);
    if let Ends::Lives = ends {
        assert!(frames.answers_ping(), "{name}: the connection lives");
        return;
    }
    let fate = frames.fate();
    let fits = match (ends, fate) {
        (_, Fate::Connection(None)) => true,
        (Ends::Connection(codes) | Ends::Stream(codes), Fate::Connection(Some(code))) => {
            codes.contains(&code)
        }
        (Ends::Stream(codes), Fate::Stream(_, code)) => codes.contains(&code),
        _ => false,
    };
    assert!(fits, "{name}: {ends:?}, but {fate:?}");
}

#[test]
fn frames_that_break_the_rules_end_the_connection() {
    let origin = Origin::start();
    let gateway = gateway(&origin);
    let cases: Vec<(&str, Vec<u8>, Ends)> = vec![
        (
            "DATA on stream 0",
            frame(kind::DATA, END_STREAM, 0, b"x"),
            Ends::Connection(&[PROTOCOL]),
        ),
        (
            "HEADERS on stream 0",
            frame(kind::HEADERS, 5, 0, &block(&get("/x"))),
            Ends::Connection(&[PROTOCOL]),
        ),
        (
            "HEADERS on an even stream",
            whole(2, &get("/x")),
            Ends::Connection(&[PROTOCOL]),
        ),
        (
            "DATA on an idle stream",
            frame(kind::DATA, END_STREAM, 1, b"x"),
            Ends::Connection(&[PROTOCOL]),
        ),
        (
            "RST_STREAM on an idle stream",
            frame(kind::RST_STREAM, 0, 1, &[0; 4]),
            Ends::Connection(&[PROTOCOL]),
        ),
        (
            "RST_STREAM on stream 0",
            frame(kind::RST_STREAM, 0, 0, &[0; 4]),
            Ends::Connection(&[PROTOCOL]),
        ),
        (
            "RST_STREAM of three bytes",
            [open(1), frame(kind::RST_STREAM, 0, 1, &[0; 3])].concat(),
            Ends::Connection(&[FRAME_SIZE, PROTOCOL]),
        ),
        (
            "WINDOW_UPDATE on an idle stream",
            frame(kind::WINDOW_UPDATE, 0, 1, &1u32.to_be_bytes()),
            Ends::Connection(&[PROTOCOL]),
        ),
        (
            "WINDOW_UPDATE of three bytes",
            frame(kind::WINDOW_UPDATE, 0, 0, &[0; 3]),
            Ends::Connection(&[FRAME_SIZE, PROTOCOL]),
        ),
        (
            "WINDOW_UPDATE by nothing",
            frame(kind::WINDOW_UPDATE, 0, 0, &[0; 4]),
            Ends::Connection(&[PROTOCOL]),
        ),
        (
            "the connection's window overflows",
            [
                frame(kind::WINDOW_UPDATE, 0, 0, &0x7fff_ffffu32.to_be_bytes()),
                frame(kind::WINDOW_UPDATE, 0, 0, &0x7fff_ffffu32.to_be_bytes()),
            ]
            .concat(),
            Ends::Connection(&[FLOW_CONTROL, PROTOCOL]),
        ),
        (
            "SETTINGS on a stream",
            frame(kind::SETTINGS, 0, 1, &[]),
            Ends::Connection(&[PROTOCOL]),
        ),
        (
            "SETTINGS of five bytes",
            frame(kind::SETTINGS, 0, 0, &[0; 5]),
            Ends::Connection(&[FRAME_SIZE, PROTOCOL]),
        ),
        (
            "SETTINGS ACK with a payload",
            frame(kind::SETTINGS, 1, 0, &[0; 6]),
            Ends::Connection(&[FRAME_SIZE, PROTOCOL]),
        ),
        (
            "ENABLE_PUSH of 2",
            frame(kind::SETTINGS, 0, 0, &[0, 2, 0, 0, 0, 2]),
            Ends::Connection(&[PROTOCOL]),
        ),
        (
            "INITIAL_WINDOW_SIZE over 2^31",
            frame(kind::SETTINGS, 0, 0, &[0, 4, 0x80, 0, 0, 0]),
            Ends::Connection(&[FLOW_CONTROL, PROTOCOL]),
        ),
        (
            "MAX_FRAME_SIZE of 1",
            frame(kind::SETTINGS, 0, 0, &[0, 5, 0, 0, 0, 1]),
            Ends::Connection(&[PROTOCOL]),
        ),
        (
            "an unknown setting",
            frame(kind::SETTINGS, 0, 0, &[0, 0xff, 0, 0, 0, 1]),
            Ends::Lives,
        ),
        (
            "PING on a stream",
            frame(kind::PING, 0, 1, &[0; 8]),
            Ends::Connection(&[PROTOCOL]),
        ),
        (
            "PING of six bytes",
            frame(kind::PING, 0, 0, &[0; 6]),
            Ends::Connection(&[FRAME_SIZE, PROTOCOL]),
        ),
        (
            "GOAWAY on a stream",
            frame(kind::GOAWAY, 0, 1, &[0; 8]),
            Ends::Connection(&[PROTOCOL]),
        ),
        (
            "PUSH_PROMISE from a client",
            frame(kind::PUSH_PROMISE, END_HEADERS, 1, &[0, 0, 0, 2]),
            Ends::Connection(&[PROTOCOL]),
        ),
        (
            "an unknown kind of frame",
            frame(0xfe, 0, 0, b"whatever"),
            Ends::Lives,
        ),
        (
            "a frame over 16 KiB",
            frame(kind::DATA, 0, 1, &vec![0; 16_385]),
            Ends::Connection(&[FRAME_SIZE, PROTOCOL]),
        ),
        (
            "CONTINUATION out of nowhere",
            frame(kind::CONTINUATION, END_HEADERS, 1, &[]),
            Ends::Connection(&[PROTOCOL]),
        ),
        (
            "another frame within a head",
            [
                frame(kind::HEADERS, END_STREAM, 1, &block(&get("/x"))),
                frame(kind::PING, 0, 0, &[0; 8]),
            ]
            .concat(),
            Ends::Connection(&[PROTOCOL]),
        ),
        (
            "CONTINUATION of another stream",
            [
                frame(kind::HEADERS, END_STREAM, 1, &block(&get("/x"))),
                frame(kind::CONTINUATION, END_HEADERS, 3, &[]),
            ]
            .concat(),
            Ends::Connection(&[PROTOCOL]),
        ),
        (
            "a head that cannot be decoded",
            frame(kind::HEADERS, 5, 1, &[0xff, 0xff, 0xff, 0xff, 0xff]),
            Ends::Connection(&[COMPRESSION, PROTOCOL]),
        ),
        (
            "an index that is not in the table",
            frame(kind::HEADERS, 5, 1, &[0xc6]),
            Ends::Connection(&[COMPRESSION, PROTOCOL]),
        ),
        (
            "padding longer than the frame",
            [open(1), frame(kind::DATA, 8, 1, &[9, b'x'])].concat(),
            Ends::Connection(&[PROTOCOL]),
        ),
        (
            "a stream number that goes back",
            [open(5), whole(3, &get("/x"))].concat(),
            Ends::Connection(&[PROTOCOL]),
        ),
        (
            "a second HEADERS that does not end the stream",
            [
                open(1),
                frame(kind::HEADERS, END_HEADERS, 1, &block(&[("x", "y")])),
            ]
            .concat(),
            Ends::Stream(&[PROTOCOL]),
        ),
        (
            "a stream that depends on itself",
            frame(
                kind::HEADERS,
                5 | 0x20,
                1,
                &[&[0, 0, 0, 1, 0][..], &block(&get("/x"))].concat(),
            ),
            Ends::Stream(&[PROTOCOL]),
        ),
        (
            "PRIORITY of four bytes",
            frame(kind::PRIORITY, 0, 1, &[0; 4]),
            Ends::Stream(&[FRAME_SIZE, PROTOCOL]),
        ),
        (
            "PRIORITY on stream 0",
            frame(kind::PRIORITY, 0, 0, &[0; 5]),
            Ends::Connection(&[PROTOCOL]),
        ),
    ];
    for (name, bytes, ends) in cases {
        check(name, &gateway, &bytes, ends);
    }
    assert_eq!(origin.count(), 0);
}

#[test]
fn messages_that_break_the_rules_never_reach_an_origin() {
    let origin = Origin::start();
    let gateway = gateway(&origin);
    let plain = get("/x");
    let without = |index: usize| {
        let mut fields = plain.to_vec();
        fields.remove(index);
        whole(1, &fields)
    };
    let twice = |index: usize| whole(1, &[&[plain[index]][..], &plain[..]].concat());
    let malformed = Ends::Stream(&[PROTOCOL]);
    let cases: Vec<(&str, Vec<u8>, Ends)> = vec![
        ("no :method", without(0), malformed),
        ("no :scheme", without(1), malformed),
        ("no :path", without(2), malformed),
        (":method twice", twice(0), malformed),
        (":path twice", twice(2), malformed),
        (":authority twice", twice(3), malformed),
        ("an empty :path", whole(1, &get("")), malformed),
        (
            "an unknown pseudo-field",
            whole(1, &[&[(":unknown", "x")][..], &plain[..]].concat()),
            malformed,
        ),
        (
            ":status in a request",
            whole(1, &[&[(":status", "200")][..], &plain[..]].concat()),
            malformed,
        ),
        (
            "a pseudo-field behind a field",
            whole(1, &[&plain[..3], &[("x", "y")][..], &plain[3..]].concat()),
            malformed,
        ),
        ("a name in upper case", with(("X-Upper", "y")), malformed),
        ("a space in a name", with(("x y", "z")), malformed),
        ("a colon in a name", with(("x:y", "z")), malformed),
        ("an empty name", with(("", "z")), malformed),
        (
            "a line end in a value",
            with(("x", "a\r\nTransfer-Encoding: chunked")),
            malformed,
        ),
        ("a NUL in a value", with(("x", "a\0b")), malformed),
        ("Connection", with(("connection", "close")), malformed),
        ("Keep-Alive", with(("keep-alive", "1")), malformed),
        (
            "Proxy-Connection",
            with(("proxy-connection", "close")),
            malformed,
        ),
        (
            "Transfer-Encoding",
            with(("transfer-encoding", "chunked")),
            malformed,
        ),
        ("Upgrade", with(("upgrade", "websocket")), malformed),
        ("TE other than trailers", with(("te", "gzip")), malformed),
        (
            "a length without a body",
            with(("content-length", "5")),
            malformed,
        ),
        (
            "a line end in :path",
            whole(1, &get("/a\r\nHost: b")),
            malformed,
        ),
        ("a space in :path", whole(1, &get("/a b")), malformed),
        (
            "a line end in :method",
            whole(
                1,
                &[(":method", "GET\r\nX: y"), plain[1], plain[2], plain[3]],
            ),
            malformed,
        ),
        (
            "a line end in :authority",
            whole(
                1,
                &[plain[0], plain[1], plain[2], (":authority", "a\r\nX: y")],
            ),
            malformed,
        ),
        (
            "a user in :authority",
            whole(
                1,
                &[
                    plain[0],
                    plain[1],
                    plain[2],
                    (":authority", "u@gateway.test"),
                ],
            ),
            malformed,
        ),
        (
            "more body than was said",
            [
                frame(
                    kind::HEADERS,
                    END_HEADERS,
                    1,
                    &block(
                        &[
                            &[(":method", "POST")][..],
                            &plain[1..],
                            &[("content-length", "1")],
                        ]
                        .concat(),
                    ),
                ),
                frame(kind::DATA, END_STREAM, 1, b"four"),
            ]
            .concat(),
            malformed,
        ),
        (
            "less body than was said",
            [
                frame(
                    kind::HEADERS,
                    END_HEADERS,
                    1,
                    &block(
                        &[
                            &[(":method", "POST")][..],
                            &plain[1..],
                            &[("content-length", "9")],
                        ]
                        .concat(),
                    ),
                ),
                frame(kind::DATA, END_STREAM, 1, b"four"),
            ]
            .concat(),
            malformed,
        ),
        (
            "DATA after the end",
            [whole(1, &get("/fixed")), frame(kind::DATA, 0, 1, b"x")].concat(),
            Ends::Stream(&[STREAM_CLOSED, PROTOCOL]),
        ),
    ];
    for (name, bytes, ends) in cases {
        let mut frames = Frames::open(gateway.listen());
        frames.raw(&bytes);
        let fate = frames.fate();
        let fits = match (ends, fate) {
            (_, Fate::Connection(None)) => true,
            (Ends::Stream(codes), Fate::Stream(_, code) | Fate::Connection(Some(code))) => {
                codes.contains(&code) || code == REFUSED
            }
            // Refused in words will do (RFC 9113 §8.1.1).
            (Ends::Stream(_), Fate::Answer(_)) => true,
            _ => false,
        };
        assert!(fits, "{name}: {fate:?}");
    }
    let seen = origin.seen();
    let complete = seen.iter().filter(|seen| seen.method != "POST").count();
    assert_eq!(complete, 0, "{seen:?}");
}

/// POST for `/upload`, whose body is to come.
fn upload(stream: u32) -> Vec<u8> {
    [open(stream), frame(kind::DATA, 0, stream, b"body")].concat()
}

#[test]
fn a_pseudo_field_in_trailers_is_malformed() {
    let origin = Origin::start();
    let gateway = gateway(&origin);
    let ends = END_HEADERS | END_STREAM;
    for field in [
        (":path", "/other"),
        (":method", "DELETE"),
        (":scheme", "http"),
        (":authority", "other.test"),
        (":status", "200"),
    ] {
        let trailers = block(&[field, ("x-trailer", "v")]);
        let bytes = [upload(1), frame(kind::HEADERS, ends, 1, &trailers)].concat();
        check(field.0, &gateway, &bytes, Ends::Stream(&[PROTOCOL]));
        // The same without a body, and in pieces.
        let bytes = [
            open(1),
            frame(kind::HEADERS, END_STREAM, 1, &trailers[..5]),
            frame(kind::CONTINUATION, END_HEADERS, 1, &trailers[5..]),
        ];
        check(
            field.0,
            &gateway,
            &bytes.concat(),
            Ends::Stream(&[PROTOCOL]),
        );
    }
    // By its number in the static table, and by its number among those that were said before.
    let said = [&[0x40, 5][..], b":path", &[6], b"/other"].concat();
    let first = [
        frame(
            kind::HEADERS,
            ends,
            1,
            &[&block(&get("/x")[..2]), &said[..], &block(&get("/x")[3..])].concat(),
        ),
        upload(3),
    ];
    for trailers in [&[0x84][..], &[0x80 | 62]] {
        let trailers = frame(kind::HEADERS, ends, 3, trailers);
        let mut frames = Frames::open(gateway.listen());
        frames.raw(&[first.concat(), trailers].concat());
        let fates = [frames.fate(), frames.fate()];
        assert!(
            fates.contains(&Fate::Stream(3, PROTOCOL))
                || fates.contains(&Fate::Connection(Some(PROTOCOL))),
            "{fates:?}"
        );
    }
    assert!(
        origin.seen().iter().all(|seen| seen.method != "POST"),
        "{:?}",
        origin.seen()
    );
    // Trailers that are none of this pass.
    let trailers = frame(kind::HEADERS, ends, 1, &block(&[("x-trailer", "v")]));
    let mut frames = Frames::open(gateway.listen());
    frames.raw(&[upload(1), trailers].concat());
    assert_eq!(frames.fate(), Fate::Answer(1));
}

/// What a client is told that asks for this path.
fn status(gateway: &crate::harness::Gateway, bytes: &[u8]) -> Fate {
    let mut frames = Frames::open(gateway.listen());
    frames.raw(bytes);
    frames.fate()
}

#[test]
fn a_fragment_in_the_target_is_refused_as_over_http1() {
    let origin = Origin::start();
    let gateway = gateway(&origin);
    let head = |path: &str| {
        let mut connection = gateway.client().connect();
        connection
            .write(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n"))
            .unwrap();
        connection.response("GET").unwrap()
    };
    for path in ["/x#y", "/#", "/x?a=b#c", "/x#y?z"] {
        head(path).refused(400, "bad_request");
        assert_eq!(status(&gateway, &whole(1, &get(path))), Fate::Answer(1));
    }
    // "/x#" as Huffman has it, kept, and then by its number.
    let coded = [
        &[0x82, 0x86, 0x44, 0x84][..],
        &[0x63, 0xcf, 0xfd, 0x7f],
        &[0x41, 1],
        b"a",
    ]
    .concat();
    let again = [0x82, 0x86, 0x80 | 63, 0x80 | 62];
    let ends = END_HEADERS | END_STREAM;
    let bytes = [
        frame(kind::HEADERS, ends, 1, &coded),
        frame(kind::HEADERS, ends, 3, &again),
    ];
    let mut frames = Frames::open(gateway.listen());
    frames.raw(&bytes.concat());
    assert_eq!(frames.fate(), Fate::Answer(1));
    assert_eq!(origin.count(), 0, "{:?}", origin.seen());
    let refused = gateway
        .wait_for_log(|line| line["reason"] == "bad_request" && line["protocol"] == "HTTP/2");
    assert_eq!(refused["status"], 400);
}

#[test]
fn a_question_about_the_server_itself_goes_out_as_one() {
    let origin = Origin::start();
    let gateway = gateway(&origin);
    let mut fields = get("*");
    fields[0] = (":method", "OPTIONS");
    assert_eq!(status(&gateway, &whole(1, &fields)), Fate::Answer(1));
    assert_eq!(
        (origin.last().method.as_str(), origin.last().target.as_str()),
        ("OPTIONS", "*")
    );
    for target in ["*", "http://gateway.test"] {
        let before = origin.count();
        let mut connection = gateway.client().connect();
        connection
            .write(format!(
                "OPTIONS {target} HTTP/1.1\r\nHost: gateway.test\r\n\r\n"
            ))
            .unwrap();
        connection.response("OPTIONS").unwrap().expect(200);
        assert_eq!(origin.count(), before + 1);
        assert_eq!(origin.last().target, "*", "{target}");
    }
    gateway
        .run_cli(
            &["explain"],
            &["OPTIONS", "*", "-H", "Host: gateway.test", "--json"],
        )
        .expect(0)
        .says("\"path\": \"*\"");
    let mut fields = get("*");
    fields[0] = (":method", "GET");
    let before = origin.count();
    assert_eq!(status(&gateway, &whole(1, &fields)), Fate::Answer(1));
    assert_eq!(origin.count(), before, "only OPTIONS may ask so");
}

#[test]
fn what_a_head_of_http1_may_not_say_is_refused_here_too() {
    let origin = Origin::start();
    let gateway = gateway(&origin);
    let long = "M".repeat(33);
    for (at, value) in [(0, long.as_str()), (1, "ftp"), (1, "file")] {
        let mut fields = get("/x");
        fields[at].1 = value;
        assert_eq!(
            status(&gateway, &whole(1, &fields)),
            Fate::Answer(1),
            "{value}"
        );
    }
    for value in [" v", "v ", "\tv", "v\t", " "] {
        assert_eq!(
            status(&gateway, &with(("x-blank", value))),
            Fate::Answer(1),
            "{value:?}"
        );
    }
    assert_eq!(origin.count(), 0, "{:?}", origin.seen());
    let fits = "M".repeat(32);
    let mut fields = get("/x");
    fields[0].1 = &fits;
    assert_eq!(status(&gateway, &whole(1, &fields)), Fate::Answer(1));
    assert_eq!(status(&gateway, &with(("x-blank", "a b"))), Fate::Answer(1));
    assert_eq!(status(&gateway, &with(("x-empty", ""))), Fate::Answer(1));
    assert_eq!(origin.count(), 3);
}
