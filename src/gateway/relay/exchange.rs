//! One try: the request goes out and the answer comes back, both at the same time.

use std::io;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Buf;
use http::Method;
use pingora::http::RequestHeader;
use pingora::{Error, ErrorType};

use super::answer::{self, Answer};
use super::origin::{Origin, Socket};
use super::rival::Rival;
use super::tunnel::Tunnel;
use super::upload::{Stopped, Upload};
use crate::gateway::answer::ResponseWriter;
use crate::gateway::client::ClientIo;
use crate::gateway::ctx::{Ctx, Lane};
use crate::gateway::hedge::{self, Hedge};
use crate::gateway::http1::body::BodyGuard;
use crate::gateway::message::{AnswerHead, InvalidHead};
use crate::gateway::session::{read_error, unfinished, write_error};
use crate::gateway::{forward, hop_by_hop, reply};
use crate::observe::TunnelEnd;

/// A request being sent to an endpoint, and its answer.
pub(super) struct Exchange<'e> {
    request: &'e RequestHeader,
    ctx: &'e mut Ctx,
    client: &'e ClientIo,
    writer: &'e mut ResponseWriter,
    origin: Origin,
    upload: &'e mut Upload,
    stage: Stage,
    /// The endpoint will take another request.
    persistent: bool,
    /// Sending to the endpoint failed so.
    unsent: Option<io::Error>,
    /// The endpoint closed the connection.
    closed: bool,
    /// An informational answer is queued.
    informed: bool,
    /// Further tries, while the head is awaited.
    hedge: Option<Box<Hedge<Rival>>>,
    lane: &'e Lane,
    /// One of them is under way.
    contested: bool,
    /// What the connections became, when they were upgraded.
    tunnel: Option<Box<Tunnel>>,
    tunnel_end: Option<TunnelEnd>,
}

#[derive(Clone, Copy, Debug)]
enum Stage {
    /// The head of the answer is awaited.
    Head,
    /// Its body comes, of which so much is left.
    Body(BodyGuard),
    /// All of it is queued.
    Flush,
    /// There is no HTTP any more.
    Tunnel,
    /// It was delivered.
    Done,
}

/// What a head turned out to be.
enum Heads {
    /// More of it has to come.
    Partial,
    /// Another will follow.
    Informational,
    Final(Stage),
}

/// A try that failed.
pub(super) struct Failed {
    pub(super) error: Box<Error>,
    /// The answer had begun.
    pub(super) began: bool,
    /// The connection had been kept from before and was closed without a word.
    pub(super) stale: bool,
}

impl<'e> Exchange<'e> {
    /// An exchange over `origin`; `upload` has begun.
    pub(super) fn new(
        request: &'e RequestHeader,
        ctx: &'e mut Ctx,
        (client, writer): (&'e ClientIo, &'e mut ResponseWriter),
        origin: Origin,
        upload: &'e mut Upload,
        lane: &'e Lane,
    ) -> Self {
        let start = ctx.start.as_ref();
        // What becomes a tunnel becomes one with one endpoint.
        let upgrade =
            start.is_some_and(|start| hop_by_hop::asks_for_websocket(request, &start.head));
        let hedge = if upgrade { None } else { Hedge::of(ctx) };
        Self {
            request,
            ctx,
            client,
            writer,
            origin,
            upload,
            stage: Stage::Head,
            persistent: false,
            unsent: None,
            closed: false,
            informed: false,
            hedge,
            lane,
            contested: false,
            tunnel: None,
            tunnel_end: None,
        }
    }

    /// The connection, if it can serve another request.
    pub(super) fn reusable(self) -> Option<Socket> {
        let clean = self.persistent && self.unsent.is_none() && self.upload.sent();
        clean.then(|| self.origin.into_socket()).flatten()
    }

    /// Says that the tunnel is over to whoever is still there, if it became one.
    pub(super) async fn part(&mut self) {
        if let Some((tunnel, end)) = self.tunnel.take().zip(self.tunnel_end) {
            let answer = (self.client, &mut *self.writer);
            tunnel.part(end, &mut self.origin, answer, self.ctx).await;
        }
    }

    /// Whether it became a tunnel.
    pub(super) fn is_tunnel(&self) -> bool {
        self.tunnel.is_some()
    }

    /// Goes on as far as it can without waiting.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Failed>> {
        let outcome = match self.hedge.take() {
            None => self.poll_stages(cx),
            Some(hedge) => self.poll_hedged(cx, hedge),
        };
        outcome.map_err(|error| Failed {
            began: !matches!(self.stage, Stage::Head),
            stale: self.closed && self.origin.stale(),
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
            let outcome = self.poll_stages(cx);
            match outcome {
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
        if self.unsent.is_none() && self.upload.sent() {
            let (upload, request, lane) = (&*self.upload, self.request, self.lane);
            hedge.poll_begin(cx, self.ctx, upload.repeatable(), |contender, ctx| {
                Rival::begin(contender, upload, request, ctx, lane)
            });
        }
        if let Some(winner) = hedge.poll_rivals(cx, self.client, self.ctx) {
            let Some(won) = hedge.won(winner, self.ctx).open() else {
                return Poll::Ready(Err(self.broken_off()));
            };
            (self.origin, *self.upload) = won;
            (self.closed, self.unsent, self.contested) = (false, None, false);
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
                Stage::Body(guard) => self.poll_body(cx, guard),
                Stage::Flush => self.poll_end(cx),
                Stage::Tunnel => self.poll_tunnel(cx),
                Stage::Done => return Poll::Ready(Ok(())),
            };
            match next {
                Poll::Ready(next) => self.stage = next?,
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    /// Sends the request on. That the endpoint takes no more of it does not end the exchange: it may have answered.
    fn poll_upload(&mut self, cx: &mut Context<'_>) -> Result<(), Box<Error>> {
        if self.upload.sent() {
            return Ok(());
        }
        let sent = self
            .upload
            .poll(cx, &mut self.origin, self.client, self.ctx);
        if self.awaits_head() {
            self.informed |= self.upload.asking.poll(cx, self.client);
        }
        match sent {
            Poll::Ready(Err(Stopped::Origin(error))) => {
                self.upload.abandon();
                self.unsent = Some(error);
                Ok(())
            }
            Poll::Ready(Err(Stopped::Client(error))) => Err(read_error(&error)),
            Poll::Ready(Ok(())) | Poll::Pending => Ok(()),
        }
    }

    fn poll_tunnel(&mut self, cx: &mut Context<'_>) -> Poll<Result<Stage, Box<Error>>> {
        let Some(tunnel) = &mut self.tunnel else {
            return Poll::Ready(Ok(Stage::Done));
        };
        let answer = (self.client, &mut *self.writer);
        let end = tunnel.poll(cx, &mut self.origin, answer);
        self.tunnel_end = Some(std::task::ready!(end));
        Poll::Ready(Ok(Stage::Done))
    }

    fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<Stage, Box<Error>>> {
        loop {
            // No further head is looked at before the client took those it was sent.
            if self.informed {
                std::task::ready!(self.writer.poll_flush(cx))
                    .map_err(|error| write_error(&error))?;
                self.informed = false;
            }
            if !self.origin.incoming.is_empty() {
                match self.take_head()? {
                    Heads::Final(stage) => return Poll::Ready(Ok(stage)),
                    Heads::Informational => continue,
                    Heads::Partial => {}
                }
            }
            match self.origin.poll_read(cx, 0) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(self.broken_off())),
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(error)) => return Poll::Ready(Err(self.unreadable(error))),
                Poll::Pending => return self.poll_client(cx),
            }
        }
    }

    /// Reads the head that is here, if it is whole.
    fn take_head(&mut self) -> Result<Heads, Box<Error>> {
        let Self {
            request,
            ctx,
            client,
            writer,
            origin,
            upload,
            contested,
            ..
        } = self;
        let limits = forward::head_limits(ctx);
        let (mut room, mut more) = (answer::room(), Vec::new());
        let parsed = Answer::parse(&origin.incoming, limits, (&mut room, &mut more));
        let Some((answer, length)) = parsed.map_err(invalid)? else {
            return Ok(Heads::Partial);
        };
        if (100..200).contains(&answer.status()) && answer.status() != 101 {
            forward::informed(ctx)?;
            if answer.status() != 100 || upload.asking.hear() {
                writer.inform(&answer);
                self.informed = true;
            }
            drop(answer);
            origin.incoming.advance(length);
            return Ok(Heads::Informational);
        }
        let head = ctx.start.as_ref().map(|start| &start.head);
        let upgraded = answer.status() == 101;
        if upgraded
            && !(upload.sent()
                && answer.opens_websocket()
                && head.is_some_and(|head| hop_by_hop::asks_for_websocket(request, head)))
        {
            return Err(forward::invalid("an upgrade that nobody asked for"));
        }
        if let Some(name) = forward::load_header(ctx)
            && let Some(value) = answer.value(name.as_str())
        {
            forward::loaded(ctx, value);
        }
        if *contested && forward::is_tried_again(ctx, answer.status()) {
            return Err(forward::passed_over(ctx, answer.status()));
        }
        let replayable = upload.replayable();
        forward::answered(request, ctx, answer.status(), replayable)?;
        let head_only = request.method == Method::HEAD;
        let guard = answer.body(head_only);
        self.persistent = answer.persistent() && guard != BodyGuard::Raw && !upgraded;
        let size = answer.size(head_only);
        reply::begin(writer, request, ctx, answer, size).map_err(invalid)?;
        if upgraded {
            client.upgrade(forward::tunnel_silence(ctx));
            self.tunnel = Some(Box::new(Tunnel::new(ctx)));
        }
        origin.incoming.advance(length);
        Ok(Heads::Final(match upgraded {
            true => Stage::Tunnel,
            false => Stage::Body(guard),
        }))
    }

    fn poll_body(
        &mut self,
        cx: &mut Context<'_>,
        mut guard: BodyGuard,
    ) -> Poll<Result<Stage, Box<Error>>> {
        loop {
            let delivered = self.poll_deliver(cx, &mut guard);
            self.stage = Stage::Body(guard);
            std::task::ready!(delivered)?;
            if guard == BodyGuard::Done || self.writer.wants_no_more() {
                self.persistent &= guard == BodyGuard::Done;
                return Poll::Ready(self.end());
            }
            let expected = match guard {
                BodyGuard::Length(left) => left,
                _ => u64::MAX,
            };
            match self.origin.poll_read(cx, expected) {
                Poll::Ready(Ok(0)) if guard == BodyGuard::Raw => return Poll::Ready(self.end()),
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(self.broken_off())),
                Poll::Ready(Ok(_)) => self.client.heard(Instant::now()),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(self.unreadable(error))),
                Poll::Pending => return self.poll_client(cx),
            }
        }
    }

    /// Passes on what was read of the body.
    fn poll_deliver(
        &mut self,
        cx: &mut Context<'_>,
        guard: &mut BodyGuard,
    ) -> Poll<Result<(), Box<Error>>> {
        let incoming = &mut self.origin.incoming;
        while !incoming.is_empty() && *guard != BodyGuard::Done {
            let most = match guard {
                BodyGuard::Length(left) => usize::try_from(*left).unwrap_or(usize::MAX),
                BodyGuard::Raw => usize::MAX,
                _ => {
                    // Pieces lose their frames.
                    let admit = |here: &[u8], put: &mut dyn FnMut(&[u8])| guard.admit(here, put);
                    let taken = std::task::ready!(self.writer.poll_gather(cx, incoming, admit))
                        .map_err(|error| write_error(&error))?
                        .map_err(|_| forward::invalid("the answer's chunks are malformed"))?;
                    incoming.advance(taken);
                    continue;
                }
            };
            let sending = incoming.len().min(most);
            let mut piece = Buf::take(&mut *incoming, sending);
            let written = self.writer.poll_write(cx, &mut piece);
            guard.passed(sending - piece.remaining());
            std::task::ready!(written).map_err(|error| write_error(&error))?;
        }
        Poll::Ready(Ok(()))
    }

    fn end(&mut self) -> Result<Stage, Box<Error>> {
        self.writer.end(None).map_err(unfinished)?;
        Ok(Stage::Flush)
    }

    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<Result<Stage, Box<Error>>> {
        let finished = std::task::ready!(self.writer.poll_finish(cx));
        Poll::Ready(finished.map(|()| Stage::Done).map_err(unfinished))
    }

    /// The endpoint has nothing more at the moment: what is queued goes to the client, and it is watched whether it
    /// leaves.
    fn poll_client<T>(&mut self, cx: &mut Context<'_>) -> Poll<Result<T, Box<Error>>> {
        std::task::ready!(self.writer.poll_flush(cx)).map_err(|error| write_error(&error))?;
        // While its body is read, or the endpoint takes nothing, the upload is waited for.
        if self.upload.sent() {
            let gone = std::task::ready!(self.client.poll_idle(cx));
            return Poll::Ready(Err(read_error(&gone)));
        }
        Poll::Pending
    }

    /// The endpoint closed the connection before its answer was whole.
    fn broken_off(&mut self) -> Box<Error> {
        self.closed = true;
        match self.unsent.take() {
            Some(error) => Error::because(ErrorType::WriteError, "sending to the upstream", error),
            None => Error::explain(ErrorType::ConnectionClosed, "the upstream broke off"),
        }
        .into_up()
    }

    fn unreadable(&mut self, error: io::Error) -> Box<Error> {
        let error = self.unsent.take().unwrap_or(error);
        self.closed = matches!(
            error.kind(),
            io::ErrorKind::ConnectionReset
                | io::ErrorKind::UnexpectedEof
                | io::ErrorKind::ConnectionAborted
                | io::ErrorKind::BrokenPipe
        );
        Error::because(ErrorType::ReadError, "reading from the upstream", error).into_up()
    }
}

/// An answer that cannot be passed on.
fn invalid(why: InvalidHead) -> Box<Error> {
    forward::invalid(why.0)
}
