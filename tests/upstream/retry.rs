//! Second tries: on another endpoint, within a budget, and never of what must not happen twice.

use super::{before, endpoint, to};
use crate::harness::{Answer, Origin, eventually, reserve, seconds};

/// The budget always has room for ten retries a second; the tests below stay under it, but for the one about it.
///
/// No ejection, so that every request meets the bad endpoint in its turn.
const NO_EJECTION: &str = "[upstream.api.passive]\nmax_fails = 0\n";

#[test]
fn a_failed_connect_is_tried_elsewhere_for_any_method() {
    let good = Origin::named("good");
    let gateway = before(&(endpoint(reserve(), "") + &to(&good)), NO_EJECTION).start();
    for method in ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"] {
        let client = gateway.client();
        let request = client.request(method, "/");
        let request = if method == "POST" {
            request.body("once")
        } else {
            request
        };
        request.send().expect(200);
    }
    assert_eq!(good.count(), 6);
    assert!(
        good.seen()
            .iter()
            .filter(|s| s.method == "POST")
            .all(|s| s.body == b"once")
    );
    let retries = || {
        gateway.metric(
            "gateway_upstream_retries_total",
            &[("upstream", "api"), ("cause", "connect")],
        )
    };
    eventually(seconds(3), "the dead one was met", || {
        (3.0..=6.0).contains(&retries())
    });
}

#[test]
fn a_reset_is_tried_elsewhere_for_get_and_not_for_post() {
    let bad = Origin::scripted("bad", |_| Answer::reset());
    let good = Origin::named("good");
    let gateway = before(&(to(&bad) + &to(&good)), NO_EJECTION).start();
    for method in ["GET", "HEAD", "OPTIONS"] {
        for _ in 0..2 {
            gateway.client().request(method, "/").send().expect(200);
        }
    }
    let (bad_before, good_before) = (bad.count(), good.count());
    let mut refused = 0;
    for _ in 0..10 {
        let response = gateway.client().post("/").body("once").send();
        if response.status != 200 {
            response.refused(502, "upstream_reset");
            refused += 1;
        }
    }
    assert_eq!(
        refused,
        bad.count() - bad_before,
        "each reset POST was answered, not repeated"
    );
    assert_eq!(
        good.count() - good_before + refused,
        10,
        "and reached one origin only"
    );
    assert!(refused > 0);
}

#[test]
fn a_request_is_sent_at_most_attempts_times_more() {
    let origins = ["a", "b", "c", "d"].map(|name| Origin::scripted(name, |_| Answer::reset()));
    let endpoints: String = origins.iter().map(to).collect();
    for (attempts, sent) in [(0, 1), (1, 2), (2, 3)] {
        let before_it: usize = origins.iter().map(Origin::count).sum();
        let gateway = before(
            &endpoints,
            &format!("{NO_EJECTION}[upstream.api.retry]\nattempts = {attempts}\n"),
        )
        .start();
        gateway
            .client()
            .get("/")
            .send()
            .refused(502, "upstream_reset");
        let after_it: usize = origins.iter().map(Origin::count).sum();
        assert_eq!(after_it - before_it, sent, "attempts = {attempts}");
        assert!(origins.iter().all(|o| o.count() <= 3));
    }
}

#[test]
fn never_the_same_endpoint_twice_while_another_is_usable() {
    let bad = Origin::scripted("bad", |_| Answer::reset());
    let good = Origin::named("good");
    let endpoints = endpoint(bad.address(), ", weight = 100") + &to(&good);
    let gateway = before(&endpoints, NO_EJECTION).start();
    for _ in 0..9 {
        gateway.client().get("/").send().expect(200);
    }
    assert_eq!(bad.count(), 9);
    assert_eq!(good.count(), 9);
}

#[test]
fn configured_statuses_are_tried_elsewhere_and_others_passed_on() {
    for status in [502, 503, 504] {
        let bad = Origin::scripted("bad", move |_| Answer::status(status));
        let good = Origin::named("good");
        let gateway = before(&(to(&bad) + &to(&good)), NO_EJECTION).start();
        for _ in 0..4 {
            gateway.client().get("/").send().expect(200);
        }
        assert!(bad.count() >= 2);
    }
    for status in [404, 500, 501] {
        let odd = Origin::scripted("odd", move |_| Answer::status(status));
        let good = Origin::named("good");
        let gateway = before(&(to(&odd) + &to(&good)), NO_EJECTION).start();
        let statuses: Vec<u16> = (0..4)
            .map(|_| gateway.client().get("/").send().status)
            .collect();
        assert_eq!(
            statuses.iter().filter(|s| **s == status).count(),
            2,
            "{statuses:?}"
        );
    }
}

#[test]
fn a_status_of_the_only_endpoint_is_passed_on_with_its_body() {
    let busy = Origin::answering(|_| {
        Answer::text("come back later")
            .but_status(503)
            .header("Retry-After", "7")
    });
    let gateway = before(&to(&busy), "").start();
    let response = gateway.client().get("/").send().expect(503);
    assert_eq!(response.text(), "come back later");
    assert_eq!(response.header("retry-after"), Some("7"));
}

#[test]
fn retries_may_be_switched_off_by_cause() {
    let bad = Origin::scripted("bad", |_| Answer::reset());
    let good = Origin::named("good");
    let gateway = before(
        &(to(&bad) + &to(&good)),
        &format!("{NO_EJECTION}[upstream.api.retry]\non = [\"connect\"]\n"),
    )
    .start();
    let statuses: Vec<u16> = (0..4)
        .map(|_| gateway.client().get("/").send().status)
        .collect();
    assert_eq!(
        statuses.iter().filter(|s| **s == 502).count(),
        2,
        "{statuses:?}"
    );
}

#[test]
fn a_request_with_a_body_in_flight_is_not_repeated() {
    let bad = Origin::scripted("bad", |_| Answer::reset());
    let good = Origin::named("good");
    let retry = "[upstream.api.retry]\nmethods = [\"GET\"]\n";
    let gateway = before(&(to(&bad) + &to(&good)), &format!("{NO_EJECTION}{retry}")).start();
    for _ in 0..4 {
        let status = gateway
            .client()
            .request("PUT", "/")
            .body("x".repeat(200_000))
            .send()
            .status;
        assert!(status == 200 || status == 502, "{status}");
    }
    assert_eq!(bad.count() + good.count(), 4);
}

#[test]
fn a_reused_connection_that_died_meanwhile_costs_no_request() {
    let origin = Origin::start();
    let gateway = before(&to(&origin), NO_EJECTION).start();
    let mut connection = gateway.client().connect();
    for _ in 0..5 {
        connection.get("/").send().expect(200);
        origin.kill();
        origin.revive();
    }
    connection.get("/").send().expect(200);
}

#[test]
fn retries_stay_within_their_budget() {
    let origins = ["a", "b"].map(|name| Origin::scripted(name, |_| Answer::status(503)));
    let endpoints: String = origins.iter().map(to).collect();
    let retry = "[upstream.api.retry]\nattempts = 2\nbudget = \"20%\"\nbackoff = \"1ms\"\n";
    let gateway = before(&endpoints, &format!("{NO_EJECTION}{retry}")).start();
    let requests = 1000;
    let client = gateway.client();
    let start = std::time::Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut connection = client.connect();
                for _ in 0..requests / 4 {
                    connection.get("/").send();
                }
            });
        }
    });
    let sent: usize = origins.iter().map(Origin::count).sum();
    // A fifth of the requests, and always room for ten a second, counted over ten seconds.
    let allowed = requests / 5 + 10 * (start.elapsed().as_secs() as usize + 11);
    assert!(sent > requests, "some were retried");
    assert!(
        sent - requests <= allowed,
        "{} retries, {allowed} allowed",
        sent - requests
    );
}

#[test]
fn a_body_of_no_chunks_ends_in_the_second_try_too() {
    let bad = Origin::scripted("bad", |_| Answer::reset());
    let good = Origin::named("good");
    let timeout = "[upstream.api.timeout]\nread = \"2s\"\n";
    let gateway = before(&(to(&bad) + &to(&good)), &format!("{NO_EJECTION}{timeout}")).start();
    for _ in 0..4 {
        let nothing: [&str; 0] = [];
        let seen = gateway.client().get("/").chunked(&nothing).send().seen();
        assert_eq!((seen.origin.as_str(), seen.body.len()), ("good", 0));
    }
    assert!(bad.count() > 0);
}
