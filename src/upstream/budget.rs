//! The retry budget: retries may be a share of live requests, so that a dead upstream meets no storm.

use super::ring::Ring;
use crate::primitives::units::Percent;

/// Seconds over which requests and retries are compared.
const WINDOW: usize = 10;
/// Retries a second that are always allowed: a quiet upstream must be able to retry at all.
const FLOOR: u64 = 10;
const SECOND: u64 = 1_000_000_000;

/// The budget of one upstream. Times are nanoseconds of the process clock.
#[derive(Debug)]
pub(super) struct RetryBudget {
    requests: Ring,
    retries: Ring,
}

impl Default for RetryBudget {
    fn default() -> Self {
        Self {
            requests: Ring::new(WINDOW),
            retries: Ring::new(WINDOW),
        }
    }
}

impl RetryBudget {
    /// Counts a request.
    pub(super) fn request(&self, now: u64) {
        self.requests.up(now / SECOND);
    }

    /// Takes room for one retry, if there is any. However many take at once, no more is given than there is.
    pub(super) fn take(&self, share: Percent, now: u64) -> bool {
        let second = now / SECOND;
        self.retries.up_if(second, |of_this_second, before| {
            let within = || {
                let retries = (of_this_second + before) as f64;
                retries < share.fraction() * self.requests.sum(second) as f64
            };
            of_this_second < FLOOR || within()
        })
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

    #[test]
    fn is_exact_over_threads() {
        let budget = RetryBudget::default();
        let now = 100 * SECOND;
        (0..1000).for_each(|_| budget.request(now));
        let granted: usize = std::thread::scope(|scope| {
            let take = || {
                let takes = (0..200).filter(|_| budget.take(Percent::whole(20), now));
                takes.count()
            };
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(take)).collect();
            let granted = threads.into_iter().map(|thread| thread.join());
            granted.map(|granted| granted.expect("thread")).sum()
        });
        assert_eq!(granted, 200);
    }
}
