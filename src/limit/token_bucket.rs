//! `token_bucket`: a burst at once, then a rate, exactly.

use std::sync::Arc;

use super::limiter::{Meter, too_many};
use super::store::Store;
use crate::filter::{Exchange, Quota, Verdict};
use crate::primitives::gcra::{Decision, Gcra};
use crate::primitives::units::Rate;

/// A bucket of tokens per key.
pub(super) struct TokenBucket {
    gcra: Gcra,
    times: Arc<Store>,
}

impl TokenBucket {
    pub(super) fn new(rate: Rate, burst: u32, times: Arc<Store>) -> Self {
        Self {
            gcra: Gcra::new(rate, u64::from(burst)),
            times,
        }
    }

    /// A time further off than an empty bucket needs to fill was kept under a slower rate or a larger burst, before a
    /// reload. Such a bucket is empty, no worse: whoever waits out a day must not go on doing so when the limit is
    /// raised.
    fn decide(&self, tat: u64, now: u64) -> Decision {
        let fill = self.gcra.interval().saturating_mul(self.gcra.burst());
        self.gcra.decide(tat.min(now.saturating_add(fill)), now)
    }
}

impl Meter for TokenBucket {
    fn admit(&self, key: u64, exchange: &mut Exchange<'_>) -> Verdict {
        let decision = if exchange.dry_run {
            self.times
                .peek(key, exchange.now, |tat, now| self.decide(tat, now))
        } else {
            self.times.update(key, exchange.now, |tat, now| {
                let decision = self.decide(tat, now);
                (decision.tat, decision)
            })
        };
        exchange.meet(Quota {
            limit: self.gcra.burst(),
            remaining: decision.remaining,
            reset: decision.reset_after,
        });
        if decision.allowed {
            Verdict::Continue
        } else {
            too_many(decision.retry_after)
        }
    }
}
