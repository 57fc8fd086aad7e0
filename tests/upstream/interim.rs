//! Interim answers: passed on, never taken for the answer, and given in an origin's place where it gives none.

use std::time::{Duration, Instant};

use super::{before, to};
use crate::harness::{
    Answer, END_HEADERS, END_STREAM, Frames, Gateway, Origin, RawOrigin, Says, Speaks, always,
    eventually, get, kind, millis, on_each, seconds, ways_of,
};

const HEAD: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

fn over(origin: &RawOrigin) -> Gateway {
    origin.behind("").start()
}

#[test]
fn early_hints_pass_on_every_way() {
    let hints = "HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\nX-Fallback: fixed\r\n\r\n";
    let origin = RawOrigin::saying(move |_| Says::text(&format!("{hints}{hints}{HEAD}")));
    let gateway = over(&origin);
    for way in ways_of(Speaks::Http1) {
        let answer = gateway.client().get(&format!("/{way}/")).send().expect(200);
        assert_eq!(answer.interim, [103, 103], "{way}");
    }
}

#[test]
fn an_origin_that_sends_interim_answers_is_not_silent() {
    let origin = RawOrigin::saying(move |_| {
        let mut says = Vec::new();
        for _ in 0..8 {
            says.push(Says::Bytes(b"HTTP/1.1 102 Processing\r\n\r\n".to_vec()));
            says.push(Says::Pause(millis(200)));
        }
        says.push(Says::Bytes(HEAD.into()));
        says
    });
    let gateway = origin.behind("timeout = { read = \"600ms\" }").start();
    let answer = gateway.client().get("/h1/").send().expect(200);
    assert_eq!(answer.interim, [102; 8]);
}

/// Sends a head that waits to be asked for a body of five bytes, and says when the word came.
fn waits_to_be_asked(gateway: &Gateway, target: &str) -> Duration {
    let mut connection = gateway.client().connect();
    let head = format!(
        "PUT {target} HTTP/1.1\r\nHost: gateway.test\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n"
    );
    let began = Instant::now();
    connection.write(head).unwrap();
    let word = b"HTTP/1.1 100 Continue\r\n\r\n";
    assert_eq!(connection.bytes(word.len()).unwrap(), word, "{target}");
    let took = began.elapsed();
    connection.write("hello").unwrap();
    let answer = connection.response("PUT").unwrap().expect(200);
    assert_eq!(answer.interim, [] as [u16; 0], "{target}: asked once");
    took
}

#[test]
fn a_client_is_asked_for_its_body_though_the_origin_never_asks_on_any_way() {
    let origin = RawOrigin::saying(|_| vec![Says::Pause(millis(1200)), Says::Bytes(HEAD.into())]);
    let gateway = over(&origin);
    on_each(ways_of(Speaks::Http1), |way| {
        let took = waits_to_be_asked(&gateway, &format!("/{way}/"));
        assert!(
            (millis(450)..millis(1150)).contains(&took),
            "{way}: {took:?}"
        );
    });
}

#[test]
fn an_origin_that_asks_late_is_not_heard_twice() {
    let asks = "HTTP/1.1 100 Continue\r\n\r\n";
    let origin = RawOrigin::saying(move |_| {
        vec![
            Says::Pause(millis(900)),
            Says::Bytes(format!("{asks}{HEAD}").into_bytes()),
        ]
    });
    waits_to_be_asked(&over(&origin), "/h1/");
}

#[test]
fn an_origin_that_asks_is_heard_at_once() {
    let asks = "HTTP/1.1 100 Continue\r\n\r\n";
    let origin = RawOrigin::saying(move |_| {
        vec![
            Says::Bytes(asks.into()),
            Says::Pause(millis(900)),
            Says::Bytes(HEAD.into()),
        ]
    });
    let took = waits_to_be_asked(&over(&origin), "/h1/");
    assert!(took < millis(450), "{took:?}");
}

#[test]
fn who_is_refused_is_not_asked() {
    let refused = "HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n";
    let raw = RawOrigin::saying(move |_| Says::text(refused));
    let gateway = over(&raw);
    let mut connection = gateway.client().connect();
    connection
        .write("PUT /h1/ HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n")
        .unwrap();
    let answer = connection.response("PUT").unwrap().expect(403);
    assert_eq!(answer.interim, [] as [u16; 0]);
}

#[test]
fn a_check_does_not_take_an_interim_answer_for_the_answer() {
    let hints = "HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n";
    let healthy = Origin::answering(move |_| Answer::raw(format!("{hints}{hints}{HEAD}")));
    let more =
        "[upstream.api.health]\npath = \"/healthz\"\ninterval = \"50ms\"\nfall = 1\nrise = 1\n";
    let gateway = before(&to(&healthy), more).start();
    eventually(seconds(5), "it was checked", || healthy.count() > 3);
    let standing = || gateway.metric("gateway_endpoint_healthy", &[("upstream", "api")]);
    always(millis(500), "the endpoint is healthy", || standing() == 1.0);
}

#[test]
fn a_check_reads_the_answer_behind_interim_ones() {
    let bad = Origin::answering(|_| {
        Answer::raw(
            "HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n",
        )
    });
    let good = Origin::start();
    let more =
        "[upstream.api.health]\npath = \"/healthz\"\ninterval = \"50ms\"\nfall = 1\nrise = 1\n";
    let gateway = before(&(to(&bad) + &to(&good)), more).start();
    let label = bad.address().to_string();
    gateway.wait_for_metric("gateway_endpoint_healthy", &[("endpoint", &label)], 0.0);
}

#[test]
fn a_client_of_http_2_is_asked_for_its_body_too() {
    let origin = RawOrigin::saying(|_| vec![Says::Pause(millis(1200)), Says::Bytes(HEAD.into())]);
    let listener = "[[listener]]\nname = \"public\"\naddress = \"{listen}\"\nhttp2 = true\n";
    let gateway = origin.behind("").append(listener).start();
    let mut frames = Frames::open(gateway.listen());
    let mut fields = get("/h1/").to_vec();
    fields[0] = (":method", "PUT");
    fields.extend([("content-length", "5"), ("expect", "100-continue")]);
    let began = Instant::now();
    frames.head(1, END_HEADERS, &fields);
    let mut heads = 0;
    while heads < 2 {
        let frame = frames.read().expect("a frame");
        if frame.kind != kind::HEADERS {
            continue;
        }
        heads += 1;
        if heads == 1 {
            let took = began.elapsed();
            assert!((millis(450)..millis(1150)).contains(&took), "{took:?}");
            frames.send(kind::DATA, END_STREAM, 1, b"hello");
        }
    }
}
