//! HTTP Message Signatures in the gateway's profile.

use super::{SECRET, changed, get, post, rfc9421, signed, without};
use crate::harness::{Keys, Origin, Signed, unix_now};

fn sign(method: &str, target: &str) -> Signed {
    Signed::rfc9421("app-1001", SECRET, method, "gateway.test", target)
}

#[test]
fn admits_a_signed_request_and_says_whose_it_is() {
    let origin = Origin::start();
    let gateway = rfc9421(&origin);
    let seen = get(
        &gateway.client(),
        "/v1?a=1&b=x%20y",
        &sign("GET", "/v1?a=1&b=x%20y").headers(),
    )
    .seen();
    assert_eq!(seen.target, "/v1?a=1&b=x%20y");
    assert_eq!(seen.values("x-consumer"), ["app-1001"]);
    get(&gateway.client(), "/v1", &sign("GET", "/v1").headers()).expect(200);
}

#[test]
fn a_request_without_a_signature_is_asked_for_one() {
    let origin = Origin::start();
    let gateway = rfc9421(&origin);
    let refused = gateway
        .client()
        .get("/x")
        .send()
        .refused(401, "sig_missing");
    assert!(refused.header("www-authenticate").is_some(), "{refused:?}");
    let headers = sign("GET", "/x").headers();
    for name in ["Signature", "Signature-Input"] {
        let response = get(&gateway.client(), "/x", &without(&headers, name));
        assert_eq!(response.status, 401, "without {name}: {response:?}");
    }
}

#[test]
fn a_signature_covers_method_authority_path_and_query() {
    let origin = Origin::start();
    let gateway = rfc9421(&origin);
    let client = gateway.client();
    for (field, value) in [
        ("method", "POST"),
        ("authority", "other.test"),
        ("signed_target", "/y?a=1"),
        ("signed_target", "/x?a=2"),
        ("signed_target", "/x"),
    ] {
        get(
            &client,
            "/x?a=1",
            &sign("GET", "/x?a=1").but(field, value).headers(),
        )
        .refused(401, "sig_invalid");
    }
    let headers = sign("GET", "/x?a=1").headers();
    let input = headers
        .iter()
        .find(|(n, _)| n == "Signature-Input")
        .unwrap()
        .1
        .clone();
    let later = input.replace("created=", "created=1");
    for (name, value) in [
        ("Signature-Input", later.as_str()),
        ("Signature-Input", "sig1=nonsense"),
        ("Signature-Input", ""),
        ("Signature", "sig1=:AAAA:"),
        ("Signature", "sig2=:AAAA:"),
        ("Signature", "nonsense"),
    ] {
        let response = get(&client, "/x?a=1", &changed(&headers, name, value));
        assert_eq!(response.status, 401, "{name}: {value} {response:?}");
    }
    assert_eq!(origin.count(), 0);
    get(&client, "/x?a=1", &headers).expect(200);
}

#[test]
fn the_profile_names_what_must_be_covered() {
    let origin = Origin::start();
    let gateway = rfc9421(&origin);
    let all = ["@method", "@authority", "@path", "@query"];
    for left_out in all {
        let covered: Vec<&str> = all.into_iter().filter(|c| *c != left_out).collect();
        let response = get(
            &gateway.client(),
            "/x",
            &sign("GET", "/x").but("covered", covered).headers(),
        );
        assert_eq!(response.status, 401, "without {left_out}: {response:?}");
    }
    let twice = vec!["@method", "@authority", "@path", "@query", "@method"];
    let response = get(
        &gateway.client(),
        "/x",
        &sign("GET", "/x").but("covered", twice).headers(),
    );
    assert_eq!(response.status, 401, "{response:?}");
    let response = get(
        &gateway.client(),
        "/x",
        &sign("GET", "/x").but("nonce", "").headers(),
    );
    assert_eq!(response.status, 401, "without a nonce: {response:?}");
}

#[test]
fn the_algorithm_is_fixed_by_the_key() {
    let origin = Origin::start();
    let gateway = rfc9421(&origin);
    for alg in ["hmac-sha512", "ed25519", "rsa-pss-sha512", "none"] {
        get(
            &gateway.client(),
            "/x",
            &sign("GET", "/x").but("alg", alg).headers(),
        )
        .refused(401, "sig_invalid");
    }
}

#[test]
fn created_and_expires_bound_the_time() {
    let origin = Origin::start();
    let gateway = rfc9421(&origin);
    let now = unix_now();
    for (created, code) in [(now + 400, "sig_expired"), (now - 400, "sig_expired")] {
        get(
            &gateway.client(),
            "/x",
            &sign("GET", "/x").but("created", created).headers(),
        )
        .refused(401, code);
    }
    let past = sign("GET", "/x")
        .but("created", now)
        .but("expires", now - 1)
        .headers();
    get(&gateway.client(), "/x", &past).refused(401, "sig_expired");
    let ahead = sign("GET", "/x").but("expires", now + 60).headers();
    get(&gateway.client(), "/x", &ahead).expect(200);
}

#[test]
fn unknown_applications_and_wrong_secrets_sound_alike() {
    let origin = Origin::start();
    let gateway = rfc9421(&origin);
    let by = |key: &str, secret: &str| {
        get(
            &gateway.client(),
            "/x",
            &Signed::rfc9421(key, secret, "GET", "gateway.test", "/x").headers(),
        )
        .refused(401, "sig_invalid")
        .json()
    };
    assert_eq!(
        by("app-9999", SECRET)["detail"],
        by("app-1001", "wrong")["detail"]
    );
}

#[test]
fn an_application_may_sign_with_a_key_pair() {
    for kind in ["ed25519", "ec"] {
        let (keys, others) = (Keys::new(kind), Keys::new(kind));
        let origin = Origin::start();
        let apps = "\"app-1001\" = { public_key = \"file:{dir}/app.pem\" }";
        let gateway = signed("rfc9421", "", apps, "")
            .to(&origin)
            .file("app.pem", &keys.public)
            .start();
        let body = "{\"n\":1}";
        let by = |keys: &Keys| {
            sign("POST", "/x")
                .body(body)
                .but("private", keys.private.as_str())
                .headers()
        };
        post(&gateway.client(), "/x", &by(&keys), body).expect(200);
        post(&gateway.client(), "/x", &by(&others), body).refused(401, "sig_invalid");
        // The public key is no shared secret.
        let forged = Signed::rfc9421("app-1001", &keys.public, "POST", "gateway.test", "/x")
            .body(body)
            .headers();
        post(&gateway.client(), "/x", &forged, body).refused(401, "sig_invalid");
        assert_eq!(origin.count(), 1);
    }
}

#[test]
fn what_stands_raw_is_signed_as_it_came() {
    let origin = Origin::start();
    let gateway = rfc9421(&origin);
    let client = gateway.client();
    let (raw, escaped) = ("/a[1]?q={x}|y", "/a%5B1%5D?q=%7Bx%7D%7Cy");
    for sent in [raw, escaped] {
        let seen = get(&client, sent, &sign("GET", sent).headers()).seen();
        assert_eq!(seen.target, escaped);
    }
    for (sent, other) in [(raw, escaped), (escaped, raw)] {
        let signed = sign("GET", sent).but("signed_target", other);
        get(&client, sent, &signed.headers()).refused(401, "sig_invalid");
    }
}
