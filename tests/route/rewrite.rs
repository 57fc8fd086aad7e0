//! What changes on the way: path, upstream, headers.

use crate::harness::{Gateway, Origin, fragment};

#[test]
fn strip_prefix_cuts_leading_segments() {
    let origin = Origin::start();
    let gateway = Gateway::with(
        r#"
        [[route]]
        path = "/api/users/**"
        uri = "lb://users"
        strip_prefix = 1
        [[route]]
        path = "/deep/a/b/**"
        uri = "lb://users"
        strip_prefix = 3
        "#,
    )
    .append(&fragment::upstream("users"))
    .to(&origin)
    .start();
    let client = gateway.client();
    let target = |sent: &str| client.get(sent).send().seen().target;
    assert_eq!(target("/api/users/7"), "/users/7");
    assert_eq!(target("/api/users/7?next=/api/x"), "/users/7?next=/api/x");
    assert_eq!(target("/api/users"), "/users");
    assert_eq!(target("/api/users/"), "/users/");
    assert_eq!(target("/deep/a/b"), "/");
    assert_eq!(target("/deep/a/b/c/"), "/c/");
}

#[test]
fn rewrite_uses_what_the_path_captured() {
    let origin = Origin::start();
    let gateway = Gateway::with(
        r#"
        [[route]]
        path = "/product/{id}"
        upstream = "items"
        rewrite = "/v2/items/{id}"
        [[route]]
        path = "/shop/{shop}/item/{id}"
        upstream = "items"
        rewrite = "/items/{id}/of/{shop}"
        [[route]]
        path = "/old/{*rest}"
        upstream = "items"
        rewrite = "/new/{rest}"
        [[route]]
        path = "/fixed/**"
        upstream = "items"
        rewrite = "/one/place"
        "#,
    )
    .append(&fragment::upstream("items"))
    .to(&origin)
    .start();
    let client = gateway.client();
    let target = |sent: &str| client.get(sent).send().seen().target;
    assert_eq!(target("/product/42?x=%2F"), "/v2/items/42?x=%2F");
    assert_eq!(target("/shop/s1/item/i2"), "/items/i2/of/s1");
    assert_eq!(target("/old/a/b/c"), "/new/a/b/c");
    assert_eq!(target("/fixed/whatever?y"), "/one/place?y");
}

#[test]
fn uri_and_upstream_mean_the_same() {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let gateway = Gateway::with(
        r#"
        [upstream.one]
        endpoints = [{ address = "{a}" }]
        [upstream.two]
        endpoints = [{ address = "{b}" }]
        [[route]]
        path = "/one"
        uri = "lb://one"
        [[route]]
        path = "/two"
        upstream = "two"
        "#,
    )
    .to(&a)
    .to(&b)
    .start();
    assert_eq!(gateway.client().get("/one").send().seen().origin, "a");
    assert_eq!(gateway.client().get("/two").send().seen().origin, "b");
}

#[test]
fn request_headers_are_set_added_and_removed() {
    let origin = Origin::start();
    let gateway = Gateway::with(
        r#"
        [[route]]
        path = "/**"
        upstream = "api"
        [route.request]
        set = { X-Env = "prod" }
        add = { X-Tag = "edge" }
        remove = ["X-Debug"]
        [route.response]
        set = { X-Frame-Options = "DENY" }
        remove = ["X-Origin"]
        "#,
    )
    .append(&fragment::upstream("api"))
    .to(&origin)
    .start();
    let client = gateway.client();
    let request = client
        .get("/")
        .header("X-Env", "dev")
        .header("X-Tag", "mine")
        .header("x-debug", "1");
    let response = request.send().expect(200);
    assert_eq!(response.header("x-frame-options"), Some("DENY"));
    assert_eq!(response.header("x-origin"), None);
    let seen = response.seen();
    assert_eq!(seen.values("x-env"), ["prod"]);
    assert_eq!(seen.values("x-tag"), ["mine", "edge"]);
    assert_eq!(seen.header("x-debug"), None);
}
