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
//! | `quota` | exact, in windows of the calendar; survives the process | about 30 bytes a key |
//! | `bandwidth` | bytes a second of answers | about 30 bytes a key |
//!
//! What was counted outlives a reload: it lives in [`LimitFacts`], and the filters of two snapshots share it. Counting
//! is local to this process; nothing here waits, and a decision takes no allocation but a concurrency limit's ticket.

mod bandwidth;
mod concurrency;
mod counts;
mod estimator;
mod facts;
mod key;
mod leaky_bucket;
mod limiter;
mod quota;
mod seed;
mod shards;
mod sketch;
mod store;
mod table;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod together;
mod token_bucket;

use std::sync::Arc;

pub use facts::{CarriedTimes, KeptQuotas, KeptTimes, LimitFacts};

use crate::config::{Algorithm, Limit};
use crate::filter::RequestFilter;
use crate::observe::stats::LimitStats;
use bandwidth::Bandwidth;
use concurrency::Concurrency;
use estimator::Estimator;
use leaky_bucket::LeakyBucket;
use limiter::{Limiter, Meter};
use quota::QuotaMeter;
use token_bucket::TokenBucket;

/// The filter of one limit, for routes where a request counts once. It goes on counting where an earlier filter of the same
/// limit is, see [`LimitFacts`].
pub fn build(limit: &Limit, stats: Arc<LimitStats>, facts: &LimitFacts) -> Arc<dyn RequestFilter> {
    charging(limit, 1, stats, facts)
}

/// Like [`build`], for a route where a request counts `cost`.
pub fn charging(
    limit: &Limit,
    cost: u32,
    stats: Arc<LimitStats>,
    facts: &LimitFacts,
) -> Arc<dyn RequestFilter> {
    let built = match limit.algorithm {
        Algorithm::Estimator { .. } => limiter::<Estimator>(limit, cost, stats, facts),
        Algorithm::TokenBucket { .. } => limiter::<TokenBucket>(limit, cost, stats, facts),
        Algorithm::LeakyBucket { .. } => limiter::<LeakyBucket>(limit, cost, stats, facts),
        Algorithm::Concurrency { .. } => limiter::<Concurrency>(limit, cost, stats, facts),
        Algorithm::Quota { .. } => limiter::<QuotaMeter>(limit, cost, stats, facts),
        Algorithm::Bandwidth { .. } => {
            Bandwidth::of(limit, stats, facts).map(|filter| Arc::new(filter) as Arc<_>)
        }
    };
    built.expect("each algorithm is given to its own meter")
}

fn limiter<M: Meter + 'static>(
    limit: &Limit,
    cost: u32,
    stats: Arc<LimitStats>,
    facts: &LimitFacts,
) -> Option<Arc<dyn RequestFilter>> {
    let limiter = Limiter::<M>::of(limit, cost, stats, facts)?;
    Some(Arc::new(limiter))
}
