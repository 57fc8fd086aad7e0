//! The `ca` scheme in its strict profile.

use super::{SECRET, ca, changed, get, post, signed, signed_text, without};
use crate::harness::{Gateway, Origin, Signed, unix_millis};

fn sign(method: &str, target: &str) -> Signed {
    Signed::ca("app-1001", SECRET, method, target)
}

#[test]
fn admits_a_signed_request_and_says_whose_it_is() {
    let origin = Origin::start();
    let gateway = ca(&origin);
    let seen = get(
        &gateway.client(),
        "/v1/orders?b=x%20y&a=1&flag",
        &sign("GET", "/v1/orders?b=x%20y&a=1&flag").headers(),
    )
    .seen();
    assert_eq!(seen.target, "/v1/orders?b=x%20y&a=1&flag");
    assert_eq!(seen.values("x-consumer"), ["app-1001"]);
}

#[test]
fn a_request_without_a_signature_is_asked_for_one() {
    let origin = Origin::start();
    let gateway = ca(&origin);
    let refused = gateway
        .client()
        .get("/x")
        .send()
        .refused(401, "sig_missing");
    assert!(refused.header("www-authenticate").is_some(), "{refused:?}");
    let headers = sign("GET", "/x").headers();
    for name in ["X-Ca-Key", "X-Ca-Timestamp", "X-Ca-Nonce", "X-Ca-Signature"] {
        let response = get(&gateway.client(), "/x", &without(&headers, name));
        assert_eq!(response.status, 401, "without {name}: {response:?}");
    }
    assert_eq!(origin.count(), 0);
    get(&gateway.client(), "/x", &headers).expect(200);
}

#[test]
fn both_spellings_of_header_names_are_verified() {
    let origin = Origin::start();
    let gateway = ca(&origin);
    get(&gateway.client(), "/x", &sign("GET", "/x").headers()).expect(200);
    get(
        &gateway.client(),
        "/x",
        &sign("GET", "/x").but("mixed_case", true).headers(),
    )
    .expect(200);
}

#[test]
fn a_signature_covers_method_path_query_and_listed_headers() {
    let origin = Origin::start();
    let gateway = ca(&origin);
    let client = gateway.client();
    for (field, value) in [
        ("signed_method", "POST"),
        ("signed_target", "/y"),
        ("signed_target", "/x?a=1"),
        ("signed_target", "/x/"),
    ] {
        get(
            &client,
            "/x",
            &sign("GET", "/x").but(field, value).headers(),
        )
        .refused(401, "sig_invalid");
    }
    let headers = sign("GET", "/x").headers();
    for (name, value) in [
        ("X-Ca-Nonce", "another-nonce".to_owned()),
        ("X-Ca-Timestamp", (unix_millis() + 1000).to_string()),
        ("Accept", "text/html".to_owned()),
        (
            "X-Ca-Signature",
            "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=".to_owned(),
        ),
        ("X-Ca-Signature", "no base64!".to_owned()),
    ] {
        get(&client, "/x", &changed(&headers, name, &value)).refused(401, "sig_invalid");
    }
    assert_eq!(origin.count(), 0);
    // None of those spent the nonce.
    get(&client, "/x", &headers).expect(200);
}

#[test]
fn the_strict_profile_wants_key_stamp_and_nonce_covered() {
    let origin = Origin::start();
    let gateway = ca(&origin);
    for listed in [
        vec!["X-Ca-Timestamp", "X-Ca-Nonce"],
        vec!["X-Ca-Key", "X-Ca-Nonce"],
        vec!["X-Ca-Key", "X-Ca-Timestamp"],
        vec![],
    ] {
        let response = get(
            &gateway.client(),
            "/x",
            &sign("GET", "/x").but("signed", listed.clone()).headers(),
        );
        assert_eq!(response.status, 401, "{listed:?}: {response:?}");
    }
}

#[test]
fn only_hmac_sha256_will_do() {
    let origin = Origin::start();
    let gateway = ca(&origin);
    let headers = sign("GET", "/x").headers();
    for method in ["HmacSHA1", "none", "MD5"] {
        get(
            &gateway.client(),
            "/x",
            &changed(&headers, "X-Ca-Signature-Method", method),
        )
        .refused(401, "sig_invalid");
    }
    get(
        &gateway.client(),
        "/x",
        &without(&headers, "X-Ca-Signature-Method"),
    )
    .expect(200);
}

#[test]
fn an_unknown_application_sounds_like_a_wrong_signature() {
    let origin = Origin::start();
    let gateway = ca(&origin);
    let stranger = get(
        &gateway.client(),
        "/x",
        &Signed::ca("app-9999", SECRET, "GET", "/x").headers(),
    )
    .refused(401, "sig_invalid");
    let liar = get(
        &gateway.client(),
        "/x",
        &Signed::ca("app-1001", "wrong", "GET", "/x").headers(),
    )
    .refused(401, "sig_invalid");
    assert_eq!(stranger.json()["detail"], liar.json()["detail"]);
}

#[test]
fn two_secrets_are_active_during_a_rotation() {
    let origin = Origin::start();
    let apps = |app: &str| format!("\"app-1001\" = {{ {app} }}");
    let gateway = signed(
        "ca",
        "",
        &apps("secret = \"new\", previous_secret = \"old\""),
        "",
    )
    .to(&origin)
    .start();
    let by = |secret: &str| {
        get(
            &gateway.client(),
            "/x",
            &Signed::ca("app-1001", secret, "GET", "/x").headers(),
        )
    };
    by("new").expect(200);
    by("old").expect(200);
    by("older").refused(401, "sig_invalid");
    let text = std::fs::read_to_string(gateway.config()).unwrap();
    gateway.rewrite(&text.replace(", previous_secret = \"old\"", ""));
    gateway.reload_ok();
    by("new").expect(200);
    by("old").refused(401, "sig_invalid");
}

#[test]
fn a_known_application_may_be_bound_to_addresses() {
    let origin = Origin::start();
    let apps = format!("\"app-1001\" = {{ secret = \"{SECRET}\", ips = [\"127.0.0.2/32\"] }}");
    let gateway = signed("ca", "", &apps, "").to(&origin).start();
    get(
        &gateway.client().from(2),
        "/x",
        &sign("GET", "/x").headers(),
    )
    .expect(200);
    get(
        &gateway.client().from(3),
        "/x",
        &sign("GET", "/x").headers(),
    )
    .refused(403, "app_denied");
    // Whoever cannot sign does not learn that.
    let wrong = Signed::ca("app-1001", "wrong", "GET", "/x").headers();
    get(&gateway.client().from(3), "/x", &wrong).refused(401, "sig_invalid");
    assert_eq!(origin.count(), 1);
}

#[test]
fn a_stamp_holds_within_the_skew_on_both_sides() {
    let origin = Origin::start();
    let gateway = signed(
        "ca",
        "skew = \"60s\"",
        &format!("\"app-1001\" = {{ secret = \"{SECRET}\" }}"),
        "",
    )
    .to(&origin)
    .start();
    let at = |offset: i64| {
        get(
            &gateway.client(),
            "/x",
            &sign("GET", "/x")
                .but("timestamp", unix_millis() + offset)
                .headers(),
        )
    };
    // Older stamps than the start of the gateway are another test's business.
    at(0).expect(200);
    at(50_000).expect(200);
    at(65_000).refused(401, "sig_expired");
    at(-65_000).refused(401, "sig_expired");
    at(-400_000_000).refused(401, "sig_expired");
}

#[test]
fn a_stamp_is_a_number_of_milliseconds() {
    let origin = Origin::start();
    let gateway = ca(&origin);
    for stamp in [
        "",
        "soon",
        "-1",
        "99999999999999999999999999",
        "1e12",
        "0x19",
        " 1",
        &(unix_millis() / 1000).to_string(),
    ] {
        let response = get(
            &gateway.client(),
            "/x",
            &sign("GET", "/x").but("timestamp", stamp).headers(),
        );
        assert_eq!(response.status, 401, "{stamp:?}: {response:?}");
    }
    assert_eq!(origin.count(), 0);
}

#[test]
fn a_nonce_has_a_bounded_form() {
    let origin = Origin::start();
    let gateway = ca(&origin);
    get(
        &gateway.client(),
        "/x",
        &sign("GET", "/x").but("nonce", "n".repeat(64)).headers(),
    )
    .expect(200);
    for nonce in ["n".repeat(65), String::new(), "with space".to_owned()] {
        let response = get(
            &gateway.client(),
            "/x",
            &sign("GET", "/x").but("nonce", nonce.as_str()).headers(),
        );
        assert_eq!(response.status, 401, "{nonce:?}: {response:?}");
    }
}

#[test]
fn form_parameters_are_signed_with_the_query() {
    let origin = Origin::start();
    let gateway = ca(&origin);
    let form = "room_id=6893&nickname=nick+name&uuid=%E4%BD%A0";
    let signed = || {
        sign("POST", "/token?z=1")
            .body(form)
            .but("type", "application/x-www-form-urlencoded")
    };
    let seen = post(&gateway.client(), "/token?z=1", &signed().headers(), form).seen();
    assert_eq!(seen.body, form.as_bytes());
    let other = form.replace("6893", "6894");
    post(&gateway.client(), "/token?z=1", &signed().headers(), &other).refused(401, "sig_invalid");
    assert_eq!(origin.count(), 1);
}

#[test]
fn strict_parameters_let_no_second_value_slip_in() {
    let origin = Origin::start();
    let app = format!("\"app-1001\" = {{ secret = \"{SECRET}\" }}");
    let gateway = signed("ca", "strict_params = true", &app, "")
        .to(&origin)
        .start();
    let client = gateway.client();
    // The scheme signs the first value of a repeated key only.
    let response = get(&client, "/x?a=1&a=2", &sign("GET", "/x?a=1").headers());
    assert!(
        response.status == 400 || response.status == 401,
        "{response:?}"
    );
    let kind = "application/x-www-form-urlencoded";
    let form = || {
        sign("POST", "/x?a=1")
            .body("a=1")
            .but("type", kind)
            .but("signed_body", "b=2")
    };
    let response = post(&client, "/x?a=1", &form().headers(), "b=2&b=3");
    assert!(
        response.status == 400 || response.status == 401,
        "{response:?}"
    );
    assert_eq!(origin.count(), 0);
}

#[test]
fn a_request_signed_in_both_schemes_is_refused() {
    let origin = Origin::start();
    let gateway = ca(&origin);
    let mut headers = sign("GET", "/x").headers();
    headers.extend(Signed::rfc9421("app-1001", SECRET, "GET", "gateway.test", "/x").headers());
    get(&gateway.client(), "/x", &headers).refused(400, "sig_conflict");
}

#[test]
fn what_was_signed_is_what_came_not_what_goes_on() {
    let origin = Origin::start();
    let apps = format!("\"app-1001\" = {{ secret = \"{SECRET}\" }}");
    let text = signed_text("ca", "", &apps, "strip_prefix = 1").replace("\"/**\"", "\"/api/**\"");
    let gateway = Gateway::with(&text).to(&origin).start();
    let seen = get(
        &gateway.client(),
        "/api/./a%2Db",
        &sign("GET", "/api/./a%2Db").headers(),
    )
    .seen();
    assert_eq!(seen.target, "/a-b");
    get(
        &gateway.client(),
        "/api/./a%2Db",
        &sign("GET", "/a-b").headers(),
    )
    .refused(401, "sig_invalid");
}

#[test]
fn what_stands_raw_is_signed_as_it_came() {
    let origin = Origin::start();
    let gateway = ca(&origin);
    let client = gateway.client();
    let (raw, escaped) = ("/a[1]?q={x}|y", "/a%5B1%5D?q=%7Bx%7D%7Cy");
    for sent in [raw, escaped] {
        let seen = get(&client, sent, &sign("GET", sent).headers()).seen();
        assert_eq!(seen.target, escaped);
    }
    let signed = sign("GET", raw).but("signed_target", "/a[2]?q={x}|y");
    get(&client, raw, &signed.headers()).refused(401, "sig_invalid");
}
