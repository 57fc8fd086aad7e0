//! The upstream side of a request: which endpoint, what head, and whether to try again.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{HeaderName, HeaderValue, StatusCode, header};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::proxy::Session;
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorSource, ErrorType};

use super::client::Fault;
use super::ctx::{Ctx, Start};
use super::failure;
use super::snapshot::Target;
use crate::filter::{Reason, Refusal};
use crate::observe::stats::RetryCause;
use crate::upstream::{Outcome, Pool};

/// Chooses an endpoint for the next try. Called once per try.
pub(super) async fn choose(ctx: &mut Ctx) -> pingora::Result<Box<HttpPeer>> {
    let Some(Target::Forward { pool, .. }) = ctx.route.as_deref().map(|route| &route.target) else {
        return Err(refused(ctx, super::reply::internal()));
    };
    let pool = Arc::clone(pool);
    let left = |ctx: &Ctx| {
        ctx.forward.deadline.map_or(Duration::MAX, |at| {
            at.saturating_duration_since(Instant::now())
        })
    };
    if ctx.forward.attempts > 0 {
        let factor = 1 << (ctx.forward.attempts - 1).min(10);
        let wait = pool
            .settings()
            .retry
            .backoff
            .saturating_mul(factor)
            .min(left(ctx));
        if !wait.is_zero() && !ctx.forward.stale {
            tokio::time::sleep(wait).await;
        }
    } else {
        pool.request(ctx.now());
    }
    let left = left(ctx);
    if left.is_zero() {
        return Err(refused(ctx, failure::deadline()));
    }
    ctx.leave_endpoint();
    let Some(pick) = pool.pick(ctx.now(), &ctx.forward.tried) else {
        let refusal = Refusal::new(Reason::NoEndpoint, "no endpoint is usable now")
            .retry_after(Duration::from_secs(1));
        return Err(refused(ctx, refusal));
    };
    let mut peer = pick.peer;
    for limit in [
        &mut peer.options.connection_timeout,
        &mut peer.options.total_connection_timeout,
        &mut peer.options.read_timeout,
        &mut peer.options.write_timeout,
    ] {
        *limit = limit.map(|limit| limit.min(left));
    }
    pick.endpoint.counts.stats.in_flight.up();
    if let Some(start) = ctx.start.as_ref().filter(|start| !start.client.body_read()) {
        start
            .client
            .bound_silence(pool.settings().timeout.read.min(left));
        peer.options.read_timeout = Some(left);
        ctx.forward.sending = true;
    }
    let forward = &mut ctx.forward;
    forward.tried.push(pick.endpoint.address);
    forward.current = Some((pool, pick.endpoint));
    forward.attempts += 1;
    forward.sent = Some(Instant::now());
    forward.took = None;
    forward.reported = false;
    forward.retry = false;
    ctx.body_in = 0;
    Ok(peer)
}

/// A piece of the answer came.
pub(super) fn heard(ctx: &Ctx) {
    if let Some(start) = ctx.start.as_ref().filter(|_| ctx.forward.sending) {
        start.client.heard();
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

/// Writes the head that goes out: what the client may not say is removed, what we know is set.
pub(super) fn prepare(head: &mut RequestHeader, ctx: &Ctx) -> pingora::Result<()> {
    let (Some(start), Some(route)) = (&ctx.start, &ctx.route) else {
        return Ok(());
    };
    if let Some(target) = &ctx.outgoing {
        head.set_raw_path(target.as_bytes())?;
    }
    strip_identity(head, start);
    for filter in &route.upstream_filters {
        filter.apply(head);
    }
    set_forwarded(head, start, ctx)?;
    set_host(head, ctx)?;
    if ctx.buffered {
        head.remove_header(&header::EXPECT);
    }
    if let Ok(id) = HeaderValue::from_str(ctx.trace.as_str()) {
        head.insert_header("X-Trace-ID", id)?;
    }
    if let Some(parent) = &ctx.parent
        && let Ok(value) = HeaderValue::from_bytes(&parent.child())
    {
        head.insert_header("traceparent", value)?;
    }
    let Some(principal) = &ctx.principal else {
        return Ok(());
    };
    if !principal.consumer.is_empty()
        && let Some(value) = crate::auth::header_text(&principal.consumer)
    {
        head.insert_header("X-Consumer", value)?;
    }
    for (name, value) in &principal.forward {
        head.insert_header(name.clone(), value.clone())?;
    }
    Ok(())
}

/// Removes headers that only we may set, and their twins with `_` for `-`, which some origins read alike.
fn strip_identity(head: &mut RequestHeader, start: &Start) {
    for name in &start.snapshot.identity_headers {
        head.remove_header(name);
    }
    if !start.head.underscores {
        return;
    }
    let protected = |name: &HeaderName| {
        let text = name.as_str();
        text.contains('_') && {
            let twin = text.replace('_', "-");
            let forwarding = matches!(
                twin.as_str(),
                "x-forwarded-for" | "x-forwarded-proto" | "x-forwarded-host"
            );
            forwarding
                || start
                    .snapshot
                    .identity_headers
                    .iter()
                    .any(|known| known.as_str() == twin)
        }
    };
    let twins: Vec<HeaderName> = head
        .headers
        .keys()
        .filter(|name| protected(name))
        .cloned()
        .collect();
    for twin in twins {
        head.remove_header(&twin);
    }
}

/// `X-Forwarded-*` (contract §6): behind a trusted proxy its values are kept and the address is added.
fn set_forwarded(head: &mut RequestHeader, start: &Start, ctx: &Ctx) -> pingora::Result<()> {
    let trusted = &start.snapshot.config.server.trusted_proxies;
    let believed = !trusted.is_empty() && trusted.contains(start.peer.address);
    if believed {
        let mut chain = String::new();
        for field in head.headers.get_all("x-forwarded-for") {
            if let Ok(text) = field.to_str() {
                chain.push_str(text);
                chain.push_str(", ");
            }
        }
        chain.push_str(start.peer.text.to_str().unwrap_or_default());
        head.insert_header("X-Forwarded-For", chain)?;
    } else {
        head.insert_header("X-Forwarded-For", start.peer.text.clone())?;
        head.remove_header("forwarded");
        head.remove_header("x-real-ip");
    }
    if !believed || !head.headers.contains_key("x-forwarded-proto") {
        head.insert_header("X-Forwarded-Proto", start.peer.scheme.as_str())?;
    }
    if !believed || !head.headers.contains_key("x-forwarded-host") {
        let authority = ctx
            .uri
            .authority()
            .map(|a| HeaderValue::from_str(a.as_str()));
        let host = head.headers.get(header::HOST).cloned();
        match host.or_else(|| authority.and_then(Result::ok)) {
            Some(host) => head.insert_header("X-Forwarded-Host", host)?,
            None => {
                head.remove_header("x-forwarded-host");
            }
        }
    }
    Ok(())
}

/// `Host`: the upstream's when configured, else the client's; the endpoint's for a client that named none.
fn set_host(head: &mut RequestHeader, ctx: &Ctx) -> pingora::Result<()> {
    let Some((pool, endpoint)) = &ctx.forward.current else {
        return Ok(());
    };
    if let Some(host) = &pool.settings().host {
        head.insert_header(header::HOST, host.as_str())?;
    } else if !head.headers.contains_key(header::HOST) {
        head.insert_header(header::HOST, &*endpoint.label)?;
    }
    Ok(())
}

/// The try could not be sent: no connection. Nothing reached the endpoint, so any method may be tried again.
pub(super) fn connect_failed(ctx: &mut Ctx, error: &mut Error) {
    report(ctx, Outcome::Bad);
    let cause = failure::cause(error).unwrap_or(RetryCause::Connect);
    let again = may_retry(ctx, |retry| retry.on_connect, cause);
    error.set_retry(again);
}

/// The try was sent and failed. Decides whether it is sent again.
pub(super) fn try_failed(session: &Session, ctx: &mut Ctx, error: &mut Error, reused: bool) {
    if ctx.forward.retry {
        error.set_retry(true);
        return;
    }
    let fault = ctx.start.as_ref().and_then(|start| start.client.fault());
    if fault == Some(Fault::Silence) {
        report(ctx, Outcome::Bad);
        error.set_retry(false);
        return;
    }
    let clients_fault =
        ctx.refusal.is_some() || *error.esource() == ErrorSource::Downstream || fault.is_some();
    if clients_fault || ctx.forward.reported {
        // The client left, or the head was answered and its outcome told: neither may count against the endpoint.
        if ctx.forward.reported && !clients_fault {
            count_error(ctx);
        }
        error.set_retry(false);
        return;
    }
    let nothing_answered = session.response_written().is_none();
    let replayable = nothing_answered && !session.retry_buffer_truncated() && resendable(ctx);
    // A connection that was kept open and is found closed says nothing about the endpoint.
    let was_stale = reused && error.retry_if_reused();
    if was_stale && replayable && !ctx.forward.stale {
        ctx.forward.stale = true;
        ctx.forward.tried.pop();
        ctx.forward.attempts -= 1;
        error.set_retry(true);
        return;
    }
    if !was_stale {
        report(ctx, Outcome::Bad);
    }
    let cause = failure::cause(error);
    let wanted = |retry: &crate::config::Retry| match cause {
        Some(RetryCause::Connect) => retry.on_connect,
        Some(RetryCause::Reset) => retry.on_reset,
        Some(RetryCause::Timeout) => retry.on_timeout,
        Some(RetryCause::Status) | None => false,
    };
    let again = replayable && may_retry(ctx, wanted, cause.unwrap_or(RetryCause::Reset));
    error.set_retry(again);
}

/// An answer's head came. An error means: drop this answer and try again.
pub(super) fn answered(
    session: &Session,
    head: &mut ResponseHeader,
    ctx: &mut Ctx,
) -> pingora::Result<()> {
    if head.status.is_informational() && head.status != StatusCode::SWITCHING_PROTOCOLS {
        ctx.forward.informational += 1;
        if ctx.forward.informational > MOST_INFORMATIONAL {
            return Err(invalid("too many informational answers"));
        }
        return Ok(());
    }
    if head.status == StatusCode::SWITCHING_PROTOCOLS && !asked_for_websocket(session) {
        return Err(invalid("an upgrade that nobody asked for"));
    }
    check_framing(head)?;
    let status = head.status.as_u16();
    let took = ctx
        .forward
        .sent
        .map(|sent| sent.elapsed())
        .unwrap_or_default();
    ctx.forward.took = Some(took);
    let Some((pool, endpoint)) = ctx.forward.current.clone() else {
        return Ok(());
    };
    pool.stats().latency.observe(took);
    endpoint.counts.stats.statuses.up(status);
    let again = pool.settings().retry.on_status.contains(&status);
    report(ctx, if again { Outcome::Bad } else { Outcome::Good });
    let replayable = session.response_written().is_none()
        && !session.retry_buffer_truncated()
        && resendable(ctx);
    if again && replayable && has_other(&pool, ctx) && may_retry(ctx, |_| true, RetryCause::Status)
    {
        ctx.forward.retry = true;
        let mut error = Error::new_up(ErrorType::HTTPStatus(status));
        error.set_retry(true);
        return Err(error);
    }
    strip_hop_by_hop(head);
    Ok(())
}

/// An answer that cannot be passed on.
fn invalid(why: &'static str) -> Box<Error> {
    Error::explain(ErrorType::InvalidHTTPHeader, why).into_up()
}

fn asked_for_websocket(session: &Session) -> bool {
    let upgrade = session.req_header().headers.get(header::UPGRADE);
    session.is_upgrade_req()
        && upgrade.is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"websocket"))
}

/// Informational answers before the final one; more are a flood (attacks.md §2.1).
const MOST_INFORMATIONAL: u32 = 100;

/// An answer whose length two parsers could read differently is no answer (RFC 9112 §6.3).
fn check_framing(head: &ResponseHeader) -> pingora::Result<()> {
    let lengths = head.headers.get_all(header::CONTENT_LENGTH).iter().count();
    let codings = head
        .headers
        .get_all(header::TRANSFER_ENCODING)
        .iter()
        .count();
    let plain = lengths <= 1 && codings <= 1 && !(lengths == 1 && codings == 1);
    let digits =
        |value: &HeaderValue| !value.is_empty() && value.as_bytes().iter().all(u8::is_ascii_digit);
    if plain && head.headers.get(header::CONTENT_LENGTH).is_none_or(digits) {
        return Ok(());
    }
    Err(invalid("the answer's length is ambiguous"))
}

/// Fields between us and the endpoint that do not concern the client (RFC 9110 §7.6.1).
fn strip_hop_by_hop(head: &mut ResponseHeader) {
    let upgraded = head.status == StatusCode::SWITCHING_PROTOCOLS;
    let nominated: Vec<String> = head
        .headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| {
            value
                .split(',')
                .map(|token| token.trim().to_ascii_lowercase())
        })
        .filter(|name| {
            !matches!(
                name.as_str(),
                "" | "close" | "keep-alive" | "upgrade" | "transfer-encoding" | "content-length"
            )
        })
        .collect();
    for name in &nominated {
        head.remove_header(name.as_str());
    }
    for name in ["keep-alive", "proxy-connection", "te", "trailer"] {
        head.remove_header(name);
    }
    if !upgraded {
        head.remove_header("upgrade");
        head.remove_header("connection");
    }
}

/// Tells the pool how the current try ended, once.
fn report(ctx: &mut Ctx, outcome: Outcome) {
    if std::mem::replace(&mut ctx.forward.reported, true) {
        return;
    }
    let now = ctx.now();
    if let Some((pool, endpoint)) = &ctx.forward.current {
        pool.report(endpoint, outcome, now);
        if ctx.forward.took.is_none() {
            endpoint.counts.stats.errors.up();
        }
    }
}

/// A try whose head was answered broke off later.
fn count_error(ctx: &Ctx) {
    if let Some((_, endpoint)) = &ctx.forward.current {
        endpoint.counts.stats.errors.up();
    }
}

/// Whether the method may be sent twice.
fn resendable(ctx: &Ctx) -> bool {
    ctx.forward
        .current
        .as_ref()
        .is_some_and(|(pool, _)| pool.settings().retry.methods.contains(&ctx.method))
}

/// A status is tried again only where another endpoint may know better.
fn has_other(pool: &Pool, ctx: &Ctx) -> bool {
    let now = ctx.now();
    pool.endpoints().iter().any(|(endpoint, ..)| {
        endpoint.usable(now) && !ctx.forward.tried.contains(&endpoint.address)
    })
}

fn may_retry(ctx: &Ctx, wanted: impl Fn(&crate::config::Retry) -> bool, cause: RetryCause) -> bool {
    let Some((pool, _)) = &ctx.forward.current else {
        return false;
    };
    let retry = &pool.settings().retry;
    let late = ctx
        .forward
        .deadline
        .is_some_and(|deadline| Instant::now() >= deadline);
    let again = wanted(retry)
        && ctx.forward.attempts <= retry.attempts
        && !late
        && pool.may_retry(ctx.now());
    if again {
        pool.stats().retried(cause);
    }
    again
}

/// Whether an error asks to be repeated when the connection had been kept open.
trait RetryIfReused {
    fn retry_if_reused(&self) -> bool;
}

impl RetryIfReused for Error {
    fn retry_if_reused(&self) -> bool {
        matches!(self.retry, pingora::RetryType::ReusedOnly)
    }
}
