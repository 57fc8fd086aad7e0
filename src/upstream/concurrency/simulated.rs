//! The limit that is found, against simulated upstreams: beside one who knows the upstream and set a fixed limit, a fifth
//! above what it does at once.

use proptest::prelude::*;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::gradient::{Bounds, Gradient, Window};
use super::simulation::{BOUNDS, MS, SECOND, Simulation, Span, WORKS, Work};

/// One upstream and what is asked of it.
#[derive(Clone, Copy, Debug)]
struct Case {
    work: Work,
    slots: usize,
    /// Milliseconds.
    service: u64,
    load: f64,
    seed: u64,
}

impl Case {
    fn any(work: Work, numbers: &mut SmallRng) -> Self {
        loop {
            let mut between =
                |least: f64, most: f64| numbers.random_range(least.ln()..most.ln()).exp();
            let case = Self {
                work,
                slots: between(1.0, 500.0) as usize,
                service: between(2.0, 500.0) as u64,
                load: between(0.3, 3.0),
                seed: numbers.random(),
            };
            // More takes too long to simulate.
            if case.capacity() < 10_000.0 {
                return case;
            }
        }
    }

    fn capacity(&self) -> f64 {
        self.slots as f64 * 1000.0 / self.service as f64
    }

    fn found(&self) -> Simulation {
        Simulation::new(self.slots, self.service * MS, self.work, self.seed)
    }

    fn known(&self) -> Simulation {
        let limit = (self.slots as f64 * 1.2).round().max(3.0) as u32;
        Simulation::known(self.slots, self.service * MS, self.work, self.seed, limit)
    }

    /// What both make of it, once settled.
    fn compare(&self) -> (Span, Span) {
        let served = self.capacity() * self.load.min(1.0);
        let seconds = (30_000.0 / served).clamp(10.0, 60.0);
        let [found, known] = [self.found(), self.known()]
            .map(|mut upstream| upstream.load(self.load).settle().run(seconds));
        (found, known)
    }
}

#[test]
fn settles_near_the_knee_under_twice_the_capacity() {
    for work in [Work::Steady, Work::Uniform, Work::Exponential] {
        for slots in [5, 50, 300] {
            let mut upstream = Simulation::new(slots, 20 * MS, work, 7);
            upstream.load(2.0).run(15.0);
            let span = upstream.run(20.0);
            let what = format!("{work:?}, {slots}: {span:?}, {}", upstream.limit);
            assert!(span.rate > upstream.capacity() * 0.95, "{what}");
            let knee = slots as f64;
            assert!(span.slowness < 1.35 + 1.0 / knee, "{what}");
            let limit = f64::from(upstream.limit);
            assert!((knee * 0.65..knee * 1.7 + 2.0).contains(&limit), "{what}");
        }
    }
}

#[test]
fn finds_the_knee_from_a_cold_start_within_three_seconds() {
    for work in [Work::Steady, Work::Uniform] {
        let mut upstream = Simulation::new(200, 50 * MS, work, 7);
        upstream.load(2.0).run(3.0);
        let span = upstream.run(1.0);
        assert!(
            span.rate > upstream.capacity() * 0.9,
            "{work:?}: {span:?} {}",
            upstream.limit
        );
    }
}

#[test]
fn begun_in_the_middle_of_an_overload_it_finds_out() {
    let mut upstream = Simulation::new(4, 20 * MS, Work::Steady, 7);
    upstream.load(10.0).run(5.0);
    let span = upstream.run(10.0);
    assert!(
        span.slowness < 1.6 && span.rate > 185.0,
        "{span:?} {}",
        upstream.limit
    );
}

#[test]
fn below_the_capacity_nobody_is_refused() {
    for work in [Work::Steady, Work::Exponential, Work::Cache(0.8)] {
        let mut upstream = Simulation::new(50, 20 * MS, work, 7);
        upstream.load(0.6).run(5.0);
        let span = upstream.run(60.0);
        assert!(
            span.refused == 0 && span.slowness < 1.2,
            "{work:?}: {span:?} {}",
            upstream.limit
        );
    }
}

#[test]
fn it_neither_sinks_nor_drifts_away_within_half_an_hour() {
    for (n, work) in WORKS.into_iter().enumerate() {
        for load in [1.06, 2.0] {
            let case = Case {
                work,
                slots: 20,
                service: 200,
                load,
                seed: n as u64,
            };
            let (mut found, mut known) = (case.found(), case.known());
            found.load(load).settle();
            known.load(load).settle();
            for minutes in [0, 10, 20] {
                let (span, by) = (found.run(600.0), known.run(600.0));
                let what = format!("{case:?} after {minutes}: {span:?}, known {by:?}");
                assert!(span.rate > by.rate * 0.85, "{what}");
                assert!(span.slowness < by.slowness * 1.5, "{what}");
            }
        }
    }
}

/// What happens to an upstream.
type Change = fn(&mut Simulation);

/// Twice what it can do, at first; then the upstream changes, and the load does not.
fn after(work: Work, change: impl FnOnce(&mut Simulation)) -> (Span, f64) {
    let mut upstream = Simulation::new(100, 20 * MS, work, 5);
    upstream.load(2.0).run(20.0);
    let asked = upstream.capacity() * 2.0;
    change(&mut upstream);
    let load = asked / upstream.capacity();
    upstream.load(load).run(5.0);
    let span = upstream.run(10.0);
    let share = span.rate / upstream.capacity().min(asked);
    (span, share)
}

#[test]
fn an_upstream_that_changes_is_found_again_within_five_seconds() {
    let works = [
        Work::Steady,
        Work::Uniform,
        Work::Exponential,
        Work::LogNormal(1.0),
        Work::Cache(0.5),
    ];
    for work in works {
        let changes: [(&str, Change); 5] = [
            ("half of it is gone", |upstream| upstream.resize(50)),
            ("there is twice as much", |upstream| upstream.resize(200)),
            ("everything takes twice as long", |upstream| {
                upstream.service *= 2;
            }),
            ("half as long", |upstream| upstream.service /= 2),
            ("twice as long, and not any more", |upstream| {
                upstream.service *= 2;
                upstream.run(10.0);
                upstream.service /= 2;
            }),
        ];
        for (what, change) in changes {
            let (span, share) = after(work, change);
            assert!(share > 0.85, "{work:?}, {what}: {share} {span:?}");
            assert!(span.slowness < 1.75, "{work:?}, {what}: {span:?}");
        }
    }
}

#[test]
fn a_moment_in_which_nothing_goes_is_forgotten_within_two_seconds() {
    for work in [Work::Steady, Work::Uniform, Work::Exponential] {
        let mut upstream = Simulation::new(100, 20 * MS, work, 7);
        upstream.load(2.0).run(20.0);
        upstream.resize(0);
        upstream.run(0.5);
        upstream.resize(100);
        upstream.run(2.0);
        let span = upstream.run(5.0);
        assert!(
            span.rate > upstream.capacity() * 0.9 && span.slowness < 1.5,
            "{work:?}: {span:?}"
        );
    }
}

#[test]
fn a_second_after_the_load_nothing_is_left_of_it() {
    for work in WORKS {
        let mut upstream = Simulation::new(50, 20 * MS, work, 7);
        upstream.load(3.0).settle();
        upstream.load(0.5).run(1.0);
        let span = upstream.run(10.0);
        assert!(
            span.refused == 0 && span.slowness < 1.2,
            "{work:?}: {span:?}"
        );
        // And it is not the worse for it when it comes back.
        upstream.load(2.0).run(1.0);
        let span = upstream.run(5.0);
        assert!(span.rate > upstream.capacity() * 0.8, "{work:?}: {span:?}");
    }
}

#[test]
fn whatever_the_upstream_is_like_little_is_lost() {
    for work in WORKS {
        let mut numbers = SmallRng::seed_from_u64(1);
        let shares: Vec<f64> = (0..16)
            .map(|_| {
                let (found, known) = Case::any(work, &mut numbers).compare();
                found.rate / known.rate
            })
            .collect();
        let mean = shares.iter().sum::<f64>() / shares.len() as f64;
        assert!(mean > 0.95, "{work:?}: {mean}, {shares:?}");
    }
}

fn case() -> impl Strategy<Value = Case> {
    // Where one answer in twenty takes twenty times as long, or one in a thousand a hundred times, it takes many hundreds
    // of answers to see anything: there the mean over many upstreams must do, above.
    let works = prop::sample::select(WORKS[..4].to_vec());
    (works, any::<u64>())
        .prop_map(|(work, seed)| Case::any(work, &mut SmallRng::seed_from_u64(seed)))
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 32,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn it_serves_what_can_be_served_and_lets_little_wait(case in case()) {
        let (found, known) = case.compare();
        prop_assert!(found.rate > known.rate * 0.7, "{:?}, known {:?}", found, known);
        // With less there is no telling.
        if case.slots >= 8 && case.capacity() >= 50.0 {
            prop_assert!(found.slowness < known.slowness.max(1.2) * 2.0, "{:?}, known {:?}", found, known);
        }
    }
}

#[test]
fn an_upstream_that_drops_requests_gets_fewer() {
    let mut gradient = Gradient::new();
    let window = |dropping| Window {
        latency: 10.0 * MS as f64,
        error: 0.05,
        in_flight: 100.0,
        peak: 100,
        dropping,
    };
    for step in 1..20 {
        gradient.update(window(false), BOUNDS, step * SECOND / 10);
    }
    let before = gradient.limit(BOUNDS);
    let after = gradient.update(window(true), BOUNDS, 2 * SECOND);
    assert!(after < before && after > before / 2, "{before} {after}");
    for step in 21..60 {
        gradient.update(window(true), BOUNDS, step * SECOND / 10);
    }
    assert_eq!(gradient.limit(BOUNDS), BOUNDS.least);
}

#[test]
fn other_bounds_are_kept_at_once() {
    let mut gradient = Gradient::new();
    let fewer = Bounds { least: 2, most: 7 };
    assert_eq!(gradient.limit(fewer), 7);
    let window = Window {
        latency: 10.0 * MS as f64,
        error: 0.05,
        in_flight: 7.0,
        peak: 7,
        dropping: false,
    };
    for step in 1..50 {
        let limit = gradient.update(window, fewer, step * SECOND / 10);
        assert!((2..=7).contains(&limit), "{limit}");
    }
}
