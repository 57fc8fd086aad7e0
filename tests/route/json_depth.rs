//! JSON that nests too deep goes nowhere, however it is framed and wherever it goes.

use crate::harness::{Does, Gateway, Origin, Response, Signed, StreamOrigin, millis};

const SECRET: &str = "app-1001-secret";

/// A route to each kind of upstream, which takes three levels; the last one's bodies are signed.
fn gateway(origin: &Origin, streams: &StreamOrigin) -> Gateway {
    Gateway::with(&format!(
        r#"
        [upstream.relay]
        endpoints = [{{ address = "{}" }}]
        [upstream.streams]
        endpoints = [{{ address = "{}" }}]
        http_version = "2"
        [group.flat]
        json_depth = 3
        [[route]]
        path = "/relay"
        group = "flat"
        upstream = "relay"
        [[route]]
        path = "/streams"
        group = "flat"
        upstream = "streams"
        [[route]]
        path = "/deep"
        group = "flat"
        json_depth = 100
        upstream = "relay"
        [auth.partner]
        type = "signature"
        scheme = "ca"
        apps = {{ "app-1001" = {{ secret = "{SECRET}" }} }}
        [[route]]
        path = "/signed"
        group = "flat"
        auth = ["partner"]
        upstream = "relay"
        "#,
        origin.address(),
        streams.address(),
    ))
    .start()
}

fn streams() -> StreamOrigin {
    StreamOrigin::start("streams", Does::Answers(millis(0)))
}

const WAYS: [&str; 2] = ["/relay", "/streams"];
const FITS: &str = r#"{"a":[[1,"[[[[ \" {{"],{}],"b":2}"#;
const TOO_DEEP: &str = r#"{"a":[[[1]]]}"#;

fn post(gateway: &Gateway, target: &str, kind: &str, body: &str) -> Response {
    let client = gateway.client();
    let request = client.post(target).header("Content-Type", kind);
    request.body(body).send()
}

#[test]
fn what_nests_too_deep_is_refused_and_what_fits_arrives_whole() {
    let (origin, streams) = (Origin::start(), streams());
    let gateway = gateway(&origin, &streams);
    for way in WAYS {
        post(&gateway, way, "application/json", FITS).expect(200);
        let refused = post(&gateway, way, "application/json", TOO_DEEP);
        refused.refused(400, "bad_request");
        post(&gateway, way, "application/x+json; a=b", TOO_DEEP).refused(400, "bad_request");
        post(&gateway, way, "text/plain", TOO_DEEP).expect(200);
        let chunked = |pieces: &[&str]| {
            let client = gateway.client();
            let request = client.post(way).header("Content-Type", "application/json");
            request.chunked(pieces).send()
        };
        chunked(&[r#"{"a":[[1,"[["#, r#"[[ \" {{"],{}],"b":2}"#]).expect(200);
        chunked(&["[[", "[", "[]]]]"]).refused(400, "bad_request");
    }
    let seen = origin.seen();
    let came = |body: &str| {
        seen.iter()
            .filter(|seen| seen.body == body.as_bytes())
            .count()
    };
    assert_eq!(came(FITS), 2, "in one piece, and in two");
    assert_eq!(came(TOO_DEEP), 1, "as text");
    let bodies = streams.bodies();
    let came = |body: &str| {
        bodies
            .iter()
            .filter(|(_, seen)| seen == body.as_bytes())
            .count()
    };
    assert_eq!((came(FITS), came(TOO_DEEP)), (2, 1));
}

#[test]
fn who_says_json_beside_another_type_or_in_another_coding_is_looked_at_as_well() {
    let (origin, streams) = (Origin::start(), streams());
    let gateway = gateway(&origin, &streams);
    let sent = |kinds: &[u8], body: &[u8]| {
        let mut connection = gateway.client().connect();
        let length = body.len();
        let mut request = b"POST /relay HTTP/1.1\r\nHost: a\r\n".to_vec();
        request.extend_from_slice(kinds);
        request.extend_from_slice(format!("Content-Length: {length}\r\n\r\n").as_bytes());
        request.extend_from_slice(body);
        connection.write(request).unwrap();
        connection.response("POST").unwrap()
    };
    let nested = format!("[\"\u{2201}\",{}", "[".repeat(400));
    let wide: Vec<u8> = nested.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let json = b"Content-Type: application/json\r\n";
    let twice = b"Content-Type: text/plain\r\nContent-Type: application/json\r\n";
    let no_text = b"Content-Type: application/json; x=\xe9\r\n";
    let too_deep = TOO_DEEP.as_bytes();
    sent(twice, too_deep).refused(400, "bad_request");
    sent(no_text, too_deep).refused(400, "bad_request");
    sent(json, &wide).refused(400, "bad_request");
    assert_eq!(origin.count(), 0);
    sent(no_text, FITS.as_bytes()).expect(200);
}

#[test]
fn a_route_says_another_depth_than_its_group_and_coded_bodies_are_refused() {
    let (origin, streams) = (Origin::start(), streams());
    let gateway = gateway(&origin, &streams);
    post(&gateway, "/deep", "application/json", TOO_DEEP).expect(200);
    let client = gateway.client();
    let coded = client
        .post("/relay")
        .header("Content-Type", "application/json")
        .header("Content-Encoding", "gzip")
        .body("x");
    coded.send().refused(400, "bad_request");
    assert_eq!(origin.count(), 1);
}

#[test]
fn a_body_that_is_read_before_it_is_sent_on_is_looked_at_as_well() {
    let (origin, streams) = (Origin::start(), streams());
    let gateway = gateway(&origin, &streams);
    for (body, status) in [(FITS, 200), (TOO_DEEP, 400)] {
        let signed = Signed::ca("app-1001", SECRET, "POST", "/signed").body(body);
        let client = gateway.client();
        let request = client.post("/signed").headers(&signed.headers());
        let response = request.body(body).send().expect(status);
        assert_eq!(
            response.code().as_deref(),
            (status == 400).then_some("bad_request")
        );
    }
    assert_eq!(origin.count(), 1);
    assert_eq!(origin.last().body, FITS.as_bytes());
}
