//! `leaky_bucket`: evens out. One request starts every `1/rate`; who comes early waits, who would wait too long is
//! refused.
//!
//! Per key one time is kept: when the next turn is free. When another limit refuses the request, or its caller leaves while
//! it waits, the turn is given back if nobody stands behind it yet: who does has been told a time already.

use std::sync::Arc;
use std::time::Duration;

use super::LimitFacts;
use super::limiter::{Ask, Meter, Told, too_many};
use super::store::Store;
use crate::config::{Algorithm, Limit};
use crate::filter::Verdict;
use crate::primitives::clock::nanos;

/// A queue per key.
pub(super) struct LeakyBucket {
    interval: u64,
    /// Longest wait: the shorter of `max_delay` and what `burst` waiting requests take.
    patience: u64,
    /// The longest queue there can be, its last request included.
    longest: u64,
    times: Arc<Store>,
}

/// What one request is told.
enum Turn {
    /// The turn comes after this many nanoseconds.
    In(u64),
    /// The request would wait this many nanoseconds too long.
    TooLate(u64),
}

impl LeakyBucket {
    /// The time to keep, and the turn. A queue longer than it may be dates from before a reload and is cut.
    fn decide(&self, free: u64, now: u64, cost: u64) -> (u64, Turn) {
        let free = free.clamp(now, now.saturating_add(self.longest));
        let wait = free - now;
        if wait > self.patience {
            (free, Turn::TooLate(wait - self.patience))
        } else {
            let taken = self.interval.saturating_mul(cost);
            (free.saturating_add(taken), Turn::In(wait))
        }
    }
}

impl Meter for LeakyBucket {
    fn of(algorithm: &Algorithm, limit: &Limit, facts: &LimitFacts) -> Option<Self> {
        let Algorithm::LeakyBucket {
            rate,
            burst,
            max_delay,
            capacity,
        } = *algorithm
        else {
            return None;
        };
        let interval = nanos(rate.interval()).max(1);
        let patience = interval
            .saturating_mul(u64::from(burst))
            .min(nanos(max_delay));
        let last = interval.saturating_mul(u64::from(limit.largest_cost.max(1)));
        Some(Self {
            interval,
            patience,
            longest: patience.saturating_add(last),
            times: facts.times(limit, capacity),
        })
    }

    fn admit(&self, ask: &Ask) -> Told {
        let decide = |free, now| self.decide(free, now, ask.cost);
        let (turn, mark) = if ask.look {
            let look = |free, now| (decide(free, now).1, 0);
            self.times.peek(ask.key, ask.now, look)
        } else {
            self.times.update(ask.key, ask.now, |free, now| {
                let (next, turn) = decide(free, now);
                (next, (turn, next))
            })
        };
        let verdict = match turn {
            Turn::In(0) => Verdict::Continue,
            Turn::In(wait) => Verdict::Wait(Duration::from_nanos(wait)),
            Turn::TooLate(by) => too_many(Duration::from_nanos(by)),
        };
        Told::marked(verdict, mark)
    }

    fn give_back(&self, ask: &Ask, mark: u64) {
        let taken = self.interval.saturating_mul(ask.cost);
        self.times.update(ask.key, ask.now, |free, _| {
            let last = free == mark;
            (free - if last { taken.min(free) } else { 0 }, ())
        });
    }
}
