//! One of five endpoints becomes ten times slower, and clients see next to nothing of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::alone;
use crate::harness::{Answer, Client, Gateway, Origin, millis, seconds};

/// Origins that answer after 20 ms, and one more whose answers take ten times as long once it is told so.
struct Five {
    origins: Vec<Origin>,
    slow: Arc<AtomicBool>,
}

impl Five {
    fn start() -> Self {
        let slow = Arc::new(AtomicBool::new(false));
        let origins = (0..5).map(|i| {
            let slow = Arc::clone(&slow);
            Origin::scripted(&i.to_string(), move |_| {
                let slow = i == 0 && slow.load(Ordering::SeqCst);
                Answer::text("x").after(millis(if slow { 200 } else { 20 }))
            })
        });
        Self {
            origins: origins.collect(),
            slow,
        }
    }

    fn before(&self, keys: &str) -> Gateway {
        let endpoints = self.origins.iter().map(|origin| {
            let address = origin.address();
            format!("{{ address = \"{address}\" }}, ")
        });
        let endpoints: String = endpoints.collect();
        let route = "[[route]]\npath = \"/**\"\nupstream = \"api\"\n";
        Gateway::with(&format!(
            "[upstream.api]\nendpoints = [{endpoints}]\n{keys}\n{route}"
        ))
        .start()
    }
}

/// Four clients, one request after the other each: when it began and how long it took.
fn under_load(client: &Client, span: Duration) -> Vec<(Duration, Duration)> {
    let start = Instant::now();
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    let mut connection = client.connect();
                    let mut seen = Vec::new();
                    while start.elapsed() < span {
                        let began = Instant::now();
                        connection.get("/").send().expect(200);
                        seen.push((began - start, began.elapsed()));
                    }
                    seen
                })
            })
            .collect();
        let each = clients.into_iter().map(|client| client.join().unwrap());
        each.flatten().collect()
    })
}

fn p99(of: impl Iterator<Item = Duration>) -> Duration {
    let mut all: Vec<Duration> = of.collect();
    all.sort_unstable();
    all[all.len() * 99 / 100]
}

fn one_of_five_slows_down(balance: &str) {
    let _alone = alone();
    let five = Five::start();
    let gateway = five.before(&format!("balance = \"{balance}\"\n"));
    let client = gateway.client();
    let usual = p99(under_load(&client, seconds(3))
        .into_iter()
        .map(|(_, took)| took));
    five.slow.store(true, Ordering::SeqCst);
    let after = under_load(&client, seconds(7)).into_iter();
    let late = p99(after
        .filter(|(began, _)| *began >= seconds(3))
        .map(|(_, took)| took));
    assert!(
        late < usual.mul_f64(1.5),
        "{balance}: {usual:?}, then {late:?}"
    );
}

#[test]
fn one_of_five_slows_down_and_peak_ewma_keeps_p99() {
    one_of_five_slows_down("peak_ewma");
}

#[test]
fn one_of_five_slows_down_and_least_connections_keeps_p99() {
    one_of_five_slows_down("least_connections");
}

#[test]
fn one_of_five_slows_down_and_the_score_keeps_p99() {
    one_of_five_slows_down("score");
}
