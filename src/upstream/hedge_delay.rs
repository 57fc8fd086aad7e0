//! How soon answers of an upstream come: what a second try waits for.

use std::time::Duration;

use crate::config::{Hedge, HedgeAfter};
use crate::primitives::clock::nanos;
use crate::primitives::sync::Mutex;
use crate::primitives::sync::atomic::{AtomicU64, Ordering};

/// How soon answers come lately. Counting is one atomic add; the percentile is computed once a second.
pub struct HedgeDelay {
    rule: Hedge,
    counts: Box<[AtomicU64]>,
    seen: Mutex<Seen>,
    /// Nanoseconds; 0 while too little is known.
    after: AtomicU64,
}

/// What was seen of the counts a second ago, and their weight that fades.
struct Seen {
    totals: Vec<u64>,
    weights: Vec<f64>,
}

/// Each doubling of a microsecond is counted in so many steps, so that a percentile is at most an eighth too long.
const STEPS: u64 = 8;
/// Doublings: the longest is more than a minute.
const DOUBLINGS: u64 = 27;
/// What is left of a count's weight after a second: most of what counts is of the last ten.
const FADING: f64 = 0.9;
/// Answers without which no percentile means anything.
const ENOUGH: f64 = 20.0;

impl HedgeDelay {
    /// Nothing is known yet; a fixed time holds at once.
    pub fn new(rule: Hedge) -> Self {
        let after = match rule.after {
            HedgeAfter::Fixed(span) => nanos(span.max(rule.at_least)),
            HedgeAfter::Percentile(_) => 0,
        };
        let size = (STEPS * DOUBLINGS) as usize;
        Self {
            rule,
            counts: (0..size).map(|_| AtomicU64::new(0)).collect(),
            seen: Mutex::new(Seen {
                totals: vec![0; size],
                weights: vec![0.0; size],
            }),
            after: AtomicU64::new(after),
        }
    }

    /// What it goes by.
    pub fn rule(&self) -> &Hedge {
        &self.rule
    }

    /// An answer took so long, or was not awaited any longer.
    pub fn observe(&self, took: Duration) {
        self.counts[step(took)].fetch_add(1, Ordering::Relaxed);
    }

    /// How long an answer is awaited before another endpoint is asked; `None` while too little is known.
    pub fn after(&self) -> Option<Duration> {
        match self.after.load(Ordering::Relaxed) {
            0 => None,
            after => Some(Duration::from_nanos(after)),
        }
    }

    /// Done once a second.
    pub fn tick(&self) {
        let HedgeAfter::Percentile(percent) = self.rule.after else {
            return;
        };
        let mut seen = self.seen.lock();
        let Seen { totals, weights } = &mut *seen;
        for ((count, total), weight) in self.counts.iter().zip(totals).zip(weights.iter_mut()) {
            let now = count.load(Ordering::Relaxed);
            *weight = *weight * FADING + (now - *total) as f64;
            *total = now;
        }
        let all: f64 = weights.iter().sum();
        let after = if all < ENOUGH {
            0
        } else {
            let mut left = all * f64::from(percent) / 100.0;
            let reached = weights.iter().position(|weight| {
                left -= weight;
                left <= 0.0
            });
            let bound = upper_bound(reached.unwrap_or(weights.len() - 1) as u64);
            nanos(bound.max(self.rule.at_least))
        };
        self.after.store(after, Ordering::Relaxed);
    }
}

/// Where a duration is counted.
fn step(took: Duration) -> usize {
    let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
    let micros = micros.clamp(1, 1 << DOUBLINGS);
    let doubling = u64::from(micros.ilog2());
    // The bits behind the first say how far it is to the next doubling.
    let within = (micros << 3 >> doubling) - STEPS;
    (doubling * STEPS + within).min(STEPS * DOUBLINGS - 1) as usize
}

/// The first duration that is counted further up.
fn upper_bound(step: u64) -> Duration {
    let (doubling, within) = (step / STEPS, step % STEPS);
    let micros = (STEPS + within + 1) << doubling;
    Duration::from_nanos(1000 * micros / STEPS)
}

#[cfg(test)]
mod tests {
    use http::Method;

    use super::*;

    fn pace(after: HedgeAfter) -> HedgeDelay {
        HedgeDelay::new(Hedge {
            after,
            at_least: Duration::from_millis(2),
            max: 1,
            methods: vec![Method::GET],
        })
    }

    #[test]
    fn a_duration_lies_below_the_bound_of_its_step_and_not_below_the_one_before() {
        for micros in (1..3000).chain([10_000, 999_999, 15_000_000, 60_000_000]) {
            let took = Duration::from_micros(micros);
            let step = step(took) as u64;
            assert!(took < upper_bound(step), "{micros}");
            assert!(step == 0 || took >= upper_bound(step - 1), "{micros}");
        }
        assert_eq!(step(Duration::MAX), (STEPS * DOUBLINGS - 1) as usize);
        assert_eq!(step(Duration::ZERO), 0);
    }

    #[test]
    fn knows_the_percentile_of_the_last_while() {
        let pace = pace(HedgeAfter::Percentile(95));
        (0..19).for_each(|_| pace.observe(Duration::from_millis(10)));
        pace.tick();
        assert_eq!(pace.after(), None, "too little is known");
        for _ in 0..75 {
            pace.observe(Duration::from_millis(10));
        }
        for _ in 0..6 {
            pace.observe(Duration::from_millis(300));
        }
        pace.tick();
        let after = pace.after().expect("known");
        assert!((300..340).contains(&after.as_millis()), "{after:?}");
        for _ in 0..60 {
            (0..10).for_each(|_| pace.observe(Duration::from_millis(20)));
            pace.tick();
        }
        let after = pace.after().expect("known");
        assert!((20..23).contains(&after.as_millis()), "{after:?}");
        for _ in 0..60 {
            pace.tick();
        }
        assert_eq!(pace.after(), None, "what was known has faded");
    }

    #[test]
    fn is_never_sooner_than_allowed() {
        let pace = pace(HedgeAfter::Percentile(50));
        (0..100).for_each(|_| pace.observe(Duration::from_micros(80)));
        pace.tick();
        assert_eq!(pace.after(), Some(Duration::from_millis(2)));
    }

    #[test]
    fn a_fixed_time_needs_no_answers() {
        let pace = pace(HedgeAfter::Fixed(Duration::from_millis(50)));
        assert_eq!(pace.after(), Some(Duration::from_millis(50)));
        pace.tick();
        assert_eq!(pace.after(), Some(Duration::from_millis(50)));
    }
}
