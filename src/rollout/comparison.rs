//! Two spans of a route's life beside each other: did it get clearly worse?
//!
//! A new configuration is judged by this. What is called worse must be both large and beyond chance: a share of answers
//! has to grow by some points and by three standard errors (two-proportion z-test), and a quantile has to double.

use crate::api::Behaviour;
use crate::observe::{Sums, quantile};

impl From<&Sums> for Behaviour {
    fn from(sums: &Sums) -> Self {
        Self {
            requests: sums.total(),
            error_ratio: share(sums.errors(), sums.total()),
            refusal_ratio: share(sums.refused(), sums.total()),
            p99_ms: quantile(sums, 0.99) * 1000.0,
        }
    }
}

/// Answers of the later span below which nothing is said about shares, and about quantiles.
const FEW: u64 = 20;
const FEW_FOR_QUANTILES: u64 = 100;
/// Points by which a share has to grow.
const ERROR_POINTS: f64 = 0.05;
const REFUSAL_POINTS: f64 = 0.10;
/// Standard errors by which it has to grow.
const BEYOND_CHANCE: f64 = 3.0;
/// Share that is too much where nothing is known from before.
const HALF: f64 = 0.5;
/// By how much the slowest of 100 answers has to be slower: so many times, and so many milliseconds.
const TIMES: f64 = 2.0;
const MILLIS: f64 = 25.0;

/// What got clearly worse from `before` to `after`, in words; empty: nothing.
pub fn worse(before: &Sums, after: &Sums) -> Vec<String> {
    let mut found = Vec::new();
    let judged: [(&str, BadOf, f64); 2] = [
        ("5xx answers", Sums::errors, ERROR_POINTS),
        ("refusals", Sums::refused, REFUSAL_POINTS),
    ];
    for (what, bad, points) in judged {
        let [was, is] = [before, after].map(|sums| BadShare {
            bad: bad(sums),
            all: sums.total(),
        });
        if is.grew_from(&was, points) {
            let [from, to] = [was, is].map(|part| part.share() * 100.0);
            found.push(format!("{what} {from:.1} % -> {to:.1} %"));
        }
    }
    if before.total() >= FEW_FOR_QUANTILES && after.total() >= FEW_FOR_QUANTILES {
        let [from, to] = [before, after].map(|sums| quantile(sums, 0.99) * 1000.0);
        if to > from * TIMES && to - from > MILLIS {
            found.push(format!("p99 {from:.0} ms -> {to:.0} ms"));
        }
    }
    found
}

/// Counts the answers of a span that are bad in one way.
type BadOf = fn(&Sums) -> u64;

/// Answers that are bad, among all of a span.
struct BadShare {
    bad: u64,
    all: u64,
}

impl BadShare {
    fn share(&self) -> f64 {
        share(self.bad, self.all)
    }

    /// Whether the share grew by so many points, and not by chance.
    fn grew_from(&self, before: &Self, points: f64) -> bool {
        if self.all < FEW {
            return false;
        }
        let growth = self.share() - before.share();
        if before.all == 0 {
            return self.share() >= HALF;
        }
        let pooled = share(before.bad + self.bad, before.all + self.all);
        let chances = 1.0 / before.all as f64 + 1.0 / self.all as f64;
        let deviation = (pooled * (1.0 - pooled) * chances).sqrt();
        growth >= points && growth >= BEYOND_CHANCE * deviation
    }
}

fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 {
        0.0
    } else {
        part as f64 / whole as f64
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::filter::Reason;
    use crate::observe::stats::RouteStats;

    /// So many good, bad and refused answers of a route that takes so long.
    fn sums(good: u64, bad: u64, refused: u64, millis: u64) -> Sums {
        let stats = RouteStats::default();
        let took = Duration::from_millis(millis);
        (0..good).for_each(|_| stats.served("GET", 200, took));
        (0..bad).for_each(|_| stats.served("GET", 503, took));
        for _ in 0..refused {
            stats.served("GET", 401, took);
            stats.refused(Reason::TokenInvalid);
        }
        Sums::of(&stats)
    }

    #[test]
    fn what_stays_as_it_was_is_not_worse() {
        for (before, after) in [
            (sums(1000, 10, 50, 4), sums(100, 1, 5, 4)),
            (sums(1000, 0, 0, 4), sums(97, 3, 0, 4)),
            (sums(0, 0, 0, 4), sums(100, 0, 0, 900)),
            (sums(0, 0, 0, 4), sums(30, 10, 10, 4)),
            // Too few to say.
            (sums(1000, 0, 0, 4), sums(0, 19, 0, 4)),
            // Faster than before is fine, and so is a quantile that grows within what nobody notices.
            (sums(1000, 0, 0, 4), sums(1000, 0, 0, 20)),
            // A route that failed before may fail on.
            (sums(50, 50, 0, 4), sums(55, 65, 0, 4)),
        ] {
            assert_eq!(
                worse(&before, &after),
                Vec::<String>::new(),
                "{before:?} {after:?}"
            );
        }
    }

    #[test]
    fn errors_refusals_and_waiting_are_noticed() {
        let before = sums(1000, 0, 0, 4);
        for (after, word) in [
            (sums(70, 30, 0, 4), "5xx answers 0.0 % -> 30.0 %"),
            (sums(0, 20, 0, 4), "5xx answers 0.0 % -> 100.0 %"),
            (sums(70, 0, 30, 4), "refusals 0.0 % -> 30.0 %"),
        ] {
            assert_eq!(worse(&before, &after), [word]);
        }
        let slower = worse(&before, &sums(200, 0, 0, 400));
        assert!(
            slower.len() == 1 && slower[0].starts_with("p99 "),
            "{slower:?}"
        );
        let new = worse(&Sums::default(), &sums(5, 20, 0, 4));
        assert_eq!(new, ["5xx answers 0.0 % -> 80.0 %"]);
    }
}
