//! Tokens good and forged, each forgery beside the token it was made from.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use rcgen::{
    KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519, PKCS_RSA_SHA256,
    PublicKeyData, SignatureAlgorithm,
};
use serde_json::{Value, json};

use crate::auth::testing::{Call, NOW, reason};
use crate::auth::{AuthFacts, Authenticator, BuildError, build, install_crypto};
use crate::config::{Auth, JwtAuth, JwtKey, SHORT_SECRET, TokenSource};
use crate::filter::Verdict;
use crate::primitives::AuthName;
use crate::primitives::secret::{Secret, SecretSource};

const SECRET: &str = "0123456789abcdef0123456789abcdef";

/// Settings for HS256 with issuer and audience.
fn settings() -> JwtAuth {
    JwtAuth {
        name: AuthName::new("app"),
        algorithms: vec![Algorithm::HS256],
        key: JwtKey::Secret(SecretSource::parse(SECRET)),
        issuer: Some("https://login.example.com".to_owned()),
        audience: vec!["mini-program".to_owned(), "web".to_owned()],
        leeway: Duration::ZERO,
        from: vec![TokenSource::Header(http::header::AUTHORIZATION)],
        forward_claims: vec![("sub".to_owned(), "x-user-id".parse().unwrap())],
        tier_claim: None,
        max_token: 8192,
        cache: 100,
    }
}

/// Settings for one algorithm and a public key, without issuer and audience.
fn keyed(algorithm: Algorithm, key: JwtKey) -> JwtAuth {
    JwtAuth {
        algorithms: vec![algorithm],
        key,
        issuer: None,
        audience: Vec::new(),
        ..settings()
    }
}

fn literal(source: &SecretSource) -> Result<Secret, String> {
    match source {
        SecretSource::Literal(secret) => Ok(secret.clone()),
        other => Err(format!("cannot read {other}")),
    }
}

fn try_made(auth: &JwtAuth, facts: &AuthFacts) -> Result<Arc<dyn Authenticator>, BuildError> {
    install_crypto();
    build(&Auth::Jwt(auth.clone()), &literal, facts)
}

fn made(auth: &JwtAuth) -> Arc<dyn Authenticator> {
    try_made(auth, &AuthFacts::new(0)).unwrap()
}

fn claims() -> Value {
    json!({
        "sub": "alice",
        "iss": "https://login.example.com",
        "aud": "mini-program",
        "exp": NOW + 60,
    })
}

fn with(name: &str, value: Value) -> Value {
    let mut claims = claims();
    claims[name] = value;
    claims
}

fn without(name: &str) -> Value {
    let mut claims = claims();
    claims.as_object_mut().unwrap().remove(name);
    claims
}

fn hs256(claims: &Value) -> String {
    let key = EncodingKey::from_secret(SECRET.as_bytes());
    encode(&Header::default(), claims, &key).unwrap()
}

/// A token of any text, signed with HS256 whatever its header says.
fn signed_text(header: &str, payload: &str, secret: &[u8]) -> String {
    let message = format!(
        "{}.{}",
        URL_SAFE_NO_PAD.encode(header),
        URL_SAFE_NO_PAD.encode(payload)
    );
    let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, secret);
    let tag = aws_lc_rs::hmac::sign(&key, message.as_bytes());
    format!("{message}.{}", URL_SAFE_NO_PAD.encode(tag))
}

fn call(token: &str) -> Call {
    Call::get("/").header("authorization", &format!("Bearer {token}"))
}

fn told(auth: &Arc<dyn Authenticator>, token: &str) -> &'static str {
    reason(&auth.check(&mut call(token).context()))
}

#[test]
fn a_good_token_names_its_principal() {
    let auth = made(&settings());
    let call = call(&hs256(&claims()));
    for _ in 0..2 {
        let mut context = call.context();
        assert_eq!(reason(&auth.check(&mut context)), "continue");
        let principal = context.principal.unwrap();
        assert_eq!(&*principal.consumer, "alice");
        assert_eq!(principal.claim("aud"), Some(&json!("mini-program")));
        assert_eq!(principal.forward[0].1, "alice");
    }
}

#[test]
fn a_missing_token_is_asked_for_and_a_bad_one_explained_the_standard_way() {
    let auth = made(&settings());
    let refusal = |call: Call| match auth.check(&mut call.context()) {
        Verdict::Refuse(refusal) => refusal,
        other => panic!("{other:?}"),
    };
    let missing = refusal(Call::get("/"));
    assert_eq!(missing.challenge, Some("Bearer"));
    assert_eq!(missing.reason.code(), "token_missing");
    let basic = refusal(Call::get("/").header("authorization", "Basic eDp5"));
    assert_eq!(basic.reason.code(), "token_missing");
    let bad = refusal(call("a.b.c"));
    assert_eq!(bad.challenge, Some("Bearer error=\"invalid_token\""));
    assert_eq!(bad.reason.code(), "token_invalid");
    let late = refusal(call(&hs256(&with("exp", json!(NOW)))));
    assert_eq!(late.challenge, bad.challenge);
    assert_eq!(late.reason.code(), "token_expired");
}

#[test]
fn claims_must_hold() {
    let auth = made(&settings());
    for (claims, expected) in [
        (claims(), "continue"),
        (with("exp", json!(NOW + 1)), "continue"),
        (with("exp", json!(NOW as f64 + 1.5)), "continue"),
        (with("exp", json!(NOW)), "token_expired"),
        (with("exp", json!(0)), "token_expired"),
        (without("exp"), "token_invalid"),
        (with("exp", json!((NOW + 60).to_string())), "token_invalid"),
        (with("exp", json!(null)), "token_invalid"),
        (with("exp", json!(true)), "token_invalid"),
        (with("exp", json!(-1)), "token_invalid"),
        (with("exp", json!(1e39)), "token_invalid"),
        (with("exp", json!(u64::MAX)), "token_invalid"),
        (with("exp", json!([NOW + 60])), "token_invalid"),
        (with("nbf", json!(NOW)), "continue"),
        (with("nbf", json!(NOW + 1)), "token_not_yet_valid"),
        (with("nbf", json!("0")), "token_invalid"),
        (with("nbf", json!(null)), "token_invalid"),
        (without("iss"), "token_invalid"),
        (
            with("iss", json!("https://login.example.co")),
            "token_invalid",
        ),
        (
            with("iss", json!("https://login.example.com/")),
            "token_invalid",
        ),
        (with("iss", json!(7)), "token_invalid"),
        (
            with("iss", json!(["https://login.example.com"])),
            "token_invalid",
        ),
        (with("aud", json!("web")), "continue"),
        (with("aud", json!(["other", "web"])), "continue"),
        (without("aud"), "token_invalid"),
        (with("aud", json!("")), "token_invalid"),
        (with("aud", json!([])), "token_invalid"),
        (with("aud", json!(7)), "token_invalid"),
        (with("aud", json!("mini")), "token_invalid"),
        (with("aud", json!(["web", 7])), "token_invalid"),
    ] {
        assert_eq!(told(&auth, &hs256(&claims)), expected, "{claims}");
    }
}

#[test]
fn leeway_widens_both_ends() {
    let auth = made(&JwtAuth {
        leeway: Duration::from_secs(30),
        ..settings()
    });
    for (claims, expected) in [
        (with("exp", json!(NOW - 29)), "continue"),
        (with("exp", json!(NOW - 30)), "token_expired"),
        (with("nbf", json!(NOW + 30)), "continue"),
        (with("nbf", json!(NOW + 31)), "token_not_yet_valid"),
    ] {
        assert_eq!(told(&auth, &hs256(&claims)), expected, "{claims}");
    }
}

#[test]
fn headers_cannot_choose() {
    let auth = made(&settings());
    let payload = claims().to_string();
    let signed = |header: &str| signed_text(header, &payload, SECRET.as_bytes());
    let long = "k".repeat(257);
    for good in [
        r#"{"alg":"HS256"}"#,
        r#"{"alg":"HS256","typ":"at+jwt","kid":"../../x"}"#,
        r#"{"alg":"HS256","kid":"' OR 1=1 --\u0000\r\n","jku":"http://evil/","x5u":"http://evil/"}"#,
    ] {
        assert_eq!(told(&auth, &signed(good)), "continue", "{good}");
    }
    for bad in [
        r#"{"alg":"none"}"#.to_owned(),
        r#"{"alg":"None"}"#.to_owned(),
        r#"{"alg":"NONE"}"#.to_owned(),
        r#"{"alg":"nOnE"}"#.to_owned(),
        r#"{"alg":""}"#.to_owned(),
        r#"{"alg":null}"#.to_owned(),
        r#"{"alg":["HS256"]}"#.to_owned(),
        r#"{"alg":"hs256"}"#.to_owned(),
        r#"{"alg":"HS384"}"#.to_owned(),
        r#"{"alg":"HS1"}"#.to_owned(),
        r#"{"alg":"RS256"}"#.to_owned(),
        r#"{"typ":"JWT"}"#.to_owned(),
        r#"{"alg":"HS256","crit":[]}"#.to_owned(),
        r#"{"alg":"HS256","crit":null}"#.to_owned(),
        r#"{"alg":"HS256","crit":["exp"]}"#.to_owned(),
        r#"{"alg":"HS256","crit":["b64"],"b64":false}"#.to_owned(),
        r#"{"alg":"HS256","b64":true}"#.to_owned(),
        r#"{"alg":"HS256","alg":"HS256"}"#.to_owned(),
        r#"{"alg":"HS256","x":1,"x":2}"#.to_owned(),
        r#"{"alg":"HS256","kid":7.5}"#.to_owned(),
        format!(r#"{{"alg":"HS256","kid":"{long}"}}"#),
        r#"["HS256"]"#.to_owned(),
        "HS256".to_owned(),
        String::new(),
    ] {
        assert_eq!(told(&auth, &signed(&bad)), "token_invalid", "{bad}");
    }
}

#[test]
fn payloads_must_be_plain_objects() {
    let auth = made(&settings());
    let signed = |payload: &str| signed_text(r#"{"alg":"HS256"}"#, payload, SECRET.as_bytes());
    let exp = NOW + 60;
    let rest = r#""iss":"https://login.example.com","aud":"web""#;
    let good = format!(r#"{{"exp":{exp},{rest}}}"#);
    assert_eq!(told(&auth, &signed(&good)), "continue");
    for bad in [
        format!(r#"{{"exp":1,"exp":{exp},{rest}}}"#),
        format!(r#"{{"exp":{exp},"role":"user","role":"admin",{rest}}}"#),
        format!(r#"{{"exp":1e400,{rest}}}"#),
        format!(r#"{{"exp":1234567890123456789012345678901234567890,{rest}}}"#),
        format!("[{good}]"),
        format!("{good}x"),
        "\"text\"".to_owned(),
        "null".to_owned(),
        format!(r#"{{"exp":{exp},{rest},"x":{}}}"#, "[".repeat(2500)),
    ] {
        assert_eq!(told(&auth, &signed(&bad)), "token_invalid", "{bad}");
    }
}

#[test]
fn there_is_one_spelling_of_a_token() {
    let auth = made(&settings());
    let token = hs256(&claims());
    let parts: Vec<&str> = token.split('.').collect();
    let (head, body, tag) = (parts[0], parts[1], parts[2]);
    let last = tag.as_bytes()[tag.len() - 1];
    let twin = char::from(if last == b'Z' { b'Y' } else { last + 1 });
    let twin = format!("{head}.{body}.{}{twin}", &tag[..tag.len() - 1]);
    assert_eq!(told(&auth, &token), "continue");
    for bad in [
        format!("{head}.{body}"),
        format!("{head}.{body}."),
        format!(".{body}.{tag}"),
        format!("{head}..{tag}"),
        format!("{token}.{tag}"),
        format!("{head}.{body}.{tag}.{tag}.{tag}"),
        format!("{token}="),
        format!("{head}=.{body}.{tag}"),
        format!("{head}.{body}.{tag}A"),
        twin,
        STANDARD.encode(&token),
        format!("{token},{token}"),
        format!("{token} {token}"),
        format!("\"{token}\""),
        "..".to_owned(),
        format!(
            "{head}.{body}.{}",
            hs256(&without("sub")).rsplit('.').next().unwrap()
        ),
    ] {
        assert_eq!(told(&auth, &bad), "token_invalid", "{bad}");
    }
}

#[test]
fn two_authorization_fields_are_one_too_many() {
    let auth = made(&settings());
    let token = hs256(&claims());
    let twice = call(&token).header("authorization", &format!("Bearer {token}"));
    assert_eq!(reason(&auth.check(&mut twice.context())), "token_invalid");
    assert!(auth.presented(&twice.context().request));
}

#[test]
fn a_token_may_have_eight_kibibytes_and_not_one_more() {
    let auth = made(&JwtAuth {
        cache: 0,
        ..settings()
    });
    let sized = |pad: usize| {
        let mut payload = claims();
        payload["pad"] = json!("x".repeat(pad));
        hs256(&payload)
    };
    let pad = (0..8192).rev().find(|pad| sized(*pad).len() <= 8192);
    let pad = pad.unwrap();
    assert!(sized(pad).len() > 8192 - 3);
    assert_eq!(told(&auth, &sized(pad)), "continue");
    assert_eq!(told(&auth, &sized(pad + 2)), "token_invalid");
    assert_eq!(told(&auth, &"a".repeat(60_000)), "token_invalid");
}

#[test]
fn tokens_are_taken_only_from_where_they_may_be() {
    let token = hs256(&claims());
    let header_only = made(&settings());
    let anywhere = made(&JwtAuth {
        from: vec![
            TokenSource::Header("x-token".parse().unwrap()),
            TokenSource::Cookie("session".to_owned()),
            TokenSource::Query("access_token".to_owned()),
        ],
        ..settings()
    });
    for call in [
        Call::get(&format!("/?access_token={token}")),
        Call::get("/").header("cookie", &format!("a=b; session={token}")),
        Call::get("/").header("x-token", &token),
    ] {
        assert_eq!(
            reason(&header_only.check(&mut call.context())),
            "token_missing"
        );
        assert_eq!(reason(&anywhere.check(&mut call.context())), "continue");
    }
    assert_eq!(told(&anywhere, &token), "token_missing");
}

/// A key pair of each kind with the algorithm it signs.
fn pair(kind: &'static SignatureAlgorithm) -> KeyPair {
    KeyPair::generate_for(kind).unwrap()
}

fn sign_with(algorithm: Algorithm, pair: &KeyPair, kid: Option<&str>) -> String {
    let pem = pair.serialize_pem();
    let key = match algorithm {
        Algorithm::ES256 | Algorithm::ES384 => EncodingKey::from_ec_pem(pem.as_bytes()),
        Algorithm::EdDSA => EncodingKey::from_ed_pem(pem.as_bytes()),
        _ => EncodingKey::from_rsa_pem(pem.as_bytes()),
    };
    let mut header = Header::new(algorithm);
    header.kid = kid.map(str::to_owned);
    encode(&header, &claims(), &key.unwrap()).unwrap()
}

fn pem(text: &str) -> JwtKey {
    JwtKey::PublicKey(SecretSource::parse(text))
}

#[test]
fn public_keys_of_every_family_verify_their_own() {
    install_crypto();
    let rsa = pair(&PKCS_RSA_SHA256);
    let p256 = pair(&PKCS_ECDSA_P256_SHA256);
    let p384 = pair(&PKCS_ECDSA_P384_SHA384);
    let ed = pair(&PKCS_ED25519);
    for (algorithm, pair) in [
        (Algorithm::RS256, &rsa),
        (Algorithm::RS512, &rsa),
        (Algorithm::PS256, &rsa),
        (Algorithm::ES256, &p256),
        (Algorithm::ES384, &p384),
        (Algorithm::EdDSA, &ed),
    ] {
        let auth = made(&keyed(algorithm, pem(&pair.public_key_pem())));
        let token = sign_with(algorithm, pair, None);
        assert_eq!(told(&auth, &token), "continue", "{algorithm:?}");
        let (message, tag) = token.rsplit_once('.').unwrap();
        let len = URL_SAFE_NO_PAD.decode(tag).unwrap().len();
        for forged in [vec![0; len], vec![0xff; len], vec![0; 8], vec![0; len + 1]] {
            let token = format!("{message}.{}", URL_SAFE_NO_PAD.encode(forged));
            assert_eq!(told(&auth, &token), "token_invalid", "{algorithm:?}");
        }
    }
}

#[test]
fn a_public_key_never_serves_as_a_secret() {
    install_crypto();
    let rsa = pair(&PKCS_RSA_SHA256);
    let public = rsa.public_key_pem();
    let auth = made(&keyed(Algorithm::RS256, pem(&public)));
    let payload = claims().to_string();
    let der = rsa.der_bytes().to_vec();
    for secret in [public.as_bytes(), public.trim().as_bytes(), &der] {
        let token = signed_text(r#"{"alg":"HS256"}"#, &payload, secret);
        assert_eq!(told(&auth, &token), "token_invalid");
        let token = signed_text(r#"{"alg":"RS256"}"#, &payload, secret);
        assert_eq!(told(&auth, &token), "token_invalid");
    }
    let other = pair(&PKCS_RSA_SHA256);
    let stranger = sign_with(Algorithm::RS256, &other, None);
    assert_eq!(told(&auth, &stranger), "token_invalid");
    let family = sign_with(Algorithm::RS384, &rsa, None);
    assert_eq!(told(&auth, &family), "token_invalid", "not in the list");
}

#[test]
fn keys_that_cannot_serve_are_refused_when_built() {
    install_crypto();
    let facts = AuthFacts::new(0);
    let rsa = pair(&PKCS_RSA_SHA256);
    let p256 = pair(&PKCS_ECDSA_P256_SHA256);
    let told = |auth: &JwtAuth| match try_made(auth, &facts) {
        Ok(_) => "built".to_owned(),
        Err(error) => error.to_string(),
    };
    let short = JwtAuth {
        key: JwtKey::Secret(SecretSource::parse(&SECRET[1..])),
        ..settings()
    };
    assert_eq!(told(&short), format!("auth.app.secret {SHORT_SECRET}"));
    let unreadable = JwtAuth {
        key: JwtKey::Secret(SecretSource::parse("env:NOT_THERE")),
        ..settings()
    };
    assert_eq!(
        told(&unreadable),
        "auth.app.secret: cannot read env:NOT_THERE"
    );
    for (algorithm, text) in [
        (Algorithm::RS256, p256.public_key_pem()),
        (Algorithm::RS256, rsa.serialize_pem()),
        (Algorithm::ES256, rsa.public_key_pem()),
        (Algorithm::ES384, p256.public_key_pem()),
        (Algorithm::ES256, p256.serialize_pem()),
        (Algorithm::EdDSA, p256.public_key_pem()),
        (Algorithm::RS256, "-----BEGIN PUBLIC KEY-----".to_owned()),
    ] {
        let message = told(&keyed(algorithm, pem(&text)));
        let expected = format!("auth.app.public_key is no PEM public key for {algorithm:?}");
        assert_eq!(message, expected);
    }
    for text in [
        "{}",
        "[]",
        "{\"keys\":{}}",
        "{\"keys\":[]}",
        "{\"keys\":[7]}",
        "x",
    ] {
        let key = JwtKey::KeySet(SecretSource::parse(text));
        assert!(
            told(&keyed(Algorithm::RS256, key)).starts_with("auth.app.jwks: "),
            "{text}"
        );
    }
}

fn jwk(pair: &KeyPair, more: &Value) -> Value {
    let point = pair.der_bytes();
    let b64 = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    let mut jwk = match point.len() {
        65 => json!({"kty": "EC", "crv": "P-256", "x": b64(&point[1..33]), "y": b64(&point[33..])}),
        _ => json!({"kty": "OKP", "crv": "Ed25519", "x": b64(point)}),
    };
    let more = more.as_object().unwrap().clone();
    jwk.as_object_mut().unwrap().extend(more);
    jwk
}

fn es256_set(keys: &[Value]) -> JwtAuth {
    let text = json!({ "keys": keys }).to_string();
    keyed(Algorithm::ES256, JwtKey::KeySet(SecretSource::parse(&text)))
}

#[test]
fn kid_chooses_from_a_key_set_and_nothing_else_does() {
    install_crypto();
    let (a, b) = (pair(&PKCS_ECDSA_P256_SHA256), pair(&PKCS_ECDSA_P256_SHA256));
    let ed = pair(&PKCS_ED25519);
    let one = made(&es256_set(&[
        jwk(&a, &json!({"kid": "a"})),
        jwk(&ed, &json!({"kid": "e"})),
    ]));
    let two = made(&es256_set(&[
        jwk(&a, &json!({"kid": "a"})),
        jwk(&b, &json!({"kid": "b"})),
    ]));
    let none = json!({});
    let nameless = made(&es256_set(&[jwk(&a, &none)]));
    let mixed = made(&es256_set(&[jwk(&a, &json!({"kid": "a"})), jwk(&b, &none)]));
    let several = made(&es256_set(&[jwk(&a, &none), jwk(&b, &none)]));
    let numbered = made(&es256_set(&[
        jwk(&a, &json!({"kid": 7})),
        jwk(&b, &json!({"kid": 8})),
    ]));
    let token = |pair, kid| sign_with(Algorithm::ES256, pair, kid);
    for (auth, token, expected) in [
        (&one, token(&a, Some("a")), "continue"),
        (&one, token(&a, None), "continue"),
        (&one, token(&a, Some("x")), "token_invalid"),
        (&one, token(&a, Some("e")), "token_invalid"),
        (
            &one,
            sign_with(Algorithm::EdDSA, &ed, Some("e")),
            "token_invalid",
        ),
        (&two, token(&b, Some("b")), "continue"),
        (&two, token(&b, Some("a")), "token_invalid"),
        (&two, token(&a, None), "token_invalid"),
        (&nameless, token(&a, Some("x")), "continue"),
        (&nameless, token(&a, None), "continue"),
        (&nameless, token(&b, Some("x")), "token_invalid"),
        (&mixed, token(&b, Some("x")), "continue"),
        (&mixed, token(&b, Some("a")), "token_invalid"),
        (&mixed, token(&a, Some("a")), "continue"),
        (&mixed, token(&b, None), "token_invalid"),
        (&several, token(&a, Some("x")), "token_invalid"),
        (&numbered, token(&a, Some("7")), "continue"),
    ] {
        assert_eq!(told(auth, &token), expected, "{token}");
    }
}

#[test]
fn keys_of_a_set_not_meant_for_verifying_are_skipped() {
    install_crypto();
    let (good, bad) = (pair(&PKCS_ECDSA_P256_SHA256), pair(&PKCS_ECDSA_P256_SHA256));
    let token = sign_with(Algorithm::ES256, &bad, Some("bad"));
    for (more, expected) in [
        (json!({}), "continue"),
        (json!({"use": "sig"}), "continue"),
        (json!({"key_ops": ["verify"]}), "continue"),
        (json!({"alg": "ES256"}), "continue"),
        (json!({"use": "enc"}), "token_invalid"),
        (json!({"key_ops": ["sign"]}), "token_invalid"),
        (json!({"key_ops": []}), "token_invalid"),
        (json!({"alg": "ES384"}), "token_invalid"),
        (json!({"alg": "none"}), "token_invalid"),
        (json!({"kty": "RSA"}), "token_invalid"),
        (json!({"y": "AAAA"}), "token_invalid"),
    ] {
        let mut key = jwk(&bad, &json!({"kid": "bad"}));
        let object = key.as_object_mut().unwrap();
        object.extend(more.as_object().unwrap().clone());
        let auth = made(&es256_set(&[jwk(&good, &json!({"kid": "good"})), key]));
        assert_eq!(told(&auth, &token), expected, "{more}");
    }
}

#[test]
fn an_audience_is_looked_at_only_where_one_is_configured() {
    let auth = made(&JwtAuth {
        audience: Vec::new(),
        issuer: None,
        ..settings()
    });
    assert_eq!(
        told(&auth, &hs256(&with("aud", json!("anyone")))),
        "continue"
    );
    assert_eq!(told(&auth, &hs256(&without("aud"))), "continue");
}

#[test]
fn the_cache_never_outlives_the_token() {
    for leeway in [0, 10] {
        let auth = made(&JwtAuth {
            leeway: Duration::from_secs(leeway),
            ..settings()
        });
        let call = call(&hs256(&with("nbf", json!(NOW))));
        let at = |unix| reason(&auth.check(&mut call.clone().at(unix).context()));
        assert_eq!(at(NOW), "continue");
        assert_eq!(at(NOW + 59 + leeway), "continue");
        assert_eq!(at(NOW + 60 + leeway), "token_expired");
        assert_eq!(at(NOW - 1 - leeway), "token_not_yet_valid");
        assert_eq!(at(NOW), "continue");
    }
}

#[test]
fn the_cache_is_emptied_when_the_key_changes() {
    let facts = AuthFacts::new(0);
    let old = try_made(&settings(), &facts).unwrap();
    let token = hs256(&claims());
    assert_eq!(told(&old, &token), "continue");
    let rotated = JwtAuth {
        key: JwtKey::Secret(SecretSource::parse(&SECRET.to_uppercase())),
        ..settings()
    };
    let new = try_made(&rotated, &facts).unwrap();
    assert_eq!(told(&new, &token), "token_invalid");
    let stricter = JwtAuth {
        audience: vec!["web".to_owned()],
        ..settings()
    };
    let strict = try_made(&stricter, &facts).unwrap();
    assert_eq!(told(&strict, &token), "token_invalid");
}

#[test]
fn a_dry_run_remembers_nothing_and_says_the_same() {
    let facts = AuthFacts::new(0);
    let auth = try_made(&settings(), &facts).unwrap();
    let cache = facts.tokens(
        &AuthName::new("app"),
        super::fingerprint(&settings(), SECRET.as_bytes()),
        100,
    );
    let token = hs256(&claims());
    let dry = call(&token).dry();
    assert_eq!(reason(&auth.check(&mut dry.context())), "continue");
    assert!(cache.find(token.as_bytes()).is_none());
    assert_eq!(told(&auth, &token), "continue");
    assert!(cache.find(token.as_bytes()).is_some());
}

/// What a set says of keys that it does not use, or why it is none.
fn unused(keys: &[Value]) -> Result<Vec<String>, String> {
    let made = try_made(&es256_set(keys), &AuthFacts::new(0));
    let auth = made.map_err(|error| error.to_string())?;
    Ok(auth
        .warnings()
        .iter()
        .map(|said| said.text.clone())
        .collect())
}

#[test]
fn a_key_is_taken_however_its_numbers_are_written() {
    install_crypto();
    use base64::engine::general_purpose::{STANDARD, URL_SAFE};
    // A coordinate that begins with a zero octet, and one that Base64's alphabets write differently.
    let short = std::iter::repeat_with(|| pair(&PKCS_ECDSA_P256_SHA256))
        .find(|pair| pair.der_bytes()[1] == 0)
        .expect("one of 256");
    let bytes = short.der_bytes();
    let (x, y) = (&bytes[1..33], &bytes[33..]);
    let mut padded = vec![0, 0];
    padded.extend_from_slice(y);
    for (x, y) in [
        (URL_SAFE.encode(x), URL_SAFE.encode(y)),
        (STANDARD.encode(x), STANDARD.encode(y)),
        (URL_SAFE_NO_PAD.encode(&x[1..]), URL_SAFE_NO_PAD.encode(y)),
        (URL_SAFE_NO_PAD.encode(x), STANDARD.encode(&padded)),
    ] {
        let key = jwk(&short, &json!({ "x": x, "y": y, "kid": "k", "use": null }));
        let auth = made(&es256_set(&[key]));
        let token = sign_with(Algorithm::ES256, &short, Some("k"));
        assert_eq!(told(&auth, &token), "continue", "{x} {y}");
    }
}

#[test]
fn every_key_that_is_not_used_is_named_with_its_reason() {
    install_crypto();
    let good = pair(&PKCS_ECDSA_P256_SHA256);
    let ed = pair(&PKCS_ED25519);
    let key = |more: Value| jwk(&good, &more);
    for (bad, said) in [
        (json!("text"), "key 2 is not used: it is no object"),
        (
            key(json!({"kid": "b", "use": "enc"})),
            "key 2 (kid \"b\") is not used: its `use` is encryption",
        ),
        (
            key(json!({"kid": 7.5})),
            "its `kid` is neither a text nor a whole number",
        ),
        (
            key(json!({"kid": ["a"]})),
            "its `kid` is neither a text nor a whole number",
        ),
        (
            key(json!({"key_ops": ["sign"]})),
            "its `key_ops` lack \"verify\"",
        ),
        (
            key(json!({"alg": "ES384"})),
            "its `alg` is none of `algorithms`",
        ),
        (
            key(json!({"alg": "none"})),
            "its `alg` is none of `algorithms`",
        ),
        (key(json!({"crv": "P-521"})), "its `crv` is not supported"),
        (key(json!({"kty": "AKP"})), "its `kty` is not supported"),
        (key(json!({"kty": "RSA"})), "it lacks a number of its `kty`"),
        (
            key(json!({"y": "AAAA"})),
            "it is malformed, or too short to be safe",
        ),
        (key(json!({"y": "no base64!"})), "is not Base64"),
        (
            jwk(&ed, &json!({"kid": 3})),
            "key 2 (kid 3) is not used: it serves none of `algorithms`",
        ),
    ] {
        let all = unused(&[key(json!({"kid": "good"})), bad.clone()]).expect("a set");
        assert!(all.len() == 1 && all[0].contains(said), "{bad}: {all:?}");
        let alone = unused(std::slice::from_ref(&bad)).expect_err("no key");
        assert!(alone.contains("holds no key for the algorithms"), "{alone}");
        assert!(alone.contains("key 1"), "{alone}");
    }
    assert_eq!(unused(&[key(json!({"kid": "good"}))]), Ok(Vec::new()));
}

#[test]
fn two_keys_that_one_kid_could_mean_are_an_error() {
    install_crypto();
    let (a, b) = (pair(&PKCS_ECDSA_P256_SHA256), pair(&PKCS_ECDSA_P256_SHA256));
    let told = unused(&[jwk(&a, &json!({"kid": "k"})), jwk(&b, &json!({"kid": "k"}))]);
    assert!(told.expect_err("two").contains("have the kid \"k\""));
    let told = unused(&[jwk(&a, &json!({"kid": 7})), jwk(&b, &json!({"kid": "7"}))]);
    assert!(told.is_err(), "a number is its digits");
    // Keys of other families, and such as encrypt, may be called alike (RFC 7517 section 4.5).
    let ed = pair(&PKCS_ED25519);
    let others = [
        jwk(&a, &json!({"kid": "k"})),
        jwk(&ed, &json!({"kid": "k"})),
        jwk(&b, &json!({"kid": "k", "use": "enc"})),
    ];
    assert_eq!(unused(&others).expect("one").len(), 2);
}
