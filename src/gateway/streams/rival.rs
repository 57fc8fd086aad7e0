//! A further try over HTTP/2, in a stream of its own.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use pingora::http::RequestHeader;
use pingora::{Error, ErrorType};

use super::stream::{self, Heads, Stream};
use super::upload::{Stopped, Upload};
use crate::gateway::client::ClientIo;
use crate::gateway::contest::Contender;
use crate::gateway::ctx::Ctx;
use crate::gateway::hedge::Attempt;
use crate::gateway::lane::Lane;
use crate::gateway::{forward, judge};

/// A further try under way.
pub(super) struct Rival {
    upload: Upload,
    way: Way,
    informational: u32,
}

/// Informational answers of a further try; they are dropped.
const MOST_INFORMATIONAL: u32 = 100;

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
        lane: &Arc<Lane>,
    ) -> Option<Self> {
        let peer = forward::peer(contender.endpoint(), ctx)?;
        let head = stream::head(request, ctx).ok()?;
        let own = (Arc::clone(&ctx.state), Arc::clone(lane));
        let opening = Stream::open(own, contender.endpoint().address.clone(), peer);
        Some(Self {
            upload: upload.again()?,
            way: Way::Opening(Box::pin(opening), Some(head)),
            informational: 0,
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
        while let Heads::Informational(_) = std::task::ready!(stream.poll_head(cx))? {
            self.informational += 1;
            if self.informational > MOST_INFORMATIONAL {
                return Poll::Ready(Err(forward::invalid("too many informational answers")));
            }
        }
        let Some(head) = stream.head_mut() else {
            return Poll::Ready(Err(forward::invalid("no answer")));
        };
        judge::check(head, ctx)?;
        Poll::Ready(Ok(head.status.as_u16()))
    }

    fn is_stale(&self) -> bool {
        matches!(&self.way, Way::Open(stream) if stream.is_stale())
    }
}
