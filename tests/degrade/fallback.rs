//! Somebody else answers where the upstream cannot.

use serde_json::json;

use super::{WAYS, get};
use crate::harness::{Answer, Gateway, Origin, Setup, eventually, millis, reserve, seconds};

/// A route `r` to `api` at `address`, which has these lines as its fallback, and an upstream `spare`.
fn with(address: impl std::fmt::Display, fallback: &str) -> Setup {
    Gateway::with(
        "[upstream.api]\nendpoints = [{ address = \"{api}\" }]\n[upstream.api.retry]\nattempts = 0\n\
         [upstream.api.timeout]\nread = \"1s\"\n\
         [upstream.spare]\nendpoints = [{ address = \"{spare}\" }]\n\
         [[route]]\nid = \"r\"\npath = \"/**\"\nupstream = \"api\"\ntimeout = \"2s\"\n[route.fallback]\n",
    )
    .append(fallback)
    .fill("api", address)
}

const FIXED: &str =
    "status = 200\njson = { items = [], degraded = true }\nheaders = { X-Why = \"sorry\" }\n";

#[test]
fn a_dead_upstream_is_answered_for_on_both_ways() {
    let gateway = with(reserve(), FIXED).fill("spare", reserve()).start();
    for way in WAYS {
        let answer = get(&gateway.client(), way, "/reviews")
            .header("X-Trace-ID", "dead")
            .send()
            .expect(200);
        assert_eq!(answer.json(), json!({ "items": [], "degraded": true }));
        assert_eq!(answer.header("X-Fallback"), Some("fixed"));
        assert_eq!(answer.header("X-Why"), Some("sorry"));
        assert_eq!(answer.header("Content-Type"), Some("application/json"));
        assert_eq!(answer.header("X-Trace-ID"), Some("dead"));
    }
    let head = gateway.client().request("HEAD", "/").send().expect(200);
    assert_eq!(head.header("X-Fallback"), Some("fixed"));
    let line = gateway.access_line("dead");
    assert_eq!(line["reason"], "upstream_connect", "{line}");
    assert_eq!(
        (&line["fallback"], &line["fallback_cause"]),
        (&json!("fixed"), &json!("upstream_connect"))
    );
    let labels = [
        ("route", "r"),
        ("kind", "fixed"),
        ("cause", "upstream_connect"),
    ];
    gateway.wait_for_metric("gateway_fallbacks_total", &labels, 3.0);
    assert_eq!(
        gateway.metric("gateway_refused_total", &[("route", "r")]),
        0.0
    );
}

#[test]
fn the_deadline_is_answered_for_on_both_ways() {
    let origin = Origin::answering(|_| Answer::silence());
    let gateway = with(origin.address(), "text = \"later\"\nstatus = 203\n")
        .fill("spare", reserve())
        .append("[[route]]\nid = \"short\"\npath = \"/short\"\nupstream = \"api\"\ntimeout = \"200ms\"\nfallback = { text = \"short\" }\n")
        .start();
    for way in WAYS {
        // The read timeout of the upstream is none of the usual causes.
        get(&gateway.client(), way, "/long")
            .send()
            .refused(504, "upstream_timeout");
        let answer = get(&gateway.client(), way, "/short").send().expect(200);
        assert_eq!(
            (answer.text().as_str(), answer.header("X-Fallback")),
            ("short", Some("fixed"))
        );
    }
    let labels = [("route", "short"), ("cause", "deadline_exceeded")];
    gateway.wait_for_metric("gateway_fallbacks_total", &labels, 2.0);
}

#[test]
fn chosen_statuses_are_answered_for_and_others_are_passed_on() {
    let origin = Origin::answering(|seen| {
        let status = seen.target.trim_start_matches('/').parse().unwrap();
        Answer::text("theirs").but_status(status)
    });
    let fallback = "on = [\"503\", \"500\", \"reset\"]\ntext = \"ours\"\n";
    let gateway = with(origin.address(), fallback)
        .fill("spare", reserve())
        .start();
    for way in WAYS {
        for (path, status, text, mark) in [
            ("/500", 200, "ours", Some("fixed")),
            ("/503", 200, "ours", Some("fixed")),
            ("/502", 502, "theirs", None),
            ("/404", 404, "theirs", None),
            ("/200", 200, "theirs", None),
        ] {
            let answer = get(&gateway.client(), way, path).send().expect(status);
            assert_eq!(
                (answer.text().as_str(), answer.header("X-Fallback")),
                (text, mark),
                "{path}"
            );
        }
    }
    let posted = gateway
        .client()
        .post("/500")
        .header("X-Trace-ID", "posted")
        .body("once")
        .send()
        .expect(200);
    assert_eq!(posted.text(), "ours");
    assert_eq!(origin.count_of(|seen| seen.method == "POST"), 1);
    let line = gateway.access_line("posted");
    assert_eq!(
        (&line["upstream_status"], &line["fallback_cause"]),
        (&json!(500), &json!("status"))
    );
    assert_eq!(line.get("reason"), None);
}

#[test]
fn a_status_of_the_gateway_s_own_is_one_too() {
    let gateway = with(reserve(), "on = [\"502\"]\ntext = \"ours\"\n")
        .fill("spare", reserve())
        .start();
    assert_eq!(gateway.client().get("/").send().expect(200).text(), "ours");
}

#[test]
fn another_upstream_takes_over_on_both_ways() {
    let origin = Origin::answering(|seen| match seen.target.as_str() {
        "/500" => Answer::status(500),
        "/reset" => Answer::reset(),
        _ => Answer::echo(),
    });
    let spare = Origin::named("spare");
    let fallback = "on = [\"no_endpoint\", \"reset\", \"500\"]\nupstream = \"spare\"\n";
    let gateway = with(origin.address(), fallback).to(&spare).start();
    for way in WAYS {
        for target in ["/500", "/reset"] {
            let answer = get(&gateway.client(), way, target).send();
            assert_eq!(answer.header("X-Fallback"), Some("upstream"), "{answer:?}");
            assert_eq!(answer.seen().origin, "spare");
        }
        let answer = get(&gateway.client(), way, "/").send();
        assert_eq!(answer.header("X-Fallback"), None);
        assert_eq!(answer.seen().origin, "origin");
    }
    // What may have had its effect is not sent again, elsewhere neither.
    gateway
        .client()
        .post("/reset")
        .body("once")
        .send()
        .refused(502, "upstream_reset");
    gateway
        .client()
        .post("/500")
        .body("once")
        .send()
        .expect(500);
    assert_eq!(spare.count_of(|seen| seen.method == "POST"), 0);
    origin.kill();
    let posted = gateway
        .client()
        .post("/post")
        .header("X-Trace-ID", "posted")
        .body("once")
        .send();
    let seen = posted.seen();
    assert_eq!(
        (seen.origin.as_str(), seen.body.as_slice()),
        ("spare", &b"once"[..])
    );
    let line = gateway.access_line("posted");
    assert_eq!(
        (&line["upstream"], &line["fallback"]),
        (&json!("spare"), &json!("upstream"))
    );
    let labels = [
        ("route", "r"),
        ("kind", "upstream"),
        ("cause", "upstream_connect"),
    ];
    gateway.wait_for_metric("gateway_fallbacks_total", &labels, 1.0);
}

#[test]
fn when_the_other_upstream_fails_too_the_fixed_answer_is_left() {
    let fallback = "upstream = \"spare\"\ntext = \"at last\"\n";
    let gateway = with(reserve(), fallback).fill("spare", reserve()).start();
    for way in WAYS {
        let answer = get(&gateway.client(), way, "/").send().expect(200);
        assert_eq!(
            (answer.text().as_str(), answer.header("X-Fallback")),
            ("at last", Some("fixed"))
        );
    }
    let alone = with(reserve(), "upstream = \"spare\"\n")
        .fill("spare", reserve())
        .start();
    for way in WAYS {
        let answer = get(&alone.client(), way, "/")
            .send()
            .refused(502, "upstream_connect");
        assert_eq!(answer.header("X-Fallback"), None);
    }
    let refused = [("route", "r"), ("reason", "upstream_connect")];
    alone.wait_for_metric("gateway_refused_total", &refused, 2.0);
}

/// The second upstream is reached over a Unix socket.
#[test]
fn a_request_changes_its_way_for_the_other_upstream() {
    let spare = Origin::named("spare");
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("spare.sock");
    let bridge = bridge(&path, spare.address());
    let gateway = with(reserve(), "upstream = \"spare\"\n")
        .fill("spare", format!("unix:{}", path.display()))
        .start();
    for way in WAYS {
        let seen = get(&gateway.client(), way, "/x?y=1")
            .header("X-Mine", "kept")
            .send()
            .seen();
        assert_eq!(
            (seen.origin.as_str(), seen.target.as_str()),
            ("spare", "/x?y=1")
        );
        assert_eq!(seen.header("X-Mine"), Some("kept"));
    }
    drop(bridge);
}

/// A Unix socket whose connections lead to `to`.
fn bridge(path: &std::path::Path, to: std::net::SocketAddr) -> std::thread::JoinHandle<()> {
    let listener = std::os::unix::net::UnixListener::bind(path).unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().take(2) {
            let stream = stream.unwrap();
            let origin = std::net::TcpStream::connect(to).unwrap();
            let (mut from, mut into) = (stream.try_clone().unwrap(), origin.try_clone().unwrap());
            std::thread::spawn(move || {
                let _ = std::io::copy(&mut from, &mut into);
            });
            let (mut from, mut into) = (origin, stream);
            std::thread::spawn(move || {
                let _ = std::io::copy(&mut from, &mut into);
            });
        }
    })
}

#[test]
fn a_refusal_of_a_filter_is_never_answered_for() {
    let origin = Origin::start();
    let gateway = with(origin.address(), "on = [\"500\", \"503\", \"no_endpoint\"]\ntext = \"ours\"\n")
        .fill("spare", reserve())
        .append("[auth.app]\ntype = \"jwt\"\nalgorithms = [\"HS256\"]\nsecret = \"0123456789abcdef0123456789abcdef\"\n\
                 [[route]]\nid = \"closed\"\npath = \"/closed\"\nupstream = \"api\"\nauth = [\"app\"]\nfallback = { text = \"ours\" }\n")
        .start();
    origin.kill();
    gateway
        .client()
        .get("/closed")
        .send()
        .refused(401, "token_missing");
    assert_eq!(gateway.client().get("/").send().expect(200).text(), "ours");
}

#[test]
fn an_answer_that_began_is_not_answered_for_again() {
    let origin = Origin::answering(|_| Answer::broken_off());
    let gateway = with(
        origin.address(),
        "on = [\"reset\", \"502\", \"no_endpoint\"]\ntext = \"ours\"\n",
    )
    .fill("spare", reserve())
    .start();
    for way in WAYS {
        let answer = get(&gateway.client(), way, "/").send();
        assert!(
            !answer.body.complete && answer.header("X-Fallback").is_none(),
            "{answer:?}"
        );
    }
}

#[test]
fn a_slow_reader_of_the_body_meets_the_fallback_as_well() {
    let origin = Origin::answering(|_| Answer::status(503));
    let gateway = with(origin.address(), "on = [\"503\"]\ntext = \"ours\"\n")
        .fill("spare", reserve())
        .start();
    let mut connection = gateway.client().connect();
    for _ in 0..3 {
        let answer = connection.get("/").send().expect(200);
        assert_eq!(answer.text(), "ours");
    }
    eventually(seconds(3), "the origin was asked", || origin.count() == 3);
    let early = with(origin.address(), "on = [\"503\"]\ntext = \"ours\"\n")
        .fill("spare", reserve())
        .start();
    let answer = early
        .client()
        .post("/")
        .body(vec![b'x'; 200_000])
        .patience(millis(5000))
        .send()
        .expect(200);
    assert_eq!(answer.text(), "ours");
}

const BREAKER: &str = "minimum_calls = 3\nwindow = 3\nopen_for = \"60s\"\n";

#[test]
fn an_open_breaker_is_answered_for_on_both_ways() {
    let origin = Origin::answering(|_| Answer::status(503));
    let breaker = format!("[upstream.api.breaker]\n{BREAKER}");
    let gateway = with(origin.address(), FIXED)
        .fill("spare", reserve())
        .append(&breaker)
        .start();
    for _ in 0..3 {
        gateway.client().get("/").send().expect(503);
    }
    for way in WAYS {
        let answer = get(&gateway.client(), way, "/").send().expect(200);
        assert_eq!(answer.header("X-Fallback"), Some("fixed"));
    }
    assert_eq!(origin.count(), 3);
    let labels = [("route", "r"), ("cause", "breaker_open")];
    gateway.wait_for_metric("gateway_fallbacks_total", &labels, 2.0);
}

#[test]
fn the_breaker_of_a_route_is_none_of_the_upstream_that_takes_over() {
    let origin = Origin::answering(|_| Answer::status(503));
    let spare = Origin::named("spare");
    let breaker = format!("[route.breaker]\n{BREAKER}");
    let gateway = with(origin.address(), "upstream = \"spare\"\n")
        .to(&spare)
        .append(&breaker)
        .start();
    for _ in 0..3 {
        gateway.client().get("/").send().expect(503);
    }
    for way in WAYS {
        let answer = get(&gateway.client(), way, "/").send();
        assert_eq!(answer.header("X-Fallback"), Some("upstream"), "{answer:?}");
        assert_eq!(answer.seen().origin, "spare");
    }
}
