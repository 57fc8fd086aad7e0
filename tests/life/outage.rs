//! Replacing the binary in the middle of an outage: what was learned of it is not learned again at its cost.

use crate::harness::{Answer, Gateway, Origin, eventually, seconds};

const REVIEWS: &str = "[upstream.reviews]\nendpoints = [{ address = \"{origin}\" }]\n\
    [upstream.reviews.passive]\nmax_fails = 0\n[upstream.reviews.retry]\nattempts = 0\n\
    [upstream.reviews.breaker]\nminimum_calls = 4\nopen_for = \"60s\"\nfailures = [\"503\"]\n\
    [[route]]\nid = \"reviews\"\npath = \"/reviews/**\"\nupstream = \"reviews\"\n\
    [route.fallback]\nlast_good = {}\n\
    [[route]]\nid = \"bare\"\npath = \"/bare\"\nupstream = \"reviews\"\n";

fn breaker(gateway: &Gateway) -> f64 {
    gateway.metric("gateway_breaker_state", &[("upstream", "reviews")])
}

#[test]
fn an_upgrade_in_an_outage_sends_no_flood_and_keeps_the_good_answers() {
    let origin = Origin::answering(|seen| match seen.target.as_str() {
        "/reviews/1" => Answer::text("one").header("X-Made", "before"),
        _ => Answer::status(503),
    });
    let gateway = Gateway::with(REVIEWS).to(&origin).own_program().start();
    gateway.client().get("/reviews/1").send().expect(200);
    for _ in 0..9 {
        gateway.client().get("/bare").send().expect(503);
    }
    assert_eq!(breaker(&gateway), 2.0);
    let sent = origin.count();
    for _ in 0..2 {
        gateway.upgrade().expect(0);
        assert_eq!(breaker(&gateway), 2.0);
        let refused = gateway.client().get("/bare").send();
        let wait = refused.refused(503, "breaker_open").number("retry-after");
        assert!((1..=60).contains(&wait), "{wait}");
        let kept = gateway.client().get("/reviews/1").send().expect(200);
        assert_eq!(
            (kept.text().as_str(), kept.header("x-made")),
            ("one", Some("before"))
        );
        assert!(kept.header("age").is_some());
        gateway.client().get("/reviews/2").send().expect(503);
    }
    assert_eq!(origin.count(), sent, "nothing was sent to it");
}

#[test]
fn an_upgrade_does_not_lengthen_the_rest_of_a_breaker() {
    let origin = Origin::answering(|_| Answer::status(503));
    let config = REVIEWS.replace("60s", "12s");
    let gateway = Gateway::with(&config).to(&origin).own_program().start();
    for _ in 0..4 {
        gateway.client().get("/bare").send().expect(503);
    }
    gateway.upgrade().expect(0);
    assert_eq!(breaker(&gateway), 2.0);
    eventually(seconds(30), "it is asked again", || {
        drop(gateway.client().get("/bare").send());
        origin.count() > 4
    });
}
