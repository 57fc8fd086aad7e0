//! What became of a try, and what follows: told to those who judge endpoints, and decided whether it is made again.
//!
//! Every decision about a further try is made here, whatever carried the one that failed.

use std::time::{Duration, Instant};

use http::HeaderName;
use pingora::http::RequestHeader;
use pingora::{Error, ErrorType};

use super::attempts;
use super::transport::Head;
use crate::gateway::ctx::Ctx;
use crate::gateway::timers::AbortReason;
use crate::gateway::{breaking, failure, fallback, judged, overload};
use crate::observe::TryEnd;
use crate::observe::rollouts::FallbackCalled;
use crate::observe::stats::RetryCause;
use crate::upstream::Outcome;
use crate::upstream::breaker::Ending;

/// Time that is left of the exchange.
pub(super) fn remaining(ctx: &Ctx, now: Instant) -> Duration {
    ctx.forward
        .deadline
        .map_or(Duration::MAX, |at| at.saturating_duration_since(now))
}

/// A connection that was opened for the current try stands. It took its time, which is not the endpoint's to answer.
pub(super) fn connected(ctx: &mut Ctx) {
    let now = Instant::now();
    ctx.forward.attempts.current_connected(now);
    if let (Some(start), Some(pool)) = (&ctx.start, &ctx.forward.pool) {
        start
            .client
            .bound_silence(pool.settings().timeout.read, now);
    }
}

/// The try could not be sent: no connection. Nothing reached the endpoint, so any method may be tried again; says whether
/// it is.
pub(super) fn connect_failed(ctx: &mut Ctx, cause: RetryCause) -> bool {
    ctx.forward
        .attempts
        .end_current(attempts::failed(Some(cause)));
    // A client that gives a connection no time to open says nothing about the endpoint.
    if cause != RetryCause::Timeout || !judged::in_a_hurry(ctx) {
        report(ctx, Outcome::Bad, ctx.now());
        if cause == RetryCause::Timeout {
            overload::gave_up(ctx);
        }
        breaking::on_end(ctx, Ending::Broken(cause));
    }
    let reason = failure::reason(Some(cause));
    may_retry(ctx, |retry| retry.on_connect, cause)
        || fallback::fail_over(ctx, FallbackCalled::Refused(reason))
}

/// A try that was sent and failed.
pub(super) struct AttemptError {
    /// What kind of failure it is; `None` for an answer that makes no sense.
    pub(super) cause: Option<RetryCause>,
    /// The try failed on the client's side.
    pub(super) downstream: bool,
    /// The client has no answer, and what was read of its body can be sent again.
    pub(super) replayable: bool,
    /// The endpoint said that it did nothing of it: whatever the method, it may be sent again.
    pub(super) refused: bool,
    /// The connection had been kept open and was found closed.
    pub(super) stale: bool,
}

/// The try was sent and failed. Says whether it is sent again.
pub(super) fn try_failed(ctx: &mut Ctx, broken: &AttemptError) -> bool {
    if ctx.forward.retry {
        return true;
    }
    if fallback::is_pending(ctx) {
        return false;
    }
    let fault = ctx.start.as_ref().and_then(|start| start.client.fault());
    // Noticed on the client's side, where the one timer is; the endpoint is to blame.
    let silence = fault == Some(AbortReason::Silence);
    let hurried = broken.cause == Some(RetryCause::Timeout) && judged::in_a_hurry(ctx);
    let clients_fault =
        ctx.refusal.is_some() || (!silence && (broken.downstream || fault.is_some() || hurried));
    if clients_fault || ctx.forward.reported {
        let end = match clients_fault {
            true => TryEnd::GivenUp,
            false => attempts::failed(broken.cause),
        };
        ctx.forward.attempts.end_current(end);
        breaking::on_client_gone(ctx, fault);
        // The client left, or the head was answered and its outcome told: neither may count against the endpoint.
        if ctx.forward.reported && !clients_fault {
            count_error(ctx);
        }
        return false;
    }
    let replayable = broken.replayable && (broken.refused || resendable(ctx));
    // A connection that was kept open and is found closed says nothing about the endpoint.
    if broken.stale && replayable && !ctx.forward.stale {
        ctx.forward.stale = true;
        ctx.forward.at_once = true;
        ctx.forward.tried.pop();
        ctx.forward.attempts.forget_current();
        return true;
    }
    let cause = match silence {
        true => Some(RetryCause::Timeout),
        false => broken.cause,
    };
    ctx.forward.attempts.end_current(attempts::failed(cause));
    if cause == Some(RetryCause::Timeout) {
        overload::gave_up(ctx);
    }
    if !broken.stale {
        report(ctx, Outcome::Bad, ctx.now());
        breaking::on_end(ctx, Ending::Broken(cause.unwrap_or(RetryCause::Reset)));
    }
    let wanted = |retry: &crate::config::Retry| match cause {
        Some(RetryCause::Connect) => retry.on_connect,
        Some(RetryCause::Reset) => retry.on_reset,
        Some(RetryCause::Timeout) => retry.on_timeout,
        Some(RetryCause::Status) | None => false,
    };
    let reason = failure::reason(cause);
    replayable
        && (may_retry(ctx, wanted, cause.unwrap_or(RetryCause::Reset))
            || fallback::fail_over(ctx, FallbackCalled::Refused(reason)))
}

/// How long both sides of a tunnel may be silent.
pub(super) fn tunnel_silence(ctx: &Ctx) -> Duration {
    let pool = ctx.forward.pool.as_ref();
    pool.map_or(Duration::ZERO, |pool| pool.settings().timeout.tunnel)
}

/// An informational answer came: a sign of life, and often sent as such (RFC 2518 §10.1).
pub(super) fn informed(ctx: &mut Ctx) -> Result<(), Box<Error>> {
    if let Some(start) = &ctx.start {
        start.client.heard(Instant::now());
    }
    ctx.forward.informational += 1;
    if ctx.forward.informational > MOST_INFORMATIONAL {
        return Err(failure::invalid("too many informational answers"));
    }
    Ok(())
}

/// The head of the final answer came. An error means: drop this answer and try again, which is possible when the try is
/// `replayable`.
pub(super) fn answered(
    request: &RequestHeader,
    ctx: &mut Ctx,
    status: u16,
    replayable: bool,
) -> Result<(), Box<Error>> {
    let now = Instant::now();
    if let Some(start) = &ctx.start {
        start.client.heard(now);
    }
    let took = ctx.forward.attempts.head_came(now);
    overload::answered(ctx, status, took, now);
    let Some((pool, endpoint)) = ctx.forward.trying() else {
        return Ok(());
    };
    pool.stats().latency.observe(took);
    if let Some(pace) = pool.pace() {
        pace.observe(took);
    }
    endpoint.counts.stats.statuses.up(status);
    let again = pool.settings().retry.on_status.contains(&status);
    let outcome = if again { Outcome::Bad } else { Outcome::Good };
    let clock = ctx.state.clock.at(now);
    pool.observe(endpoint, took, status >= 500, clock);
    report(ctx, outcome, clock);
    breaking::on_end_at(ctx, Ending::Answered(status), took, clock);
    if again
        && replayable
        && resendable(ctx)
        && has_other(ctx)
        && may_retry(ctx, |_| true, RetryCause::Status)
    {
        return Err(tried_again(ctx, status));
    }
    let elsewhere = || FallbackCalled::Status(status);
    if status >= 500 && replayable && resendable(ctx) && fallback::fail_over(ctx, elsewhere()) {
        return Err(tried_again(ctx, status));
    }
    if fallback::covers_status(request, ctx, status) {
        ctx.forward.attempts.end_current(TryEnd::Status);
        return Err(Error::new_up(ErrorType::HTTPStatus(status)));
    }
    Ok(())
}

/// Drops an answer with this status, since another try is made.
fn tried_again(ctx: &mut Ctx, status: u16) -> Box<Error> {
    ctx.forward.retry = true;
    ctx.forward.attempts.end_current(TryEnd::Status);
    Error::new_up(ErrorType::HTTPStatus(status))
}

/// The endpoint may report its load in the head of its answer, where somebody reads it.
pub(super) fn loaded(ctx: &Ctx, head: &Head<'_, '_>) {
    let Some((pool, endpoint)) = ctx.forward.trying() else {
        return;
    };
    if let Some(text) = pool
        .load_header()
        .and_then(|name: &HeaderName| head.value(name.as_str()))
    {
        pool.report_load(endpoint, text, ctx.now());
    }
}

/// Informational answers before the final one; more are a flood.
const MOST_INFORMATIONAL: u32 = 100;

/// Tells the pool how the current try ended, once.
pub(super) fn report(ctx: &mut Ctx, outcome: Outcome, now: u64) {
    if std::mem::replace(&mut ctx.forward.reported, true) {
        return;
    }
    if let Some((pool, endpoint)) = ctx.forward.trying() {
        pool.report(endpoint, outcome, now);
        if ctx.forward.attempts.took().is_none() {
            endpoint.counts.stats.errors.up();
            let waited = ctx.forward.attempts.sent().map(|sent| sent.elapsed());
            pool.observe(endpoint, waited.unwrap_or_default(), true, now);
        }
    }
}

/// A try whose head was answered broke off later.
fn count_error(ctx: &Ctx) {
    if let Some(endpoint) = &ctx.forward.current {
        endpoint.counts.stats.errors.up();
    }
}

/// Whether the method may be sent twice.
pub(super) fn resendable(ctx: &Ctx) -> bool {
    ctx.forward
        .pool
        .as_ref()
        .is_some_and(|pool| pool.settings().retry.methods.contains(&ctx.method))
}

/// The head of an answer came that is worth less than one that is still awaited.
pub(super) fn passed_over(ctx: &mut Ctx, status: u16) -> Box<Error> {
    let now = Instant::now();
    let took = ctx.forward.attempts.head_came(now);
    ctx.forward.attempts.end_current(TryEnd::Status);
    overload::answered(ctx, status, took, now);
    if let Some((pool, endpoint)) = ctx.forward.trying() {
        pool.stats().latency.observe(took);
        endpoint.counts.stats.statuses.up(status);
        pool.observe(endpoint, took, true, ctx.now());
    }
    report(ctx, Outcome::Bad, ctx.now());
    breaking::on_end(ctx, Ending::Answered(status));
    Error::new_up(ErrorType::HTTPStatus(status))
}

/// Whether an answer of this status is tried elsewhere.
pub(super) fn is_tried_again(ctx: &Ctx, status: u16) -> bool {
    let pool = ctx.forward.pool.as_ref();
    pool.is_some_and(|pool| pool.settings().retry.on_status.contains(&status))
}

/// Whether another endpoint may be asked beside the first.
pub(super) fn hedged(ctx: &Ctx) -> bool {
    let Some(pace) = ctx.forward.pool.as_ref().and_then(|pool| pool.pace()) else {
        return false;
    };
    let route = ctx.route.as_ref().and_then(|route| route.hedge);
    route.unwrap_or_else(|| pace.rule().methods.contains(&ctx.method))
}

/// Whether the body may have to be sent again: in another try, beside the first, or since an endpoint that speaks HTTP/2 may
/// say that it did nothing of it.
pub(super) fn may_repeat(ctx: &Ctx) -> bool {
    let pool = ctx.forward.pool.as_ref();
    pool.is_some_and(|pool| pool.settings().http2) || resendable(ctx) || hedged(ctx)
}

/// A status is tried again only where another endpoint may know better.
fn has_other(ctx: &Ctx) -> bool {
    let Some(pool) = &ctx.forward.pool else {
        return false;
    };
    let now = ctx.now();
    pool.endpoints().iter().any(|(endpoint, ..)| {
        endpoint.usable(now) && !ctx.forward.tried.contains(&endpoint.address)
    })
}

fn may_retry(
    ctx: &mut Ctx,
    wanted: impl Fn(&crate::config::Retry) -> bool,
    cause: RetryCause,
) -> bool {
    let Some(pool) = ctx.forward.pool.clone() else {
        return false;
    };
    let retry = &pool.settings().retry;
    let late = ctx
        .forward
        .deadline
        .is_some_and(|deadline| Instant::now() >= deadline);
    let again = !ctx.lean()
        && wanted(retry)
        && ctx.forward.attempts.count() <= retry.attempts
        && !late
        && pool.may_retry(ctx.now())
        && breaking::enter(&pool, ctx, ctx.state.clock.now()).is_ok();
    if again {
        ctx.forward.attempts.again(pool, cause);
    }
    again
}
