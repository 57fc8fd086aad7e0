//! The last good answer, and nobody else's.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use serde_json::json;

use super::{Falls, get};
use crate::harness::{Answer, Gateway, Origin, Seen, Setup, tollgate, ways};

const SECRET: &str = "0123456789abcdef0123456789abcdef";

/// An origin that answers as `script` says, until it fails.
struct Failing {
    origin: Origin,
    fails: Arc<AtomicBool>,
}

impl Failing {
    fn after(script: impl Fn(&Seen) -> Answer + Send + Sync + 'static) -> Self {
        let fails = Arc::new(AtomicBool::new(false));
        let failing = Arc::clone(&fails);
        let origin = Origin::answering(move |seen| match failing.load(Ordering::SeqCst) {
            true => Answer::status(503),
            false => script(seen),
        });
        Self { origin, fails }
    }

    fn fail(&self) {
        self.fails.store(true, Ordering::SeqCst);
    }
}

fn with(origin: &Origin, fallback: &str) -> Setup {
    let secret = format!("secret = \"{SECRET}\"");
    Gateway::with(
        "[upstream.api]\nendpoints = [{ address = \"{origin}\" }]\n[upstream.api.retry]\nattempts = 0\n\
         [auth.app]\ntype = \"jwt\"\nalgorithms = [\"HS256\"]\n",
    )
    .append(&secret)
    .append("\n[[route]]\nid = \"r\"\npath = \"/**\"\nupstream = \"api\"\n")
    .append(fallback)
    .to(origin)
}

/// A route for each way that keeps its last good answer.
fn on_every_way(origin: &Origin) -> Gateway {
    Falls {
        api: Some(origin),
        fallback: "on = [\"503\", \"no_endpoint\"]\nlast_good = {}\n",
        ..Falls::default()
    }
    .start()
}

const KEPT: &str = "fallback = { on = [\"503\", \"no_endpoint\"], last_good = {} }\n";

fn token(subject: &str) -> String {
    token_of("one", subject)
}

fn token_of(issuer: &str, subject: &str) -> String {
    let output = tollgate()
        .args([
            "token",
            "--secret",
            SECRET,
            "--claim",
            &format!("sub={subject}"),
            "--claim",
            &format!("iss={issuer}"),
        ])
        .output()
        .unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[test]
fn comes_back_on_every_way_however_the_body_came() {
    let failing = Failing::after(|seen| match seen.target.as_str() {
        "/chunked" => Answer::chunked(&["one ", "two"]),
        "/large" => Answer::text(vec![b'x'; 60_000]),
        _ => Answer::text("one two")
            .header("X-Kept", "yes")
            .header("Content-Type", "text/plain"),
    });
    let gateway = on_every_way(&failing.origin);
    let client = gateway.client();
    for way in ways() {
        for target in ["/sized?a=1", "/chunked", "/large"] {
            let good = get(&client, way, target).send().expect(200);
            assert_eq!(good.header("X-Fallback"), None);
        }
    }
    failing.fail();
    for way in ways() {
        let trace = format!("kept-{way}");
        let kept = get(&client, way, "/sized?a=1").header("X-Trace-ID", &trace);
        let kept = kept.send().expect(200);
        assert_eq!(kept.text(), "one two");
        assert_eq!(kept.header("X-Fallback"), Some("last_good"));
        assert_eq!(
            (kept.header("X-Kept"), kept.header("Content-Type")),
            (Some("yes"), Some("text/plain"))
        );
        assert!(kept.number("Age") < 20);
        let text = |target: &str| get(&client, way, target).send().expect(200).text();
        assert_eq!(text("/chunked"), "one two", "{way}");
        assert_eq!(text("/large").len(), 60_000, "{way}");
        // Another question has no answer yet.
        get(&client, way, "/sized?a=2").send().expect(503);
        let line = gateway.access_line(&trace);
        assert_eq!(line["fallback"], "last_good", "{line}");
        let head = client.request("HEAD", &format!("/{way}/sized?a=1"));
        let head = head.send().expect(200);
        assert_eq!(
            (head.header("X-Fallback"), head.number("Content-Length")),
            (Some("last_good"), 7)
        );
        let post = client.post(&format!("/{way}/sized?a=1"));
        post.body("x").send().expect(503);
    }
}

#[test]
fn what_belongs_to_somebody_is_not_kept() {
    let count = AtomicUsize::new(0);
    let failing = Failing::after(move |seen| {
        let answer = Answer::text(format!("number {}", count.fetch_add(1, Ordering::SeqCst)));
        match seen.target.as_str() {
            "/cookie" => answer.header("Set-Cookie", "session=1"),
            "/private" => answer.header("Cache-Control", "private"),
            "/no-store" => answer.header("Cache-Control", "no-store"),
            "/star" => answer.header("Vary", "*"),
            "/language" => answer.header("Vary", "Accept-Language"),
            _ => answer,
        }
    });
    let gateway = on_every_way(&failing.origin);
    let client = gateway.client();
    let theirs = ["/cookie", "/private", "/no-store", "/star"];
    let mut german = Vec::new();
    for way in ways() {
        for target in theirs {
            get(&client, way, target).send().expect(200);
        }
        let authorized = get(&client, way, "/authorized").bearer("secret-of-anna");
        authorized.send().expect(200);
        let cookie = get(&client, way, "/with-cookie").header("Cookie", "session=anna");
        cookie.send().expect(200);
        let answer = get(&client, way, "/language").header("Accept-Language", "de");
        german.push(answer.send().expect(200).text());
    }
    failing.fail();
    for (way, german) in ways().into_iter().zip(german) {
        for target in theirs {
            get(&client, way, target).send().expect(503);
        }
        get(&client, way, "/authorized").send().expect(503);
        let authorized = get(&client, way, "/authorized").bearer("secret-of-anna");
        authorized.send().expect(503);
        get(&client, way, "/with-cookie").send().expect(503);
        let french = get(&client, way, "/language").header("Accept-Language", "fr");
        french.send().expect(503);
        get(&client, way, "/language").send().expect(503);
        let again = get(&client, way, "/language").header("Accept-Language", "de");
        assert_eq!(again.send().expect(200).text(), german, "{way}");
    }
}

#[test]
fn each_consumer_gets_its_own_and_the_filters_are_asked_first() {
    let failing =
        Failing::after(|seen| Answer::text(format!("for {}", seen.header("X-Consumer").unwrap())));
    let fallback =
        "auth = [\"app\"]\n[route.fallback]\non = [\"503\"]\nlast_good = { per = \"consumer\" }\n";
    let gateway = with(&failing.origin, fallback).start();
    let (anna, bert) = (token("anna"), token("bert"));
    let ask = |token: &str| gateway.client().get("/me").bearer(token).send();
    assert_eq!(ask(&anna).expect(200).text(), "for anna");
    failing.fail();
    let kept = ask(&anna).expect(200);
    assert_eq!(
        (kept.text().as_str(), kept.header("X-Fallback")),
        ("for anna", Some("last_good"))
    );
    ask(&bert).expect(503);
    gateway
        .client()
        .get("/me")
        .send()
        .refused(401, "token_missing");
    ask(&format!("{anna}x")).refused(401, "token_invalid");
}

#[test]
fn comes_before_the_fixed_answer_and_after_another_upstream() {
    let failing = Failing::after(|_| Answer::text("kept"));
    let gateway = with(&failing.origin, "[route.fallback]\non = [\"503\", \"no_endpoint\"]\nlast_good = {}\njson = { none = true }\n").start();
    gateway.client().get("/a").send().expect(200);
    failing.fail();
    assert_eq!(gateway.client().get("/a").send().expect(200).text(), "kept");
    assert_eq!(
        gateway.client().get("/b").send().expect(200).json(),
        json!({ "none": true })
    );
    failing.origin.kill();
    assert_eq!(gateway.client().get("/a").send().expect(200).text(), "kept");
    let routes = gateway.admin_get("/api/v1/routes").json();
    assert_eq!(
        routes[0]["policy"]["fallback"]["kept_answers"], 1,
        "{routes}"
    );
}

#[test]
fn survives_a_reload_of_the_same_route() {
    let failing = Failing::after(|_| Answer::text("kept"));
    let gateway = with(&failing.origin, KEPT).start();
    gateway.client().get("/a").send().expect(200);
    gateway.reload_ok();
    failing.fail();
    assert_eq!(gateway.client().get("/a").send().expect(200).text(), "kept");
    // To another path of the upstream the same question is another one.
    let text = std::fs::read_to_string(gateway.config()).unwrap();
    gateway.rewrite(&text.replace(
        "upstream = \"api\"\n",
        "upstream = \"api\"\nrewrite = \"/other/**\"\n",
    ));
    gateway.reload_ok();
    gateway.client().get("/a").send().expect(503);
}

#[test]
fn is_not_for_those_whom_another_issuer_gives_the_same_names() {
    let failing = Failing::after(|_| Answer::text("of one"));
    let fallback =
        "auth = [\"app\"]\n[route.fallback]\non = [\"503\"]\nlast_good = { per = \"consumer\" }\n";
    let gateway = with(&failing.origin, fallback).start();
    let text = std::fs::read_to_string(gateway.config()).unwrap();
    let of = |issuer: &str| {
        let issuer = format!("algorithms = [\"HS256\"]\nissuer = \"{issuer}\"\n");
        gateway.rewrite(&text.replace("algorithms = [\"HS256\"]\n", &issuer));
        gateway.reload_ok();
    };
    let ask = |issuer: &str| {
        let token = token_of(issuer, "anna");
        gateway.client().get("/me").bearer(&token).send()
    };
    of("one");
    assert_eq!(ask("one").expect(200).text(), "of one");
    failing.fail();
    assert_eq!(ask("one").expect(200).text(), "of one");
    of("two");
    ask("two").expect(503);
}
