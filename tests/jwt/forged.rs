//! Tokens that someone made up: all refused with the same words, none with a server error.

use serde_json::json;

use super::{SECRET, admits, claims, hs256, refuses, token};
use crate::harness::{Peer, base64url, unix_now};

const HEADER: &str = r#"{"alg":"HS256","typ":"JWT"}"#;

#[test]
fn the_forger_makes_good_tokens_too() {
    admits(
        &hs256(""),
        &Peer::forged(HEADER, &claims(&json!({})).to_string(), SECRET),
    );
}

#[test]
fn no_algorithm_is_no_signature() {
    let gateway = hs256("");
    let payload = base64url(claims(&json!({})).to_string());
    for alg in ["none", "None", "NONE", "nOnE", ""] {
        let header = base64url(json!({ "alg": alg }).to_string());
        refuses(&gateway, &format!("{header}.{payload}."), "token_invalid");
        let signed = token(&json!({}));
        let signature = signed.rsplit('.').next().unwrap();
        refuses(
            &gateway,
            &format!("{header}.{payload}.{signature}"),
            "token_invalid",
        );
    }
}

#[test]
fn the_header_must_name_a_known_algorithm_once_and_plainly() {
    let gateway = hs256("");
    let payload = claims(&json!({})).to_string();
    for header in [
        "{}",
        r#"{"alg":null}"#,
        r#"{"alg":["HS256"]}"#,
        r#"{"alg":"hs256"}"#,
        r#"{"alg":"HS256 "}"#,
        r#"{"alg":"HS1"}"#,
        r#"{"alg":"HS256","alg":"HS256"}"#,
        r#"["HS256"]"#,
        "no json",
    ] {
        refuses(
            &gateway,
            &Peer::forged(header, &payload, SECRET),
            "token_invalid",
        );
    }
}

#[test]
fn a_critical_extension_is_never_understood() {
    let gateway = hs256("");
    let payload = claims(&json!({})).to_string();
    for header in [
        r#"{"alg":"HS256","crit":["exp"]}"#,
        r#"{"alg":"HS256","crit":[]}"#,
        r#"{"alg":"HS256","b64":false,"crit":["b64"]}"#,
    ] {
        refuses(
            &gateway,
            &Peer::forged(header, &payload, SECRET),
            "token_invalid",
        );
    }
}

#[test]
fn keys_inside_a_token_are_nobodys_business() {
    let gateway = hs256("");
    let own_key = json!({ "kty": "oct", "k": base64url("attacker-attacker-attacker-attack") });
    for extra in [
        json!({ "jwk": own_key }),
        json!({ "jku": "http://127.0.0.1:1/" }),
        json!({ "x5u": "http://127.0.0.1:1/" }),
    ] {
        let mut header = json!({ "alg": "HS256" });
        header
            .as_object_mut()
            .unwrap()
            .extend(extra.as_object().unwrap().clone());
        let forged = Peer::forged(
            &header.to_string(),
            &claims(&json!({})).to_string(),
            "attacker-attacker-attacker-attack",
        );
        refuses(&gateway, &forged, "token_invalid");
    }
}

#[test]
fn an_expiry_is_a_number_in_the_future() {
    let gateway = hs256("");
    let soon = unix_now() + 60;
    for exp in [
        format!("\"{soon}\""),
        "null".to_owned(),
        "true".to_owned(),
        "[]".to_owned(),
        "-1".to_owned(),
        "1e400".to_owned(),
        "9999999999999999999999999999999999999999".to_owned(),
        "{}".to_owned(),
    ] {
        let payload = format!("{{\"sub\":\"u\",\"exp\":{exp}}}");
        let response = gateway
            .client()
            .get("/")
            .bearer(Peer::forged(HEADER, &payload, SECRET))
            .send();
        assert_eq!(response.status, 401, "exp {exp}: {response:?}");
    }
    let without = Peer::forged(HEADER, r#"{"sub":"u"}"#, SECRET);
    refuses(&gateway, &without, "token_invalid");
}

#[test]
fn the_payload_is_an_object_of_sane_depth() {
    let gateway = hs256("");
    let deep = format!("{}{}", "[".repeat(3000), "]".repeat(3000));
    let soon = unix_now() + 60;
    for payload in [
        "[]".to_owned(),
        "7".to_owned(),
        "\"text\"".to_owned(),
        "".to_owned(),
        "{".to_owned(),
        format!("{{\"exp\":{soon},\"a\":{deep}}}"),
        format!("{{\"exp\":{soon},\"exp\":{soon}}}"),
    ] {
        refuses(
            &gateway,
            &Peer::forged(HEADER, &payload, SECRET),
            "token_invalid",
        );
    }
}

#[test]
fn a_token_has_three_parts_in_the_one_alphabet() {
    let gateway = hs256("");
    let good = token(&json!({}));
    let [header, payload, signature]: [&str; 3] =
        good.split('.').collect::<Vec<_>>().try_into().unwrap();
    for wrong in [
        header.to_owned(),
        format!("{header}.{payload}"),
        format!("{header}.{payload}.{signature}.x"),
        format!("{header}.{payload}.{signature}.x.y"),
        format!(".{payload}.{signature}"),
        format!("{header}..{signature}"),
        format!("{header}.{payload}."),
        format!("{header}.{payload}.{signature}="),
        format!("{header}.{payload}.{signature}AA"),
        format!("{header}.{payload}.{}", &signature[..signature.len() - 1]),
        format!(
            "{header}.{payload}.{}",
            signature.chars().rev().collect::<String>()
        ),
        "a.b.c".to_owned(),
        "...".to_owned(),
    ] {
        refuses(&gateway, &wrong, "token_invalid");
    }
    admits(&gateway, &good);
}

#[test]
fn no_part_of_a_token_can_be_exchanged() {
    let gateway = hs256("");
    let (mine, other) = (
        token(&json!({ "role": "reader" })),
        token(&json!({ "role": "admin" })),
    );
    let [header, _, signature]: [&str; 3] = mine.split('.').collect::<Vec<_>>().try_into().unwrap();
    let payload = other.split('.').nth(1).unwrap();
    refuses(
        &gateway,
        &format!("{header}.{payload}.{signature}"),
        "token_invalid",
    );
}

#[test]
fn refusals_sound_alike() {
    let gateway = hs256("");
    let payload = claims(&json!({})).to_string();
    let detail = |token: &str| {
        gateway
            .client()
            .get("/")
            .bearer(token)
            .send()
            .refused(401, "token_invalid")
            .json()["detail"]
            .clone()
    };
    let first = detail("nonsense");
    for token in [
        Peer::forged(HEADER, &payload, "wrong-wrong-wrong-wrong-wrong-wrong"),
        Peer::forged(r#"{"alg":"none"}"#, &payload, SECRET),
    ] {
        assert_eq!(detail(&token), first);
    }
}
