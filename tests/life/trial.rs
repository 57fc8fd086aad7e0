//! `reload --confirm`: a configuration on trial goes by itself, at once when it does harm, unless it is confirmed.

use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use crate::harness::{
    Answer, Client, Gateway, Origin, Request, Setup, eventually, millis, reserve, seconds,
};

/// A route to an upstream, and one that says which configuration is in force.
fn text(version: &str, endpoint: &str, more: &str) -> String {
    format!(
        "[[listener]]\nname = \"public\"\naddress = \"{{listen}}\"\n\
         [upstream.api]\nendpoints = [{{ address = \"{endpoint}\" }}]\n\
         [limit.few]\nkey = \"client_ip\"\nalgorithm = \"token_bucket\"\nrate = \"1/m\"\nburst = 3\n\
         [[route]]\nid = \"version\"\npath = \"/version\"\nrespond = {{ text = \"{version}\" }}\n\
         [[route]]\nid = \"few\"\npath = \"/few\"\nrespond = {{ text = \"few\" }}\nlimits = [\"few\"]\n\
         [[route]]\nid = \"api\"\npath = \"/api\"\nupstream = \"api\"\n{more}"
    )
}

fn first(origin: &Origin) -> Setup {
    Gateway::with(&text("first", &origin.address().to_string(), ""))
}

fn version(client: &Client) -> String {
    client.get("/version").send().expect(200).text()
}

fn trials(gateway: &Gateway, result: &str) -> f64 {
    gateway.metric("gateway_config_trials_total", &[("result", result)])
}

#[test]
fn what_nobody_confirms_goes_by_itself_and_nothing_was_forgotten() {
    let origin = Origin::start();
    let gateway = first(&origin).start();
    let client = gateway.client();
    for _ in 0..2 {
        client.get("/few").send().expect(200);
    }
    let before = gateway.info()["config_hash"].clone();
    let address = origin.address().to_string();
    // Without the limit: what it counted must not be lost meanwhile.
    let second = text("second", &address, "");
    let (start, end) = (
        second.find("[limit").unwrap(),
        second.find("[[route]]").unwrap(),
    );
    let second = second
        .replace(&second[start..end], "")
        .replace("limits = [\"few\"]\n", "");
    gateway.rewrite(&second);
    let start = Instant::now();
    let ran = gateway.run_cli(&["reload"], &["--confirm", "1s"]);
    ran.expect(1)
        .says("nobody confirmed it in time")
        .says("on trial for 1");
    assert!(start.elapsed() < seconds(5));
    assert_eq!(version(&client), "first");
    let info = gateway.info();
    assert_eq!(info["config_hash"], before);
    assert_eq!(info["trial"]["state"], "expired");
    assert_eq!(info["last_reload"]["result"], "error");
    assert_eq!(trials(&gateway, "expired"), 1.0);
    // Three in all: the bucket was not filled again.
    client.get("/few").send().expect(200);
    client.get("/few").send().refused(429, "rate_limited");
}

#[test]
fn what_is_confirmed_stays() {
    let origin = Origin::start();
    let gateway = first(&origin).start();
    gateway
        .run_cli(&["confirm"], &[])
        .expect(1)
        .says("no configuration is on trial");
    gateway.rewrite(&text("second", &origin.address().to_string(), ""));
    let waiting = gateway
        .command(&["reload"], &["--confirm", "60s"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    eventually(seconds(10), "it is on trial", || {
        gateway.info()["trial"]["state"] == "running"
    });
    let client = gateway.client();
    assert_eq!(version(&client), "second");
    gateway
        .run_cli(&["status"], &[])
        .expect(0)
        .says("on trial for");
    gateway
        .run_cli(&["confirm"], &[])
        .expect(0)
        .says("confirmed");
    let waited = waiting.wait_with_output().unwrap();
    assert!(waited.status.success(), "{waited:?}");
    assert!(
        String::from_utf8_lossy(&waited.stdout).contains("version"),
        "{waited:?}"
    );
    assert_eq!(version(&client), "second");
    assert_eq!(trials(&gateway, "confirmed"), 1.0);
    gateway.run_cli(&["confirm"], &[]).expect(1);
}

/// Reloads on trial under traffic for `/api`; says how long it took until it was taken back, and what was said.
fn harmful(gateway: &Gateway, toml: &str) -> String {
    harmful_to(gateway, toml, |client| client.get("/api"))
}

/// The same under traffic of other requests for `/api`.
fn harmful_to(
    gateway: &Gateway,
    toml: &str,
    request: impl for<'c> Fn(&'c Client) -> Request<'c> + Sync,
) -> String {
    let client = gateway.client();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                let _ = request(&client).send();
            }
        });
        eventually(seconds(20), "there is something to compare with", || {
            let routes = gateway.admin_get("/api/v1/routes").json();
            let api = routes.as_array().unwrap().iter();
            let mut api = api.filter(|route| route["id"] == "api");
            let seen = api
                .next()
                .map(|route| route["last_5m"]["requests"].as_u64());
            seen.flatten() > Some(200)
        });
        gateway.rewrite(toml);
        let start = Instant::now();
        let ran = gateway.run_cli(&["reload"], &["--confirm", "60s"]);
        stop.store(true, Ordering::Relaxed);
        assert!(
            start.elapsed() < seconds(20),
            "it waited {:?}",
            start.elapsed()
        );
        ran.expect(1).says("because it got clearly worse").all()
    })
}

#[test]
fn what_does_harm_is_taken_back_at_once() {
    let origin = Origin::start();
    let gateway = first(&origin).start();
    // Nobody listens there.
    let said = harmful(&gateway, &text("second", &reserve().to_string(), ""));
    assert!(said.contains("api: 5xx answers 0.0 % -> "), "{said}");
    let client = gateway.client();
    assert_eq!(version(&client), "first");
    client.get("/api").send().expect(200);
    assert_eq!(trials(&gateway, "worse"), 1.0);
    let line = gateway.wait_for_log(|line| {
        line["msg"]
            .as_str()
            .is_some_and(|msg| msg.contains("is taken back"))
    });
    assert_eq!(line["level"], "error");
}

#[test]
fn refusing_whom_it_served_is_harm_too() {
    let origin = Origin::start();
    let gateway = first(&origin).start();
    let closed = "auth = [\"app\"]\n[auth.app]\ntype = \"jwt\"\nalgorithms = [\"HS256\"]\n\
                  secret = \"0123456789abcdef0123456789abcdef\"\n";
    let said = harmful(
        &gateway,
        &text("second", &origin.address().to_string(), closed),
    );
    assert!(said.contains("api: refusals 0.0 % -> "), "{said}");
    gateway.client().get("/api").send().expect(200);
    // A route that is gone is missed by all together.
    let gone = text("third", &origin.address().to_string(), "").replace("/api", "/elsewhere");
    let said = harmful(&gateway, &gone);
    assert!(said.contains("all routes: refusals "), "{said}");
}

fn deep(client: &Client) -> Request<'_> {
    let request = client
        .post("/api")
        .header("Content-Type", "application/json");
    request.body("[[[[]]]]")
}

#[test]
fn refusing_bodies_that_it_took_is_harm_too() {
    let origin = Origin::start();
    let address = origin.address().to_string();
    for before in ["", "json_depth = 4\n"] {
        let gateway = Gateway::with(&text("first", &address, before)).start();
        let said = harmful_to(
            &gateway,
            &text("second", &address, "json_depth = 3\n"),
            deep,
        );
        assert!(said.contains("api: refusals 0.0 % -> "), "{said}");
        deep(&gateway.client()).send().expect(200);
    }
}

#[test]
fn a_reload_meanwhile_takes_its_place_and_a_bad_one_does_not() {
    let origin = Origin::start();
    let gateway = first(&origin).start();
    let address = origin.address().to_string();
    let counted = || gateway.metric("gateway_config_reloads_total", &[]);
    let begin = |name: &str| {
        gateway.rewrite(&text(name, &address, ""));
        let before = counted();
        let waiting = gateway
            .command(&["reload"], &["--confirm", "60s"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        eventually(seconds(10), "it is on trial", || {
            let trial = &gateway.info()["trial"];
            trial["state"] == "running" && version(&gateway.client()) == name && counted() > before
        });
        waiting
    };
    let mut second = begin("second");
    gateway.rewrite("not toml at all");
    assert_eq!(gateway.reload()["result"], "error");
    assert_eq!(gateway.info()["trial"]["state"], "running");
    let first_hash = gateway.info()["trial"]["fallback_hash"].clone();
    // Another trial is measured against the same.
    let mut third = begin("third");
    assert_eq!(gateway.info()["trial"]["fallback_hash"], first_hash);
    assert_eq!(second.wait().unwrap().code(), Some(1));
    gateway.rewrite(&text("fourth", &address, ""));
    gateway.reload_ok();
    assert_eq!(third.wait().unwrap().code(), Some(1));
    assert_eq!(gateway.info()["trial"]["state"], "replaced");
    assert_eq!(version(&gateway.client()), "fourth");
    assert_eq!(trials(&gateway, "replaced"), 2.0);
}

#[test]
fn a_span_that_makes_no_sense_is_wrong_usage() {
    let gateway = first(&Origin::start()).start();
    gateway
        .run_cli(&["reload"], &["--confirm", "soon"])
        .expect(2);
    gateway
        .run_cli(&["reload"], &["--confirm", "1ms"])
        .expect(1)
        .says("between 1s and 24h");
}

/// Bad tokens, paths that nobody serves, rates beyond the limit, deadlines that nobody can meet: all of it would have been
/// so before the trial.
#[test]
fn what_anybody_can_cause_takes_no_trial_back() {
    let origin = Origin::answering(|_| Answer::text("late").after(millis(20)));
    let closed = "[[route]]\nid = \"flat\"\npath = \"/flat\"\nupstream = \"api\"\njson_depth = 3\n\
                  [[route]]\nid = \"closed\"\npath = \"/closed\"\nrespond = { text = \"in\" }\nauth = [\"app\"]\n\
                  [auth.app]\ntype = \"jwt\"\nalgorithms = [\"HS256\"]\n\
                  secret = \"0123456789abcdef0123456789abcdef\"\n";
    let address = origin.address().to_string();
    let gateway = Gateway::with(&text("first", &address, closed)).start();
    let client = gateway.client();
    for _ in 0..50 {
        client.get("/api").send().expect(200);
    }
    gateway.rewrite(&text("second", &address, closed));
    let mut waiting = gateway
        .command(&["reload"], &["--confirm", "60s"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    eventually(seconds(10), "it is on trial", || {
        gateway.info()["trial"]["state"] == "running" && version(&client) == "second"
    });
    let start = Instant::now();
    while start.elapsed() < seconds(4) {
        client.get("/closed").bearer("rubbish").send().expect(401);
        client.get("/nowhere").send().expect(404);
        let deep = client
            .post("/flat")
            .header("Content-Type", "application/json");
        deep.body("[[[[]]]]").send().expect(400);
        client.get("/few").send();
        let hurried = client.get("/api").header("X-Request-Deadline", 1).send();
        assert_eq!(hurried.code().as_deref(), Some("deadline_exceeded"));
        // Heads that nobody looks further at.
        for (head, status) in [
            ("GET / HTTP/3.0\r\n\r\n", 505),
            ("GET / HTTP/1.1\r\nHost: a\r\nExpect: x\r\n\r\n", 417),
        ] {
            let mut odd = client.connect();
            odd.write(head).unwrap();
            assert_eq!(odd.response("GET").unwrap().status, status);
        }
    }
    let trial = &gateway.info()["trial"];
    assert_eq!(trial["state"], "running", "{trial}");
    gateway.run_cli(&["confirm"], &[]).expect(0);
    assert!(waiting.wait().unwrap().success());
}
