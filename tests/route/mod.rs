//! Which route takes a request, and what of the request reaches the other side.

mod access;
mod answer;
mod group;
mod json_depth;
mod max_answer;
mod path;
mod predicate;
mod preflight;
mod rewrite;
mod slashes;

use crate::harness::{Client, Gateway};

/// Routes that say their own name: `(name, further keys)`.
fn named(routes: &[(&str, &str)]) -> String {
    routes
        .iter()
        .map(|(name, keys)| format!("[[route]]\nid = \"{name}\"\n{keys}\nrespond = {{ status = 200, text = \"{name}\" }}\n"))
        .collect()
}

/// Which of them takes `target`; `-` for none.
fn taken(client: &Client, target: &str) -> String {
    let response = client.get(target).send();
    match response.status {
        200 => response.text(),
        404 => {
            response.refused(404, "route_not_found");
            "-".to_owned()
        }
        _ => panic!("{target}: {response:?}"),
    }
}

#[test]
fn templates_match_segment_by_segment() {
    let gateway = Gateway::with(&named(&[
        ("root", "path = \"/\""),
        ("literal", "path = \"/users/me\""),
        ("name", "path = \"/users/{id}\""),
        ("inner", "path = \"/users/{id}/orders\""),
        ("tail", "path = \"/files/**\""),
        ("rest", "path = \"/blobs/{*rest}\""),
    ]))
    .start();
    for (target, expected) in [
        ("/", "root"),
        ("/users/me", "literal"),
        ("/users/7", "name"),
        ("/users/7?me", "name"),
        ("/users/7/orders", "inner"),
        ("/users", "-"),
        ("/users/", "-"),
        ("/users/7/orders/9", "-"),
        ("/files", "tail"),
        ("/files/", "tail"),
        ("/files/a/b/c", "tail"),
        ("/filesystem", "-"),
        ("/blobs", "rest"),
        ("/blobs/x/y", "rest"),
        ("/Users/me", "-"),
    ] {
        assert_eq!(taken(&gateway.client(), target), expected, "{target}");
    }
}

#[test]
fn the_more_specific_route_wins_segment_by_segment() {
    let gateway = Gateway::with(&named(&[
        ("all", "path = \"/**\""),
        ("tail", "path = \"/a/**\""),
        ("name", "path = \"/a/{x}\""),
        ("literal", "path = \"/a/b\""),
        ("name-then-literal", "path = \"/a/{x}/c\""),
        ("literal-then-tail", "path = \"/a/b/**\""),
        ("literal-then-name", "path = \"/a/b/{y}\""),
    ]))
    .start();
    for (target, expected) in [
        ("/a/b", "literal"),
        ("/a/z", "name"),
        ("/a", "tail"),
        ("/a/z/d", "tail"),
        ("/a/z/c", "name-then-literal"),
        // The first segment that differs decides: a literal there beats a name, whatever follows.
        ("/a/b/c", "literal-then-name"),
        ("/a/b/c/d", "literal-then-tail"),
        ("/", "all"),
        ("/x/y", "all"),
    ] {
        assert_eq!(taken(&gateway.client(), target), expected, "{target}");
    }
}

#[test]
fn a_literal_branch_that_leads_nowhere_does_not_hide_the_name_beside_it() {
    let gateway = Gateway::with(&named(&[
        ("deep-literal", "path = \"/a/b/c/d\""),
        ("deep-name", "path = \"/a/{x}/c/e\""),
        ("tail", "path = \"/{y}/b/**\""),
    ]))
    .start();
    assert_eq!(taken(&gateway.client(), "/a/b/c/d"), "deep-literal");
    assert_eq!(taken(&gateway.client(), "/a/b/c/e"), "deep-name");
    assert_eq!(taken(&gateway.client(), "/a/b/c/f"), "tail");
}

#[test]
fn the_order_in_the_file_does_not_matter() {
    let mut routes = [
        ("tail", "path = \"/a/**\""),
        ("name", "path = \"/a/{x}\""),
        ("literal", "path = \"/a/b\""),
    ];
    for _ in 0..2 {
        let gateway = Gateway::with(&named(&routes)).start();
        let client = gateway.client();
        assert_eq!(
            [
                taken(&client, "/a/b"),
                taken(&client, "/a/c"),
                taken(&client, "/a")
            ],
            ["literal", "name", "tail"]
        );
        routes.reverse();
    }
}

#[test]
fn priority_decides_between_equals_only() {
    let gateway = Gateway::with(&named(&[
        ("low", "path = \"/p/{x}\"\nheaders = { x-a = \"*\" }"),
        (
            "high",
            "path = \"/p/{y}\"\nheaders = { x-b = \"*\" }\npriority = 5",
        ),
        ("literal", "path = \"/p/here\"\npriority = -5"),
    ]))
    .start();
    let client = gateway.client();
    assert_eq!(
        client
            .get("/p/1")
            .header("x-a", 1)
            .send()
            .expect(200)
            .text(),
        "low"
    );
    assert_eq!(
        client
            .get("/p/1")
            .header("x-a", 1)
            .header("x-b", 1)
            .send()
            .expect(200)
            .text(),
        "high"
    );
    assert_eq!(
        client
            .get("/p/here")
            .header("x-b", 1)
            .send()
            .expect(200)
            .text(),
        "literal"
    );
}

#[test]
fn ten_thousand_routes_are_told_apart() {
    let routes: String = (0..10_000)
        .map(|n| format!("[[route]]\nid = \"r{n}\"\npath = \"/s{}/i{n}/{{x}}\"\nrespond = {{ status = 200, text = \"r{n}\" }}\n", n % 97))
        .collect();
    let gateway = Gateway::with(&routes).start();
    let mut connection = gateway.client().connect();
    for n in (0..10_000).step_by(331) {
        let target = format!("/s{}/i{n}/x", n % 97);
        assert_eq!(
            connection.get(&target).send().expect(200).text(),
            format!("r{n}")
        );
    }
    connection
        .get("/s1/i2/x")
        .send()
        .refused(404, "route_not_found");
    gateway.wait_for_metric("gateway_routes_active", &[], 10_000.0);
}
