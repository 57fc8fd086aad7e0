//! How much is too much: each limit at N and at N + 1.

mod bandwidth;
mod concurrency;
mod key;
mod quota;
mod together;

use std::time::Instant;

use crate::harness::{Client, Gateway, Response, eventually, millis, seconds};

/// A gateway whose one route is under this limit.
fn limited(limit: &str) -> Gateway {
    Gateway::with(&format!(
        "[limit.few]\n{limit}\n[[route]]\nid = \"limited\"\npath = \"/**\"\nlimits = [\"few\"]\n\
         respond = {{ status = 200, text = \"in\" }}\n"
    ))
    .start()
}

/// Refused, with the wait in whole seconds.
#[track_caller]
fn refused(response: Response) -> u64 {
    let wait = response.refused(429, "rate_limited").number("retry-after");
    assert!(wait >= 1, "Retry-After is at least 1");
    wait
}

fn admitted(client: &Client, requests: usize) -> usize {
    let mut connection = client.connect();
    (0..requests)
        .filter(|_| connection.get("/").send().status == 200)
        .count()
}

#[test]
fn a_token_bucket_passes_its_burst_and_not_one_more() {
    let gateway =
        limited("key = \"client_ip\"\nalgorithm = \"token_bucket\"\nrate = \"6/m\"\nburst = 3");
    let client = gateway.client();
    for remaining in [2, 1, 0] {
        let response = client.get("/").send().expect(200);
        assert_eq!(response.number("x-ratelimit-limit"), 3);
        assert_eq!(response.number("x-ratelimit-remaining"), remaining);
        assert!(response.number("x-ratelimit-reset") <= 30, "{response:?}");
    }
    let over = client.get("/").send();
    assert_eq!(over.number("x-ratelimit-remaining"), 0);
    // One token comes every ten seconds.
    assert!((8..=10).contains(&refused(over)));
    // Asking again while refused does not push the next token away.
    for _ in 0..5 {
        assert!(refused(client.get("/").send()) <= 10);
    }
    client.from(2).get("/").send().expect(200);
}

#[test]
fn burst_is_one_seconds_worth_unless_said_otherwise() {
    let gateway = limited("key = \"client_ip\"\nalgorithm = \"token_bucket\"\nrate = \"4/s\"");
    let passed = admitted(&gateway.client(), 5);
    // The fifth may find a new token when the machine is slow.
    assert!((4..=5).contains(&passed), "{passed}");
    let gateway = limited("key = \"client_ip\"\nalgorithm = \"token_bucket\"\nrate = \"1/m\"");
    assert_eq!(admitted(&gateway.client(), 5), 1);
}

#[test]
fn a_token_bucket_fills_at_its_rate() {
    let gateway =
        limited("key = \"client_ip\"\nalgorithm = \"token_bucket\"\nrate = \"2/s\"\nburst = 1");
    let client = gateway.client();
    client.get("/").send().expect(200);
    refused(client.get("/").send());
    let start = Instant::now();
    let mut passed = 0;
    eventually(seconds(10), "four more passed", || {
        passed += usize::from(client.get("/").send().status == 200);
        passed == 4
    });
    let took = start.elapsed();
    assert!(
        took >= millis(1500),
        "four tokens at two a second within {took:?}"
    );
}

#[test]
fn a_leaky_bucket_makes_wait_and_then_refuses() {
    let gateway = limited(
        "key = \"client_ip\"\nalgorithm = \"leaky_bucket\"\nrate = \"2/s\"\nburst = 2\nmax_delay = \"10s\"",
    );
    let client = gateway.client();
    let start = Instant::now();
    // The first passes at once, two wait for half a second each, the rest is refused.
    let mut waiting: Vec<_> = (0..6).map(|_| client.get("/").begin()).collect();
    let responses: Vec<Response> = waiting
        .iter_mut()
        .map(|c| c.response("GET").unwrap())
        .collect();
    let passed = responses.iter().filter(|r| r.status == 200).count();
    assert_eq!(passed, 3, "{responses:?}");
    assert!(start.elapsed() >= millis(900), "{:?}", start.elapsed());
    for response in responses.into_iter().filter(|r| r.status != 200) {
        refused(response);
    }
}

#[test]
fn nobody_waits_longer_than_max_delay() {
    let gateway = limited(
        "key = \"client_ip\"\nalgorithm = \"leaky_bucket\"\nrate = \"1/s\"\nburst = 10\nmax_delay = \"500ms\"",
    );
    let client = gateway.client();
    client.get("/").send().expect(200);
    let start = Instant::now();
    refused(client.get("/").send());
    assert!(
        start.elapsed() < millis(400),
        "refused at once, not after the wait: {:?}",
        start.elapsed()
    );
}

#[test]
fn a_leaky_bucket_lets_even_traffic_through_undelayed() {
    let gateway = limited(
        "key = \"client_ip\"\nalgorithm = \"leaky_bucket\"\nrate = \"100/s\"\nburst = 1\nmax_delay = \"1s\"",
    );
    let client = gateway.client();
    for _ in 0..5 {
        client.get("/").send().expect(200);
        std::thread::sleep(millis(25));
    }
}

#[test]
fn an_estimator_never_counts_too_little() {
    let gateway = limited("key = \"client_ip\"\nalgorithm = \"estimator\"\nrate = \"10/s\"");
    assert_eq!(
        admitted(&gateway.client().from(2), 10),
        10,
        "ten a second fit"
    );
    let start = Instant::now();
    let passed = admitted(&gateway.client(), 60);
    let windows = start.elapsed().as_secs() as usize + 2;
    assert!(
        (10..=10 * windows).contains(&passed),
        "{passed} of 60 in {:?}",
        start.elapsed()
    );
    refused(gateway.client().get("/").send());
    gateway.client().from(3).get("/").send().expect(200);
}

#[test]
fn an_estimator_forgets_with_time() {
    let gateway = limited("key = \"client_ip\"\nalgorithm = \"estimator\"\nrate = \"5/s\"");
    let client = gateway.client();
    assert!(admitted(&client, 30) < 30);
    eventually(seconds(5), "the rate has gone down", || {
        client.get("/").send().status == 200
    });
}

#[test]
fn counters_outlive_a_reload() {
    let gateway =
        limited("key = \"client_ip\"\nalgorithm = \"token_bucket\"\nrate = \"1/m\"\nburst = 3");
    assert_eq!(admitted(&gateway.client(), 2), 2);
    gateway.reload_ok();
    let text = std::fs::read_to_string(gateway.config()).unwrap();
    gateway.rewrite(&format!(
        "{text}\n[[route]]\nid = \"more\"\npath = \"/more\"\nrespond = {{ status = 200 }}\n"
    ));
    gateway.reload_ok();
    assert_eq!(admitted(&gateway.client(), 3), 1);
}

#[test]
fn a_raised_limit_takes_effect_with_a_reload() {
    let gateway =
        limited("key = \"client_ip\"\nalgorithm = \"token_bucket\"\nrate = \"1/m\"\nburst = 2");
    assert_eq!(admitted(&gateway.client(), 5), 2);
    let text = std::fs::read_to_string(gateway.config()).unwrap();
    gateway.rewrite(&text.replace(
        "rate = \"1/m\"\nburst = 2",
        "rate = \"1000/s\"\nburst = 100",
    ));
    gateway.reload_ok();
    eventually(seconds(3), "the new rate holds", || {
        admitted(&gateway.client(), 5) == 5
    });
}

#[test]
fn of_several_limits_each_must_agree() {
    let gateway = Gateway::with(
        r#"
        [limit.narrow]
        key = "client_ip"
        algorithm = "token_bucket"
        rate = "1/m"
        burst = 2
        [limit.wide]
        key = "route"
        algorithm = "token_bucket"
        rate = "1/m"
        burst = 3
        [[route]]
        id = "both"
        path = "/"
        limits = ["narrow", "wide"]
        respond = { status = 200, text = "in" }
        "#,
    )
    .start();
    let client = gateway.client();
    assert_eq!(admitted(&client, 4), 2);
    // Somebody else has a narrow allowance of their own, but the wide one is nearly spent.
    assert_eq!(admitted(&client.from(2), 4), 1);
}

#[test]
fn memory_is_bounded_by_capacity() {
    let gateway = Gateway::with(
        r#"
        [limit.few]
        key = "header:X-Tenant"
        algorithm = "token_bucket"
        rate = "1/m"
        burst = 1
        capacity = 1000
        [[route]]
        id = "limited"
        path = "/"
        limits = ["few"]
        respond = { status = 200, text = "in" }
        "#,
    )
    .start();
    let mut connection = gateway.client().connect();
    let before = gateway.rss();
    for n in 0..8_000 {
        let response = connection
            .get("/")
            .header("X-Tenant", format!("{n}-{}", "x".repeat(200)))
            .send();
        assert!(
            response.status == 200 || response.status == 429,
            "{response:?}"
        );
    }
    let grown = gateway.rss().saturating_sub(before);
    assert!(grown < 16 * 1024, "{grown} KiB for 1000 keys");
}

/// Two may wait; the place of one that leaves is another's at once.
#[test]
fn who_leaves_while_it_waits_is_waited_for_no_longer() {
    let gateway = limited(
        "key = \"client_ip\"\nalgorithm = \"leaky_bucket\"\nrate = \"2/m\"\nburst = 9\nmax_delay = \"45s\"",
    );
    let client = gateway.client();
    client.get("/").send().expect(200);
    let in_flight = || {
        let all = gateway.metrics_text();
        let lines = all
            .lines()
            .filter(|line| line.starts_with("gateway_requests_in_flight{"));
        lines
            .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            .sum::<f64>()
    };
    for _ in 0..3 {
        let waiting = client.get("/").begin();
        eventually(seconds(5), "it waits", || in_flight() >= 1.0);
        // The next would wait for a minute, which is too long.
        client.get("/").send().refused(429, "rate_limited");
        drop(waiting);
        eventually(seconds(5), "nobody waits", || in_flight() == 0.0);
    }
}
