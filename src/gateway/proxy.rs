//! The hooks of the framework in the order in which a request meets them.

use std::sync::Arc;

use async_trait::async_trait;
use pingora::http::RequestHeader;
use pingora::modules::http::HttpModules;
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorSource, Result};
use pingora_proxy::{FailToProxy, ProxyHttp, Session};

use super::answer::ResponseWriter;
use super::client::Moved;
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
        let request = session.req_header();
        let Some(mut writer) = writer(request, ctx) else {
            return Err(failure::refused(ctx, reply::internal()));
        };
        let writer = &mut writer;
        match inbound::decide(session, ctx).await {
            Decision::Forward => {
                let forwarded = tries::forward(request, ctx, &self.lane, writer).await;
                if let Err(error) = forwarded {
                    failed(writer, request, ctx, &error).await;
                }
                Ok(true)
            }
            Decision::Answer(answer) => reply::answer(writer, request, ctx, &answer, true)
                .await
                .map(|()| true),
            Decision::Done(answer) => reply::answer(writer, request, ctx, &answer, false)
                .await
                .map(|()| true),
            Decision::Refuse(refusal) => refuse(writer, request, ctx, refusal).await.map(|()| true),
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
