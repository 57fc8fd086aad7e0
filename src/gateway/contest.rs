//! A further try beside the first, before that failed: who may begin one, and what it leaves behind.

use std::sync::Arc;
use std::time::Instant;

use super::affinity;
use super::breaking::{self, Permits};
use super::ctx::Ctx;
use super::{forward, judged, overload};
use crate::observe::HedgeOutcome;
use crate::observe::stats::RetryCause;
use crate::upstream::breaker::Ending;
use crate::upstream::{Endpoint, Outcome, Place, Pool};

/// A further try under way. Dropped it was in vain.
pub(super) struct Contender {
    pool: Arc<Pool>,
    endpoint: Arc<Endpoint>,
    permits: Permits,
    place: Option<Place>,
    pub(super) sent: Instant,
    outcome: HedgeOutcome,
}

impl Contender {
    /// Begins one on an endpoint that was not asked yet, if there is one, if the upstream has a place for it, if breakers
    /// let it through and the budget of retries has room.
    pub(super) fn begin(ctx: &mut Ctx) -> Option<Self> {
        let pool = Arc::clone(ctx.forward.pool.as_ref()?);
        let sent = Instant::now();
        let now = ctx.state.clock.at(sent);
        let other = pool.choose(now, &affinity::wish(ctx));
        let other = other.filter(|endpoint| !ctx.forward.tried.contains(&endpoint.address));
        let let_in = other.and_then(|endpoint| {
            let place = overload::free_place(&pool, overload::class(ctx)).ok()?;
            let permits = breaking::besides(&pool, ctx, now).ok()?;
            pool.may_retry(now).then_some((endpoint, place, permits))
        });
        let Some((endpoint, place, permits)) = let_in else {
            pool.stats().hedges.up(HedgeOutcome::Refused);
            return None;
        };
        endpoint.in_flight.up();
        ctx.forward.tried.push(endpoint.address.clone());
        ctx.forward.attempts += 1;
        Some(Self {
            pool,
            endpoint,
            permits,
            place,
            sent,
            outcome: HedgeOutcome::Lost,
        })
    }

    /// Its endpoint.
    pub(super) fn endpoint(&self) -> &Arc<Endpoint> {
        &self.endpoint
    }

    /// Whether an answer of this status is worth less than one that is still awaited.
    pub(super) fn would_rather_wait(&self, status: u16) -> bool {
        self.pool.settings().retry.on_status.contains(&status)
    }

    /// It failed.
    pub(super) fn failed(mut self, ending: Ending, ctx: &Ctx) {
        if ending == Ending::Broken(RetryCause::Timeout) && judged::in_a_hurry(ctx) {
            return self.in_vain();
        }
        let now = ctx.now();
        self.outcome = HedgeOutcome::Failed;
        let stats = &self.endpoint.counts.stats;
        match ending {
            Ending::Answered(status) => stats.statuses.up(status),
            Ending::Broken(_) => stats.errors.up(),
        }
        self.pool.report(&self.endpoint, Outcome::Bad, now);
        let ended = Instant::now();
        let took = ended.duration_since(self.sent);
        match (&self.place, ending) {
            (Some(place), Ending::Answered(status)) => place.answered(status, took, ended),
            (Some(place), Ending::Broken(RetryCause::Timeout)) => place.gave_up(took, ended),
            _ => {}
        }
        self.pool.observe(&self.endpoint, took, true, now);
        let permits = std::mem::take(&mut self.permits);
        permits.tell(ending, took, now);
    }

    /// It came to nothing, and that tells nothing about the endpoint.
    pub(super) fn in_vain(mut self) {
        self.outcome = HedgeOutcome::Failed;
    }

    /// It answered first and is the request's try from now on. `failed` says how the one before failed; one that was
    /// still awaited took at least so long.
    pub(super) fn take_over(mut self, failed: Option<RetryCause>, ctx: &mut Ctx) {
        self.outcome = HedgeOutcome::Won;
        match failed {
            Some(RetryCause::Timeout) if judged::in_a_hurry(ctx) => {}
            Some(cause) => {
                if cause == RetryCause::Timeout {
                    overload::gave_up(ctx);
                }
                forward::report(ctx, Outcome::Bad, ctx.now());
                breaking::told(ctx, Ending::Broken(cause));
            }
            None => {
                let took = ctx.forward.sent.map(|sent| sent.elapsed());
                let took = took.unwrap_or_default();
                if let Some(pace) = self.pool.pace() {
                    pace.observe(took);
                }
                if let Some(endpoint) = &ctx.forward.current {
                    self.pool.observe(endpoint, took, false, ctx.now());
                }
            }
        }
        ctx.leave_endpoint();
        overload::take_over(ctx, self.place.take());
        self.endpoint.in_flight.up();
        let forward = &mut ctx.forward;
        forward.current = Some(Arc::clone(&self.endpoint));
        forward.permits = std::mem::take(&mut self.permits);
        forward.sent = Some(self.sent);
        forward.took = None;
        forward.reported = false;
        forward.retry = false;
    }
}

impl Drop for Contender {
    fn drop(&mut self) {
        self.endpoint.in_flight.down();
        self.pool.stats().hedges.up(self.outcome);
    }
}
