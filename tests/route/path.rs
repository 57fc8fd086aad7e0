//! One normal form of a path: for matching, for permission and for the upstream.

use crate::harness::{Gateway, Origin};

const EVERYTHING: &str = r#"
[upstream.api]
endpoints = [{ address = "{origin}" }]
[[route]]
id = "all"
path = "/**"
upstream = "api"
"#;

/// `(target as sent, target as it reaches the origin)`
const NORMALISED: [(&str, &str); 26] = [
    ("/", "/"),
    ("/a", "/a"),
    ("/a/", "/a/"),
    ("/a/b?x=1", "/a/b?x=1"),
    ("/a/./b", "/a/b"),
    ("/a/.", "/a/"),
    ("/a/b/..", "/a/"),
    ("/a/../b", "/b"),
    ("/a/b/../../c", "/c"),
    ("//a", "/a"),
    ("/a//b///c", "/a/b/c"),
    ("/a//", "/a/"),
    ("/%61", "/a"),
    ("/%7Eme", "/~me"),
    ("/a%2Db", "/a-b"),
    ("/a%2eb", "/a.b"),
    ("/a/%2e/b", "/a/b"),
    ("/a/%2E%2e/b", "/b"),
    ("/a%20b", "/a%20b"),
    ("/a;v=1/b", "/a;v=1/b"),
    ("/a.../b", "/a.../b"),
    ("/.well-known/x", "/.well-known/x"),
    ("/a:b@c!$&'()*+,=", "/a:b@c!$&'()*+,="),
    ("/%E4%BD%A0", "/%E4%BD%A0"),
    // The query is none of our business.
    ("/a?next=//b/../c%2f%zz&&=", "/a?next=//b/../c%2f%zz&&="),
    ("/a?", "/a?"),
];

/// What has more than one meaning, depending on who reads it.
const AMBIGUOUS: [&str; 22] = [
    "/..",
    "/../a",
    "/a/../../b",
    "/%2e%2e/a",
    "/a/..;/b",
    "/a/..;x=1/b",
    "/a/.;/b",
    "/a/%2e%2e;v/b",
    "/a%2fb",
    "/a%2Fb",
    "/a%5cb",
    "/a%5C..%5Cb",
    "/a\\b",
    "/a%00",
    "/a%0d%0ab",
    "/a%1f",
    "/a%7f",
    "/a%",
    "/a%2",
    "/a%zz",
    "/a%252fb",
    "/a%c0%ae/b",
];

#[test]
fn the_origin_receives_the_normalised_form() {
    let origin = Origin::start();
    let gateway = Gateway::with(EVERYTHING).to(&origin).start();
    let mut connection = gateway.client().connect();
    for (sent, forwarded) in NORMALISED {
        assert_eq!(
            connection.get(sent).send().seen().target,
            forwarded,
            "{sent}"
        );
    }
}

#[test]
fn a_normal_form_is_its_own_normal_form() {
    let origin = Origin::start();
    let gateway = Gateway::with(EVERYTHING).to(&origin).start();
    let mut connection = gateway.client().connect();
    for (_, normal) in NORMALISED {
        assert_eq!(connection.get(normal).send().seen().target, normal);
    }
}

#[test]
fn an_ambiguous_path_is_refused_and_never_forwarded() {
    let origin = Origin::start();
    let gateway = Gateway::with(EVERYTHING).to(&origin).start();
    for target in AMBIGUOUS {
        let response = gateway.client().get(target).send();
        assert_eq!(
            (response.status, response.code().as_deref()),
            (400, Some("path_ambiguous")),
            "{target}: {response:?}"
        );
    }
    assert_eq!(origin.count(), 0);
}

#[test]
fn a_guarded_path_has_no_unguarded_spelling() {
    let origin = Origin::start();
    let gateway = Gateway::with(
        r#"
        [auth.app]
        type = "jwt"
        algorithms = ["HS256"]
        secret = "0123456789abcdef0123456789abcdef"
        [upstream.api]
        endpoints = [{ address = "{origin}" }]
        [[route]]
        id = "open"
        path = "/**"
        upstream = "api"
        [[route]]
        id = "guarded"
        path = "/admin/**"
        auth = ["app"]
        upstream = "api"
        "#,
    )
    .to(&origin)
    .start();
    for spelling in [
        "/admin",
        "/admin/",
        "/admin/x",
        "//admin/x",
        "/./admin",
        "/open/../admin",
        "/%61dmin",
        "/adm%69n/x",
        "/admin//x",
        "/open/%2e%2e/admin/",
        "/admin/.",
        "/admin/./x",
        "/x/..//admin",
    ] {
        gateway
            .client()
            .get(spelling)
            .send()
            .refused(401, "token_missing");
    }
    assert_eq!(origin.count(), 0);
    gateway.client().get("/administrator").send().expect(200);
}

#[test]
fn routes_match_the_normal_form() {
    let origin = Origin::start();
    let gateway = Gateway::with(
        r#"
        [upstream.api]
        endpoints = [{ address = "{origin}" }]
        [[route]]
        path = "/users/{id}"
        upstream = "api"
        rewrite = "/u/{id}"
        "#,
    )
    .to(&origin)
    .start();
    let target = |sent: &str| gateway.client().get(sent).send().seen().target;
    assert_eq!(target("/users/./7"), "/u/7");
    assert_eq!(target("/x/../users//%37"), "/u/7");
    assert_eq!(target("/users/a%20b"), "/u/a%20b");
}

#[test]
fn absolute_form_counts_as_its_path_when_the_host_agrees() {
    let origin = Origin::start();
    let gateway = Gateway::with(EVERYTHING).to(&origin).start();
    let client = gateway.client();
    let seen = client.get("http://gateway.test/a/../b?x=1").send().seen();
    assert_eq!(seen.target, "/b?x=1");
    let disagreeing = client.get("http://other.test/b").send();
    assert_eq!(disagreeing.status, 400, "{disagreeing:?}");
    assert_eq!(origin.count(), 1);
}
