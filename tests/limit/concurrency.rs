//! How many at the same time; every slot comes back, whatever happens to its holder.

use crate::harness::{Answer, Connection, Gateway, Origin, eventually, millis, seconds};

/// A gateway that lets two at a time through to an origin that answers when it is told to.
fn two_at_a_time(origin: &Origin) -> Gateway {
    Gateway::with(
        r#"
        [limit.in_flight]
        key = "client_ip"
        algorithm = "concurrency"
        max = 2
        [upstream.api]
        endpoints = [{ address = "{origin}" }]
        [upstream.api.retry]
        attempts = 0
        [[route]]
        id = "slow"
        path = "/**"
        limits = ["in_flight"]
        upstream = "api"
        "#,
    )
    .to(origin)
    .start()
}

fn slow() -> Origin {
    Origin::answering(|seen| match seen.target.as_str() {
        "/slow" => Answer::text("done").after(millis(700)),
        "/never" => Answer::silence(),
        "/reset" => Answer::reset(),
        _ => Answer::echo(),
    })
}

/// Two requests that are on their way to the origin.
fn occupied(gateway: &Gateway, origin: &Origin, target: &str) -> [Connection; 2] {
    let before = origin.count();
    let holders = [(); 2].map(|()| gateway.client().get(target).begin());
    eventually(seconds(5), "both arrived", || origin.count() == before + 2);
    holders
}

#[test]
fn the_third_at_once_is_refused_and_served_afterwards() {
    let origin = slow();
    let gateway = two_at_a_time(&origin);
    let mut holders = occupied(&gateway, &origin, "/slow");
    let refused = gateway
        .client()
        .get("/fast")
        .send()
        .refused(429, "concurrency_limited");
    assert!(refused.number("retry-after") >= 1);
    gateway.client().from(2).get("/fast").send().expect(200);
    for holder in &mut holders {
        holder.response("GET").unwrap().expect(200);
    }
    eventually(seconds(2), "the slots are free", || {
        gateway.client().get("/fast").send().status == 200
    });
    assert_eq!(origin.count_of(|s| s.target == "/fast"), 2);
}

#[test]
fn a_client_that_goes_away_gives_its_slot_back() {
    let origin = slow();
    let gateway = two_at_a_time(&origin);
    for _ in 0..3 {
        let [one, two] = occupied(&gateway, &origin, "/never");
        gateway
            .client()
            .get("/fast")
            .send()
            .refused(429, "concurrency_limited");
        one.abort();
        drop(two);
        eventually(seconds(5), "both slots are free", || {
            gateway.metric("gateway_requests_in_flight", &[("route", "slow")]) == 0.0
        });
        gateway.client().get("/fast").send().expect(200);
    }
    let mut both = occupied(&gateway, &origin, "/slow");
    both.iter_mut()
        .for_each(|c| drop(c.response("GET").unwrap().expect(200)));
}

#[test]
fn an_upstream_that_fails_gives_the_slot_back() {
    let origin = slow();
    let gateway = two_at_a_time(&origin);
    for _ in 0..6 {
        gateway
            .client()
            .get("/reset")
            .send()
            .refused(502, "upstream_reset");
    }
    gateway.client().get("/fast").send().expect(200);
}

#[test]
fn slots_are_counted_through_a_reload() {
    let origin = slow();
    let gateway = two_at_a_time(&origin);
    let holders = occupied(&gateway, &origin, "/never");
    gateway.reload_ok();
    gateway
        .client()
        .get("/fast")
        .send()
        .refused(429, "concurrency_limited");
    drop(holders);
    eventually(seconds(5), "the slots are free", || {
        gateway.client().get("/fast").send().status == 200
    });
}
