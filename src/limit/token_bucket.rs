//! `token_bucket`: a burst at once, then a rate, exactly.

use std::sync::Arc;

use super::LimitFacts;
use super::limiter::{Ask, Meter, Told, too_many};
use super::store::Store;
use crate::config::{Algorithm, Limit};
use crate::filter::Verdict;
use crate::primitives::gcra::{Decision, Gcra};

/// A bucket of tokens per key.
pub(super) struct TokenBucket {
    gcra: Gcra,
    times: Arc<Store>,
}

impl TokenBucket {
    /// A time further off than an empty bucket needs to fill was kept under a slower rate or a larger burst, before a
    /// reload. Such a bucket is empty, no worse: whoever waits out a day must not go on doing so when the limit is
    /// raised.
    fn decide(&self, tat: u64, now: u64, cost: u64) -> Decision {
        let tat = tat.min(now.saturating_add(self.gcra.tolerance()));
        self.gcra.decide(tat, now, cost)
    }
}

impl Meter for TokenBucket {
    fn of(algorithm: &Algorithm, limit: &Limit, facts: &LimitFacts) -> Option<Self> {
        let Algorithm::TokenBucket {
            rate,
            burst,
            capacity,
        } = *algorithm
        else {
            return None;
        };
        Some(Self {
            gcra: Gcra::new(rate, u64::from(burst)),
            times: facts.times(limit, capacity),
        })
    }

    fn admit(&self, ask: &Ask) -> Told {
        let decide = |tat, now| self.decide(tat, now, ask.cost);
        let (decision, at) = if ask.look {
            self.times
                .peek(ask.key, ask.now, |tat, now| (decide(tat, now), now))
        } else {
            self.times.update(ask.key, ask.now, |tat, now| {
                let decision = decide(tat, now);
                (decision.tat, (decision, now))
            })
        };
        let verdict = if decision.allowed {
            Verdict::Continue
        } else {
            too_many(decision.retry_after)
        };
        Told {
            left: Some((self.gcra.burst(), decision.remaining, decision.reset_after)),
            ..Told::marked(verdict, at)
        }
    }

    fn give_back(&self, ask: &Ask, mark: u64) {
        self.times.update(ask.key, ask.now, |tat, now| {
            (self.gcra.give_back(tat, mark, now, ask.cost), ())
        });
    }

    fn promise(&self) -> Option<(u64, u64)> {
        let fill = self.gcra.tolerance().div_ceil(1_000_000_000);
        Some((self.gcra.burst(), fill.max(1)))
    }
}
