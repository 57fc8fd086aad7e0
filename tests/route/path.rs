//! One normal form of a path: for matching, for permission and for the upstream.

use crate::harness::{Fate, Frames, Gateway, Origin, fragment};

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
    .append(&fragment::upstream("api"))
    .append(&fragment::callers("app"))
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
        [[route]]
        path = "/users/{id}"
        upstream = "api"
        rewrite = "/u/{id}"
        "#,
    )
    .append(&fragment::upstream("api"))
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

/// `(target as sent, target as it reaches the origin)` of what stands raw in targets of some clients.
const RAW: [(&str, &str); 9] = [
    ("/a[1]", "/a%5B1%5D"),
    ("/a|b^c", "/a%7Cb%5Ec"),
    ("/{id}", "/%7Bid%7D"),
    ("/\"a\"", "/%22a%22"),
    ("/caf\u{e9}/\u{4f60}", "/caf%C3%A9/%E4%BD%A0"),
    ("/a?ids[]=1&ids[]=2", "/a?ids%5B%5D=1&ids%5B%5D=2"),
    ("/a?q={x}|^", "/a?q=%7Bx%7D%7C%5E"),
    ("/a?q=caf\u{e9}`", "/a?q=caf%C3%A9%60"),
    ("/a/../[b]//c", "/%5Bb%5D/c"),
];

/// The same of what the codec of HTTP/2 does not let through.
const RAW_OVER_HTTP_1: [(&str, &str); 3] = [
    ("/<a>`b", "/%3Ca%3E%60b"),
    ("/a?q=<b>", "/a?q=%3Cb%3E"),
    ("/a?q=\"b\"", "/a?q=%22b%22"),
];

#[test]
fn what_stands_raw_goes_out_escaped() {
    let origin = Origin::start();
    let gateway = Gateway::with(&format!(
        "[[listener]]\nname = \"public\"\naddress = \"{{listen}}\"\nhttp2 = true\n{EVERYTHING}"
    ))
    .to(&origin)
    .start();
    let mut connection = gateway.client().connect();
    for (sent, forwarded) in RAW.into_iter().chain(RAW_OVER_HTTP_1) {
        assert_eq!(connection.get(sent).send().seen().target, forwarded);
        // Through the framework, and in absolute form.
        let upgraded = connection.get(sent).header("TE", "trailers");
        assert_eq!(upgraded.send().seen().target, forwarded);
        let absolute = format!("http://gateway.test{sent}");
        assert_eq!(connection.get(&absolute).send().seen().target, forwarded);
        assert_eq!(connection.get(forwarded).send().seen().target, forwarded);
    }
    for (sent, forwarded) in RAW {
        let mut frames = Frames::open(gateway.listen());
        frames.get(1, sent);
        assert_eq!(frames.fate(), Fate::Answer(1), "{sent}");
        assert_eq!(origin.seen().last().unwrap().target, forwarded);
    }
}

#[test]
fn what_is_no_text_is_refused() {
    let origin = Origin::start();
    let gateway = Gateway::with(EVERYTHING).to(&origin).start();
    for target in [&b"/a\xe9"[..], b"/a?b=\xc3", b"/\xed\xa0\x80"] {
        let request = [b"GET ", target, b" HTTP/1.1\r\nHost: a\r\n\r\n"].concat();
        assert_eq!(gateway.client().raw(request).status(), 400, "{target:?}");
    }
    assert_eq!(origin.count(), 0);
}

#[test]
fn what_stands_raw_matches_like_its_escaped_form() {
    let origin = Origin::start();
    let gateway = Gateway::with(
        r#"
        [[route]]
        id = "brackets"
        path = "/a[1]"
        upstream = "api"
        [[route]]
        id = "cafe"
        path = "/café"
        upstream = "api"
        [[route]]
        id = "query"
        path = "/q"
        query = { "ids[]" = "7", "name" = "café" }
        upstream = "api"
        [[route]]
        id = "captured"
        path = "/c/{x}"
        upstream = "api"
        rewrite = "/d[/{x}"
        "#,
    )
    .append(&fragment::upstream("api"))
    .to(&origin)
    .start();
    let target = |sent: &str| gateway.client().get(sent).send().seen().target;
    for sent in ["/a[1]", "/a%5b1%5D", "/a%5B1]"] {
        assert_eq!(target(sent), "/a%5B1%5D");
    }
    for sent in ["/caf\u{e9}", "/caf%c3%a9"] {
        assert_eq!(target(sent), "/caf%C3%A9");
    }
    let query = "/q?ids%5B%5D=7&name=caf%C3%A9";
    assert_eq!(target("/q?ids[]=7&name=caf\u{e9}"), query);
    assert_eq!(target(query), query);
    assert_eq!(target("/c/{y}"), "/d%5B/%7By%7D");
    let said = gateway.run_cli(&["explain"], &["--json", "GET", "/c/{y}?q=[1]"]);
    let said: serde_json::Value = serde_json::from_str(&said.stdout).unwrap();
    assert_eq!(said["path"], "/d%5B/%7By%7D?q=%5B1%5D");
    assert_eq!(said["route"], "captured");
}
