//! What carries one try: a connection of HTTP/1.1, or a stream of HTTP/2, each over TCP, TLS or a Unix socket.
//!
//! Both do the same in the same order: [`Transport::open`], [`begin`](Transport::begin), [`put_body`](Transport::put_body)
//! and [`poll_send_body`](Transport::poll_send_body) on one side, [`poll_head`](Transport::poll_head),
//! [`poll_body`](Transport::poll_body) and [`poll_trailers`](Transport::poll_trailers) on the other, and
//! [`reuse`](Transport::reuse) at the end. Neither waits with a deadline of its own once it is open: who polls it bounds
//! both. An enum, since a fallback may lead a request from one to the other in the middle of its tries.

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes};
use http::{HeaderMap, HeaderName};
use pingora::Error;
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::upstreams::peer::HttpPeer;

use super::attempts::Traffic;
use super::h1::connection::Connection;
use super::h1::head::Answer;
use super::h1::transport::{Http1, Payload};
use super::h2::stream::{Http2, says_all};
use crate::gateway::ctx::Ctx;
use crate::gateway::failure;
use crate::gateway::message::{AnswerHead, BodySize, InvalidHead, to_header};
use crate::gateway::outgoing_head::Destination;
use crate::gateway::state::State;
use crate::gateway::worker_local::WorkerLocal;
use crate::primitives::address::Address;
use crate::upstream::{Endpoint, Pool};

/// What carries one try.
#[expect(
    clippy::large_enum_variant,
    reason = "a box for each request of HTTP/1.1 would be an allocation more"
)]
pub(super) enum Transport {
    /// A connection of HTTP/1.1.
    Http1(Http1),
    /// A stream of HTTP/2.
    Http2(Box<Http2>),
}

/// What opening a transport takes.
pub(super) struct Dial {
    pub(super) state: Arc<State>,
    pub(super) lane: Arc<WorkerLocal>,
    pub(super) pool: Arc<Pool>,
    pub(super) endpoint: Arc<Endpoint>,
    /// Time that is left of the whole exchange.
    pub(super) left: Duration,
}

/// A head of an answer as its transport brought it: judged, and without what is not passed on.
pub(super) enum Head<'h, 'b> {
    /// As bytes.
    Bytes(&'h Answer<'b>),
    /// As fields, perhaps with the end of the stream.
    Fields(&'h ResponseHeader, bool),
}

/// Payload of an answer, to be taken as far as the client takes it.
pub(super) enum Piece<'p> {
    /// Where it was read to.
    Read(Payload<'p>),
    /// As it came in a frame.
    Frame(&'p mut Bytes),
}

impl Dial {
    /// The address as the framework opens it, within the upstream's limits and what is left of the exchange.
    fn peer(&self) -> Result<Box<HttpPeer>, Box<Error>> {
        let mut peer = self
            .pool
            .peer(&self.endpoint)
            .ok_or_else(failure::unsendable)?;
        for limit in [
            &mut peer.options.connection_timeout,
            &mut peer.options.total_connection_timeout,
        ] {
            *limit = limit.map(|limit| limit.min(self.left));
        }
        Ok(peer)
    }
}

impl Transport {
    /// One that is there already: a connection kept from an earlier request. Streams have their places found when they are
    /// [opened](Self::open).
    pub(super) fn kept(
        lane: &WorkerLocal,
        pool: &Pool,
        address: &Address,
        now: Instant,
    ) -> Option<Self> {
        let socket = lane.kept.take(pool, address, now)?;
        let limits = pool.settings().answer_head;
        Some(Self::Http1(Http1::over(Connection::kept(socket), limits)))
    }

    /// Opens a connection; for HTTP/2 a place on one that is there is as good. What few requests need is boxed: it would be
    /// a part of every one.
    pub(super) async fn open(dial: Dial) -> Result<Self, Box<Error>> {
        let settings = dial.pool.settings();
        let limits = settings.answer_head;
        let connection = if settings.http2 {
            let opening = async {
                let (peer, lane) = (dial.peer()?, &dial.lane);
                let connector = dial.state.connections.upstreams(lane.index());
                let address = &dial.endpoint.address;
                lane.streams.place(connector, address, &peer).await
            };
            let place = Box::pin(opening).await?;
            return Ok(Self::Http2(Box::new(Http2::on(place, limits))));
        } else if settings.tls.is_some() {
            let opening = async {
                let peer = dial.peer()?;
                let connector = dial.state.connections.upstreams(dial.lane.index());
                Connection::connect_secure(connector, &peer).await
            };
            Box::pin(opening).await?
        } else {
            let within = settings.timeout.connect.min(dial.left);
            Connection::connect(&dial.endpoint.address, within).await?
        };
        Ok(Self::Http1(Http1::over(connection, limits)))
    }

    /// Whether its connection served a request before.
    pub(super) fn reused(&self) -> bool {
        match self {
            Self::Http1(http1) => http1.reused(),
            Self::Http2(http2) => http2.reused(),
        }
    }

    /// Whether its failure tells nothing about the endpoint: a connection that was there had been closed before the
    /// endpoint began with the request.
    pub(super) fn is_stale(&self) -> bool {
        match self {
            Self::Http1(http1) => http1.is_stale(),
            Self::Http2(http2) => http2.is_stale(),
        }
    }

    /// Whether it is known that the endpoint did nothing of the request, so that any may be sent again.
    pub(super) fn is_refused(&self) -> bool {
        match self {
            Self::Http1(_) => false,
            Self::Http2(http2) => http2.is_refused(),
        }
    }

    /// Sends nothing further over a connection whose endpoint is silent: perhaps it is the connection that is dead.
    pub(super) fn retire(&self) {
        match self {
            // A connection is not kept unless its answer was whole.
            Self::Http1(_) => {}
            Self::Http2(http2) => http2.retire(),
        }
    }

    /// Bytes that went each way.
    pub(super) fn traffic(&self) -> Traffic {
        match self {
            Self::Http1(http1) => http1.traffic(),
            Self::Http2(http2) => http2.traffic(),
        }
    }

    /// Whether something came since this was asked last.
    pub(super) fn take_fresh(&mut self) -> bool {
        match self {
            Self::Http1(http1) => http1.take_fresh(),
            Self::Http2(http2) => http2.take_fresh(),
        }
    }

    /// Begins with the request's head, which is all there is when it `ends` the request. An error that is not the
    /// upstream's: the request has no form in its protocol.
    pub(super) fn begin(
        &mut self,
        request: &RequestHeader,
        ctx: &Ctx,
        to: &Destination<'_>,
        ends: bool,
    ) -> Result<(), Box<Error>> {
        match self {
            Self::Http1(http1) => {
                http1.begin(request, ctx, to);
                Ok(())
            }
            Self::Http2(http2) => http2.begin(request, ctx, to, ends),
        }
    }

    /// Puts a piece of the request's body behind what was sent; nothing may be unsent.
    pub(super) fn put_body(&mut self, piece: Bytes) {
        match self {
            Self::Http1(http1) => http1.put_body(piece),
            Self::Http2(http2) => http2.put_body(piece),
        }
    }

    /// Puts the end of the request's body behind what was sent, where there is one.
    pub(super) fn end_body(&mut self, trailers: Option<&HeaderMap>) {
        match self {
            Self::Http1(http1) => http1.end_body(trailers),
            Self::Http2(http2) => http2.end_body(trailers),
        }
    }

    /// Sends what was put. An error means that the endpoint takes no more; it may have answered all the same.
    pub(super) fn poll_send_body(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ()>> {
        match self {
            Self::Http1(http1) => http1.poll_send_body(cx),
            Self::Http2(http2) => http2.poll_send_body(cx),
        }
    }

    /// Shows the next head of the answer, again until it is [passed](Self::pass_head).
    pub(super) fn poll_head<R>(
        &mut self,
        cx: &mut Context<'_>,
        look: impl FnOnce(Head<'_, '_>) -> R,
    ) -> Poll<Result<R, Box<Error>>> {
        match self {
            Self::Http1(http1) => http1.poll_head(cx, |answer| look(Head::Bytes(answer))),
            Self::Http2(http2) => {
                http2.poll_head(cx, |head, ended| look(Head::Fields(head, ended)))
            }
        }
    }

    /// The head that was shown last is done with: another may follow, or the body.
    pub(super) fn pass_head(&mut self) {
        match self {
            Self::Http1(http1) => http1.pass_head(),
            Self::Http2(http2) => http2.pass_head(),
        }
    }

    /// Whether there is a [piece](Self::piece) of the answer's body; not behind the last.
    pub(super) fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Result<bool, Box<Error>>> {
        match self {
            Self::Http1(http1) => http1.poll_body(cx),
            Self::Http2(http2) => http2.poll_body(cx),
        }
    }

    /// Takes over what comes of the answer's body while the client takes nothing, where it must not stay. What a
    /// connection of HTTP/1.1 brings stays in its socket.
    pub(super) fn gather(&mut self, cx: &mut Context<'_>) {
        if let Self::Http2(http2) = self {
            http2.gather(cx);
        }
    }

    /// The piece of the answer's body that is here.
    pub(super) fn piece(&mut self) -> Piece<'_> {
        match self {
            Self::Http1(http1) => Piece::Read(http1.payload()),
            Self::Http2(http2) => Piece::Frame(http2.payload()),
        }
    }

    /// What stands behind the answer's body.
    pub(super) fn poll_trailers(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<HeaderMap>, Box<Error>>> {
        match self {
            Self::Http1(http1) => http1.poll_trailers(cx),
            Self::Http2(http2) => http2.poll_trailers(cx),
        }
    }

    /// Whether trailers may follow a body whose length was told. Over HTTP/1.1 they follow chunks only.
    pub(super) fn has_trailers(&self) -> bool {
        matches!(self, Self::Http2(_))
    }

    /// Whether an error only says that the endpoint wants no more of the request, and has said all (RFC 9113 §8.1).
    pub(super) fn said_all(error: &Error) -> bool {
        let cause = error.root_cause().downcast_ref::<h2::Error>();
        cause.is_some_and(says_all)
    }

    /// The connection of a try that may go on without HTTP.
    pub(super) fn tunnel(&mut self) -> Option<&mut Connection> {
        match self {
            Self::Http1(http1) => Some(http1.tunnel()),
            Self::Http2(_) => None,
        }
    }

    /// The exchange is over, and all of the request was sent: what another can use is kept for it.
    pub(super) fn reuse(self, lane: &WorkerLocal, pool: &Pool, address: &Address, now: Instant) {
        if let Self::Http1(http1) = self
            && let Some(socket) = http1.into_reusable()
        {
            lane.kept.put(pool, address, socket, now);
        }
    }
}

impl Head<'_, '_> {
    /// The first value of a field.
    pub(super) fn value(&self, name: &str) -> Option<&[u8]> {
        match self {
            Self::Bytes(answer) => answer.value(name),
            Self::Fields(head, _) => head.headers.get(name).map(|value| value.as_bytes()),
        }
    }

    /// How long the body is, in answer to a request for the head only or not.
    pub(super) fn size(&self, head_only: bool) -> BodySize {
        match self {
            Self::Bytes(answer) => answer.size(head_only),
            Self::Fields(head, ended) => match BodySize::of(head) {
                // The stream ended with it.
                BodySize::Unknown if *ended => BodySize::Absent,
                size => size,
            },
        }
    }

    /// Fields that `Connection` names. Over HTTP/2 there is none.
    pub(super) fn nominated(&self) -> Vec<HeaderName> {
        match self {
            Self::Bytes(answer) => answer.nominated(),
            Self::Fields(..) => Vec::new(),
        }
    }

    /// Whether the endpoint agrees to go on as a WebSocket (RFC 6455 §4.1). No stream does.
    pub(super) fn opens_websocket(&self) -> bool {
        matches!(self, Self::Bytes(answer) if answer.opens_websocket())
    }
}

impl AnswerHead for Head<'_, '_> {
    fn status(&self) -> u16 {
        match self {
            Self::Bytes(answer) => answer.status(),
            Self::Fields(head, _) => head.status.as_u16(),
        }
    }

    fn reason(&self) -> &str {
        match self {
            Self::Bytes(answer) => answer.reason(),
            Self::Fields(head, _) => AnswerHead::reason(*head),
        }
    }

    fn each(&self, show: impl FnMut(&[u8], &[u8])) {
        match self {
            Self::Bytes(answer) => answer.each(show),
            Self::Fields(head, _) => AnswerHead::each(*head, show),
        }
    }

    fn into_header(self) -> Result<ResponseHeader, InvalidHead> {
        match self {
            Self::Bytes(answer) => to_header(answer),
            Self::Fields(head, _) => Ok(head.clone()),
        }
    }
}

impl Buf for Piece<'_> {
    fn remaining(&self) -> usize {
        match self {
            Self::Read(payload) => payload.remaining(),
            Self::Frame(piece) => piece.remaining(),
        }
    }

    fn chunk(&self) -> &[u8] {
        match self {
            Self::Read(payload) => payload.chunk(),
            Self::Frame(piece) => piece.chunk(),
        }
    }

    fn advance(&mut self, count: usize) {
        match self {
            Self::Read(payload) => payload.advance(count),
            Self::Frame(piece) => piece.advance(count),
        }
    }

    /// Without a copy.
    fn copy_to_bytes(&mut self, length: usize) -> Bytes {
        match self {
            Self::Read(payload) => payload.copy_to_bytes(length),
            Self::Frame(piece) => piece.copy_to_bytes(length),
        }
    }
}
