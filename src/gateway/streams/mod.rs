//! The way to HTTP/2 of the upstream.
//!
//! Each try is a stream. Given up it is reset, and its connection goes on with the others.

pub(super) mod connections;
mod exchange;
mod rival;
mod stream;
mod upload;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use http::Version;
use pingora::http::RequestHeader;
use pingora::{Error, ErrorSource};

use self::exchange::{Exchange, Failed};
use self::stream::Stream;
use self::upload::Upload;
use super::ctx::Ctx;
use super::forward::{self, Broken, Way};
use super::http1::head::Framing;
use super::lane::Lane;
use super::session::read_error;
use super::timers::Fault;
use super::{failure, reply};
use crate::observe::stats::RetryCause;

/// Whether this request takes this way.
pub(super) fn can(ctx: &Ctx) -> bool {
    let streamed = ctx.forward.pool.as_ref();
    streamed.is_some_and(|pool| pool.is_streamed()) && ctx.start.is_some()
}

/// Forwards the request and answers the client. An error is for the client, see [`failure::refusal`].
pub(super) async fn forward(
    request: &RequestHeader,
    ctx: &mut Ctx,
    lane: &Arc<Lane>,
) -> Result<(), Box<Error>> {
    let Some(start) = &ctx.start else {
        return Err(forward::refused(ctx, reply::internal()));
    };
    let client = Arc::clone(&start.client);
    let mut upload = Upload::new(start.head.framing != Framing::None);
    let error = loop {
        let endpoint = match forward::choose(ctx).await {
            Ok(endpoint) => endpoint,
            Err(error) => break error,
        };
        let Some(peer) = forward::peer(&endpoint, ctx) else {
            return Err(forward::refused(ctx, reply::internal()));
        };
        let own = (Arc::clone(&ctx.state), Arc::clone(lane));
        let opening = Stream::open(own, endpoint.address.clone(), peer);
        let opened = client.unless_gone(opening).await;
        let mut stream = match opened.map_err(|gone| read_error(&gone))? {
            Ok(stream) => stream,
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
        forward::connected(ctx, stream.reused());
        let head = stream::head(request, ctx)?;
        let ends = upload.begin(ctx);
        let closed = stream.closed();
        let begun = stream.begin(head, ends);
        let stale = stream.is_stale();
        let outcome = match begun {
            Ok(()) => {
                let mut exchange = Exchange::new(request, ctx, &client, stream, &mut upload, lane);
                std::future::poll_fn(|cx| exchange.poll(cx)).await
            }
            Err(error) => Err(Failed {
                error,
                began: false,
                until_close: false,
                stale,
                refused: true,
            }),
        };
        let Err(failed) = outcome else {
            return Ok(());
        };
        let Failed {
            error,
            began,
            until_close,
            stale,
            refused,
        } = failed;
        if began {
            // What came of the answer belongs to the client; that it is not all must show.
            let _ = client.flush().await;
            if until_close || ctx.version == Version::HTTP_2 {
                client.break_off();
            }
        }
        let broken = Broken {
            cause: failure::cause(&error),
            downstream: *error.esource() == ErrorSource::Downstream,
            replayable: !began && upload.replayable(),
            refused,
            stale,
        };
        if client.fault() == Some(Fault::Silence) {
            // It may be the connection that is dead. Streams under way go on, and others are not put beside them.
            closed.store(true, Ordering::Relaxed);
        }
        if !forward::try_failed(ctx, &broken) || !can(ctx) {
            break error;
        }
        log::debug!(trace_id = ctx.trace.as_str(); "tried again: {error}");
    };
    if forward::goes_on(ctx, Way::Streams) {
        upload.give_back(&client);
    }
    Err(error)
}
