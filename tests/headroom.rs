//! `tollgate status --headroom`: silence while too little was seen, and then figures that agree with the kernel's.

use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::Value;

use crate::harness::{Gateway, eventually, millis, seconds};

const ROUTE: &str = "[server]\nthreads = 2\n\
    [[route]]\nid = \"hello\"\npath = \"/hello\"\nrespond = { status = 204 }\n";

#[test]
fn says_that_a_gateway_without_traffic_tells_nothing() {
    let gateway = Gateway::with(ROUTE).start();
    let thin = headroom(&gateway);
    assert!(thin["estimate"].is_null(), "{thin}");
    let reasons = thin["too_thin"].as_array().unwrap();
    assert_eq!(reasons.len(), 3, "{thin}");
    let text = gateway
        .run_cli(&["status"], &["--headroom"])
        .expect(0)
        .stdout;
    assert!(text.contains("too thin to say: only "), "{text}");
    assert!(!text.contains("requests/s more"), "{text}");
    let status: Value = gateway.run_cli(&["status"], &["--json"]).expect(0).json();
    assert!(status.get("headroom").is_none(), "only when asked");
}

#[test]
fn what_it_says_after_a_load_agrees_with_the_kernel() {
    let gateway = Gateway::with(ROUTE).start();
    let (cpu_before, answered_before) = (cpu_ticks(&gateway), answered(&gateway));
    let stop = AtomicBool::new(false);
    let mut seen = Value::Null;
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut connection = gateway.client().connect();
                while !stop.load(Ordering::Relaxed) {
                    connection.get("/hello").send().expect(204);
                    std::thread::sleep(millis(1));
                }
            });
        }
        eventually(seconds(40), "there is an estimate", || {
            seen = headroom(&gateway);
            stop.store(!seen["estimate"].is_null(), Ordering::Relaxed);
            stop.load(Ordering::Relaxed)
        });
    });
    let requests = answered(&gateway) - answered_before;
    let spent = (cpu_ticks(&gateway) - cpu_before) as f64 * 10_000.0 / requests;
    let number = |value: &Value| value.as_f64().unwrap();
    let told = number(&seen["cpu_us_per_request"]);
    assert!(
        (0.5..2.0).contains(&(told / spent)),
        "{told} µs a request, the kernel says {spent}: {seen}"
    );
    let workers = seen["workers"].as_array().unwrap();
    let busy: Vec<f64> = workers
        .iter()
        .map(|worker| number(&worker["busy"]))
        .collect();
    let busiest = busy.iter().copied().fold(0.0, f64::max);
    assert_eq!(workers.len(), 2);
    assert_eq!(
        Some(busiest),
        busy.get(seen["busiest"].as_u64().unwrap() as usize)
            .copied()
    );
    let all: f64 = busy.iter().sum();
    assert!(
        all <= number(&seen["processors_used"]) * 1.2 + 0.02,
        "{seen}"
    );
    let estimate = &seen["estimate"];
    let grown = 1.0 + number(&estimate["more"]) / number(&seen["rate"]);
    let full = number(&estimate["full"]);
    assert!(grown * busiest <= full.max(busiest) + 0.01, "{seen}");
    assert!(
        number(&estimate["more"]) <= number(&estimate["more_if_even"]) + 0.01,
        "{seen}"
    );

    let text = gateway
        .run_cli(&["status"], &["--headroom"])
        .expect(0)
        .stdout;
    for part in [
        "HEADROOM",
        "worker 0",
        "worker 1",
        "(the busiest)",
        "requests/s more until",
        "assumes",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
    let status: Value = gateway
        .run_cli(&["status"], &["--headroom", "--json"])
        .expect(0)
        .json();
    assert!(
        status["headroom"]["estimate"]["assumes"].is_string(),
        "{status}"
    );
    assert!(status["routes"].is_array(), "{status}");
}

fn headroom(gateway: &Gateway) -> Value {
    let (status, body) = gateway.over_socket("GET", "/api/v1/headroom", &[]).unwrap();
    assert_eq!(status, 200, "{body}");
    serde_json::from_str(&body).unwrap()
}

fn answered(gateway: &Gateway) -> f64 {
    gateway.metric("gateway_requests_by_route_total", &[])
}

/// CPU time of the gateway in hundredths of a second, as the kernel counts it.
fn cpu_ticks(gateway: &Gateway) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", gateway.pid())).unwrap();
    let (_, fields) = stat.rsplit_once(") ").unwrap();
    let times = fields.split(' ').skip(11).take(2);
    times.map(|time| time.parse::<u64>().unwrap()).sum()
}
