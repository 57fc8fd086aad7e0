//! `concurrency`: requests at the same time, exactly.
//!
//! An admitted request carries a ticket; dropping it gives the place back, so it comes back when the client leaves, the
//! upstream breaks off or a filter panics alike. A key with nothing in flight takes no room. When `capacity` keys are
//! in flight a request with yet another is refused: to forget one would let its holder in twice, to admit uncounted
//! would be no limit.

use std::sync::Arc;
use std::time::Duration;

use super::LimitFacts;
use super::limiter::{Ask, Meter, Told};
use super::shards::Shards;
use super::table::Table;
use crate::config::{Algorithm, Limit};
use crate::filter::{Reason, Refusal, Verdict};
use crate::primitives::sync::atomic::{AtomicUsize, Ordering};

/// Nobody knows when a request will end; a second is the least that can be said.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// A bound on what a key has in flight.
pub(super) struct Concurrency {
    max: u64,
    counts: Arc<Counts>,
}

/// Requests in flight by key; none is zero.
pub(super) struct Counts {
    shards: Shards<Table>,
    capacity: AtomicUsize,
    len: AtomicUsize,
}

/// One place taken.
struct Place {
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
            told.ticket = Some(Box::new(Place { counts, key, cost }));
        }
        told
    }

    /// The ticket does it.
    fn give_back(&self, _ask: &Ask, _mark: u64) {}
}

impl Counts {
    pub(super) fn new(capacity: u32) -> Self {
        Self {
            shards: Shards::for_capacity(capacity),
            capacity: AtomicUsize::new(capacity as usize),
            len: AtomicUsize::new(0),
        }
    }

    /// What it is, for tests that compare.
    #[cfg(test)]
    pub(super) fn dump(&self) -> String {
        format!("{self:p} {:?} of {:?}", self.len, self.capacity)
    }

    pub(super) fn set_capacity(&self, capacity: u32) {
        self.capacity.store(capacity as usize, Ordering::Relaxed);
    }

    fn in_flight(&self, key: u64) -> u64 {
        self.shards.of(key).get(key).unwrap_or_default()
    }

    fn enter(&self, key: u64, places: u64, max: u64) -> bool {
        let mut table = self.shards.of(key);
        if let Some(count) = table.get_mut(key) {
            let free = *count + places <= max;
            *count += if free { places } else { 0 };
            return free;
        }
        if places > max {
            return false;
        }
        if self.len.fetch_add(1, Ordering::Relaxed) >= self.capacity.load(Ordering::Relaxed) {
            self.len.fetch_sub(1, Ordering::Relaxed);
            return false;
        }
        table.insert(key, places);
        true
    }

    fn leave(&self, key: u64, places: u64) {
        let mut table = self.shards.of(key);
        match table.get_mut(key) {
            Some(count) if *count > places => *count -= places,
            Some(_) => {
                table.remove(key);
                self.len.fetch_sub(1, Ordering::Relaxed);
            }
            None => {}
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.counts.leave(self.key, self.cost);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_with_nothing_in_flight_takes_no_room() {
        let counts = Counts::new(2);
        assert!(counts.enter(1, 1, 5) && counts.enter(1, 3, 5) && counts.enter(2, 1, 5));
        assert!(!counts.enter(1, 2, 5), "two places are not left");
        assert!(!counts.enter(3, 1, 5), "a third key finds no room");
        assert!(counts.enter(2, 1, 5), "a known one does");
        counts.leave(1, 1);
        assert!(!counts.enter(3, 1, 5));
        counts.leave(1, 3);
        assert_eq!(counts.in_flight(1), 0);
        assert!(counts.enter(3, 1, 5));
    }
}
