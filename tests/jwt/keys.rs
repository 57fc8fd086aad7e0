//! Every algorithm family, with keys from PEM files and from key sets.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use super::{SECRET, admits, claims, guarded, refuses, token};
use crate::harness::{Folder, Gateway, Keys, Peer};

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

const SET: &str = "algorithms = [\"RS256\"]\njwks = \"file:{dir}/keys.json\"";

fn rs256(keys: &Keys, headers: &Value) -> String {
    Peer::token_with("RS256", &keys.private, &claims(&json!({})), headers)
}

#[test]
fn numbers_of_a_key_set_are_taken_where_their_meaning_is_plain() {
    let keys = Keys::new("rsa");
    let octets = |name: &str| {
        let mut octets = vec![0];
        octets.extend(
            URL_SAFE_NO_PAD
                .decode(keys.jwk[name].as_str().unwrap())
                .unwrap(),
        );
        octets
    };
    let mut jwk = keys.jwk.clone();
    jwk["n"] = STANDARD.encode(octets("n")).into();
    jwk["e"] = STANDARD.encode(octets("e")).into();
    jwk["kid"] = 7.into();
    let other = Keys::new("rsa");
    let mut good = other.jwk.clone();
    good["kid"] = "good".into();
    let gateway = guarded(SET)
        .file("keys.json", &json!({ "keys": [jwk, good] }).to_string())
        .start();
    admits(&gateway, &rs256(&keys, &json!({ "kid": "7" })));
    admits(&gateway, &rs256(&other, &json!({ "kid": "good" })));
    refuses(
        &gateway,
        &rs256(&other, &json!({ "kid": "7" })),
        "token_invalid",
    );
    assert!(!gateway.stdout().contains("is not used"));
}

#[test]
fn one_key_without_a_kid_serves_a_token_that_names_one() {
    let keys = Keys::new("rsa");
    let mut jwk = keys.jwk.clone();
    jwk.as_object_mut().unwrap().remove("kid");
    let gateway = guarded(SET)
        .file("keys.json", &json!({ "keys": [jwk] }).to_string())
        .start();
    admits(&gateway, &rs256(&keys, &json!({ "kid": "2026-11" })));
    admits(&gateway, &rs256(&keys, &json!({})));
    let stranger = Keys::new("rsa");
    refuses(
        &gateway,
        &rs256(&stranger, &json!({ "kid": "2026-11" })),
        "token_invalid",
    );
}

#[test]
fn keys_that_are_not_used_are_named_at_check_and_in_the_log() {
    let (keys, ec) = (Keys::new("rsa"), Keys::new("ec"));
    let mut encrypts = keys.jwk.clone();
    (encrypts["kid"], encrypts["use"]) = ("enc-1".into(), "enc".into());
    let mut other = ec.jwk;
    other["kid"] = "ec-1".into();
    let text = json!({ "keys": [keys.jwk, encrypts, other] }).to_string();
    let gateway = guarded(SET).file("keys.json", &text).start();
    let said = [
        "auth.app.jwks: key 2 (kid \"enc-1\") is not used: its `use` is encryption",
        "auth.app.jwks: key 3 (kid \"ec-1\") is not used: it serves none of `algorithms`",
    ];
    let place = format!("warning: {}:", gateway.config().display());
    let mut ran = gateway.run_cli(&["check"], &[]).expect(0).says(&place);
    for said in said {
        ran = ran.says(said);
        let logged = |line: &Value| line["msg"].as_str().is_some_and(|msg| msg.contains(said));
        gateway.wait_for_log(|line| line["level"] == "warn" && logged(line));
    }
    let ran = gateway.run_cli(&["check"], &["--format", "json"]);
    let report = ran.expect(0).json();
    assert_eq!(report["ok"], true);
    assert_eq!(report["warnings"].as_array().unwrap().len(), 2, "{report}");
    // A reload says it again.
    gateway.write(
        "keys.json",
        &json!({ "keys": [keys.jwk, { "kty": "oct" }] }).to_string(),
    );
    gateway.reload_ok();
    gateway.wait_for_log(|line| {
        let said = line["msg"].as_str().unwrap_or_default();
        said.contains("key 2 is not used: it lacks a number of its `kty`")
    });
}

fn check(auth: &str, files: &[(&str, &str)]) -> crate::harness::Ran {
    let mut folder = Folder::with(&format!(
        "[[listener]]\naddress = \"127.0.0.1:8080\"\n{auth}\n\
         [[route]]\nid = \"r\"\npath = \"/\"\nauth = [\"app\"]\nrespond = {{ status = 200 }}\n"
    ));
    for (name, text) in files {
        folder = folder.write(name, text);
    }
    folder.check()
}

#[test]
fn keys_that_cannot_be_told_apart_are_an_error() {
    let (one, other) = (Keys::new("ec"), Keys::new("ec"));
    let (mut a, mut b) = (one.jwk, other.jwk);
    (a["kid"], b["kid"]) = (7.into(), "7".into());
    let auth =
        "[auth.app]\ntype = \"jwt\"\nalgorithms = [\"ES256\"]\njwks = \"file:{dir}/keys.json\"";
    check(
        auth,
        &[("keys.json", &json!({ "keys": [a, b] }).to_string())],
    )
    .expect(1)
    .says("auth.app.jwks: two keys of one family have the kid \"7\"");
}

#[test]
fn a_second_key_in_a_file_is_a_problem() {
    let (one, other) = (Keys::new("ec"), Keys::new("ec"));
    let both = format!("{}{}", one.public, other.public);
    let jwt =
        "[auth.app]\ntype = \"jwt\"\nalgorithms = [\"ES256\"]\npublic_key = \"file:{dir}/key.pem\"";
    let signed = "[auth.app]\ntype = \"signature\"\nscheme = \"rfc9421\"\n[auth.app.apps]\n\
        \"a\" = { public_key = \"file:{dir}/key.pem\" }";
    for (auth, place) in [(jwt, "auth.app.public_key"), (signed, "public_key")] {
        check(auth, &[("key.pem", &one.public)]).expect(0);
        check(auth, &[("key.pem", &both)])
            .expect(1)
            .says(&format!("{place}: line "))
            .says("a second public key; only one would be used");
    }
}

/// A token of at least so many bytes.
fn long(bytes: usize) -> String {
    token(&json!({ "groups": "g".repeat(bytes * 3 / 4) }))
}

#[test]
fn a_token_may_be_as_long_as_max_token_says() {
    let with = |more: &str| {
        guarded(&format!(
            "algorithms = [\"HS256\"]\nsecret = \"{SECRET}\"\n{more}"
        ))
        .start()
    };
    let (short, longer) = (long(7000), long(10_000));
    assert!(short.len() < 8192 && longer.len() > 8192 && longer.len() < 12 << 10);
    let gateway = with("");
    admits(&gateway, &short);
    refuses(&gateway, &longer, "token_invalid");
    let cause = "the token is longer than max_token";
    let line = gateway.wait_for_log(|line| line["reason"] == "token_invalid");
    assert_eq!(line["cause"], cause, "{line}");
    let header = format!("Authorization: Bearer {longer}");
    let ran = gateway.run_cli(&["explain"], &["GET", "/", "-H", &header]);
    ran.expect(0).says(cause);
    admits(&with("max_token = \"12KiB\""), &longer);
    refuses(&with("max_token = \"512B\""), &short, "token_invalid");
    let refused = |more: &str| {
        let auth = format!(
            "[auth.app]\ntype = \"jwt\"\nalgorithms = [\"HS256\"]\nsecret = \"{SECRET}\"\n{more}"
        );
        check(&auth, &[]).expect(1)
    };
    refused("max_token = \"100B\"").says("max_token: must lie between 256B and 512KiB");
    refused("max_token = \"17KiB\"")
        .says("no token is that long: server.client takes heads of 16384 bytes");
}

#[test]
fn a_token_without_exp_is_refused_and_the_log_says_why() {
    let gateway = guarded(&format!("algorithms = [\"HS256\"]\nsecret = \"{SECRET}\"")).start();
    let endless = Peer::token("HS256", SECRET, &json!({ "sub": "a" }));
    refuses(&gateway, &endless, "token_invalid");
    let line = gateway.wait_for_log(|line| line["reason"] == "token_invalid");
    assert_eq!(line["cause"], "the token has no `exp`, which is required");
}
