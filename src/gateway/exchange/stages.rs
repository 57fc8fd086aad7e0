//! One exchange with an endpoint: the request goes out and the answer comes back, both at the same time.

use std::task::{Context, Poll};
use std::time::Instant;

use http::{HeaderMap, HeaderName, Method, StatusCode};
use pingora::Error;
use pingora::http::RequestHeader;

use super::attempts;
use super::h1::tunnel::Tunnel;
use super::outcome;
use super::race::Race;
use super::trailers::{self, Deciding};
use super::transport::{Head, Transport};
use super::upload::{Stopped, Upload};
use crate::gateway::answer::ResponseWriter;
use crate::gateway::client::ClientIo;
use crate::gateway::ctx::Ctx;
use crate::gateway::message::{AnswerHead, InvalidHead};
use crate::gateway::session::{read_error, unfinished, write_error};
use crate::gateway::timers::AbortReason;
use crate::gateway::{failure, hop_by_hop, reply};
use crate::observe::{TryEnd, TunnelEnd};

/// A request being sent to an endpoint, and its answer.
pub(super) struct Exchange<'e> {
    request: &'e RequestHeader,
    ctx: &'e mut Ctx,
    client: &'e ClientIo,
    transport: Transport,
    upload: &'e mut Upload,
    writer: &'e mut ResponseWriter,
    stage: Stage,
    /// An informational answer is queued.
    informed: bool,
    /// Tries beside the first, while the head is awaited.
    race: Option<Box<Race>>,
    /// One of them is under way.
    contested: bool,
    /// The client asked to go on as a WebSocket.
    websocket: bool,
    /// What the connections became, when they were upgraded.
    tunnel: Option<Box<Tunnel>>,
    tunnel_end: Option<TunnelEnd>,
    /// Fields that the answer's `Connection` named, for what stands behind its body.
    nominated: Vec<HeaderName>,
}

/// What is awaited next of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// The head of the answer.
    Head,
    /// The body.
    Body,
    /// What stands behind the body.
    Trailers,
    /// Nothing of it: the client has not taken all.
    Flush,
    /// There is no HTTP any more.
    Tunnel,
    /// Nothing: it was delivered.
    Done,
}

/// What a head turned out to be.
enum Seen {
    /// Another will follow; it was passed on, or not.
    Informational { passed_on: bool },
    /// The last. What follows it.
    Final(Stage),
}

/// A try that failed.
pub(super) struct Failed {
    pub(super) error: Box<Error>,
    /// The answer had begun.
    pub(super) began: bool,
}

impl<'e> Exchange<'e> {
    /// An exchange over `transport`, with which the head was begun, as was the `upload`.
    pub(super) fn new(
        request: &'e RequestHeader,
        ctx: &'e mut Ctx,
        client: &'e ClientIo,
        writer: &'e mut ResponseWriter,
        transport: Transport,
        upload: &'e mut Upload,
        race: Option<Box<Race>>,
    ) -> Self {
        let start = ctx.start.as_ref();
        let websocket =
            start.is_some_and(|start| hop_by_hop::asks_for_websocket(request, &start.head));
        Self {
            // What becomes a tunnel becomes one with one endpoint.
            race: race.filter(|_| !websocket),
            request,
            ctx,
            client,
            transport,
            upload,
            writer,
            stage: Stage::Head,
            informed: false,
            contested: false,
            websocket,
            tunnel: None,
            tunnel_end: None,
            nominated: Vec::new(),
        }
    }

    /// What carried it to its end.
    pub(super) fn into_transport(self) -> Transport {
        self.transport
    }

    /// Says that the tunnel is over to whoever is still there, if it became one.
    pub(super) async fn part(&mut self) {
        if let Some((tunnel, end)) = self.tunnel.take().zip(self.tunnel_end)
            && let Some(connection) = self.transport.tunnel()
        {
            let (client, writer) = (self.client, &mut *self.writer);
            tunnel.part(end, connection, client, writer, self.ctx).await;
        }
    }

    /// Whether it became a tunnel.
    pub(super) fn is_tunnel(&self) -> bool {
        self.tunnel.is_some()
    }

    /// Goes on as far as it can without waiting.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Failed>> {
        let outcome = match self.race.take() {
            None => self.poll_stages(cx),
            Some(race) => self.poll_race(cx, race),
        };
        outcome.map_err(|error| Failed {
            began: !self.awaits_head(),
            error,
        })
    }

    /// Goes on while further tries may begin or are under way. The first answer ends that.
    fn poll_race(
        &mut self,
        cx: &mut Context<'_>,
        mut race: Box<Race>,
    ) -> Poll<Result<(), Box<Error>>> {
        if race.failed.is_none() {
            self.contested = race.is_on();
            match self.poll_stages(cx) {
                Poll::Pending if self.awaits_head() => {}
                Poll::Ready(Err(error))
                    if self.awaits_head() && race.goes_on(&error, self.client, self.ctx) =>
                {
                    // The others may take long yet, which is not its time.
                    let end = match self.transport.is_stale() {
                        true => TryEnd::Stale,
                        false => attempts::failed(failure::cause(&error)),
                    };
                    self.ctx.forward.attempts.end_current(end);
                    race.failed = Some(error);
                }
                outcome => {
                    race.give_up(self.ctx);
                    return outcome;
                }
            }
        } else if let Poll::Ready(gone) = self.poll_client::<()>(cx) {
            self.ctx.forward.retry = false;
            return Poll::Ready(gone);
        }
        if self.upload.is_sent() {
            race.poll_begin(cx, self.request, self.upload, self.ctx);
        }
        if let Some(winner) = race.poll_others(cx, self.request, self.client, self.ctx) {
            let traffic = self.transport.traffic();
            self.ctx.forward.attempts.count_current(traffic);
            let Some((transport, upload)) = race.won(winner, self.ctx) else {
                return Poll::Ready(Err(failure::unsendable()));
            };
            (self.transport, *self.upload) = (transport, upload);
            self.contested = false;
            return self.poll_stages(cx);
        }
        match race.failed.take() {
            Some(error) if !race.is_on() => Poll::Ready(Err(error)),
            failed => {
                race.failed = failed;
                self.race = Some(race);
                Poll::Pending
            }
        }
    }

    fn awaits_head(&self) -> bool {
        self.stage == Stage::Head
    }

    fn poll_stages(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Box<Error>>> {
        self.poll_upload(cx)?;
        loop {
            let next = match self.stage {
                Stage::Head => self.poll_head(cx),
                Stage::Body => self.poll_body(cx),
                Stage::Trailers => self.poll_trailers(cx),
                Stage::Flush => self.poll_end(cx),
                Stage::Tunnel => self.poll_tunnel(cx),
                Stage::Done => return Poll::Ready(Ok(())),
            };
            self.stage = match std::task::ready!(next) {
                // Whoever leaves now, the client or the endpoint, leaves behind an answer that is whole.
                Err(error) if self.awaits_no_more(&error) => {
                    if self.client.fault() == Some(AbortReason::Silence) {
                        self.transport.retire();
                    }
                    self.end(None)?
                }
                next => next?,
            };
        }
    }

    /// Whether the client was given all of a body whose length it was told, though its end was not seen yet. Where trailers
    /// may follow and be passed on, they are a part of the answer: in them a call of gRPC says how it ended.
    fn awaits_no_more(&self, error: &Error) -> bool {
        let whole =
            matches!(self.stage, Stage::Body | Stage::Trailers) && self.writer.owes_nothing();
        let trailers = self.writer.may_tell_trailers() && self.transport.has_trailers();
        whole && (!trailers || Transport::said_all(error))
    }

    /// Sends the request on. That the endpoint takes no more of it does not end the exchange: it may have answered.
    fn poll_upload(&mut self, cx: &mut Context<'_>) -> Result<(), Box<Error>> {
        if self.upload.is_sent() {
            return Ok(());
        }
        let (transport, ctx) = (&mut self.transport, &mut *self.ctx);
        let sent = self.upload.poll(cx, transport, self.client, ctx);
        if self.awaits_head() {
            self.informed |= self.upload.asking.poll(cx, self.client);
        }
        match sent {
            Poll::Ready(Err(Stopped::Client(error))) => Err(read_error(&error)),
            Poll::Ready(Err(Stopped::Endpoint) | Ok(())) | Poll::Pending => Ok(()),
        }
    }

    fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<Stage, Box<Error>>> {
        loop {
            // No further head is looked at before the client took those it was sent.
            if self.informed {
                std::task::ready!(self.writer.poll_flush(cx))
                    .map_err(|error| write_error(&error))?;
                self.informed = false;
            }
            let head_only = self.request.method == Method::HEAD;
            let websocket = self.websocket && self.upload.is_sent();
            let parts = Parts {
                request: self.request,
                ctx: &mut *self.ctx,
                upload: &mut *self.upload,
                writer: &mut *self.writer,
                nominated: &mut self.nominated,
                contested: self.contested,
                head_only,
                websocket,
            };
            let Poll::Ready(seen) = self.transport.poll_head(cx, |head| parts.take(head)) else {
                return self.poll_client(cx);
            };
            let seen = seen??;
            self.transport.pass_head();
            match seen {
                Seen::Informational { passed_on } => self.informed |= passed_on,
                Seen::Final(stage) => {
                    if stage == Stage::Tunnel {
                        self.client.upgrade(outcome::tunnel_silence(self.ctx));
                        self.tunnel = Some(Box::new(Tunnel::new(self.ctx)));
                    }
                    return Poll::Ready(Ok(stage));
                }
            }
        }
    }

    fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Result<Stage, Box<Error>>> {
        loop {
            let here = self.transport.poll_body(cx);
            self.hear();
            match here {
                Poll::Ready(Ok(true)) => {}
                Poll::Ready(Ok(false)) => return Poll::Ready(Ok(Stage::Trailers)),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return self.poll_client(cx),
            }
            let mut piece = self.transport.piece();
            let written = self.writer.poll_write(cx, &mut piece);
            let Poll::Ready(written) = written else {
                self.transport.gather(cx);
                return Poll::Pending;
            };
            if let Err(error) = written {
                return Poll::Ready(Err(self.refused().unwrap_or_else(|| write_error(&error))));
            }
            if self.writer.wants_no_more() {
                return Poll::Ready(self.end(None));
            }
        }
    }

    fn poll_trailers(&mut self, cx: &mut Context<'_>) -> Poll<Result<Stage, Box<Error>>> {
        let trailers = self.transport.poll_trailers(cx);
        self.hear();
        let Poll::Ready(trailers) = trailers else {
            return self.poll_client(cx);
        };
        Poll::Ready(trailers.and_then(|trailers| {
            let trailers = trailers.and_then(|trailers| self.passed_on(trailers));
            self.end(trailers)
        }))
    }

    /// What of the endpoint's trailers the client may be told.
    fn passed_on(&self, trailers: HeaderMap) -> Option<HeaderMap> {
        let (route, pool) = (self.ctx.route.as_ref(), self.ctx.forward.pool.as_ref());
        let deciding = Deciding {
            filters: route.map_or(&[][..], |route| &route.response_filters),
            load: pool.and_then(|pool| pool.load_header()),
            nominated: &self.nominated,
        };
        trailers::of_answer(trailers, &deciding)
    }

    fn end(&mut self, trailers: Option<HeaderMap>) -> Result<Stage, Box<Error>> {
        match self.writer.end(trailers) {
            Ok(()) => Ok(Stage::Flush),
            Err(why) => Err(self.refused().unwrap_or_else(|| unfinished(why))),
        }
    }

    /// What a filter has against the answer, if it was that which ended it.
    fn refused(&mut self) -> Option<Box<Error>> {
        let refusal = self.writer.take_refusal()?;
        Some(failure::refused(self.ctx, refusal))
    }

    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<Result<Stage, Box<Error>>> {
        let finished = std::task::ready!(self.writer.poll_finish(cx));
        Poll::Ready(finished.map(|()| Stage::Done).map_err(unfinished))
    }

    fn poll_tunnel(&mut self, cx: &mut Context<'_>) -> Poll<Result<Stage, Box<Error>>> {
        let Some((tunnel, connection)) = self.tunnel.as_mut().zip(self.transport.tunnel()) else {
            return Poll::Ready(Ok(Stage::Done));
        };
        let end = tunnel.poll(cx, connection, self.client, self.writer);
        self.tunnel_end = Some(std::task::ready!(end));
        Poll::Ready(Ok(Stage::Done))
    }

    /// The endpoint's silence is counted anew when something came.
    fn hear(&mut self) {
        if self.transport.take_fresh() {
            self.client.heard(Instant::now());
        }
    }

    /// The endpoint has nothing more at the moment: what is queued goes to the client, and it is watched whether it
    /// leaves.
    fn poll_client<T>(&mut self, cx: &mut Context<'_>) -> Poll<Result<T, Box<Error>>> {
        std::task::ready!(self.writer.poll_flush(cx)).map_err(|error| write_error(&error))?;
        // While its body is read, or the endpoint takes nothing, the upload is waited for.
        if self.upload.is_sent() {
            let gone = std::task::ready!(self.client.poll_idle(cx));
            return Poll::Ready(Err(read_error(&gone)));
        }
        Poll::Pending
    }
}

/// What a head is taken with.
struct Parts<'p> {
    request: &'p RequestHeader,
    ctx: &'p mut Ctx,
    upload: &'p mut Upload,
    writer: &'p mut ResponseWriter,
    nominated: &'p mut Vec<HeaderName>,
    contested: bool,
    head_only: bool,
    /// The whole request was sent, and asked to go on as a WebSocket.
    websocket: bool,
}

impl Parts<'_> {
    /// Passes the head on, or says why not: the try failed, or another is made.
    fn take(self, head: Head<'_, '_>) -> Result<Seen, Box<Error>> {
        let (status, ctx) = (head.status(), self.ctx);
        let upgraded = status == StatusCode::SWITCHING_PROTOCOLS.as_u16();
        if status < 200 && !upgraded {
            outcome::informed(ctx)?;
            let passed_on = status != 100 || self.upload.asking.hear();
            if passed_on {
                self.writer.inform(&head);
            }
            return Ok(Seen::Informational { passed_on });
        }
        if upgraded && !(self.websocket && head.opens_websocket()) {
            return Err(failure::invalid("an upgrade that nobody asked for"));
        }
        outcome::loaded(ctx, &head);
        if self.contested && outcome::is_tried_again(ctx, status) {
            return Err(outcome::passed_over(ctx, status));
        }
        outcome::answered(self.request, ctx, status, self.upload.replayable())?;
        *self.nominated = head.nominated();
        let size = head.size(self.head_only);
        let begun = reply::begin(self.writer, self.request, ctx, head, size);
        if let Err(InvalidHead(why)) = begun {
            return Err(match self.writer.take_refusal() {
                Some(refusal) => failure::refused(ctx, refusal),
                None => failure::invalid(why),
            });
        }
        Ok(Seen::Final(match upgraded {
            true => Stage::Tunnel,
            false => Stage::Body,
        }))
    }
}
