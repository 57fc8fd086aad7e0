//! What every limit does alike: find the key, ask the meter, keep the figures.

use std::sync::Arc;
use std::time::Duration;

use super::key::{Found, KeyFinder};
use crate::filter::{Exchange, Reason, Refusal, RequestFilter, Verdict};
use crate::observe::stats::LimitStats;

/// One way of counting.
pub(super) trait Meter: Send + Sync {
    /// Decides for one request under `key`. With `exchange.dry_run` it only looks.
    fn admit(&self, key: u64, exchange: &mut Exchange<'_>) -> Verdict;
}

/// The filter of one limit.
pub(super) struct Limiter<M> {
    name: String,
    keys: KeyFinder,
    stats: Arc<LimitStats>,
    meter: M,
}

impl<M: Meter> Limiter<M> {
    pub(super) fn new(name: &str, keys: KeyFinder, stats: Arc<LimitStats>, meter: M) -> Self {
        Self {
            name: format!("limit.{name}"),
            keys,
            stats,
            meter,
        }
    }
}

impl<M: Meter> RequestFilter for Limiter<M> {
    fn name(&self) -> &str {
        &self.name
    }

    fn check(&self, exchange: &mut Exchange<'_>) -> Verdict {
        let (verdict, uncounted) = match self.keys.find(exchange) {
            Found::Key(key) => (self.meter.admit(key, exchange), false),
            Found::Skip => (Verdict::Continue, true),
            Found::Deny => (Verdict::Refuse(missing()), false),
        };
        if !exchange.dry_run {
            match verdict {
                Verdict::Refuse(_) => self.stats.refused.up(),
                Verdict::Wait(_) => self.stats.delayed.up(),
                _ if uncounted => self.stats.skipped.up(),
                _ => self.stats.allowed.up(),
            }
        }
        verdict
    }
}

/// The refusal of a rate: come back after `wait`.
pub(super) fn too_many(wait: Duration) -> Verdict {
    let refusal = Refusal::new(
        Reason::RateLimited,
        "The rate limit is reached; wait before the next request.",
    );
    Verdict::Refuse(refusal.retry_after(wait))
}

/// Waiting does not bring the key, but every 429 says when to come back; a second is the least that can be said.
fn missing() -> Refusal {
    Refusal::new(
        Reason::RateLimited,
        "The request lacks what its limit is counted by.",
    )
    .retry_after(Duration::from_secs(1))
}
