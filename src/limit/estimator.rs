//! `estimator`: a rate over a sliding window, in constant memory for any number of keys.
//!
//! The window is the period the rate is written with: `100/s` looks at one second, `6000/m` at a minute, in which all
//! 6000 may come at once. What came within the last period is taken as this window's count and the part of the former
//! window's that still lies within the period, as if it had come evenly: exact for steady traffic. N requests pass in a
//! fresh window and no window ever passes more; a burst at the end of one and another at the end of the next can put
//! up to 2N into one period. How far the counts themselves can be off, only ever upwards, is said in `sketch`.
//!
//! Only admitted requests are counted. A caller that keeps hammering does not prolong its own refusal, and a flood
//! from one key cannot fill the counters of others. What another limit refused is taken back while the window lasts that it
//! was counted in.

use std::sync::Arc;
use std::time::Duration;

use super::LimitFacts;
use super::limiter::{Ask, Meter, Told, too_many};
use super::sketch::{Reading, Sketch};
use crate::config::{Algorithm, Limit};
use crate::filter::Verdict;
use crate::primitives::units::Rate;

/// A sliding count per key.
pub(super) struct Estimator {
    most: u64,
    sketch: Arc<Sketch>,
}

impl Estimator {
    fn new(rate: Rate, sketch: Arc<Sketch>) -> Self {
        Self {
            most: rate.count,
            sketch,
        }
    }

    /// Whether what was read and `more` requests stay within the rate. In whole numbers: what the former window still
    /// weighs is its count times the share of it that lies within the period.
    fn fits(&self, reading: &Reading, more: u64) -> bool {
        let period = u128::from(self.sketch.period());
        let left = period - u128::from(reading.elapsed);
        let held = u128::from(reading.previous) * left
            + u128::from(reading.current.saturating_add(more)) * period;
        held <= u128::from(self.most) * period
    }

    /// How long until a request that counts `cost` fits, if no other comes.
    fn wait(&self, reading: &Reading, cost: u64) -> Duration {
        let period = self.sketch.period();
        let most = self.most.saturating_sub(cost);
        let free = most.checked_sub(reading.current);
        let wait = match free {
            Some(free) => faded(period, reading.previous, free).saturating_sub(reading.elapsed),
            None => period - reading.elapsed + faded(period, reading.current, most),
        };
        Duration::from_nanos(wait.max(1))
    }
}

/// More than there can be workers (`server.threads`), each of which asks for one request at a time.
const AT_ONCE: u64 = 2048;

impl Meter for Estimator {
    fn of(algorithm: &Algorithm, limit: &Limit, facts: &LimitFacts) -> Option<Self> {
        match *algorithm {
            Algorithm::Estimator { rate } => Some(Self::new(rate, facts.sketch(limit, rate.per))),
            _ => None,
        }
    }

    fn admit(&self, ask: &Ask) -> Told {
        let Ask { key, cost, now, .. } = *ask;
        let before = self.sketch.read(key, now);
        if !self.fits(&before, cost) {
            return Told::only(too_many(self.wait(&before, cost)));
        }
        if ask.look {
            return Told::only(Verdict::Continue);
        }
        let window = self.sketch.count(key, cost, now);
        // Whatever all workers count at this moment still fits beside it.
        let all = self.sketch.largest().saturating_mul(AT_ONCE);
        if self.fits(&before, all) {
            return Told::marked(Verdict::Continue, window);
        }
        // Several may have read the same last free place. Each has counted itself and looks again, so that at most one of
        // them finds itself within the rate; the others take themselves back.
        let after = self.sketch.read(key, now);
        if self.fits(&after, 0) {
            Told::marked(Verdict::Continue, window)
        } else {
            self.sketch.uncount(key, cost, window);
            Told::only(too_many(self.wait(&after, cost)))
        }
    }

    fn give_back(&self, ask: &Ask, mark: u64) {
        self.sketch.uncount(ask.key, ask.cost, mark);
    }
}

/// How far into a window `held` requests of the one before weigh no more than `free`, rounded up.
fn faded(period: u64, held: u64, free: u64) -> u64 {
    if free >= held {
        return 0;
    }
    let share = u128::from(period) * u128::from(free) / u128::from(held);
    period - share as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_beyond_all_bounds_is_refused() {
        let rate = Rate {
            count: 5,
            per: Duration::from_secs(1),
        };
        let estimator = Estimator::new(rate, Arc::new(Sketch::new(rate.per)));
        let reading = Reading {
            previous: u64::MAX,
            current: u64::MAX,
            elapsed: 0,
        };
        assert!(!estimator.fits(&reading, 1));
        assert!(estimator.wait(&reading, 1) <= 2 * rate.per);
    }
}
