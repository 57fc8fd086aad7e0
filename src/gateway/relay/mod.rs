//! The short way: from the client to HTTP/1 of the upstream, without the framework in between.
//!
//! The framework would carry each request through two tasks and two channels, clone its head, and watch every kept
//! connection with a task of its own; that costs as much as all the rest, and it reads answers less strictly. So whatever
//! goes to an upstream of HTTP/1 is forwarded here: over TCP, Unix sockets and TLS, WebSockets too. Every answer is judged
//! by [`answer`]. All ways ask [`forward`] which endpoint is next and whether a failure is tried again.

mod answer;
mod exchange;
pub(super) mod kept;
mod origin;
mod rival;
mod tunnel;
mod upload;
mod websocket;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Instant;

use http::Version;
use pingora::Error;
use pingora::http::RequestHeader;

use self::exchange::{Exchange, Failed};
use self::origin::Origin;
use super::ctx::Ctx;
use super::forward::{self, Broken, Way};
use super::lane::Lane;
use super::session::read_error;
use super::{failure, reply};
use crate::observe::stats::RetryCause;
use crate::upstream::{Endpoint, Pool};

/// A connection that is being opened.
type Opening = Pin<Box<dyn Future<Output = Result<Origin, Box<Error>>> + Send>>;

/// Whether this request can take the short way.
pub(super) fn can(ctx: &Ctx) -> bool {
    let Some(pool) = &ctx.forward.pool else {
        return false;
    };
    can_to(pool, ctx)
}

/// The same for another upstream.
pub(super) fn can_to(pool: &Pool, ctx: &Ctx) -> bool {
    pool.is_relayed() && ctx.start.is_some()
}

/// Forwards the request and answers the client. An error is for the client, see [`failure::refusal`].
pub(super) async fn forward(
    request: &RequestHeader,
    ctx: &mut Ctx,
    lane: &Lane,
) -> Result<(), Box<Error>> {
    let Some(start) = &ctx.start else {
        return Err(forward::refused(ctx, reply::internal()));
    };
    let client = Arc::clone(&start.client);
    let mut upload = upload::Upload::new(start.head.framing);
    let error = loop {
        let endpoint = match forward::choose(ctx).await {
            Ok(endpoint) => endpoint,
            Err(error) => break error,
        };
        let Some(pool) = ctx.forward.pool.clone() else {
            return Err(forward::refused(ctx, reply::internal()));
        };
        let address = &endpoint.address;
        let keeping = lane.kept.keeping(&pool);
        // Connections grow old together: after one that was found closed only a new one tells what the endpoint is like.
        let sent = ctx.forward.sent.unwrap_or_else(Instant::now);
        let kept = keeping
            .as_ref()
            .filter(|_| !ctx.forward.stale)
            .and_then(|keeping| lane.kept.take(keeping, address, sent));
        let origin = match kept {
            Some(socket) => Ok(Origin::kept(socket)),
            None => {
                let opening = async {
                    match secure(&endpoint, &pool, ctx) {
                        Some(opening) => opening.await,
                        None => Origin::connect(address, forward::connect_within(ctx, &pool)).await,
                    }
                };
                let opened = client.unless_gone(opening).await;
                opened.map_err(|gone| read_error(&gone))?
            }
        };
        let origin = match origin {
            Ok(origin) => origin,
            Err(error) => {
                let cause = failure::cause(&error).unwrap_or(RetryCause::Connect);
                if !failure::out_of_descriptors(&error)
                    && forward::connect_failed(ctx, cause)
                    && can(ctx)
                {
                    continue;
                }
                break error;
            }
        };
        forward::connected(ctx, origin.reused());
        upload.begin(request, ctx);
        let mut exchange = Exchange::new(request, ctx, &client, origin, &mut upload, lane);
        let outcome = std::future::poll_fn(|cx| exchange.poll(cx)).await;
        match outcome {
            Ok(()) => {
                if exchange.is_tunnel() {
                    // Boxed: few become one, and it would be a part of every request.
                    Box::pin(exchange.part()).await;
                    return Ok(());
                }
                if let Some((keeping, socket)) = keeping.zip(exchange.reusable()) {
                    // Another endpoint may have answered first.
                    let now = Instant::now();
                    ctx.ended = Some(now);
                    if let Some(current) = &ctx.forward.current {
                        lane.kept.put(&keeping, &current.address, socket, now);
                    }
                }
                return Ok(());
            }
            Err(Failed {
                error,
                began,
                until_close,
                stale,
            }) => {
                drop(exchange);
                if began {
                    // What came of the answer belongs to the client; that it is not all must show.
                    let _ = client.flush().await;
                    if until_close || ctx.version == Version::HTTP_2 {
                        client.break_off();
                    }
                }
                let broken = Broken {
                    cause: failure::cause(&error),
                    downstream: *error.esource() == pingora::ErrorSource::Downstream,
                    replayable: !began && upload.replayable(),
                    refused: false,
                    stale,
                };
                if let Some(keeping) = keeping.filter(|_| stale) {
                    lane.kept.forget(&keeping, address);
                }
                if !forward::try_failed(ctx, &broken) || !can(ctx) {
                    break error;
                }
                log::debug!(trace_id = ctx.trace.as_str(); "tried again: {error}");
            }
        }
    };
    if forward::goes_on(ctx, Way::Relay) {
        upload.give_back(&client);
    }
    Err(error)
}

/// Opens a connection over TLS, where the upstream is reached so. Boxed: a handshake is large, and would be a part of every
/// request otherwise.
fn secure(endpoint: &Endpoint, pool: &Pool, ctx: &Ctx) -> Option<Opening> {
    pool.settings().tls.as_ref()?;
    let peer = forward::peer(endpoint, ctx)?;
    let (state, lane) = (Arc::clone(&ctx.state), ctx.lane());
    Some(Box::pin(async move {
        let connector = state.connections.upstreams(lane);
        Origin::connect_secure(connector.transport(), &peer).await
    }))
}
