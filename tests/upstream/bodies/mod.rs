//! A body reaches whoever is to have it, whole and once: on every way to an upstream, from a client of either protocol,
//! however it is framed, and however often or wherever it is sent.

mod cut;
mod ends;
mod reach;

use std::collections::HashMap;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::endpoint;
use crate::harness::{
    Answer, Does, Gateway, Http2, Origin, Seen, Signed, StreamOrigin, asking, holds_within,
    leads_to, millis, reserve, seconds,
};

/// Ways to an upstream: HTTP/1 and HTTP/2 where one endpoint may be asked beside the other, and both through the framework.
const WAYS: [&str; 4] = ["relay", "streams", "unix", "frames"];
/// Those on which one endpoint is asked beside the other.
const HEDGED: [&str; 2] = ["relay", "streams"];
/// What may happen to the first endpoint that is asked.
const RETRIED: [&str; 2] = ["reset", "status"];

/// Endpoints that fail as the path says, endpoints that answer, and one that gets copies.
struct World {
    http1: [Origin; 2],
    http2: [StreamOrigin; 2],
    shadow: Origin,
    gateway: Gateway,
    http2_client: Http2,
    _sockets: tempfile::TempDir,
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

fn failing_streams() -> StreamOrigin {
    StreamOrigin::scripted("bad", |path| match event(path) {
        "hedge" => Does::Answers(seconds(30)),
        "reset" => Does::Resets(millis(0)),
        "status" | "elsewhere" => Does::Says(503),
        _ => Does::Answers(millis(0)),
    })
}

/// The upstreams of one way: all of its endpoints, the same with a second try soon, and each kind of endpoint alone.
fn upstreams(way: &str, bad: &str, good: &str, dead: [&str; 2]) -> String {
    let http2 = match way {
        "streams" | "frames" => "http_version = \"2\"\n",
        _ => "",
    };
    let hedged = HEDGED.contains(&way);
    let one = |name: &str, endpoints: &str, after: &str, attempts: u32| {
        let hedge = if hedged {
            format!("hedge = {{ after = \"{after}\", methods = [\"PUT\"] }}\n")
        } else {
            String::new()
        };
        format!(
            "[upstream.{way}{name}]\nendpoints = [{endpoints}]\n{http2}{hedge}passive = {{ max_fails = 0 }}\n\
             timeout = {{ request = \"4s\" }}\n\
             retry = {{ attempts = {attempts}, methods = [\"PUT\"], backoff = \"1ms\", budget = \"100%\" }}\n"
        )
    };
    let backup = |address: &str| format!("{{ address = \"{address}\", backup = true }}");
    // A second try needs a second endpoint.
    let with =
        |address: &str, other: &str| format!("{{ address = \"{address}\" }}, ") + &backup(other);
    let both = with(bad, good);
    one("", &both, "5s", 2)
        + &one("_slow", &both, "50ms", 2)
        + &one("_bad", &with(bad, dead[1]), "5s", 0)
        + &one("_dead", &with(dead[0], dead[1]), "5s", 0)
        + &one("_good", &with(good, dead[1]), "5s", 0)
}

const SECRET: &str = "a secret of an app";

fn routes(way: &str, signed: bool) -> String {
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
    for other in WAYS {
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
        let http1 = [
            failing(),
            Origin::scripted("good", |_| Answer::text("well")),
        ];
        let quick = StreamOrigin::start("good", Does::Answers(millis(0)));
        let http2 = [failing_streams(), quick];
        let shadow = Origin::scripted("shadow", |_| Answer::text("well"));
        let sockets = tempfile::Builder::new().prefix("tb").tempdir().unwrap();
        let sockets_of = ["bad", "good"].map(|name| sockets.path().join(name));
        for (path, origin) in sockets_of.iter().zip(&http1) {
            leads_to(path, origin.address());
        }
        let mut text = format!(
            "[server]\nthreads = 1\n[server.client]\nmax_body = \"{max_body}B\"\n\
             [[listener]]\nname = \"public\"\naddress = \"{{listen}}\"\nhttp2 = true\n\
             [auth.partner]\ntype = \"signature\"\nscheme = \"ca\"\napps = {{ \"app\" = {{ secret = \"{SECRET}\" }} }}\n\
             [upstream.shadow]\nendpoints = [{}]\n",
            endpoint(shadow.address(), "")
        );
        for way in WAYS {
            let unix = |path: &Path| format!("unix:{}", path.display());
            let [bad, good] = match way {
                "relay" => http1.each_ref().map(|origin| origin.address().to_string()),
                "unix" => sockets_of.each_ref().map(|path| unix(path)),
                _ => http2.each_ref().map(|origin| origin.address().to_string()),
            };
            let dead = match way {
                "unix" => ["/nowhere/a", "/nowhere/b"].map(|path| unix(Path::new(path))),
                _ => [reserve(), reserve()].map(|address| address.to_string()),
            };
            text += &upstreams(way, &bad, &good, dead.each_ref().map(String::as_str));
            text += &routes(way, signed);
        }
        let gateway = Gateway::with(&text).start();
        Self {
            http2_client: Http2::connect(gateway.listen()),
            http1,
            http2,
            shadow,
            gateway,
            _sockets: sockets,
            served: AtomicUsize::new(0),
            signed,
        }
    }

    /// Who got a request with this path, and what body, in the order of their names.
    fn reached(&self, path: &str) -> Vec<(&str, Vec<u8>)> {
        let mut reached = Vec::new();
        for (origin, name) in self.http1.iter().zip(["bad", "good"]) {
            let seen = origin.seen().into_iter().filter(|seen| seen.target == path);
            reached.extend(seen.map(|seen| (name, seen.body)));
        }
        for (origin, name) in self.http2.iter().zip(["bad", "good"]) {
            let seen = origin.bodies().into_iter().filter(|(seen, _)| seen == path);
            reached.extend(seen.map(|(_, body)| (name, body)));
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
