//! One try: the request goes out and the answer comes back, both at the same time.

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::{Buf, Bytes};
use http::{Method, StatusCode, Version};
use pingora::Error;
use pingora::http::{RequestHeader, ResponseHeader};

use super::rival::Rival;
use super::stream::{Heads, Stream};
use super::upload::{Stopped, Upload};
use crate::gateway::client::ClientIo;
use crate::gateway::ctx::Ctx;
use crate::gateway::hedge::{self, Hedge};
use crate::gateway::http1::answer::Delimited;
use crate::gateway::lane::Lane;
use crate::gateway::session::{read_error, write_error};
use crate::gateway::{fallback, forward, judge, policy, reply};

/// A request being sent to an endpoint, and its answer.
pub(super) struct Exchange<'e> {
    request: &'e RequestHeader,
    ctx: &'e mut Ctx,
    client: &'e ClientIo,
    stream: Stream,
    upload: &'e mut Upload,
    stage: Stage,
    /// A piece of the answer's body on its way to the client.
    piece: Bytes,
    /// Further tries, while the head is awaited.
    hedge: Option<Box<Hedge<Rival>>>,
    /// One of them is under way.
    contested: bool,
    /// The rival that won had its head.
    answered: bool,
    /// An informational answer is queued.
    informed: bool,
    lane: &'e Arc<Lane>,
}

#[derive(Clone, Copy, Debug)]
enum Stage {
    /// The head of the answer is awaited.
    Head,
    /// Its body comes, and is delimited for the client so.
    Body(Delimited),
    /// What follows the body.
    Trailers,
    /// All of it is queued.
    Flush,
    /// It was delivered.
    Done,
}

/// A try that failed.
pub(super) struct Failed {
    pub(super) error: Box<Error>,
    /// The answer had begun.
    pub(super) began: bool,
    /// Nothing but the end of the connection tells the client where the answer's body ends.
    pub(super) until_close: bool,
    /// Its connection was gone before the endpoint began with the request.
    pub(super) stale: bool,
    /// The endpoint said that it did nothing of the request.
    pub(super) refused: bool,
}

impl<'e> Exchange<'e> {
    /// An exchange over `stream`, in which the head was sent.
    pub(super) fn new(
        request: &'e RequestHeader,
        ctx: &'e mut Ctx,
        client: &'e ClientIo,
        stream: Stream,
        upload: &'e mut Upload,
        lane: &'e Arc<Lane>,
    ) -> Self {
        let hedge = Hedge::of(ctx);
        Self {
            request,
            ctx,
            client,
            stream,
            upload,
            stage: Stage::Head,
            piece: Bytes::new(),
            hedge,
            contested: false,
            answered: false,
            informed: false,
            lane,
        }
    }

    /// Goes on as far as it can without waiting.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Failed>> {
        let outcome = match self.hedge.take() {
            None => self.poll_stages(cx),
            Some(hedge) => self.poll_hedged(cx, hedge),
        };
        outcome.map_err(|error| Failed {
            began: !matches!(self.stage, Stage::Head),
            until_close: matches!(self.stage, Stage::Body(Delimited::Close)),
            stale: self.stream.is_stale(),
            refused: self.stream.is_refused(),
            error,
        })
    }

    /// The same while further tries may begin or are under way. The first answer ends that.
    fn poll_hedged(
        &mut self,
        cx: &mut Context<'_>,
        mut hedge: Box<Hedge<Rival>>,
    ) -> Poll<Result<(), Box<Error>>> {
        if hedge.failed.is_none() {
            self.contested = hedge.is_on();
            match self.poll_stages(cx) {
                Poll::Pending if self.awaits_head() => {}
                Poll::Ready(Err(error))
                    if self.awaits_head()
                        && hedge.is_on()
                        && hedge::may_go_on(&error, self.client, self.ctx) =>
                {
                    hedge.failed = Some(error);
                }
                outcome => return outcome,
            }
        } else if let Poll::Ready(gone) = self.poll_client::<()>(cx) {
            self.ctx.forward.retry = false;
            return Poll::Ready(gone);
        }
        if self.upload.sent() {
            let (upload, request, lane) = (&*self.upload, self.request, self.lane);
            hedge.poll_begin(cx, self.ctx, upload.repeatable(), |contender, ctx| {
                Rival::begin(contender, upload, request, ctx, lane)
            });
        }
        if let Some(winner) = hedge.poll_rivals(cx, self.client, self.ctx) {
            let Some(won) = hedge.won(winner, self.ctx).open() else {
                return Poll::Ready(Err(forward::unsendable()));
            };
            (self.stream, *self.upload) = won;
            (self.contested, self.answered) = (false, true);
            return self.poll_stages(cx);
        }
        match hedge.failed.take() {
            Some(error) if !hedge.is_on() => Poll::Ready(Err(error)),
            failed => {
                hedge.failed = failed;
                self.hedge = Some(hedge);
                Poll::Pending
            }
        }
    }

    fn awaits_head(&self) -> bool {
        matches!(self.stage, Stage::Head)
    }

    fn poll_stages(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Box<Error>>> {
        self.poll_upload(cx)?;
        loop {
            let next = match self.stage {
                Stage::Head => self.poll_head(cx),
                Stage::Body(delimited) => self.poll_body(cx, delimited),
                Stage::Trailers => self.poll_trailers(cx),
                Stage::Flush => self.poll_end(cx),
                Stage::Done => return Poll::Ready(Ok(())),
            };
            self.stage = std::task::ready!(next)?;
        }
    }

    /// Sends the request on. That the endpoint takes no more of it does not end the exchange: it may have answered.
    fn poll_upload(&mut self, cx: &mut Context<'_>) -> Result<(), Box<Error>> {
        if self.upload.sent() {
            return Ok(());
        }
        let sent = self
            .upload
            .poll(cx, &mut self.stream, self.client, self.ctx);
        if self.awaits_head() {
            self.informed |= self.upload.asking.poll(cx, self.client);
        }
        match sent {
            Poll::Ready(Err(Stopped::Origin)) => {
                self.upload.abandon();
                Ok(())
            }
            Poll::Ready(Err(Stopped::Client(error))) => Err(read_error(&error)),
            Poll::Ready(Ok(())) | Poll::Pending => Ok(()),
        }
    }

    fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<Stage, Box<Error>>> {
        while !self.answered {
            // No further head is looked at before the client took those it was sent.
            if self.informed {
                std::task::ready!(self.client.poll_flush(cx))
                    .map_err(|error| write_error(&error))?;
                self.informed = false;
            }
            match self.stream.poll_head(cx) {
                Poll::Ready(Ok(Heads::Informational(head))) => self.inform(head)?,
                Poll::Ready(Ok(Heads::Final)) => self.answered = true,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return self.poll_client(cx),
            }
        }
        Poll::Ready(self.take_head())
    }

    /// Passes on an informational head.
    fn inform(&mut self, mut head: Box<ResponseHeader>) -> Result<(), Box<Error>> {
        if head.status == StatusCode::SWITCHING_PROTOCOLS {
            return Err(forward::invalid("an upgrade that nobody asked for"));
        }
        forward::informed(self.ctx)?;
        judge::check(&mut head, self.ctx)?;
        judge::strip(&mut head);
        if head.status != StatusCode::CONTINUE || self.upload.asking.hear() {
            self.client.inform(&*head, self.ctx.version);
            self.informed = true;
        }
        Ok(())
    }

    fn take_head(&mut self) -> Result<Stage, Box<Error>> {
        let Some(head) = self.stream.head() else {
            return Err(forward::invalid("no answer"));
        };
        let (mut head, ctx) = (head.clone(), &mut *self.ctx);
        let status = head.status.as_u16();
        judge::look_at(&mut head, ctx)?;
        if self.contested && forward::is_tried_again(ctx, status) {
            return Err(forward::passed_over(ctx, status));
        }
        forward::answered(self.request, ctx, status, self.upload.replayable())?;
        judge::strip(&mut head);
        if policy::keeps(ctx, status) {
            fallback::begin_keeping(self.request, ctx, &head.headers);
        }
        reply::announce(ctx);
        if reply::has_filters(ctx) {
            reply::filter(self.request, ctx, &mut head);
        }
        let head_only = self.request.method == Method::HEAD;
        let delimited = if self.stream.ended() && ctx.version == Version::HTTP_2 {
            // gRPC takes the fields of a head for trailers only where the stream ends with it.
            Delimited::Absent
        } else {
            Delimited::of(&head, ctx.version, head_only)
        };
        self.client.begin_answer(&head, delimited, ctx.version);
        ctx.relayed = Some(head.status);
        Ok(Stage::Body(delimited))
    }

    fn poll_body(
        &mut self,
        cx: &mut Context<'_>,
        mut delimited: Delimited,
    ) -> Poll<Result<Stage, Box<Error>>> {
        loop {
            while !self.piece.is_empty() {
                let taken = std::task::ready!(self.client.poll_send(cx, &mut self.piece));
                self.ctx.bytes_out += taken.map_err(|error| write_error(&error))? as u64;
            }
            let piece = match self.stream.poll_piece(cx) {
                Poll::Ready(Ok(Some(piece))) => piece,
                Poll::Ready(Ok(None)) => return Poll::Ready(Ok(Stage::Trailers)),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return self.poll_client(cx),
            };
            self.client.heard(Instant::now());
            let mut piece = piece;
            match &mut delimited {
                // More than was said, or a body where none belongs, is dropped.
                Delimited::Absent => piece.clear(),
                Delimited::Length(left) => {
                    piece.truncate(usize::try_from(*left).unwrap_or(usize::MAX));
                    *left -= piece.remaining() as u64;
                }
                Delimited::Chunked | Delimited::Close => {}
            }
            self.stage = Stage::Body(delimited);
            if let Some(keeping) = &mut self.ctx.policy.keeping {
                keeping.add(&piece);
            }
            self.piece = piece;
        }
    }

    fn poll_trailers(&mut self, cx: &mut Context<'_>) -> Poll<Result<Stage, Box<Error>>> {
        let mut trailers = match self.stream.poll_trailers(cx) {
            Poll::Ready(trailers) => trailers?,
            Poll::Pending => return self.poll_client(cx),
        };
        if let Some(trailers) = &mut trailers {
            judge::strip_trailers(trailers);
        }
        fallback::keep(self.ctx);
        self.client.end_answer(trailers);
        Poll::Ready(Ok(Stage::Flush))
    }

    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<Result<Stage, Box<Error>>> {
        let flushed = std::task::ready!(self.client.poll_flush_last(cx));
        Poll::Ready(match flushed {
            Ok(()) => Ok(Stage::Done),
            Err(error) => Err(write_error(&error)),
        })
    }

    /// The endpoint has nothing more at the moment: what is queued goes to the client, and it is watched whether it
    /// leaves.
    fn poll_client<T>(&mut self, cx: &mut Context<'_>) -> Poll<Result<T, Box<Error>>> {
        std::task::ready!(self.client.poll_flush(cx)).map_err(|error| write_error(&error))?;
        // While its body is read, or the endpoint takes nothing, the upload is waited for.
        if self.upload.sent() {
            let gone = std::task::ready!(self.client.poll_idle(cx));
            return Poll::Ready(Err(read_error(&gone)));
        }
        Poll::Pending
    }
}
