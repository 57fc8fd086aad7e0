//! A preflight carries none of the headers of the request that it announces: its route is that of the request to come.

use crate::harness::{Client, Gateway, Response};

const SHOP: &str = "https://shop.example";

/// Routes of one path that want other headers, each with CORS rules that allow a header of its own name.
fn versions() -> Gateway {
    let route = |id: &str, keys: &str| {
        format!(
            "[[route]]\nid = \"{id}\"\npath = \"/api/**\"\n{keys}\nrespond = {{ text = \"{id}\" }}\n\
             cors = {{ origins = [\"{SHOP}\"], methods = [\"GET\", \"POST\"], headers = [\"x-{id}\"] }}\n"
        )
    };
    let routes = [
        route("plain", ""),
        route("second", "headers = { x-version = \"2\" }"),
        route("beta", "cookies = { beta = \"*\" }\npriority = -1"),
        "[[route]]\nid = \"json\"\npath = \"/json\"\nheaders = { accept = \"application/json\" }\nmethods = [\"GET\"]\n\
         respond = { text = \"json\" }\ncors = { origins = [\"https://shop.example\"], headers = [\"x-json\"] }\n"
            .to_owned(),
        "[[route]]\nid = \"own\"\npath = \"/own\"\nheaders = { x-version = \"2\" }\nrespond = { text = \"own\" }\n".to_owned(),
        "[[route]]\nid = \"rest\"\npath = \"/rest/**\"\nrespond = { text = \"rest\" }\n".to_owned(),
        "[[route]]\nid = \"key\"\npath = \"/rest/key\"\nheaders = { x-key = \"~k.*\" }\nrespond = { text = \"key\" }\n\
         cors = { origins = [\"https://shop.example\"], headers = [\"x-key\"] }\n"
            .to_owned(),
    ];
    Gateway::with(&routes.concat()).start()
}

fn preflight(client: &Client, target: &str, method: &str, headers: &str) -> Response {
    let request = client.request("OPTIONS", target).header("Origin", SHOP);
    let request = request.header("Access-Control-Request-Method", method);
    match headers {
        "" => request.send(),
        headers => request
            .header("Access-Control-Request-Headers", headers)
            .send(),
    }
}

/// The header that the answer allows names the route.
#[track_caller]
fn answered_by(response: Response) -> String {
    let response = response.expect(204);
    assert_eq!(response.header("access-control-allow-origin"), Some(SHOP));
    let allowed = response.header("access-control-allow-headers");
    allowed.unwrap().trim_start_matches("x-").to_owned()
}

#[test]
fn the_headers_it_announces_decide() {
    let gateway = versions();
    let client = gateway.client();
    for (headers, route) in [
        ("", "plain"),
        ("authorization", "plain"),
        ("x-version", "second"),
        ("authorization,X-Version", "second"),
        ("authorization, x-version ,x-b", "second"),
        ("x-versions", "plain"),
    ] {
        let answer = preflight(&client, "/api/x", "POST", headers);
        assert_eq!(answered_by(answer), route, "{headers:?}");
    }
}

#[test]
fn what_it_need_not_announce_is_left_open() {
    let gateway = versions();
    let client = gateway.client();
    // Browsers never announce `Accept`, nor cookies.
    assert_eq!(answered_by(preflight(&client, "/json", "GET", "")), "json");
    let browser = client
        .request("OPTIONS", "/json")
        .header("Origin", SHOP)
        .header("Accept", "*/*")
        .header("Access-Control-Request-Method", "GET");
    assert_eq!(answered_by(browser.send()), "json");
    // A path of a route without rules of its own would take it otherwise, and know nothing of the route it is for.
    let announced = preflight(&client, "/rest/key", "GET", "x-key");
    assert_eq!(answered_by(announced), "key");
    assert_eq!(preflight(&client, "/rest/key", "GET", "").text(), "rest");
}

#[test]
fn one_route_alone_answers_also_for_what_it_cannot_take() {
    let gateway = Gateway::with(&format!(
        "[[route]]\nid = \"only\"\npath = \"/only\"\nheaders = {{ x-version = \"2\" }}\nmethods = [\"PUT\"]\n\
         respond = {{ text = \"only\" }}\ncors = {{ origins = [\"{SHOP}\"], methods = [\"PUT\"], headers = [\"x-only\"] }}\n"
    ))
    .start();
    let client = gateway.client();
    assert_eq!(answered_by(preflight(&client, "/only", "PUT", "")), "only");
    let listed = preflight(&client, "/only", "PUT", "x-version");
    assert_eq!(answered_by(listed), "only");
    // It is no preflight for this route, or none at all.
    for response in [
        preflight(&client, "/only", "DELETE", "x-version"),
        client.request("OPTIONS", "/only").send(),
        client
            .request("OPTIONS", "/only")
            .header("Origin", SHOP)
            .send(),
        client.request("PUT", "/only").header("Origin", SHOP).send(),
    ] {
        response.refused(404, "route_not_found");
    }
}

#[test]
fn the_request_itself_needs_its_headers() {
    let gateway = versions();
    let client = gateway.client();
    let get = |version: &str| {
        let request = client.get("/api/x").header("Origin", SHOP);
        let request = request.header("Access-Control-Request-Headers", "x-version");
        request.header("X-Version", version).send().expect(200)
    };
    assert_eq!(get("2").text(), "second");
    assert_eq!(get("1").text(), "plain");
    client.get("/json").send().refused(404, "route_not_found");
    // A route without CORS rules answers no preflight.
    preflight(&client, "/own", "GET", "x-version").refused(404, "route_not_found");
}

#[test]
fn explain_finds_the_same() {
    let gateway = versions();
    let asked = [
        "OPTIONS",
        "/api/x",
        "-H",
        "Origin: https://shop.example",
        "-H",
        "Access-Control-Request-Method: GET",
        "-H",
        "Access-Control-Request-Headers: x-version",
    ];
    gateway
        .run_cli(&["explain"], &asked)
        .expect(0)
        .says("second")
        .says("respond (204)");
}
