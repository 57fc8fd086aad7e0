//! Every algorithm family, with keys from PEM files and from key sets.

use serde_json::{Value, json};

use super::{admits, claims, guarded, refuses};
use crate::harness::{Gateway, Keys, Peer};

fn by_public_key(algorithm: &str, public: &str) -> Gateway {
    guarded(&format!(
        "algorithms = [\"{algorithm}\"]\npublic_key = \"file:{{dir}}/key.pem\""
    ))
    .file("key.pem", public)
    .start()
}

#[track_caller]
fn admits_its_own_key_only(algorithm: &str, kind: &str) {
    let (keys, others) = (Keys::new(kind), Keys::new(kind));
    let gateway = by_public_key(algorithm, &keys.public);
    admits(
        &gateway,
        &Peer::token(algorithm, &keys.private, &claims(&json!({}))),
    );
    refuses(
        &gateway,
        &Peer::token(algorithm, &others.private, &claims(&json!({}))),
        "token_invalid",
    );
    let expired = claims(&json!({ "exp": 1 }));
    refuses(
        &gateway,
        &Peer::token(algorithm, &keys.private, &expired),
        "token_expired",
    );
}

#[test]
fn rs256_admits_its_own_key_only() {
    admits_its_own_key_only("RS256", "rsa");
}

#[test]
fn ps256_admits_its_own_key_only() {
    admits_its_own_key_only("PS256", "rsa");
}

#[test]
fn es256_admits_its_own_key_only() {
    admits_its_own_key_only("ES256", "ec");
}

#[test]
fn eddsa_admits_its_own_key_only() {
    admits_its_own_key_only("EdDSA", "ed25519");
}

#[test]
fn hs384_and_hs512_are_told_apart() {
    let secret = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
    let of = |algorithms: &str| {
        guarded(&format!("algorithms = {algorithms}\nsecret = \"{secret}\"")).start()
    };
    let tokens: Vec<String> = ["HS256", "HS384", "HS512"]
        .iter()
        .map(|a| Peer::token(a, secret, &claims(&json!({}))))
        .collect();
    let gateway = of("[\"HS384\", \"HS512\"]");
    refuses(&gateway, &tokens[0], "token_invalid");
    admits(&gateway, &tokens[1]);
    admits(&gateway, &tokens[2]);
}

#[test]
fn an_algorithm_outside_the_list_is_refused_although_the_key_would_do() {
    let keys = Keys::new("rsa");
    let gateway = by_public_key("RS256", &keys.public);
    refuses(
        &gateway,
        &Peer::token("PS256", &keys.private, &claims(&json!({}))),
        "token_invalid",
    );
    refuses(
        &gateway,
        &Peer::token("RS512", &keys.private, &claims(&json!({}))),
        "token_invalid",
    );
}

#[test]
fn a_public_key_is_no_hmac_secret() {
    let keys = Keys::new("rsa");
    let gateway = by_public_key("RS256", &keys.public);
    let payload = claims(&json!({})).to_string();
    let stripped: String = keys
        .public
        .lines()
        .filter(|l| !l.starts_with('-'))
        .collect();
    for secret in [keys.public.as_str(), keys.public.trim_end(), &stripped] {
        refuses(
            &gateway,
            &Peer::forged(r#"{"alg":"HS256","typ":"JWT"}"#, &payload, secret),
            "token_invalid",
        );
    }
}

/// A key set of `(kid, keys)`.
fn jwks(keys: &[(&str, &Keys)]) -> String {
    let one = |(kid, keys): &(&str, &Keys)| {
        let mut jwk = keys.jwk.clone();
        jwk["kid"] = json!(kid);
        jwk["use"] = json!("sig");
        jwk
    };
    json!({ "keys": keys.iter().map(one).collect::<Vec<Value>>() }).to_string()
}

#[test]
fn a_key_set_is_searched_by_kid() {
    let (old, new, stranger) = (Keys::new("ec"), Keys::new("ec"), Keys::new("ec"));
    let gateway = guarded("algorithms = [\"ES256\"]\njwks = \"file:{dir}/keys.json\"")
        .file("keys.json", &jwks(&[("old", &old), ("new", &new)]))
        .start();
    let token = |keys: &Keys, kid: &str| {
        Peer::token_with(
            "ES256",
            &keys.private,
            &claims(&json!({})),
            &json!({ "kid": kid }),
        )
    };
    admits(&gateway, &token(&old, "old"));
    admits(&gateway, &token(&new, "new"));
    refuses(&gateway, &token(&old, "new"), "token_invalid");
    refuses(&gateway, &token(&stranger, "old"), "token_invalid");
    for kid in [
        "unknown",
        "",
        "../../etc/passwd",
        "' OR 1=1 --",
        "a\u{0}b",
        "old\r\nX: 1",
    ] {
        refuses(&gateway, &token(&old, kid), "token_invalid");
    }
    // Without a kid there is no choosing between two keys.
    refuses(
        &gateway,
        &Peer::token("ES256", &old.private, &claims(&json!({}))),
        "token_invalid",
    );
}

#[test]
fn a_rotated_key_set_takes_effect_with_a_reload() {
    let (old, new) = (Keys::new("rsa"), Keys::new("rsa"));
    let gateway = guarded("algorithms = [\"RS256\"]\njwks = \"file:{dir}/keys.json\"")
        .file("keys.json", &jwks(&[("1", &old)]))
        .start();
    let token = |keys: &Keys, kid: &str| {
        Peer::token_with(
            "RS256",
            &keys.private,
            &claims(&json!({})),
            &json!({ "kid": kid }),
        )
    };
    let (of_old, of_new) = (token(&old, "1"), token(&new, "2"));
    admits(&gateway, &of_old);
    refuses(&gateway, &of_new, "token_invalid");
    gateway.write("keys.json", &jwks(&[("2", &new)]));
    gateway.reload_ok();
    admits(&gateway, &of_new);
    refuses(&gateway, &of_old, "token_invalid");
}
