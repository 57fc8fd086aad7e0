//! What went wrong on the other side, in the gateway's own words.

use super::{before, endpoint, to};
use crate::harness::{Answer, Origin, Response, eventually, reserve, seconds};

/// What a client gets for this answer of the only endpoint.
fn answered(script: fn() -> Answer) -> (Origin, Response) {
    let origin = Origin::answering(move |_| script());
    let gateway = before(&to(&origin), "[upstream.api.retry]\nattempts = 0\n").start();
    let response = gateway.client().get("/").send();
    (origin, response)
}

#[test]
fn nobody_listening_is_upstream_connect() {
    let gateway = before(&endpoint(reserve(), ""), "").start();
    gateway
        .client()
        .get("/")
        .send()
        .refused(502, "upstream_connect");
    gateway
        .client()
        .post("/")
        .body("x")
        .send()
        .refused(502, "upstream_connect");
}

#[test]
fn an_upstream_that_breaks_off_is_upstream_reset() {
    answered(Answer::reset).1.refused(502, "upstream_reset");
    answered(Answer::close).1.refused(502, "upstream_reset");
    answered(|| Answer::raw("HTTP/1.1 200 OK\r\nContent-Le"))
        .1
        .refused(502, "upstream_reset");
}

#[test]
fn an_answer_that_is_not_http_is_upstream_invalid() {
    for garbage in [
        "SSH-2.0-OpenSSH_9.2\r\n\r\n",
        "HTTP/1.1 abc OK\r\n\r\n",
        "HTTP/1.1 20 OK\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent Length: 3\r\n\r\nabc",
        "HTTP/1.1 200 OK\r\n: x\r\nContent-Length: 0\r\n\r\n",
    ] {
        let origin = Origin::answering(move |_| Answer::raw(garbage));
        let gateway = before(&to(&origin), "[upstream.api.retry]\nattempts = 0\n").start();
        let response = gateway.client().get("/").send();
        assert_eq!(
            (response.status, response.code().as_deref()),
            (502, Some("upstream_invalid")),
            "{garbage:?}: {response:?}"
        );
    }
}

#[test]
fn an_answer_with_two_framings_is_never_passed_on() {
    for head in [
        "Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
        "Content-Length: -1\r\n\r\n",
        "Content-Length: +3\r\n\r\nabc",
        "Content-Length: 3 4\r\n\r\nabc",
        "Content-Length: 9\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n",
        "Transfer-Encoding: gzip, chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n",
        "Content-Length: 3\r\nX-Folded: a\r\n b\r\n\r\nabc",
    ] {
        let answer = format!("HTTP/1.1 200 OK\r\n{head}");
        let origin = Origin::answering(move |_| Answer::raw(&answer));
        let gateway = before(&to(&origin), "[upstream.api.retry]\nattempts = 0\n").start();
        let response = gateway.client().get("/").send();
        assert_eq!(
            (response.status, response.code().as_deref()),
            (502, Some("upstream_invalid")),
            "{head:?}: {response:?}"
        );
    }
}

#[test]
fn an_answer_that_breaks_off_in_its_body_is_visibly_cut() {
    for script in [Answer::broken_off as fn() -> Answer, || {
        Answer::raw("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
    }] {
        let origin = Origin::answering(move |_| script());
        let gateway = before(&to(&origin), "").start();
        let response = gateway.client().get("/").try_send();
        if let Ok(response) = response {
            assert!(!response.body.complete, "{response:?}");
        }
        assert_eq!(origin.count(), 1, "what was begun is not repeated");
        let mut connection = gateway.client().connect();
        let _ = connection.get("/").try_send();
        assert!(
            connection.closes_within(seconds(5)),
            "the connection ends with the broken answer"
        );
    }
}

#[test]
fn an_unasked_101_is_not_passed_on() {
    let (_, response) = answered(|| {
        Answer::raw_then_silence(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
        )
    });
    assert_eq!(response.status, 502, "{response:?}");
}

#[test]
fn interim_answers_do_not_confuse() {
    let (_, response) = answered(|| {
        Answer::raw(
            "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
        )
    });
    assert_eq!(response.expect(200).text(), "ok");
}

#[test]
fn every_shape_of_a_good_answer_passes() {
    let (_, response) = answered(|| Answer::chunked(&["one ", "two ", "three"]));
    assert_eq!(response.expect(200).text(), "one two three");
    let (_, response) = answered(|| Answer::status(204));
    response.expect(204);
    let (_, response) = answered(|| Answer::status(304).header("ETag", "\"x\""));
    assert_eq!(response.expect(304).header("etag"), Some("\"x\""));
    let (_, response) = answered(|| Answer::raw("HTTP/1.1 200 OK\r\n\r\nuntil the end"));
    assert_eq!(response.expect(200).text(), "until the end");
    let (_, response) = answered(|| Answer::raw("HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\nold"));
    assert_eq!(response.expect(200).text(), "old");
    let (_, response) = answered(|| {
        Answer::text("x")
            .header("Set-Cookie", "a=1")
            .header("Set-Cookie", "b=2")
    });
    assert_eq!(
        response
            .headers
            .iter()
            .filter(|(n, _)| n.eq_ignore_ascii_case("set-cookie"))
            .count(),
        2
    );
}

#[test]
fn a_large_answer_passes_whole() {
    let origin = Origin::answering(|_| {
        Answer::text(
            (0..4_000_000u32)
                .map(|n| (n % 251) as u8)
                .collect::<Vec<_>>(),
        )
    });
    let gateway = before(&to(&origin), "").start();
    let response = gateway.client().get("/").send().expect(200);
    assert_eq!(response.body.bytes.len(), 4_000_000);
    assert!(
        response
            .body
            .bytes
            .iter()
            .enumerate()
            .all(|(n, b)| *b == (n % 251) as u8)
    );
}

#[test]
fn a_client_that_goes_away_releases_the_upstream() {
    let origin = Origin::answering(|_| Answer::silence());
    let gateway = before(&to(&origin), "").start();
    let connection = gateway.client().get("/").begin();
    eventually(seconds(5), "the request arrived", || origin.count() == 1);
    connection.abort();
    eventually(seconds(5), "the upstream connection is closed", || {
        origin.open() == 0
    });
}

#[test]
fn an_answer_without_bounds_is_cut_off() {
    let flood = "HTTP/1.1 103 Early Hints\r\n\r\n".repeat(5_000)
        + "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
    let huge = format!(
        "HTTP/1.1 200 OK\r\nX-Long: {}\r\nContent-Length: 0\r\n\r\n",
        "x".repeat(2 << 20)
    );
    for (what, answer) in [("flood", flood), ("head", huge)] {
        let origin = Origin::answering(move |_| Answer::raw(&answer));
        let gateway = before(&to(&origin), "[upstream.api.retry]\nattempts = 0\n").start();
        let response = gateway.client().get("/").send();
        assert_eq!(response.status, 502, "{what}: {response:?}");
    }
}
