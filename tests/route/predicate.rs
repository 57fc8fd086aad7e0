//! Methods, hosts, headers, query parameters and cookies.

use super::named;
use crate::harness::Gateway;

#[test]
fn methods_are_a_predicate_like_the_others() {
    let gateway = Gateway::with(&named(&[
        ("read", "path = \"/thing\"\nmethods = [\"GET\"]"),
        ("write", "path = \"/thing\"\nmethods = [\"POST\", \"PUT\"]"),
        ("wider", "path = \"/{any}\"\nmethods = [\"PATCH\"]"),
    ]))
    .start();
    let client = gateway.client();
    let taken = |method: &str| client.request(method, "/thing").send().expect(200).text();
    assert_eq!(
        [taken("GET"), taken("POST"), taken("PUT")],
        ["read", "write", "write"]
    );
    // The most specific route that accepts the request takes it.
    assert_eq!(taken("PATCH"), "wider");
}

#[test]
fn get_admits_head() {
    let gateway = Gateway::with(&named(&[(
        "read",
        "path = \"/thing\"\nmethods = [\"GET\"]",
    )]))
    .start();
    let head = gateway
        .client()
        .request("HEAD", "/thing")
        .send()
        .expect(200);
    assert!(head.body.bytes.is_empty(), "{head:?}");
    let mut connection = gateway.client().connect();
    connection.request("HEAD", "/thing").send().expect(200);
    assert_eq!(
        connection.get("/thing").send().expect(200).text(),
        "read",
        "no body was left on the connection"
    );
}

#[test]
fn a_wrong_method_alone_is_405_with_allow() {
    let gateway = Gateway::with(&named(&[
        ("read", "path = \"/thing\"\nmethods = [\"GET\"]"),
        (
            "write",
            "path = \"/thing\"\nmethods = [\"PUT\"]\nhosts = [\"write.test\"]",
        ),
    ]))
    .start();
    let client = gateway.client();
    let refused = client
        .request("DELETE", "/thing")
        .send()
        .refused(405, "method_not_allowed");
    let allow = refused.header("allow").expect("an Allow header").to_owned();
    assert!(
        allow.contains("GET") && allow.contains("HEAD") && !allow.contains("PUT"),
        "{allow}"
    );
    let refused = client
        .request("DELETE", "/thing")
        .host("write.test")
        .send()
        .refused(405, "method_not_allowed");
    assert!(
        refused.header("allow").unwrap().contains("PUT"),
        "{refused:?}"
    );
    // Where the host stood in the way as well, the resource is not there.
    client
        .request("DELETE", "/other")
        .send()
        .refused(404, "route_not_found");
}

#[test]
fn connect_and_trace_are_never_allowed() {
    let gateway = Gateway::with(&named(&[("all", "path = \"/**\"")])).start();
    let client = gateway.client();
    let trace = client
        .request("TRACE", "/")
        .send()
        .refused(405, "method_not_allowed");
    assert!(trace.header("allow").is_some(), "{trace:?}");
    let connect = client.request("CONNECT", "example.com:443").send();
    assert_eq!(connect.status, 405, "{connect:?}");
}

#[test]
fn hosts_match_exactly_or_below_a_star() {
    let gateway = Gateway::with(&named(&[
        (
            "exact",
            "path = \"/\"\nhosts = [\"api.example.com\"]\npriority = 1",
        ),
        ("below", "path = \"/\"\nhosts = [\"*.example.com\"]"),
        ("any", "path = \"/\""),
    ]))
    .start();
    let taken = |host: &str| {
        gateway
            .client()
            .get("/")
            .host(host)
            .send()
            .expect(200)
            .text()
    };
    assert_eq!(taken("api.example.com"), "exact");
    assert_eq!(taken("API.Example.COM"), "exact");
    assert_eq!(taken("api.example.com:8080"), "exact");
    assert_eq!(taken("shop.example.com"), "below");
    assert_eq!(taken("example.com"), "any");
    assert_eq!(taken("badexample.com"), "any");
    assert_eq!(taken("example.com.evil.test"), "any");
}

#[test]
fn headers_match_exactly_by_pattern_or_by_presence() {
    let gateway = Gateway::with(&named(&[
        ("exact", "path = \"/h\"\nheaders = { x-version = \"2\" }"),
        (
            "pattern",
            "path = \"/h\"\nheaders = { x-version = \"~3[.][0-9]+\" }\npriority = 1",
        ),
        ("present", "path = \"/p\"\nheaders = { x-version = \"*\" }"),
        ("else", "path = \"/h\""),
    ]))
    .start();
    let client = gateway.client();
    let taken = |value: &str| {
        client
            .get("/h")
            .header("X-Version", value)
            .send()
            .expect(200)
            .text()
    };
    assert_eq!(taken("2"), "exact");
    assert_eq!(taken("22"), "else");
    assert_eq!(taken("3.14"), "pattern");
    // A pattern must cover the whole value.
    assert_eq!(taken("3.14x"), "else");
    assert_eq!(
        client
            .get("/p")
            .header("X-VERSION", "anything")
            .send()
            .expect(200)
            .text(),
        "present"
    );
    client.get("/p").send().refused(404, "route_not_found");
}

#[test]
fn query_parameters_match_decoded() {
    let gateway = Gateway::with(&named(&[
        ("exact", "path = \"/q\"\nquery = { kind = \"a b\" }"),
        (
            "present",
            "path = \"/q\"\nquery = { debug = \"*\" }\npriority = 1",
        ),
        (
            "pattern",
            "path = \"/q\"\nquery = { page = \"~[0-9]+\" }\npriority = 2",
        ),
    ]))
    .start();
    let client = gateway.client();
    let taken = |target: &str| client.get(target).send().expect(200).text();
    assert_eq!(taken("/q?kind=a%20b"), "exact");
    assert_eq!(taken("/q?x=1&kind=a+b"), "exact");
    assert_eq!(taken("/q?debug"), "present");
    assert_eq!(taken("/q?debug="), "present");
    assert_eq!(taken("/q?page=12"), "pattern");
    client
        .get("/q?page=1x")
        .send()
        .refused(404, "route_not_found");
    client.get("/q").send().refused(404, "route_not_found");
}

#[test]
fn cookies_match_by_name() {
    let gateway = Gateway::with(&named(&[
        ("beta", "path = \"/c\"\ncookies = { stage = \"beta\" }"),
        ("else", "path = \"/c\""),
    ]))
    .start();
    let client = gateway.client();
    let taken = |cookie: &str| {
        client
            .get("/c")
            .header("Cookie", cookie)
            .send()
            .expect(200)
            .text()
    };
    assert_eq!(taken("stage=beta"), "beta");
    assert_eq!(taken("a=1; stage=beta; b=2"), "beta");
    assert_eq!(taken("stage=gamma"), "else");
    assert_eq!(taken("xstage=beta"), "else");
}

#[test]
fn more_predicates_win_over_fewer() {
    let gateway = Gateway::with(&named(&[
        ("none", "path = \"/m\""),
        ("one", "path = \"/m\"\nheaders = { x-a = \"*\" }"),
        (
            "two",
            "path = \"/m\"\nheaders = { x-a = \"*\", x-b = \"*\" }",
        ),
    ]))
    .start();
    let client = gateway.client();
    assert_eq!(client.get("/m").send().expect(200).text(), "none");
    assert_eq!(
        client.get("/m").header("x-a", 1).send().expect(200).text(),
        "one"
    );
    assert_eq!(
        client
            .get("/m")
            .header("x-a", 1)
            .header("x-b", 1)
            .send()
            .expect(200)
            .text(),
        "two"
    );
}
