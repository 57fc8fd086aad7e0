//! The operator's side: probes and metrics for everybody, the rest for who has the token or the socket.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::{Value, json};

use crate::harness::{ADMIN_TOKEN, Client, Gateway, Origin, admin_json, reserve};

const ROUTES: &str = r#"
[upstream.api]
endpoints = [{ address = "{origin}", weight = 3 }]
[[route]]
id = "all"
path = "/api/**"
upstream = "api"
[[route]]
id = "hello"
path = "/hello"
respond = { status = 200, text = "hello" }
"#;

fn start() -> (Origin, Gateway) {
    let origin = Origin::start();
    let gateway = Gateway::with(ROUTES).to(&origin).start();
    (origin, gateway)
}

const API: [(&str, &str); 8] = [
    ("GET", "/api/v1/routes"),
    ("GET", "/api/v1/upstreams"),
    ("GET", "/api/v1/limits"),
    ("GET", "/api/v1/config"),
    ("POST", "/api/v1/reload"),
    ("POST", "/api/v1/explain"),
    ("POST", "/api/v1/upstreams/api/endpoints/127.0.0.1:1/drain"),
    ("PUT", "/api/v1/routes/all/level"),
];

#[test]
fn probes_metrics_and_info_are_open() {
    let (_origin, gateway) = start();
    let admin = gateway.admin();
    for path in [
        "/livez",
        "/readyz",
        "/healthz",
        "/health",
        "/info",
        "/metrics",
        "/actuator/health",
        "/actuator/info",
        "/actuator/prometheus",
    ] {
        admin.get(path).send().expect(200);
    }
    let verbose = admin.get("/readyz?verbose").send().expect(200).text();
    assert!(
        verbose.len() > admin.get("/readyz").send().text().len(),
        "{verbose}"
    );
    admin.get("/nothing").send().expect(404);
    assert_eq!(admin.request("HEAD", "/readyz").send().status, 200);
    assert!(matches!(
        admin.post("/readyz").body("").send().status,
        404 | 405
    ));
}

#[test]
fn aliases_say_the_same() {
    let (_origin, gateway) = start();
    let names = |path: &str| -> Vec<String> {
        let mut names: Vec<String> = gateway
            .admin()
            .get(path)
            .send()
            .expect(200)
            .json()
            .as_object()
            .unwrap()
            .keys()
            .cloned()
            .collect();
        names.sort();
        names
    };
    assert_eq!(names("/info"), names("/actuator/info"));
    let text = gateway
        .admin()
        .get("/actuator/prometheus")
        .send()
        .expect(200);
    assert!(text.text().contains("gateway_routes_active 2"), "{text:?}");
    let kind = gateway
        .admin()
        .get("/metrics")
        .send()
        .header("content-type")
        .unwrap()
        .to_owned();
    assert!(kind.starts_with("text/plain"), "{kind}");
}

#[test]
fn info_says_what_runs() {
    let (_origin, gateway) = start();
    let info = gateway.info();
    assert_eq!(info["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(info["pid"], gateway.pid());
    assert!(
        info["commit"].is_string()
            && info["config_hash"].is_string()
            && info["started"].is_string(),
        "{info}"
    );
    assert!(info["uptime_seconds"].is_number(), "{info}");
    let last = gateway.reload();
    assert_eq!(last["result"], "ok");
    assert!(last["at"].is_string() && last["error"].is_null(), "{last}");
    gateway.write("tollgate.toml", "[server]\nthreads = \"x\"\n");
    let last = gateway.reload();
    assert_eq!(last["result"], "error");
    assert!(
        last["error"].as_str().unwrap().contains("tollgate.toml:2:"),
        "{last}"
    );
}

#[test]
fn the_api_asks_for_the_token() {
    let (_origin, gateway) = start();
    let admin = gateway.admin();
    for (method, path) in API {
        let none = admin.request(method, path).body("{}").send();
        assert_eq!(none.status, 401, "{method} {path}: {none:?}");
        assert!(none.header("www-authenticate").is_some(), "{none:?}");
        for wrong in [
            "",
            "x",
            &ADMIN_TOKEN[1..],
            &format!("{ADMIN_TOKEN}x"),
            &ADMIN_TOKEN.to_uppercase(),
        ] {
            let response = admin.request(method, path).bearer(wrong).body("{}").send();
            assert!(
                response.status == 401 || response.status == 403,
                "{method} {path} {wrong}: {response:?}"
            );
        }
    }
    assert_eq!(gateway.metric("gateway_config_reloads_total", &[]), 0.0);
    gateway.admin_get("/api/v1/routes").expect(200);
}

#[test]
fn without_a_configured_token_the_api_is_closed() {
    let origin = Origin::start();
    let address = reserve();
    let text = format!("{ROUTES}\n[admin]\naddress = \"{address}\"\n");
    let gateway = Gateway::with(&text).to(&origin).start();
    let admin = Client::to(address);
    admin.get("/readyz").send().expect(200);
    admin.get("/metrics").send().expect(200);
    for (method, path) in API {
        let response = admin.request(method, path).bearer("").body("{}").send();
        assert_eq!(response.status, 403, "{method} {path}: {response:?}");
    }
    // The socket is another matter.
    assert_eq!(
        gateway.over_socket("GET", "/api/v1/routes", b"").unwrap().0,
        200
    );
}

#[test]
fn the_socket_is_always_there_private_and_needs_no_token() {
    let gateway =
        Gateway::with("[admin]\n[[route]]\nid = \"r\"\npath = \"/\"\nrespond = { status = 200 }\n")
            .start();
    let socket = gateway.dir().join("run/admin.sock");
    assert_eq!(
        fs::metadata(&socket).unwrap().permissions().mode() & 0o777,
        0o600
    );
    assert_eq!(
        fs::metadata(socket.parent().unwrap())
            .unwrap()
            .permissions()
            .mode()
            & 0o777,
        0o700
    );
    for path in [
        "/readyz",
        "/metrics",
        "/info",
        "/api/v1/routes",
        "/api/v1/config",
    ] {
        assert_eq!(
            gateway.over_socket("GET", path, b"").unwrap().0,
            200,
            "{path}"
        );
    }
    assert_eq!(
        gateway
            .over_socket("POST", "/api/v1/reload", b"")
            .unwrap()
            .0,
        200
    );
}

#[test]
fn the_admin_side_is_not_on_the_public_listener() {
    let (_origin, gateway) = start();
    for path in [
        "/metrics",
        "/readyz",
        "/info",
        "/api/v1/config",
        "/actuator/health",
    ] {
        let response = gateway.client().get(path).bearer(ADMIN_TOKEN).send();
        // `/api/**` is a route of the public side and goes to the origin like any other.
        assert!(
            response.status == 404 || response.header("x-origin").is_some(),
            "{path}: {response:?}"
        );
    }
    gateway.admin().get("/hello").send().expect(404);
}

#[test]
fn routes_and_upstreams_are_listed() {
    let (origin, gateway) = start();
    gateway.client().get("/api/x").send().expect(200);
    let routes = gateway
        .admin_get("/api/v1/routes")
        .expect(200)
        .json()
        .to_string();
    for word in ["\"all\"", "\"hello\"", "/api/**"] {
        assert!(routes.contains(word), "{word} in {routes}");
    }
    let upstreams = gateway
        .admin_get("/api/v1/upstreams")
        .expect(200)
        .json()
        .to_string();
    for word in [
        "\"api\"",
        &format!("\"{}\"", origin.address()),
        "\"weight\":3",
    ] {
        assert!(upstreams.contains(word), "{word} in {upstreams}");
    }
    let config = gateway.admin_get("/api/v1/config").expect(200).text();
    assert!(
        config.contains("lb://api") || config.contains("api"),
        "{config}"
    );
    assert!(!config.contains(ADMIN_TOKEN), "{config}");
}

#[test]
fn a_reload_over_the_api_answers_with_its_result() {
    let (_origin, gateway) = start();
    gateway.admin_post("/api/v1/reload", &json!({})).expect(200);
    gateway.wait_for_metric("gateway_config_reloads_total", &[("result", "ok")], 1.0);
    gateway.write("tollgate.toml", "[server]\nthread = 3\n");
    let failed = gateway.admin_post("/api/v1/reload", &json!({}));
    assert!((400..500).contains(&failed.status), "{failed:?}");
    assert!(failed.text().contains("tollgate.toml:2:1"), "{failed:?}");
    gateway.client().get("/hello").send().expect(200);
}

#[test]
fn what_is_no_json_is_a_bad_request() {
    let (_origin, gateway) = start();
    for body in ["", "{", "[]", "{\"method\":7}", "{\"method\":\"GET\"}"] {
        let admin = gateway.admin();
        let response = admin
            .post("/api/v1/explain")
            .bearer(ADMIN_TOKEN)
            .body(body)
            .send();
        assert_eq!(response.status, 400, "{body}: {response:?}");
    }
    let explained = admin_json(
        gateway.admin().post("/api/v1/explain"),
        &json!({ "method": "GET", "url": "/hello" }),
    )
    .send();
    let answer: Value = explained.expect(200).json();
    assert_eq!(
        (&answer["route"], &answer["decision"]),
        (&json!("hello"), &json!("respond")),
        "{answer}"
    );
}

#[test]
fn malformed_requests_do_not_hurt_the_admin_side() {
    let (_origin, gateway) = start();
    for raw in [
        "garbage\r\n\r\n",
        "GET\r\n\r\n",
        "GET /info HTTP/9.9\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
    ] {
        let outcome = gateway.admin().raw(raw);
        assert!(
            outcome.status() < 500 || outcome.status() == 505,
            "{raw:?}: {outcome:?}"
        );
    }
    assert!(gateway.admin().get("/readyz").send().status == 200);
}
