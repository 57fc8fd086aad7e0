//! A second try while the first is still awaited: the first answer wins.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::{before, endpoint, to};
use crate::harness::{Answer, Gateway, Origin, Setup, eventually, millis, reserve, seconds};

const NO_EJECTION: &str = "[upstream.api.passive]\nmax_fails = 0\n";

fn hedged(endpoints: &str, hedge: &str) -> Setup {
    before(
        endpoints,
        &format!("{NO_EJECTION}[upstream.api.hedge]\n{hedge}\n"),
    )
}

fn outcomes(gateway: &Gateway, outcome: &str) -> f64 {
    let labels = [("upstream", "api"), ("outcome", outcome)];
    gateway.metric("gateway_upstream_hedges_total", &labels)
}

/// The first two endpoints in their turns.
fn pair(slow: Answer) -> (Origin, Origin) {
    let slow = Origin::scripted("slow", move |_| slow.clone());
    (slow, Origin::named("quick"))
}

#[test]
fn the_first_answer_wins_and_the_other_is_cancelled() {
    let (slow, quick) = pair(Answer::text("late").after(seconds(3)));
    let gateway = hedged(&(to(&slow) + &to(&quick)), "after = \"50ms\"").start();
    for _ in 0..6 {
        let begun = Instant::now();
        let answer = gateway.client().get("/").header("X-Trace-ID", "one").send();
        assert_eq!(answer.expect(200).seen().origin, "quick");
        assert!(begun.elapsed() < seconds(2), "{:?}", begun.elapsed());
    }
    assert_eq!((slow.count(), quick.count()), (3, 6));
    assert_eq!(
        (outcomes(&gateway, "won"), outcomes(&gateway, "lost")),
        (3.0, 0.0)
    );
    let line = gateway.wait_for_log(|line| line["attempts"] == 2);
    assert_eq!(line["endpoint"], quick.address().to_string());
    // Requests that need no second try have none, and connections are kept for the endpoint they lead to.
    assert!(quick.connections() <= 2, "{}", quick.connections());
    eventually(seconds(8), "the late ones are closed", || slow.open() == 0);
    let upstreams = gateway.admin_get("/api/v1/upstreams").expect(200).json();
    for endpoint in upstreams[0]["endpoints"].as_array().unwrap() {
        assert_eq!(endpoint["in_flight"], 0, "{endpoint}");
    }
    assert_eq!(upstreams[0]["hedge_after_ms"], 50.0);
}

#[test]
fn the_first_endpoint_may_still_win() {
    let slow = Origin::scripted("slow", |_| Answer::echo().after(millis(200)));
    let slower = Origin::scripted("slower", |_| Answer::echo().after(seconds(3)));
    let gateway = hedged(&(to(&slow) + &to(&slower)), "after = \"50ms\"").start();
    for _ in 0..2 {
        let seen = gateway.client().get("/").send().expect(200).seen();
        assert_eq!(seen.origin, "slow");
    }
    assert_eq!((slow.count(), slower.count()), (2, 2));
    assert_eq!(
        (outcomes(&gateway, "won"), outcomes(&gateway, "lost")),
        (1.0, 1.0)
    );
}

#[test]
fn only_methods_that_may_be_sent_twice_and_with_their_body() {
    let (slow, quick) = pair(Answer::echo().after(millis(400)));
    let hedge = "after = \"50ms\"\nmethods = [\"GET\", \"PUT\"]";
    let gateway = hedged(&(to(&slow) + &to(&quick)), hedge).start();
    for _ in 0..2 {
        gateway.client().post("/").body("once").send().expect(200);
    }
    assert_eq!((slow.count(), quick.count()), (1, 1));
    for body in ["short", &"x".repeat(50_000)] {
        for _ in 0..2 {
            let put = gateway.client();
            let seen = put.request("PUT", "/").body(body).send().expect(200).seen();
            assert_eq!(
                (seen.origin.as_str(), seen.body.len()),
                ("quick", body.len())
            );
        }
    }
    for _ in 0..2 {
        let client = gateway.client();
        let put = client.request("PUT", "/").chunked(&["he", "llo"]);
        let seen = put.send().expect(200).seen();
        assert_eq!(
            (seen.origin.as_str(), seen.body.as_slice()),
            ("quick", &b"hello"[..])
        );
    }
    assert_eq!(outcomes(&gateway, "won"), 3.0);
}

#[test]
fn a_second_try_that_fails_costs_nothing() {
    let slow = || Answer::echo().after(millis(300));
    for bad in [
        Answer::status(503),
        Answer::reset(),
        Answer::raw("what?\r\n\r\n"),
    ] {
        let slow = Origin::scripted("slow", move |_| slow());
        let bad = Origin::scripted("bad", move |_| bad.clone());
        let backup = endpoint(bad.address(), ", backup = true");
        let gateway = hedged(&(to(&slow) + &backup), "after = \"50ms\"").start();
        let seen = gateway.client().get("/").send().expect(200).seen();
        assert_eq!((seen.origin.as_str(), bad.count()), ("slow", 1));
        assert_eq!(outcomes(&gateway, "failed"), 1.0);
    }
    let slow = Origin::scripted("slow", move |_| slow());
    let nobody = endpoint(reserve(), ", backup = true");
    let gateway = hedged(&(to(&slow) + &nobody), "after = \"50ms\"").start();
    gateway.client().get("/").send().expect(200);
    assert_eq!(outcomes(&gateway, "failed"), 1.0);
}

#[test]
fn when_the_first_breaks_off_the_second_is_its_second_try() {
    for broken in [Answer::reset(), Answer::status(503)] {
        let broken = broken.after(millis(150));
        let bad = Origin::scripted("bad", move |_| broken.clone());
        let good = Origin::scripted("good", |_| Answer::echo().after(millis(400)));
        let backup = endpoint(good.address(), ", backup = true");
        let gateway = hedged(&(to(&bad) + &backup), "after = \"50ms\"").start();
        let seen = gateway.client().get("/").send().expect(200).seen();
        assert_eq!(seen.origin, "good");
        assert_eq!((bad.count(), good.count()), (1, 1));
        assert_eq!(outcomes(&gateway, "won"), 1.0);
    }
}

#[test]
fn a_client_that_leaves_ends_both() {
    let origins = ["a", "b"].map(|name| Origin::scripted(name, |_| Answer::silence()));
    let endpoints: String = origins.iter().map(to).collect();
    let gateway = hedged(&endpoints, "after = \"50ms\"").start();
    let client = gateway.client().get("/").begin();
    eventually(seconds(3), "both are asked", || {
        origins.iter().all(|origin| origin.count() == 1)
    });
    client.abort();
    eventually(seconds(3), "both are let go", || {
        origins.iter().all(|origin| origin.open() == 0)
    });
    assert_eq!(outcomes(&gateway, "lost"), 1.0);
}

#[test]
fn second_tries_stay_within_the_budget_of_retries() {
    let origins =
        ["a", "b"].map(|name| Origin::scripted(name, |_| Answer::echo().after(millis(60))));
    let endpoints: String = origins.iter().map(to).collect();
    let more = "[upstream.api.retry]\nbudget = \"0%\"\n";
    let gateway = hedged(
        &endpoints,
        &format!("after = \"10ms\"\nat_least = \"1ms\"\n{more}"),
    )
    .start();
    let begun = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let mut connection = gateway.client().connect();
                for _ in 0..25 {
                    connection.get("/").send().expect(200);
                }
            });
        }
    });
    let sent: usize = origins.iter().map(Origin::count).sum();
    // Ten a second are always left.
    let allowed = 10 * (begun.elapsed().as_secs() as usize + 2);
    assert!((201..=200 + allowed).contains(&sent), "{sent}");
    assert!(outcomes(&gateway, "refused") >= 100.0);
}

/// One endpoint of three that stalls for one request in a hundred.
fn three(stalls: bool) -> [Origin; 3] {
    let count = Arc::new(AtomicUsize::new(0));
    ["a", "b", "c"].map(|name| {
        let count = Arc::clone(&count);
        Origin::scripted(name, move |_| {
            let number = count.fetch_add(1, Ordering::SeqCst);
            let stalled = stalls && number % 60 == 59;
            Answer::text("well").after(if stalled { millis(700) } else { millis(2) })
        })
    })
}

fn p99(gateway: &Gateway) -> Duration {
    let mut took: Vec<Duration> = std::thread::scope(|scope| {
        let client = || {
            let mut connection = gateway.client().connect();
            let one = |_| {
                let begun = Instant::now();
                connection.get("/").send().expect(200);
                begun.elapsed()
            };
            (0..150).map(one).collect::<Vec<_>>()
        };
        let clients: Vec<_> = (0..4).map(|_| scope.spawn(client)).collect();
        let each = clients
            .into_iter()
            .flat_map(|client| client.join().unwrap());
        each.collect()
    });
    took.sort_unstable();
    took[took.len() * 99 / 100 - 1]
}

#[test]
fn cuts_the_p99_when_endpoints_stall_now_and_then() {
    let origins = three(true);
    let endpoints: String = origins.iter().map(to).collect();
    let plain = before(&endpoints, NO_EJECTION).start();
    let without = p99(&plain);
    assert!(without >= millis(700), "{without:?}");
    let gateway = hedged(&endpoints, "after = \"p95\"").start();
    eventually(seconds(10), "the latency is known", || {
        (0..20).for_each(|_| drop(gateway.client().get("/").send()));
        let upstreams = gateway.admin_get("/api/v1/upstreams").expect(200).json();
        upstreams[0]["hedge_after_ms"].is_number()
    });
    let with = p99(&gateway);
    assert!(with < millis(350), "{with:?}, without {without:?}");
    assert!(outcomes(&gateway, "won") >= 1.0);
    let status = gateway.run_cli(&["status"], &[]);
    assert!(
        status.stdout.contains("asks another endpoint after"),
        "{}",
        status.stdout
    );
}

#[test]
fn the_upstream_of_a_fallback_is_asked_twice_whatever_the_routes_own_breaker_says() {
    let failing = Origin::scripted("failing", |_| Answer::status(503));
    let (slow, quick) = pair(Answer::text("late").after(seconds(3)));
    let gateway = Gateway::with(&format!(
        "[upstream.api]\nendpoints = [{}]\nretry = {{ attempts = 0 }}\n{NO_EJECTION}\
         [upstream.spare]\nendpoints = [{}{}]\nhedge = {{ after = \"50ms\" }}\n\
         [[route]]\nid = \"all\"\npath = \"/**\"\nupstream = \"api\"\n\
         breaker = {{ minimum_calls = 3, open_for = \"1m\" }}\n\
         fallback = {{ upstream = \"spare\", on = [\"breaker\"] }}\n",
        to(&failing),
        to(&slow),
        endpoint(quick.address(), ", backup = true")
    ))
    .start();
    for _ in 0..3 {
        gateway.client().get("/").send().expect(503);
    }
    // It is open, and about the upstream of the route.
    let seen = gateway.client().get("/").send().expect(200).seen();
    assert_eq!((seen.origin.as_str(), failing.count()), ("quick", 3));
    let won = [("upstream", "spare"), ("outcome", "won")];
    assert_eq!(gateway.metric("gateway_upstream_hedges_total", &won), 1.0);
}
