//! One request, from its head to its record, whatever carries it.
//!
//! [`serve`] is called for a request from a connection by the framework's hook (see [`proxy`](super::proxy)), and for one
//! made inside the process by whoever drives it (see [`internal`](super::internal)). It answers in any case: what becomes
//! of a request that is dropped or panics is settled by its context and by [`supervise`](super::supervise).

use std::sync::Arc;

use pingora::http::RequestHeader;
use pingora::{Error, ErrorSource};

use super::answer::ResponseWriter;
use super::ctx::Ctx;
use super::decision::Decision;
use super::exchange::tries;
use super::worker_local::WorkerLocal;
use super::{failure, fallback, inbound, judged, reply};
use crate::filter::{Reason, Refusal};

/// Answers a request: decides, then forwards, answers or refuses. Its record is written by [`Ctx::finish`].
pub(super) async fn serve(
    request: &RequestHeader,
    ctx: &mut Ctx,
    lane: &Arc<WorkerLocal>,
    writer: &mut ResponseWriter,
) {
    let served = match inbound::decide(request, ctx).await {
        Decision::Forward => tries::forward(request, ctx, lane, writer).await,
        Decision::Answer(answer) => reply::answer(writer, request, ctx, &answer, true).await,
        Decision::Done(answer) => reply::answer(writer, request, ctx, &answer, false).await,
        Decision::Refuse(refusal) => refuse(writer, request, ctx, refusal).await,
    };
    if let Err(error) = served {
        failed(writer, request, ctx, &error).await;
    }
}

/// The request failed: tells the client, if it is there and nothing was sent yet.
async fn failed(
    writer: &mut ResponseWriter,
    request: &RequestHeader,
    ctx: &mut Ctx,
    error: &Error,
) {
    if let Some(answer) = fallback::pending(ctx) {
        let _ = reply::answer(writer, request, ctx, &answer, true).await;
        return;
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
        return;
    }
    judged::body_refused(ctx, request, &refusal);
    report(error, ctx, refusal.reason);
    if unanswered {
        let _ = refuse(writer, request, ctx, refusal).await;
    } else {
        ctx.refusal = Some(refusal);
    }
}

/// Refuses, or lets the route's fallback answer. Who left is told nothing.
async fn refuse(
    writer: &mut ResponseWriter,
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
            reply::answer(writer, request, ctx, &answer, true).await
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
