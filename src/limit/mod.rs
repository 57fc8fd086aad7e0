//! How much: limits that a request meets before an upstream is chosen.
//!
//! A [`Limiter`] finds what a request is counted under (`key`), asks one way of counting, and keeps the figures; the
//! ways differ in what they promise and what they cost:
//!
//! | algorithm | promise | memory |
//! |---|---|---|
//! | `estimator` | never counts less than there was; may count more | 1 MiB, whatever the number of keys |
//! | `token_bucket` | exact, a burst and then a rate | about 30 bytes a key |
//! | `leaky_bucket` | exact, evenly spaced; callers wait their turn | about 30 bytes a key |
//! | `concurrency` | exact, requests at the same time | about 30 bytes a key in flight |
//!
//! What was counted outlives a reload: it lives in [`LimitFacts`], and the filters of two snapshots share it. Counting
//! is local to this process; nothing here waits, and a decision takes no allocation but a concurrency limit's ticket.

mod concurrency;
mod estimator;
mod facts;
mod key;
mod leaky_bucket;
mod limiter;
mod seed;
mod shards;
mod sketch;
mod store;
mod table;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod token_bucket;

use std::sync::Arc;

pub use facts::{KeptTimes, LimitFacts};

use crate::config::{Algorithm, Limit};
use crate::filter::RequestFilter;
use crate::observe::stats::LimitStats;
use concurrency::Concurrency;
use estimator::Estimator;
use key::KeyFinder;
use leaky_bucket::LeakyBucket;
use limiter::{Limiter, Meter};
use token_bucket::TokenBucket;

/// The filter of one limit. It goes on counting where an earlier filter of the same limit is, see [`LimitFacts`].
pub fn build(limit: &Limit, stats: Arc<LimitStats>, facts: &LimitFacts) -> Arc<dyn RequestFilter> {
    let keys = KeyFinder::new(limit, facts.seed());
    let name = limit.name.as_str();
    match limit.algorithm {
        Algorithm::Estimator { rate } => {
            let meter = Estimator::new(rate, facts.sketch(limit, rate.per));
            filter(name, keys, stats, meter)
        }
        Algorithm::TokenBucket {
            rate,
            burst,
            capacity,
        } => {
            let meter = TokenBucket::new(rate, burst, facts.times(limit, capacity));
            filter(name, keys, stats, meter)
        }
        Algorithm::LeakyBucket {
            rate,
            burst,
            max_delay,
            capacity,
        } => {
            let times = facts.times(limit, capacity);
            let meter = LeakyBucket::new(rate, burst, max_delay, times);
            filter(name, keys, stats, meter)
        }
        Algorithm::Concurrency { max, capacity } => {
            let meter = Concurrency::new(max, facts.counts(limit, capacity));
            filter(name, keys, stats, meter)
        }
    }
}

fn filter<M: Meter + 'static>(
    name: &str,
    keys: KeyFinder,
    stats: Arc<LimitStats>,
    meter: M,
) -> Arc<dyn RequestFilter> {
    Arc::new(Limiter::new(name, keys, stats, meter))
}
