//! A request that is dropped wherever it waits gives everything back: it is polled by hand and dropped at its first wait,
//! then at its second, and so on until it ends. Of everything that is bounded there is just enough for one, so the next
//! request has what the dropped one had, or is refused.

use std::future::{Future, poll_fn};
use std::sync::Arc;
use std::task::Poll;

use tollgate::gateway::internal::{Parts, Request};

use super::gateway::{Asked, Inside};
use super::harness::{
    Answer, Does, Metrics, Origin, Signed, StreamOrigin, eventually, millis, reserve, seconds,
};

/// More waits than any request here has.
const MOST_WAITS: usize = 2_000;
/// Where a request waits so often that each wait is like the one before, so many of its first are tried, then others in
/// wider steps.
const EACH: usize = 12;
/// How often a request has to end by itself: how often it waits is up to the system, too.
const ENDS: usize = 3;

struct Place {
    gateway: Inside,
    _origins: (Origin, Origin, StreamOrigin),
}

impl Place {
    fn start() -> Self {
        let plain = Origin::answering(|seen| match seen.target.as_str() {
            "/slow" => Answer::text("slow").after(millis(15)),
            "/long" => Answer::text(vec![b'x'; 300_000]).after(millis(2)),
            "/new" => Answer::text("new").then_close(),
            "/breaks" if seen.header("x-fail").is_some() => Answer::status(503),
            "/hedged" => Answer::text("late").after(millis(40)),
            _ => Answer::text("fine").after(millis(2)),
        });
        let flaky = Origin::answering(|seen| match seen.target.as_str() {
            "/hedged" => Answer::text("later").after(millis(60)),
            _ => Answer::status(503),
        });
        let streams = StreamOrigin::start("streams", Does::Answers(millis(3)));
        let text = toml(&plain, &flaky, &streams);
        Self {
            gateway: Inside::start(&text),
            _origins: (plain, flaky, streams),
        }
    }

    fn request(&self, asked: &Asked) -> Request {
        self.gateway.request(asked, Parts::ALL)
    }

    /// Polls a future until its `waits`-th wait, and drops it there; says how often it had waited if it ended before.
    fn drop_at<F>(&self, waits: usize, future: F) -> Option<usize>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let driving = async move {
            let mut future = Box::pin(future);
            let mut waited = 0;
            poll_fn(|cx| {
                if future.as_mut().poll(cx).is_ready() {
                    return Poll::Ready(Some(waited));
                }
                waited += 1;
                match waited >= waits {
                    true => Poll::Ready(None),
                    false => Poll::Pending,
                }
            })
            .await
        };
        let runtime = &self.gateway.runtime;
        runtime.block_on(runtime.spawn(driving)).unwrap()
    }

    /// Nothing is held of anything that is counted.
    fn is_clean(&self) -> bool {
        let state = &self.gateway.state;
        let metrics = Metrics::parse(&self.gateway.counts());
        let held = |name: &str| metrics.sum(name, &[]);
        let snapshot = state.snapshot().unwrap();
        let mut endpoints = snapshot.pools.values().flat_map(|pool| {
            let endpoints = pool.endpoints();
            let counts = endpoints
                .iter()
                .map(|(endpoint, ..)| endpoint.in_flight.value());
            counts.collect::<Vec<_>>()
        });
        self.gateway.is_idle()
            && state.auth_buffer.kept() == 0
            && endpoints.all(|count| count == 0)
            && [
                "gateway_requests_in_flight",
                "gateway_upstream_concurrency_in_flight",
                "gateway_upstream_queued",
                "gateway_mirror_in_flight",
            ]
            .into_iter()
            .all(|name| held(name) == 0.0)
    }

    /// Drops a request at each of its waits; after each the next is served. `before` is done before each. Says how often it
    /// waited.
    fn dropped_everywhere(&self, asked: impl Fn() -> Asked, before: impl Fn(&Self)) -> usize {
        let (mut waits, mut ends) = (1, Vec::new());
        while ends.len() < ENDS {
            before(self);
            let (lane, request) = (Arc::clone(&self.gateway.lane), self.request(&asked()));
            let ended = self.drop_at(waits, async move {
                let answer = request.send(&lane).unwrap().whole(1 << 20).await;
                answer.expect("a whole answer");
            });
            let what = asked();
            eventually(seconds(10), "everything was given back", || self.is_clean());
            before(self);
            let next = self.gateway.ask(self.request(&asked())).unwrap();
            let (status, body) = (next.head.status().as_u16(), next.body);
            assert_eq!(status, 200, "{} at {waits}: {body:?}", what.target);
            eventually(seconds(10), "the next is over", || self.is_clean());
            ends.extend(ended);
            waits += if waits < EACH { 1 } else { waits / 3 };
            assert!(waits < MOST_WAITS, "{} does not end", what.target);
        }
        ends.into_iter().max().unwrap_or_default()
    }
}

fn toml(plain: &Origin, flaky: &Origin, streams: &StreamOrigin) -> String {
    let nobody = reserve();
    let route =
        |id: &str, rest: &str| format!("[[route]]\nid = {id:?}\npath = \"/{id}\"\n{rest}\n");
    let places = "concurrency = { max = 1, queue = 1, queue_timeout = \"2s\" }";
    let never = "passive = { max_fails = 0 }";
    let mut text = format!(
        r#"
        [server]
        auth_buffer = "70KiB"
        [upstream.plain]
        endpoints = [{{ address = "{plain}" }}]
        {never}
        {places}
        [upstream.streams]
        endpoints = [{{ address = "{streams}" }}]
        http_version = "2"
        {never}
        {places}
        [upstream.flaky]
        endpoints = [{{ address = "{flaky}" }}, {{ address = "{plain}", backup = true }}]
        {never}
        retry = {{ attempts = 1, on = ["503"], budget = "100%", backoff = "2ms" }}
        {places}
        [upstream.hedged]
        endpoints = [{{ address = "{flaky}" }}, {{ address = "{plain}" }}]
        {never}
        retry = {{ attempts = 0 }}
        hedge = {{ after = "5ms", at_least = "1ms" }}
        concurrency = {{ max = 2, queue = 1, queue_timeout = "2s" }}
        [upstream.nobody]
        endpoints = [{{ address = "{nobody}" }}]
        {never}
        retry = {{ attempts = 0 }}
        {places}
        [upstream.shadow]
        endpoints = [{{ address = "{plain}" }}]
        {never}
        [upstream.breaks]
        endpoints = [{{ address = "{plain}" }}]
        {never}
        retry = {{ attempts = 0 }}
        breaker = {{ window = 1, minimum_calls = 1, failure_rate = "50%", open_for = "20ms", half_open_calls = 1 }}
        [limit.one]
        key = "client_ip"
        algorithm = "concurrency"
        max = 1
        [limit.turns]
        key = "client_ip"
        algorithm = "leaky_bucket"
        rate = "100/s"
        burst = 1000
        max_delay = "5s"
        [auth.partner]
        type = "signature"
        scheme = "ca"
        [auth.partner.apps."app"]
        secret = "a secret of this test that is long enough"
        "#,
        plain = plain.address(),
        flaky = flaky.address(),
        streams = streams.address(),
    );
    for id in ["slow", "long", "new", "head"] {
        text += &route(id, "upstream = \"plain\"\nlimits = [\"one\"]");
    }
    text += &route("stream", "upstream = \"streams\"\nlimits = [\"one\"]");
    text += &route(
        "turn",
        "upstream = \"plain\"\nlimits = [\"one\", \"turns\"]",
    );
    text += &route("flaky", "upstream = \"flaky\"\nlimits = [\"one\"]");
    text += &route("hedged", "upstream = \"hedged\"\nlimits = [\"one\"]");
    text += &route(
        "signed",
        "upstream = \"plain\"\nauth = [\"partner\"]\nmax_body = \"64KiB\"",
    );
    text += &route("breaks", "upstream = \"breaks\"");
    text += &route(
        "copied",
        "upstream = \"plain\"\nmirror = { upstream = \"shadow\", methods = [\"POST\"], in_flight = 1 }",
    );
    text += &route(
        "fallen",
        "upstream = \"nobody\"\nfallback = { on = [\"no_endpoint\"], upstream = \"streams\" }",
    );
    text
}

fn nothing(_: &Place) {}

#[test]
fn a_request_dropped_while_it_connects_or_awaits_its_head_gives_back_what_it_held() {
    let place = Place::start();
    for target in ["/new", "/slow", "/stream"] {
        let waits = place.dropped_everywhere(|| Asked::new("GET", target), nothing);
        assert!(waits >= 1, "{target} waits");
    }
}

#[test]
fn a_request_dropped_within_its_bodies_gives_back_what_it_held() {
    let place = Place::start();
    for target in ["/long", "/stream"] {
        let asked = || Asked::new("POST", target).body(700_000);
        let waits = place.dropped_everywhere(asked, nothing);
        assert!(waits >= 1, "{target} waits");
    }
}

#[test]
fn a_request_dropped_while_it_waits_for_its_turn_gives_its_ticket_back() {
    let place = Place::start();
    // The one before takes the turn that is free at once.
    let before = |place: &Place| {
        place
            .gateway
            .ask(place.request(&Asked::new("GET", "/turn")))
            .unwrap();
    };
    let waits = place.dropped_everywhere(|| Asked::new("GET", "/turn"), before);
    assert!(waits >= 1);
}

#[test]
fn a_request_dropped_while_it_is_tried_again_gives_back_what_both_tries_held() {
    let place = Place::start();
    let waits = place.dropped_everywhere(|| Asked::new("GET", "/flaky"), nothing);
    assert!(waits >= 2);
}

#[test]
fn a_request_dropped_between_two_tries_at_once_gives_back_what_both_held() {
    let place = Place::start();
    let waits = place.dropped_everywhere(|| Asked::new("GET", "/hedged"), nothing);
    assert!(waits >= 2);
}

#[test]
fn a_request_dropped_on_its_way_to_another_upstream_gives_back_what_it_held() {
    let place = Place::start();
    let waits = place.dropped_everywhere(|| Asked::new("GET", "/fallen"), nothing);
    assert!(waits >= 1);
}

#[test]
fn a_request_dropped_before_its_copy_was_sent_leaves_its_place_to_the_next() {
    let place = Place::start();
    let asked = || Asked::new("POST", "/copied").body(50_000);
    let waits = place.dropped_everywhere(asked, nothing);
    assert!(waits >= 1);
}

#[test]
fn a_signed_request_dropped_with_its_body_makes_room_for_the_next() {
    let place = Place::start();
    let asked = || {
        let asked = Asked::new("POST", "/signed").body(64 << 10);
        let body = String::from_utf8(asked.body.clone()).unwrap();
        let secret = "a secret of this test that is long enough";
        let signed = Signed::ca("app", secret, "POST", "/signed").body(&body);
        signed
            .headers()
            .into_iter()
            .fold(asked, |asked, (name, value)| {
                asked.field(name.to_ascii_lowercase().leak(), value)
            })
    };
    let waits = place.dropped_everywhere(asked, nothing);
    assert!(waits >= 1);
}

#[test]
fn a_request_dropped_while_it_probes_an_upstream_leaves_the_probe_to_the_next() {
    let place = Place::start();
    // It breaks, and a moment later one request may try whether it is well again.
    let before = |place: &Place| {
        let failing = Asked::new("GET", "/breaks").field("x-fail", "1");
        eventually(seconds(10), "the breaker opens", || {
            let answer = place.gateway.ask(place.request(&failing)).unwrap();
            answer.head.status() == 503
                && answer.body.windows(12).any(|text| text == b"breaker_open")
        });
        std::thread::sleep(millis(25));
    };
    let asked = || Asked::new("GET", "/breaks");
    let (mut waits, mut ends) = (1, Vec::new());
    while ends.len() < ENDS {
        before(&place);
        let (lane, request) = (Arc::clone(&place.gateway.lane), place.request(&asked()));
        let ended = place.drop_at(waits, async move {
            let _ = request.send(&lane).unwrap().whole(1 << 20).await;
        });
        eventually(seconds(10), "everything was given back", || {
            place.is_clean()
        });
        let next = place.gateway.ask(place.request(&asked())).unwrap();
        assert_eq!(next.head.status(), 200, "at {waits}: {:?}", next.body);
        ends.extend(ended);
        waits += 1;
    }
    assert!(ends.iter().all(|waits| *waits >= 1), "{ends:?}");
}

#[test]
fn requests_dropped_with_the_one_they_were_made_by_give_back_what_they_held() {
    let place = Place::start();
    let asked = [
        Asked::new("GET", "/slow"),
        Asked::new("POST", "/stream").body(100_000),
        Asked::new("GET", "/flaky"),
    ];
    let (mut waits, mut ends) = (1, Vec::new());
    while ends.len() < ENDS {
        // One after the other, as a limit of one wants it, each within the one that made it.
        let requests = asked.each_ref().map(|asked| place.request(asked));
        let lane = Arc::clone(&place.gateway.lane);
        let ended = place.drop_at(waits, async move {
            for request in requests {
                request.send(&lane).unwrap().whole(1 << 20).await.unwrap();
            }
        });
        eventually(seconds(10), "everything was given back", || {
            place.is_clean()
        });
        for asked in &asked {
            let next = place.gateway.ask(place.request(asked)).unwrap();
            assert_eq!(next.head.status(), 200, "{} at {waits}", asked.target);
        }
        ends.extend(ended);
        waits += if waits < EACH { 1 } else { waits / 3 };
    }
    assert!(ends.iter().all(|waits| *waits >= 3), "{ends:?}");
}
