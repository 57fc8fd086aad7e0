//! The answer on its way to the client.

use std::io;
use std::task::{Context, Poll};

use bytes::Buf;
use http::{HeaderMap, StatusCode, Version};
use pingora::Error;
use pingora::http::{RequestHeader, ResponseHeader};

use super::trailers;
use super::transport::{BodySize, Head};
use crate::gateway::client::ClientIo;
use crate::gateway::ctx::Ctx;
use crate::gateway::http1::answer::{AnswerHead, Delimited};
use crate::gateway::{fallback, reply};

/// The answer of one request.
pub(super) struct Answering<'c> {
    client: &'c ClientIo,
    delimited: Delimited,
}

impl<'c> Answering<'c> {
    /// An answer that did not begin.
    pub(super) fn to(client: &'c ClientIo) -> Self {
        Self {
            client,
            delimited: Delimited::Absent,
        }
    }

    /// Queues an informational head.
    pub(super) fn inform(&self, head: &Head<'_, '_>, version: Version) {
        self.client.inform(head, version);
    }

    /// Queues the head of the final answer; the client may `keep` it for bad times.
    pub(super) fn begin(
        &mut self,
        request: &RequestHeader,
        ctx: &mut Ctx,
        (head, size, keep): (&Head<'_, '_>, BodySize, bool),
    ) -> Result<(), Box<Error>> {
        if keep {
            fallback::begin_keeping(request, ctx, &head.to_header()?.headers);
        }
        reply::announce(ctx);
        self.delimited = match size {
            _ if head.status() == 101 => Delimited::Close,
            BodySize::Absent => Delimited::Absent,
            // gRPC takes the fields of a head for trailers only where the stream ends with it.
            BodySize::Ended if ctx.version == Version::HTTP_2 => Delimited::Absent,
            BodySize::Exactly(length) => Delimited::Length(length),
            BodySize::Ended | BodySize::Unknown => Delimited::with(None, ctx.version),
        };
        if reply::has_filters(ctx) {
            let mut head: ResponseHeader = head.to_header()?;
            reply::filter(request, ctx, &mut head);
            self.client.begin_answer(&head, self.delimited, ctx.version);
        } else {
            self.client.begin_answer(head, self.delimited, ctx.version);
        }
        ctx.relayed = StatusCode::from_u16(head.status()).ok();
        Ok(())
    }

    /// Whether nothing but the end of the connection tells the client where the answer's body ends.
    pub(super) fn ends_with_connection(&self) -> bool {
        self.delimited == Delimited::Close
    }

    /// Takes of the piece what the client takes now. More than was said, or a body where none belongs, is dropped.
    pub(super) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        ctx: &mut Ctx,
        piece: &mut impl Buf,
    ) -> Poll<io::Result<()>> {
        while piece.has_remaining() {
            let most = match self.delimited {
                Delimited::Absent | Delimited::Length(0) => {
                    piece.advance(piece.remaining());
                    break;
                }
                Delimited::Length(left) => usize::try_from(left).unwrap_or(usize::MAX),
                Delimited::Chunked | Delimited::Close => usize::MAX,
            };
            let most = most.min(piece.remaining());
            if let Some(keeping) = &mut ctx.policy.keeping {
                keeping.look(&piece.chunk()[..most]);
            }
            let mut sending = Buf::take(&mut *piece, most);
            let taken = std::task::ready!(self.client.poll_send(cx, &mut sending))?;
            if let Some(keeping) = &mut ctx.policy.keeping {
                keeping.sent(taken);
            }
            if let Delimited::Length(left) = &mut self.delimited {
                *left -= taken as u64;
            }
            ctx.bytes_out += taken as u64;
        }
        Poll::Ready(Ok(()))
    }

    /// Sends what is queued.
    pub(super) fn poll_flush(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.client.poll_flush(cx)
    }

    /// Queues the end of the answer.
    pub(super) fn end(&self, ctx: &mut Ctx, trailers: Option<HeaderMap>) {
        let trailers = trailers.and_then(|trailers| trailers::checked(trailers, |_| false));
        fallback::keep(ctx);
        self.client.end_answer(trailers);
    }

    /// Sends what is queued, the last of a whole answer.
    pub(super) fn poll_finish(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.client.poll_flush_last(cx)
    }
}
