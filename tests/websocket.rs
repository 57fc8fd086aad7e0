//! WebSocket passes through, and every check comes first.

use serde_json::json;

use crate::harness::{
    Answer, Connection, Gateway, Origin, Peer, RawOrigin, Says, Speaks, eventually, millis,
    on_each, seconds, unix_now, ways_of,
};

const SECRET: &str = "0123456789abcdef0123456789abcdef";

fn start() -> (Origin, Gateway) {
    let origin = Origin::answering(|seen| match seen.header("upgrade") {
        Some(_) => {
            Answer::switch_and_echo("Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n")
        }
        None => Answer::echo(),
    });
    let gateway = Gateway::with(
        r#"
        [auth.app]
        type = "jwt"
        algorithms = ["HS256"]
        secret = "0123456789abcdef0123456789abcdef"
        forward_claims = { sub = "X-User-Id" }
        [limit.one]
        key = "client_ip"
        algorithm = "concurrency"
        max = 1
        [upstream.api]
        endpoints = [{ address = "{origin}" }]
        [upstream.api.timeout]
        request = "1s"
        [[route]]
        id = "open"
        path = "/open"
        upstream = "api"
        [[route]]
        id = "closed"
        path = "/closed"
        auth = ["app"]
        upstream = "api"
        [[route]]
        id = "limited"
        path = "/limited"
        limits = ["one"]
        upstream = "api"
        [[route]]
        id = "get-only"
        path = "/post"
        methods = ["POST"]
        upstream = "api"
        [[route]]
        id = "denied"
        path = "/denied"
        deny_ips = ["127.0.0.0/8"]
        upstream = "api"
        "#,
    )
    .to(&origin)
    .start();
    (origin, gateway)
}

fn handshake(target: &str, more: &str) -> String {
    format!(
        "GET {target} HTTP/1.1\r\nHost: gateway.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{more}\r\n"
    )
}

/// A connection that became a tunnel.
fn opened(gateway: &Gateway, target: &str, more: &str) -> Connection {
    let mut connection = gateway.client().connect();
    connection.write(handshake(target, more)).unwrap();
    let response = connection.response("GET").unwrap().expect(101);
    assert_eq!(
        response.header("upgrade").map(str::to_lowercase).as_deref(),
        Some("websocket")
    );
    assert_eq!(
        response.header("sec-websocket-accept"),
        Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")
    );
    connection
}

#[track_caller]
fn echoes(connection: &mut Connection, bytes: &[u8]) {
    connection.write(bytes).unwrap();
    assert_eq!(connection.bytes(bytes.len()).unwrap(), bytes);
}

#[test]
fn frames_pass_both_ways() {
    let (origin, gateway) = start();
    let mut connection = opened(&gateway, "/open", "");
    let seen = origin.last();
    assert_eq!(
        seen.header("upgrade").map(str::to_lowercase).as_deref(),
        Some("websocket")
    );
    assert_eq!(
        seen.header("sec-websocket-key"),
        Some("dGhlIHNhbXBsZSBub25jZQ==")
    );
    assert!(
        seen.header("connection")
            .is_some_and(|v| v.eq_ignore_ascii_case("upgrade")),
        "{:?}",
        seen.headers
    );
    echoes(
        &mut connection,
        b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58",
    );
    let large: Vec<u8> = (0..200_000u32).map(|n| (n % 255) as u8).collect();
    for piece in large.chunks(8_192) {
        echoes(&mut connection, piece);
    }
    drop(connection);
    eventually(seconds(5), "the origin's side is closed too", || {
        origin.open() == 0
    });
}

#[test]
fn a_tunnel_outlives_the_deadline_of_a_request() {
    let (_origin, gateway) = start();
    let mut connection = opened(&gateway, "/open", "");
    for _ in 0..8 {
        echoes(&mut connection, b"still here");
        std::thread::sleep(millis(250));
    }
}

/// A gateway whose tunnels may be silent for so long, while answers may not be silent at all.
fn silent_for(tunnel: &str) -> (Origin, Gateway) {
    let origin = Origin::answering(|_| {
        Answer::switch_and_echo("Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n")
    });
    let gateway = Gateway::with(&format!(
        "[upstream.api]\nendpoints = [{{ address = \"{{origin}}\" }}]\n[upstream.api.timeout]\nread = \"200ms\"\n\
         request = \"300ms\"\n{tunnel}\n[[route]]\nid = \"r\"\npath = \"/open\"\nupstream = \"api\"\n"
    ))
    .to(&origin)
    .start();
    (origin, gateway)
}

const AWAY_TO_CLIENT: [u8; 4] = [0x88, 2, 0x03, 0xe9];
const AWAY_TO_ORIGIN: [u8; 8] = [0x88, 0x82, 0, 0, 0, 0, 0x03, 0xe9];

#[test]
fn a_tunnel_in_which_nobody_speaks_ends_and_both_sides_hear_so() {
    let (origin, gateway) = silent_for("tunnel = \"800ms\"");
    let mut connection = opened(&gateway, "/open", "X-Trace-ID: silent\r\n");
    for _ in 0..6 {
        echoes(&mut connection, b"\x82\x04ping");
        std::thread::sleep(millis(250));
    }
    let silent_since = std::time::Instant::now();
    assert_eq!(connection.bytes(4).unwrap(), AWAY_TO_CLIENT);
    assert!(silent_since.elapsed() >= millis(400));
    assert!(connection.closes_within(seconds(5)));
    eventually(seconds(5), "the origin heard it, too", || {
        origin.bytes().ends_with(&AWAY_TO_ORIGIN)
    });
    let line = gateway.access_line("silent");
    assert_eq!(
        (&line["status"], &line["tunnel_end"], &line["reason"]),
        (&json!(101), &json!("timeout"), &json!("tunnel_timeout")),
        "{line}"
    );
}

#[test]
fn a_silent_tunnel_outlives_what_bounds_an_answer() {
    let (origin, gateway) = silent_for("");
    let mut connection = opened(&gateway, "/open", "");
    // Far beyond `read` and `request`, and what the gateway waits for after them.
    assert!(!connection.closes_within(seconds(2)));
    echoes(&mut connection, b"\x82\x04ping");
    assert_eq!(origin.open(), 1);
}

#[test]
fn one_side_that_speaks_keeps_a_tunnel_open() {
    // The origin says something from time to time, and the client nothing.
    let chatty = RawOrigin::saying(|_| {
        let mut says = Says::text(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
        );
        for _ in 0..10 {
            says.push(Says::Pause(millis(250)));
            says.push(Says::Bytes(b"\x82\x01.".to_vec()));
        }
        says
    });
    let gateway = chatty.behind("timeout = { tunnel = \"800ms\" }").start();
    on_each(ways_of(Speaks::Http1), |way| {
        let mut connection = gateway.client().connect();
        connection
            .write(handshake(&format!("/{way}/"), ""))
            .unwrap();
        connection.response("GET").unwrap().expect(101);
        assert_eq!(
            connection.bytes(30).unwrap(),
            b"\x82\x01.".repeat(10),
            "{way}"
        );
        assert_eq!(connection.bytes(4).unwrap(), AWAY_TO_CLIENT, "{way}");
    });
}

#[test]
fn explaining_says_how_long_a_tunnel_may_be_silent() {
    let (_origin, gateway) = silent_for("tunnel = \"90s\"");
    let asked = [
        "GET",
        "/open",
        "-H",
        "Connection: Upgrade",
        "-H",
        "Upgrade: websocket",
    ];
    gateway
        .run_cli(&["explain"], &asked)
        .expect(0)
        .says("a WebSocket may be silent for 90s");
    gateway
        .run_cli(&["explain"], &asked[..2])
        .expect(0)
        .never_says("WebSocket");
    gateway
        .run_cli(&["config", "show"], &[])
        .expect(0)
        .says("tunnel = \"90s\"")
        .says("max_response_header = \"64KiB\"");
}

#[test]
fn no_close_frame_falls_into_the_middle_of_another() {
    let (_origin, gateway) = silent_for("tunnel = \"400ms\"");
    let mut connection = opened(&gateway, "/open", "");
    // The origin echoes the beginning of a frame of 10 bytes.
    echoes(&mut connection, b"\x82\x0ahel");
    assert!(connection.closes_within(seconds(5)), "without a word");
}

#[test]
fn an_open_tunnel_hears_that_the_gateway_stops() {
    let (origin, gateway) = {
        let origin = Origin::answering(|_| {
            Answer::switch_and_echo("Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n")
        });
        let gateway = Gateway::with(
            "[server]\ngrace_period = \"2s\"\n[upstream.api]\nendpoints = [{ address = \"{origin}\" }]\n\
             [[route]]\nid = \"r\"\npath = \"/open\"\nupstream = \"api\"\n",
        )
        .to(&origin)
        .start();
        (origin, gateway)
    };
    let mut connection = opened(&gateway, "/open", "X-Trace-ID: stopped\r\n");
    echoes(&mut connection, b"\x82\x04ping");
    let told = std::time::Instant::now();
    gateway.signal(nix::sys::signal::Signal::SIGTERM);
    assert_eq!(connection.bytes(4).unwrap(), AWAY_TO_CLIENT);
    assert!(told.elapsed() >= millis(700), "it is served until then");
    assert!(gateway.wait_exit(seconds(5)).success());
    assert!(origin.bytes().ends_with(&AWAY_TO_ORIGIN));
    let line = gateway.access_line("stopped");
    assert_eq!(line["tunnel_end"], "draining", "{line}");
}

#[test]
fn the_log_says_who_ended_a_tunnel() {
    let (origin, gateway) = start();
    let mut by_client = opened(&gateway, "/open", "X-Trace-ID: by-client\r\n");
    echoes(&mut by_client, b"\x82\x04ping");
    drop(by_client);
    let line = gateway.access_line("by-client");
    assert_eq!(
        (&line["tunnel_end"], &line["bytes_in"], &line["bytes_out"]),
        (&json!("client"), &json!(6), &json!(6)),
        "{line}"
    );
    let mut by_origin = opened(&gateway, "/open", "X-Trace-ID: by-origin\r\n");
    echoes(&mut by_origin, b"hello");
    origin.kill();
    assert!(by_origin.closes_within(seconds(5)));
    let line = gateway.access_line("by-origin");
    assert_eq!(line["tunnel_end"], "upstream", "{line}");
}

#[test]
fn tunnels_open_on_every_way_to_an_origin() {
    let origin = RawOrigin::saying(|_| {
        Says::text(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\r\nhello",
        )
    });
    let gateway = origin.behind("").start();
    for way in ways_of(Speaks::Http1) {
        let mut connection = gateway.client().connect();
        connection
            .write(handshake(&format!("/{way}/"), ""))
            .unwrap();
        let answer = connection.response("GET").unwrap().expect(101);
        assert_eq!(answer.header("upgrade"), Some("websocket"), "{way}");
        assert_eq!(connection.bytes(5).unwrap(), b"hello", "{way}");
    }
}

#[test]
fn an_upgrade_to_something_else_than_was_asked_for_is_not_passed_on() {
    for head in [
        "Upgrade: h2c\r\nConnection: Upgrade\r\n",
        "Upgrade: websocket\r\n",
        "Connection: Upgrade\r\n",
    ] {
        let answer = format!("HTTP/1.1 101 Switching Protocols\r\n{head}\r\n");
        let origin = RawOrigin::saying(move |_| Says::text(&answer));
        let gateway = origin.behind("").start();
        for way in ways_of(Speaks::Http1) {
            let mut connection = gateway.client().connect();
            connection
                .write(handshake(&format!("/{way}/"), ""))
                .unwrap();
            let answer = connection.response("GET").unwrap();
            answer.refused(502, "upstream_invalid");
        }
    }
}

#[test]
fn the_end_of_the_origin_ends_the_tunnel() {
    let (origin, gateway) = start();
    let mut connection = opened(&gateway, "/open", "");
    echoes(&mut connection, b"hello");
    origin.kill();
    assert!(connection.closes_within(seconds(5)));
}

#[test]
fn every_check_comes_first() {
    let (origin, gateway) = start();
    for (target, status, code) in [
        ("/closed", 401, "token_missing"),
        ("/denied", 403, "ip_denied"),
        ("/post", 405, "method_not_allowed"),
        ("/nowhere", 404, "route_not_found"),
        ("/closed%2f", 400, "path_ambiguous"),
    ] {
        let mut connection = gateway.client().connect();
        connection.write(handshake(target, "")).unwrap();
        connection.response("GET").unwrap().refused(status, code);
    }
    assert_eq!(origin.count(), 0);
    let token = Peer::token(
        "HS256",
        SECRET,
        &json!({ "sub": "user-7", "exp": unix_now() + 60 }),
    );
    let mut connection = opened(
        &gateway,
        "/closed",
        &format!("Authorization: Bearer {token}\r\nX-User-Id: canary\r\n"),
    );
    echoes(&mut connection, b"hello");
    assert_eq!(origin.last().values("x-user-id"), ["user-7"]);
}

#[test]
fn an_open_tunnel_holds_its_slot() {
    let (_origin, gateway) = start();
    let connection = opened(&gateway, "/limited", "");
    gateway
        .client()
        .get("/limited")
        .send()
        .refused(429, "concurrency_limited");
    drop(connection);
    eventually(seconds(5), "the slot is free", || {
        gateway.client().get("/limited").send().status == 200
    });
}

#[test]
fn an_upgrade_to_anything_else_is_an_ordinary_request() {
    let (origin, gateway) = start();
    for protocol in ["h2c", "TLS/1.0", "something", "websocket, h2c"] {
        let request = gateway.client();
        let request = request
            .get("/open")
            .header("Connection", "Upgrade")
            .header("Upgrade", protocol);
        let response = request.send();
        assert!(
            response.status == 200 || response.status == 400,
            "{protocol}: {response:?}"
        );
        assert!(
            origin
                .seen()
                .iter()
                .all(|s| s.header("upgrade").is_none_or(|v| !v.contains("h2c")))
        );
    }
}

#[test]
fn an_origin_that_declines_is_heard() {
    let origin = Origin::answering(|_| Answer::status(426).header("Upgrade", "other"));
    let gateway = Gateway::with(
        "[upstream.api]\nendpoints = [{ address = \"{origin}\" }]\n[[route]]\nid = \"r\"\npath = \"/**\"\nupstream = \"api\"\n",
    )
    .to(&origin)
    .start();
    let mut connection = gateway.client().connect();
    connection.write(handshake("/x", "")).unwrap();
    assert_eq!(connection.response("GET").unwrap().status, 426);
}

#[test]
fn a_tunnel_is_one_line_in_the_log() {
    let (_origin, gateway) = start();
    let mut connection = opened(&gateway, "/open", "X-Trace-ID: tunnel\r\n");
    echoes(&mut connection, b"0123456789");
    drop(connection);
    let line = gateway.access_line("tunnel");
    assert_eq!(
        (&line["status"], &line["route"]),
        (&json!(101), &json!("open")),
        "{line}"
    );
}

#[test]
fn bytes_before_the_101_stay_behind_when_there_is_none() {
    let (origin, gateway) = start();
    let mut connection = gateway.client().connect();
    let smuggled = "GET /open?smuggled HTTP/1.1\r\nHost: a\r\n\r\n";
    connection
        .write(handshake("/closed", "") + smuggled)
        .unwrap();
    connection
        .response("GET")
        .unwrap()
        .refused(401, "token_missing");
    // Either the connection ends, or the next request is an ordinary one that passes every check.
    let _ = connection.outcome("GET");
    assert!(origin.seen().iter().all(|s| s.header("upgrade").is_none()));
}
