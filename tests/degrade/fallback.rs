//! Somebody else answers where the upstream cannot.

use serde_json::json;

use super::{Falls, get};
use crate::harness::{Answer, Origin, eventually, millis, on_each, seconds, ways};

const FIXED: &str =
    "status = 200\njson = { items = [], degraded = true }\nheaders = { X-Why = \"sorry\" }\n";

#[test]
fn a_dead_upstream_is_answered_for_on_every_way() {
    let gateway = Falls {
        fallback: FIXED,
        ..Falls::default()
    }
    .start();
    for way in ways() {
        let trace = format!("dead-{way}");
        let answer = get(&gateway.client(), way, "/reviews")
            .header("X-Trace-ID", &trace)
            .send()
            .expect(200);
        assert_eq!(answer.json(), json!({ "items": [], "degraded": true }));
        assert_eq!(answer.header("X-Fallback"), Some("fixed"));
        assert_eq!(answer.header("X-Why"), Some("sorry"));
        assert_eq!(answer.header("Content-Type"), Some("application/json"));
        assert_eq!(answer.header("X-Trace-ID"), Some(&*trace));
        let client = gateway.client();
        let head = client.request("HEAD", &format!("/{way}/"));
        let head = head.send().expect(200);
        assert_eq!(head.header("X-Fallback"), Some("fixed"));
        let line = gateway.access_line(&trace);
        assert_eq!(line["reason"], "upstream_connect", "{line}");
        assert_eq!(
            (&line["fallback"], &line["fallback_cause"]),
            (&json!("fixed"), &json!("upstream_connect"))
        );
    }
    for way in ways() {
        let route = ("route", way.name());
        let labels = [route, ("kind", "fixed"), ("cause", "upstream_connect")];
        gateway.wait_for_metric("gateway_fallbacks_total", &labels, 2.0);
        assert_eq!(gateway.metric("gateway_refused_total", &[route]), 0.0);
    }
}

#[test]
fn the_deadline_is_answered_for_on_every_way() {
    let origin = Origin::answering(|_| Answer::silence());
    let mut gateway = Falls {
        api: Some(&origin),
        fallback: "text = \"later\"\nstatus = 203\n",
        ..Falls::default()
    }
    .setup();
    for way in ways() {
        gateway = gateway.append(&format!(
            "[[route]]\nid = \"short-{way}\"\npath = \"/{way}/short\"\nupstream = \"api-{way}\"\ntimeout = \"200ms\"\n\
             fallback = {{ text = \"short\" }}\n"
        ));
    }
    let gateway = gateway.start();
    on_each(ways(), |way| {
        // The read timeout of the upstream is none of the usual causes.
        get(&gateway.client(), way, "/long")
            .send()
            .refused(504, "upstream_timeout");
        let answer = get(&gateway.client(), way, "/short").send().expect(200);
        assert_eq!(
            (answer.text().as_str(), answer.header("X-Fallback")),
            ("short", Some("fixed")),
            "{way}"
        );
    });
    for way in ways() {
        let route = format!("short-{way}");
        let labels = [("route", &*route), ("cause", "deadline_exceeded")];
        gateway.wait_for_metric("gateway_fallbacks_total", &labels, 1.0);
    }
}

#[test]
fn chosen_statuses_are_answered_for_and_others_are_passed_on() {
    let origin = Origin::answering(|seen| {
        let status = seen.target.trim_start_matches('/').parse().unwrap();
        Answer::text("theirs").but_status(status)
    });
    let gateway = Falls {
        api: Some(&origin),
        fallback: "on = [\"503\", \"500\", \"reset\"]\ntext = \"ours\"\n",
        ..Falls::default()
    }
    .start();
    for way in ways() {
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
                "{way}: {path}"
            );
        }
        let before = origin.count_of(|seen| seen.method == "POST");
        let trace = format!("posted-{way}");
        let client = gateway.client();
        let posted = client.post(&format!("/{way}/500"));
        let posted = posted.header("X-Trace-ID", &trace).body("once").send();
        assert_eq!(posted.expect(200).text(), "ours");
        let after = origin.count_of(|seen| seen.method == "POST");
        assert_eq!(after, before + 1, "{way}");
        let line = gateway.access_line(&trace);
        assert_eq!(
            (&line["upstream_status"], &line["fallback_cause"]),
            (&json!(500), &json!("status"))
        );
        assert_eq!(line.get("reason"), None);
    }
}

#[test]
fn a_status_of_the_gateway_s_own_is_one_too() {
    let gateway = Falls {
        fallback: "on = [\"502\"]\ntext = \"ours\"\n",
        ..Falls::default()
    }
    .start();
    for way in ways() {
        let answer = get(&gateway.client(), way, "/").send().expect(200);
        assert_eq!(answer.text(), "ours", "{way}");
    }
}

const ELSEWHERE: &str = "on = [\"no_endpoint\", \"reset\", \"500\"]\nupstream = \"{spare}\"\n";

#[test]
fn another_upstream_takes_over_on_every_way() {
    let origin = Origin::answering(|seen| match seen.target.as_str() {
        "/500" => Answer::status(500),
        "/reset" => Answer::reset(),
        _ => Answer::echo(),
    });
    let spare = Origin::named("spare");
    let gateway = Falls {
        api: Some(&origin),
        spare: Some(&spare),
        fallback: ELSEWHERE,
        ..Falls::default()
    }
    .start();
    let client = gateway.client();
    for way in ways() {
        for target in ["/500", "/reset"] {
            let answer = get(&client, way, target).send();
            assert_eq!(answer.header("X-Fallback"), Some("upstream"), "{answer:?}");
            assert_eq!(answer.seen().origin, "spare");
        }
        let answer = get(&client, way, "/").send();
        assert_eq!(answer.header("X-Fallback"), None);
        assert_eq!(answer.seen().origin, "origin");
        // What may have had its effect is not sent again, elsewhere neither.
        let post = |target: &str| client.post(&format!("/{way}{target}")).body("once").send();
        post("/reset").refused(502, "upstream_reset");
        post("/500").expect(500);
    }
    assert_eq!(spare.count_of(|seen| seen.method == "POST"), 0);
}

/// The way to it is another: of another version of HTTP, or over another kind of connection.
#[test]
fn what_never_left_goes_to_the_other_upstream_whatever_the_method() {
    let spare = Origin::named("spare");
    let gateway = Falls {
        spare: Some(&spare),
        fallback: ELSEWHERE,
        ..Falls::default()
    }
    .start();
    for way in ways() {
        let trace = format!("posted-{way}");
        let client = gateway.client();
        let posted = client.post(&format!("/{way}/x?y=1"));
        let posted = posted.header("X-Trace-ID", &trace).header("X-Mine", "kept");
        let seen = posted.body("once").send().seen();
        assert_eq!(
            (seen.origin.as_str(), seen.target.as_str(), &*seen.body),
            ("spare", "/x?y=1", &b"once"[..])
        );
        assert_eq!(seen.header("X-Mine"), Some("kept"));
        let line = gateway.access_line(&trace);
        assert!(line["upstream"].as_str().unwrap().starts_with("spare-"));
        assert_eq!(line["fallback"], "upstream", "{line}");
        let labels = [
            ("route", way.name()),
            ("kind", "upstream"),
            ("cause", "upstream_connect"),
        ];
        gateway.wait_for_metric("gateway_fallbacks_total", &labels, 1.0);
    }
}

#[test]
fn when_the_other_upstream_fails_too_the_fixed_answer_is_left() {
    let gateway = Falls {
        fallback: "upstream = \"{spare}\"\ntext = \"at last\"\n",
        ..Falls::default()
    }
    .start();
    let alone = Falls {
        fallback: "upstream = \"{spare}\"\n",
        ..Falls::default()
    }
    .start();
    for way in ways() {
        let answer = get(&gateway.client(), way, "/").send().expect(200);
        assert_eq!(
            (answer.text().as_str(), answer.header("X-Fallback")),
            ("at last", Some("fixed"))
        );
        let answer = get(&alone.client(), way, "/")
            .send()
            .refused(502, "upstream_connect");
        assert_eq!(answer.header("X-Fallback"), None);
    }
    for way in ways() {
        let refused = [("route", way.name()), ("reason", "upstream_connect")];
        alone.wait_for_metric("gateway_refused_total", &refused, 1.0);
    }
}

#[test]
fn a_refusal_of_a_filter_is_never_answered_for() {
    let auth = "[auth.app]\ntype = \"jwt\"\nalgorithms = [\"HS256\"]\nsecret = \"0123456789abcdef0123456789abcdef\"\n";
    let mut gateway = Falls {
        fallback: "on = [\"500\", \"503\", \"no_endpoint\"]\ntext = \"ours\"\n",
        ..Falls::default()
    }
    .setup()
    .append(auth);
    for way in ways() {
        gateway = gateway.append(&format!(
            "[[route]]\npath = \"/{way}/closed\"\nupstream = \"api-{way}\"\nauth = [\"app\"]\nfallback = {{ text = \"ours\" }}\n"
        ));
    }
    let gateway = gateway.start();
    for way in ways() {
        get(&gateway.client(), way, "/closed")
            .send()
            .refused(401, "token_missing");
        let answer = get(&gateway.client(), way, "/").send().expect(200);
        assert_eq!(answer.text(), "ours", "{way}");
    }
}

#[test]
fn an_answer_that_began_is_not_answered_for_again() {
    let origin = Origin::answering(|_| Answer::broken_off());
    let gateway = Falls {
        api: Some(&origin),
        fallback: "on = [\"reset\", \"502\", \"no_endpoint\"]\ntext = \"ours\"\n",
        ..Falls::default()
    }
    .start();
    for way in ways() {
        let answer = get(&gateway.client(), way, "/").send();
        assert!(
            !answer.body.complete && answer.header("X-Fallback").is_none(),
            "{way}: {answer:?}"
        );
    }
}

#[test]
fn a_slow_reader_of_the_body_meets_the_fallback_as_well() {
    let origin = Origin::answering(|_| Answer::status(503));
    let gateway = Falls {
        api: Some(&origin),
        fallback: "on = [\"503\"]\ntext = \"ours\"\n",
        ..Falls::default()
    }
    .start();
    for way in ways() {
        let before = origin.count();
        let mut connection = gateway.client().connect();
        for _ in 0..3 {
            let answer = connection.get(&format!("/{way}/")).send().expect(200);
            assert_eq!(answer.text(), "ours");
        }
        eventually(seconds(3), "the origin was asked", || {
            origin.count() == before + 3
        });
        let client = gateway.client();
        let long = client
            .post(&format!("/{way}/"))
            .body(vec![b'x'; 200_000])
            .patience(millis(5000));
        assert_eq!(long.send().expect(200).text(), "ours", "{way}");
    }
}

const BREAKER: &str = "minimum_calls = 3\nwindow = 3\nopen_for = \"60s\"\n";

#[test]
fn an_open_breaker_is_answered_for_on_every_way() {
    let origin = Origin::answering(|_| Answer::status(503));
    let breaker = BREAKER.trim_end().replace('\n', ", ");
    let gateway = Falls {
        api: Some(&origin),
        upstream: &format!("breaker = {{ {breaker} }}\n"),
        fallback: FIXED,
        ..Falls::default()
    }
    .start();
    for way in ways() {
        let before = origin.count();
        for _ in 0..3 {
            get(&gateway.client(), way, "/").send().expect(503);
        }
        let answer = get(&gateway.client(), way, "/").send().expect(200);
        assert_eq!(answer.header("X-Fallback"), Some("fixed"));
        assert_eq!(origin.count(), before + 3, "{way}");
    }
    for way in ways() {
        let labels = [("route", way.name()), ("cause", "breaker_open")];
        gateway.wait_for_metric("gateway_fallbacks_total", &labels, 1.0);
    }
}

#[test]
fn the_breaker_of_a_route_is_none_of_the_upstream_that_takes_over() {
    let origin = Origin::answering(|_| Answer::status(503));
    let spare = Origin::named("spare");
    let gateway = Falls {
        api: Some(&origin),
        spare: Some(&spare),
        fallback: &format!("upstream = \"{{spare}}\"\n[route.breaker]\n{BREAKER}"),
        ..Falls::default()
    }
    .start();
    for way in ways() {
        for _ in 0..3 {
            get(&gateway.client(), way, "/").send().expect(503);
        }
        let answer = get(&gateway.client(), way, "/").send();
        assert_eq!(answer.header("X-Fallback"), Some("upstream"), "{answer:?}");
        assert_eq!(answer.seen().origin, "spare");
    }
}
