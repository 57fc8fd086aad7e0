//! Outliers: endpoints that fail in a row, or whose share of successes lies far below that of the others, are put aside,
//! longer each time (Envoy's outlier detection).
//!
//! The rules beside it: never the last usable endpoint, never more than a share of all at once though one always may be,
//! and with every interval in which an endpoint is not aside one of its earlier times is forgiven.

use std::collections::HashMap;

use super::live::Sums;
use crate::config::Outlier;
use crate::observe::stats::Ejection;
use crate::primitives::address::Address;
use crate::primitives::clock::nanos;

/// What an endpoint answered in one interval.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tally {
    pub(super) answered: u64,
    pub(super) failed: u64,
}

impl Tally {
    fn success(self) -> f64 {
        1.0 - self.failed as f64 / self.answered.max(1) as f64
    }
}

/// What lies less than this below the mean is no outlier, whatever the deviations say: of five endpoints the one that is not
/// like the others is two deviations away, however little it differs, if only by one failure.
const NOTABLE: f64 = 0.05;

/// Which of `tallies` are outliers, and why, in words too.
pub(super) fn outliers(tallies: &[Tally], rule: &Outlier) -> Vec<(usize, Ejection, String)> {
    let judged: Vec<(usize, Tally)> = tallies
        .iter()
        .copied()
        .enumerate()
        .filter(|(_, tally)| tally.answered >= u64::from(rule.min_requests))
        .collect();
    let mut found = Vec::new();
    let most = rule.failure_rate.fraction();
    if most > 0.0 {
        for (index, tally) in &judged {
            let failing = 1.0 - tally.success();
            if failing >= most {
                let why = format!("{:.0} % of its answers failed", failing * 100.0);
                found.push((*index, Ejection::FailureRate, why));
            }
        }
    }
    if rule.deviations > 0.0 && judged.len() >= rule.min_endpoints as usize {
        let count = judged.len() as f64;
        let mean = judged.iter().map(|(_, tally)| tally.success()).sum::<f64>() / count;
        let distance = |(_, tally): &(usize, Tally)| (tally.success() - mean).powi(2);
        let deviation = (judged.iter().map(distance).sum::<f64>() / count).sqrt();
        let least = (mean - rule.deviations * deviation).min(mean - NOTABLE);
        for (index, tally) in &judged {
            if tally.success() < least && !found.iter().any(|(known, ..)| known == index) {
                let why = format!(
                    "{:.1} % of its answers were good, the mean of the upstream is {:.1} %",
                    tally.success() * 100.0,
                    mean * 100.0
                );
                found.push((*index, Ejection::SuccessRate, why));
            }
        }
    }
    found
}

/// How long it stays aside the `times`-th time, in nanoseconds.
pub(super) fn term(rule: &Outlier, times: u32) -> u64 {
    nanos(rule.base_ejection)
        .saturating_mul(u64::from(times.max(1)))
        .min(nanos(rule.max_ejection))
}

/// Whether one more may be put aside when `aside` of `all` are.
pub(super) fn room(rule: &Outlier, aside: usize, all: usize) -> bool {
    aside == 0 || (aside + 1) as f64 <= rule.max_ejected.fraction() * all as f64
}

/// An endpoint as it is compared.
#[derive(Clone, Debug)]
pub(super) struct Compared {
    pub(super) address: Address,
    pub(super) sums: Sums,
    pub(super) usable: bool,
}

/// What was known at the last comparison.
#[derive(Default)]
pub(super) struct Comparison {
    before: HashMap<Address, Compared>,
    due: u64,
}

/// One endpoint's interval.
#[derive(Clone, Copy, Debug)]
pub(super) struct Interval {
    pub(super) tally: Tally,
    /// Whether the endpoint was usable at both ends.
    pub(super) whole: bool,
}

impl Comparison {
    /// What each answered since the last comparison, when one is due; the first only begins the interval.
    pub(super) fn due(
        &mut self,
        rule: &Outlier,
        all: Vec<Compared>,
        now: u64,
    ) -> Option<Vec<Interval>> {
        if now < self.due {
            return None;
        }
        let first = self.due == 0;
        self.due = now + nanos(rule.interval);
        let intervals = all.iter().map(|one| {
            let before = self.before.get(&one.address);
            let new = one.sums.since(before.map(|b| b.sums).unwrap_or_default());
            Interval {
                tally: Tally {
                    answered: new.answered,
                    failed: new.failed,
                },
                whole: one.usable && before.is_some_and(|before| before.usable),
            }
        });
        let intervals = intervals.collect();
        let known = all.into_iter().map(|one| (one.address.clone(), one));
        self.before = known.collect();
        (!first).then_some(intervals)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::primitives::units::{self, Percent};

    const RULE: Outlier = Outlier {
        consecutive: 5,
        interval: Duration::from_secs(10),
        deviations: 1.9,
        failure_rate: Percent::ZERO,
        min_endpoints: 5,
        min_requests: 100,
        base_ejection: Duration::from_secs(30),
        max_ejection: Duration::from_secs(300),
        max_ejected: Percent::whole(10),
    };

    fn tallies(failed: &[u64]) -> Vec<Tally> {
        let each = failed.iter().map(|failed| Tally {
            answered: 100,
            failed: *failed,
        });
        each.collect()
    }

    fn found(failed: &[u64], rule: &Outlier) -> Vec<(usize, Ejection)> {
        let found = outliers(&tallies(failed), rule).into_iter();
        found.map(|(index, cause, _)| (index, cause)).collect()
    }

    #[test]
    fn far_below_the_mean_is_an_outlier() {
        assert_eq!(
            found(&[50, 0, 0, 0, 0], &RULE),
            [(0, Ejection::SuccessRate)]
        );
        assert_eq!(found(&[2, 1, 0, 2, 1], &RULE), []);
        assert_eq!(found(&[50; 5], &RULE), [], "alike, however bad");
        assert_eq!(found(&[3, 0, 0, 0, 0], &RULE), [], "too little");
        assert_eq!(
            found(&[50, 50, 0, 0, 0], &RULE),
            [],
            "two of five are no outliers"
        );
        assert_eq!(found(&[50, 0, 0, 0], &RULE), [], "too few to compare");
    }

    #[test]
    fn too_few_requests_are_not_judged() {
        let mut all = tallies(&[0; 6]);
        all[0] = Tally {
            answered: 99,
            failed: 99,
        };
        assert!(outliers(&all, &RULE).is_empty());
    }

    #[test]
    fn a_failure_rate_is_judged_alone() {
        let rule = Outlier {
            failure_rate: units::percent("40%").expect("a share"),
            ..RULE
        };
        assert_eq!(
            found(&[39, 40], &rule),
            [(1, Ejection::FailureRate)],
            "two endpoints are enough"
        );
    }

    #[test]
    fn terms_grow_to_the_cap() {
        let terms = [1, 2, 10, 11].map(|times| term(&RULE, times) / 1_000_000_000);
        assert_eq!(terms, [30, 60, 300, 300]);
    }

    #[test]
    fn one_may_always_be_aside_and_a_share_at_most() {
        assert!(room(&RULE, 0, 2));
        assert!(!room(&RULE, 1, 5));
        assert!(room(&RULE, 1, 20));
        assert!(!room(&RULE, 2, 20));
    }

    #[test]
    fn only_what_is_new_is_compared() {
        let mut comparison = Comparison::default();
        let address = Address::Inet(([127, 0, 0, 1], 80).into());
        let all = |answered| {
            let sums = Sums {
                answered,
                ..Sums::default()
            };
            let address = address.clone();
            vec![Compared {
                address,
                sums,
                usable: true,
            }]
        };
        let second = 1_000_000_000;
        assert!(
            comparison.due(&RULE, all(500), second).is_none(),
            "it begins"
        );
        assert!(comparison.due(&RULE, all(600), 5 * second).is_none());
        let intervals = comparison.due(&RULE, all(700), 11 * second).expect("due");
        assert_eq!(intervals[0].tally.answered, 200);
        assert!(intervals[0].whole);
    }
}
