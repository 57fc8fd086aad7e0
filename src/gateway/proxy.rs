//! The hooks of the framework in the order in which a request meets them.

use std::sync::Arc;

use async_trait::async_trait;
use http::StatusCode;
use pingora::modules::http::HttpModules;
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorSource, Result};
use pingora_proxy::{FailToProxy, ProxyHttp, Session};

use super::ctx::{Ctx, Lane};
use super::exchange::tries;
use super::inbound::Decision;
use super::state::State;
use super::{failure, fallback, inbound, reply};
use crate::filter::{Reason, Refusal};

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
            return Err(failure::refused(ctx, reply::internal()));
        };
        if self.state.draining() {
            start.client.end_after();
        }
        Ok(())
    }

    /// Route, filters, and answers of our own.
    async fn request_filter(&self, session: &mut Session, ctx: &mut Box<Ctx>) -> Result<bool> {
        match inbound::decide(session, ctx).await {
            Decision::Forward => {
                if let Err(error) = tries::forward(session.req_header(), ctx, &self.lane).await {
                    failed(session, ctx, &error).await;
                }
                Ok(true)
            }
            Decision::Answer(answer) => reply::answer(session, ctx, &answer, true)
                .await
                .map(|()| true),
            Decision::Done(answer) => reply::answer(session, ctx, &answer, false)
                .await
                .map(|()| true),
            Decision::Refuse(refusal) => refuse(session, ctx, refusal).await.map(|()| true),
        }
    }

    /// Never asked: [`request_filter`](Self::request_filter) has answered every request by now.
    async fn upstream_peer(
        &self,
        _session: &mut Session,
        ctx: &mut Box<Ctx>,
    ) -> Result<Box<HttpPeer>> {
        Err(failure::refused(ctx, reply::internal()))
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
        let bytes_out = ctx.bytes_out.max(session.body_bytes_sent() as u64);
        ctx.record(status, bytes_out, Some(&session.req_header().headers));
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
    if let Some(reply) = fallback::pending(ctx) {
        let _ = reply::answer(session, ctx, &reply, true).await;
        return reply.status.as_u16();
    }
    let mut refusal = failure::refusal(error, ctx);
    let unanswered = answer_status(session, ctx).is_none();
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
        let _ = refuse(session, ctx, refusal).await;
    } else {
        ctx.refusal = Some(refusal);
    }
    status
}

/// Refuses, or lets the route's fallback answer. Who left is told nothing.
async fn refuse(session: &mut Session, ctx: &mut Ctx, refusal: Refusal) -> Result<()> {
    if refusal.reason == Reason::ClientGone {
        ctx.refusal = Some(refusal);
        return Ok(());
    }
    match fallback::instead(session.req_header(), ctx, &refusal) {
        Some(reply) => {
            ctx.refusal = Some(refusal);
            reply::answer(session, ctx, &reply, true).await
        }
        None => reply::refuse(session, ctx, refusal).await,
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
