//! The generic cell rate algorithm: an exact token bucket that keeps one number per key.
//!
//! The number is the *theoretical arrival time* (TAT): when the bucket will be full again. Times are nanoseconds on
//! any monotonic scale. Formula as in redis-cell: with interval `T` and burst `b`, the tolerance is `T × b`; a call at
//! `now` passes when `max(tat, now) + T − T × b ≤ now`.

use std::time::Duration;

use super::units::Rate;

/// Rate and burst of one limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gcra {
    interval: u64,
    tolerance: u64,
    burst: u64,
}

/// What one call was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Whether the call may pass.
    pub allowed: bool,
    /// The TAT to keep; unchanged when refused.
    pub tat: u64,
    /// Calls that would still pass at once.
    pub remaining: u64,
    /// How long until a refused call would pass; zero when allowed.
    pub retry_after: Duration,
    /// How long until the bucket is full again.
    pub reset_after: Duration,
}

impl Gcra {
    /// `burst` calls pass at once, then one every `1/rate`. A burst of zero is taken as one.
    pub fn new(rate: Rate, burst: u64) -> Self {
        let interval = u64::try_from(rate.interval().as_nanos())
            .unwrap_or(u64::MAX)
            .max(1);
        let burst = burst.max(1);
        Self {
            interval,
            tolerance: interval.saturating_mul(burst),
            burst,
        }
    }

    /// Decides one call that counts `cost` at `now` for a key whose last TAT was `tat` (0 for a new key).
    pub fn decide(&self, tat: u64, now: u64, cost: u64) -> Decision {
        let next = tat
            .max(now)
            .saturating_add(self.interval.saturating_mul(cost));
        let allow_at = next.saturating_sub(self.tolerance);
        let allowed = now >= allow_at;
        let tat = if allowed { next } else { tat };
        let owed = tat.saturating_sub(now);
        Decision {
            allowed,
            tat,
            remaining: self.tolerance.saturating_sub(owed) / self.interval,
            retry_after: Duration::from_nanos(if allowed { 0 } else { allow_at - now }),
            reset_after: Duration::from_nanos(owed),
        }
    }

    /// The TAT once a call is taken back that was let pass at `taken`. What has flowed back since by itself is not given
    /// back again, and a call alone cannot tell how much that was: at most the time that passed, so that is what is kept.
    /// No more passes afterwards than if the call had never been made; just as much when it is taken back at once.
    pub fn give_back(&self, tat: u64, taken: u64, now: u64, cost: u64) -> u64 {
        let whole = self.interval.saturating_mul(cost);
        let left = whole.saturating_sub(now.saturating_sub(taken));
        tat.max(now).saturating_sub(left)
    }

    /// Calls that pass at once on a full bucket.
    pub fn burst(&self) -> u64 {
        self.burst
    }

    /// Nanoseconds an empty bucket takes to fill.
    pub fn tolerance(&self) -> u64 {
        self.tolerance
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn gcra(per_second: u64, burst: u64) -> Gcra {
        Gcra::new(
            Rate {
                count: per_second,
                per: Duration::from_secs(1),
            },
            burst,
        )
    }

    #[test]
    fn passes_the_burst_and_not_one_more() {
        let limit = gcra(10, 5);
        let mut tat = 0;
        let now = 1_000_000_000_000;
        for left in (0..5).rev() {
            let decision = limit.decide(tat, now, 1);
            assert!(decision.allowed);
            assert_eq!(decision.remaining, left);
            tat = decision.tat;
        }
        let refused = limit.decide(tat, now, 1);
        assert!(!refused.allowed);
        assert_eq!(refused.tat, tat);
        assert_eq!(refused.retry_after, Duration::from_millis(100));
        assert!(limit.decide(tat, now + 100_000_000, 1).allowed);
        assert!(!limit.decide(tat, now + 99_999_999, 1).allowed);
    }

    proptest! {
        /// Calls of any cost, some of which are taken back some time later: a bucket that never saw those has at least as
        /// much left at any moment, and as much when all was taken back at once.
        #[test]
        fn what_is_taken_back_lets_no_more_pass(
            rate in 1u64..1000,
            burst in 1u64..20,
            steps in prop::collection::vec((0u64..3, 0u64..30_000_000, 1u64..4, 0usize..6), 1..150),
        ) {
            let limit = gcra(rate, burst);
            let mut now = 5_000_000_000u64;
            let (mut tat, mut held): (u64, Vec<(u64, u64)>) = (0, Vec::new());
            // Every call that passed and was not taken back, to be replayed.
            let mut stays: Vec<(u64, u64)> = Vec::new();
            let mut at_once = true;
            for (act, gap, cost, which) in steps {
                now += gap;
                if act == 0 && !held.is_empty() {
                    let (taken, cost) = held.remove(which % held.len());
                    at_once &= taken == now;
                    tat = limit.give_back(tat, taken, now, cost);
                    let place = stays.iter().position(|call| *call == (taken, cost)).unwrap();
                    stays.remove(place);
                } else {
                    let decision = limit.decide(tat, now, cost);
                    tat = decision.tat;
                    if decision.allowed {
                        held.push((now, cost));
                        stays.push((now, cost));
                    }
                }
                let model = stays.iter().fold(0, |tat, (at, cost)| tat.max(*at) + limit.interval * cost);
                prop_assert!(tat.max(now) >= model.max(now), "{tat} {model} at {now}");
                if at_once {
                    prop_assert_eq!(tat.max(now), model.max(now));
                }
            }
        }

        /// In any span, never more than burst + span / interval + 1 calls pass, whatever the arrival times.
        #[test]
        fn never_exceeds_rate_and_burst(
            rate in 1u64..1000,
            burst in 1u64..50,
            gaps in prop::collection::vec(0u64..50_000_000, 1..300),
        ) {
            let limit = gcra(rate, burst);
            let start = 5_000_000_000u64;
            let (mut now, mut tat, mut passed) = (start, 0, 0u64);
            for gap in gaps {
                now += gap;
                let decision = limit.decide(tat, now, 1);
                tat = decision.tat;
                passed += u64::from(decision.allowed);
                prop_assert!(passed <= burst + (now - start) / limit.interval + 1);
                if !decision.allowed {
                    let wait = decision.retry_after.as_nanos() as u64;
                    prop_assert!(wait > 0 && limit.decide(tat, now + wait, 1).allowed);
                }
            }
        }
    }
}
