//! Circuit breakers on the way of a request: asked before each try, told how it ended.
//!
//! Two may stand in a try's way, the route's own and the upstream's. A permit of each is held while the try is under way;
//! one that nobody told anything (the client left, no endpoint was there) gives its place back when it is dropped.

use std::time::{Duration, Instant};

use super::ctx::{BreakerPermits, Ctx};
use super::route_runtime::Target;
use super::timers::AbortReason;
use crate::api::BreakerStatus;
use crate::filter::{Reason, Refusal};
use crate::observe::stats::RetryCause;
use crate::upstream::Pool;
use crate::upstream::breaker::{Breaker, Ending};

/// Asks the breakers for a try beside the current one.
pub(super) fn enter_beside(pool: &Pool, ctx: &Ctx, now: u64) -> Result<BreakerPermits, Refusal> {
    let route = ctx.route.as_ref().filter(|_| ctx.policy.failover.is_none());
    let route = route.and_then(|route| route.breaker.as_ref());
    let permits = BreakerPermits::default().enter(route, pool.breaker(), now);
    permits.map_err(refusal)
}

/// Asks the breakers of the route and of the upstream, unless they let the next try through already.
pub(super) fn enter(pool: &Pool, ctx: &mut Ctx, now: u64) -> Result<(), Refusal> {
    // The route's own is about its upstream, not about the one that takes over.
    let route = ctx.route.as_ref().filter(|_| ctx.policy.failover.is_none());
    let route = route.and_then(|route| route.breaker.as_ref());
    if route.is_none() && pool.breaker().is_none() {
        return Ok(());
    }
    let held = std::mem::take(&mut ctx.forward.permits);
    ctx.forward.permits = held.enter(route, pool.breaker(), now).map_err(refusal)?;
    Ok(())
}

/// The refusal of a breaker that lets nothing through for so long.
pub(super) fn refusal(left: Duration) -> Refusal {
    Refusal::new(Reason::BreakerOpen, "the upstream is given a rest").retry_after(left)
}

/// The current try ended so.
pub(super) fn on_end(ctx: &mut Ctx, ending: Ending) {
    if ctx.forward.permits.is_empty() {
        return;
    }
    let now = Instant::now();
    let sent = ctx.forward.attempts.sent().unwrap_or(now);
    let took = now.duration_since(sent);
    on_end_at(ctx, ending, took, ctx.state.clock.at(now));
}

/// The current try ended so at `now`, after so long.
pub(super) fn on_end_at(ctx: &mut Ctx, ending: Ending, took: Duration, now: u64) {
    let permits = &mut ctx.forward.permits;
    if !permits.is_empty() {
        std::mem::take(permits).tell(ending, took, now);
    }
}

/// A breaker for people: its state, the calls that decide about the next one, and for how long it refuses.
pub fn describe(breaker: &Breaker, now: u64) -> BreakerStatus {
    let standing = breaker.standing(now);
    let figures = standing.figures;
    BreakerStatus {
        state: standing.state.as_str().into(),
        calls: figures.calls,
        failed: figures.failed,
        slow: figures.slow,
        open_for_ms: u64::try_from(standing.left.as_millis()).unwrap_or(u64::MAX),
    }
}

/// The client's side ended the exchange. That is the upstream's fault only when it had the whole request and all the time
/// that is configured; a client that wants its answer sooner than that must not be able to open a breaker.
pub(super) fn on_client_gone(ctx: &mut Ctx, fault: Option<AbortReason>) {
    let configured = match ctx.route.as_deref().map(|route| &route.target) {
        Some(Target::Forward { deadline, .. }) => ctx.began.checked_add(*deadline),
        _ => None,
    };
    let read = |ctx: &Ctx| {
        ctx.start
            .as_ref()
            .is_some_and(|start| start.client.body_done())
    };
    if fault == Some(AbortReason::Deadline) && ctx.forward.deadline >= configured && read(ctx) {
        on_end(ctx, Ending::Broken(RetryCause::Timeout));
    }
}
