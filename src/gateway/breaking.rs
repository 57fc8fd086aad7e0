//! Circuit breakers on the way of a request: asked before each try, told how it ended.
//!
//! Two may stand in a try's way, the route's own and the upstream's. A permit of each is held while the try is under way;
//! one that nobody told anything (the client left, no endpoint was there) gives its place back when it is dropped.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::ctx::Ctx;
use super::snapshot::Target;
use super::timers::Fault;
use crate::filter::{Reason, Refusal};
use crate::observe::stats::RetryCause;
use crate::upstream::Pool;
use crate::upstream::breaker::{Breaker, Ending, Permit};

/// What a try was let through with.
#[derive(Default)]
pub(super) struct Permits {
    route: Option<Permit>,
    upstream: Option<Permit>,
}

impl Permits {
    /// Tells how the try ended.
    pub(super) fn tell(self, ending: Ending, took: Duration, now: u64) {
        for permit in [self.route, self.upstream].into_iter().flatten() {
            permit.tell(ending, took, now);
        }
    }
}

/// Asks the breakers for a try beside the current one.
pub(super) fn besides(pool: &Pool, ctx: &Ctx, now: u64) -> Result<Permits, Refusal> {
    let route = ctx.route.as_ref().filter(|_| ctx.policy.fell.is_none());
    let route = route.and_then(|route| route.breaker.as_ref());
    Ok(Permits {
        route: permit(None, route, now)?,
        upstream: permit(None, pool.breaker(), now)?,
    })
}

/// Asks the breakers of the route and of the upstream, unless they let the next try through already.
pub(super) fn enter(pool: &Pool, ctx: &mut Ctx, now: u64) -> Result<(), Refusal> {
    // The route's own is about its upstream, not about the one that takes over.
    let route = ctx.route.as_ref().filter(|_| ctx.policy.fell.is_none());
    let route = route.and_then(|route| route.breaker.as_ref());
    if route.is_none() && pool.breaker().is_none() {
        return Ok(());
    }
    let held = std::mem::take(&mut ctx.forward.permits);
    let permits = Permits {
        route: permit(held.route, route, now)?,
        upstream: permit(held.upstream, pool.breaker(), now)?,
    };
    ctx.forward.permits = permits;
    Ok(())
}

fn permit(
    held: Option<Permit>,
    breaker: Option<&Arc<Breaker>>,
    now: u64,
) -> Result<Option<Permit>, Refusal> {
    let Some(breaker) = breaker else {
        return Ok(None);
    };
    if let Some(held) = held.filter(|held| held.holds(breaker)) {
        return Ok(Some(held));
    }
    breaker.enter(now).map(Some).map_err(refusal)
}

/// The refusal of a breaker that lets nothing through for so long.
pub(super) fn refusal(left: Duration) -> Refusal {
    Refusal::new(Reason::BreakerOpen, "the upstream is given a rest").retry_after(left)
}

/// The current try ended so.
pub(super) fn told(ctx: &mut Ctx, ending: Ending) {
    let permits = &mut ctx.forward.permits;
    if permits.route.is_none() && permits.upstream.is_none() {
        return;
    }
    let now = Instant::now();
    let sent = ctx.forward.sent.unwrap_or(now);
    let took = now.duration_since(sent);
    told_at(ctx, ending, took, ctx.state.clock.at(now));
}

/// The current try ended so at `now`, after so long.
pub(super) fn told_at(ctx: &mut Ctx, ending: Ending, took: Duration, now: u64) {
    let permits = &mut ctx.forward.permits;
    if permits.route.is_some() || permits.upstream.is_some() {
        std::mem::take(permits).tell(ending, took, now);
    }
}

/// A breaker for people: its state, the calls that decide about the next one, and for how long it refuses.
pub fn describe(breaker: &Breaker, now: u64) -> Value {
    let standing = breaker.standing(now);
    let figures = standing.figures;
    json!({
        "state": standing.state.as_str(),
        "calls": figures.calls,
        "failed": figures.failed,
        "slow": figures.slow,
        "open_for_ms": u64::try_from(standing.left.as_millis()).unwrap_or(u64::MAX),
    })
}

/// The client's side ended the exchange. That is the upstream's fault only when it had the whole request and all the time
/// that is configured; a client that wants its answer sooner than that must not be able to open a breaker.
pub(super) fn left(ctx: &mut Ctx, fault: Option<Fault>) {
    let configured = match ctx.route.as_deref().map(|route| &route.target) {
        Some(Target::Forward { deadline, .. }) => ctx.began.checked_add(*deadline),
        _ => None,
    };
    let read = |ctx: &Ctx| {
        ctx.start
            .as_ref()
            .is_some_and(|start| start.client.body_done())
    };
    if fault == Some(Fault::Deadline) && ctx.forward.deadline >= configured && read(ctx) {
        told(ctx, Ending::Broken(RetryCause::Timeout));
    }
}
