//! The operator's side: probes and metrics for everybody, the rest for who has the token or the socket.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use tollgate::api;

use crate::harness::{
    ADMIN_TOKEN, Client, Folder, Gateway, Origin, Ran, admin_json, eventually, reserve, seconds,
};

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
    let admin = Client::to_admin(address);
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

#[test]
fn over_tcp_it_is_asked_by_an_address_or_by_a_name_of_its_own() {
    let address = reserve();
    let admin = |hosts: &str| {
        format!(
            "{ROUTES}\n[admin]\naddress = \"{address}\"\ntoken = \"{ADMIN_TOKEN}\"\nhosts = {hosts}\n"
        )
    };
    let origin = Origin::start();
    let gateway = Gateway::with(&admin("[\"Gate.internal.\", \"*.mesh.internal\"]"));
    let gateway = gateway.to(&origin).start();
    let client = Client::to_admin(address);
    let port = address.port();
    let ask = |path: &str, host: &str| {
        let request = client.get(path).bearer(ADMIN_TOKEN).host(host);
        request.send().status
    };
    for path in ["/livez", "/readyz", "/info", "/metrics", "/api/v1/routes"] {
        for host in [
            "127.0.0.1",
            "10.9.8.7:1",
            "[::1]",
            "[2001:db8::1]:9900",
            "localhost",
            "LOCALHOST.:80",
            "gate.internal",
            "GATE.internal.:9900",
            "a.mesh.internal",
            &format!("gate.internal:{port}"),
        ] {
            assert_eq!(ask(path, host), 200, "{path} {host}");
        }
        for host in [
            "rebound.example",
            "rebound.example:9900",
            "127.0.0.1.example",
            "localhost.example",
            "mesh.internal",
            "gate.internal.example",
            "2130706433",
            "0x7f.1",
            "admin",
        ] {
            assert_eq!(ask(path, host), 421, "{path} {host}");
        }
    }
    // A proxy's form of the target names the host as well.
    let absolute = client
        .get("http://rebound.example/info")
        .host("rebound.example");
    assert_eq!(absolute.send().status, 421);
    // HTTP/1.0 need not say a name, and no browser speaks it.
    let outcome = client.raw("GET /readyz HTTP/1.0\r\n\r\n");
    assert_eq!(outcome.status(), 200);
    // The socket has no names.
    assert_eq!(gateway.over_socket("GET", "/info", b"").unwrap().0, 200);
    gateway.rewrite(&admin("[\"rebound.example\"]"));
    let reloaded = admin_json(client.post("/api/v1/reload"), &json!({})).send();
    assert_eq!(reloaded.status, 200, "{reloaded:?}");
    assert_eq!(
        (
            ask("/info", "rebound.example"),
            ask("/info", "gate.internal")
        ),
        (200, 421)
    );
}

#[test]
fn names_of_the_admin_listener_are_checked() {
    for (hosts, wrong) in [
        ("[\"gate:9900\"]", "without a port"),
        ("[\"*\"]", "is no host"),
        ("[\"\"]", "is no host"),
        ("\"gate\"", "expected a list"),
    ] {
        let text = format!(
            "[[listener]]\naddress = \"127.0.0.1:8080\"\n[admin]\naddress = \"127.0.0.1:9900\"\nhosts = {hosts}\n"
        );
        let ran = Folder::with(&text).check().expect(1);
        ran.says("tollgate.toml:5:").says(wrong);
    }
    let text = "[[listener]]\naddress = \"127.0.0.1:8080\"\n[admin]\nhosts = [\"gate\"]\n";
    Folder::with(text)
        .check()
        .expect(1)
        .says("mean nothing without `address`");
}

#[test]
fn a_token_of_no_bytes_is_a_problem_and_opens_nothing() {
    let text = |token: &str| {
        format!(
            "[[listener]]\naddress = \"127.0.0.1:8080\"\n[admin]\naddress = \"127.0.0.1:9900\"\ntoken = \"{token}\"\n"
        )
    };
    for token in ["", "env:EMPTY"] {
        let folder = Folder::with(&text(token));
        let mut command = folder.command(&["check"], &[]);
        let ran = Ran::of(command.env("EMPTY", "\n")).expect(1);
        ran.says("tollgate.toml:5:")
            .says("admin.token")
            .says("is empty");
    }
}

#[test]
fn who_is_refused_is_refused_before_the_body() {
    let (_origin, gateway) = start();
    let head = |path: &str, more: &str| {
        format!("POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1000000\r\n{more}\r\n")
    };
    for (path, more, status) in [
        ("/api/v1/explain", "", 401),
        ("/api/v1/explain", "Authorization: Bearer x\r\n", 401),
        ("/api/v1/explain", "Expect: 100-continue\r\n", 401),
        ("/livez", "", 405),
        ("/nothing", "", 405),
    ] {
        // The body never comes: an answer can only be due to the head.
        let mut connection = gateway.admin().connect();
        connection.patience(seconds(5));
        connection.write(head(path, more)).unwrap();
        let response = connection.response("POST").unwrap();
        assert_eq!(
            (response.status, &*response.interim),
            (status, &[][..]),
            "{path} {more}"
        );
    }
    let mut connection = gateway.admin().connect();
    connection
        .write(head("/info", "").replace("127.0.0.1", "rebound.example"))
        .unwrap();
    assert_eq!(connection.response("POST").unwrap().status, 421);
    // Who may ask is told when the body is too long.
    let long = vec![b' '; (1 << 20) + 1];
    let told = gateway
        .admin()
        .post("/api/v1/explain")
        .bearer(ADMIN_TOKEN)
        .body(&long)
        .send();
    assert_eq!(told.status, 413, "{told:?}");
}

/// Listens at a path as another user, and notes whether it was sent anything.
const IMPOSTOR: &str = r#"
import socket, sys, json
listener = socket.socket(socket.AF_UNIX)
listener.bind(sys.argv[1] + "/admin.sock")
listener.listen()
print("listening", flush=True)
body = json.dumps({"config_file": sys.argv[2], "version": "impostor"}).encode()
while True:
    peer, _ = listener.accept()
    asked = piece = peer.recv(4096)
    while piece and b"\r\n\r\n" not in asked:
        piece = peer.recv(4096)
        asked += piece
    if asked:
        print("asked", flush=True)
        peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
    peer.close()
"#;

#[test]
fn a_socket_found_by_searching_must_be_the_caller_s_or_root_s() {
    use std::os::unix::process::CommandExt;
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let folder = Folder::with("[server]\nruntime_dir = \"{dir}/nowhere\"\nthread = 1\n");
    let theirs = tempfile::Builder::new().prefix("tg").tempdir().unwrap();
    fs::set_permissions(theirs.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let said = theirs.path().join("said");
    let mut command = Command::new("python3");
    command
        .args(["-c", IMPOSTOR])
        .arg(theirs.path())
        .arg(folder.config())
        .stdout(fs::File::create(&said).unwrap());
    let _impostor = Ended(command.uid(65_534).gid(65_534).spawn().unwrap());
    let said = || fs::read_to_string(&said).unwrap();
    eventually(seconds(10), "it listens", || said().contains("listening"));
    let status = folder.run(&["status"], &[]);
    status.expect(1).says("thread").never_says("impostor");
    assert_eq!(said(), "listening\n");
    // What the configuration names may be asked by root, whoever owns it, also while the rest is broken.
    let named = format!(
        "[server]\nruntime_dir = \"{}\"\nthread = 1\n",
        theirs.path().display()
    );
    fs::write(folder.config(), named).unwrap();
    folder.run(&["status"], &[]).expect(0).says("impostor");
}

#[test]
fn a_gateway_is_found_when_its_file_is_broken() {
    let gateway = Gateway::with(ROUTES).fill("origin", "127.0.0.1:9").start();
    gateway.write("tollgate.toml", "nonsense = 1\n");
    gateway.run_cli(&["status"], &[]).expect(0).says("ready");
}

/// Everything that has a place in an answer of the API.
const EVERYTHING: &str = r#"
[auth.partner]
type = "signature"
scheme = "ca"
[auth.partner.apps."app-1"]
secret = "a secret that is long enough for anybody"
[limit.few]
key = "client_ip"
algorithm = "token_bucket"
rate = "1000/s"
[upstream.api]
endpoints = [{ address = "{origin}" }, { address = "127.0.0.1:9", backup = true }]
balance = "score"
[upstream.api.breaker]
[upstream.api.concurrency]
max = 50
[upstream.api.hedge]
[upstream.next]
endpoints = [{ address = "{origin}" }]
[[route]]
id = "all"
path = "/api/**"
split = [{ upstream = "api" }, { upstream = "next", weight = 1 }]
limits = ["few"]
breaker = {}
mirror = { upstream = "next", share = "50%" }
[route.fallback]
[route.fallback.last_good]
[[route]]
id = "signed"
path = "/signed"
auth = ["partner"]
upstream = "next"
"#;

/// Reads an answer into its type, and expects that nothing of it is left out: written again it is the same.
fn whole<T: Serialize + DeserializeOwned>(answer: &Value) -> T {
    let read: T =
        serde_json::from_value(answer.clone()).unwrap_or_else(|e| panic!("{e}: {answer}"));
    assert_eq!(&serde_json::to_value(&read).unwrap(), answer);
    read
}

#[test]
fn every_answer_is_read_whole_into_its_type() {
    let origin = Origin::start();
    let gateway = Gateway::with(EVERYTHING).own_program().to(&origin).start();
    gateway.client().get("/api/x").send().expect(200);
    gateway.reload_ok();
    let get = |path: &str| gateway.admin_get(path).json();
    let post = |path: &str, body: Value| gateway.admin_post(path, &body).json();

    whole::<api::HealthStatus>(&get("/livez"));
    whole::<api::HealthStatus>(&get("/readyz"));
    let verbose: api::HealthStatus = whole(&get("/readyz?verbose"));
    assert_eq!(verbose.checks.unwrap().len(), 4);
    let info: api::Info = whole(&get("/info"));
    assert!(
        info.auth_buffer.is_some() && info.last_reload.is_some(),
        "{info:?}"
    );
    let routes: Vec<api::RouteStatus> = whole(&get("/api/v1/routes"));
    let all = routes.iter().find(|route| route.route.id == "all").unwrap();
    let policy = &all.route.policy;
    assert!(
        all.breaker.is_some()
            && policy.sides.as_ref().unwrap()[0].weight == Some(1)
            && policy.fallback.as_ref().unwrap().kept_answers.is_some()
            && policy.mirror.is_some(),
        "{all:?}"
    );
    let upstreams: Vec<api::UpstreamStatus> = whole(&get("/api/v1/upstreams"));
    let upstream = upstreams.iter().find(|one| one.name == "api").unwrap();
    assert!(
        upstream.breaker.is_some()
            && upstream.concurrency.is_some()
            && upstream.hedge_after_ms.is_some(),
        "{upstream:?}"
    );
    let limits: Vec<api::LimitStatus> = whole(&get("/api/v1/limits"));
    assert_eq!(limits[0].allowed, 1);
    whole::<api::Headroom>(&get("/api/v1/headroom"));
    whole::<api::Failure>(&get("/api/v1/trial"));
    whole::<api::Failure>(&post("/api/v1/confirm", json!({})));

    for question in [
        json!({ "method": "GET", "url": "/api/x" }),
        json!({ "method": "GET", "url": "/nowhere" }),
        json!({ "method": "GET", "url": "/signed" }),
        json!({ "method": "GET", "url": "/a/%2e%2e/../.." }),
    ] {
        whole::<api::Explanation>(&post("/api/v1/explain", question));
    }
    let admin = gateway.admin();
    let level = admin_json(
        admin.request("PUT", "/api/v1/routes/all/level"),
        &json!({ "level": "lean", "for": "5m" }),
    );
    let level: api::LevelSet = whole(&level.send().expect(200).json());
    assert!(level.level.left_seconds.is_some(), "{level:?}");
    let side: api::SideSet = whole(&post("/api/v1/routes/all/sides/next/stop", json!({})));
    assert!(side.side.stopped.is_some(), "{side:?}");
    whole::<Vec<api::RouteStatus>>(&get("/api/v1/routes"));
    let drain = format!("/api/v1/upstreams/api/endpoints/{}/drain", origin.address());
    whole::<api::EndpointSet>(&post(&drain, json!({})));
    whole::<Vec<api::UpstreamStatus>>(&get("/api/v1/upstreams"));

    whole::<api::ReloadReport>(&post("/api/v1/reload", json!({})));
    whole::<api::ReloadReport>(&post("/api/v1/reload?confirm=1m", json!({})));
    let trial: api::TrialReport = whole(&get("/api/v1/trial"));
    assert_eq!(trial.state, "running");
    whole::<api::Info>(&get("/info"));
    whole::<api::TrialReport>(&post("/api/v1/confirm", json!({})));
    gateway.replace_program(Some("#!/bin/sh\nexit 1\n"));
    let upgrade: api::UpgradeReport = whole(&post("/api/v1/upgrade", json!({})));
    assert_eq!(upgrade.result, "error");
    whole::<api::Info>(&get("/info"));
}

/// The file of a gateway that answers in [`pretends`] alone.
const PRETENDED: &str = r#"
[server]
runtime_dir = "{dir}"
[[listener]]
name = "public"
address = "127.0.0.1:1"
[[route]]
path = "/"
respond = { status = 200 }
"#;

/// A gateway that answers from a table, one connection at a time, until it is dropped.
fn pretends(folder: &Folder, answer: impl Fn(&str) -> Value + Send + 'static) {
    let listener =
        std::os::unix::net::UnixListener::bind(folder.path().join("admin.sock")).unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut line = String::new();
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            reader.read_line(&mut line).unwrap();
            let body = answer(line.split(' ').nth(1).unwrap_or_default()).to_string();
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
            let _ = stream.write_all((head + &body).as_bytes());
        }
    });
}

#[test]
fn answers_of_a_newer_gateway_and_of_an_older_one_are_read() {
    let folder = Folder::with(PRETENDED);
    pretends(&folder, |path| match path {
        "/info" => json!({
            "version": "9.0.0", "commit": "abc", "pid": 7, "news": { "of": ["a", "later", "version"] },
            "last_reload": { "result": "postponed", "at": "some time", "by": "whom" },
        }),
        "/api/v1/routes" => json!([
            { "id": "old" },
            { "id": "new", "shape": 7, "policy": { "level": { "level": "half", "operator": "half", "why": {} } },
              "last_10s": { "rate": 3.5, "p50_ms": 1, "p9999_ms": 2 } },
        ]),
        "/api/v1/upstreams" => json!([{
            "name": "u", "balance": "by_the_moon", "quic": true, "breaker": { "state": "ajar", "hinge": 1 },
            "endpoints": [{ "endpoint": "a:1", "weight": 2, "effective_weight": 0.5, "state": "asleep", "zone": "z" }],
        }]),
        _ => json!([]),
    });
    let mut status = folder.run(&["status"], &[]).expect(0);
    for words in [
        "tollgate 9.0.0 (abc), pid 7",
        "last reload postponed at some time",
        "new                                    0        3.5",
        "LEVEL half of new",
        "UPSTREAM u  by_the_moon",
        "breaker ajar: 0 of 0 calls failed",
        "asleep   weight 2, now 0.5",
    ] {
        status = status.says(words);
    }
    status.never_says("not understood");
    // What is only passed on is passed on whole.
    folder
        .run(&["status", "--json"], &[])
        .expect(0)
        .says("p9999_ms");
}

#[test]
fn an_answer_that_is_not_understood_is_told_of_and_the_rest_is_shown() {
    let folder = Folder::with(PRETENDED);
    pretends(&folder, |path| match path {
        "/info" => json!({ "version": "9.0.0" }),
        "/api/v1/routes" => json!({ "by_name": {} }),
        _ => json!([]),
    });
    let status = folder.run(&["status"], &[]).expect(0);
    status
        .says("tollgate 9.0.0")
        .says("GET /api/v1/routes is not understood");
}

/// Ends with the test.
struct Ended(std::process::Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
