//! The hooks of the framework in the order in which a request meets them.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use pingora::http::RequestHeader;
use pingora::modules::http::HttpModules;
use pingora::protocols::Digest;
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorSource, Result, RetryType};
use pingora_proxy::{FailToProxy, ProxyHttp, ProxyWarnLogContext, Session};

use super::answer::ResponseWriter;
use super::client::Moved;
use super::ctx::{Ctx, Lane};
use super::forward::{Broken, Way};
use super::inbound::Decision;
use super::state::State;
use super::{failure, fallback, forward, inbound, mirror, outgoing_head, relay, reply, streams};
use crate::filter::{Reason, Refusal};
use crate::observe::stats::RetryCause;

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
        let request = session.req_header();
        let Some(mut writer) = writer(request, ctx) else {
            return Err(forward::refused(ctx, reply::internal()));
        };
        let writer = &mut writer;
        match inbound::decide(session, ctx).await {
            Decision::Forward => loop {
                let way = forward::way(ctx);
                let forwarded = match way {
                    Way::Relay => relay::forward(request, ctx, &self.lane, writer).await,
                    // Boxed: few take it, and it would be a part of every request.
                    Way::Streams => {
                        Box::pin(streams::forward(request, ctx, &self.lane, writer)).await
                    }
                    Way::Framework => Err(forward::refused(ctx, reply::internal())),
                };
                let Err(error) = forwarded else {
                    return Ok(true);
                };
                if !forward::goes_on(ctx, way) {
                    failed(writer, request, ctx, &error).await;
                    return Ok(true);
                }
                mirror::begins_again(ctx);
            },
            Decision::Answer(answer) => reply::answer(writer, request, ctx, &answer, true)
                .await
                .map(|()| true),
            Decision::Done(answer) => reply::answer(writer, request, ctx, &answer, false)
                .await
                .map(|()| true),
            Decision::Refuse(refusal) => refuse(writer, request, ctx, refusal).await.map(|()| true),
        }
    }

    /// Copies the body on its way. One longer than the route takes ends where it is read.
    async fn request_body_filter(
        &self,
        _session: &mut Session,
        body: &mut Option<Bytes>,
        end: bool,
        ctx: &mut Box<Ctx>,
    ) -> Result<()> {
        if ctx.policy.shadow.is_some() {
            mirror::passes(body.as_ref(), end, ctx);
        }
        Ok(())
    }

    async fn upstream_peer(
        &self,
        _session: &mut Session,
        ctx: &mut Box<Ctx>,
    ) -> Result<Box<HttpPeer>> {
        let endpoint = forward::choose(ctx).await?;
        mirror::begins_again(ctx);
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
            refused: false,
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
        let error_code = match writer(session.req_header(), ctx) {
            Some(mut writer) => failed(&mut writer, session.req_header(), ctx, e).await,
            // Nothing is known of its client: the framework knows it.
            None => {
                let status = Reason::Internal.status();
                let _ = session.respond_error(status).await;
                let told = Moved {
                    status,
                    ..Moved::default()
                };
                ctx.record(told, None);
                status
            }
        };
        // Whether the connection goes on is ours to say: the framework drops every one whose upstream failed, and with
        // an upstream down that would cost each client a new one for each request.
        FailToProxy {
            error_code,
            can_reuse_downstream: false,
        }
    }

    /// One record for metrics and log.
    async fn logging(&self, session: &mut Session, _e: Option<&Error>, ctx: &mut Box<Ctx>) {
        let moved = ctx.moved();
        ctx.record(moved, Some(&session.req_header().headers));
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

/// The writer of the answer, where something is known of the client.
fn writer(request: &RequestHeader, ctx: &Ctx) -> Option<ResponseWriter> {
    let start = ctx.start.as_ref();
    start.map(|start| reply::writer(start, request))
}

/// Forwarding failed: tells the client, if it is there and nothing was sent yet. Returns the status it would have, 0 when
/// it is gone.
async fn failed(
    writer: &mut ResponseWriter,
    request: &RequestHeader,
    ctx: &mut Ctx,
    error: &Error,
) -> u16 {
    if let Some(reply) = fallback::pending(ctx) {
        let _ = reply::answer(writer, request, ctx, &reply, true).await;
        return reply.status.as_u16();
    }
    let mut refusal = failure::refusal(error, ctx);
    let unanswered = !writer.has_begun();
    // What went wrong for nobody is nobody's failure; on the client's own side it is known what did.
    let elsewhere = unanswered && *error.esource() != ErrorSource::Downstream;
    if let Some(start) = ctx.start.as_ref().filter(|_| elsewhere)
        && start.client.is_gone().await
    {
        refusal = failure::gone();
    }
    if refusal.reason == Reason::ClientGone {
        ctx.refusal = Some(refusal);
        return 0;
    }
    let status = refusal.reason.status();
    report(error, ctx, refusal.reason);
    if unanswered {
        let _ = refuse(writer, request, ctx, refusal).await;
    } else {
        ctx.refusal = Some(refusal);
    }
    status
}

/// Refuses, or lets the route's fallback answer. Who left is told nothing.
async fn refuse(
    writer: &mut ResponseWriter,
    request: &RequestHeader,
    ctx: &mut Ctx,
    refusal: Refusal,
) -> Result<()> {
    if refusal.reason == Reason::ClientGone {
        ctx.refusal = Some(refusal);
        return Ok(());
    }
    match fallback::instead(request, ctx, &refusal) {
        Some(reply) => {
            ctx.refusal = Some(refusal);
            reply::answer(writer, request, ctx, &reply, true).await
        }
        None => reply::refuse(writer, request, ctx, refusal).await,
    }
}

/// Says in the log what the client is not told. An error's context may hold bytes of a head, and those hold secrets:
/// only its kind and the system's own words are logged. That a breaker is open is said once, when it opens.
fn report(error: &Error, ctx: &Ctx, reason: Reason) {
    let known = matches!(reason, Reason::BreakerOpen) || reason.status() < 500;
    if *error.esource() == ErrorSource::Downstream || known {
        return;
    }
    let (upstream, endpoint) = match ctx.forward.trying() {
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
