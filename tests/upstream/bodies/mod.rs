//! A body reaches whoever is to have it, whole and once: on every way to an upstream, from a client of either protocol,
//! however it is framed, and however often or wherever it is sent.

mod cut;
mod ends;
mod reach;

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::endpoint;
use crate::harness::{
    Answer, Faces, Gateway, Http2, Origin, Seen, Signed, Way, asking, crossings, holds_within,
    seconds, ways,
};

/// Those on which one endpoint is asked beside the other.
fn hedged() -> impl Iterator<Item = Way> {
    ways().into_iter().filter(|way| way.hedged)
}

/// From which way to which other a fallback leads: every one is left, and every one is taken.
fn elsewhere() -> Vec<(Way, Way)> {
    crossings(&ways(), 4)
}

/// What may happen to the first endpoint that is asked.
const RETRIED: [&str; 2] = ["reset", "status"];

/// Endpoints that fail as the path says, endpoints that answer, and one that gets copies.
struct World {
    origins: [Origin; 2],
    shadow: Origin,
    gateway: Gateway,
    http2_client: Http2,
    served: AtomicUsize,
    /// Its routes ask for signatures of bodies, which are read before they are sent on.
    signed: bool,
}

/// What the path of a request makes of it: `/WAY/EVENT/NUMBER`.
fn event(path: &str) -> &str {
    path.split('/').nth(2).unwrap_or_default()
}

fn failing() -> Origin {
    let served: Mutex<HashMap<usize, usize>> = Mutex::default();
    Origin::scripted("bad", move |seen: &Seen| {
        let mut served = served.lock().unwrap();
        let before = served.entry(seen.connection).or_default();
        *before += 1;
        match event(&seen.target) {
            "hedge" => Answer::silence(),
            "reset" => Answer::reset(),
            "stale" if *before > 1 => Answer::close(),
            "status" | "elsewhere" => Answer::status(503),
            _ => Answer::text("well"),
        }
    })
}

/// The upstreams of one way: all of its endpoints, the same with a second try soon, and each kind of endpoint alone.
fn upstreams(way: Way, bad: &str, good: &str) -> String {
    let one = |name: &str, [first, second]: [&str; 2], after: &str, attempts: u32| {
        let hedge = format!("after = \"{after}\", methods = [\"PUT\"]");
        let more = format!(
            "passive = {{ max_fails = 0 }}\ntimeout = {{ request = \"4s\" }}\n\
             retry = {{ attempts = {attempts}, methods = [\"PUT\"], backoff = \"1ms\", budget = \"100%\" }}"
        );
        let endpoints = [first.to_owned(), second.to_owned()];
        way.upstream(&format!("{way}{name}"), &endpoints, &hedge, &more)
    };
    let [dead, deader] = [way.nowhere(), way.nowhere()];
    one("", [bad, good], "5s", 2)
        + &one("_slow", [bad, good], "50ms", 2)
        + &one("_bad", [bad, &deader], "5s", 0)
        + &one("_dead", [&dead, &deader], "5s", 0)
        + &one("_good", [good, &deader], "5s", 0)
}

const SECRET: &str = "a secret of an app";

fn routes(way: Way, signed: bool) -> String {
    let auth = if signed { "auth = [\"partner\"]" } else { "" };
    let mirror = "mirror = { upstream = \"shadow\", methods = [\"PUT\"], max_body = \"64KiB\", in_flight = 1000 }";
    let route = |event: &str, upstream: &str, more: &str| {
        format!(
            "[[route]]\npath = \"/{way}/{event}/**\"\nupstream = \"{way}{upstream}\"\n{mirror}\n{auth}\n{more}\n"
        )
    };
    let mut text = route("plain", "", "") + &route("hedge", "_slow", "");
    for event in RETRIED.into_iter().chain(["stale"]) {
        text += &route(event, "", "");
    }
    for (_, other) in elsewhere().into_iter().filter(|(first, _)| *first == way) {
        let there = format!(
            "fallback = {{ upstream = \"{other}_good\", on = [\"503\", \"no_endpoint\"] }}"
        );
        text += &route(&format!("elsewhere/{other}"), "_bad", &there);
        text += &route(&format!("dead/{other}"), "_dead", &there);
    }
    text
}

impl World {
    /// A world whose routes take bodies of so many bytes.
    fn new(max_body: usize) -> Self {
        Self::of(max_body, false)
    }

    /// The same, where bodies are read before they are sent on.
    fn signed(max_body: usize) -> Self {
        Self::of(max_body, true)
    }

    fn of(max_body: usize, signed: bool) -> Self {
        let origins = [
            failing(),
            Origin::scripted("good", |_| Answer::text("well")),
        ];
        let shadow = Origin::scripted("shadow", |_| Answer::text("well"));
        let faces = origins.each_ref().map(|origin| Faces::of(origin.address()));
        let mut text = format!(
            "[server]\nthreads = 1\n[server.client]\nmax_body = \"{max_body}B\"\n\
             [[listener]]\nname = \"public\"\naddress = \"{{listen}}\"\nhttp2 = true\n\
             [auth.partner]\ntype = \"signature\"\nscheme = \"ca\"\napps = {{ \"app\" = {{ secret = \"{SECRET}\" }} }}\n\
             [upstream.shadow]\nendpoints = [{}]\n",
            endpoint(shadow.address(), "")
        );
        for way in ways() {
            let [bad, good] = faces.each_ref().map(|faces| faces.over(way));
            text += &upstreams(way, &bad, &good);
            text += &routes(way, signed);
        }
        let gateway = Gateway::with(&text).file("face.pem", Faces::ca());
        let gateway = gateway.keeps(faces).start();
        Self {
            http2_client: Http2::connect(gateway.listen()),
            origins,
            shadow,
            gateway,
            served: AtomicUsize::new(0),
            signed,
        }
    }

    /// Who got a request with this path, and what body, in the order of their names.
    fn reached(&self, path: &str) -> Vec<(&str, Vec<u8>)> {
        let mut reached = Vec::new();
        for (origin, name) in self.origins.iter().zip(["bad", "good"]) {
            let seen = origin.seen().into_iter().filter(|seen| seen.target == path);
            reached.extend(seen.map(|seen| (name, seen.body)));
        }
        let copies = self.shadow.seen().into_iter();
        let copies = copies.filter(|seen| seen.target == path);
        reached.extend(copies.map(|seen| ("shadow", seen.body)));
        reached.sort_by_key(|(name, _)| *name);
        reached
    }

    /// Sends `body` to `prefix` from clients of either protocol, framed either way. Says for each what was wrong when not
    /// exactly those `expected` got it; `maybe` may have.
    fn send_each(&self, prefix: &str, body: &[u8], expected: &[&str], maybe: &str) -> Vec<String> {
        let mut wrong = Vec::new();
        for (protocol, chunked) in [("1", true), ("1", false), ("2", true), ("2", false)] {
            let number = self.served.fetch_add(1, Ordering::Relaxed);
            let path = format!("{prefix}/{number}");
            let status = self.send(protocol, chunked, &path, body);
            let whole = |path: &str| {
                let reached = self.reached(path);
                let names = reached.iter().map(|(name, _)| *name);
                let names: Vec<&str> = names.filter(|name| *name != maybe).collect();
                names == expected && reached.iter().all(|(_, there)| there == body)
            };
            if status != 200 || !holds_within(seconds(2), || whole(&path)) {
                let reached = self.reached(&path);
                let reached = reached.iter().map(|(name, there)| {
                    let same = if there == body { "" } else { ", another" };
                    format!("{name}: {} bytes{same}", there.len())
                });
                let reached: Vec<String> = reached.collect();
                let framed = if chunked { "chunked" } else { "with length" };
                wrong.push(format!(
                    "{path} over HTTP/{protocol} {framed}: {status}, {reached:?}"
                ));
            }
        }
        wrong
    }

    /// The status of the answer; 0 for none.
    fn send(&self, protocol: &str, chunked: bool, path: &str, body: &[u8]) -> u16 {
        let pieces: Vec<&[u8]> = body.chunks(body.len().div_ceil(3)).collect();
        let fields = if self.signed {
            let text = std::str::from_utf8(body).unwrap();
            Signed::ca("app", SECRET, "PUT", path).body(text).headers()
        } else {
            Vec::new()
        };
        if protocol == "1" {
            let client = self.gateway.client();
            let request = client.request("PUT", path).headers(&fields);
            let request = match chunked {
                true => request.chunked(&pieces),
                false => request.body(body),
            };
            return request.try_send().map_or(0, |answer| answer.status);
        }
        let mut request = asking("PUT", path);
        for (name, value) in fields {
            request = request.header(name, value);
        }
        if !chunked {
            request = request.header("content-length", body.len());
        }
        let mut asked = self.http2_client.begin(request.body(()).unwrap(), true);
        for (index, piece) in pieces.iter().enumerate() {
            let last = index + 1 == pieces.len();
            let _ = asked.body.send_data(piece.to_vec().into(), last);
        }
        asked.wait().map_or(0, |answer| answer.status)
    }
}

/// Text of which no part looks like the next.
fn body(length: usize) -> Vec<u8> {
    (0..length)
        .map(|at| b'!' + ((at * 7 + at / 89) % 89) as u8)
        .collect()
}
