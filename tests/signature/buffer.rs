//! Bodies that must be whole before it is known who sent them: none is kept for nobody, and all together are bounded.

use std::net::SocketAddr;

use bytes::Bytes;

use super::{SECRET, get, post, signed, signed_text};
use crate::harness::{
    Gateway, Http2, Origin, Signed, Streaming, asking, eventually, millis, seconds, unix_millis,
};

const FORM: &str = "application/x-www-form-urlencoded";
const LISTENER: &str = "[[listener]]\nname = \"public\"\naddress = \"{listen}\"\nhttp2 = true\n";

/// Applications of which one may call from elsewhere only.
fn apps() -> String {
    format!(
        "\"app-1001\" = {{ secret = \"{SECRET}\" }}\n\
         \"elsewhere\" = {{ secret = \"{SECRET}\", ips = [\"127.0.0.9/32\"] }}"
    )
}

fn gateway(origin: &Origin, server: &str) -> Gateway {
    let text = signed_text("ca", "", &apps(), "");
    Gateway::with(&format!("{server}\n{LISTENER}{text}"))
        .to(origin)
        .start()
}

fn form_of(app: &str, body: &str) -> Signed {
    Signed::ca(app, SECRET, "POST", "/x")
        .body(body)
        .but("type", FORM)
}

/// Headers of a form, with what it is told.
type Hopeless = (Vec<(String, String)>, u16, &'static str);

/// Forms that the head alone condemns. One was sent before.
fn hopeless(gateway: &Gateway) -> Vec<Hopeless> {
    let stale = unix_millis() - 3_600_000;
    let known = form_of("app-1001", "a=1").headers();
    post(&gateway.client(), "/x", &known, "a=1").expect(200);
    vec![
        (form_of("nobody", "a=1").headers(), 401, "sig_invalid"),
        (form_of("elsewhere", "a=1").headers(), 403, "app_denied"),
        (
            form_of("app-1001", "a=1").but("timestamp", stale).headers(),
            401,
            "sig_expired",
        ),
        (known, 401, "sig_replayed"),
    ]
}

fn begin<'c>(client: &'c Http2, headers: &[(String, String)]) -> Streaming<'c> {
    let request = headers
        .iter()
        .fold(asking("POST", "/x"), |request, (name, value)| {
            request.header(name.to_lowercase(), value)
        });
    client.begin(request.body(()).unwrap(), true)
}

#[test]
fn a_form_that_its_head_condemns_is_refused_before_its_body() {
    let origin = Origin::start();
    let gateway = gateway(&origin, "");
    for (headers, status, code) in hopeless(&gateway) {
        let mut connection = gateway.client().connect();
        connection.patience(seconds(5));
        let mut head = "POST /x HTTP/1.1\r\nHost: gateway.test\r\nContent-Length: 3\r\n".to_owned();
        for (name, value) in &headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        connection.write(head + "\r\n").unwrap();
        let response = connection.response("POST").unwrap();
        response.refused(status, code);
    }
    assert_eq!(origin.count(), 1);
}

#[test]
fn so_it_is_over_http2() {
    let origin = Origin::start();
    let gateway = gateway(&origin, "");
    let hopeless = hopeless(&gateway);
    let client = Http2::connect(gateway.listen());
    for (headers, status, code) in hopeless {
        let asked = begin(&client, &headers);
        asked.wait().unwrap().refused(status, code);
    }
    assert_eq!(origin.count(), 1);
}

#[test]
fn forms_of_an_unknown_application_take_no_memory() {
    let origin = Origin::start();
    let gateway = gateway(&origin, "");
    let headers = form_of("nobody", "a=1").headers();
    let client = Http2::connect(gateway.listen());
    let before = gateway.rss();
    let piece = Bytes::from(vec![b'a'; 1_000_000]);
    let streams: Vec<_> = (0..60)
        .map(|_| {
            let mut asked = begin(&client, &headers);
            let _ = asked.body.send_data(piece.clone(), false);
            asked
        })
        .collect();
    eventually(seconds(20), "all are refused", || {
        streams.iter().all(Streaming::is_over)
    });
    let grown = gateway.rss().saturating_sub(before);
    assert!(grown < 20 << 10, "memory grew by {grown} KiB");
}

/// Streams that hold back the last byte of a form of nearly a mebibyte.
fn held_back(address: SocketAddr, count: usize, then: impl FnOnce(Vec<Streaming<'_>>)) {
    let client = Http2::connect(address);
    let body = format!("a={}", "x".repeat(1_000_000));
    let streams = (0..count).map(|_| {
        let mut asked = begin(&client, &form_of("app-1001", &body).headers());
        let piece = Bytes::copy_from_slice(&body.as_bytes()[..body.len() - 1]);
        let _ = asked.body.send_data(piece, false);
        asked
    });
    then(streams.collect());
}

#[test]
fn bodies_together_are_bounded_and_who_finds_no_room_may_come_again() {
    let origin = Origin::start();
    let gateway = gateway(&origin, "[server]\nauth_buffer = \"4MiB\"");
    let most = 4 << 20;
    let taken = || {
        let info = gateway.info();
        assert_eq!(info["auth_buffer"]["most"], most, "{info}");
        info["auth_buffer"]["bytes"].as_u64().unwrap()
    };
    held_back(gateway.listen(), 12, |streams| {
        let refused = || {
            assert!(taken() <= most, "{}", taken());
            streams.iter().filter(|asked| asked.is_over()).count() >= 8
        };
        eventually(seconds(20), "most find no room", refused);
        let answers = streams.into_iter().map(|mut asked| {
            let _ = asked.body.send_data(Bytes::from_static(b"x"), true);
            asked.wait().unwrap()
        });
        let (served, refused): (Vec<_>, Vec<_>) = answers.partition(|a| a.status == 200);
        assert!(!served.is_empty() && served.len() <= 4, "{}", served.len());
        for answer in refused {
            assert!(answer.header("retry-after").is_some(), "{answer:?}");
            answer.refused(503, "overloaded");
        }
    });
    eventually(seconds(5), "all room is free again", || taken() == 0);
    let headers = form_of("app-1001", "a=1").headers();
    post(&gateway.client(), "/x", &headers, "a=1").expect(200);
    let line = gateway.wait_for_log(|line| line["reason"] == "overloaded");
    assert_eq!(line["cause"], "server.auth_buffer is full", "{line}");
    gateway
        .run_cli(&["status"], &[])
        .expect(0)
        .says("0 of 4194304 bytes of server.auth_buffer taken");
}

#[test]
fn a_body_that_is_announced_takes_no_room() {
    let origin = Origin::start();
    let gateway = gateway(&origin, "[server]\nauth_buffer = \"1MiB\"");
    let idle: Vec<_> = (0..20)
        .map(|_| {
            let mut connection = gateway.client().connect();
            let mut head =
                "POST /x HTTP/1.1\r\nHost: gateway.test\r\nContent-Length: 1000000\r\n".to_owned();
            for (name, value) in form_of("app-1001", "a=1").headers() {
                head.push_str(&format!("{name}: {value}\r\n"));
            }
            connection.write(head + "\r\n").unwrap();
            connection
        })
        .collect();
    let body = format!("a={}", "x".repeat(1_000_000));
    let headers = form_of("app-1001", &body).headers();
    post(&gateway.client(), "/x", &headers, &body).expect(200);
    drop(idle);
}

#[test]
fn a_replay_that_holds_its_body_back_does_not_outlive_its_nonce() {
    for kind in [FORM, "application/json"] {
        let origin = Origin::start();
        let apps = format!("\"app-1001\" = {{ secret = \"{SECRET}\" }}");
        // So few nonces that one more only fits once the first is forgotten.
        let keys = "skew = \"500ms\"\nnonce_capacity = 2";
        let gateway = signed("ca", keys, &apps, "").to(&origin).start();
        let body = "a=1";
        let headers = Signed::ca("app-1001", SECRET, "POST", "/x")
            .body(body)
            .but("type", kind)
            .headers();
        let mut held = gateway.client().connect();
        held.patience(seconds(5));
        let mut head =
            "POST /x HTTP/1.1\r\nHost: gateway.test\r\nContent-Length: 3\r\nExpect: 100-continue\r\n"
                .to_owned();
        for (name, value) in &headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        held.write(head + "\r\n").unwrap();
        let invited = held.bytes(25).unwrap();
        assert!(invited.starts_with(b"HTTP/1.1 100 "), "it may go on");
        post(&gateway.client(), "/x", &headers, body).expect(200);
        let more = || {
            let headers = Signed::ca("app-1001", SECRET, "GET", "/x").headers();
            get(&gateway.client(), "/x", &headers).status
        };
        assert_eq!(more(), 200);
        eventually(seconds(10), "the nonce is forgotten", || {
            std::thread::sleep(millis(20));
            more() == 200
        });
        held.write(body).unwrap();
        held.response("POST").unwrap().refused(401, "sig_expired");
        let bodies = origin.count_of(|seen| seen.method == "POST");
        assert_eq!(bodies, 1, "{kind}");
    }
}
