//! What circuit breakers let a try through with.

use std::sync::Arc;
use std::time::Duration;

use crate::upstream::breaker::{Breaker, BreakerPermit, Ending};

/// What a try was let through with.
#[derive(Default)]
pub(in crate::gateway) struct BreakerPermits {
    route: Option<BreakerPermit>,
    upstream: Option<BreakerPermit>,
}

impl BreakerPermits {
    /// Tells how the try ended.
    pub(in crate::gateway) fn tell(self, ending: Ending, took: Duration, now: u64) {
        for permit in [self.route, self.upstream].into_iter().flatten() {
            permit.tell(ending, took, now);
        }
    }

    /// Whether no breaker stands in the way, or all were told.
    pub(in crate::gateway) fn is_empty(&self) -> bool {
        self.route.is_none() && self.upstream.is_none()
    }

    /// Asks the breakers of the route and of the upstream, but for those that gave a permit already. An error is the time
    /// for which one of them lets nothing through.
    pub(in crate::gateway) fn enter(
        self,
        route: Option<&Arc<Breaker>>,
        upstream: Option<&Arc<Breaker>>,
        now: u64,
    ) -> Result<Self, Duration> {
        Ok(Self {
            route: permit(self.route, route, now)?,
            upstream: permit(self.upstream, upstream, now)?,
        })
    }
}

fn permit(
    held: Option<BreakerPermit>,
    breaker: Option<&Arc<Breaker>>,
    now: u64,
) -> Result<Option<BreakerPermit>, Duration> {
    let Some(breaker) = breaker else {
        return Ok(None);
    };
    if let Some(held) = held.filter(|held| held.holds(breaker)) {
        return Ok(Some(held));
    }
    breaker.enter(now).map(Some)
}
