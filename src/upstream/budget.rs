//! The retry budget: retries may be a share of live requests, so that a dead upstream meets no storm.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::primitives::units::Percent;

/// Seconds over which requests and retries are compared.
const WINDOW: usize = 10;
/// Retries a second that are always allowed: a quiet upstream must be able to retry at all.
const FLOOR: u64 = 10;
const SECOND: u64 = 1_000_000_000;

/// Counts per second in a ring; a slot is taken over by the second that needs it.
#[derive(Debug, Default)]
struct Ring {
    slots: [Slot; WINDOW],
}

#[derive(Debug, Default)]
struct Slot {
    second: AtomicU64,
    count: AtomicU64,
}

impl Ring {
    fn up(&self, second: u64) {
        let slot = &self.slots[(second % WINDOW as u64) as usize];
        if slot.second.load(Ordering::Relaxed) != second
            && slot.second.swap(second, Ordering::Relaxed) != second
        {
            slot.count.store(0, Ordering::Relaxed);
        }
        slot.count.fetch_add(1, Ordering::Relaxed);
    }

    fn sum(&self, second: u64) -> u64 {
        let live = |slot: &&Slot| slot.second.load(Ordering::Relaxed) + WINDOW as u64 > second;
        self.slots
            .iter()
            .filter(live)
            .map(|slot| slot.count.load(Ordering::Relaxed))
            .sum()
    }

    fn at(&self, second: u64) -> u64 {
        let slot = &self.slots[(second % WINDOW as u64) as usize];
        if slot.second.load(Ordering::Relaxed) == second {
            slot.count.load(Ordering::Relaxed)
        } else {
            0
        }
    }
}

/// The budget of one upstream. Times are nanoseconds of the process clock.
#[derive(Debug, Default)]
pub(super) struct RetryBudget {
    requests: Ring,
    retries: Ring,
}

impl RetryBudget {
    /// Counts a request.
    pub(super) fn request(&self, now: u64) {
        self.requests.up(now / SECOND);
    }

    /// Takes room for one retry, if there is any.
    pub(super) fn take(&self, share: Percent, now: u64) -> bool {
        let second = now / SECOND;
        let floor = self.retries.at(second) < FLOOR;
        let within = || {
            (self.retries.sum(second) as f64) < share.fraction() * self.requests.sum(second) as f64
        };
        let allowed = floor || within();
        if allowed {
            self.retries.up(second);
        }
        allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leaves_the_floor_and_then_a_share() {
        let budget = RetryBudget::default();
        let now = 100 * SECOND;
        (0..200).for_each(|_| budget.request(now));
        let granted = (0..200)
            .filter(|_| budget.take(Percent::whole(20), now))
            .count();
        assert_eq!(granted, 40);
        let granted = (0..200)
            .filter(|_| budget.take(Percent::whole(20), now + 20 * SECOND))
            .count();
        assert_eq!(granted, FLOOR as usize);
    }
}
