//! An upstream that fails is given a rest, and asked again by a few.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use serde_json::{Value, json};

use super::{before, to};
use crate::harness::{Answer, Gateway, Origin, Setup, eventually, millis, seconds};

/// No second tries and no ejection: each request is one call.
const ONE_CALL: &str =
    "[upstream.api.passive]\nmax_fails = 0\n[upstream.api.retry]\nattempts = 0\n";

fn guarded(origin: &Origin, breaker: &str) -> Setup {
    before(
        &to(origin),
        &format!("{ONE_CALL}[upstream.api.breaker]\n{breaker}\n"),
    )
}

/// An origin that answers 503 while the flag is up, and afterwards 200 after a moment.
fn failing() -> (Origin, Arc<AtomicBool>) {
    let bad = Arc::new(AtomicBool::new(true));
    let flag = Arc::clone(&bad);
    let origin = Origin::answering(move |_| match flag.load(Ordering::SeqCst) {
        true => Answer::status(503),
        false => Answer::text("well").after(millis(300)),
    });
    (origin, bad)
}

fn send(gateway: &Gateway, times: usize) -> Vec<u16> {
    let mut connection = gateway.client().connect();
    let statuses = (0..times).map(|_| connection.get("/").send().status);
    statuses.collect()
}

fn state(gateway: &Gateway, value: f64) {
    gateway.wait_for_metric("gateway_breaker_state", &[("upstream", "api")], value);
}

fn shown(gateway: &Gateway) -> Value {
    let upstreams = gateway.admin_get("/api/v1/upstreams").expect(200).json();
    upstreams[0]["breaker"].clone()
}

#[test]
fn opens_at_once_and_says_for_how_long() {
    let (origin, _) = failing();
    let gateway = guarded(&origin, "minimum_calls = 10\nopen_for = \"60s\"").start();
    state(&gateway, 0.0);
    assert_eq!(send(&gateway, 10), [503; 10]);
    assert_eq!(origin.count(), 10);
    let refused = gateway.client().get("/").send();
    assert!((59..=60).contains(&refused.number("retry-after")));
    let trace = refused.header("x-trace-id").unwrap().to_owned();
    refused.refused(503, "breaker_open");
    assert_eq!(origin.count(), 10, "nothing more is sent");
    assert_eq!(gateway.access_line(&trace)["reason"], "breaker_open");
    state(&gateway, 2.0);
    gateway.wait_for_metric(
        "gateway_breaker_transitions_total",
        &[("upstream", "api"), ("to", "open")],
        1.0,
    );
    gateway.wait_for_log(|line| {
        line["upstream"] == "api"
            && line["msg"].as_str().is_some_and(|msg| {
                msg.contains("the breaker is open: 10 of 10 calls failed, 0 were slow")
            })
    });
    let breaker = shown(&gateway);
    assert_eq!(
        (&breaker["state"], &breaker["failed"]),
        (&json!("open"), &json!(10))
    );
    let status = gateway.run_cli(&["status"], &[]);
    assert!(
        status.stdout.contains("breaker open, "),
        "{}",
        status.stdout
    );
}

#[test]
fn half_open_admits_exactly_its_quota_of_fifty_clients_and_closes_again() {
    let (origin, bad) = failing();
    let rule = "minimum_calls = 10\nopen_for = \"500ms\"\nhalf_open_calls = 5";
    let gateway = guarded(&origin, rule).start();
    send(&gateway, 10);
    bad.store(false, Ordering::SeqCst);
    state(&gateway, 1.0);
    let before_it = origin.count();
    let refused = AtomicUsize::new(0);
    let gate = std::sync::Barrier::new(50);
    std::thread::scope(|scope| {
        for _ in 0..50 {
            scope.spawn(|| {
                let mut connection = gateway.client().connect();
                gate.wait();
                let answer = connection.get("/").send();
                if answer.status != 200 {
                    answer.refused(503, "breaker_open");
                    refused.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
    });
    assert_eq!(origin.count() - before_it, 5);
    assert_eq!(refused.load(Ordering::SeqCst), 45);
    state(&gateway, 0.0);
    assert_eq!(send(&gateway, 3), [200; 3]);
}

#[test]
fn opens_again_when_the_probes_fail() {
    let (origin, _) = failing();
    let rule = "minimum_calls = 10\nopen_for = \"300ms\"\nhalf_open_calls = 2";
    let gateway = guarded(&origin, rule).start();
    send(&gateway, 10);
    for round in 1..=3 {
        eventually(seconds(5), "the next probes", || {
            send(&gateway, 1);
            origin.count() == 10 + 2 * round
        });
    }
    let opened = [("upstream", "api"), ("to", "open")];
    gateway.wait_for_metric("gateway_breaker_transitions_total", &opened, 4.0);
}

#[test]
fn a_probe_whose_client_leaves_gives_its_place_to_another() {
    let (origin, bad) = failing();
    let rule = "minimum_calls = 10\nopen_for = \"300ms\"\nhalf_open_calls = 1";
    let gateway = guarded(&origin, rule).start();
    send(&gateway, 10);
    bad.store(false, Ordering::SeqCst);
    state(&gateway, 1.0);
    let probe = gateway.client().get("/").begin();
    eventually(seconds(3), "the probe is there", || origin.count() == 11);
    gateway
        .client()
        .get("/")
        .send()
        .refused(503, "breaker_open");
    probe.abort();
    eventually(seconds(3), "another is let through", || {
        send(&gateway, 1) == [200]
    });
    state(&gateway, 0.0);
}

/// Of every ten calls so many fail.
fn failing_by_share(of_ten: usize) -> Origin {
    let count = AtomicUsize::new(0);
    Origin::answering(
        move |_| match count.fetch_add(1, Ordering::SeqCst) % 10 < of_ten {
            true => Answer::status(502),
            false => Answer::text("well"),
        },
    )
}

#[test]
fn less_than_the_rate_never_opens_it() {
    for window in ["window = \"10s\"", "window = 20"] {
        let origin = failing_by_share(5);
        let rule = format!("{window}\nminimum_calls = 20\nfailure_rate = \"61%\"");
        let gateway = guarded(&origin, &rule).start();
        for _ in 0..100 {
            gateway.client().get("/").send();
        }
        assert_eq!(origin.count(), 100);
        assert_eq!(shown(&gateway)["state"], "closed");
    }
}

#[test]
fn the_rate_opens_it_over_time_and_over_calls() {
    for window in ["window = \"10s\"", "window = 20"] {
        let origin = failing_by_share(5);
        let gateway = guarded(&origin, &format!("{window}\nminimum_calls = 20")).start();
        for _ in 0..40 {
            gateway.client().get("/").send();
        }
        assert_eq!(origin.count(), 20, "{window}");
        assert_eq!(shown(&gateway)["state"], "open");
    }
}

#[test]
fn an_upstream_that_is_gone_opens_it_and_one_that_came_back_closes_it() {
    let origin = Origin::start();
    let rule = "minimum_calls = 5\nopen_for = \"300ms\"\nhalf_open_calls = 2";
    let gateway = guarded(&origin, rule).start();
    send(&gateway, 5);
    origin.kill();
    eventually(seconds(5), "it is open", || {
        let answer = gateway.client().get("/").send();
        answer.code().as_deref() == Some("breaker_open")
    });
    origin.revive();
    eventually(seconds(5), "it is closed", || {
        send(&gateway, 1);
        shown(&gateway)["state"] == "closed"
    });
    assert_eq!(send(&gateway, 5), [200; 5]);
}

#[test]
fn slow_answers_open_it() {
    let origin = Origin::answering(|_| Answer::text("late").after(millis(150)));
    let rule = "minimum_calls = 5\nslow_call = \"100ms\"\nslow_rate = \"80%\"";
    let gateway = guarded(&origin, rule).start();
    assert_eq!(send(&gateway, 5), [200; 5]);
    gateway
        .client()
        .get("/")
        .send()
        .refused(503, "breaker_open");
    assert_eq!(shown(&gateway)["slow"], 5);
}

#[test]
fn silence_until_the_deadline_opens_it_and_clients_that_leave_do_not() {
    let origin = Origin::answering(|_| Answer::silence());
    let gateway = guarded(&origin, "minimum_calls = 5")
        .append("timeout = \"200ms\"\n")
        .start();
    for count in 1..=8 {
        let connection = gateway.client().get("/").begin();
        eventually(seconds(3), "the request is there", || {
            origin.count() == count
        });
        connection.abort();
    }
    for _ in 0..5 {
        let answer = gateway.client().get("/").send();
        answer.refused(504, "deadline_exceeded");
    }
    gateway
        .client()
        .get("/")
        .send()
        .refused(503, "breaker_open");
}

#[test]
fn a_breaker_that_opens_ends_retries() {
    let origins = ["a", "b", "c"].map(|name| Origin::scripted(name, |_| Answer::reset()));
    let endpoints: String = origins.iter().map(to).collect();
    let gateway = before(
        &endpoints,
        "[upstream.api.passive]\nmax_fails = 0\n[upstream.api.retry]\nattempts = 10\nbackoff = \"1ms\"\n\
         [upstream.api.breaker]\nminimum_calls = 2\n",
    )
    .start();
    let answer = gateway.client().get("/").send();
    answer.refused(502, "upstream_reset");
    let sent: usize = origins.iter().map(Origin::count).sum();
    assert_eq!(sent, 2);
}

const TWO_ROUTES: &str = "
[upstream.api]
endpoints = [{ address = \"{origin}\" }]
[upstream.api.retry]
attempts = 0
[group.shop]
breaker = { window = 10, failure_rate = \"60%\", minimum_calls = 5, open_for = \"60s\" }
[[route]]
id = \"bad\"
path = \"/bad\"
upstream = \"api\"
group = \"shop\"
[[route]]
id = \"good\"
path = \"/good\"
upstream = \"api\"
group = \"shop\"
";

#[test]
fn a_breaker_of_a_route_stands_before_that_route_alone() {
    let origin = Origin::answering(|seen| match seen.target.as_str() {
        "/bad" => Answer::status(504),
        _ => Answer::text("well"),
    });
    let gateway = Gateway::with(TWO_ROUTES).to(&origin).start();
    let get = |path: &str| gateway.client().get(path).send();
    for _ in 0..5 {
        get("/good").expect(200);
        get("/bad").expect(504);
    }
    get("/bad").refused(503, "breaker_open");
    get("/good").expect(200);
    gateway.wait_for_metric("gateway_route_breaker_state", &[("route", "bad")], 2.0);
    gateway.wait_for_metric("gateway_route_breaker_state", &[("route", "good")], 0.0);
    let explained = |path: &str| {
        let question = json!({ "method": "GET", "url": path });
        let answer = gateway.admin_post("/api/v1/explain", &question);
        answer.expect(200).json()
    };
    assert_eq!(explained("/bad")["decision"], "breaker_open");
    assert_eq!(explained("/good")["decision"], "forward");
    let routes = gateway.admin_get("/api/v1/routes").expect(200).json();
    let states = routes.as_array().unwrap().iter();
    let states: Vec<&Value> = states.map(|route| &route["breaker"]["state"]).collect();
    assert_eq!(states, ["open", "closed"]);
    // Nothing that concerns it changed: it goes on. Then it did, and it begins anew.
    gateway.rewrite(&format!(
        "{TWO_ROUTES}[[route]]\npath = \"/more\"\nupstream = \"api\"\n"
    ));
    gateway.reload_ok();
    get("/bad").refused(503, "breaker_open");
    gateway.rewrite(&TWO_ROUTES.replace("60%", "70%"));
    gateway.reload_ok();
    get("/bad").expect(504);
}

#[test]
fn the_state_survives_a_reload_that_changes_other_settings() {
    let (origin, _) = failing();
    let rule = "minimum_calls = 10\nopen_for = \"60s\"";
    let gateway = guarded(&origin, rule).start();
    send(&gateway, 10);
    let config = std::fs::read_to_string(gateway.config()).unwrap();
    let keepalive = |count: u32| format!("[upstream.api]\nkeepalive = {count}\n");
    let other = config.replace("[upstream.api]\n", &keepalive(7));
    gateway.rewrite(&other);
    gateway.reload_ok();
    gateway
        .client()
        .get("/")
        .send()
        .refused(503, "breaker_open");
    // Without one there is none, and its series is gone.
    gateway.rewrite(
        &other
            .replace("[upstream.api.breaker]", "[upstream.other.breaker]")
            .replace(
                "[[route]]",
                "[upstream.other]\nendpoints = [{ address = \"127.0.0.1:9\" }]\n[[route]]",
            ),
    );
    gateway.reload_ok();
    assert_eq!(send(&gateway, 2), [503; 2]);
    assert_eq!(origin.count(), 12);
    let text = gateway.metrics_text();
    assert!(
        !text.contains("gateway_breaker_state{upstream=\"api\"}"),
        "{text}"
    );
}

#[test]
fn what_concerns_the_connection_has_the_same_breaker() {
    let (origin, bad) = failing();
    let rule = "minimum_calls = 5\nopen_for = \"1s\"\nhalf_open_calls = 1";
    let gateway = guarded(&origin, rule).start();
    // A field that concerns the connection: the head of such a request is changed on its way.
    let get = || gateway.client().get("/").header("TE", "trailers").send();
    for _ in 0..5 {
        get().expect(503);
    }
    assert_eq!(origin.count(), 5);
    get().refused(503, "breaker_open");
    bad.store(false, Ordering::SeqCst);
    state(&gateway, 1.0);
    let client = gateway.client();
    let probe = client.get("/").header("TE", "trailers").begin();
    eventually(seconds(3), "the probe is there", || origin.count() == 6);
    get().refused(503, "breaker_open");
    probe.abort();
    eventually(seconds(3), "it is closed", || {
        get();
        shown(&gateway)["state"] == "closed"
    });
    origin.kill();
    let broken = || {
        (0..6)
            .map(|_| get())
            .find(|answer| answer.code().as_deref() == Some("breaker_open"))
    };
    eventually(seconds(5), "it is open", || broken().is_some());
}
