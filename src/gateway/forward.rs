//! The upstream side of a request: which endpoint, what head, and whether to try again.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::proxy::Session;
use pingora::upstreams::peer::{HttpPeer, HttpUpstreamRequestPolicy};
use pingora::{Error, ErrorSource, ErrorType};
use smallvec::SmallVec;

use super::client::Fault;
use super::ctx::{Ctx, Start};
use super::decide::{TRACEPARENT, X_TRACE_ID};
use super::failure;
use super::snapshot::Target;
use crate::filter::{Reason, Refusal};
use crate::observe::stats::RetryCause;
use crate::upstream::Outcome;

/// Chooses an endpoint for the next try. Called once per try.
pub(super) async fn choose(ctx: &mut Ctx) -> pingora::Result<Box<HttpPeer>> {
    let Some(Target::Forward { pool, .. }) = ctx.route.as_deref().map(|route| &route.target) else {
        return Err(refused(ctx, super::reply::internal()));
    };
    let pool = Arc::clone(pool);
    let left = |ctx: &Ctx, now: Instant| {
        ctx.forward
            .deadline
            .map_or(Duration::MAX, |at| at.saturating_duration_since(now))
    };
    let mut now = Instant::now();
    if ctx.forward.attempts > 0 {
        let factor = 1 << (ctx.forward.attempts - 1).min(10);
        let wait = pool
            .settings()
            .retry
            .backoff
            .saturating_mul(factor)
            .min(left(ctx, now));
        if !wait.is_zero() && !ctx.forward.stale {
            tokio::time::sleep(wait).await;
            now = Instant::now();
        }
    } else {
        pool.request(ctx.state.clock.at(now));
    }
    let left = left(ctx, now);
    if left.is_zero() {
        return Err(refused(ctx, failure::deadline()));
    }
    ctx.leave_endpoint();
    let Some(pick) = pool.pick(ctx.state.clock.at(now), &ctx.forward.tried) else {
        let refusal = Refusal::new(Reason::NoEndpoint, "no endpoint is usable now")
            .retry_after(Duration::from_secs(1));
        return Err(refused(ctx, refusal));
    };
    let mut peer = pick.peer;
    for limit in [
        &mut peer.options.connection_timeout,
        &mut peer.options.total_connection_timeout,
        &mut peer.options.write_timeout,
    ] {
        *limit = limit.map(|limit| limit.min(left));
    }
    pick.endpoint.counts.stats.in_flight.up();
    if let Some(start) = &ctx.start {
        let silence = pool.settings().timeout.read;
        start.client.bound_silence(silence, now);
        if start.head.end_to_end {
            // Nothing is left to strip: looking for it would cost every request.
            peer.options.http_upstream_request_policy = HttpUpstreamRequestPolicy::preserve();
        }
    }
    let forward = &mut ctx.forward;
    forward.tried.push(pick.endpoint.address);
    forward.current = Some((pool, pick.endpoint));
    forward.attempts += 1;
    forward.sent = Some(now);
    forward.took = None;
    forward.reported = false;
    forward.retry = false;
    ctx.body_in = 0;
    Ok(peer)
}

/// A connection stands. A new one took its time, which is not the endpoint's to answer.
pub(super) fn connected(ctx: &mut Ctx, reused: bool) {
    if reused {
        return;
    }
    let now = Instant::now();
    ctx.forward.sent = Some(now);
    if let (Some(start), Some((pool, _))) = (&ctx.start, &ctx.forward.current) {
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

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");
const X_CONSUMER: HeaderName = HeaderName::from_static("x-consumer");

/// Writes the head that goes out: what the client may not say is removed, what we know is set. On the map itself: the
/// framework's own methods would parse each name again.
pub(super) fn prepare(head: &mut RequestHeader, ctx: &Ctx) -> pingora::Result<()> {
    let (Some(start), Some(route)) = (&ctx.start, &ctx.route) else {
        return Ok(());
    };
    if let Some(target) = &ctx.outgoing {
        head.set_raw_path(target.as_bytes())?;
    }
    let trusted = &start.snapshot.config.server.trusted_proxies;
    let believed = !trusted.is_empty() && trusted.contains(start.peer.address);
    let mut parts = take_parts(head);
    strip_identity(&mut parts.headers, start, believed);
    if !route.upstream_filters.is_empty() {
        *head = RequestHeader::from(parts);
        for filter in &route.upstream_filters {
            filter.apply(head);
        }
        parts = take_parts(head);
    }
    let headers = &mut parts.headers;
    set_forwarded(headers, start, ctx, believed);
    set_host(headers, ctx)?;
    if ctx.buffered {
        headers.remove(header::EXPECT);
    }
    if let Ok(id) = HeaderValue::from_bytes(ctx.trace.as_bytes()) {
        headers.insert(X_TRACE_ID, id);
    }
    let span = ctx.span.wrapping_add(ctx.forward.attempts.into());
    if let Some(parent) = &ctx.parent
        && let Ok(value) = HeaderValue::from_bytes(&parent.child(span))
    {
        headers.insert(TRACEPARENT, value);
    }
    if let Some(principal) = &ctx.principal {
        if let Some(value) = &principal.consumer_header {
            headers.insert(X_CONSUMER, value.clone());
        }
        for (name, value) in &principal.forward {
            headers.insert(name, value.clone());
        }
    }
    *head = RequestHeader::from(parts);
    Ok(())
}

/// Takes the head apart. Its target is in origin form by now, so the framework's type holds nothing beyond these parts.
fn take_parts(head: &mut RequestHeader) -> Parts {
    let (nothing, ()) = http::Request::new(()).into_parts();
    std::mem::replace(head, RequestHeader::from(nothing)).into()
}

/// Removes headers that only we may set, what a client that is no trusted proxy claims to be, and their twins with `_` for
/// `-`, which some origins read alike.
fn strip_identity(headers: &mut HeaderMap, start: &Start, believed: bool) {
    let identity = &start.snapshot.identity_headers;
    let forwarding = [
        X_FORWARDED_FOR,
        X_FORWARDED_PROTO,
        X_FORWARDED_HOST,
        X_REAL_IP,
    ];
    let protected = |name: &HeaderName| {
        let claims_address = *name == header::FORWARDED || *name == X_REAL_IP;
        if identity.contains(name) || (claims_address && !believed) {
            return true;
        }
        start.head.underscores && name.as_str().contains('_') && {
            let twin = name.as_str().replace('_', "-");
            identity
                .names()
                .iter()
                .chain(&forwarding)
                .any(|known| known.as_str() == twin)
        }
    };
    // Most requests have none.
    while let Some(name) = headers.keys().find(|name| protected(name)).cloned() {
        headers.remove(name);
    }
}

/// `X-Forwarded-*` (contract §6): behind a trusted proxy its values are kept and the address is added.
fn set_forwarded(headers: &mut HeaderMap, start: &Start, ctx: &Ctx, believed: bool) {
    if believed {
        let mut chain = String::new();
        for field in headers.get_all(X_FORWARDED_FOR) {
            if let Ok(text) = field.to_str() {
                chain.push_str(text);
                chain.push_str(", ");
            }
        }
        chain.push_str(start.peer.text.to_str().unwrap_or_default());
        if let Ok(chain) = HeaderValue::from_maybe_shared(bytes::Bytes::from(chain)) {
            headers.insert(X_FORWARDED_FOR, chain);
        }
    } else {
        headers.insert(X_FORWARDED_FOR, start.peer.text.clone());
    }
    if !believed || !headers.contains_key(X_FORWARDED_PROTO) {
        let scheme = HeaderValue::from_static(start.peer.scheme.as_str());
        headers.insert(X_FORWARDED_PROTO, scheme);
    }
    if !believed || !headers.contains_key(X_FORWARDED_HOST) {
        let authority = ctx
            .uri
            .authority()
            .and_then(|authority| HeaderValue::from_str(authority.as_str()).ok());
        match headers.get(header::HOST).cloned().or(authority) {
            Some(host) => {
                headers.insert(X_FORWARDED_HOST, host);
            }
            None => {
                headers.remove(X_FORWARDED_HOST);
            }
        }
    }
}

/// `Host`: the upstream's when configured, else the client's; the endpoint's for a client that named none.
fn set_host(headers: &mut HeaderMap, ctx: &Ctx) -> pingora::Result<()> {
    let Some((pool, endpoint)) = &ctx.forward.current else {
        return Ok(());
    };
    let host = match &pool.settings().host {
        Some(host) => host.as_str(),
        None if headers.contains_key(header::HOST) => return Ok(()),
        None => &endpoint.label,
    };
    let host = HeaderValue::from_str(host)
        .map_err(|_| Error::explain(ErrorType::InvalidHTTPHeader, "the upstream's host"))?;
    headers.insert(header::HOST, host);
    Ok(())
}

/// The try could not be sent: no connection. Nothing reached the endpoint, so any method may be tried again.
pub(super) fn connect_failed(ctx: &mut Ctx, error: &mut Error) {
    report(ctx, Outcome::Bad, ctx.now());
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
    // Noticed on the client's side, where the one timer is; the endpoint is to blame.
    let silence = fault == Some(Fault::Silence);
    let clients_fault = ctx.refusal.is_some()
        || (!silence && (*error.esource() == ErrorSource::Downstream || fault.is_some()));
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
        report(ctx, Outcome::Bad, ctx.now());
    }
    let cause = if silence {
        Some(RetryCause::Timeout)
    } else {
        failure::cause(error)
    };
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
    let now = Instant::now();
    if let Some(start) = &ctx.start {
        start.client.heard(now);
    }
    let took = ctx.forward.sent.map(|sent| now.duration_since(sent));
    let took = took.unwrap_or_default();
    ctx.forward.took = Some(took);
    let Some((pool, endpoint)) = &ctx.forward.current else {
        return Ok(());
    };
    pool.stats().latency.observe(took);
    endpoint.counts.stats.statuses.up(status);
    let again = pool.settings().retry.on_status.contains(&status);
    let outcome = if again { Outcome::Bad } else { Outcome::Good };
    report(ctx, outcome, ctx.state.clock.at(now));
    if again {
        let replayable = session.response_written().is_none()
            && !session.retry_buffer_truncated()
            && resendable(ctx);
        if replayable && has_other(ctx) && may_retry(ctx, |_| true, RetryCause::Status) {
            ctx.forward.retry = true;
            let mut error = Error::new_up(ErrorType::HTTPStatus(status));
            error.set_retry(true);
            return Err(error);
        }
    }
    strip_nominated(head);
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
    let (mut lengths, mut codings, mut digits) = (0, 0, true);
    for (name, value) in &head.headers {
        if *name == header::CONTENT_LENGTH {
            lengths += 1;
            digits &= !value.is_empty() && value.as_bytes().iter().all(u8::is_ascii_digit);
        } else if *name == header::TRANSFER_ENCODING {
            codings += 1;
        }
    }
    if digits && lengths + codings <= 1 {
        return Ok(());
    }
    Err(invalid("the answer's length is ambiguous"))
}

/// Removes the fields that `Connection` names: they concern the endpoint's connection. The fields that every connection
/// may have are left out where the head is written.
fn strip_nominated(head: &mut ResponseHeader) {
    let known = |token: &[u8]| {
        [
            &b""[..],
            b"close",
            b"keep-alive",
            b"upgrade",
            b"transfer-encoding",
            b"content-length",
        ]
        .iter()
        .any(|known| token.eq_ignore_ascii_case(known))
    };
    let nominated: SmallVec<[HeaderName; 4]> = head
        .headers
        .get_all(header::CONNECTION)
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .map(<[u8]>::trim_ascii)
        .filter(|token| !known(token))
        .filter_map(|token| HeaderName::from_bytes(token).ok())
        .collect();
    for name in &nominated {
        head.remove_header(name);
    }
}

/// Tells the pool how the current try ended, once.
fn report(ctx: &mut Ctx, outcome: Outcome, now: u64) {
    if std::mem::replace(&mut ctx.forward.reported, true) {
        return;
    }
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
fn has_other(ctx: &Ctx) -> bool {
    let Some((pool, _)) = &ctx.forward.current else {
        return false;
    };
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
