//! What the gateway writes down, and what it never does.

mod secret;

use std::fs;

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::harness::{Gateway, Origin, Peer, eventually, millis, seconds, unix_now};

const ROUTES: &str = r#"
[auth.app]
type = "jwt"
algorithms = ["HS256"]
secret = "0123456789abcdef0123456789abcdef"
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
"#;

fn start(more: &str) -> (Origin, Gateway) {
    let origin = Origin::start();
    let gateway = Gateway::with(&format!("{ROUTES}{more}"))
        .to(&origin)
        .start();
    (origin, gateway)
}

fn is_timestamp(value: &Value) -> bool {
    // 2026-11-23T10:04:00.123Z
    let text = value.as_str().unwrap_or_default();
    text.len() == 24
        && text.ends_with('Z')
        && text.as_bytes()[10] == b'T'
        && text.as_bytes()[19] == b'.'
}

#[test]
fn an_access_line_has_every_field_that_is_known() {
    let (origin, gateway) = start("");
    let token = Peer::token(
        "HS256",
        "0123456789abcdef0123456789abcdef",
        &json!({ "sub": "user-7", "exp": unix_now() + 60 }),
    );
    let client = gateway.client().from(4);
    let request = client
        .post("/closed/x?a=1")
        .header("X-Trace-ID", "line-1")
        .header("User-Agent", "tests/1");
    let response = request.bearer(token).body("12345").send().expect(200);
    let line = gateway.access_line("line-1");
    assert!(is_timestamp(&line["timestamp"]), "{line}");
    for (field, expected) in [
        ("level", json!("info")),
        ("msg", json!("request")),
        ("route", json!("closed")),
        ("method", json!("POST")),
        ("status", json!(200)),
        ("upstream", json!("api")),
        ("endpoint", json!(origin.address().to_string())),
        ("attempts", json!(1)),
        ("client_ip", json!("127.0.0.4")),
        ("consumer", json!("user-7")),
        ("bytes_in", json!(5)),
        ("bytes_out", json!(response.body.bytes.len())),
        ("protocol", json!("HTTP/1.1")),
        ("user_agent", json!("tests/1")),
    ] {
        assert_eq!(line[field], expected, "{field} in {line}");
    }
    assert!(
        line["path"].as_str().unwrap().starts_with("/closed/x"),
        "{line}"
    );
    assert!(
        line["duration_ms"].as_f64().unwrap() >= line["upstream_ms"].as_f64().unwrap(),
        "{line}"
    );
    assert!(
        line.get("reason").is_none(),
        "unknown values are left out: {line}"
    );
}

#[test]
fn a_refusal_says_why() {
    let (_origin, gateway) = start("");
    gateway
        .client()
        .get("/closed/x")
        .header("X-Trace-ID", "refused-1")
        .send()
        .refused(401, "token_missing");
    let line = gateway.access_line("refused-1");
    assert_eq!(
        (&line["reason"], &line["status"]),
        (&json!("token_missing"), &json!(401))
    );
    for absent in ["upstream", "endpoint", "consumer", "upstream_ms"] {
        assert!(line.get(absent).is_none(), "{absent} in {line}");
    }
    gateway
        .client()
        .get("/nowhere")
        .header("X-Trace-ID", "refused-2")
        .send()
        .refused(404, "route_not_found");
    assert_eq!(
        gateway.access_line("refused-2")["reason"],
        "route_not_found"
    );
}

#[test]
fn one_request_makes_one_line() {
    let (_origin, gateway) = start("");
    let mut connection = gateway.client().connect();
    for n in 0..50 {
        connection
            .get("/open/x")
            .header("X-Trace-ID", format!("once-{n}"))
            .send()
            .expect(200);
    }
    gateway.access_line("once-49");
    let lines = gateway.log_lines();
    for n in 0..50 {
        let trace = format!("once-{n}");
        assert_eq!(
            lines
                .iter()
                .filter(|l| l["trace_id"] == trace.as_str())
                .count(),
            1,
            "{trace}"
        );
    }
}

#[test]
fn every_line_is_one_json_object_with_the_common_fields() {
    let (_origin, gateway) = start("[log]\nlevel = \"debug\"\n");
    for target in ["/open/x", "/closed/x", "/nowhere", "/a%00"] {
        gateway.client().get(target).send();
    }
    gateway.client().raw("garbage\r\n\r\n");
    gateway.reload_ok();
    gateway
        .client()
        .get("/open/x")
        .header("X-Trace-ID", "last")
        .send();
    gateway.access_line("last");
    let stdout = gateway.stdout();
    let complete = &stdout[..stdout.rfind('\n').unwrap()];
    for line in complete.lines() {
        let parsed: Value =
            serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert!(
            is_timestamp(&parsed["timestamp"])
                && parsed["level"].is_string()
                && parsed["msg"].is_string(),
            "{line}"
        );
    }
}

#[test]
fn a_client_cannot_forge_a_line() {
    let (_origin, gateway) = start("");
    let evil = "x\",\"status\":200}{\"msg\":\"request\"\\n";
    let client = gateway.client();
    client
        .get("/open/x")
        .header("X-Trace-ID", "forged-1")
        .header("User-Agent", evil)
        .send();
    client
        .get("/open/x")
        .header("User-Agent", "\u{1b}[31m")
        .send();
    client
        .get("/open/%22%7D%0A")
        .header("X-Trace-ID", "forged-2")
        .send();
    client
        .get("/open/\"},\"x\":{\"")
        .header("X-Trace-ID", "forged-3")
        .send();
    client
        .get("/open/x")
        .header("X-Trace-ID", "forged-4")
        .send()
        .expect(200);
    gateway.access_line("forged-4");
    let line = gateway.access_line("forged-1");
    assert_eq!(line["user_agent"], evil);
    let text = gateway.stdout();
    assert!(!text.contains('\u{1b}'), "escape sequences are escaped");
    assert!(
        text.lines()
            .all(|l| serde_json::from_str::<Value>(l).is_ok_and(|v| v.is_object())),
        "{text}"
    );
}

#[test]
fn a_line_has_a_bounded_length() {
    let (_origin, gateway) =
        start("[server.client]\nmax_header_bytes = \"64KiB\"\nmax_uri = \"32KiB\"\n");
    let long = "x".repeat(20_000);
    gateway
        .client()
        .get(&format!("/open/{long}"))
        .header("User-Agent", &long)
        .header("X-Trace-ID", "long")
        .send();
    let line = gateway.access_line("long").to_string();
    assert!(line.len() < 16 * 1024, "{} bytes", line.len());
}

#[test]
fn sigusr1_reopens_the_files() {
    let (_origin, gateway) = start("[log]\naccess = \"{dir}/access.log\"\n");
    let file = gateway.dir().join("access.log");
    let has = |path: &std::path::Path, trace: &str| {
        fs::read_to_string(path).unwrap_or_default().contains(trace)
    };
    let send = |trace: &str| {
        gateway
            .client()
            .get("/open/x")
            .header("X-Trace-ID", trace)
            .send()
            .expect(200)
    };
    send("before-rotation");
    eventually(seconds(5), "the line is in the file", || {
        has(&file, "before-rotation")
    });
    let old = gateway.dir().join("access.log.1");
    fs::rename(&file, &old).unwrap();
    gateway.signal(Signal::SIGUSR1);
    eventually(seconds(5), "the file is there again", || file.exists());
    send("after-rotation");
    eventually(seconds(5), "the line is in the new file", || {
        has(&file, "after-rotation")
    });
    assert!(!has(&old, "after-rotation") && has(&old, "before-rotation"));
}

#[test]
fn lines_of_the_gateway_may_go_to_a_file_of_their_own() {
    let (_origin, gateway) =
        start("[log]\nfile = \"{dir}/gateway.log\"\naccess = \"{dir}/access.log\"\n");
    gateway
        .client()
        .get("/open/x")
        .header("X-Trace-ID", "to-file")
        .send()
        .expect(200);
    gateway.write("tollgate.toml", "nonsense");
    gateway.reload();
    let read = |name: &str| fs::read_to_string(gateway.dir().join(name)).unwrap_or_default();
    eventually(seconds(5), "the access line", || {
        read("access.log").contains("to-file")
    });
    eventually(seconds(5), "the error line", || {
        read("gateway.log").contains("tollgate.toml:1:")
    });
    assert!(
        !read("gateway.log").contains("to-file")
            && !read("access.log").contains("tollgate.toml:1:")
    );
    assert_eq!(gateway.stdout(), "");
}

#[test]
fn the_access_log_may_be_off() {
    let (_origin, gateway) = start("[log]\naccess = \"off\"\n");
    for _ in 0..5 {
        gateway.client().get("/open/x").send().expect(200);
    }
    gateway.wait_for_metric("gateway_requests_by_route_total", &[], 5.0);
    std::thread::sleep(millis(200));
    assert!(gateway.log_lines().iter().all(|l| l["msg"] != "request"));
}

#[test]
fn the_combined_format_is_the_one_everybody_parses() {
    let (_origin, gateway) = start("[log]\nformat = \"combined\"\naccess = \"{dir}/access.log\"\n");
    let client = gateway.client();
    let request = client
        .get("/open/x?a=1")
        .header("User-Agent", "a \"quoted\" one")
        .header("Referer", "https://x.test/");
    let length = request.send().expect(200).body.bytes.len();
    let read = || fs::read_to_string(gateway.dir().join("access.log")).unwrap_or_default();
    eventually(seconds(5), "the line", || read().contains("/open/x"));
    let line = read().lines().next().unwrap().to_owned();
    assert!(line.starts_with("127.0.0.1 - - ["), "{line}");
    assert!(
        line.contains(&format!(
            "] \"GET /open/x?a=1 HTTP/1.1\" 200 {length} \"https://x.test/\" \""
        )),
        "{line}"
    );
    // However the quotes are escaped, the line still ends with its last field.
    assert!(
        line.ends_with('"') && !line.contains("a \"quoted\" one"),
        "{line}"
    );
}

#[test]
fn the_combined_format_masks_the_referer_and_keeps_a_consumer_one_word() {
    let config = r#"
[auth.app]
type = "jwt"
algorithms = ["HS256"]
secret = "a-secret-of-at-least-32-bytes-is-here"
[[route]]
id = "r"
path = "/r"
auth = ["app"]
respond = { status = 204 }
[log]
format = "combined"
access = "{dir}/access.log"
"#;
    let gateway = Gateway::with(config).start();
    let claims = json!({ "sub": "al ice [x] \"y\"", "exp": unix_now() + 60 });
    let token = Peer::token("HS256", "a-secret-of-at-least-32-bytes-is-here", &claims);
    let client = gateway.client();
    let request = client.get("/r").bearer(token).header(
        "Referer",
        "https://me:canary-0@x.test/?a=1&PASSWORD=canary-1#code=canary-2",
    );
    request.send().expect(204);
    let read = || fs::read_to_string(gateway.dir().join("access.log")).unwrap_or_default();
    eventually(seconds(5), "the line", || read().contains("/r"));
    let line = read().lines().next().unwrap().to_owned();
    assert!(!line.contains("canary"), "{line}");
    assert!(
        line.contains("\"https://***@x.test/?a=1&PASSWORD=***#code=***\""),
        "{line}"
    );
    let words: Vec<&str> = line.split(' ').collect();
    assert!(
        words[2].starts_with("al\\x20ice") && words[3].starts_with('['),
        "{line}"
    );
}

#[test]
fn a_reader_that_does_not_read_blocks_no_request() {
    let origin = Origin::start();
    let gateway = Gateway::with(&format!("{ROUTES}[log]\naccess = \"{{dir}}/pipe\"\n")).to(&origin);
    let gateway = gateway.fifo("pipe").start();
    let agent = "x".repeat(200);
    let dropped = || gateway.metric("gateway_log_dropped_total", &[]) > 0.0;
    // However large the queue is, it has an end; and nobody may notice when it is reached.
    eventually(seconds(60), "the queue is full", || {
        let mut connection = gateway.client().connect();
        for _ in 0..2_000 {
            connection
                .get("/nowhere")
                .header("User-Agent", &agent)
                .patience(seconds(10))
                .send();
        }
        dropped()
    });
}
