//! The hooks of the framework in the order in which a request meets them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use http::{StatusCode, header};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::modules::http::HttpModules;
use pingora::protocols::Digest;
use pingora::proxy::{FailToProxy, ProxyHttp, ProxyWarnLogContext, Session};
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorSource, Result, RetryType};

use super::client::Unbuffered;
use super::ctx::{Ctx, Lane};
use super::forward::Broken;
use super::snapshot::Target;
use super::state::State;
use super::{chain, decide, failure, forward, outgoing_head, relay, reply};
use crate::filter::{Exchange, Reason, Refusal, Reply, RequestFilter, Verdict};
use crate::observe::stats::RetryCause;
use crate::route::Asked;

/// The gateway as the framework sees it.
pub struct Gateway {
    state: Arc<State>,
    lane: Arc<Lane>,
}

impl Gateway {
    /// A gateway over this state. Workers have one each and share the state.
    pub fn new(state: Arc<State>, lane: Arc<Lane>) -> Self {
        Self { state, lane }
    }
}

#[async_trait]
impl ProxyHttp for Gateway {
    /// Boxed: the framework moves it several times.
    type CTX = Box<Ctx>;

    fn new_ctx(&self) -> Box<Ctx> {
        Box::new(Ctx::new(Arc::clone(&self.state), &self.lane))
    }

    /// No module is needed by default; the framework's idle compressor would cost every request.
    fn init_downstream_modules(&self, _modules: &mut HttpModules) {}

    /// Whether the connection goes on after this request.
    async fn early_request_filter(&self, session: &mut Session, ctx: &mut Box<Ctx>) -> Result<()> {
        ctx.start = ctx
            .start
            .take()
            .filter(|start| start.belongs_to(session.req_header()));
        let Some(start) = &ctx.start else {
            return Err(forward::refused(ctx, reply::internal()));
        };
        if self.state.draining() {
            start.client.end_after();
        }
        Ok(())
    }

    /// Route, filters, and answers of our own.
    async fn request_filter(&self, session: &mut Session, ctx: &mut Box<Ctx>) -> Result<bool> {
        match decide_request(session, ctx).await {
            Decision::Forward if relay::can(ctx) => {
                let relayed = relay::forward(session.req_header(), ctx, &self.lane).await;
                if let Err(error) = relayed {
                    failed(session, ctx, &error).await;
                }
                Ok(true)
            }
            Decision::Forward => Ok(false),
            Decision::Answer(answer) => reply::answer(session, ctx, &answer, true)
                .await
                .map(|()| true),
            Decision::Done(answer) => reply::answer(session, ctx, &answer, false)
                .await
                .map(|()| true),
            Decision::Refuse(refusal) => reply::refuse(session, ctx, refusal).await.map(|()| true),
        }
    }

    /// Counts the body on its way; one longer than the route takes is cut off.
    async fn request_body_filter(
        &self,
        _session: &mut Session,
        body: &mut Option<Bytes>,
        _end: bool,
        ctx: &mut Box<Ctx>,
    ) -> Result<()> {
        if !ctx.buffered {
            ctx.body_in += body.as_ref().map_or(0, |bytes| bytes.len() as u64);
        }
        let most = ctx.route.as_ref().map_or(u64::MAX, |route| route.max_body);
        if ctx.body_in > most
            && !ctx
                .start
                .as_ref()
                .is_some_and(|start| start.client.upgraded())
        {
            return Err(forward::refused(ctx, chain::too_large(most)));
        }
        Ok(())
    }

    async fn upstream_peer(
        &self,
        _session: &mut Session,
        ctx: &mut Box<Ctx>,
    ) -> Result<Box<HttpPeer>> {
        let endpoint = forward::choose(ctx).await?;
        forward::peer(&endpoint, ctx).ok_or_else(|| forward::refused(ctx, reply::internal()))
    }

    fn fail_to_connect(
        &self,
        _session: &mut Session,
        _peer: &HttpPeer,
        ctx: &mut Box<Ctx>,
        mut e: Box<Error>,
    ) -> Box<Error> {
        let cause = failure::cause(&e).unwrap_or(RetryCause::Connect);
        e.set_retry(!failure::out_of_descriptors(&e) && forward::connect_failed(ctx, cause));
        e
    }

    async fn connected_to_upstream(
        &self,
        _session: &mut Session,
        reused: bool,
        _peer: &HttpPeer,
        _fd: std::os::unix::io::RawFd,
        _digest: Option<&Digest>,
        ctx: &mut Box<Ctx>,
    ) -> Result<()> {
        forward::connected(ctx, reused);
        Ok(())
    }

    async fn upstream_request_filter(
        &self,
        _session: &mut Session,
        head: &mut RequestHeader,
        ctx: &mut Box<Ctx>,
    ) -> Result<()> {
        outgoing_head::prepare(head, ctx)
    }

    async fn upstream_response_filter(
        &self,
        session: &mut Session,
        head: &mut ResponseHeader,
        ctx: &mut Box<Ctx>,
    ) -> Result<()> {
        forward::answered_through_framework(session, head, ctx)
    }

    fn upstream_response_body_filter(
        &self,
        _session: &mut Session,
        _body: &mut Option<Bytes>,
        end: bool,
        ctx: &mut Box<Ctx>,
    ) -> Result<Option<Duration>> {
        if !end {
            forward::heard(ctx);
        }
        Ok(None)
    }

    async fn response_filter(
        &self,
        session: &mut Session,
        head: &mut ResponseHeader,
        ctx: &mut Box<Ctx>,
    ) -> Result<()> {
        if !head.status.is_informational() || head.status == StatusCode::SWITCHING_PROTOCOLS {
            reply::filter(session.req_header(), ctx, head);
            reply::announce(ctx);
        }
        Ok(())
    }

    fn error_while_proxy(
        &self,
        peer: &HttpPeer,
        session: &mut Session,
        e: Box<Error>,
        ctx: &mut Box<Ctx>,
        reused: bool,
    ) -> Box<Error> {
        let mut e = e.more_context(format!("Peer: {peer}"));
        let broken = Broken {
            cause: failure::cause(&e),
            downstream: *e.esource() == ErrorSource::Downstream,
            replayable: session.response_written().is_none() && !session.retry_buffer_truncated(),
            stale: reused && matches!(e.retry, RetryType::ReusedOnly),
        };
        e.set_retry(forward::try_failed(ctx, &broken));
        e
    }

    /// Tells the client, if it is there and nothing was sent yet.
    async fn fail_to_proxy(
        &self,
        session: &mut Session,
        e: &Error,
        ctx: &mut Box<Ctx>,
    ) -> FailToProxy {
        // Whether the connection goes on is ours to say: the framework drops every one whose upstream failed, and with
        // an upstream down that would cost each client a new one for each request.
        FailToProxy {
            error_code: failed(session, ctx, e).await,
            can_reuse_downstream: false,
        }
    }

    /// One record for metrics and log.
    async fn logging(&self, session: &mut Session, _e: Option<&Error>, ctx: &mut Box<Ctx>) {
        let status = answer_status(session, ctx).map_or(0, |status| status.as_u16());
        let headers = &session.req_header().headers;
        let (user_agent, referer) = (
            headers.get(header::USER_AGENT),
            headers.get(header::REFERER),
        );
        let bytes_out = ctx.bytes_out.max(session.body_bytes_sent() as u64);
        ctx.body_in = ctx.body_in.max(session.body_bytes_read() as u64);
        ctx.record(status, bytes_out, user_agent, referer);
    }

    /// Never the query: it may hold what must not be logged.
    fn request_summary(&self, session: &Session, ctx: &Box<Ctx>) -> String {
        format!(
            "{} {}, trace {}",
            session.req_header().method,
            session.req_header().uri.path(),
            ctx.trace
        )
    }

    /// What went wrong is logged by [`report`], with the request's identifier.
    fn suppress_error_log(&self, _session: &Session, _ctx: &Box<Ctx>, _error: &Error) -> bool {
        true
    }

    fn suppress_proxy_warn_log(
        &self,
        _session: &Session,
        ctx: &Box<Ctx>,
        error: &Error,
        _context: ProxyWarnLogContext,
    ) -> bool {
        log::debug!(trace_id = ctx.trace.as_str(); "tried again: {}", describe(error));
        true
    }
}

/// Status of the final answer, if it began.
fn answer_status(session: &Session, ctx: &Ctx) -> Option<StatusCode> {
    let written = || session.response_written().map(|head| head.status);
    ctx.relayed
        .or_else(written)
        .filter(|status| !status.is_informational() || *status == StatusCode::SWITCHING_PROTOCOLS)
}

/// Forwarding failed: tells the client, if it is there and nothing was sent yet. Returns the status it would have, 0 when
/// it is gone.
async fn failed(session: &mut Session, ctx: &mut Ctx, error: &Error) -> u16 {
    let Some(refusal) = failure::refusal(error, ctx) else {
        return 0;
    };
    let status = refusal.reason.status();
    report(error, ctx, refusal.reason);
    if answer_status(session, ctx).is_some() {
        ctx.refusal = Some(refusal);
    } else {
        let _ = reply::refuse(session, ctx, refusal).await;
    }
    status
}

/// Most time a request that is answered here may take, its body included.
const LONGEST_ANSWER: Duration = Duration::from_secs(60);

/// What becomes of a request.
enum Decision {
    Forward,
    /// The route's own answer.
    Answer(Arc<Reply>),
    /// A filter's answer, complete as it is.
    Done(Arc<Reply>),
    Refuse(Refusal),
}

/// Finds out who asks for what, and asks the route's filters.
async fn decide_request(session: &Session, ctx: &mut Ctx) -> Decision {
    let head = session.req_header();
    let Some(start) = &ctx.start else {
        return Decision::Refuse(reply::internal());
    };
    let snapshot = Arc::clone(&start.snapshot);
    let scheme = start.peer.scheme;
    ctx.client_ip = decide::client_ip(
        start.peer.address,
        &snapshot.config.server.trusted_proxies,
        head,
    );
    let (trace, parent) = decide::trace(head, ctx.trace);
    (ctx.trace, ctx.parent) = (trace, Some(parent));
    (ctx.method, ctx.uri, ctx.version) = (head.method.clone(), head.uri.clone(), head.version);
    let received = head.raw_path();
    let Ok(received) = std::str::from_utf8(received) else {
        return Decision::Refuse(Refusal::new(
            Reason::BadRequest,
            "the request target is not text",
        ));
    };
    let target = match decide::Target::parse(received) {
        Ok(target) => target,
        Err(refusal) => return Decision::Refuse(refusal),
    };
    let (authority, host) = decide::host(head);
    let certified = start.peer.certified.clone();
    if certified
        .as_ref()
        .is_some_and(|certified| !certified.may_ask(&host))
    {
        return Decision::Refuse(Refusal::new(
            Reason::MisdirectedRequest,
            "the connection was opened for another host",
        ));
    }
    let asked = Asked {
        method: &head.method,
        host: &host,
        path: &target.path,
        scheme: decide::scheme(
            scheme,
            start.peer.address,
            &snapshot.config.server.trusted_proxies,
            head,
        ),
        query: target.query,
        headers: &head.headers,
    };
    let found = match decide::route(&snapshot.table, &asked) {
        Ok(found) => found,
        Err(refusal) => return Decision::Refuse(refusal),
    };
    let route = Arc::clone(&snapshot.routes[found.index]);
    ctx.enter(Arc::clone(&route));
    let mut exchange = Exchange {
        head,
        raw_target: target.raw,
        path: &target.path,
        query: target.query,
        host: &host,
        authority,
        scheme,
        client_ip: ctx.client_ip,
        certificate: certified.as_deref().map(|certified| &certified.certificate),
        route: &route.name,
        max_body: route.max_body,
        now: ctx.state.clock.at(ctx.began),
        unix_time: ctx.at.as_secs(),
        principal: None,
        quota: None,
        tickets: Vec::new(),
        dry_run: false,
    };
    let deadline = match &route.target {
        Target::Forward { deadline, .. } => {
            let deadline = decide::deadline(head, *deadline);
            ctx.forward.deadline = Some(ctx.began + deadline);
            deadline
        }
        Target::Respond(_) => LONGEST_ANSWER,
    };
    if let Some(start) = &ctx.start {
        start.client.set_deadline(ctx.began + deadline);
    }
    let mut decision = None;
    for filter in route.chain.filters() {
        decision = ask(&**filter, &mut exchange, ctx).await;
        if decision.is_some() {
            break;
        }
    }
    let Exchange {
        principal,
        quota,
        tickets,
        ..
    } = exchange;
    (ctx.principal, ctx.quota, ctx.tickets) = (principal, quota, tickets);
    if let Some(decision) = decision {
        return decision;
    }
    match &route.target {
        Target::Respond(answer) => match &answer.redirect {
            None => Decision::Answer(Arc::clone(answer)),
            Some(template) => match decide::redirect(template, &host, &target) {
                Ok(location) => Decision::Answer(Arc::new(answer.leading_to(location))),
                Err(refusal) => Decision::Refuse(refusal),
            },
        },
        Target::Forward { outgoing, .. } => {
            ctx.outgoing =
                changed_target(&outgoing.path(&target.path, &found), target.query, received);
            Decision::Forward
        }
    }
}

/// Asks one filter, and does the waiting it wants. `None`: nothing against the request.
async fn ask(
    filter: &dyn RequestFilter,
    exchange: &mut Exchange<'_>,
    ctx: &mut Ctx,
) -> Option<Decision> {
    let mut verdict = filter.check(exchange);
    loop {
        verdict = match verdict {
            Verdict::Continue => return None,
            Verdict::Refuse(refusal) => return Some(Decision::Refuse(refusal)),
            Verdict::Answer(answer) => return Some(Decision::Done(answer)),
            Verdict::Wait(wait) => {
                let left = ctx
                    .forward
                    .deadline
                    .map(|at| at.saturating_duration_since(Instant::now()));
                if left.is_some_and(|left| wait >= left) {
                    return Some(Decision::Refuse(failure::deadline()));
                }
                tokio::time::sleep(wait).await;
                return None;
            }
            Verdict::NeedBody => match body(exchange.max_body, ctx).await {
                Ok(body) => filter.check_body(exchange, &body),
                Err(refusal) => return Some(Decision::Refuse(refusal)),
            },
        };
    }
}

/// The whole body, kept for forwarding.
async fn body(most: u64, ctx: &mut Ctx) -> std::result::Result<Bytes, Refusal> {
    let Some(start) = &ctx.start else {
        return Err(reply::internal());
    };
    let declared = match start.head.framing {
        super::http1::head::Framing::Length(length) => length,
        _ => 0,
    };
    if declared > most {
        return Err(chain::too_large(most));
    }
    if start.head.expects_continue && !start.client.has_ahead() {
        start.client.ask_on().await.map_err(|_| reply::internal())?;
    }
    let body = start
        .client
        .buffer_body(most)
        .await
        .map_err(|why| match why {
            Unbuffered::TooLarge => chain::too_large(most),
            Unbuffered::Malformed => Refusal::new(Reason::BadRequest, "the body is malformed"),
            Unbuffered::TimedOut => Refusal::new(Reason::RequestTimeout, "the body took too long"),
            Unbuffered::Gone => Refusal::new(Reason::BadRequest, "the body is incomplete"),
        })?;
    ctx.buffered = true;
    ctx.body_in = body.len() as u64;
    Ok(body)
}

/// The target to send, when it differs from the one received.
fn changed_target(path: &str, query: Option<&str>, received: &str) -> Option<String> {
    let same = match query {
        Some(query) => {
            received.len() == path.len() + 1 + query.len()
                && received.starts_with(path)
                && received.ends_with(query)
        }
        None => received == path,
    };
    if same {
        return None;
    }
    Some(match query {
        Some(query) => format!("{path}?{query}"),
        None => path.to_owned(),
    })
}

/// Says in the log what the client is not told. An error's context may hold bytes of a head, and those hold secrets:
/// only its kind and the system's own words are logged.
fn report(error: &Error, ctx: &Ctx, reason: Reason) {
    if *error.esource() == ErrorSource::Downstream || reason.status() < 500 {
        return;
    }
    let (upstream, endpoint) = match &ctx.forward.current {
        Some((pool, endpoint)) => (pool.settings().name.as_str(), &*endpoint.label),
        None => ("", ""),
    };
    log::warn!(trace_id = ctx.trace.as_str(), upstream = upstream, endpoint = endpoint, reason = reason.code(); "{}",
        describe(error));
}

fn describe(error: &Error) -> String {
    let cause = error.root_cause().downcast_ref::<std::io::Error>();
    match cause {
        Some(cause) => format!("{}: {cause}", error.etype().as_str()),
        None => error.etype().as_str().to_owned(),
    }
}
