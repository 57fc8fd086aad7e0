//! Twice as much as can be served: what matters is served as if nothing was, and it is over as soon as it is over.

use crate::alone;
use crate::harness::{Gateway, Setup, millis, seconds};
use crate::load::{Limited, Tally, send};

const CRITICAL: &str = "/critical/x";
const NORMAL: &str = "/normal/x";
const SHEDDABLE: &str = "/sheddable/x";

/// One upstream, and a route of each class before it, pathed like the class.
fn classes(upstream: &str) -> Setup {
    let routes = ["critical", "normal", "sheddable"].map(|class| {
        format!("[[route]]\npath = \"/{class}/**\"\nupstream = \"api\"\nclass = \"{class}\"\n")
    });
    Gateway::with(&format!(
        "[upstream.api]\nendpoints = [{{ address = \"{{origin}}\" }}]\n{upstream}\n[upstream.api.retry]\nattempts = 0\n{}",
        routes.concat()
    ))
}

/// What is asked for, in parts of the capacity: critical alone, then twice the capacity, then little of everything.
#[allow(clippy::print_stdout, reason = "by hand it is run for its figures")]
fn storm(gateway: &Gateway, capacity: f64) -> [Vec<Tally>; 3] {
    let to = gateway.listen();
    let alone = send(to, &[(CRITICAL, capacity * 0.4)], seconds(4));
    let load = [
        (CRITICAL, capacity * 0.4),
        (NORMAL, capacity * 0.7),
        (SHEDDABLE, capacity * 0.9),
    ];
    let beside = send(to, &load, seconds(6));
    std::thread::sleep(millis(500));
    let little = [CRITICAL, NORMAL, SHEDDABLE].map(|target| (target, capacity * 0.15));
    let after = send(to, &little, seconds(2));
    for (what, tallies) in [("alone", &alone), ("2x", &beside), ("after", &after)] {
        for (class, tally) in ["critical", "normal", "sheddable"].iter().zip(tallies) {
            println!("{}", tally.line(&format!("{what}, {class}")));
        }
    }
    [alone, beside, after]
}

#[track_caller]
fn stood([alone, beside, after]: &[Vec<Tally>; 3], slower: f64) {
    let (alone, critical) = (&alone[0], &beside[0]);
    assert!(alone.goodput() > 0.999, "{alone:?}");
    assert!(critical.goodput() >= alone.goodput() * 0.95, "{critical:?}");
    let (before, now) = (alone.quantile(0.99), critical.quantile(0.99));
    assert!(
        now <= before.mul_f64(slower),
        "p99 {before:?}, then {now:?}"
    );
    let refused: usize = beside.iter().map(|tally| tally.refused).sum();
    assert!(refused > 0, "{beside:?}");
    assert!(beside.iter().all(|tally| tally.other == 0), "{beside:?}");
    for tally in after {
        assert_eq!(tally.served, tally.asked, "{tally:?}");
    }
}

#[test]
fn critical_requests_pass_at_an_upstream_with_so_many_places() {
    let _alone = alone();
    let upstream = Limited::start(20, (40, 60));
    let gateway = classes("concurrency = { max = 20, queue = 50 }")
        .to(&upstream.origin)
        .start();
    let ended = storm(&gateway, 400.0);
    stood(&ended, 2.0);
    // What there is, is used.
    let served: usize = ended[1].iter().map(|tally| tally.served).sum();
    assert!(served > 6 * 400 * 8 / 10, "{served}");
}

#[test]
fn critical_requests_pass_at_an_upstream_whose_places_nobody_counted() {
    let _alone = alone();
    let upstream = Limited::start(20, (40, 60));
    let gateway = classes("concurrency = { adaptive = true, queue = 50 }")
        .to(&upstream.origin)
        .start();
    // It learns what the upstream can do while there is load.
    send(gateway.listen(), &[(NORMAL, 800.0)], seconds(6));
    let ended = storm(&gateway, 400.0);
    // By hand it is 1.4 times: a fifth for those beyond the knee that wait at the upstream, the rest for the next place.
    stood(&ended, 2.0);
    let served: usize = ended[1].iter().map(|tally| tally.served).sum();
    assert!(served > 6 * 400 * 8 / 10, "{served}");
    let labels = [("upstream", "api")];
    let limit = gateway.metric("gateway_upstream_concurrency_limit", &labels);
    assert!((15.0..40.0).contains(&limit), "{limit}");
    upstream.resize(-10);
    send(gateway.listen(), &[(NORMAL, 400.0)], seconds(6));
    let half = gateway.metric("gateway_upstream_concurrency_limit", &labels);
    assert!((5.0..limit).contains(&half), "{limit}, then {half}");
}
