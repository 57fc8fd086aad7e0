//! A reload changes the rules and touches nothing else.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::ScopedJoinHandle;

use nix::sys::signal::Signal;

use super::HELLO;
use crate::harness::{Answer, Gateway, Origin, eventually, reserve, seconds};

fn versioned(version: usize) -> String {
    format!(
        "[server.client]\nkeepalive_requests = 10000000\n\
         [upstream.api]\nendpoints = [{{ address = \"{{origin}}\" }}]\n\
         [[route]]\nid = \"proxied\"\npath = \"/proxied/**\"\nupstream = \"api\"\n\
         [[route]]\nid = \"version\"\npath = \"/version\"\nrespond = {{ status = 200, text = \"{version}\" }}\n"
    )
}

fn version(gateway: &Gateway) -> String {
    gateway.client().get("/version").send().expect(200).text()
}

#[test]
fn two_hundred_reloads_under_load_lose_nothing_and_close_nothing() {
    let origin = Origin::start();
    let gateway = Gateway::with(&versioned(0)).to(&origin).start();
    let client = gateway.client();
    let (stop, served) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        let load = || {
            let mut connection = client.connect();
            let port = connection.local_port();
            let mut turn = 0;
            while !stop.load(Ordering::Relaxed) {
                turn += 1;
                let request = match turn % 3 {
                    0 => connection.get("/version"),
                    1 => connection.get("/proxied/x"),
                    _ => connection.post("/proxied/y").body("body"),
                };
                let response = request
                    .try_send()
                    .unwrap_or_else(|error| panic!("request {turn}: {error}"));
                response.expect(200);
                served.fetch_add(1, Ordering::Relaxed);
            }
            assert_eq!(connection.local_port(), port);
        };
        let threads: Vec<ScopedJoinHandle<()>> = (0..4).map(|_| scope.spawn(load)).collect();
        for n in 1..=200 {
            gateway.rewrite(&versioned(n));
            gateway.reload_ok();
            assert_eq!(version(&gateway), n.to_string());
        }
        stop.store(true, Ordering::Relaxed);
        threads.into_iter().for_each(|t| t.join().unwrap());
    });
    assert!(served.into_inner() > 400);
    gateway.wait_for_metric("gateway_config_reloads_total", &[("result", "ok")], 200.0);
}

#[test]
fn reloads_leak_neither_descriptors_nor_threads() {
    let origin = Origin::start();
    let gateway = Gateway::with(&versioned(0)).to(&origin).start();
    gateway.client().get("/proxied/x").send().expect(200);
    for n in 0..20 {
        gateway.rewrite(&versioned(n));
        gateway.reload_ok();
    }
    let (fds, threads, rss) = (gateway.fds(), gateway.threads(), gateway.rss());
    for n in 0..100 {
        gateway.rewrite(&versioned(n));
        gateway.reload_ok();
    }
    eventually(seconds(5), "the descriptors are back", || {
        gateway.fds() <= fds + 2
    });
    assert!(gateway.threads() <= threads + 2);
    assert!(
        gateway.rss() <= rss + 8 * 1024,
        "{} KiB more",
        gateway.rss().saturating_sub(rss)
    );
}

#[test]
fn a_request_in_flight_keeps_the_rules_it_began_with() {
    let origin = Origin::answering(|_| Answer::text("late").after(seconds(1)));
    let gateway = Gateway::with(&versioned(0)).to(&origin).start();
    let mut running = gateway.client().get("/proxied/x").begin();
    eventually(seconds(5), "it arrived", || origin.count() == 1);
    gateway.rewrite("[[route]]\nid = \"only\"\npath = \"/only\"\nrespond = { status = 200 }\n");
    gateway.reload_ok();
    gateway
        .client()
        .get("/proxied/x")
        .send()
        .refused(404, "route_not_found");
    assert_eq!(running.response("GET").unwrap().expect(200).text(), "late");
    // The same connection meets the new rules with its next request.
    running
        .get("/proxied/x")
        .send()
        .refused(404, "route_not_found");
}

#[test]
fn an_invalid_file_changes_nothing_and_says_where_it_is_wrong() {
    let gateway = Gateway::with(HELLO).start();
    let hash = gateway.info()["config_hash"].clone();
    for (n, (text, place)) in [
        (
            "[[route]]\npath = \"/x\"\nupstream = \"nobody\"\n",
            "tollgate.toml:3:",
        ),
        ("[server]\n\nthread = 3\n", "tollgate.toml:3:1"),
        ("[[[", "tollgate.toml:1:"),
        ("\u{feff}[[route", "tollgate.toml:1:"),
        ("a = \"\u{0}\"", "tollgate.toml:1:"),
    ]
    .into_iter()
    .enumerate()
    {
        gateway.write("tollgate.toml", text);
        let last = gateway.reload();
        assert_eq!(last["result"], "error", "{text:?}");
        assert!(last["error"].as_str().unwrap().contains(place), "{last}");
        gateway.wait_for_log(|line| line["level"] == "error" && line.to_string().contains(place));
        gateway.client().get("/hello").send().expect(200);
        gateway.wait_for_metric(
            "gateway_config_reloads_total",
            &[("result", "error")],
            n as f64 + 1.0,
        );
        assert_eq!(gateway.info()["config_hash"], hash);
    }
    assert!(
        gateway
            .run_cli(&["status"], &[])
            .expect(0)
            .stdout
            .contains("tollgate.toml:1:"),
        "status shows the failed reload"
    );
}

#[test]
fn a_file_that_is_gone_or_no_file_changes_nothing() {
    let gateway = Gateway::with(HELLO).start();
    std::fs::remove_file(gateway.config()).unwrap();
    assert_eq!(gateway.reload()["result"], "error");
    gateway.client().get("/hello").send().expect(200);
    std::fs::create_dir(gateway.config()).unwrap();
    assert_eq!(gateway.reload()["result"], "error");
    gateway.client().get("/hello").send().expect(200);
    std::fs::remove_dir(gateway.config()).unwrap();
    gateway.rewrite(HELLO);
    gateway.reload_ok();
}

#[test]
fn an_unchanged_file_counts_as_a_good_reload() {
    let gateway = Gateway::with(HELLO).start();
    for n in 1..=3 {
        gateway.reload_ok();
        gateway.wait_for_metric(
            "gateway_config_reloads_total",
            &[("result", "ok")],
            f64::from(n),
        );
    }
}

#[test]
fn a_storm_of_signals_builds_a_few_times_and_ends_on_the_last_file() {
    let origin = Origin::start();
    let gateway = Gateway::with(&versioned(0)).to(&origin).start();
    for n in 0..1000 {
        if n % 100 == 0 {
            gateway.rewrite(&versioned(n));
        }
        gateway.signal(Signal::SIGHUP);
    }
    gateway.rewrite(&versioned(4711));
    gateway.signal(Signal::SIGHUP);
    eventually(seconds(10), "the last file is in force", || {
        version(&gateway) == "4711"
    });
    let builds = || gateway.metric("gateway_config_reloads_total", &[]);
    // Kept until nothing moves any more.
    let mut settled = builds();
    eventually(seconds(10), "the storm is over", || {
        std::thread::sleep(crate::harness::millis(300));
        let now = builds();
        std::mem::replace(&mut settled, now) == now
    });
    assert!(settled <= 50.0, "{settled} builds for 1001 signals");
    assert_eq!(version(&gateway), "4711");
}

#[test]
fn what_needs_an_upgrade_is_named_and_the_rest_applies() {
    let gateway = Gateway::with(HELLO).start();
    let old = gateway.listen();
    let new = reserve();
    let text = format!(
        "[server]\nthreads = 3\n{HELLO}[[route]]\nid = \"more\"\npath = \"/more\"\nrespond = {{ status = 200 }}\n\
         [[listener]]\nname = \"public\"\naddress = \"{new}\"\n"
    );
    gateway.rewrite(&text);
    let ran = gateway.run_cli(&["reload"], &[]).expect(0);
    let said = ran.all();
    for word in ["needs upgrade", "threads", "listener"] {
        assert!(said.contains(word), "{word:?} in {said}");
    }
    gateway.client().get("/more").send().expect(200);
    assert_eq!(gateway.listen(), old);
    assert!(crate::harness::Client::to(new).try_connect().is_err());
    let named: BTreeSet<String> = gateway.info()["last_reload"]
        .to_string()
        .split('"')
        .map(str::to_owned)
        .collect();
    assert!(named.iter().any(|n| n.contains("threads")), "{named:?}");
}

#[test]
fn ten_thousand_routes_reload_without_a_visible_pause() {
    let routes = |version: usize| -> String {
        let one = |n: usize| {
            format!(
                "[[route]]\nid = \"r{n}\"\npath = \"/s{}/i{n}/{{x}}\"\nrespond = {{ status = 200 }}\n",
                n % 97
            )
        };
        versioned(version)
            .replace(
                "[upstream.api]\nendpoints = [{ address = \"{origin}\" }]\n",
                "",
            )
            .replace(
                "[[route]]\nid = \"proxied\"\npath = \"/proxied/**\"\nupstream = \"api\"\n",
                &(0..10_000).map(one).collect::<String>(),
            )
    };
    let gateway = Gateway::with(&routes(0)).start();
    let client = gateway.client();
    let stop = AtomicBool::new(false);
    let slowest = std::thread::scope(|scope| {
        let watch = scope.spawn(|| {
            let mut connection = client.connect();
            let mut slowest = std::time::Duration::ZERO;
            while !stop.load(Ordering::Relaxed) {
                let start = std::time::Instant::now();
                connection.get("/version").send().expect(200);
                slowest = slowest.max(start.elapsed());
            }
            slowest
        });
        for n in 1..=2 {
            gateway.rewrite(&routes(n));
            gateway.reload_ok();
        }
        stop.store(true, Ordering::Relaxed);
        watch.join().unwrap()
    });
    assert_eq!(version(&gateway), "2");
    // Unoptimised and beside other tests: this finds a stopped world, not a slow one.
    assert!(
        slowest < std::time::Duration::from_millis(1500),
        "{slowest:?}"
    );
}
