//! Signed requests from check to nonce, each refusal beside the request it was made from.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519, SigningKey};

use super::awaited::Stamp;
use super::{SignatureAuthenticator, app, ca, rfc9421};
use crate::auth::testing::{Call, NOW, reason};
use crate::auth::{AuthFacts, Authenticator, BuildError, build};
use crate::config::{App, AppKey, Auth, SignatureAuth, SignatureScheme};
use crate::filter::{Reason, Scheme, Verdict};
use crate::primitives::AuthName;
use crate::primitives::ranges::AddressRanges;
use crate::primitives::secret::{Secret, SecretSource};

const KEY: &str = "app-1001";
const SECRET: &str = "test-secret";
const JSON: &[u8] = br#"{"hello":"world"}"#;

fn literal(source: &SecretSource) -> Result<Secret, String> {
    match source {
        SecretSource::Literal(secret) => Ok(secret.clone()),
        other => Err(format!("cannot read {other}")),
    }
}

fn application(secrets: &[&str]) -> App {
    App {
        key: AppKey::Secrets(secrets.iter().map(|s| SecretSource::parse(s)).collect()),
        tier: None,
        ips: None,
    }
}

fn settings(scheme: SignatureScheme) -> SignatureAuth {
    SignatureAuth {
        name: AuthName::new("partner"),
        scheme,
        skew: Duration::from_secs(300),
        nonce_capacity: 1000,
        require_body_digest: true,
        strict_params: false,
        apps: BTreeMap::from([(KEY.to_owned(), application(&[SECRET]))]),
    }
}

fn made_in(auth: &SignatureAuth, facts: &AuthFacts) -> Arc<dyn Authenticator> {
    let auth = Auth::Signature(auth.clone());
    let made = build(&auth, &literal, facts).unwrap();
    facts.register([&auth]);
    made
}

fn made(auth: &SignatureAuth) -> Arc<dyn Authenticator> {
    made_in(auth, &AuthFacts::new(0))
}

/// The verdict on the whole request, fetching the body when it is asked for.
fn told(auth: &Arc<dyn Authenticator>, call: &Call, body: &[u8]) -> &'static str {
    let mut context = call.context();
    match auth.check(&mut context) {
        Verdict::NeedBody => reason(&auth.check_body(&mut context, body)),
        verdict => reason(&verdict),
    }
}

/// A call with its body announced.
fn post(target: &str, kind: &str, body: &[u8]) -> Call {
    Call::new("POST", target)
        .header("content-type", kind)
        .header("content-length", &body.len().to_string())
}

fn ca_signed_as(
    call: Call,
    target: &str,
    body: &[u8],
    key: &str,
    secret: &str,
    nonce: &str,
) -> Call {
    let message = ca::Message {
        method: call.head().method.as_str(),
        target,
        headers: &call.head().headers,
        body,
    };
    let stamp = call.unix_time * 1000;
    let added = ca::sign(&message, key, secret.as_bytes(), stamp, nonce).unwrap();
    call.headers(&added)
}

fn ca_get(nonce: &str) -> Call {
    ca_signed_as(
        Call::get("/x?b=2&a=1"),
        "/x?b=2&a=1",
        b"",
        KEY,
        SECRET,
        nonce,
    )
}

fn ca_post(body: &[u8], nonce: &str) -> Call {
    ca_signed_as(
        post("/x", "application/json", body),
        "/x",
        body,
        KEY,
        SECRET,
        nonce,
    )
}

/// The HMAC of a text that a test spells out.
fn hmac_of(text: &str) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes());
    STANDARD.encode(hmac::sign(&key, text.as_bytes()))
}

fn replaced(call: Call, name: &str, value: &str) -> Call {
    call.without(name).header(name, value)
}

#[test]
fn ca_accepts_a_signed_request_once() {
    let auth = made(&settings(SignatureScheme::Ca));
    let call = ca_get("n1");
    let mut context = call.context();
    assert_eq!(reason(&auth.check(&mut context)), "continue");
    let principal = context.principal.unwrap();
    assert_eq!(&*principal.consumer, KEY);
    assert!(principal.claims.is_null() && principal.forward.is_empty());
    assert_eq!(told(&auth, &call, b""), "sig_replayed");
    assert_eq!(told(&auth, &ca_get("n2"), b""), "continue");
}

#[test]
fn every_401_says_how_to_sign_and_none_says_why() {
    let auth = made(&settings(SignatureScheme::Ca));
    let unknown = ca_signed_as(Call::get("/"), "/", b"", "nobody", SECRET, "n");
    let wrong = replaced(ca_get("n"), "x-ca-nonce", "m");
    let mut details = Vec::new();
    for call in [unknown, wrong, Call::get("/").header("x-ca-signature", "?")] {
        let Verdict::Refuse(refusal) = auth.check(&mut call.context()) else {
            panic!("accepted");
        };
        assert_eq!(refusal.reason, Reason::SigInvalid);
        assert_eq!(refusal.challenge, Some("Signature"));
        details.push(refusal.detail);
    }
    details.dedup();
    assert_eq!(details.len(), 1, "{details:?}");
    assert_eq!(told(&auth, &Call::get("/"), b""), "sig_missing");
}

#[test]
fn ca_refuses_what_is_not_exactly_what_was_signed() {
    let auth = made(&settings(SignatureScheme::Ca));
    let good = || ca_get("n");
    let listed = |names: &str| replaced(good(), "x-ca-signature-headers", names);
    let sent_as = |call: Call| {
        let signed = good();
        let sent = signed.head().headers.iter();
        let copied: Vec<_> = sent
            .map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()))
            .collect();
        call.headers(&copied)
    };
    for (what, call) in [
        (
            "query",
            ca_signed_as(Call::get("/x?b=3&a=1"), "/x?b=2&a=1", b"", KEY, SECRET, "n"),
        ),
        (
            "path",
            ca_signed_as(Call::get("/X"), "/x", b"", KEY, SECRET, "n"),
        ),
        ("accept", good().header("accept", "x")),
        ("method", sent_as(Call::new("POST", "/x?b=2&a=1"))),
        (
            "as it was signed, but for the case of its path",
            sent_as(Call::get("/X?b=2&a=1")),
        ),
        (
            "wrong secret",
            ca_signed_as(Call::get("/x"), "/x", b"", KEY, "other", "n"),
        ),
        ("no key", good().without("x-ca-key")),
        ("no stamp", good().without("x-ca-timestamp")),
        ("no nonce", good().without("x-ca-nonce")),
        ("no list", good().without("x-ca-signature-headers")),
        ("two keys", good().header("x-ca-key", KEY)),
        (
            "two stamps",
            good().header("x-ca-timestamp", "1700000000000"),
        ),
        ("two nonces", good().header("x-ca-nonce", "n")),
        ("two signatures", good().header("x-ca-signature", "AAAA")),
        (
            "two lists",
            good().header("x-ca-signature-headers", "x-ca-key"),
        ),
        ("sha1", good().header("x-ca-signature-method", "HmacSHA1")),
        (
            "two methods",
            good()
                .header("x-ca-signature-method", "HmacSHA256")
                .header("x-ca-signature-method", "HmacSHA1"),
        ),
        ("key unsigned", listed("x-ca-nonce,x-ca-timestamp")),
        ("nonce unsigned", listed("x-ca-key,x-ca-timestamp")),
        ("stamp unsigned", listed("x-ca-key,x-ca-nonce")),
        (
            "listed twice",
            listed("x-ca-key,X-Ca-Key,x-ca-nonce,x-ca-timestamp"),
        ),
        ("no header", listed("x-ca-key,x-ca-nonce,x-ca-timestamp,")),
        ("seconds", replaced(good(), "x-ca-timestamp", "1700000000")),
        (
            "negative",
            replaced(good(), "x-ca-timestamp", "-170000000000"),
        ),
        (
            "overflow",
            replaced(good(), "x-ca-timestamp", "99999999999999999999"),
        ),
        ("long nonce", ca_get(&"n".repeat(65))),
        ("nonce with a space", ca_get("a b")),
        ("empty nonce", replaced(good(), "x-ca-nonce", "")),
        ("no base64", replaced(good(), "x-ca-signature", "%%%%")),
        ("empty signature", replaced(good(), "x-ca-signature", "")),
    ] {
        assert_eq!(told(&auth, &call, b""), "sig_invalid", "{what}");
    }
    let named = good().header("x-ca-signature-method", "HmacSHA256");
    assert_eq!(
        told(&auth, &named, b""),
        "continue",
        "and no nonce was spent"
    );
    assert_eq!(told(&auth, &ca_get(&"n".repeat(64)), b""), "continue");
}

#[test]
fn ca_accepts_every_spelling_of_names_and_empty_values() {
    let auth = made(&settings(SignatureScheme::Ca));
    let stamp = (NOW * 1000).to_string();
    let signed = |names: &str, lines: [&str; 3], parameters: &str, nonce: &str| {
        let [first, second, third] = lines;
        let text = format!(
            "GET\n\n\n\n\n{first}:{KEY}\n{second}:{nonce}\n{third}:{stamp}\n/x?{parameters}"
        );
        Call::get("/x?k=&a=1")
            .header("x-ca-key", KEY)
            .header("x-ca-timestamp", &stamp)
            .header("x-ca-nonce", nonce)
            .header("x-ca-signature-headers", names)
            .header("x-ca-signature", &hmac_of(&text))
    };
    let lower = ["x-ca-key", "x-ca-nonce", "x-ca-timestamp"];
    let mixed = ["X-Ca-Key", "X-Ca-Nonce", "X-Ca-Timestamp"];
    let (as_lower, as_mixed) = (lower.join(","), mixed.join(" , "));
    for (nonce, names, lines, parameters, expected) in [
        ("a", &as_lower, lower, "a=1&k", "continue"),
        ("b", &as_lower, lower, "a=1&k=", "continue"),
        ("c", &as_mixed, mixed, "a=1&k", "continue"),
        ("d", &as_mixed, mixed, "a=1&k=", "continue"),
        ("e", &as_mixed, lower, "a=1&k", "continue"),
        ("f", &as_lower, mixed, "a=1&k", "sig_invalid"),
        ("g", &as_lower, lower, "k=&a=1", "sig_invalid"),
        ("h", &as_lower, lower, "a=1", "sig_invalid"),
    ] {
        let call = signed(names, lines, parameters, nonce);
        assert_eq!(told(&auth, &call, b""), expected, "{nonce}");
    }
}

#[test]
fn ca_requires_key_nonce_and_stamp_to_be_signed() {
    let auth = made(&settings(SignatureScheme::Ca));
    let stamp = (NOW * 1000).to_string();
    for (names, expected) in [
        ("x-ca-key,x-ca-nonce", "sig_invalid"),
        ("x-ca-key,x-ca-timestamp", "sig_invalid"),
        ("x-ca-nonce,x-ca-timestamp", "sig_invalid"),
        ("x-ca-key,x-ca-nonce,x-ca-timestamp", "continue"),
    ] {
        let call = Call::get("/x")
            .header("x-ca-key", KEY)
            .header("x-ca-timestamp", &stamp)
            .header("x-ca-nonce", "n")
            .header("x-ca-signature-headers", names);
        let line = |name| format!("{name}:{}\n", call.head().headers[name].to_str().unwrap());
        let lines: String = names.split(',').map(line).collect();
        let signature = hmac_of(&format!("GET\n\n\n\n\n{lines}/x"));
        let call = call.clone().header("x-ca-signature", &signature);
        assert_eq!(told(&auth, &call, b""), expected, "{names}");
    }
}

#[test]
fn rfc9421_requires_every_part_that_says_where_the_request_goes() {
    let auth = made(&settings(SignatureScheme::Rfc9421));
    let parts = [
        ("@method", "GET"),
        ("@authority", "api.example.com"),
        ("@path", "/x"),
        ("@query", "?"),
    ];
    for (left_out, expected) in [
        (0, "sig_invalid"),
        (1, "sig_invalid"),
        (2, "sig_invalid"),
        (3, "sig_invalid"),
        (4, "continue"),
    ] {
        let (mut names, mut lines) = (Vec::new(), String::new());
        for (i, (name, value)) in parts.iter().enumerate() {
            if i != left_out {
                names.push(format!("\"{name}\""));
                lines += &format!("\"{name}\": {value}\n");
            }
        }
        let names = names.join(" ");
        let input = format!("({names});created={NOW};keyid=\"{KEY}\";nonce=\"n\"");
        let signature = hmac_of(&format!("{lines}\"@signature-params\": {input}"));
        let call = Call::get("/x")
            .header("signature-input", &format!("s={input}"))
            .header("signature", &format!("s=:{signature}:"));
        assert_eq!(told(&auth, &call, b""), expected, "{names}");
    }
}

#[test]
fn ca_accepts_the_skew_and_not_a_second_more() {
    let auth = made(&settings(SignatureScheme::Ca));
    let signed_at =
        |unix, nonce| ca_signed_as(Call::get("/x").at(unix), "/x", b"", KEY, SECRET, nonce).at(NOW);
    for (unix, nonce, expected) in [
        (NOW - 300, "a", "continue"),
        (NOW - 301, "b", "sig_expired"),
        (NOW + 300, "c", "continue"),
        (NOW + 301, "d", "sig_expired"),
        (9_999_999_999, "e", "sig_expired"),
    ] {
        assert_eq!(
            told(&auth, &signed_at(unix, nonce), b""),
            expected,
            "{unix}"
        );
    }
}

#[test]
fn stamps_from_before_the_start_are_refused() {
    let start = NOW * 1000 + 500;
    let ca = made_in(&settings(SignatureScheme::Ca), &AuthFacts::new(start));
    assert_eq!(told(&ca, &ca_get("n"), b""), "sig_expired");
    let ca = made_in(&settings(SignatureScheme::Ca), &AuthFacts::new(NOW * 1000));
    assert_eq!(told(&ca, &ca_get("n"), b""), "continue");
    let rfc = settings(SignatureScheme::Rfc9421);
    let call = |unix| rfc_signed(Call::get("/x").at(unix), b"", "n").at(NOW);
    let auth = made_in(&rfc, &AuthFacts::new(start));
    assert_eq!(told(&auth, &call(NOW - 1), b""), "sig_expired");
    assert_eq!(told(&auth, &call(NOW), b""), "continue");
}

#[test]
fn ca_checks_the_body_before_it_spends_the_nonce() {
    let auth = made(&settings(SignatureScheme::Ca));
    let call = ca_post(JSON, "n");
    assert!(matches!(auth.check(&mut call.context()), Verdict::NeedBody));
    assert_eq!(told(&auth, &call, b"{\"hello\":\"w0rld\"}"), "body_digest");
    assert_eq!(told(&auth, &call, b""), "body_digest");
    assert_eq!(told(&auth, &call, JSON), "continue");
    assert_eq!(
        reason(&auth.check(&mut call.context())),
        "sig_replayed",
        "and the body is not read again"
    );
    let forged = replaced(
        ca_post(JSON, "m"),
        "content-md5",
        "AAAAAAAAAAAAAAAAAAAAAA==",
    );
    assert_eq!(reason(&auth.check(&mut forged.context())), "sig_invalid");
}

#[test]
fn ca_requires_a_digest_of_bodies_that_are_no_forms() {
    let strict = made(&settings(SignatureScheme::Ca));
    let lax = made(&SignatureAuth {
        require_body_digest: false,
        strict_params: false,
        ..settings(SignatureScheme::Ca)
    });
    // Signed as a request without body, which is sent with one.
    let bare = || {
        let call = Call::new("POST", "/x").header("content-type", "application/json");
        let signed = ca_signed_as(call, "/x", b"", KEY, SECRET, "n");
        signed.header("transfer-encoding", "chunked")
    };
    assert_eq!(told(&strict, &bare(), JSON), "body_digest");
    assert_eq!(told(&strict, &bare(), b""), "continue");
    assert_eq!(told(&lax, &bare(), JSON), "continue");
    let hidden = {
        let call = Call::new("POST", "/x").http2();
        ca_signed_as(call, "/x", b"", KEY, SECRET, "m")
    };
    assert_eq!(told(&strict, &hidden, JSON), "body_digest");
}

#[test]
fn ca_takes_sha256_for_md5_when_it_is_signed() {
    let auth = made(&settings(SignatureScheme::Ca));
    let digest = "k6I5cakU5erL8KjSUVTNownDwccvu5kU1Hxg88toFYg=";
    let signed = |names: &str, digest: &str, nonce: &str| {
        let call = Call::new("POST", "/x")
            .header("x-ca-content-sha256", digest)
            .header("x-ca-key", KEY)
            .header("x-ca-timestamp", &(NOW * 1000).to_string())
            .header("x-ca-nonce", nonce)
            .header("x-ca-signature-headers", names);
        let listed: Vec<&str> = names.split(',').collect();
        let mut text = "POST\n\n\n\n\n".to_owned();
        for name in listed {
            let value = call.head().headers[name].to_str().unwrap();
            text += &format!("{name}:{value}\n");
        }
        text += "/x";
        call.header("x-ca-signature", &hmac_of(&text))
            .header("content-length", &JSON.len().to_string())
    };
    let all = "x-ca-content-sha256,x-ca-key,x-ca-nonce,x-ca-timestamp";
    let some = "x-ca-key,x-ca-nonce,x-ca-timestamp";
    assert_eq!(told(&auth, &signed(all, digest, "a"), JSON), "continue");
    assert_eq!(told(&auth, &signed(all, digest, "b"), b"x"), "body_digest");
    assert_eq!(told(&auth, &signed(some, digest, "c"), JSON), "body_digest");
    assert_eq!(told(&auth, &signed(all, "AAAA", "d"), JSON), "body_digest");
}

#[test]
fn ca_signs_the_parameters_of_a_form() {
    let auth = made(&settings(SignatureScheme::Ca));
    let form = b"name=J%C3%B6rg&empty=&x=1+2";
    let kind = "application/x-www-form-urlencoded; charset=UTF-8";
    let call = |nonce| {
        ca_signed_as(
            post("/x?q=1", kind, form),
            "/x?q=1",
            form,
            KEY,
            SECRET,
            nonce,
        )
    };
    let first = call("a");
    assert!(matches!(
        auth.check(&mut first.context()),
        Verdict::NeedBody
    ));
    assert_eq!(
        told(&auth, &first, b"name=J%C3%B6rg&empty=&x=1+3"),
        "sig_invalid"
    );
    assert_eq!(told(&auth, &first, b""), "sig_invalid");
    assert_eq!(told(&auth, &first, form), "continue");
    assert_eq!(told(&auth, &first, form), "sig_replayed");
    let wrong = {
        let call = post("/x?q=1", kind, form).header("content-md5", "AAAAAAAAAAAAAAAAAAAAAA==");
        ca_signed_as(call, "/x?q=1", form, KEY, SECRET, "b")
    };
    assert_eq!(told(&auth, &wrong, form), "body_digest");
    // What the head alone condemns is refused before the body.
    let stranger = ca_signed_as(post("/x", kind, form), "/x", form, "nobody", SECRET, "c");
    assert_eq!(reason(&auth.check(&mut stranger.context())), "sig_invalid");
    assert_eq!(reason(&auth.check(&mut first.context())), "sig_replayed");
    let late = call("d");
    let mut context = late.context();
    assert!(matches!(auth.check(&mut context), Verdict::NeedBody));
    context.unix_time += 301;
    assert_eq!(
        reason(&auth.check_body(&mut context, form)),
        "sig_expired",
        "the body was held back"
    );
}

#[test]
fn both_secrets_of_a_rotation_are_good_and_a_third_is_not() {
    let mut auth = settings(SignatureScheme::Ca);
    auth.apps
        .insert(KEY.to_owned(), application(&["new", "old"]));
    let auth = made(&auth);
    for (secret, nonce, expected) in [
        ("new", "a", "continue"),
        ("old", "b", "continue"),
        ("older", "c", "sig_invalid"),
    ] {
        let call = ca_signed_as(Call::get("/x"), "/x", b"", KEY, secret, nonce);
        assert_eq!(told(&auth, &call, b""), expected, "{secret}");
    }
}

#[test]
fn an_application_calls_from_its_addresses_only() {
    let mut auth = settings(SignatureScheme::Ca);
    let inside = AddressRanges::parse_one("192.0.2.0/24").unwrap();
    let restricted = App {
        ips: Some(AddressRanges::new(vec![inside])),
        ..application(&[SECRET])
    };
    auth.apps.insert(KEY.to_owned(), restricted);
    let auth = made(&auth);
    let outside = ca_get("n").ip("198.51.100.1");
    assert_eq!(told(&auth, &outside, b""), "app_denied");
    let forged = replaced(outside, "x-ca-nonce", "m");
    assert_eq!(
        told(&auth, &forged, b""),
        "sig_invalid",
        "not told before the proof"
    );
    assert_eq!(told(&auth, &ca_get("n"), b""), "continue");
}

#[test]
fn a_full_store_says_when_to_come_back() {
    let auth = made(&SignatureAuth {
        nonce_capacity: 2,
        ..settings(SignatureScheme::Ca)
    });
    assert_eq!(told(&auth, &ca_get("a"), b""), "continue");
    assert_eq!(told(&auth, &ca_get("b"), b""), "continue");
    let Verdict::Refuse(refusal) = auth.check(&mut ca_get("c").context()) else {
        panic!("remembered three");
    };
    assert_eq!(refusal.reason, Reason::RateLimited);
    assert!(
        refusal
            .retry_after
            .is_some_and(|wait| wait > Duration::ZERO)
    );
    assert_eq!(told(&auth, &ca_get("a"), b""), "sig_replayed");
}

#[test]
fn a_dry_run_spends_nothing_and_says_the_same() {
    let auth = made(&settings(SignatureScheme::Ca));
    let dry = ca_get("n").dry();
    assert_eq!(told(&auth, &dry, b""), "continue");
    assert_eq!(told(&auth, &dry, b""), "continue");
    assert_eq!(told(&auth, &ca_get("n"), b""), "continue");
    assert_eq!(told(&auth, &dry, b""), "sig_replayed");
}

#[test]
fn replays_are_refused_after_a_reload() {
    let facts = AuthFacts::new(0);
    let before = made_in(&settings(SignatureScheme::Ca), &facts);
    assert_eq!(told(&before, &ca_get("n"), b""), "continue");
    drop(before);
    let mut changed = settings(SignatureScheme::Ca);
    changed.nonce_capacity = 5000;
    changed
        .apps
        .insert("another".to_owned(), application(&["s"]));
    let after = made_in(&changed, &facts);
    assert_eq!(told(&after, &ca_get("n"), b""), "sig_replayed");
    assert_eq!(told(&after, &ca_get("m"), b""), "continue");
}

#[test]
fn who_was_under_way_when_the_skew_was_narrowed_passes_once() {
    let facts = AuthFacts::new(0);
    let (wide, mut narrow) = (settings(SignatureScheme::Ca), settings(SignatureScheme::Ca));
    narrow.skew = Duration::from_secs(1);
    let under_way = made_in(&wide, &facts);
    let [wide, narrow] = [wide, narrow].map(Auth::Signature);
    facts.apply([&wide]);
    facts.apply([&wide, &narrow]);
    facts.apply([&narrow]);
    let mut call = ca_get("n");
    assert_eq!(told(&under_way, &call, b""), "continue");
    for _ in 0..30 {
        (call.now, call.unix_time) = (call.now + 8_000_000_000, call.unix_time + 8);
        assert_eq!(told(&under_way, &call, b""), "sig_replayed");
    }
}

#[test]
fn a_stamp_whose_nonce_is_kept_for_less_is_judged_by_less() {
    let clock = super::Clock {
        now_ms: 1_000_000,
        skew_ms: 300_000,
        fence_ms: 0,
        narrowed: (995_000, 1000),
    };
    for (stamp, admitted) in [
        (700_000, true),
        (994_999, true),
        (995_000, false),
        (998_999, false),
        (999_000, true),
    ] {
        let signed = Stamp {
            first_ms: stamp,
            last_ms: stamp,
            expires: None,
        };
        assert_eq!(clock.admits(&signed), admitted, "{stamp}");
    }
}

/// What is said with the body when nothing could be verified any more by then: the key is another's.
fn told_with_the_key_gone(scheme: SignatureScheme, call: &Call, body: &[u8]) -> &'static str {
    let facts = AuthFacts::new(0);
    let mut auth = SignatureAuthenticator::build(&settings(scheme), &literal, &facts).unwrap();
    let mut context = call.context();
    assert!(matches!(auth.check(&mut context), Verdict::NeedBody));
    auth.apps.get_mut(KEY).unwrap().key = app::AppKey::nobody();
    reason(&auth.check_body(&mut context, body))
}

#[test]
fn a_signature_with_a_digest_is_verified_once() {
    let ca = ca_post(JSON, "n");
    let rfc = rfc_signed(post("/x", "application/json", JSON), JSON, "n");
    for (scheme, call) in [(SignatureScheme::Ca, ca), (SignatureScheme::Rfc9421, rfc)] {
        assert_eq!(told_with_the_key_gone(scheme, &call, JSON), "continue");
        assert_eq!(told_with_the_key_gone(scheme, &call, b"{}"), "body_digest");
    }
    // A form is signed itself: nothing was verified before it came.
    let kind = "application/x-www-form-urlencoded";
    let form = ca_signed_as(post("/x", kind, b"a=1"), "/x", b"a=1", KEY, SECRET, "n");
    let told = told_with_the_key_gone(SignatureScheme::Ca, &form, b"a=1");
    assert_eq!(told, "sig_invalid");
}

#[test]
fn a_digest_that_comes_late_is_late_though_its_signature_held() {
    let ca = ca_post(JSON, "n");
    let rfc = rfc_signed(post("/x", "application/json", JSON), JSON, "n");
    for (scheme, call) in [(SignatureScheme::Ca, ca), (SignatureScheme::Rfc9421, rfc)] {
        let auth = made(&settings(scheme));
        let mut context = call.context();
        assert!(matches!(auth.check(&mut context), Verdict::NeedBody));
        context.unix_time += 302;
        assert_eq!(reason(&auth.check_body(&mut context, JSON)), "sig_expired");
        // And its nonce is not spent: two at once with one nonce, and one of them passes.
        let mut both = [call.context(), call.context()];
        for context in &mut both {
            assert!(matches!(auth.check(context), Verdict::NeedBody));
        }
        let told = both.map(|mut context| reason(&auth.check_body(&mut context, JSON)));
        assert_eq!(told, ["continue", "sig_replayed"]);
    }
}

#[test]
fn secrets_that_cannot_be_read_are_named() {
    let mut auth = settings(SignatureScheme::Ca);
    let told = |auth: &SignatureAuth| -> BuildError {
        let built = build(&Auth::Signature(auth.clone()), &literal, &AuthFacts::new(0));
        built.err().unwrap()
    };
    auth.apps
        .insert(KEY.to_owned(), application(&[SECRET, "env:GONE"]));
    assert_eq!(
        told(&auth).to_string(),
        "auth.partner.apps.\"app-1001\".previous_secret: cannot read env:GONE"
    );
    auth.apps.insert(KEY.to_owned(), application(&[""]));
    assert_eq!(
        told(&auth).to_string(),
        "auth.partner.apps.\"app-1001\".secret is empty"
    );
}

fn rfc_message(call: &Call) -> rfc9421::Message<'_> {
    let context = call.context();
    rfc9421::Message {
        method: call.head().method.as_str(),
        scheme: Scheme::Https,
        authority: context.request.authority,
        target: context.request.raw_target,
        headers: &call.head().headers,
    }
}

fn rfc_signed(call: Call, body: &[u8], nonce: &str) -> Call {
    let created = call.unix_time;
    let added = rfc9421::sign(
        &rfc_message(&call),
        body,
        KEY,
        SECRET.as_bytes(),
        created,
        nonce,
    );
    call.headers(&added.unwrap())
}

#[test]
fn rfc9421_accepts_a_signed_request_once() {
    let auth = made(&settings(SignatureScheme::Rfc9421));
    let call = rfc_signed(Call::get("/x?a=1"), b"", "n");
    assert_eq!(told(&auth, &call, b""), "continue");
    assert_eq!(told(&auth, &call, b""), "sig_replayed");
    let call = rfc_signed(post("/x", "application/json", JSON), JSON, "m");
    assert!(matches!(auth.check(&mut call.context()), Verdict::NeedBody));
    assert_eq!(told(&auth, &call, b"{}"), "body_digest");
    assert_eq!(told(&auth, &call, JSON), "continue");
    assert_eq!(told(&auth, &call, JSON), "sig_replayed");
    assert_eq!(told(&auth, &Call::get("/"), b""), "sig_missing");
}

#[test]
fn rfc9421_refuses_what_was_not_signed_or_does_not_count() {
    let auth = made(&settings(SignatureScheme::Rfc9421));
    let good = || rfc_signed(Call::get("/x?a=1"), b"", "n");
    let input = |call: &Call| {
        call.head().headers["signature-input"]
            .to_str()
            .unwrap()
            .to_owned()
    };
    let sent_as = |call: Call| {
        let signed = good();
        let headers = &signed.head().headers;
        let copied = ["signature-input", "signature"]
            .map(|name| (name, headers[name].to_str().unwrap().to_owned()));
        call.headers(&copied)
    };
    let elsewhere = sent_as(Call::get("/x?a=1").to("www.example.com"));
    let moved = sent_as(Call::get("/x?a=2"));
    let edited = |from: &str, to: &str| {
        let text = input(&good());
        assert!(text.contains(from), "{from}");
        replaced(good(), "signature-input", &text.replace(from, to))
    };
    for (what, call) in [
        ("nonce", edited("nonce=\"n\"", "nonce=\"m\"")),
        (
            "created",
            edited("created=1700000000", "created=1700000001"),
        ),
        ("keyid", edited("keyid=\"app-1001\"", "keyid=\"app-1002\"")),
        ("alg", edited("hmac-sha256", "ed25519")),
        ("component dropped", edited("\"@query\"", "")),
        ("no signature", good().without("signature")),
        ("two inputs", good().header("signature-input", "x=()")),
        ("two signatures", good().header("signature", "x=:AAAA:")),
        ("authority", elsewhere),
        ("query", moved),
    ] {
        assert_eq!(told(&auth, &call, b""), "sig_invalid", "{what}");
    }
    let old = rfc_signed(Call::get("/x").at(NOW - 301), b"", "n").at(NOW);
    assert_eq!(told(&auth, &old, b""), "sig_expired");
    let early = rfc_signed(Call::get("/x").at(NOW + 301), b"", "n").at(NOW);
    assert_eq!(told(&auth, &early, b""), "sig_expired");
    assert_eq!(told(&auth, &good(), b""), "continue");
}

/// Signs by hand with a private key.
fn signed_by(pair: &KeyPair, alg: &str, more: &str, target: &str) -> Call {
    let parameters = format!(
        "(\"@method\" \"@authority\" \"@path\" \"@query\");created={NOW};keyid=\"{KEY}\";nonce=\"n\"{alg}{more}"
    );
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let base = format!(
        "\"@method\": GET\n\"@authority\": api.example.com\n\"@path\": {path}\n\"@query\": ?{query}\n\"@signature-params\": {parameters}"
    );
    let mut signature = pair.sign(base.as_bytes()).unwrap();
    if signature.len() != 64 {
        signature = raw(&signature);
    }
    let signature = STANDARD.encode(signature);
    Call::get(target)
        .header("signature-input", &format!("sig={parameters}"))
        .header("signature", &format!("sig=:{signature}:"))
}

/// r and s of a DER signature, 32 bytes each.
fn raw(der: &[u8]) -> Vec<u8> {
    let mut rest = &der[2..];
    let mut out = Vec::new();
    for _ in 0..2 {
        let len = rest[1] as usize;
        let number = &rest[2..2 + len];
        let number = &number[number.len().saturating_sub(32)..];
        out.extend(std::iter::repeat_n(0, 32 - number.len()));
        out.extend_from_slice(number);
        rest = &rest[2 + len..];
    }
    out
}

fn public(pem: &str) -> SignatureAuth {
    let mut auth = settings(SignatureScheme::Rfc9421);
    let key = AppKey::PublicKey(SecretSource::parse(pem));
    auth.apps.insert(
        KEY.to_owned(),
        App {
            key,
            tier: None,
            ips: None,
        },
    );
    auth
}

#[test]
fn rfc9421_verifies_public_keys_with_their_own_algorithm() {
    let ed = KeyPair::generate_for(&PKCS_ED25519).unwrap();
    let p256 = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
    for (pair, own, other) in [
        (&ed, "ed25519", "ecdsa-p256-sha256"),
        (&p256, "ecdsa-p256-sha256", "hmac-sha256"),
    ] {
        let auth = public(&pair.public_key_pem());
        let told =
            |alg: &str, more: &str| told(&made(&auth), &signed_by(pair, alg, more, "/x?a=1"), b"");
        assert_eq!(told("", ""), "continue");
        assert_eq!(told(&format!(";alg=\"{own}\""), ""), "continue");
        assert_eq!(told(&format!(";alg=\"{other}\""), ""), "sig_invalid");
        assert_eq!(told("", &format!(";expires={NOW}")), "continue");
        assert_eq!(told("", &format!(";expires={}", NOW - 1)), "sig_expired");
        let stranger = KeyPair::generate_for(&PKCS_ED25519).unwrap();
        let call = signed_by(&stranger, "", "", "/x");
        assert_eq!(self::told(&made(&auth), &call, b""), "sig_invalid");
    }
}

#[test]
fn only_ed25519_and_p256_are_public_keys_of_applications() {
    let p384 = KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).unwrap();
    let p256 = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
    for pem in [p384.public_key_pem(), p256.serialize_pem(), "x".to_owned()] {
        let built = build(&Auth::Signature(public(&pem)), &literal, &AuthFacts::new(0));
        assert_eq!(
            built.err().unwrap().to_string(),
            "auth.partner.apps.\"app-1001\".public_key is no PEM public key for Ed25519 or P-256"
        );
    }
}
