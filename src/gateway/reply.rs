//! Answers to a request, whoever makes them: what its route does to them, and the gateway's own.

use std::sync::Arc;

use bytes::Bytes;
use http::{Method, header};
use pingora::http::{RequestHeader, ResponseHeader};

use super::answer::{AnswerPlan, Pacing, ResponseWriter};
use super::ctx::Ctx;
use super::message::{AnswerHead, BodySize, GatewayHeaders, InvalidHead, has_no_body};
pub(super) use super::refusal::{Caller, internal, refusal};
use super::request_seed::RequestSeed;
use super::session::unfinished;
use super::{affinity, decide, fallback, hop_by_hop, policy};
use crate::config::ErrorFormat;
use crate::filter::{Refusal, Reply};

/// The writer of the answer to a request that has just begun.
pub(super) fn writer(start: &RequestSeed, request: &RequestHeader) -> ResponseWriter {
    let head_only = request.method == Method::HEAD;
    // What was stripped of nothing has no `TE`.
    let trailers = !start.head.end_to_end && hop_by_hop::takes_trailers(&request.headers);
    ResponseWriter::new(Arc::clone(&start.client), start.head.version, head_only)
        .with_trailers(trailers)
}

/// Sends the refusal and remembers it for the record.
pub(super) async fn refuse(
    writer: &mut ResponseWriter,
    request: &RequestHeader,
    ctx: &mut Ctx,
    refusal: Refusal,
) -> pingora::Result<()> {
    let format = ctx.start.as_ref().map_or(ErrorFormat::Problem, |start| {
        start.snapshot.config.server.error_format
    });
    let caller = ctx.start.as_ref().map(|start| Caller::of(&start.head));
    let caller = caller.unwrap_or_default();
    let (head, body) = self::refusal(&refusal, format, ctx.uri.path(), &ctx.trace, caller)?;
    ctx.refusal = Some(refusal);
    send(writer, request, ctx, head, body, true).await
}

/// Sends an answer that the configuration asks for. With `filtered` the route's response filters see it; a filter's own
/// answer is complete as it is.
pub(super) async fn answer(
    writer: &mut ResponseWriter,
    request: &RequestHeader,
    ctx: &mut Ctx,
    reply: &Reply,
    filtered: bool,
) -> pingora::Result<()> {
    let mut head = ResponseHeader::build(reply.status, Some(reply.headers.len() + 6))?;
    for (name, value) in &reply.headers {
        head.append_header(name.clone(), value.clone())?;
    }
    if !has_no_body(reply.status.as_u16(), false) {
        head.set_content_length(reply.body.len())?;
    }
    send(writer, request, ctx, head, reply.body.clone(), filtered).await
}

async fn send(
    writer: &mut ResponseWriter,
    request: &RequestHeader,
    ctx: &mut Ctx,
    head: ResponseHeader,
    body: Bytes,
    filtered: bool,
) -> pingora::Result<()> {
    // A body that is here already is dropped, so that the connection can go on.
    if let Some(start) = &ctx.start {
        start.client.drop_body_here().await;
    }
    let pacing = ctx.pacing.take();
    let plan = plan(request, ctx, pacing, filtered);
    let sent = writer.send(head, body, plan).await;
    sent.map_err(unfinished)
}

/// Begins an answer that came from an upstream: the route's response filters see it, and the hooks that request filters left,
/// and it is kept where it may be.
pub(super) fn begin(
    writer: &mut ResponseWriter,
    request: &RequestHeader,
    ctx: &mut Ctx,
    head: impl AnswerHead,
    size: BodySize,
) -> Result<(), InvalidHead> {
    let pacing = ctx.pacing.take();
    let hooks = std::mem::take(&mut ctx.answer_hooks);
    let mut plan = plan(request, ctx, pacing, true);
    plan.hooks = hooks;
    // One of which nobody can tell whether it is whole is not kept.
    let keeps = size != BodySize::UntilClose && policy::keeps(ctx, head.status());
    let host = keeps.then(|| decide::host(request).1);
    plan.keep = host
        .as_deref()
        .and_then(|host| fallback::keep_plan(request, host, ctx));
    writer.begin(head, size, plan)
}

/// What is done to the answer of this request.
fn plan<'a>(
    request: &'a RequestHeader,
    ctx: &'a Ctx,
    pacing: Option<Box<Pacing>>,
    filtered: bool,
) -> AnswerPlan<'a> {
    let route = ctx.route.as_ref().filter(|_| filtered);
    let filters = route.map_or(&[][..], |route| &route.response_filters);
    let looks = !filters.is_empty();
    AnswerPlan {
        ours: gateway_headers(ctx),
        last: ctx.state.draining(),
        pacing,
        cookie: filtered.then(|| affinity::cookie(ctx)).flatten(),
        filters,
        origin: looks.then(|| request.headers.get(header::ORIGIN)).flatten(),
        ..AnswerPlan::default()
    }
}

/// What every answer to a request carries, whoever made it.
fn gateway_headers(ctx: &Ctx) -> GatewayHeaders {
    let keep_alive = ctx.start.as_ref().map(|start| {
        let limits = &start.snapshot.config.server.client;
        limits.keepalive_timeout.as_secs().max(1)
    });
    GatewayHeaders {
        trace: Some(ctx.trace),
        quota: ctx.quota.clone(),
        fallback: ctx
            .policy
            .failover
            .as_ref()
            .map(|failover| failover.kind.as_str()),
        keep_alive,
    }
}
