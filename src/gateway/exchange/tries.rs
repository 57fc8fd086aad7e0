//! The one loop over the tries of a request.

use std::sync::Arc;
use std::time::Instant;

use pingora::http::RequestHeader;
use pingora::{Error, ErrorSource};

use super::choose::choose;
use super::outcome::{self, Broken};
use super::race::Race;
use super::stages::{Exchange, Failed};
use super::transport::{Dial, Transport};
use super::upload::Upload;
use crate::gateway::answer::ResponseWriter;
use crate::gateway::client::ClientIo;
use crate::gateway::ctx::{Ctx, Lane};
use crate::gateway::http1::head::Framing;
use crate::gateway::outgoing_head::Destination;
use crate::gateway::session::read_error;
use crate::gateway::timers::Fault;
use crate::gateway::{failure, reply};
use crate::observe::stats::RetryCause;
use crate::upstream::{Endpoint, Pool};

/// Forwards the request and answers the client. An error is for the client, see [`failure::refusal`].
pub(in crate::gateway) async fn forward(
    request: &RequestHeader,
    ctx: &mut Ctx,
    lane: &Arc<Lane>,
    writer: &mut ResponseWriter,
) -> Result<(), Box<Error>> {
    let Some(start) = &ctx.start else {
        return Err(failure::refused(ctx, reply::internal()));
    };
    let client = Arc::clone(&start.client);
    let mut upload = Upload::new(start.head.framing != Framing::None);
    loop {
        let endpoint = choose(ctx).await?;
        let Some(pool) = ctx.forward.pool.clone() else {
            return Err(failure::refused(ctx, reply::internal()));
        };
        let transport = match open((&pool, &endpoint), &client, ctx, lane).await? {
            Ok(transport) => transport,
            Err(error) => {
                let cause = failure::cause(&error).unwrap_or(RetryCause::Connect);
                if !failure::out_of_descriptors(&error) && outcome::connect_failed(ctx, cause) {
                    continue;
                }
                return Err(error);
            }
        };
        let parts = (&pool, &endpoint, transport);
        let answer = (&*client, &mut *writer);
        match exchange(request, ctx, answer, lane, parts, &mut upload).await {
            Ok(()) => return Ok(()),
            Err(Ended::Whole(error)) => return Err(error),
            Err(Ended::Again(error)) => {
                let traffic = ctx.forward.attempts.traffic();
                let (sent, received) = (traffic.sent, traffic.received);
                log::debug!(trace_id = ctx.trace.as_str(), sent = sent, received = received; "tried again: {error}");
            }
        }
    }
}

/// How a try ended that brought no whole answer.
enum Ended {
    /// The request ends with it.
    Whole(Box<Error>),
    /// Another is made.
    Again(Box<Error>),
}

/// A connection that was kept, or a new one. The outer error is the client's, who left meanwhile.
async fn open(
    (pool, endpoint): (&Arc<Pool>, &Arc<Endpoint>),
    client: &ClientIo,
    ctx: &mut Ctx,
    lane: &Arc<Lane>,
) -> Result<Result<Transport, Box<Error>>, Box<Error>> {
    let sent = ctx.forward.attempts.sent().unwrap_or_else(Instant::now);
    // Connections grow old together: after one that was found closed only a new one tells what the endpoint is like.
    if !ctx.forward.stale
        && let Some(kept) = Transport::kept(lane, pool, &endpoint.address, sent)
    {
        return Ok(Ok(kept));
    }
    let opening = Transport::open(Dial {
        state: Arc::clone(&ctx.state),
        lane: Arc::clone(lane),
        pool: Arc::clone(pool),
        endpoint: Arc::clone(endpoint),
        left: outcome::left(ctx, Instant::now()),
    });
    let opened = client.unless_gone(opening).await;
    let opened = opened.map_err(|gone| read_error(&gone))?;
    if opened.as_ref().is_ok_and(|transport| !transport.reused()) {
        outcome::connected(ctx);
    }
    Ok(opened)
}

/// One try over what is open.
async fn exchange(
    request: &RequestHeader,
    ctx: &mut Ctx,
    (client, writer): (&ClientIo, &mut ResponseWriter),
    lane: &Arc<Lane>,
    (pool, endpoint, mut transport): (&Arc<Pool>, &Arc<Endpoint>, Transport),
    upload: &mut Upload,
) -> Result<(), Ended> {
    let to = Destination {
        pool,
        endpoint,
        sent: ctx.forward.attempts.sent(),
        number: ctx.forward.attempts.count(),
    };
    let ends = upload.begin(ctx, pool.settings().timeout.write, outcome::may_repeat(ctx));
    let begun = transport.begin(request, ctx, (&to, ends));
    let (outcome, transport) = match begun {
        Ok(()) => {
            let race = Race::of(ctx, lane);
            let mut exchange =
                Exchange::new(request, ctx, (client, writer), (transport, upload), race);
            let outcome = std::future::poll_fn(|cx| exchange.poll(cx)).await;
            if outcome.is_ok() && exchange.is_tunnel() {
                // Boxed: few become one, and it would be a part of every request.
                Box::pin(exchange.part()).await;
                return Ok(());
            }
            (outcome, exchange.into_transport())
        }
        // It has no form in the endpoint's protocol, and would have none in another try.
        Err(error) if *error.esource() != ErrorSource::Upstream => return Err(Ended::Whole(error)),
        Err(error) => {
            let began = false;
            (Err(Failed { error, began }), transport)
        }
    };
    ctx.forward.attempts.count_current(transport.traffic());
    let Failed { error, began } = match outcome {
        Ok(()) => {
            let now = Instant::now();
            ctx.ended = Some(now);
            // Another endpoint may have answered first.
            if let Some(current) = ctx.forward.current.as_ref().filter(|_| upload.is_sent()) {
                transport.reuse(lane, (pool, &current.address), now);
            }
            return Ok(());
        }
        Err(failed) => failed,
    };
    let broken = Broken {
        cause: failure::cause(&error),
        downstream: *error.esource() == ErrorSource::Downstream,
        replayable: !began && upload.replayable(),
        refused: transport.is_refused(),
        stale: transport.is_stale(),
    };
    if broken.stale {
        lane.kept.forget(pool, &endpoint.address);
    }
    if client.fault() == Some(Fault::Silence) {
        transport.retire();
    }
    drop(transport);
    writer.abort().await;
    match outcome::try_failed(ctx, &broken) {
        true => Err(Ended::Again(error)),
        false => Err(Ended::Whole(error)),
    }
}
