//! Backups: nothing while a primary lives, everything when none does.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::{before, endpoint, to};
use crate::harness::{Gateway, Origin, eventually, seconds};

const HEALTH: &str = "[upstream.api.health]\npath = \"/healthz\"\ninterval = \"100ms\"\ntimeout = \"500ms\"\nrise = 1\nfall = 1\n\
                      [upstream.api.passive]\nmax_fails = 1\nfail_timeout = \"300ms\"\n";

fn primary_and_backup(more: &str) -> (Origin, Origin, Gateway) {
    let (primary, backup) = (Origin::named("primary"), Origin::named("backup"));
    let endpoints = to(&primary) + &endpoint(backup.address(), ", backup = true");
    let gateway = before(&endpoints, more).start();
    (primary, backup, gateway)
}

fn traffic(origin: &Origin) -> usize {
    origin.count_of(|seen| seen.target != "/healthz")
}

#[test]
fn a_backup_gets_nothing_while_a_primary_lives() {
    let (primary, backup, gateway) = primary_and_backup("");
    for _ in 0..20 {
        gateway.client().get("/").send().expect(200);
    }
    assert_eq!((primary.count(), backup.count()), (20, 0));
}

#[test]
fn a_backup_takes_over_and_hands_back_without_a_failed_request() {
    let (primary, backup, gateway) = primary_and_backup(HEALTH);
    let client = gateway.client();
    let (stop, served, failed) = (
        AtomicBool::new(false),
        AtomicUsize::new(0),
        AtomicUsize::new(0),
    );
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut connection = client.connect();
                while !stop.load(Ordering::Relaxed) {
                    match connection.get("/").try_send() {
                        Ok(response) if response.status == 200 => {
                            served.fetch_add(1, Ordering::Relaxed)
                        }
                        _ => {
                            connection = client.connect();
                            failed.fetch_add(1, Ordering::Relaxed)
                        }
                    };
                }
            });
        }
        for _ in 0..3 {
            let before = traffic(&backup);
            primary.kill();
            eventually(seconds(10), "the backup works", || {
                traffic(&backup) > before + 50
            });
            let before = traffic(&primary);
            primary.revive();
            eventually(seconds(10), "the primary works again", || {
                traffic(&primary) > before + 50
            });
            let at_rest = traffic(&backup);
            let primary_then = traffic(&primary);
            eventually(seconds(10), "the primary works on", || {
                traffic(&primary) > primary_then + 50
            });
            assert!(
                traffic(&backup) <= at_rest + 4,
                "only what was on its way still reached the backup"
            );
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert_eq!(
        failed.into_inner(),
        0,
        "of {} requests",
        served.into_inner()
    );
}

#[test]
fn one_dead_primary_of_two_is_no_case_for_the_backup() {
    let (a, b, backup) = (
        Origin::named("a"),
        Origin::named("b"),
        Origin::named("backup"),
    );
    let endpoints = to(&a) + &to(&b) + &endpoint(backup.address(), ", backup = true");
    let gateway = before(&endpoints, HEALTH).start();
    a.kill();
    for _ in 0..30 {
        gateway.client().get("/").send().expect(200);
    }
    assert_eq!(traffic(&backup), 0);
    b.kill();
    for _ in 0..30 {
        gateway.client().get("/").send().expect(200);
    }
    assert_eq!(traffic(&backup), 30);
}

#[test]
fn several_backups_share_by_weight() {
    let origins = ["a", "b", "c"].map(Origin::named);
    let endpoints = to(&origins[0])
        + &endpoint(origins[1].address(), ", backup = true, weight = 2")
        + &endpoint(origins[2].address(), ", backup = true");
    let gateway = before(&endpoints, HEALTH).start();
    origins[0].kill();
    gateway.wait_for_metric(
        "gateway_endpoint_healthy",
        &[("endpoint", &origins[0].address().to_string())],
        0.0,
    );
    for _ in 0..30 {
        gateway.client().get("/").send().expect(200);
    }
    assert_eq!((traffic(&origins[1]), traffic(&origins[2])), (20, 10));
}

#[test]
fn primaries_that_die_and_come_back_cost_no_get_and_get_their_share_again() {
    let origins = ["a", "b", "c"].map(Origin::named);
    let endpoints: String = origins.iter().map(to).collect();
    let gateway = before(&endpoints, HEALTH).start();
    let client = gateway.client();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut connection = client.connect();
                while !stop.load(Ordering::Relaxed) {
                    connection.get("/").send().expect(200);
                }
            });
        }
        for origin in origins.iter().chain(&origins) {
            origin.kill();
            let others: usize = origins.iter().map(traffic).sum();
            eventually(seconds(10), "the others go on", || {
                origins.iter().map(traffic).sum::<usize>() > others + 100
            });
            origin.revive();
            let own = traffic(origin);
            eventually(seconds(10), "it works again", || traffic(origin) > own + 20);
        }
        stop.store(true, Ordering::Relaxed);
    });
    for origin in &origins {
        gateway.wait_for_metric(
            "gateway_endpoint_healthy",
            &[("endpoint", &origin.address().to_string())],
            1.0,
        );
    }
    let counts = origins.each_ref().map(traffic);
    for _ in 0..30 {
        client.get("/").send().expect(200);
    }
    for (origin, before) in origins.iter().zip(counts) {
        assert_eq!(traffic(origin) - before, 10, "{}", origin.name());
    }
}
