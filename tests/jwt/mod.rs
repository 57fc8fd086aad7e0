//! Bearer tokens, minted by another implementation: each refusal beside the permission.

mod cache;
mod callers;
mod claims;
mod forged;
mod keys;
mod source;

use serde_json::{Value, json};

use crate::harness::{Gateway, Origin, Peer, Setup, unix_now};

const SECRET: &str = "0123456789abcdef0123456789abcdef";

/// A gateway whose only route asks for a token; `auth` is what `[auth.app]` says about it.
fn guarded(auth: &str) -> Setup {
    Gateway::with(&format!(
        "[auth.app]\ntype = \"jwt\"\n{auth}\n[[route]]\nid = \"guarded\"\npath = \"/**\"\nauth = [\"app\"]\n\
         respond = {{ status = 200, text = \"in\" }}\n"
    ))
}

fn hs256(more: &str) -> Gateway {
    guarded(&format!(
        "algorithms = [\"HS256\"]\nsecret = \"{SECRET}\"\n{more}"
    ))
    .start()
}

/// Claims that hold for a minute, and `more`.
fn claims(more: &Value) -> Value {
    let mut claims = json!({ "sub": "user-7", "exp": unix_now() + 60 });
    claims
        .as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    claims
}

fn token(more: &Value) -> String {
    Peer::token("HS256", SECRET, &claims(more))
}

#[track_caller]
fn admits(gateway: &Gateway, token: &str) {
    gateway.client().get("/").bearer(token).send().expect(200);
}

/// Refused with this code, in constant words, and with a challenge.
#[track_caller]
fn refuses(gateway: &Gateway, token: &str, code: &str) {
    let refused = gateway
        .client()
        .get("/")
        .bearer(token)
        .send()
        .refused(401, code);
    let challenge = refused.header("www-authenticate").expect("a challenge");
    assert!(
        challenge.starts_with("Bearer") && challenge.contains("error=\"invalid_token\""),
        "{challenge}"
    );
}

#[test]
fn admits_a_valid_token_and_asks_for_one_where_there_is_none() {
    let gateway = hs256("");
    admits(&gateway, &token(&json!({})));
    let refused = gateway
        .client()
        .get("/")
        .send()
        .refused(401, "token_missing");
    assert!(
        refused
            .header("www-authenticate")
            .unwrap()
            .starts_with("Bearer"),
        "{refused:?}"
    );
}

#[test]
fn an_authorization_of_another_kind_is_no_token() {
    let gateway = hs256("");
    let good = token(&json!({}));
    for value in [
        "Basic dTpw",
        "Bearer",
        "Bearer ",
        &format!("Token {good}"),
        &good,
    ] {
        let response = gateway
            .client()
            .get("/")
            .header("Authorization", value)
            .send();
        assert_eq!(response.status, 401, "{value}: {response:?}");
    }
    gateway
        .client()
        .get("/")
        .header("Authorization", format!("bearer {good}"))
        .send()
        .expect(200);
}

#[test]
fn refuses_a_token_past_its_expiry() {
    let gateway = hs256("");
    admits(&gateway, &token(&json!({ "exp": unix_now() + 30 })));
    refuses(
        &gateway,
        &token(&json!({ "exp": unix_now() - 1 })),
        "token_expired",
    );
    refuses(&gateway, &token(&json!({ "exp": 1 })), "token_expired");
}

#[test]
fn refuses_a_token_before_its_time() {
    let gateway = hs256("");
    admits(&gateway, &token(&json!({ "nbf": unix_now() - 1 })));
    refuses(
        &gateway,
        &token(&json!({ "nbf": unix_now() + 30 })),
        "token_not_yet_valid",
    );
}

#[test]
fn leeway_is_nothing_unless_configured() {
    let gateway = hs256("leeway = \"20s\"");
    admits(&gateway, &token(&json!({ "exp": unix_now() - 10 })));
    refuses(
        &gateway,
        &token(&json!({ "exp": unix_now() - 25 })),
        "token_expired",
    );
    admits(&gateway, &token(&json!({ "nbf": unix_now() + 10 })));
    refuses(
        &gateway,
        &token(&json!({ "nbf": unix_now() + 40 })),
        "token_not_yet_valid",
    );
}

#[test]
fn a_configured_issuer_is_a_required_claim() {
    let gateway = hs256("issuer = \"https://login.example.com\"");
    admits(
        &gateway,
        &token(&json!({ "iss": "https://login.example.com" })),
    );
    for wrong in [
        json!("https://login.example.com.evil"),
        json!("https://login"),
        json!(7),
        json!(["https://login.example.com"]),
        json!(null),
    ] {
        refuses(
            &gateway,
            &Peer::forged(
                r#"{"alg":"HS256"}"#,
                &claims(&json!({ "iss": wrong })).to_string(),
                SECRET,
            ),
            "token_invalid",
        );
    }
    refuses(&gateway, &token(&json!({})), "token_invalid");
}

#[test]
fn a_configured_audience_is_a_required_claim() {
    let gateway = hs256("audience = [\"mini-program\", \"app\"]");
    admits(&gateway, &token(&json!({ "aud": "mini-program" })));
    admits(&gateway, &token(&json!({ "aud": ["other", "app"] })));
    for wrong in [
        json!("mini"),
        json!([]),
        json!(["mini-program-2"]),
        json!(7),
        json!("mini-program app"),
    ] {
        refuses(
            &gateway,
            &Peer::forged(
                r#"{"alg":"HS256"}"#,
                &claims(&json!({ "aud": wrong })).to_string(),
                SECRET,
            ),
            "token_invalid",
        );
    }
    refuses(&gateway, &token(&json!({})), "token_invalid");
}

#[test]
fn a_refused_token_never_reaches_the_origin() {
    let origin = Origin::start();
    let gateway = Gateway::with(&format!(
        "[auth.app]\ntype = \"jwt\"\nalgorithms = [\"HS256\"]\nsecret = \"{SECRET}\"\n[upstream.api]\n\
         endpoints = [{{ address = \"{{origin}}\" }}]\n[[route]]\nid = \"g\"\npath = \"/**\"\nauth = [\"app\"]\nupstream = \"api\"\n"
    ))
    .to(&origin)
    .start();
    for method in [
        "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND",
    ] {
        let response = gateway.client().request(method, "/x").send();
        assert_eq!(response.status, 401, "{method}: {response:?}");
    }
    let upgrade = gateway.client();
    let upgrade = upgrade
        .get("/x")
        .header("Connection", "Upgrade")
        .header("Upgrade", "websocket")
        .send();
    assert_eq!(upgrade.status, 401, "{upgrade:?}");
    assert_eq!(gateway.client().get("/x").http_1_0().send().status, 401);
    assert_eq!(origin.count(), 0);
    gateway
        .client()
        .get("/x")
        .bearer(token(&json!({})))
        .send()
        .expect(200);
    assert_eq!(origin.count(), 1);
}
