//! `explain` tells what the gateway would do, and the gateway does it.

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};

use crate::harness::{Client, Connection, Gateway, Origin, Peer, admin_json, unix_now};

const SECRET: &str = "0123456789abcdef0123456789abcdef";

/// Routes of every kind. A proxied one names itself in `X-Route`, a static one in its text.
fn routes() -> String {
    let mut text = r#"
        [auth.app]
        type = "jwt"
        algorithms = ["HS256"]
        secret = "0123456789abcdef0123456789abcdef"
        [limit.two]
        key = "client_ip"
        algorithm = "token_bucket"
        rate = "1/m"
        burst = 2
        [upstream.api]
        endpoints = [{ address = "{origin}" }]
        [group.v1]
        prefix = "/v1"
        auth = ["app"]
    "#
    .to_owned();
    for (id, keys) in [
        ("tail", "path = \"/a/**\""),
        ("name", "path = \"/a/{x}\"\nrewrite = \"/named/{x}\""),
        ("literal", "path = \"/a/b\"\nmethods = [\"GET\", \"POST\"]"),
        ("stripped", "path = \"/users/{id}/**\"\nstrip_prefix = 1"),
        ("me", "path = \"/users/me\"\nmethods = [\"PUT\"]"),
        (
            "host",
            "path = \"/a/b\"\nhosts = [\"api.example.com\"]\nmethods = [\"GET\"]",
        ),
        (
            "star",
            "path = \"/**\"\nhosts = [\"*.example.com\"]\nheaders = { x-v = \"2\" }",
        ),
        (
            "header",
            "path = \"/a/{y}/c\"\nheaders = { x-v = \"~[0-9]+\" }",
        ),
        (
            "query",
            "path = \"/users/me\"\nquery = { debug = \"*\" }\nmethods = [\"GET\"]",
        ),
        ("cookie", "path = \"/b\"\ncookies = { stage = \"beta\" }"),
        ("closed", "path = \"/b/**\"\nauth = [\"app\"]"),
        (
            "claims",
            "path = \"/b/me\"\nauth = [\"app\"]\nrequire = { role = [\"admin\"] }",
        ),
        ("denied", "path = \"/c/**\"\ndeny_ips = [\"127.0.0.2\"]"),
        ("grouped", "group = \"v1\"\npath = \"/x/{y}\""),
        ("rest", "path = \"/c/me/{*rest}\"\nrewrite = \"/r/{rest}\""),
    ] {
        text.push_str(&format!("[[route]]\nid = \"{id}\"\n{keys}\nupstream = \"api\"\n[route.request]\nset = {{ X-Route = \"{id}\" }}\n"));
    }
    for (id, keys) in [
        ("static", "path = \"/static\""),
        ("static-post", "path = \"/static/**\"\nmethods = [\"POST\"]"),
    ] {
        text.push_str(&format!(
            "[[route]]\nid = \"{id}\"\n{keys}\nrespond = {{ status = 200, text = \"{id}\" }}\n"
        ));
    }
    text + "[[route]]\nid = \"limited\"\npath = \"/limited\"\nlimits = [\"two\"]\nrespond = { status = 200, text = \"limited\" }\n"
}

/// One request, as `explain` is asked about it and as it is sent.
struct Asked {
    method: String,
    host: String,
    target: String,
    headers: Vec<(String, String)>,
}

impl Asked {
    fn random(random: &mut StdRng, tokens: &[String]) -> Self {
        const SEGMENTS: [&str; 22] = [
            "a",
            "b",
            "c",
            "users",
            "me",
            "static",
            "v1",
            "x",
            "7",
            "x%20y",
            "%61",
            "%2e",
            "..",
            ".",
            "",
            "a;v=1",
            "%2f",
            "%00",
            "%zz",
            "%E4%BD%A0",
            "~",
            "a...",
        ];
        let depth = random.random_range(1..=4);
        let mut target: String = (0..depth)
            .map(|_| {
                // Mostly plain, so that most requests get somewhere.
                let pool = if random.random_bool(0.85) {
                    &SEGMENTS[..9]
                } else {
                    &SEGMENTS[..]
                };
                format!("/{}", pool.choose(random).unwrap())
            })
            .collect();
        for (share, query) in [
            (0.1, "?debug"),
            (0.1, "?x=1&debug=%20&y"),
            (0.1, "?a=/../%2f"),
        ] {
            if random.random_bool(share) && !target.contains('?') {
                target.push_str(query);
            }
        }
        let mut headers = Vec::new();
        let mut sometimes = |random: &mut StdRng, share: f64, name: &str, values: &[&str]| {
            if random.random_bool(share) {
                headers.push((
                    name.to_owned(),
                    (*values.choose(random).unwrap()).to_owned(),
                ));
            }
        };
        sometimes(random, 0.4, "X-V", &["1", "2", "x"]);
        sometimes(
            random,
            0.3,
            "Cookie",
            &["stage=beta", "stage=gamma", "a=b; stage=beta"],
        );
        let bearers: Vec<&str> = tokens.iter().map(String::as_str).collect();
        sometimes(random, 0.5, "Authorization", &bearers);
        let methods = [
            "GET", "GET", "GET", "POST", "PUT", "HEAD", "DELETE", "OPTIONS", "TRACE", "PURGE",
        ];
        let hosts = [
            "gateway.test",
            "api.example.com",
            "shop.example.com",
            "example.com",
            "API.example.com",
        ];
        Self {
            method: (*methods.choose(random).unwrap()).to_owned(),
            host: (*hosts.choose(random).unwrap()).to_owned(),
            target,
            headers,
        }
    }

    fn question(&self, ip: &str) -> Value {
        let url = format!("http://{}{}", self.host, self.target);
        json!({ "method": self.method, "url": url, "headers": self.headers, "ip": ip })
    }
}

/// What was served, in the words of `explain`.
fn served(client: &Client, connection: &mut Connection, asked: &Asked) -> Value {
    let response = connection
        .request(&asked.method, &asked.target)
        .host(&asked.host)
        .headers(&asked.headers)
        .send();
    if response
        .header("connection")
        .is_some_and(|v| v.eq_ignore_ascii_case("close"))
    {
        *connection = client.connect();
    }
    if response.status != 200 {
        // A HEAD has no body to name the code in; its log line has, and GET is asked often enough.
        return json!({ "status": response.status, "decision": response.code() });
    }
    match response.header("x-origin") {
        Some(_) if asked.method == "HEAD" => json!({ "status": 200, "decision": "forward" }),
        Some(_) => {
            let seen = response.seen();
            json!({ "status": 200, "decision": "forward", "route": seen.header("x-route"), "path": seen.target })
        }
        None if asked.method == "HEAD" => json!({ "status": 200, "decision": "respond" }),
        None => json!({ "status": 200, "decision": "respond", "route": response.text() }),
    }
}

fn agree(asked: &Asked, explained: &Value, served: &Value) {
    for (field, value) in served.as_object().unwrap() {
        if field == "status" || value.is_null() {
            continue;
        }
        assert_eq!(
            &explained[field], value,
            "{field} of {} {} {} {:?}: explained {explained}, served {served}",
            asked.method, asked.host, asked.target, asked.headers
        );
    }
}

#[test]
fn ten_thousand_random_requests_are_served_as_explained() {
    let origin = Origin::start();
    let gateway = Gateway::with(&routes()).to(&origin).start();
    let exp = unix_now() + 600;
    let tokens = [
        format!(
            "Bearer {}",
            Peer::token(
                "HS256",
                SECRET,
                &json!({ "sub": "u", "exp": exp, "role": "admin" })
            )
        ),
        format!(
            "Bearer {}",
            Peer::token(
                "HS256",
                SECRET,
                &json!({ "sub": "u", "exp": exp, "role": "reader" })
            )
        ),
        format!(
            "Bearer {}",
            Peer::token("HS256", SECRET, &json!({ "sub": "u", "exp": 1 }))
        ),
        "Bearer nonsense".to_owned(),
    ];
    let one_share = |seed: u64| {
        let mut random = StdRng::seed_from_u64(seed);
        let mut decisions = std::collections::BTreeMap::new();
        let ip = ["127.0.0.1", "127.0.0.2"][seed as usize % 2];
        let client = gateway.client().from(1 + (seed % 2) as u8);
        let (mut admin, mut public) = (gateway.admin().connect(), client.connect());
        for _ in 0..2_500 {
            let asked = Asked::random(&mut random, &tokens);
            let explained = admin_json(admin.post("/api/v1/explain"), &asked.question(ip))
                .send()
                .expect(200)
                .json();
            agree(&asked, &explained, &served(&client, &mut public, &asked));
            *decisions
                .entry(explained["decision"].as_str().unwrap().to_owned())
                .or_insert(0) += 1;
        }
        decisions
    };
    let decisions = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4)
            .map(|seed| scope.spawn(move || one_share(seed)))
            .collect();
        threads
            .into_iter()
            .map(|t| t.join().unwrap())
            .collect::<Vec<_>>()
    });
    // The dice reached every kind of answer.
    for decision in [
        "forward",
        "respond",
        "route_not_found",
        "method_not_allowed",
        "path_ambiguous",
        "token_missing",
        "token_invalid",
        "token_expired",
        "claims_denied",
        "ip_denied",
    ] {
        assert!(
            decisions.iter().any(|d| d.contains_key(decision)),
            "{decision} in {decisions:?}"
        );
    }
}

fn explained(gateway: &Gateway, args: &[&str]) -> Value {
    let mut all = args.to_vec();
    all.push("--json");
    gateway.run_cli(&["explain"], &all).expect(0).json()
}

#[test]
fn the_command_line_explains_without_a_running_gateway() {
    let origin = Origin::start();
    let gateway = Gateway::with(&routes()).to(&origin).start();
    gateway.signal(nix::sys::signal::Signal::SIGKILL);
    gateway.wait_exit(crate::harness::seconds(5));
    let token = format!(
        "Authorization: Bearer {}",
        Peer::token(
            "HS256",
            SECRET,
            &json!({ "sub": "u", "exp": unix_now() + 60 })
        )
    );
    for (args, route, decision, path) in [
        (&["GET", "/a/b"][..], json!("literal"), "forward", "/a/b"),
        (
            &["GET", "/a/./%62?x=%2f"],
            json!("literal"),
            "forward",
            "/a/b?x=%2f",
        ),
        (&["GET", "/a/zz?q"], json!("name"), "forward", "/named/zz?q"),
        (
            &["GET", "http://api.example.com/a/b"],
            json!("host"),
            "forward",
            "/a/b",
        ),
        (&["GET", "/users/7/x"], json!("stripped"), "forward", "/7/x"),
        (&["GET", "/static"], json!("static"), "respond", ""),
        (&["GET", "/b/x"], json!("closed"), "token_missing", ""),
        (
            &["GET", "/b/x", "-H", &token],
            json!("closed"),
            "forward",
            "/b/x",
        ),
        (
            &["GET", "/b/me", "-H", &token],
            json!("claims"),
            "claims_denied",
            "",
        ),
        (&["GET", "/c/x"], json!("denied"), "forward", "/c/x"),
        (
            &["GET", "/c/x", "--ip", "127.0.0.2"],
            json!("denied"),
            "ip_denied",
            "",
        ),
        (
            &["DELETE", "/static/x"],
            Value::Null,
            "method_not_allowed",
            "",
        ),
        (
            &["GET", "/nowhere/at/all"],
            Value::Null,
            "route_not_found",
            "",
        ),
        (&["GET", "/a%2fb"], Value::Null, "path_ambiguous", ""),
    ] {
        let answer = explained(&gateway, args);
        assert_eq!(answer["decision"], decision, "{args:?}: {answer}");
        if decision != "method_not_allowed" {
            assert_eq!(answer["route"], route, "{args:?}: {answer}");
        }
        if decision == "forward" {
            assert_eq!(answer["path"], path, "{args:?}: {answer}");
        }
    }
}

#[test]
fn an_explanation_names_rule_steps_and_candidates() {
    let origin = Origin::start();
    let gateway = Gateway::with(&routes()).to(&origin).start();
    let answer = explained(&gateway, &["GET", "/b/me"]);
    let steps = answer["steps"].as_array().unwrap();
    assert!(
        !steps.is_empty()
            && steps
                .to_vec()
                .iter()
                .any(|s| s.to_string().contains("token_missing")),
        "{answer}"
    );
    let line = std::fs::read_to_string(gateway.config())
        .unwrap()
        .lines()
        .position(|l| l.contains("\"claims\""))
        .unwrap()
        + 1;
    let named =
        (line - 1..=line).any(|n| answer.to_string().contains(&format!("tollgate.toml:{n}")));
    assert!(named, "the route is at line {line}: {answer}");
    let forward = explained(&gateway, &["GET", "/a/b"]).to_string();
    assert!(forward.contains(&origin.address().to_string()), "{forward}");
    let text = gateway
        .run_cli(&["explain"], &["GET", "/a/b"])
        .expect(0)
        .stdout;
    for word in [
        "literal",
        "tollgate.toml:",
        "/a/b",
        &origin.address().to_string(),
    ] {
        assert!(text.contains(word), "{word} in {text}");
    }
}

#[test]
fn a_miss_names_the_nearest_routes_and_why_they_lost() {
    let origin = Origin::start();
    let gateway = Gateway::with(&routes()).to(&origin).start();
    for args in [
        &["GET", "/statics"][..],
        &["GET", "/users/me"],
        &["GET", "/b"],
        &["DELETE", "/static/x"],
    ] {
        let text = gateway.run_cli(&["explain"], args).expect(0).stdout;
        let near = match args[1] {
            "/statics" => "static",
            "/users/me" => "query",
            "/b" => "cookie",
            _ => "static-post",
        };
        if text.contains("not_found") || text.contains("method_not_allowed") {
            assert!(text.contains(near), "{args:?}: {near} in {text}");
        }
    }
    let answer = explained(&gateway, &["GET", "/statics"]);
    assert_eq!(answer["decision"], "route_not_found");
    assert!(answer.to_string().contains("\"static\""), "{answer}");
}

#[test]
fn an_explanation_takes_nothing() {
    let origin = Origin::start();
    let gateway = Gateway::with(&routes()).to(&origin).start();
    let ask = || {
        let question = json!({ "method": "GET", "url": "/limited", "ip": "127.0.0.1" });
        gateway
            .admin_post("/api/v1/explain", &question)
            .expect(200)
            .json()["decision"]
            .clone()
    };
    for _ in 0..5 {
        assert_eq!(ask(), "respond");
    }
    gateway.client().get("/limited").send().expect(200);
    gateway.client().get("/limited").send().expect(200);
    assert_eq!(ask(), "rate_limited", "the live counters are looked at");
    gateway
        .client()
        .get("/limited")
        .send()
        .refused(429, "rate_limited");
    let other = json!({ "method": "GET", "url": "/limited", "ip": "127.0.0.3" });
    assert_eq!(
        gateway
            .admin_post("/api/v1/explain", &other)
            .expect(200)
            .json()["decision"],
        "respond"
    );
    assert_eq!(origin.count(), 0);
    gateway.wait_for_metric("gateway_requests_by_route_total", &[], 3.0);
}
