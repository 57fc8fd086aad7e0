//! A second try beside the first takes a place of its own where so many requests may be at an upstream at once.

use std::net::SocketAddr;

use super::endpoint;
use crate::harness::{
    Answer, Does, Gateway, Origin, StreamOrigin, always, eventually, millis, seconds,
};

fn start(addresses: [SocketAddr; 2], http2: bool, max: u32) -> Gateway {
    let endpoints = addresses.map(|address| endpoint(address, "")).concat();
    let version = if http2 { "http_version = \"2\"\n" } else { "" };
    Gateway::with(&format!(
        "[upstream.api]\nendpoints = [{endpoints}]\n{version}hedge = {{ after = \"50ms\" }}\n\
         passive = {{ max_fails = 0 }}\nconcurrency = {{ max = {max}, queue = 0 }}\n\
         [[route]]\nid = \"all\"\npath = \"/**\"\nupstream = \"api\"\n"
    ))
    .start()
}

fn outcomes(gateway: &Gateway, outcome: &str) -> f64 {
    let labels = [("upstream", "api"), ("outcome", outcome)];
    gateway.metric("gateway_upstream_hedges_total", &labels)
}

fn taken(gateway: &Gateway) -> u64 {
    let upstreams = gateway.admin_get("/api/v1/upstreams").expect(200).json();
    upstreams[0]["concurrency"]["in_flight"].as_u64().unwrap()
}

/// Endpoints of either protocol, that answer after these times, and how often each was asked.
struct Pair {
    http1: [Origin; 2],
    http2: [StreamOrigin; 2],
}

impl Pair {
    fn of(pauses: [u64; 2]) -> Self {
        let pauses = pauses.map(millis);
        Self {
            http1: pauses
                .map(|pause| Origin::scripted("one", move |_| Answer::text("well").after(pause))),
            http2: pauses.map(|pause| StreamOrigin::start("one", Does::Answers(pause))),
        }
    }

    fn addresses(&self, http2: bool) -> [SocketAddr; 2] {
        match http2 {
            true => self.http2.each_ref().map(StreamOrigin::address),
            false => self.http1.each_ref().map(Origin::address),
        }
    }

    fn asked(&self, http2: bool) -> [usize; 2] {
        match http2 {
            true => self.http2.each_ref().map(StreamOrigin::count),
            false => self.http1.each_ref().map(Origin::count),
        }
    }
}

#[test]
fn where_no_place_is_left_there_is_no_second_try() {
    let pair = Pair::of([400, 0]);
    for http2 in [false, true] {
        let gateway = start(pair.addresses(http2), http2, 1);
        gateway.client().get("/").send().expect(200);
        assert_eq!(pair.asked(http2), [1, 0], "HTTP/2: {http2}");
        assert_eq!(outcomes(&gateway, "refused"), 1.0);
        eventually(seconds(5), "its place is free", || taken(&gateway) == 0);
    }
}

#[test]
fn each_try_holds_a_place_until_it_is_over() {
    let pair = Pair::of([30_000, 700]);
    for http2 in [false, true] {
        let gateway = start(pair.addresses(http2), http2, 2);
        let mut client = gateway.client().get("/").begin();
        eventually(seconds(5), "both are taken", || taken(&gateway) == 2);
        gateway.client().get("/").send().refused(503, "overloaded");
        client.response("GET").unwrap().expect(200);
        assert_eq!(pair.asked(http2), [1, 1], "HTTP/2: {http2}");
        assert_eq!(outcomes(&gateway, "won"), 1.0);
        eventually(seconds(5), "both are free", || taken(&gateway) == 0);
        // The next begins with the quick one.
        gateway.client().get("/").send().expect(200);
    }
}

#[test]
fn never_more_are_asked_than_there_are_places() {
    let pair = Pair::of([30_000, 30_000]);
    for http2 in [false, true] {
        let gateway = start(pair.addresses(http2), http2, 3);
        let clients: Vec<_> = (0..3).map(|_| gateway.client().get("/").begin()).collect();
        let asked = || pair.asked(http2).iter().sum::<usize>();
        eventually(seconds(5), "they are asked", || asked() == 3);
        always(millis(400), "no more than three", || asked() == 3);
        drop(clients);
        eventually(seconds(5), "all are free", || taken(&gateway) == 0);
    }
}
