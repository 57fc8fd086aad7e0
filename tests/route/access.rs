//! Who comes in: at listeners, from lists in files, and while something is closed.

use super::named;
use crate::harness::{Client, Folder, Gateway, Origin, eventually, seconds};

/// A listener with these rules, and a route.
fn listener(rules: &str) -> String {
    let route = named(&[("one", "path = \"/one\"")]);
    format!("[[listener]]\nname = \"public\"\naddress = \"{{listen}}\"\n{rules}\n{route}")
}

fn turned_away(gateway: &Gateway) -> f64 {
    let labels = [("listener", "public"), ("reason", "ip_denied")];
    gateway.metric("gateway_connections_refused_total", &labels)
}

#[test]
fn a_listener_closes_who_may_not_connect() {
    let gateway = Gateway::with(&listener("deny_ips = [\"127.0.0.2\"]")).start();
    let (one, two) = (gateway.client(), gateway.client().from(2));
    one.get("/one").send().expect(200);
    assert!(two.get("/one").try_send().is_err(), "closed without a word");
    eventually(seconds(5), "it is counted", || turned_away(&gateway) == 1.0);
    gateway.rewrite(&listener("allow_ips = [\"127.0.0.2/32\"]"));
    let mut kept = one.connect();
    kept.get("/one").send().expect(200);
    gateway.reload_ok();
    two.get("/one").send().expect(200);
    assert!(one.get("/one").try_send().is_err());
    // Who is connected already is told.
    kept.get("/one").send().refused(403, "ip_denied");
}

#[test]
fn behind_a_trusted_proxy_a_listener_looks_at_the_client() {
    let text = format!(
        "[server]\ntrusted_proxies = [\"127.0.0.2/32\"]\n{}",
        listener("allow_ips = [\"192.0.2.0/24\"]")
    );
    let gateway = Gateway::with(&text).start();
    let proxy = gateway.client().from(2);
    let from = |client: &str, target: &str| {
        let request = proxy.get(target).header("X-Forwarded-For", client);
        request.send()
    };
    from("192.0.2.7", "/one").expect(200);
    from("198.51.100.7", "/one").refused(403, "ip_denied");
    // Before anything else of a request: not even that there is no such route is said.
    from("198.51.100.7", "/none").refused(403, "ip_denied");
    let labels = [("route", "_unmatched"), ("reason", "ip_denied")];
    gateway.wait_for_metric("gateway_refused_total", &labels, 2.0);
    let explained = |ip: &str| {
        let ran = gateway.run_cli(&["explain"], &["GET", "/one", "--ip", ip, "--json"]);
        ran.expect(0).json()
    };
    assert_eq!(explained("198.51.100.7")["decision"], "ip_denied");
    let let_in = explained("192.0.2.7");
    assert_eq!(let_in["decision"], "respond", "{let_in}");
    assert_eq!(let_in["steps"][0]["step"], "listener.public");
}

#[test]
fn a_listener_behind_a_balancer_looks_at_the_announced_client() {
    let text = format!(
        "[server]\ntrusted_proxies = [\"127.0.0.0/8\"]\n{}",
        listener("proxy_protocol = true\ndeny_ips = [\"203.0.113.0/24\"]")
    );
    let gateway = Gateway::with(&text).start();
    let ask = |client: &str| {
        let mut connection = gateway.client().connect();
        let head =
            format!("PROXY TCP4 {client} 192.0.2.1 1 2\r\nGET /one HTTP/1.1\r\nHost: a\r\n\r\n");
        connection.write(head).unwrap();
        connection.response("GET").map(|response| response.status)
    };
    assert_eq!(ask("198.51.100.9").unwrap(), 200);
    assert!(ask("203.0.113.9").is_err());
    eventually(seconds(5), "it is counted", || turned_away(&gateway) == 1.0);
}

#[test]
fn lists_come_from_files_that_each_reload_reads_again() {
    let text = named(&[(
        "one",
        "path = \"/one\"\ndeny_ips = [\"10.0.0.0/8\", \"file:{dir}/deny.txt\"]",
    )]);
    let gateway = Gateway::with(&text)
        .file("deny.txt", "# bad neighbours\n127.0.0.2 # one of them\n")
        .start();
    let (one, two) = (gateway.client(), gateway.client().from(2));
    one.get("/one").send().expect(200);
    two.get("/one").send().refused(403, "ip_denied");
    gateway.write("deny.txt", "127.0.0.1\n");
    gateway.reload_ok();
    two.get("/one").send().expect(200);
    one.get("/one").send().refused(403, "ip_denied");
    // A list that cannot be read leaves the rules as they are.
    gateway.write("deny.txt", "127.0.0.2\nnobody\n");
    let report = gateway.reload();
    let error = report["error"].as_str().unwrap_or_default();
    assert!(
        error.contains("deny.txt: line 2: \"nobody\" is no address range"),
        "{report}"
    );
    assert!(error.contains("tollgate.toml:4"), "{error}");
    one.get("/one").send().refused(403, "ip_denied");
}

/// Ten thousand networks on a route: what they cost is measured in `primitives::ranges`; here they only have to work.
#[test]
fn ten_thousand_networks_are_one_list() {
    let list: String = (0..10_000u32)
        .map(|n| format!("10.{}.{}.0/25\n", n / 256, n % 256))
        .collect();
    let text = format!(
        "[server]\ntrusted_proxies = [\"127.0.0.1\"]\n{}",
        named(&[(
            "one",
            "path = \"/one\"\ndeny_ips = [\"file:{dir}/deny.txt\"]"
        )])
    );
    let gateway = Gateway::with(&text).file("deny.txt", &list).start();
    let client = gateway.client();
    let from = |address: &str| client.get("/one").header("X-Forwarded-For", address).send();
    from("10.39.15.127").refused(403, "ip_denied");
    from("10.39.15.128").expect(200);
    from("10.39.16.1").expect(200);
}

/// The server, a group and two routes, of which one keeps open; each with its own word on maintenance or none.
fn shop(server: bool, group: bool) -> String {
    format!(
        r#"
        [server]
        trusted_proxies = ["127.0.0.1"]
        [server.maintenance]
        enabled = {server}
        [group.shop]
        [group.shop.maintenance]
        enabled = {group}
        retry_after = "10m"
        html = "<h1>Back at six</h1>"
        allow_ips = ["192.0.2.0/24"]
        [[route]]
        id = "shop"
        group = "shop"
        path = "/shop"
        respond = {{ text = "open" }}
        [route.cors]
        origins = ["https://shop.example"]
        [[route]]
        id = "health"
        group = "shop"
        path = "/health"
        respond = {{ text = "fine" }}
        maintenance = {{ enabled = false }}
        [[route]]
        id = "other"
        path = "/other"
        respond = {{ text = "other" }}
        "#
    )
}

#[test]
fn maintenance_closes_a_group_but_for_those_who_work_on_it() {
    let gateway = Gateway::with(&shop(false, false)).start();
    let client = gateway.client();
    client.get("/shop").send().expect(200);
    gateway.rewrite(&shop(false, true));
    gateway.reload_ok();
    let from_page = |method: &str| {
        let request = client.request(method, "/shop");
        request.header("Origin", "https://shop.example")
    };
    let closed = from_page("GET").send().expect(503);
    assert_eq!(closed.text(), "<h1>Back at six</h1>");
    assert_eq!(closed.number("retry-after"), 600);
    assert_eq!(
        closed.header("content-type"),
        Some("text/html; charset=utf-8")
    );
    // A browser may read it, and asks before it does.
    let allowed = Some("https://shop.example");
    assert_eq!(closed.header("access-control-allow-origin"), allowed);
    let preflight = from_page("OPTIONS").header("Access-Control-Request-Method", "GET");
    preflight.send().expect(204);
    let inside = client.get("/shop").header("X-Forwarded-For", "192.0.2.9");
    assert_eq!(inside.send().expect(200).text(), "open");
    client.get("/health").send().expect(200);
    client.get("/other").send().expect(200);
    let labels = [("route", "shop"), ("reason", "maintenance")];
    gateway.wait_for_metric("gateway_refused_total", &labels, 1.0);
    let routes = gateway.admin_get("/api/v1/routes").expect(200).json();
    let closed = |id: &str| {
        let mut routes = routes.as_array().unwrap().iter();
        routes.find(|route| route["id"] == id).unwrap()["maintenance"] == true
    };
    assert!(
        closed("shop") && !closed("health") && !closed("other"),
        "{routes}"
    );
    let status = gateway.run_cli(&["status"], &[]).expect(0);
    status.says("under maintenance: shop\n");
    gateway.rewrite(&shop(false, false));
    gateway.reload_ok();
    client.get("/shop").send().expect(200);
}

#[test]
fn maintenance_of_the_server_closes_what_says_nothing_else() {
    let gateway = Gateway::with(&shop(true, false)).start();
    let client: Client = gateway.client();
    let closed = client.get("/other").send().refused(503, "maintenance");
    assert_eq!(closed.number("retry-after"), 60);
    client.get("/shop").send().expect(200);
    client.get("/health").send().expect(200);
    let explained = gateway.run_cli(&["explain"], &["GET", "/other", "--json"]);
    let explained = explained.expect(0).json();
    assert_eq!(explained["decision"], "maintenance");
}

#[test]
fn scripts_may_read_every_answer_of_a_route() {
    let nobody = Origin::start();
    let address = nobody.address();
    drop(nobody);
    let gateway = Gateway::with(
        r#"
        [limit.one]
        key = "client_ip"
        algorithm = "token_bucket"
        rate = "1/h"
        burst = 2
        [upstream.gone]
        endpoints = [{ address = "{gone}" }]
        [[route]]
        path = "/gone"
        upstream = "gone"
        limits = ["one"]
        max_body = "1B"
        [route.cors]
        origins = ["https://*.shop.example"]
        credentials = true
        expose = ["X-Trace-ID"]
        "#,
    )
    .fill("gone", address)
    .start();
    let client = gateway.client();
    let ask = |body: &str| {
        let request = client
            .post("/gone")
            .header("Origin", "https://a.shop.example");
        let answer = request.body(body).send();
        let said = |name: &str| answer.header(name).map(str::to_owned);
        assert_eq!(
            said("access-control-allow-origin").as_deref(),
            Some("https://a.shop.example"),
            "{answer:?}"
        );
        assert_eq!(
            said("access-control-allow-credentials").as_deref(),
            Some("true")
        );
        assert_eq!(
            said("access-control-expose-headers").as_deref(),
            Some("x-trace-id")
        );
        assert_eq!(said("vary").as_deref(), Some("Origin"));
        answer.status
    };
    assert_eq!(ask("a"), 502);
    assert_eq!(ask("too long"), 413);
    assert_eq!(ask("a"), 429);
    let other = client
        .get("/gone")
        .header("Origin", "https://shop.example")
        .send();
    assert_eq!(other.header("access-control-allow-origin"), None);
    assert_eq!(other.header("vary"), Some("Origin"));
}

#[test]
fn access_rules_that_make_no_sense_are_refused() {
    let with = |keys: &str| {
        let text = format!(
            "[[listener]]\naddress = \"127.0.0.1:8080\"\n{}{keys}\n",
            named(&[("one", "path = \"/one\"")])
        );
        Folder::with(&text).check().expect(1)
    };
    for (keys, why) in [
        ("deny_ips = [\"file:deny.txt\"]", "write the whole path"),
        (
            "deny_ips = [\"file:/nowhere/deny.txt\"]",
            "/nowhere/deny.txt: cannot be read",
        ),
        ("deny_ips = [\"10.0.0.0/33\"]", "is no address range"),
        ("maintenance = {}", "the key \"enabled\" is missing"),
        (
            "maintenance = { enabled = false, text = \"a\", html = \"b\" }",
            "more than one of `text`, `html` and `json`",
        ),
        (
            "cors = { origins = [\"*\", \"https://a.example\"] }",
            "stands alone",
        ),
        ("cors = { origins = [\"https://*\"] }", "is no origin"),
        (
            "cors = { origins = [\"https://a.*.example\"] }",
            "is no origin",
        ),
        (
            "cors = { origins = [\"https://a.example\"], methods = [\"*\"], credentials = true }",
            "means nothing to browsers where credentials are sent",
        ),
    ] {
        with(keys).says(why);
    }
}
