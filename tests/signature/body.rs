//! Bodies of signed requests: the right one passes whole, nothing of a wrong one is ever acted on.

use super::{SECRET, ca, post, rfc9421, signed, with, without};
use crate::harness::{Gateway, Origin, Signed, seconds};

const JSON: &str = r#"{"hello":"world"}"#;

fn by_ca(target: &str, body: &str) -> Vec<(String, String)> {
    Signed::ca("app-1001", SECRET, "POST", target)
        .body(body)
        .headers()
}

fn by_rfc9421(target: &str, body: &str) -> Vec<(String, String)> {
    Signed::rfc9421("app-1001", SECRET, "POST", "gateway.test", target)
        .body(body)
        .headers()
}

type Sign = fn(&str, &str) -> Vec<(String, String)>;

/// Both schemes, so that each claim below is made of both.
fn each_scheme(claim: impl Fn(&Origin, &Gateway, Sign)) {
    for (start, sign) in [
        (ca as fn(&Origin) -> Gateway, by_ca as Sign),
        (rfc9421, by_rfc9421),
    ] {
        let origin = Origin::start();
        let gateway = start(&origin);
        claim(&origin, &gateway, sign);
    }
}

#[test]
fn a_signed_body_passes() {
    each_scheme(|_, gateway, sign| {
        let seen = post(&gateway.client(), "/x", &sign("/x", JSON), JSON).seen();
        assert_eq!(seen.body, JSON.as_bytes());
    });
}

#[test]
fn a_body_other_than_the_digest_says_is_refused_before_the_origin_hears_of_it() {
    each_scheme(|origin, gateway, sign| {
        for body in ["{\"hello\":\"earth\"}", "{\"hello\":\"world\"} ", "{", ""] {
            let response = post(&gateway.client(), "/x", &sign("/x", JSON), body);
            assert_eq!(
                (response.status, response.code().as_deref()),
                (401, Some("body_digest")),
                "{body:?}: {response:?}"
            );
        }
        let chunked = gateway.client();
        let chunked = with(chunked.post("/x"), &sign("/x", JSON))
            .chunked(&["{\"hello\":", "\"earth\"}"])
            .send();
        chunked.refused(401, "body_digest");
        assert_eq!(origin.count(), 0);
        assert!(origin.bytes().is_empty());
    });
}

#[test]
fn a_body_without_a_digest_is_refused() {
    let origin = Origin::start();
    let gateway = ca(&origin);
    let headers = Signed::ca("app-1001", SECRET, "POST", "/x")
        .body(JSON)
        .but("no_digest", true)
        .headers();
    let response = post(&gateway.client(), "/x", &headers, JSON);
    assert_eq!(response.status, 401, "{response:?}");
    let gateway = rfc9421(&origin);
    let headers = Signed::rfc9421("app-1001", SECRET, "POST", "gateway.test", "/x")
        .body(JSON)
        .but("no_digest", true)
        .headers();
    let response = post(&gateway.client(), "/x", &headers, JSON);
    assert_eq!(response.status, 401, "{response:?}");
    assert_eq!(origin.count(), 0);
}

#[test]
fn a_digest_header_that_was_not_signed_does_not_count() {
    let origin = Origin::start();
    let gateway = rfc9421(&origin);
    let covered = vec!["@method", "@authority", "@path", "@query"];
    let headers = Signed::rfc9421("app-1001", SECRET, "POST", "gateway.test", "/x")
        .body(JSON)
        .but("covered", covered)
        .headers();
    let response = post(&gateway.client(), "/x", &headers, JSON);
    assert_eq!(response.status, 401, "{response:?}");
    let gateway = ca(&origin);
    let headers = without(&by_ca("/x", JSON), "Content-MD5");
    let response = post(&gateway.client(), "/x", &headers, JSON);
    assert_eq!(response.status, 401, "{response:?}");
    assert_eq!(origin.count(), 0);
}

#[test]
fn a_signed_request_without_a_body_needs_no_digest() {
    let origin = Origin::start();
    let gateway = ca(&origin);
    let headers = Signed::ca("app-1001", SECRET, "POST", "/x").headers();
    post(&gateway.client(), "/x", &headers, "").expect(200);
    let headers = Signed::ca("app-1001", SECRET, "GET", "/x").headers();
    // A body that nobody signed is no part of a request without one.
    let response = with(gateway.client().get("/x"), &headers)
        .body("surprise")
        .send();
    assert_eq!(response.status, 401, "{response:?}");
    assert_eq!(origin.count(), 1);
}

#[test]
fn a_body_of_300_kib_passes_whole() {
    let body: String = (0..300 * 1024 / 16).map(|n| format!("{n:015}\n")).collect();
    each_scheme(|origin, gateway, sign| {
        let client = gateway.client();
        post(&client, "/x", &sign("/x", &body), &body).expect(200);
        assert!(
            origin.last().body == body.as_bytes(),
            "{} bytes",
            origin.last().body.len()
        );

        let pieces: Vec<&[u8]> = body.as_bytes().chunks(7_000).collect();
        with(client.post("/x"), &sign("/x", &body))
            .chunked(&pieces)
            .send()
            .expect(200);
        assert!(
            origin.last().body == body.as_bytes(),
            "{} bytes",
            origin.last().body.len()
        );
    });
}

#[test]
fn a_body_over_the_limit_is_refused_and_one_at_it_is_not() {
    let origin = Origin::start();
    let apps = format!("\"app-1001\" = {{ secret = \"{SECRET}\" }}");
    let gateway = signed("ca", "", &apps, "max_body = \"1KiB\"")
        .to(&origin)
        .start();
    let client = gateway.client();
    let (fits, over) = ("x".repeat(1024), "x".repeat(1025));
    post(&client, "/x", &by_ca("/x", &fits), &fits).expect(200);
    post(&client, "/x", &by_ca("/x", &over), &over).refused(413, "body_too_large");
    with(client.post("/x"), &by_ca("/x", &fits))
        .chunked(&[&fits])
        .send()
        .expect(200);
    with(client.post("/x"), &by_ca("/x", &over))
        .chunked(&[&over])
        .send()
        .refused(413, "body_too_large");
    assert_eq!(origin.count(), 2);
}

#[test]
fn a_declared_length_over_the_limit_is_refused_before_the_body() {
    let origin = Origin::start();
    let gateway = ca(&origin);
    let mut connection = gateway.client().connect();
    connection
        .write("POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999\r\n\r\n")
        .unwrap();
    let response = connection.response("POST").unwrap();
    assert!(
        response.status == 413 || response.status == 401,
        "{response:?}"
    );
    assert_eq!(origin.count(), 0);
}

#[test]
fn expect_continue_is_answered_only_to_who_may_go_on() {
    let origin = Origin::start();
    let gateway = ca(&origin);
    let mut unsigned = gateway.client().connect();
    unsigned
        .write("POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n")
        .unwrap();
    let refused = unsigned
        .response("POST")
        .unwrap()
        .refused(401, "sig_missing");
    assert_eq!(refused.interim, [] as [u16; 0]);

    let head = |body: &str| {
        let mut head = format!(
            "POST /x HTTP/1.1\r\nHost: gateway.test\r\nContent-Length: {}\r\nExpect: 100-continue\r\n",
            body.len()
        );
        for (name, value) in by_ca("/x", body) {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head + "\r\n"
    };
    // A client that is too impatient to wait for the invitation.
    let mut hasty = gateway.client().connect();
    hasty.write(head(JSON) + JSON).unwrap();
    hasty.response("POST").unwrap().expect(200);
    // A client that waits for it.
    let mut patient = gateway.client().connect();
    patient.patience(seconds(3));
    patient.write(head(JSON)).unwrap();
    assert!(
        String::from_utf8(patient.bytes(21).unwrap())
            .unwrap()
            .starts_with("HTTP/1.1 100 ")
    );
    patient.bytes(4).unwrap();
    patient.write(JSON).unwrap();
    patient.response("POST").unwrap().expect(200);
    assert_eq!(origin.last().body, JSON.as_bytes());
}
