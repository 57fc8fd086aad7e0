//! The retry budget: retries may be a share of live requests, so that a dead upstream meets no storm.

use std::cmp::Ordering::{Equal, Greater, Less};

use crate::primitives::sync::atomic::{AtomicU64, Ordering};
use crate::primitives::units::Percent;

/// Seconds over which requests and retries are compared.
const WINDOW: usize = 10;
/// Retries a second that are always allowed: a quiet upstream must be able to retry at all.
const FLOOR: u64 = 10;
const SECOND: u64 = 1_000_000_000;

/// Counts per second in a ring; a slot is taken over by the second that needs it. Second and count are one number, so that
/// of several who find a slot of the past none starts it again when another has counted.
#[derive(Debug, Default)]
struct Ring {
    slots: [AtomicU64; WINDOW],
}

/// The upper half of a slot is its second, the lower its count.
const COUNT_BITS: u32 = 32;

impl Ring {
    fn up(&self, second: u64) {
        let slot = self.slot(second);
        if split(slot.load(Ordering::Relaxed)).0 == second {
            slot.fetch_add(1, Ordering::Relaxed);
            return;
        }
        // Whoever comes so late that the slot has gone on to another second is not counted.
        let _ = slot.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |value| {
            match split(value).0.cmp(&second) {
                Less => Some(second << COUNT_BITS | 1),
                Equal => Some(value + 1),
                Greater => None,
            }
        });
    }

    fn sum(&self, second: u64) -> u64 {
        let values = self.slots.iter().map(|slot| slot.load(Ordering::Relaxed));
        let live = values
            .map(split)
            .filter(|(of, _)| of + WINDOW as u64 > second);
        live.map(|(_, count)| count).sum()
    }

    fn at(&self, second: u64) -> u64 {
        let (of, count) = split(self.slot(second).load(Ordering::Relaxed));
        if of == second { count } else { 0 }
    }

    fn slot(&self, second: u64) -> &AtomicU64 {
        &self.slots[(second % WINDOW as u64) as usize]
    }
}

/// Second and count of a slot.
fn split(value: u64) -> (u64, u64) {
    (value >> COUNT_BITS, value & ((1 << COUNT_BITS) - 1))
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
