//! Who goes away while it waits for a place waits no longer, and nothing of what others send meanwhile is lost.

use std::time::Instant;

use super::{classes, slow};
use crate::harness::{Connection, Gateway, Origin, eventually, seconds};

fn start(origin: &Origin, listener: &str) -> Gateway {
    let upstream = "concurrency = { max = 1, queue = 1, queue_timeout = \"25s\" }";
    classes(upstream, listener).to(origin).start()
}

fn queued(gateway: &Gateway, count: f64) {
    gateway.wait_for_metric("gateway_upstream_queued", &[("upstream", "api")], count);
}

/// One request that has the only place.
fn held(gateway: &Gateway, origin: &Origin, target: &str) -> Connection {
    let holder = gateway.client().get(target).begin();
    eventually(seconds(5), "it arrived", || origin.count() == 1);
    holder
}

#[test]
fn a_client_that_leaves_gives_its_place_in_the_queue_away_at_once() {
    let origin = slow();
    let gateway = start(&origin, "");
    let _holder = held(&gateway, &origin, "/normal/never");
    let begun = Instant::now();
    for request in [
        "GET /normal/x HTTP/1.1\r\nHost: a\r\n\r\n",
        "POST /normal/x HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n",
    ] {
        let mut waiting = gateway.client().connect();
        waiting.write(request).unwrap();
        queued(&gateway, 1.0);
        waiting.abort();
        queued(&gateway, 0.0);
    }
    assert!(begun.elapsed() < seconds(20), "{:?}", begun.elapsed());
    assert_eq!(origin.count(), 1, "who left was not sent");
    // Nobody was refused.
    assert!(!gateway.metrics_text().contains(
        "gateway_shed_total{class=\"normal\",cause=\"queue_timeout\",upstream=\"api\"} 1"
    ));
}

#[test]
fn what_a_waiting_client_sends_meanwhile_is_not_lost() {
    let origin = slow();
    let gateway = start(&origin, "");
    let mut holder = held(&gateway, &origin, "/normal/slow");
    let mut waiting = gateway.client().connect();
    let head = "POST /normal/first HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n";
    waiting.write(head).unwrap();
    queued(&gateway, 1.0);
    waiting
        .write("the body!GET /normal/second HTTP/1.1\r\nHost: a\r\n\r\n")
        .unwrap();
    holder.response("GET").unwrap().expect(200);
    let seen = waiting.response("POST").unwrap().expect(200).seen();
    assert_eq!(
        (seen.target.as_str(), seen.body.as_slice()),
        ("/normal/first", &b"the body!"[..])
    );
    let seen = waiting.response("GET").unwrap().expect(200).seen();
    assert_eq!(seen.target, "/normal/second");
}
