//! One try: the request goes out and the answer comes back, both at the same time.

use std::io;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Buf;
use http::{Method, StatusCode};
use pingora::http::RequestHeader;
use pingora::{Error, ErrorType};

use super::answer::{self, Answer, Invalid};
use super::origin::{Origin, Socket};
use super::rival::Rival;
use super::tunnel::Tunnel;
use super::upload::{Stopped, Upload};
use crate::gateway::client::ClientIo;
use crate::gateway::ctx::Ctx;
use crate::gateway::hedge::{self, Hedge};
use crate::gateway::http1::answer::{AnswerHead, Delimited};
use crate::gateway::http1::body::BodyGuard;
use crate::gateway::lane::Lane;
use crate::gateway::session::{read_error, write_error};
use crate::gateway::{fallback, forward, hop_by_hop, policy, reply};
use crate::observe::TunnelEnd;

/// A request being sent to an endpoint, and its answer.
pub(super) struct Exchange<'e> {
    request: &'e RequestHeader,
    ctx: &'e mut Ctx,
    client: &'e ClientIo,
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
    /// Its body comes, and is delimited for the client so.
    Body(BodyGuard, Delimited),
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
    /// Nothing but the end of the connection tells the client where the answer's body ends.
    pub(super) until_close: bool,
    /// The connection had been kept from before and was closed without a word.
    pub(super) stale: bool,
}

impl<'e> Exchange<'e> {
    /// An exchange over `origin`; `upload` has begun.
    pub(super) fn new(
        request: &'e RequestHeader,
        ctx: &'e mut Ctx,
        client: &'e ClientIo,
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
            let (origin, client) = (&mut self.origin, self.client);
            tunnel.part(end, origin, client, self.ctx).await;
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
            until_close: matches!(self.stage, Stage::Body(_, Delimited::Close)),
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
                Stage::Body(guard, delimited) => self.poll_body(cx, guard, delimited),
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
        let end = tunnel.poll(cx, &mut self.origin, self.client, self.ctx);
        self.tunnel_end = Some(std::task::ready!(end));
        Poll::Ready(Ok(Stage::Done))
    }

    fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<Stage, Box<Error>>> {
        loop {
            // No further head is looked at before the client took those it was sent.
            if self.informed {
                std::task::ready!(self.client.poll_flush(cx))
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
                client.inform(&answer, ctx.version);
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
            return Err(invalid(Invalid("an upgrade that nobody asked for")));
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
        let delimited = match guard {
            _ if upgraded => Delimited::Close,
            BodyGuard::Done if answer.length() != Some(0) => Delimited::Absent,
            BodyGuard::Done => Delimited::Length(0),
            _ => Delimited::with(answer.length(), ctx.version),
        };
        if policy::keeps(ctx, answer.status()) && guard != BodyGuard::Raw {
            let head = answer.to_header().map_err(invalid)?;
            fallback::begin_keeping(request, ctx, &head.headers);
        }
        reply::announce(ctx);
        let filtered = reply::has_filters(ctx).then(|| answer.to_header());
        let filtered = filtered.transpose().map_err(invalid)?;
        match filtered {
            Some(mut head) => {
                reply::filter(request, ctx, &mut head);
                client.begin_answer(&head, delimited, ctx.version);
            }
            None => client.begin_answer(&answer, delimited, ctx.version),
        }
        ctx.relayed = StatusCode::from_u16(answer.status()).ok();
        if upgraded {
            client.upgrade(forward::tunnel_silence(ctx));
            self.tunnel = Some(Box::new(Tunnel::new(ctx)));
        }
        self.persistent = answer.persistent() && guard != BodyGuard::Raw && !upgraded;
        drop(answer);
        origin.incoming.advance(length);
        Ok(Heads::Final(match upgraded {
            true => Stage::Tunnel,
            false => Stage::Body(guard, delimited),
        }))
    }

    fn poll_body(
        &mut self,
        cx: &mut Context<'_>,
        mut guard: BodyGuard,
        delimited: Delimited,
    ) -> Poll<Result<Stage, Box<Error>>> {
        loop {
            let delivered = self.poll_deliver(cx, &mut guard, delimited);
            self.stage = Stage::Body(guard, delimited);
            std::task::ready!(delivered)?;
            if guard == BodyGuard::Done {
                return Poll::Ready(Ok(self.end()));
            }
            let expected = match guard {
                BodyGuard::Length(left) => left,
                _ => u64::MAX,
            };
            match self.origin.poll_read(cx, expected) {
                Poll::Ready(Ok(0)) if guard == BodyGuard::Raw => {
                    return Poll::Ready(Ok(self.end()));
                }
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
        delimited: Delimited,
    ) -> Poll<Result<(), Box<Error>>> {
        let incoming = &mut self.origin.incoming;
        let sent = &mut self.ctx.bytes_out;
        let keeping = &mut self.ctx.policy.keeping;
        while !incoming.is_empty() && *guard != BodyGuard::Done {
            if delimited != Delimited::Chunked
                && let BodyGuard::Length(_) | BodyGuard::Raw = guard
            {
                let most = match guard {
                    BodyGuard::Length(left) => usize::try_from(*left).unwrap_or(usize::MAX),
                    _ => usize::MAX,
                };
                let sending = incoming.len().min(most);
                if let Some(keeping) = keeping {
                    keeping.look(&incoming[..sending]);
                }
                let mut piece = Buf::take(&mut *incoming, sending);
                let taken = std::task::ready!(self.client.poll_send(cx, &mut piece))
                    .map_err(|error| write_error(&error))?;
                guard.passed(taken);
                if let Some(keeping) = keeping {
                    keeping.sent(taken);
                }
                *sent += taken as u64;
                continue;
            }
            // Pieces are framed anew, or lose their frames: copied behind what the client took.
            std::task::ready!(self.client.poll_flush(cx)).map_err(|error| write_error(&error))?;
            let room = self.client.poll_room(cx, incoming.len());
            let room = std::task::ready!(room).map_err(|error| write_error(&error))?;
            let here = &incoming[..incoming.len().min(room)];
            let mut taken = Ok(here.len());
            self.client.queue_pieces(|put| {
                let mut put = |piece: &[u8]| {
                    *sent += piece.len() as u64;
                    if let Some(keeping) = keeping {
                        keeping.add(piece);
                    }
                    put(piece);
                };
                if *guard == BodyGuard::Raw {
                    put(here);
                } else {
                    taken = guard.admit(here, put);
                }
            });
            let taken = taken.map_err(|_| invalid(Invalid("the answer's chunks are malformed")))?;
            self.client.spent(taken);
            incoming.advance(taken);
        }
        Poll::Ready(Ok(()))
    }

    fn end(&mut self) -> Stage {
        fallback::keep(self.ctx);
        self.client.end_answer(None);
        Stage::Flush
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
fn invalid(why: Invalid) -> Box<Error> {
    forward::invalid(why.0)
}
