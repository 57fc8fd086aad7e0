//! Answers the gateway gives itself, and the form of its refusals.

use serde_json::json;

use super::named;
use crate::harness::{Client, Gateway, fragment};

#[test]
fn respond_sends_text_json_or_a_redirect() {
    let gateway = Gateway::with(
        r#"
        [[route]]
        path = "/text"
        respond = { status = 418, text = "short and stout" }
        [[route]]
        path = "/json"
        respond = { status = 200, json = { status = "ok", parts = [1, 2] } }
        [[route]]
        path = "/empty"
        respond = { status = 204 }
        [[route]]
        path = "/moved"
        respond = { status = 308, redirect = "https://example.com/new" }
        [[route]]
        path = "/found"
        respond = { redirect = "/text" }
        "#,
    )
    .start();
    let client = gateway.client();
    let text = client.get("/text").send().expect(418);
    assert_eq!(text.text(), "short and stout");
    assert!(
        text.header("content-type")
            .unwrap()
            .starts_with("text/plain"),
        "{text:?}"
    );
    let body = client.get("/json").send().expect(200);
    assert_eq!(body.json(), json!({ "status": "ok", "parts": [1, 2] }));
    assert_eq!(body.header("content-type"), Some("application/json"));
    client.get("/empty").send().expect(204);
    assert_eq!(
        client.get("/moved").send().expect(308).header("location"),
        Some("https://example.com/new")
    );
    let found = client.get("/found").send();
    assert!(
        (300..400).contains(&found.status) && found.header("location") == Some("/text"),
        "{found:?}"
    );
}

#[test]
fn a_refusal_is_a_problem_document() {
    let gateway = Gateway::with(&named(&[("one", "path = \"/one\"")])).start();
    let refused = gateway
        .client()
        .get("/two?x=1")
        .header("X-Trace-ID", "trace-1")
        .send()
        .refused(404, "route_not_found");
    assert_eq!(
        refused.header("content-type"),
        Some("application/problem+json")
    );
    assert_eq!(refused.header("x-trace-id"), Some("trace-1"));
    assert_eq!(refused.header("server"), None);
    let problem = refused.json();
    for member in ["type", "title", "detail"] {
        assert!(problem[member].is_string(), "{member} in {problem}");
    }
    assert_eq!(problem["status"], 404);
    assert_eq!(problem["instance"], "/two");
    assert_eq!(problem["trace_id"], "trace-1");
}

#[test]
fn a_refusal_is_an_envelope_when_configured() {
    let gateway = Gateway::with(&format!(
        "[server]\nerror_format = \"envelope\"\n{}",
        named(&[("one", "path = \"/one\"")])
    ))
    .start();
    let refused = gateway
        .client()
        .get("/two")
        .header("X-Trace-ID", "trace-2")
        .send()
        .refused(404, "route_not_found");
    assert_eq!(refused.header("content-type"), Some("application/json"));
    let envelope = refused.json();
    assert!(
        envelope["msg"].is_string() && envelope["data"].is_null(),
        "{envelope}"
    );
    assert_eq!(envelope["trace_id"], "trace-2");
    assert_eq!(envelope.as_object().unwrap().len(), 4, "{envelope}");
}

#[test]
fn keep_alive_says_how_long() {
    let gateway = Gateway::with(&format!(
        "[server.client]\nkeepalive_timeout = \"42s\"\n{}",
        named(&[("one", "path = \"/one\"")])
    ))
    .start();
    let answer = gateway.client().get("/one").send().expect(200);
    assert!(
        answer
            .header("keep-alive")
            .unwrap_or_default()
            .contains("timeout=42"),
        "{answer:?}"
    );
}

#[test]
fn address_rules_admit_and_refuse() {
    let gateway = Gateway::with(&named(&[
        (
            "inside",
            "path = \"/inside\"\nallow_ips = [\"127.0.0.2/32\", \"10.0.0.0/8\"]",
        ),
        ("outside", "path = \"/outside\"\ndeny_ips = [\"127.0.0.2\"]"),
        (
            "both",
            "path = \"/both\"\nallow_ips = [\"127.0.0.0/8\"]\ndeny_ips = [\"127.0.0.2/32\"]",
        ),
    ]))
    .start();
    let (one, two) = (gateway.client(), gateway.client().from(2));
    two.get("/inside").send().expect(200);
    one.get("/inside").send().refused(403, "ip_denied");
    one.get("/outside").send().expect(200);
    two.get("/outside").send().refused(403, "ip_denied");
    one.get("/both").send().expect(200);
    two.get("/both").send().refused(403, "ip_denied");
}

#[test]
fn cross_origin_requests_are_answered_by_the_rules() {
    let gateway = Gateway::with(
        r#"
        [[route]]
        id = "cors"
        path = "/c"
        methods = ["GET"]
        auth = ["app"]
        respond = { status = 200, text = "c" }
        [route.cors]
        origins = ["https://servicewechat.com"]
        methods = ["GET"]
        headers = ["Authorization"]
        max_age = "10m"
        "#,
    )
    .append(&fragment::callers("app"))
    .start();
    let client = gateway.client();
    let preflight = |origin: &str| {
        let request = client.request("OPTIONS", "/c").header("Origin", origin);
        request
            .header("Access-Control-Request-Method", "GET")
            .header("Access-Control-Request-Headers", "authorization")
            .send()
    };
    let allowed = preflight("https://servicewechat.com");
    assert!((200..300).contains(&allowed.status), "{allowed:?}");
    assert_eq!(
        allowed.header("access-control-allow-origin"),
        Some("https://servicewechat.com")
    );
    assert_eq!(allowed.header("access-control-max-age"), Some("600"));
    assert!(
        allowed
            .header("access-control-allow-methods")
            .unwrap()
            .contains("GET"),
        "{allowed:?}"
    );
    assert_eq!(
        preflight("https://evil.test").header("access-control-allow-origin"),
        None
    );
    let refused = client
        .get("/c")
        .header("Origin", "https://servicewechat.com")
        .send()
        .refused(401, "token_missing");
    assert_eq!(
        refused.header("access-control-allow-origin"),
        Some("https://servicewechat.com"),
        "scripts may read refusals"
    );
}

#[test]
fn address_rules_look_at_the_address_that_is_believed() {
    let text = named(&[(
        "inside",
        "path = \"/inside\"\nallow_ips = [\"192.0.2.0/24\"]",
    )]);
    let gateway = Gateway::with(&format!(
        "[server]\ntrusted_proxies = [\"127.0.0.2/32\"]\n{text}"
    ))
    .start();
    let (stranger, proxy) = (gateway.client(), gateway.client().from(2));
    let from = |client: &Client, address: &str| {
        client
            .get("/inside")
            .header("X-Forwarded-For", address)
            .send()
    };
    from(&proxy, "192.0.2.7").expect(200);
    from(&proxy, "198.51.100.7").refused(403, "ip_denied");
    from(&proxy, "192.0.2.7, 198.51.100.7").refused(403, "ip_denied");
    from(&stranger, "192.0.2.7").refused(403, "ip_denied");
}
