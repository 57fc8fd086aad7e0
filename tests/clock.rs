//! The wall clock is set forward and back while the gateway serves: who counts time goes on counting, who reads the clock
//! follows it, and nothing is good twice. By libfaketime (Debian: faketime), which lets the process see another wall clock;
//! skipped with a word where it is missing.

use std::path::PathBuf;
use std::time::Instant;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::{
    Gateway, Peer, Setup, Signed, TlsClient, eventually, holds_within, millis, reserve, seconds,
    unix_millis, unix_now,
};

const HOUR: i64 = 3600;
const SECRET: &str = "0123456789abcdef0123456789abcdef";

/// A wall clock that can be set.
struct Clock {
    library: PathBuf,
    dir: TempDir,
}

impl Clock {
    /// One that shows so many seconds more than there are; `None` where there is no library for it.
    fn ahead_by(offset: i64) -> Option<Self> {
        let found = glob::glob("/usr/lib/*/faketime/libfaketime.so.1").unwrap();
        let Some(Ok(library)) = found.into_iter().next() else {
            eprintln!("skipped: libfaketime is not installed (Debian: faketime)");
            return None;
        };
        let dir = tempfile::Builder::new().prefix("tg").tempdir().unwrap();
        let clock = Self { library, dir };
        clock.set(offset);
        Some(clock)
    }

    fn set(&self, offset: i64) {
        let partial = self.dir.path().join("partial");
        std::fs::write(&partial, format!("{offset:+}")).unwrap();
        std::fs::rename(partial, self.dir.path().join("time")).unwrap();
    }

    fn on(&self, setup: Setup) -> Setup {
        let file = self.dir.path().join("time");
        setup
            .env("LD_PRELOAD", self.library.to_str().unwrap())
            .env("FAKETIME_TIMESTAMP_FILE", file.to_str().unwrap())
            .env("FAKETIME_NO_CACHE", "1")
            .env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
            .env("DONT_FAKE_MONOTONIC", "1")
    }
}

const PLAIN: &str = "[limit.few]\nkey = \"client_ip\"\nalgorithm = \"token_bucket\"\nrate = \"3/h\"\nburst = 3\n\
    [limit.soon]\nkey = \"client_ip\"\nalgorithm = \"token_bucket\"\nrate = \"1/s\"\nburst = 1\n\
    [[route]]\nid = \"hello\"\npath = \"/hello\"\nrespond = { status = 200, text = \"hello\" }\n\
    [[route]]\nid = \"few\"\npath = \"/few\"\nlimits = [\"few\"]\nrespond = { status = 200 }\n\
    [[route]]\nid = \"soon\"\npath = \"/soon\"\nlimits = [\"soon\"]\nrespond = { status = 200 }\n";

/// How many seconds the clock of the log is ahead.
fn log_ahead(gateway: &Gateway, trace: &str) -> i64 {
    let client = gateway.client();
    let request = client.get("/hello").header("X-Trace-ID", trace);
    request.patience(seconds(2)).send().expect(200);
    let line: Value = gateway.access_line(trace);
    let at: jiff::Timestamp = line["timestamp"].as_str().unwrap().parse().unwrap();
    at.as_second() - unix_now()
}

#[test]
fn serving_goes_on_and_the_log_follows() {
    let Some(clock) = Clock::ahead_by(0) else {
        return;
    };
    let gateway = clock.on(Gateway::with(PLAIN)).start();
    let mut kept = gateway.client().connect();
    for (turn, offset) in [0, HOUR, -HOUR, 24 * HOUR, 0].into_iter().enumerate() {
        clock.set(offset);
        let cpu = gateway.cpu();
        let start = Instant::now();
        let mut look = 0;
        // The clocks are compared once a second.
        let follows = holds_within(seconds(4), || {
            look += 1;
            kept.get("/hello").send().expect(200);
            (log_ahead(&gateway, &format!("look-{turn}-{look}")) - offset).abs() <= 2
        });
        assert!(follows, "set to {offset:+}");
        holds_within(seconds(1), || false);
        let (used, span) = (gateway.cpu() - cpu, start.elapsed());
        assert!(used < span / 2, "{used:?} of {span:?}: somebody spins");
        gateway.reload_ok();
        assert_eq!(gateway.over_socket("GET", "/readyz", b"").unwrap().0, 200);
    }
    let said = gateway.stderr() + &gateway.stdout();
    assert!(!said.contains("panic"), "{said}");
    gateway.signal(nix::sys::signal::Signal::SIGTERM);
    assert!(gateway.wait_exit(seconds(5)).success());
}

#[test]
fn limits_neither_refill_nor_freeze() {
    let Some(clock) = Clock::ahead_by(0) else {
        return;
    };
    let gateway = clock.on(Gateway::with(PLAIN)).start();
    let ask = |path: &str| gateway.client().get(path).send().status;
    for _ in 0..3 {
        assert_eq!(ask("/few"), 200);
    }
    assert_eq!(ask("/few"), 429);
    for offset in [HOUR, -HOUR, 24 * HOUR] {
        clock.set(offset);
        // Past the next comparison of the clocks.
        let refilled = holds_within(millis(1500), || ask("/few") == 200);
        assert!(!refilled, "set to {offset:+}");
        ask("/soon");
        eventually(seconds(3), "a second is a second", || ask("/soon") == 200);
    }
}

#[test]
fn tokens_follow_the_wall_clock() {
    let Some(clock) = Clock::ahead_by(0) else {
        return;
    };
    let text = format!(
        "[auth.app]\ntype = \"jwt\"\nalgorithms = [\"HS256\"]\nsecret = \"{SECRET}\"\n\
         [[route]]\nid = \"guarded\"\npath = \"/**\"\nauth = [\"app\"]\nrespond = {{ status = 200 }}\n"
    );
    let gateway = clock.on(Gateway::with(&text)).start();
    let token = |from: i64, to: i64| {
        let claims = json!({ "sub": "u", "nbf": unix_now() + from, "exp": unix_now() + to });
        Peer::token("HS256", SECRET, &claims)
    };
    let (now, later) = (token(-60, 1800), token(HOUR - 600, HOUR + 600));
    let status = |token: &str| gateway.client().get("/").bearer(token).send().status;
    // One that is known already must not stay good, nor one bad that was refused.
    for (offset, of_now, of_later) in [
        (0, 200, 401),
        (HOUR, 401, 200),
        (-HOUR, 401, 401),
        (0, 200, 401),
    ] {
        clock.set(offset);
        eventually(seconds(4), &format!("set to {offset:+}"), || {
            (status(&now), status(&later)) == (of_now, of_later)
        });
    }
}

fn signing(clock: &Clock, skew: &str) -> Gateway {
    let text = format!(
        "[auth.partner]\ntype = \"signature\"\nscheme = \"ca\"\nskew = \"{skew}\"\n\
         [auth.partner.apps]\n\"app-1001\" = {{ secret = \"{SECRET}\" }}\n\
         [[route]]\nid = \"signed\"\npath = \"/**\"\nauth = [\"partner\"]\nrespond = {{ status = 200 }}\n"
    );
    clock.on(Gateway::with(&text)).start()
}

/// Signed at a clock that is so many seconds ahead.
fn signed(ahead: i64) -> Vec<(String, String)> {
    Signed::ca("app-1001", SECRET, "GET", "/")
        .but("timestamp", unix_millis() + ahead * 1000)
        .headers()
}

fn verdict(gateway: &Gateway, headers: &[(String, String)]) -> String {
    let answer = gateway.client().get("/").headers(headers).send();
    if answer.status == 200 {
        return "passes".into();
    }
    answer.json()["code"].as_str().unwrap().to_owned()
}

/// Waits until the gateway reads this clock, by fresh signatures.
#[track_caller]
fn follows(clock: &Clock, gateway: &Gateway, offset: i64) {
    clock.set(offset);
    eventually(seconds(6), &format!("set to {offset:+}"), || {
        verdict(gateway, &signed(offset)) == "passes"
    });
}

#[test]
fn signatures_follow_the_wall_clock_and_nonces_do_not() {
    // Stamps from before the start are refused, so it starts long before.
    let Some(clock) = Clock::ahead_by(-5 * HOUR) else {
        return;
    };
    let gateway = signing(&clock, "5m");
    follows(&clock, &gateway, 0);
    let used = signed(0);
    assert_eq!(verdict(&gateway, &used), "passes");
    for offset in [HOUR, 0, -HOUR, 0] {
        follows(&clock, &gateway, offset);
        let here = verdict(&gateway, &used);
        let expected = if offset == 0 {
            "sig_replayed"
        } else {
            "sig_expired"
        };
        assert_eq!(here, expected, "at {offset:+}");
        assert_eq!(verdict(&gateway, &signed(offset + 600)), "sig_expired");
    }
}

#[test]
fn a_step_back_makes_no_forgotten_nonce_good_again() {
    let Some(clock) = Clock::ahead_by(-5 * HOUR) else {
        return;
    };
    let gateway = signing(&clock, "2s");
    follows(&clock, &gateway, 0);
    let used = signed(0);
    assert_eq!(verdict(&gateway, &used), "passes");
    // Nonces are kept for twice the skew and two seconds.
    std::thread::sleep(seconds(8));
    assert_eq!(verdict(&gateway, &used), "sig_expired");
    clock.set(-8);
    let mut seen = Vec::new();
    let passed = holds_within(seconds(4), || {
        seen.push(verdict(&gateway, &used));
        seen.last().is_some_and(|last| last == "passes")
    });
    assert!(!passed, "{seen:?}");
    gateway.wait_for_log(|line| {
        line["level"] == "warn" && line["msg"].as_str().is_some_and(|m| m.contains("set back"))
    });
    // Those who sign now wait until the clock shows what it showed before, and no longer.
    eventually(seconds(10), "signatures pass again", || {
        verdict(&gateway, &signed(-8)) == "passes"
    });
}

#[test]
fn certificates_are_served_whatever_the_clock_shows() {
    let Some(clock) = Clock::ahead_by(0) else {
        return;
    };
    let (address, name) = (reserve(), "api.example.com");
    let ours = Peer::certificates_for(name, 2);
    let pem = |what: &str| ours[what].as_str().unwrap().to_owned();
    let text = format!(
        "{PLAIN}[[listener]]\nname = \"secure\"\naddress = \"{address}\"\n\
         tls = {{ certificates = [{{ cert = \"{{dir}}/cert.pem\", key = \"{{dir}}/key.pem\" }}] }}\n"
    );
    let setup = Gateway::with(&text)
        .file("cert.pem", &pem("server"))
        .file("key.pem", &pem("server_key"));
    let gateway = clock.on(setup).start();
    let (client, tls) = (
        crate::harness::Client::to(address),
        TlsClient::new(name, &pem("ca"), None),
    );
    let not_after = || {
        gateway.metric(
            "gateway_tls_cert_not_after_seconds",
            &[("listener", "secure")],
        )
    };
    let before = not_after();
    // Three days on the certificate is over for the gateway. It is a client's to judge, and what there is is served.
    for offset in [0, HOUR, -HOUR, 72 * HOUR, 0] {
        clock.set(offset);
        holds_within(millis(1200), || false);
        gateway.reload();
        let answer = tls.get(&client, name, "/hello").unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 "), "{offset:+}: {answer}");
        assert!((not_after() - before).abs() < 1.0);
    }
    gateway.reload_ok();
}
