//! Endpoints that do worse than the others are put aside.

use super::{before, to};
use crate::harness::{Answer, Gateway, Origin, eventually, seconds};

/// Five origins; the first answers every second request with 500 while `bad` says so.
fn five(more: &str) -> (Vec<Origin>, Gateway) {
    let origins: Vec<Origin> = ["a", "b", "c", "d", "e"]
        .map(|name| {
            Origin::scripted(name, move |seen| {
                let number: usize = seen.target[1..].parse().unwrap_or(0);
                match name == "a" && number % 2 == 1 {
                    true => Answer::status(500),
                    false => Answer::echo(),
                }
            })
        })
        .into();
    let endpoints: String = origins.iter().map(to).collect();
    let keys = format!("passive = {{ max_fails = 0 }}\n[upstream.api.outlier]\n{more}");
    let gateway = before(&endpoints, &keys).start();
    (origins, gateway)
}

fn ejections(gateway: &Gateway, origin: &Origin, cause: &str) -> f64 {
    let label = origin.address().to_string();
    let labels = [
        ("upstream", "api"),
        ("endpoint", label.as_str()),
        ("cause", cause),
    ];
    gateway.metric("gateway_endpoint_ejections_total", &labels)
}

#[test]
fn what_fails_by_half_is_put_aside_and_comes_back() {
    let (origins, gateway) =
        five("consecutive = 0\ninterval = \"500ms\"\nmin_requests = 20\nbase_ejection = \"2s\"\n");
    let mut connection = gateway.client().connect();
    let mut number = 0;
    eventually(seconds(10), "it is put aside", || {
        for _ in 0..100 {
            // Two of a number, so that turns do not keep odd and even apart.
            connection.get(&format!("/{}", number / 2)).send();
            number += 1;
        }
        ejections(&gateway, &origins[0], "success_rate") > 0.0
    });
    let status = gateway.run_cli(&["status"], &[]).expect(0);
    assert!(status.stdout.contains("put aside for"), "{}", status.stdout);
    let told = gateway.wait_for_log(|line| line.to_string().contains("as an outlier"));
    assert!(
        told.to_string().contains("the mean of the upstream is"),
        "{told}"
    );
    let asked = origins[0].count();
    for _ in 0..50 {
        connection.get("/0").send().expect(200);
    }
    assert_eq!(origins[0].count(), asked, "nothing goes there");
    eventually(seconds(10), "it is asked again", || {
        connection.get("/0").send().expect(200);
        origins[0].count() > asked
    });
}

#[test]
fn failures_in_a_row_put_an_endpoint_aside_at_once() {
    let (origins, gateway) = five("consecutive = 3\nbase_ejection = \"60s\"\n");
    let mut connection = gateway.client().connect();
    let failed = (0..100)
        .filter(|_| connection.get("/1").send().status == 500)
        .count();
    assert_eq!(failed, 3);
    assert_eq!(ejections(&gateway, &origins[0], "consecutive"), 1.0);
}
