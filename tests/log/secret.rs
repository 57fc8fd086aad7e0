//! Masks and canaries: what must not be found in any output.

use nix::sys::signal::Signal;
use serde_json::json;

use crate::harness::{Gateway, Origin, Peer, Signed, unix_now};

const CONFIG: &str = r#"
[auth.app]
type = "jwt"
algorithms = ["HS256"]
secret = "env:JWT_SECRET"
[auth.partner]
type = "signature"
scheme = "ca"
[auth.partner.apps]
"app-1" = { secret = "canary-app-secret", previous_secret = "canary-old-secret" }
[upstream.api]
endpoints = [{ address = "{origin}" }]
[[route]]
id = "open"
path = "/open/**"
upstream = "api"
[[route]]
id = "closed"
path = "/closed/**"
auth = ["app"]
upstream = "api"
[[route]]
id = "signed"
path = "/signed/**"
auth = ["partner"]
upstream = "api"
[log]
level = "debug"
mask = ["password", "phone", "session_key", "code", "x-api-key"]
"#;

const JWT_SECRET: &str = "canary-jwt-secret-of-32-bytes-or-more";

fn start() -> (Origin, Gateway) {
    let origin = Origin::start();
    let gateway = Gateway::with(CONFIG)
        .to(&origin)
        .env("JWT_SECRET", JWT_SECRET)
        .start();
    (origin, gateway)
}

#[test]
fn masked_names_show_stars_in_the_query() {
    let (origin, gateway) = start();
    let target = "/open/x?password=canary-1&PHONE=canary-2&a=visible&code=canary%2D3&session_key=";
    let seen = gateway
        .client()
        .get(target)
        .header("X-Trace-ID", "masked")
        .send()
        .seen();
    assert_eq!(seen.target, target, "the upstream gets the real values");
    let line = gateway.access_line("masked");
    assert!(!gateway.stdout().contains("canary"), "{line}");
    let path = line["path"].as_str().unwrap();
    assert!(!path.contains('?') || path.contains("***"), "{path}");
    drop(origin);
}

#[test]
fn canaries_are_found_nowhere() {
    let (origin, gateway) = start();
    let token = Peer::token(
        "HS256",
        JWT_SECRET,
        &json!({ "sub": "u", "exp": unix_now() + 60, "x": "canary" }),
    );
    let signature = token.rsplit('.').next().unwrap().to_owned();
    let client = gateway.client();
    client
        .get("/closed/x")
        .bearer(&token)
        .header("Cookie", "s=canary-cookie")
        .send()
        .expect(200);
    client
        .get("/closed/x")
        .header("Authorization", "Bearer canary-bad-token")
        .send()
        .refused(401, "token_invalid");
    client
        .get("/open/x")
        .header("Authorization", "Basic canary-basic")
        .header("X-Api-Key", "canary-key")
        .send()
        .expect(200);
    client
        .get("/open/x?password=canary-query")
        .send()
        .expect(200);
    let signed = Signed::ca("app-1", "canary-app-secret", "GET", "/signed/x").headers();
    client.get("/signed/x").headers(&signed).send().expect(200);
    let wrong = Signed::ca("app-1", "other", "GET", "/signed/x").headers();
    client
        .get("/signed/x")
        .headers(&wrong)
        .send()
        .refused(401, "sig_invalid");
    let secrets: Vec<String> = [&signed, &wrong]
        .into_iter()
        .flatten()
        .filter(|(n, _)| n == "X-Ca-Signature")
        .map(|(_, v)| v.clone())
        .collect();
    client.get("/closed/%zz?password=canary").send();
    client.raw(
        "GET /open/x HTTP/1.1\r\nHost: a\r\nAuthorization: canary-raw\r\nContent-Length: x\r\n\r\n",
    );
    origin.kill();
    client.get("/closed/x").bearer(&token).send();
    gateway.reload();
    gateway.signal(Signal::SIGUSR1);
    client
        .get("/nowhere")
        .header("X-Trace-ID", "the-last")
        .send();
    gateway.access_line("the-last");

    let outputs = [
        ("stdout", gateway.stdout()),
        ("stderr", gateway.stderr()),
        ("metrics", gateway.metrics_text()),
        (
            "config",
            gateway.admin_get("/api/v1/config").expect(200).text(),
        ),
        (
            "routes",
            gateway.admin_get("/api/v1/routes").expect(200).text(),
        ),
        (
            "upstreams",
            gateway.admin_get("/api/v1/upstreams").expect(200).text(),
        ),
        ("info", gateway.info().to_string()),
        ("status", gateway.run_cli(&["status"], &["--json"]).all()),
        (
            "config show",
            gateway.run_cli(&["config", "show"], &[]).all(),
        ),
        ("check", gateway.run_cli(&["check"], &[]).all()),
    ];
    for (name, text) in outputs {
        for secret in ["canary", crate::harness::ADMIN_TOKEN, &signature]
            .into_iter()
            .chain(secrets.iter().map(String::as_str))
        {
            let found = text
                .find(secret)
                .map(|at| &text[at.saturating_sub(200)..text.len().min(at + 50)]);
            assert_eq!(found, None, "{secret} in {name}");
        }
    }
}

#[test]
fn set_cookie_of_an_upstream_is_not_logged() {
    let origin = Origin::answering(|_| {
        crate::harness::Answer::text("x").header("Set-Cookie", "s=canary-set-cookie")
    });
    let gateway = Gateway::with(CONFIG)
        .to(&origin)
        .env("JWT_SECRET", JWT_SECRET)
        .start();
    let response = gateway
        .client()
        .get("/open/x")
        .header("X-Trace-ID", "cookie")
        .send()
        .expect(200);
    assert_eq!(response.header("set-cookie"), Some("s=canary-set-cookie"));
    gateway.access_line("cookie");
    assert!(!gateway.stdout().contains("canary"));
}

#[test]
fn a_secret_that_begins_with_another_is_struck_out_whole() {
    let config = r#"
[auth.partner]
type = "signature"
scheme = "ca"
[auth.partner.apps]
"app-1" = { secret = "canary", previous_secret = "canary-and-more" }
"app-2" = { secret = "more/of+it" }
[[route]]
id = "r"
path = "/**"
respond = { status = 204 }
"#;
    let gateway = Gateway::with(config).start();
    let client = gateway.client();
    let ask = |target: &str, trace: &str| {
        let request = client.get(target).header("X-Trace-ID", trace);
        request
            .header("User-Agent", "x canary-and-more/of+it y")
            .send()
            .expect(204);
        gateway.access_line(trace)
    };
    let line = ask("/x?canary-and-more", "one");
    assert_eq!(line["path"], "/x?***");
    assert_eq!(line["user_agent"], "x *** y");
    let line = ask("/x?a=more%2Fof%2Bit&b=1", "two");
    assert_eq!(line["path"], "/x?a=***&b=1");
}
