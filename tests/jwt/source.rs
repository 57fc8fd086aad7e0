//! Where a token may be found, and nowhere else.

use serde_json::json;

use super::{hs256, token};
use crate::harness::{Gateway, Origin, eventually, fragment, seconds};

#[test]
fn cookies_and_queries_carry_tokens_only_where_configured() {
    let good = token(&json!({}));
    let by_header = hs256("");
    by_header
        .client()
        .get(&format!("/?token={good}"))
        .send()
        .refused(401, "token_missing");
    by_header
        .client()
        .get("/")
        .header("Cookie", format!("session={good}"))
        .send()
        .refused(401, "token_missing");

    let elsewhere = hs256("from = [\"cookie:session\", \"query:token\"]");
    elsewhere
        .client()
        .get(&format!("/?token={good}"))
        .send()
        .expect(200);
    elsewhere
        .client()
        .get("/")
        .header("Cookie", format!("a=b; session={good}"))
        .send()
        .expect(200);
    elsewhere
        .client()
        .get("/")
        .bearer(&good)
        .send()
        .refused(401, "token_missing");
    elsewhere
        .client()
        .get("/?token=nonsense")
        .send()
        .refused(401, "token_invalid");
    elsewhere
        .client()
        .get("/")
        .header("Cookie", "session=nonsense")
        .send()
        .refused(401, "token_invalid");
}

#[test]
fn another_header_may_carry_the_token_bare() {
    let good = token(&json!({}));
    let gateway = hs256("from = [\"header:X-Token\"]");
    gateway
        .client()
        .get("/")
        .header("X-Token", &good)
        .send()
        .expect(200);
    gateway
        .client()
        .get("/")
        .bearer(&good)
        .send()
        .refused(401, "token_missing");
}

#[test]
fn two_authorization_headers_are_refused() {
    let good = token(&json!({}));
    let gateway = hs256("");
    for second in [good.as_str(), "nonsense"] {
        let response = gateway
            .client()
            .get("/")
            .bearer(&good)
            .bearer(second)
            .send();
        assert!(
            response.status == 400 || response.status == 401,
            "{response:?}"
        );
    }
}

#[test]
fn a_token_over_8_kib_is_refused_before_it_is_decoded() {
    let gateway = hs256("");
    let padded = |n: usize| token(&json!({ "pad": "x".repeat(n) }));
    let short = padded(4 * 1024);
    assert!(short.len() < 8 * 1024);
    gateway.client().get("/").bearer(&short).send().expect(200);
    let long = padded(6 * 1024 + 200);
    assert!(long.len() > 8 * 1024);
    gateway
        .client()
        .get("/")
        .bearer(&long)
        .send()
        .refused(401, "token_invalid");
}

#[test]
fn a_token_in_the_query_is_not_written_to_the_log() {
    let origin = Origin::start();
    let gateway = Gateway::with(
        r#"
        [auth.app]
        type = "jwt"
        algorithms = ["HS256"]
        secret = "0123456789abcdef0123456789abcdef"
        from = ["query:token"]
        [[route]]
        id = "g"
        path = "/**"
        auth = ["app"]
        upstream = "api"
        "#,
    )
    .append(&fragment::upstream("api"))
    .to(&origin)
    .start();
    let good = token(&json!({}));
    gateway
        .client()
        .get(&format!("/x?token={good}"))
        .header("X-Trace-ID", "with-token")
        .send()
        .expect(200);
    gateway.access_line("with-token");
    eventually(seconds(5), "the log has no token", || {
        !gateway.stdout().contains(&good)
    });
}
