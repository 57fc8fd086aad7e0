//! One request, from its head to its record, whatever carries it.
//!
//! [`serve`] is called for a request from a connection by the framework's hook (see [`proxy`](super::proxy)), and for one
//! made inside the process by whoever drives it (see [`internal`](super::internal)). It answers in any case: what becomes
//! of a request that is dropped or panics is settled by its context and by [`supervise`](super::supervise).

use std::sync::Arc;

use pingora::http::RequestHeader;
use pingora::{Error, ErrorSource};

use super::ctx::Ctx;
use super::decision::Decision;
use super::forward::Way;
use super::lane::Lane;
use super::{failure, fallback, forward, inbound, mirror, relay, reply, streams};
use crate::filter::{Reason, Refusal};

/// Answers a request: decides, then forwards, answers or refuses. Its record is written by [`Ctx::finish`].
pub(super) async fn serve(request: &RequestHeader, ctx: &mut Ctx, lane: &Arc<Lane>) {
    if let Some(start) = ctx.start.as_ref().filter(|_| ctx.state.draining()) {
        start.client.end_after();
    }
    let served = match inbound::decide(request, ctx).await {
        Decision::Forward => forward(request, ctx, lane).await,
        Decision::Answer(answer) => reply::answer(request, ctx, &answer, true).await,
        Decision::Done(answer) => reply::answer(request, ctx, &answer, false).await,
        Decision::Refuse(refusal) => refuse(request, ctx, refusal).await,
    };
    if let Err(error) = served {
        failed(request, ctx, &error).await;
    }
}

/// Forwards the request the way that leads to its upstream, and on another way when another upstream takes it over.
async fn forward(
    request: &RequestHeader,
    ctx: &mut Ctx,
    lane: &Arc<Lane>,
) -> Result<(), Box<Error>> {
    loop {
        let way = forward::way(ctx);
        let forwarded = match way {
            Way::Relay => relay::forward(request, ctx, lane).await,
            // Boxed: few take it, and it would be a part of every request.
            Way::Streams => Box::pin(streams::forward(request, ctx, lane)).await,
        };
        match forwarded {
            Err(_) if forward::goes_on(ctx, way) => mirror::begins_again(ctx),
            forwarded => return forwarded,
        }
    }
}

/// The request failed: tells the client, if it is there and nothing was sent yet.
async fn failed(request: &RequestHeader, ctx: &mut Ctx, error: &Error) {
    if let Some(answer) = fallback::pending(ctx) {
        let _ = reply::answer(request, ctx, &answer, true).await;
        return;
    }
    let mut refusal = failure::refusal(error, ctx);
    let unanswered = ctx.relayed.is_none();
    // What went wrong for nobody is nobody's failure; on the client's own side it is known what did.
    let elsewhere = unanswered && *error.esource() != ErrorSource::Downstream;
    if let Some(start) = ctx.start.as_ref().filter(|_| elsewhere)
        && start.client.is_gone().await
    {
        refusal = failure::gone();
    }
    report(error, ctx, refusal.reason);
    if refusal.reason == Reason::ClientGone || !unanswered {
        ctx.refusal = Some(refusal);
        return;
    }
    let _ = refuse(request, ctx, refusal).await;
}

/// Refuses, or lets the route's fallback answer. Who left is told nothing.
async fn refuse(
    request: &RequestHeader,
    ctx: &mut Ctx,
    refusal: Refusal,
) -> Result<(), Box<Error>> {
    if refusal.reason == Reason::ClientGone {
        ctx.refusal = Some(refusal);
        return Ok(());
    }
    match fallback::instead(request, ctx, &refusal) {
        Some(answer) => {
            ctx.refusal = Some(refusal);
            reply::answer(request, ctx, &answer, true).await
        }
        None => reply::refuse(request, ctx, refusal).await,
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
