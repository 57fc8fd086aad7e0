//! A further try over HTTP/2, in a stream of its own.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use pingora::http::RequestHeader;
use pingora::{Error, ErrorType};

use super::stream::{self, Stream};
use super::upload::{Stopped, Upload};
use crate::gateway::client::ClientIo;
use crate::gateway::contest::Contender;
use crate::gateway::ctx::Ctx;
use crate::gateway::forward;
use crate::gateway::hedge::Attempt;

/// A further try under way.
pub(super) struct Rival {
    upload: Upload,
    way: Way,
}

enum Way {
    Opening(
        Pin<Box<dyn Future<Output = Result<Stream, Box<Error>>> + Send>>,
        Option<Box<RequestHeader>>,
    ),
    Open(Box<Stream>),
}

impl Rival {
    /// Begins one with what was sent of a request.
    pub(super) fn begin(
        contender: &Contender,
        upload: &Upload,
        request: &RequestHeader,
        ctx: &Ctx,
    ) -> Option<Self> {
        let peer = forward::peer(contender.endpoint(), ctx)?;
        let head = stream::head(request, ctx).ok()?;
        let opening = Stream::open((Arc::clone(&ctx.state), ctx.lane()), peer);
        Some(Self {
            upload: upload.again()?,
            way: Way::Opening(Box::pin(opening), Some(head)),
        })
    }

    /// Its stream, if it stands, and what it sent.
    pub(super) fn open(self) -> Option<(Stream, Upload)> {
        match self.way {
            Way::Open(stream) => Some((*stream, self.upload)),
            Way::Opening(..) => None,
        }
    }
}

impl Attempt for Rival {
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        client: &ClientIo,
        ctx: &mut Ctx,
        sent: &mut Instant,
    ) -> Poll<Result<u16, Box<Error>>> {
        if let Way::Opening(opening, head) = &mut self.way {
            let mut stream = std::task::ready!(opening.as_mut().poll(cx))?;
            *sent = Instant::now();
            let ends = self.upload.begin(ctx);
            let begun = head.take().map(|head| stream.begin(head, ends));
            self.way = Way::Open(Box::new(stream));
            begun.unwrap_or(Ok(()))?;
        }
        let Way::Open(stream) = &mut self.way else {
            return Poll::Pending;
        };
        if !self.upload.sent() {
            match self.upload.poll(cx, stream, client, ctx) {
                Poll::Ready(Err(Stopped::Origin)) => self.upload.abandon(),
                // All of the body is here, so it is the endpoint that takes nothing.
                Poll::Ready(Err(Stopped::Client(error))) => {
                    client.forgive_silence();
                    let why = "sending to the upstream";
                    let error = Error::because(ErrorType::WriteTimedout, why, error);
                    return Poll::Ready(Err(error.into_up()));
                }
                Poll::Ready(Ok(())) | Poll::Pending => {}
            }
        }
        std::task::ready!(stream.poll_head(cx))?;
        let status = stream.head().map(|head| head.status.as_u16());
        Poll::Ready(
            status
                .ok_or_else(|| Error::explain(ErrorType::InvalidHTTPHeader, "no answer").into_up()),
        )
    }

    fn is_stale(&self) -> bool {
        matches!(&self.way, Way::Open(stream) if stream.is_stale())
    }
}
