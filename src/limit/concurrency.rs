//! `concurrency`: requests at the same time, exactly.
//!
//! An admitted request carries a ticket; dropping it gives the place back, so it comes back when the client leaves, the
//! upstream breaks off or a filter panics alike. A key with nothing in flight takes no room. When `capacity` keys are
//! in flight a request with yet another is refused: to forget one would let its holder in twice, to admit uncounted
//! would be no limit.

use std::sync::Arc;
use std::time::Duration;

use super::LimitFacts;
use super::counts::Counts;
use super::limiter::{Ask, Meter, Told};
use crate::config::{Algorithm, Limit};
use crate::filter::{Reason, Refusal, Verdict};

/// Nobody knows when a request will end; a second is the least that can be said.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// A bound on what a key has in flight.
pub(super) struct Concurrency {
    max: u64,
    counts: Arc<Counts>,
}

/// One place taken.
struct ConcurrencyPermit {
    counts: Arc<Counts>,
    key: u64,
    cost: u64,
}

impl Meter for Concurrency {
    fn of(algorithm: &Algorithm, limit: &Limit, facts: &LimitFacts) -> Option<Self> {
        match *algorithm {
            Algorithm::Concurrency { max, capacity } => Some(Self {
                max: u64::from(max),
                counts: facts.counts(limit, capacity),
            }),
            _ => None,
        }
    }

    fn admit(&self, ask: &Ask) -> Told {
        let Ask { key, cost, .. } = *ask;
        let admitted = if ask.look {
            self.counts.in_flight(key) + cost <= self.max
        } else {
            self.counts.enter(key, cost, self.max)
        };
        if !admitted {
            let refusal = Refusal::new(
                Reason::ConcurrencyLimited,
                "Too many requests are in flight; wait for one to end.",
            );
            return Told::only(Verdict::Refuse(refusal.retry_after(RETRY_AFTER)));
        }
        let mut told = Told::only(Verdict::Continue);
        if !ask.look {
            let counts = Arc::clone(&self.counts);
            told.ticket = Some(Box::new(ConcurrencyPermit { counts, key, cost }));
        }
        told
    }

    /// The ticket does it.
    fn give_back(&self, _ask: &Ask, _mark: u64) {}
}

impl Drop for ConcurrencyPermit {
    fn drop(&mut self) {
        self.counts.leave(self.key, self.cost);
    }
}
