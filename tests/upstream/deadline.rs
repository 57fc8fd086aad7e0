//! Every wait for an upstream ends.

use std::time::{Duration, Instant};

use super::{before, endpoint, to};
use crate::harness::{
    Answer, Gateway, Http2, Origin, Response, Signed, asking, eventually, millis, seconds,
};

fn timeouts(origin: &Origin, lines: &str) -> Gateway {
    before(
        &to(origin),
        &format!("[upstream.api.timeout]\n{lines}\n[upstream.api.retry]\nattempts = 0\n"),
    )
    .start()
}

fn timed(gateway: &Gateway, target: &str) -> (Response, Duration) {
    let start = Instant::now();
    let response = gateway.client().get(target).send();
    (response, start.elapsed())
}

#[test]
fn an_upstream_that_says_nothing_is_upstream_timeout() {
    let origin = Origin::answering(|seen| match seen.target.as_str() {
        "/slow" => Answer::text("late").after(millis(250)),
        _ => Answer::silence(),
    });
    let gateway = timeouts(&origin, "read = \"600ms\"");
    let (response, took) = timed(&gateway, "/");
    response.refused(504, "upstream_timeout");
    assert!((millis(500)..seconds(3)).contains(&took), "{took:?}");
    timed(&gateway, "/slow").0.expect(200);
}

#[test]
fn read_counts_between_two_pieces_only() {
    let origin = Origin::answering(|_| Answer::trickle(8, millis(120)));
    let gateway = timeouts(&origin, "read = \"500ms\"");
    let (response, took) = timed(&gateway, "/");
    assert_eq!(response.expect(200).body.bytes.len(), 80);
    assert!(took > millis(800), "{took:?}");
}

#[test]
fn request_is_the_deadline_of_the_whole_exchange() {
    let origin = Origin::answering(|_| Answer::silence());
    let gateway = timeouts(&origin, "read = \"10s\"\nrequest = \"500ms\"");
    let (response, took) = timed(&gateway, "/");
    response.refused(504, "deadline_exceeded");
    assert!((millis(400)..seconds(3)).contains(&took), "{took:?}");
}

#[test]
fn a_trickling_upstream_meets_the_deadline_too() {
    let origin = Origin::answering(|_| Answer::trickle(100, millis(100)));
    let gateway = timeouts(&origin, "read = \"2s\"\nrequest = \"800ms\"");
    let start = Instant::now();
    let response = gateway.client().get("/").try_send();
    assert!(start.elapsed() < seconds(4), "{:?}", start.elapsed());
    // The head was on its way; what is left is to cut the body visibly.
    assert!(response.is_err() || !response.unwrap().body.complete);
}

#[test]
fn retries_share_the_one_deadline() {
    let origins = ["a", "b", "c"].map(|name| Origin::scripted(name, |_| Answer::silence()));
    let endpoints: String = origins.iter().map(to).collect();
    let gateway = before(&endpoints, "[upstream.api.timeout]\nread = \"400ms\"\nrequest = \"700ms\"\n[upstream.api.retry]\nattempts = 2\n").start();
    let (response, took) = timed(&gateway, "/");
    assert_eq!(response.status, 504, "{response:?}");
    assert!(took < seconds(3), "{took:?}");
}

#[test]
fn a_routes_timeout_overrides_the_upstreams() {
    let origin = Origin::answering(|_| Answer::text("late").after(millis(700)));
    let text = format!(
        "[upstream.api]\nendpoints = [{}]\n[upstream.api.timeout]\nrequest = \"10s\"\n\
         [[route]]\nid = \"quick\"\npath = \"/quick\"\nupstream = \"api\"\ntimeout = \"300ms\"\n\
         [[route]]\nid = \"slow\"\npath = \"/slow\"\nupstream = \"api\"\n",
        to(&origin)
    );
    let gateway = Gateway::with(&text).start();
    timed(&gateway, "/quick")
        .0
        .refused(504, "deadline_exceeded");
    timed(&gateway, "/slow").0.expect(200);
}

#[test]
fn a_client_that_sends_slowly_is_not_the_upstreams_fault() {
    let origin = Origin::start();
    let gateway = timeouts(
        &origin,
        "read = \"300ms\"\nwrite = \"300ms\"\nrequest = \"10s\"",
    );
    let mut connection = gateway.client().connect();
    connection
        .write("POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n")
        .unwrap();
    for piece in ["hel", "lo"] {
        std::thread::sleep(millis(700));
        connection.write(piece).unwrap();
    }
    assert_eq!(connection.response("POST").unwrap().seen().body, b"hello");
}

/// Accepts connections and never reads from one.
fn wedged() -> (std::net::TcpListener, std::net::SocketAddr) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("its address");
    (listener, address)
}

#[test]
fn an_upstream_that_takes_nothing_holds_no_request_for_ever() {
    let (listener, address) = wedged();
    let gateway = before(
        &endpoint(address, ""),
        "[upstream.api.timeout]\nread = \"300ms\"\nwrite = \"300ms\"\nrequest = \"1s\"\n[upstream.api.retry]\nattempts = 0\n",
    )
    .append("[server.client]\nmax_body = \"1GiB\"\n")
    .start();
    let connection = gateway.client().connect();
    let writer = connection.writer();
    let sending = std::thread::spawn(move || {
        use std::io::Write;
        let head = "POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
        let mut writer = &*writer;
        let chunk = format!("8000\r\n{}\r\n", "x".repeat(0x8000));
        let mut sent = writer.write_all(head.as_bytes());
        for _ in 0..1000 {
            sent = sent.and_then(|()| writer.write_all(chunk.as_bytes()));
        }
        let _ = sent;
    });
    eventually(seconds(5), "the request is served", || {
        gateway.info()["in_flight"] == 1
    });
    eventually(seconds(5), "and given up", || {
        gateway.info()["in_flight"] == 0
    });
    drop((connection, listener));
    sending.join().expect("the client");
}

fn left(seen: &crate::harness::Seen) -> u64 {
    let [left] = seen.values("x-request-deadline")[..] else {
        panic!("{seen:?}")
    };
    left.parse().unwrap()
}

#[test]
fn the_upstream_is_told_how_much_time_is_left() {
    let origin = Origin::start();
    let gateway = timeouts(&origin, "request = \"3s\"");
    for (way, value) in [("TE", "trailers"), ("X-Way", "short")] {
        let get = || gateway.client();
        let seen = get().get("/").header(way, value).send().seen();
        assert!((2000..=3000).contains(&left(&seen)), "{seen:?}");
        for (asked, least, most) in [
            ("800", 400, 800),
            ("99999", 2000, 3000),
            ("soon", 2000, 3000),
        ] {
            let client = get();
            let request = client.get("/").header(way, value);
            let seen = request.header("X-Request-Deadline", asked).send().seen();
            assert!((least..=most).contains(&left(&seen)), "{asked}: {seen:?}");
        }
    }
}

#[test]
fn each_try_is_told_what_is_left_for_it() {
    let slow = Origin::scripted("slow", |_| Answer::reset().after(millis(300)));
    let good = Origin::named("good");
    let backup = endpoint(good.address(), ", backup = true");
    let gateway = before(
        &(to(&slow) + &backup),
        "[upstream.api.timeout]\nrequest = \"3s\"\n",
    )
    .start();
    let seen = gateway.client().get("/").send().seen();
    let (first, second) = (left(&slow.last()), left(&seen));
    assert!(first - second >= 300, "{first}, {second}");
}

#[test]
fn a_client_that_wants_its_answer_sooner_is_answered_then() {
    let origin = Origin::answering(|_| Answer::silence());
    let gateway = before(&to(&origin), "[upstream.api.breaker]\nminimum_calls = 3\n").start();
    for _ in 0..6 {
        let start = Instant::now();
        let client = gateway.client();
        let request = client.get("/").header("X-Request-Deadline", 200);
        request.send().refused(504, "deadline_exceeded");
        assert!((millis(150)..seconds(3)).contains(&start.elapsed()));
    }
    let none = gateway.client();
    let none = none.get("/").header("X-Request-Deadline", 0).send();
    // What one client wants for itself opens no breaker for the others.
    none.refused(504, "deadline_exceeded");
    assert_eq!(origin.count(), 6);
}

/// A route whose callers sign their bodies, so that each is read before it is sent on.
fn signed(origin: &Origin, timeout: &str, client: &str) -> Gateway {
    Gateway::with(&format!(
        "[server.client]\n{client}\n\
         [[listener]]\nname = \"public\"\naddress = \"{{listen}}\"\nhttp2 = true\n\
         [auth.partner]\ntype = \"signature\"\nscheme = \"ca\"\napps = {{ \"app\" = {{ secret = \"a secret of an app\" }} }}\n\
         [upstream.api]\nendpoints = [{}]\ntimeout = {{ {timeout} }}\n\
         [[route]]\nid = \"r\"\npath = \"/**\"\nupstream = \"api\"\nauth = [\"partner\"]\n",
        to(origin)
    ))
    .start()
}

/// What a client hears that sends half of its signed body, over HTTP/1 and over HTTP/2.
fn halves(gateway: &Gateway) -> [(u16, String); 2] {
    let headers = Signed::ca("app", "a secret of an app", "POST", "/x").body("0123456789");
    let half = |headers: &[(String, String)]| {
        let mut connection = gateway.client().connect();
        let fields: String = headers
            .iter()
            .map(|(name, value)| format!("{name}: {value}\r\n"))
            .collect();
        let head = format!(
            "POST /x HTTP/1.1\r\nHost: gateway.test\r\n{fields}Content-Length: 10\r\n\r\n01234"
        );
        connection.write(head).unwrap();
        let response = connection.response("POST").unwrap();
        (response.status, response.code().unwrap_or_default())
    };
    let http1 = half(&headers.headers());
    let headers = Signed::ca("app", "a secret of an app", "POST", "/x").body("0123456789");
    let mut asked = asking("POST", "/x").header("content-length", 10);
    for (name, value) in headers.headers() {
        asked = asked.header(name, value);
    }
    let client = Http2::connect(gateway.listen());
    let mut asked = client.begin(asked.body(()).unwrap(), true);
    asked.body.send_data("01234".into(), false).unwrap();
    let answer = asked.wait().unwrap();
    let problem: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
    let code = problem["code"].as_str().unwrap().to_owned();
    [http1, (answer.status, code)]
}

#[test]
fn the_deadline_ends_a_body_that_is_read_first_and_a_pause_in_it_is_the_clients() {
    let origin = Origin::start();
    let of = |status: u16, code: &str| [(status, code.to_owned()), (status, code.to_owned())];
    let gateway = signed(&origin, "request = \"500ms\"", "");
    assert_eq!(halves(&gateway), of(504, "deadline_exceeded"));
    let gateway = signed(&origin, "request = \"20s\"", "body_timeout = \"500ms\"");
    assert_eq!(halves(&gateway), of(408, "request_timeout"));
    assert_eq!(origin.count(), 0);
}
