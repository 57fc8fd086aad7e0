//! What a try beside the first holds while it is under way, and what it leaves behind: a place, permits, and a word to those
//! who judge endpoints.

use std::sync::Arc;
use std::time::Instant;

use super::attempts::{failed, hedge_outcome};
use super::outcome;
use crate::gateway::ctx::{BreakerPermits, Ctx};
use crate::gateway::{affinity, breaking, judged, overload};
use crate::observe::stats::RetryCause;
use crate::observe::{HedgeOutcome, TryEnd};
use crate::upstream::breaker::Ending;
use crate::upstream::{Endpoint, GatePermit, Outcome, Pool};

/// What a try beside the first holds. Dropped it was in vain.
pub(super) struct Holding {
    pub(super) pool: Arc<Pool>,
    pub(super) endpoint: Arc<Endpoint>,
    permits: BreakerPermits,
    place: Option<GatePermit>,
    /// Place of this try in the request's [`Attempts`](super::attempts::Attempts).
    pub(super) index: usize,
    /// When it could be sent.
    pub(super) sent: Instant,
    end: TryEnd,
}

impl Holding {
    /// Begins a try on an endpoint that was not asked yet, if there is one, if the upstream has a place for it, if breakers
    /// let it through and the budget of retries has room.
    pub(super) fn begin(ctx: &mut Ctx) -> Option<Self> {
        let pool = Arc::clone(ctx.forward.pool.as_ref()?);
        let sent = Instant::now();
        let now = ctx.state.clock.at(sent);
        let other = pool.choose(now, &affinity::pick_hints(ctx));
        let other = other.filter(|endpoint| !ctx.forward.tried.contains(&endpoint.address));
        let let_in = other.and_then(|endpoint| {
            let place = overload::free_place(&pool, overload::class(ctx)).ok()?;
            let permits = breaking::enter_beside(&pool, ctx, now).ok()?;
            pool.may_retry(now).then_some((endpoint, place, permits))
        });
        let Some((endpoint, place, permits)) = let_in else {
            pool.stats().hedges.up(HedgeOutcome::Refused);
            return None;
        };
        endpoint.in_flight.up();
        let forward = &mut ctx.forward;
        forward.tried.push(endpoint.address.clone());
        let index = forward.attempts.begin_beside(Arc::clone(&endpoint), sent);
        Some(Self {
            pool,
            endpoint,
            permits,
            place,
            index,
            sent,
            end: TryEnd::Lost,
        })
    }

    /// A connection that was opened for it stands: its time counts from here.
    pub(super) fn connected(&mut self, ctx: &mut Ctx) {
        self.sent = Instant::now();
        ctx.forward.attempts.connected(self.index, self.sent);
    }

    /// Whether an answer of this status is worth less than one that is still awaited.
    pub(super) fn would_rather_wait(&self, status: u16) -> bool {
        self.pool.settings().retry.on_status.contains(&status)
    }

    /// The try failed.
    pub(super) fn failed(mut self, ending: Ending, ctx: &mut Ctx) {
        let end = match ending {
            Ending::Answered(_) => TryEnd::Status,
            Ending::Broken(cause) => failed(Some(cause)),
        };
        if ending == Ending::Broken(RetryCause::Timeout) && judged::in_a_hurry(ctx) {
            return self.in_vain(end, ctx);
        }
        let now = ctx.now();
        self.ended(end, ctx);
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

    /// The try came to nothing, and that tells nothing about the endpoint.
    pub(super) fn in_vain(mut self, end: TryEnd, ctx: &mut Ctx) {
        self.ended(end, ctx);
    }

    fn ended(&mut self, end: TryEnd, ctx: &mut Ctx) {
        self.end = end;
        ctx.forward.attempts.end(self.index, end);
    }

    /// The try answered first and is the request's from now on. `before` says how the one before failed; one that was
    /// still awaited took at least so long.
    pub(super) fn take_over(mut self, before: Option<RetryCause>, ctx: &mut Ctx) {
        self.end = TryEnd::Answered;
        match before {
            Some(RetryCause::Timeout) if judged::in_a_hurry(ctx) => {}
            Some(cause) => {
                if cause == RetryCause::Timeout {
                    overload::gave_up(ctx);
                }
                outcome::report(ctx, Outcome::Bad, ctx.now());
                breaking::on_end(ctx, Ending::Broken(cause));
            }
            None => {
                let took = ctx.forward.attempts.sent().map(|sent| sent.elapsed());
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
        if let Some(cause) = before {
            forward.attempts.end_current(failed(Some(cause)));
        }
        forward.attempts.take_over(self.index);
        forward.current = Some(Arc::clone(&self.endpoint));
        forward.permits = std::mem::take(&mut self.permits);
        forward.reported = false;
        forward.retry = false;
    }
}

impl Drop for Holding {
    fn drop(&mut self) {
        self.endpoint.in_flight.down();
        self.pool.stats().hedges.up(hedge_outcome(self.end));
    }
}
