//! The upstream side of a request: which endpoint, what head, and whether to try again.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::HeaderName;
use pingora::http::RequestHeader;
use pingora::upstreams::peer::{HttpPeer, HttpUpstreamRequestPolicy};
use pingora::{Error, ErrorSource, ErrorType};

use super::ctx::Ctx;
use super::session::read_error;
use super::timers::Fault;
use super::{affinity, breaking, failure, fallback, judged, overload};
use crate::config::HeadLimits;
use crate::filter::{Reason, Refusal};
use crate::observe::rollouts::FallbackCalled;
use crate::observe::stats::RetryCause;
use crate::upstream::breaker::Ending;
use crate::upstream::{Endpoint, Outcome, Pool, backoff};

/// Chooses an endpoint for the next try. Called once per try.
pub(super) async fn choose(ctx: &mut Ctx) -> pingora::Result<Arc<Endpoint>> {
    loop {
        let Some(pool) = ctx.forward.pool.take() else {
            return Err(refused(ctx, super::reply::internal()));
        };
        let chosen = match overload::take_place(ctx, &pool).await {
            Ok(()) => choose_from(&pool, ctx).await,
            Err(error) => Err(error),
        };
        ctx.forward.pool = Some(pool);
        if chosen.is_ok() {
            return chosen;
        }
        let way = way(ctx);
        let turned = fallback::turn_refused(ctx);
        if !turned || way != self::way(ctx) {
            return chosen;
        }
    }
}

/// How a request gets to its upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// Straight, see [`relay`](super::relay).
    Relay,
    /// In streams, see [`streams`](super::streams).
    Streams,
}

/// How this request gets to its upstream.
pub(super) fn way(ctx: &Ctx) -> Way {
    match &ctx.forward.pool {
        Some(pool) if pool.is_streamed() => Way::Streams,
        _ => Way::Relay,
    }
}

/// Whether a request that went one way goes on another: another upstream took it over, to which that way does not lead.
pub(super) fn goes_on(ctx: &Ctx, way: Way) -> bool {
    ctx.policy.fell.is_some()
        && !fallback::is_pending(ctx)
        && ctx.refusal.is_none()
        && ctx.forward.attempts == 0
        && self::way(ctx) != way
}

async fn choose_from(pool: &Pool, ctx: &mut Ctx) -> pingora::Result<Arc<Endpoint>> {
    let mut now = Instant::now();
    if ctx.forward.attempts > 0 {
        let attempts = ctx.forward.attempts;
        let random = ctx.span.wrapping_add(attempts.into());
        let wait = backoff(&pool.settings().retry, attempts, random).min(left(ctx, now));
        if !wait.is_zero() && !ctx.forward.at_once {
            let waiting = tokio::time::sleep(wait);
            if let Some(start) = &ctx.start {
                let waited = start.client.unless_gone(waiting).await;
                waited.map_err(|gone| read_error(&gone))?;
            } else {
                waiting.await;
            }
            now = Instant::now();
        }
    }
    let clock = ctx.state.clock.at(now);
    if ctx.forward.attempts == 0 {
        pool.request(clock);
    }
    if left(ctx, now).is_zero() {
        return Err(refused(ctx, failure::deadline()));
    }
    if let Err(refusal) = breaking::enter(pool, ctx, clock) {
        return Err(refused(ctx, refusal));
    }
    ctx.leave_endpoint();
    let Some(endpoint) = pool.choose(clock, &affinity::wish(ctx)) else {
        let refusal = Refusal::new(Reason::NoEndpoint, "no endpoint is usable now")
            .retry_after(Duration::from_secs(1));
        return Err(refused(ctx, refusal));
    };
    endpoint.in_flight.up();
    if let Some(start) = &ctx.start {
        start
            .client
            .bound_silence(pool.settings().timeout.read, now);
    }
    let forward = &mut ctx.forward;
    forward.tried.push(endpoint.address.clone());
    forward.current = Some(Arc::clone(&endpoint));
    forward.attempts += 1;
    forward.sent = Some(now);
    forward.took = None;
    forward.reported = false;
    forward.retry = false;
    forward.at_once = false;
    Ok(endpoint)
}

/// How the framework reaches the endpoint of this try.
pub(super) fn peer(endpoint: &Endpoint, ctx: &Ctx) -> Option<Box<HttpPeer>> {
    let pool = ctx.forward.pool.as_ref()?;
    let mut peer = pool.peer(endpoint)?;
    let left = left(ctx, Instant::now());
    for limit in [
        &mut peer.options.connection_timeout,
        &mut peer.options.total_connection_timeout,
        &mut peer.options.write_timeout,
    ] {
        *limit = limit.map(|limit| limit.min(left));
    }
    if ctx
        .start
        .as_ref()
        .is_some_and(|start| start.head.end_to_end)
    {
        // Nothing is left to strip: looking for it would cost every request.
        peer.options.http_upstream_request_policy = HttpUpstreamRequestPolicy::preserve();
    }
    Some(peer)
}

/// How long a connection to an endpoint may take to open.
pub(super) fn connect_within(ctx: &Ctx, pool: &Pool) -> Duration {
    pool.settings()
        .timeout
        .connect
        .min(left(ctx, Instant::now()))
}

/// Time that is left of the exchange.
fn left(ctx: &Ctx, now: Instant) -> Duration {
    ctx.forward
        .deadline
        .map_or(Duration::MAX, |at| at.saturating_duration_since(now))
}

/// A connection stands. A new one took its time, which is not the endpoint's to answer.
pub(super) fn connected(ctx: &mut Ctx, reused: bool) {
    if reused {
        return;
    }
    let now = Instant::now();
    ctx.forward.sent = Some(now);
    if let (Some(start), Some(pool)) = (&ctx.start, &ctx.forward.pool) {
        start
            .client
            .bound_silence(pool.settings().timeout.read, now);
    }
}

/// A piece of the answer's body came.
pub(super) fn heard(ctx: &Ctx) {
    if let Some(start) = &ctx.start {
        start.client.heard(Instant::now());
    }
}

/// Ends the request with `refusal`.
pub(super) fn refused(ctx: &mut Ctx, refusal: Refusal) -> Box<Error> {
    let status = refusal.reason.status();
    ctx.refusal = Some(refusal);
    Error::create(
        ErrorType::HTTPStatus(status),
        ErrorSource::Internal,
        None,
        None,
    )
}

/// The try could not be sent: no connection. Nothing reached the endpoint, so any method may be tried again; says whether
/// it is.
pub(super) fn connect_failed(ctx: &mut Ctx, cause: RetryCause) -> bool {
    // A client that gives a connection no time to open says nothing about the endpoint.
    if cause != RetryCause::Timeout || !judged::in_a_hurry(ctx) {
        report(ctx, Outcome::Bad, ctx.now());
        if cause == RetryCause::Timeout {
            overload::gave_up(ctx);
        }
        breaking::told(ctx, Ending::Broken(cause));
    }
    let reason = failure::reason(Some(cause));
    may_retry(ctx, |retry| retry.on_connect, cause)
        || fallback::turn(ctx, FallbackCalled::Refused(reason))
}

/// A try that was sent and failed.
pub(super) struct Broken {
    /// What kind of failure it is; `None` for an answer that makes no sense.
    pub(super) cause: Option<RetryCause>,
    /// It failed on the client's side.
    pub(super) downstream: bool,
    /// The client has no answer, and what was read of its body can be sent again.
    pub(super) replayable: bool,
    /// The endpoint said that it did nothing of it: whatever the method, it may be sent again.
    pub(super) refused: bool,
    /// The connection had been kept open and was found closed.
    pub(super) stale: bool,
}

/// The try was sent and failed. Says whether it is sent again.
pub(super) fn try_failed(ctx: &mut Ctx, broken: &Broken) -> bool {
    if ctx.forward.retry {
        return true;
    }
    if fallback::is_pending(ctx) {
        return false;
    }
    let fault = ctx.start.as_ref().and_then(|start| start.client.fault());
    // Noticed on the client's side, where the one timer is; the endpoint is to blame.
    let silence = fault == Some(Fault::Silence);
    let hurried = broken.cause == Some(RetryCause::Timeout) && judged::in_a_hurry(ctx);
    let clients_fault =
        ctx.refusal.is_some() || (!silence && (broken.downstream || fault.is_some() || hurried));
    if clients_fault || ctx.forward.reported {
        breaking::left(ctx, fault);
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
        ctx.forward.attempts -= 1;
        return true;
    }
    let cause = if silence {
        Some(RetryCause::Timeout)
    } else {
        broken.cause
    };
    if cause == Some(RetryCause::Timeout) {
        overload::gave_up(ctx);
    }
    if !broken.stale {
        report(ctx, Outcome::Bad, ctx.now());
        breaking::told(ctx, Ending::Broken(cause.unwrap_or(RetryCause::Reset)));
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
            || fallback::turn(ctx, FallbackCalled::Refused(reason)))
}

/// How large the head of an answer may be.
pub(super) fn head_limits(ctx: &Ctx) -> HeadLimits {
    let pool = ctx.forward.pool.as_ref();
    pool.map_or(NO_HEAD, |pool| pool.settings().answer_head)
}

/// How long both sides of a tunnel may be silent.
pub(super) fn tunnel_silence(ctx: &Ctx) -> Duration {
    let pool = ctx.forward.pool.as_ref();
    pool.map_or(Duration::ZERO, |pool| pool.settings().timeout.tunnel)
}

/// Where there is no upstream, there is no head.
const NO_HEAD: HeadLimits = HeadLimits {
    bytes: 0,
    fields: 0,
};
/// An informational answer came: a sign of life, and often sent as such (RFC 2518 §10.1).
pub(super) fn informed(ctx: &mut Ctx) -> pingora::Result<()> {
    heard(ctx);
    ctx.forward.informational += 1;
    if ctx.forward.informational > MOST_INFORMATIONAL {
        return Err(invalid("too many informational answers"));
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
) -> pingora::Result<()> {
    let now = Instant::now();
    if let Some(start) = &ctx.start {
        start.client.heard(now);
    }
    let took = ctx.forward.sent.map(|sent| now.duration_since(sent));
    let took = took.unwrap_or_default();
    ctx.forward.took = Some(took);
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
    breaking::told_at(ctx, Ending::Answered(status), took, clock);
    if again
        && replayable
        && resendable(ctx)
        && has_other(ctx)
        && may_retry(ctx, |_| true, RetryCause::Status)
    {
        return Err(tried_again(ctx, status));
    }
    let elsewhere = || FallbackCalled::Status(status);
    if status >= 500 && replayable && resendable(ctx) && fallback::turn(ctx, elsewhere()) {
        return Err(tried_again(ctx, status));
    }
    if fallback::covers_status(request, ctx, status) {
        return Err(Error::new_up(ErrorType::HTTPStatus(status)));
    }
    Ok(())
}

/// This answer is dropped, and another try made.
fn tried_again(ctx: &mut Ctx, status: u16) -> Box<Error> {
    ctx.forward.retry = true;
    let mut error = Error::new_up(ErrorType::HTTPStatus(status));
    error.set_retry(true);
    error
}

/// The header in which the endpoint may report its load, where somebody reads it.
pub(super) fn load_header(ctx: &Ctx) -> Option<&HeaderName> {
    let (pool, _) = ctx.forward.trying()?;
    pool.load_header()
}

/// The endpoint reported its load.
pub(super) fn loaded(ctx: &Ctx, text: &[u8]) {
    if let Some((pool, endpoint)) = ctx.forward.trying() {
        pool.report_load(endpoint, text, ctx.now());
    }
}

/// A request that has no form in the endpoint's protocol.
pub(super) fn unsendable() -> Box<Error> {
    Error::explain(ErrorType::InternalError, "the request cannot be sent so")
}

/// An answer that cannot be passed on.
pub(super) fn invalid(why: &'static str) -> Box<Error> {
    Error::explain(ErrorType::InvalidHTTPHeader, why).into_up()
}

/// Informational answers before the final one; more are a flood (attacks.md §2.1).
const MOST_INFORMATIONAL: u32 = 100;

/// Tells the pool how the current try ended, once.
pub(super) fn report(ctx: &mut Ctx, outcome: Outcome, now: u64) {
    if std::mem::replace(&mut ctx.forward.reported, true) {
        return;
    }
    if let Some((pool, endpoint)) = ctx.forward.trying() {
        pool.report(endpoint, outcome, now);
        if ctx.forward.took.is_none() {
            endpoint.counts.stats.errors.up();
            let waited = ctx.forward.sent.map(|sent| sent.elapsed());
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
    let took = ctx.forward.sent.map(|sent| sent.elapsed());
    ctx.forward.took = took;
    overload::answered(ctx, status, took.unwrap_or_default(), Instant::now());
    if let Some((pool, endpoint)) = ctx.forward.trying() {
        let took = took.unwrap_or_default();
        pool.stats().latency.observe(took);
        endpoint.counts.stats.statuses.up(status);
        pool.observe(endpoint, took, true, ctx.now());
    }
    report(ctx, Outcome::Bad, ctx.now());
    breaking::told(ctx, Ending::Answered(status));
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
        && ctx.forward.attempts <= retry.attempts
        && !late
        && pool.may_retry(ctx.now())
        && breaking::enter(&pool, ctx, ctx.state.clock.now()).is_ok();
    if again {
        pool.stats().retried(cause);
    }
    again
}
