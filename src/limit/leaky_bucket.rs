//! `leaky_bucket`: evens out. One request starts every `1/rate`; who comes early waits, who would wait too long is
//! refused.
//!
//! Per key one time is kept: when the next turn is free. A turn once given is not given back, also when its caller
//! leaves while it waits: those behind it have been told their times already.

use std::sync::Arc;
use std::time::Duration;

use super::limiter::{Meter, too_many};
use super::store::Store;
use crate::filter::{Exchange, Verdict};
use crate::primitives::units::Rate;

/// A queue per key.
pub(super) struct LeakyBucket {
    interval: u64,
    /// Longest wait: the shorter of `max_delay` and what `burst` waiting requests take.
    patience: u64,
    times: Arc<Store>,
}

/// What one request is told.
enum Turn {
    /// Its turn comes after this many nanoseconds.
    In(u64),
    /// It would wait this many nanoseconds too long.
    TooLate(u64),
}

impl LeakyBucket {
    pub(super) fn new(rate: Rate, burst: u32, max_delay: Duration, times: Arc<Store>) -> Self {
        let interval = nanos(rate.interval()).max(1);
        Self {
            interval,
            patience: interval
                .saturating_mul(u64::from(burst))
                .min(nanos(max_delay)),
            times,
        }
    }

    /// The time to keep, and the turn. A queue longer than it may be dates from before a reload and is cut.
    fn decide(&self, free: u64, now: u64) -> (u64, Turn) {
        let longest = self.patience.saturating_add(self.interval);
        let free = free.clamp(now, now.saturating_add(longest));
        let wait = free - now;
        if wait > self.patience {
            (free, Turn::TooLate(wait - self.patience))
        } else {
            (free.saturating_add(self.interval), Turn::In(wait))
        }
    }
}

impl Meter for LeakyBucket {
    fn admit(&self, key: u64, exchange: &mut Exchange<'_>) -> Verdict {
        let turn = if exchange.dry_run {
            self.times
                .peek(key, exchange.now, |free, now| self.decide(free, now).1)
        } else {
            self.times
                .update(key, exchange.now, |free, now| self.decide(free, now))
        };
        match turn {
            Turn::In(0) => Verdict::Continue,
            Turn::In(wait) => Verdict::Wait(Duration::from_nanos(wait)),
            Turn::TooLate(by) => too_many(Duration::from_nanos(by)),
        }
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
