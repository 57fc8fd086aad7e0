//! Verified tokens are remembered, but never for longer than they hold.

use serde_json::json;

use super::{SECRET, admits, claims, hs256, refuses, token};
use crate::harness::{Peer, eventually, seconds, unix_now};

#[test]
fn a_remembered_token_does_not_outlive_its_expiry() {
    let gateway = hs256("cache = 1000");
    let exp = unix_now() + 2;
    let short = token(&json!({ "exp": exp }));
    admits(&gateway, &short);
    let mut connection = gateway.client().connect();
    let mut last_admitted = 0;
    eventually(seconds(5), "the token is refused", || {
        let before = unix_now();
        let response = connection.get("/").bearer(&short).send();
        if response.status == 200 {
            last_admitted = before;
        }
        response.status == 401
    });
    assert!(
        last_admitted <= exp,
        "admitted at {last_admitted}, expired at {exp}"
    );
    refuses(&gateway, &short, "token_expired");
}

#[test]
fn a_token_that_differs_in_one_byte_is_another_token() {
    let gateway = hs256("");
    let good = token(&json!({}));
    admits(&gateway, &good);
    let mut tampered = good.clone().into_bytes();
    let last = tampered.len() - 5;
    tampered[last] = if tampered[last] == b'A' { b'B' } else { b'A' };
    refuses(
        &gateway,
        &String::from_utf8(tampered).unwrap(),
        "token_invalid",
    );
    admits(&gateway, &good);
}

#[test]
fn a_changed_key_empties_the_cache() {
    let gateway = hs256("cache = 1000");
    let old = token(&json!({}));
    admits(&gateway, &old);
    let other = "another-secret-of-at-least-32-bytes!";
    let text = std::fs::read_to_string(gateway.config())
        .unwrap()
        .replace(SECRET, other);
    gateway.rewrite(&text);
    gateway.reload_ok();
    refuses(&gateway, &old, "token_invalid");
    admits(&gateway, &Peer::token("HS256", other, &claims(&json!({}))));
}

#[test]
fn tightened_rules_hold_for_remembered_tokens() {
    let gateway = hs256("cache = 1000");
    let anyone = token(&json!({}));
    admits(&gateway, &anyone);
    let text = std::fs::read_to_string(gateway.config()).unwrap();
    gateway.rewrite(&text.replace("cache = 1000", "cache = 1000\naudience = [\"app\"]"));
    gateway.reload_ok();
    refuses(&gateway, &anyone, "token_invalid");
    admits(&gateway, &token(&json!({ "aud": "app" })));
}

#[test]
fn the_cache_may_be_off_or_tiny() {
    for cache in ["cache = 0", "cache = 1"] {
        let gateway = hs256(cache);
        let tokens: Vec<String> = (0..5).map(|n| token(&json!({ "n": n }))).collect();
        for _ in 0..3 {
            tokens.iter().for_each(|token| admits(&gateway, token));
        }
    }
}
