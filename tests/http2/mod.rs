//! HTTP/2 from clients: everything that holds for HTTP/1.1 holds here.

mod abuse;
mod framing;
mod grpc;
mod life;

use std::time::Instant;

use http::Version;

use crate::harness::{
    Answer, Frames, Gateway, Http2, Origin, Setup, asking, eventually, get, millis, seconds,
};

/// A listener that takes both protocols without TLS, before an origin.
const BOTH: &str = "[[listener]]\nname = \"public\"\naddress = \"{listen}\"\nhttp2 = true\n\
    [upstream.api]\nendpoints = [{ address = \"{origin}\" }]\n\
    [[route]]\nid = \"fixed\"\npath = \"/fixed\"\nrespond = { text = \"fine\" }\n\
    [[route]]\nid = \"all\"\npath = \"/**\"\nupstream = \"api\"\n";

fn gateway(origin: &Origin) -> Gateway {
    with("", origin)
}

/// The same with lines before.
fn with(lines: &str, origin: &Origin) -> Gateway {
    setup(lines).to(origin).start()
}

fn setup(lines: &str) -> Setup {
    Gateway::with(&format!("{lines}\n{BOTH}"))
}

#[test]
fn one_listener_takes_both_protocols() {
    let origin = Origin::start();
    let gateway = gateway(&origin);
    let client = Http2::connect(gateway.listen());
    let answered = client.get("/fixed").expect(200);
    assert_eq!(answered.text(), "fine");
    for gone in ["connection", "keep-alive", "transfer-encoding"] {
        assert_eq!(answered.header(gone), None, "{answered:?}");
    }
    let trace = answered
        .header("x-trace-id")
        .expect("an identifier")
        .to_owned();
    assert_eq!(gateway.access_line(&trace)["protocol"], "HTTP/2");
    client.get("/x").expect(200);
    assert_eq!(origin.last().header("host"), Some("gateway.test"));
    gateway.client().get("/fixed").send().expect(200);
}

#[test]
fn a_listener_without_it_refuses_it() {
    let text = BOTH.replace("http2 = true\n", "");
    let gateway = Gateway::with(&text).to(&Origin::start()).start();
    let outcome = gateway.client().raw("PRI * HTTP/2.0\r\n\r\n");
    assert_eq!(outcome.status(), 505);
}

#[test]
fn many_requests_at_once_each_get_their_answer() {
    let origin = Origin::answering(|seen| {
        let pause = if seen.target.ends_with('7') { 300 } else { 0 };
        Answer::text(seen.target.clone()).after(millis(pause))
    });
    let gateway = gateway(&origin);
    let client = Http2::connect(gateway.listen());
    let asked: Vec<_> = (0..90)
        .map(|n| {
            let request = asking("GET", &format!("/{n}")).body(()).unwrap();
            (n, client.begin(request, false))
        })
        .collect();
    for (n, asked) in asked {
        let answered = asked.wait().expect("an answer").expect(200);
        assert_eq!(answered.text(), format!("/{n}"));
    }
}

#[test]
fn bodies_pass_in_both_directions() {
    let origin = Origin::answering(|seen| Answer::text(&seen.body));
    let gateway = gateway(&origin);
    let client = Http2::connect(gateway.listen());
    let body: Vec<u8> = (0..900_000u32)
        .flat_map(|n| n.to_le_bytes())
        .take(900_000)
        .collect();
    // Of unknown length to us: chunks for the origin.
    let answered = client.send(asking("POST", "/a"), Some(&body)).expect(200);
    assert!(answered.body == body);
    assert_eq!(origin.last().header("transfer-encoding"), Some("chunked"));
    let sized = asking("POST", "/b").header("content-length", body.len());
    assert!(client.send(sized, Some(&body)).expect(200).body == body);
    assert_eq!(origin.last().header("content-length"), Some("900000"));
    assert_eq!(origin.last().header("transfer-encoding"), None);
    let empty = client.send(asking("POST", "/c"), Some(b"")).expect(200);
    assert!(empty.body.is_empty());
    let chunked = Origin::answering(|_| Answer::chunked(&["one", "two", "three"]));
    let gateway = self::gateway(&chunked);
    let client = Http2::connect(gateway.listen());
    assert_eq!(client.get("/").expect(200).text(), "onetwothree");
    let head = client.send(asking("HEAD", "/"), None).expect(200);
    assert!(head.body.is_empty());
}

#[test]
fn origins_see_a_request_of_http_1() {
    let origin = Origin::start();
    let gateway = gateway(&origin);
    let client = Http2::connect(gateway.listen());
    let request = asking("GET", "/a//b/../c?x=1")
        .header("cookie", "a=1")
        .header("cookie", "b=2")
        .header("te", "trailers")
        .header("x-forwarded-for", "6.6.6.6")
        .header("x-consumer", "canary")
        .header("x_consumer", "canary");
    client.send(request, None).expect(200);
    let seen = origin.last();
    assert_eq!(seen.target, "/a/c?x=1");
    assert_eq!(seen.values("cookie"), ["a=1; b=2"]);
    assert_eq!(seen.values("x-forwarded-for"), ["127.0.0.1"]);
    assert_eq!(seen.values("host"), ["gateway.test"]);
    for gone in ["te", "x-consumer", "x_consumer", "http2-settings"] {
        assert_eq!(seen.header(gone), None, "{gone}");
    }
}

#[test]
fn refusals_are_those_of_http_1() {
    let origin = Origin::start();
    let limits =
        "[server.client]\nmax_uri = \"1KiB\"\nmax_header_bytes = \"2KiB\"\nmax_headers = 20";
    let gateway = with(limits, &origin);
    let client = Http2::connect(gateway.listen());
    let ask = |method: &str, path: &str| client.send(asking(method, path), None);
    ask("GET", "/a%2fb").refused(400, "path_ambiguous");
    ask("TRACE", "/").refused(405, "method_not_allowed");
    ask("GET", &format!("/{}", "x".repeat(1100))).refused(414, "uri_too_long");
    let long = asking("GET", "/").header("x-long", "x".repeat(2100));
    client.send(long, None).refused(431, "headers_too_large");
    let mut many = asking("GET", "/");
    for n in 0..30 {
        many = many.header(format!("x-{n}"), "v");
    }
    client.send(many, None).refused(431, "headers_too_large");
    let other = asking("GET", "/").header("host", "other.test");
    client.send(other, None).refused(400, "host_invalid");
    let expects = asking("POST", "/").header("expect", "something");
    client
        .send(expects, Some(b"x"))
        .refused(417, "expectation_failed");
    let twin = asking("GET", "/").header("transfer_encoding", "chunked");
    client.send(twin, None).refused(400, "bad_request");
    assert_eq!(origin.count(), 0);
    client.get("/fixed").expect(200);
    let refused = gateway.metric("gateway_refused_total", &[("reason", "headers_too_large")]);
    assert_eq!(refused, 2.0);
}

#[test]
fn a_refusal_reaches_a_client_that_still_sends() {
    let origin = Origin::start();
    let gateway = gateway(&origin);
    let client = Http2::connect(gateway.listen());
    let body = vec![b'x'; 3 << 20];
    let answered = client.send(asking("POST", "/x"), Some(&body));
    assert_eq!(answered.status, 413, "{answered:?}");
    client.get("/fixed").expect(200);
}

#[test]
fn filters_hold_and_bodies_are_checked_before_they_are_forwarded() {
    let origin = Origin::start();
    let toml = format!(
        "{BOTH}[auth.partner]\ntype = \"signature\"\nscheme = \"ca\"\nnonce = \"required\"\n\
         [auth.partner.apps]\n\"app-1\" = {{ secret = \"0123456789abcdef0123456789abcdef\" }}\n\
         [limit.few]\nkey = \"client_ip\"\nalgorithm = \"token_bucket\"\nrate = \"1/m\"\nburst = 2\n\
         [[route]]\nid = \"signed\"\npath = \"/signed\"\nupstream = \"api\"\nauth = [\"partner\"]\n\
         [[route]]\nid = \"few\"\npath = \"/few\"\nupstream = \"api\"\nlimits = [\"few\"]\n"
    );
    let gateway = Gateway::with(&toml).to(&origin).start();
    let client = Http2::connect(gateway.listen());
    let signed = |body: &str| {
        let url = "http://gateway.test/signed";
        let secret = "0123456789abcdef0123456789abcdef";
        let args = [
            "--scheme",
            "ca",
            "--key",
            "app-1",
            "--secret",
            secret,
            "--headers",
            "-H",
            "content-type: application/json",
            "POST",
            url,
            "-d",
            body,
        ];
        let printed = crate::harness::tollgate()
            .arg("sign")
            .args(args)
            .output()
            .unwrap();
        let mut request = asking("POST", "/signed");
        for line in String::from_utf8(printed.stdout).unwrap().lines() {
            let (name, value) = line.split_once(": ").unwrap();
            request = request.header(name, value);
        }
        request
    };
    client.send(signed("hello"), Some(b"hello")).expect(200);
    assert_eq!(origin.last().body, b"hello");
    client
        .send(signed("hello"), Some(b"hullo"))
        .refused(401, "body_digest");
    client
        .send(asking("POST", "/signed"), Some(b"x"))
        .refused(401, "sig_missing");
    client.get("/few").expect(200);
    assert_eq!(
        client
            .get("/few")
            .expect(200)
            .header("x-ratelimit-remaining"),
        Some("0")
    );
    let refused = client.get("/few");
    assert!(refused.header("retry-after").is_some());
    refused.refused(429, "rate_limited");
}

#[test]
fn a_client_that_gives_a_stream_up_releases_the_upstream_and_nobody_else() {
    let origin = Origin::answering(|seen| {
        if seen.target == "/slow" {
            Answer::silence()
        } else {
            Answer::text("fine")
        }
    });
    let gateway = gateway(&origin);
    let client = Http2::connect(gateway.listen());
    for _ in 0..5 {
        let slow = client.begin(asking("GET", "/slow").body(()).unwrap(), false);
        eventually(seconds(5), "it arrived", || origin.open() > 0);
        slow.reset();
        eventually(seconds(5), "it was released", || origin.open() == 0);
    }
    client.get("/x").expect(200);
    let healthy = [("upstream", "api")];
    assert_eq!(gateway.metric("gateway_endpoint_healthy", &healthy), 1.0);
}

#[test]
fn an_answer_that_breaks_off_is_visibly_cut_and_others_are_not() {
    let origin = Origin::answering(|seen| match &*seen.target {
        "/broken" => Answer::broken_off(),
        "/chunks" => {
            Answer::raw("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
        }
        _ => Answer::trickle(10, millis(50)),
    });
    let gateway = gateway(&origin);
    let client = Http2::connect(gateway.listen());
    let slow = client.begin(asking("GET", "/whole").body(()).unwrap(), false);
    for path in ["/broken", "/chunks"] {
        // The reset may overtake the head.
        if let Ok(cut) = client.try_send(asking("GET", path), None) {
            assert_eq!(cut.status, 200);
            assert!(cut.reset.is_some(), "{cut:?}");
        }
    }
    slow.wait().expect("an answer").expect(200);
}

#[test]
fn a_silent_upstream_is_a_504_and_late_ones_end_at_the_deadline() {
    let origin = Origin::answering(|_| Answer::silence());
    let timeouts = "[upstream.api.timeout]\nread = \"300ms\"\n";
    let toml = format!("{BOTH}{timeouts}");
    let gateway = Gateway::with(&toml).to(&origin).start();
    let client = Http2::connect(gateway.listen());
    client.get("/x").refused(504, "upstream_timeout");
    let toml = format!("{BOTH}[upstream.api.timeout]\nrequest = \"400ms\"\n");
    let gateway = Gateway::with(&toml).to(&origin).start();
    let client = Http2::connect(gateway.listen());
    let start = Instant::now();
    client.get("/x").refused(504, "deadline_exceeded");
    assert!(start.elapsed() < seconds(3));
}

#[test]
fn a_body_that_pauses_too_long_is_a_408() {
    let origin = Origin::start();
    let gateway = with("[server.client]\nbody_timeout = \"300ms\"", &origin);
    let client = Http2::connect(gateway.listen());
    let asked = client.begin(asking("POST", "/x").body(()).unwrap(), true);
    let answered = asked.wait().expect("an answer");
    assert_eq!(answered.status, 408, "{answered:?}");
}

#[test]
fn informational_answers_pass() {
    let origin = Origin::answering(|_| {
        Answer::raw(
            "HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n\
             HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
        )
    });
    let gateway = gateway(&origin);
    assert_eq!(
        Http2::connect(gateway.listen()).get("/").expect(200).text(),
        "ok"
    );
}

#[test]
fn requests_to_an_upstream_over_tls_pass_too() {
    let origin = Origin::answering(|seen| Answer::text(&seen.body));
    let (gateway, _front) = behind_tls(&origin);
    let client = Http2::connect(gateway.listen());
    let body = vec![b'y'; 300_000];
    let answered = client.send(asking("POST", "/x"), Some(&body)).expect(200);
    assert!(answered.body == body);
    assert_eq!(client.get("/y").expect(200).body, b"");
    let request = asking("GET", "/").version(Version::HTTP_2);
    client.send(request, None).expect(200);
}

/// A gateway that reaches the origin over TLS: through another gateway, which speaks it.
fn behind_tls(origin: &Origin) -> (Gateway, Gateway) {
    let certificates = crate::harness::Peer::certificates("origin.test");
    let address = crate::harness::reserve();
    let pem = |name: &str| certificates[name].as_str().unwrap().to_owned();
    let front = Gateway::with(&format!(
        "{BOTH}[[listener]]\nname = \"secure\"\naddress = \"{address}\"\n[listener.tls]\n\
         certificates = [{{ cert = \"{{dir}}/a.pem\", key = \"{{dir}}/a.key\" }}]\n"
    ))
    .file("a.pem", &pem("server"))
    .file("a.key", &pem("server_key"))
    .to(origin)
    .start();
    let tls = "tls = { sni = \"origin.test\", ca = \"{dir}/ca.pem\" }\n";
    let text = BOTH.replace("{origin}", &address.to_string());
    let text = text.replacen("[[route]]", &format!("{tls}[[route]]"), 1);
    let gateway = Gateway::with(&text).file("ca.pem", &pem("ca")).start();
    (gateway, front)
}

#[test]
fn requests_by_hand_are_answered_in_order_of_their_frames() {
    let gateway = gateway(&Origin::start());
    let mut frames = Frames::open(gateway.listen());
    frames.head(
        1,
        crate::harness::END_HEADERS | crate::harness::END_STREAM,
        &get("/fixed"),
    );
    assert_eq!(frames.fate(), crate::harness::Fate::Answer(1));
}
