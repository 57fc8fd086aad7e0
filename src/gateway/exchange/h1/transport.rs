//! One try over HTTP/1.1: its request framed, its answer judged and unframed.

use std::io;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes, BytesMut};
use http::{HeaderMap, Method};
use pingora::http::RequestHeader;
use pingora::{Error, ErrorType};

use super::connection::{Connection, Socket};
use super::head::{self, Answer};
use crate::config::HeadLimits;
use crate::gateway::ctx::Ctx;
use crate::gateway::exchange::attempts::Traffic;
use crate::gateway::exchange::trailers;
use crate::gateway::failure;
use crate::gateway::http1::answer::{put_chunk_size, write_last_chunk};
use crate::gateway::http1::body::BodyDecoder;
use crate::gateway::http1::head::Framing;
use crate::gateway::message::{AnswerHead, InvalidHead};
use crate::gateway::outgoing_head::{self, Destination};

/// A connection of HTTP/1.1 that serves one request.
pub(in crate::gateway) struct Http1 {
    connection: Connection,
    limits: HeadLimits,
    outgoing: Outgoing,
    /// Sending failed so: told when nothing comes either.
    unsent: Option<io::Error>,
    /// The client asked for no body.
    head_only: bool,
    /// Bytes of the answer's head that was shown last.
    head: usize,
    /// What is left of the answer's body.
    body: BodyDecoder,
    /// Bytes of its trailer section that were followed.
    trailers: usize,
    /// The endpoint will take another request.
    persistent: bool,
    /// The endpoint closed the connection.
    closed: bool,
    /// Something was read that nobody was told about.
    fresh: bool,
}

/// What is to be written next, in this order.
struct Outgoing {
    chunked: bool,
    /// The head, or what frames a piece.
    framed: BytesMut,
    piece: Bytes,
    /// Behind the piece.
    tail: &'static [u8],
    /// The connection holds back some of what was written.
    unflushed: bool,
}

/// Payload of an answer where it was read to. What is taken of it is taken from there.
pub(in crate::gateway) struct Payload<'p> {
    read: &'p mut BytesMut,
    body: &'p mut BodyDecoder,
    left: usize,
}

/// Room for the head of a request.
const HEAD: usize = 1024;

impl Http1 {
    /// A try over this connection, to an upstream whose heads have these limits.
    pub(in crate::gateway) fn over(connection: Connection, limits: HeadLimits) -> Self {
        Self {
            connection,
            limits,
            outgoing: Outgoing::default(),
            unsent: None,
            head_only: false,
            head: 0,
            body: BodyDecoder::Done,
            trailers: 0,
            persistent: false,
            closed: false,
            fresh: false,
        }
    }

    /// Whether the connection served a request before.
    pub(in crate::gateway) fn reused(&self) -> bool {
        self.connection.reused()
    }

    /// Whether it was kept from before and closed without a word: that tells nothing about the endpoint.
    pub(in crate::gateway) fn is_stale(&self) -> bool {
        self.closed && self.connection.stale()
    }

    /// Bytes that went each way.
    pub(in crate::gateway) fn traffic(&self) -> Traffic {
        self.connection.traffic()
    }

    /// Whether something came since this was asked last.
    pub(in crate::gateway) fn take_fresh(&mut self) -> bool {
        std::mem::take(&mut self.fresh)
    }

    /// Puts the request's head into what is to be sent.
    pub(in crate::gateway) fn begin(
        &mut self,
        request: &RequestHeader,
        ctx: &Ctx,
        to: &Destination<'_>,
    ) {
        let framing = ctx.start.as_ref().map(|start| start.head.framing);
        self.head_only = request.method == Method::HEAD;
        self.outgoing.chunked = framing == Some(Framing::Chunked);
        self.outgoing.framed.reserve(HEAD);
        outgoing_head::write(request, ctx, to, &mut self.outgoing.framed);
    }

    /// Puts a piece of the request's body behind what was sent.
    pub(in crate::gateway) fn put_body(&mut self, piece: Bytes) {
        let outgoing = &mut self.outgoing;
        if outgoing.chunked {
            put_chunk_size(&mut outgoing.framed, piece.len());
            outgoing.tail = b"\r\n";
        }
        outgoing.piece = piece;
    }

    /// Puts the end of the request's body behind what was sent.
    pub(in crate::gateway) fn end_body(&mut self, trailers: Option<&HeaderMap>) {
        if self.outgoing.chunked {
            write_last_chunk(trailers, &mut self.outgoing.framed);
        }
    }

    /// Sends what was put. An error means that the endpoint takes no more; it may have answered all the same.
    pub(in crate::gateway) fn poll_send_body(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), ()>> {
        let sent = std::task::ready!(self.outgoing.poll_send(cx, &mut self.connection));
        Poll::Ready(sent.map_err(|error| {
            self.outgoing.drop_all();
            self.unsent = Some(error);
        }))
    }

    /// Shows the next head of the answer once it is whole, again until it is [passed](Self::pass_head).
    pub(in crate::gateway) fn poll_head<R>(
        &mut self,
        cx: &mut Context<'_>,
        look: impl FnOnce(&Answer<'_>) -> R,
    ) -> Poll<Result<R, Box<Error>>> {
        loop {
            if !self.connection.incoming.is_empty() {
                let (mut room, mut more) = (head::room(), Vec::new());
                let rooms = (&mut room, &mut more);
                let parsed = Answer::parse(&self.connection.incoming, self.limits, rooms);
                if let Some((answer, length)) = parsed.map_err(invalid)? {
                    self.head = length;
                    self.body = answer.body(self.head_only);
                    self.persistent = answer.persistent()
                        && self.body != BodyDecoder::Raw
                        && !answer.is_in_doubt()
                        && answer.status() != 101;
                    return Poll::Ready(Ok(look(&answer)));
                }
            }
            std::task::ready!(self.poll_read(cx, 0))?;
        }
    }

    /// The head that was shown last is done with.
    pub(in crate::gateway) fn pass_head(&mut self) {
        let length = std::mem::take(&mut self.head);
        self.connection.incoming.advance(length);
        self.fresh = false;
    }

    /// Whether there is [payload](Self::payload); not behind the last of it.
    pub(in crate::gateway) fn poll_body(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<bool, Box<Error>>> {
        loop {
            let incoming = &mut self.connection.incoming;
            let framing = self.body.skip_frame(incoming);
            let framing = framing.map_err(|_| malformed_chunks())?;
            incoming.advance(framing);
            if self.body.payload_ended() {
                return Poll::Ready(Ok(false));
            }
            let expected = self.body.payload();
            if expected > 0 && !incoming.is_empty() {
                return Poll::Ready(Ok(true));
            }
            let expected = match self.body {
                BodyDecoder::Length(left) => left,
                _ => u64::MAX,
            };
            if self.body == BodyDecoder::Raw {
                // Nothing but the end of the connection ends it.
                if !std::task::ready!(self.poll_more(cx, expected))? {
                    self.body = BodyDecoder::Done;
                }
            } else {
                std::task::ready!(self.poll_read(cx, expected))?;
            }
        }
    }

    /// Payload that is here.
    pub(in crate::gateway) fn payload(&mut self) -> Payload<'_> {
        let read = &mut self.connection.incoming;
        let most = usize::try_from(self.body.payload()).unwrap_or(usize::MAX);
        Payload {
            left: read.len().min(most),
            read,
            body: &mut self.body,
        }
    }

    /// What stands behind the body.
    pub(in crate::gateway) fn poll_trailers(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<HeaderMap>, Box<Error>>> {
        if self.body == BodyDecoder::Done && self.trailers == 0 {
            return Poll::Ready(Ok(None));
        }
        loop {
            let incoming = &self.connection.incoming;
            let followed = self.body.admit(&incoming[self.trailers..], |_| {});
            self.trailers += followed.map_err(|_| malformed_chunks())?;
            if self.body == BodyDecoder::Done {
                break;
            }
            std::task::ready!(self.poll_read(cx, 0))?;
        }
        let length = std::mem::take(&mut self.trailers);
        let read = trailers::read(&self.connection.incoming[..length]);
        self.connection.incoming.advance(length);
        Poll::Ready(read.map_err(|_| malformed_chunks()))
    }

    /// The connection, if it can serve another request.
    pub(in crate::gateway) fn into_reusable(self) -> Option<Socket> {
        let clean = self.persistent && self.unsent.is_none() && self.body == BodyDecoder::Done;
        clean.then(|| self.connection.into_socket()).flatten()
    }

    /// The connection, which is no HTTP any more.
    pub(in crate::gateway) fn tunnel(&mut self) -> &mut Connection {
        &mut self.connection
    }

    /// Reads more; that nothing more comes is an error.
    fn poll_read(&mut self, cx: &mut Context<'_>, expected: u64) -> Poll<Result<(), Box<Error>>> {
        match std::task::ready!(self.poll_more(cx, expected)) {
            Ok(true) => Poll::Ready(Ok(())),
            Ok(false) => Poll::Ready(Err(self.broken_off())),
            Err(error) => Poll::Ready(Err(error)),
        }
    }

    /// Reads more, and says whether there was any.
    fn poll_more(&mut self, cx: &mut Context<'_>, expected: u64) -> Poll<Result<bool, Box<Error>>> {
        match std::task::ready!(self.connection.poll_read(cx, expected)) {
            Ok(0) => Poll::Ready(Ok(false)),
            Ok(_) => {
                self.fresh = true;
                Poll::Ready(Ok(true))
            }
            Err(error) => Poll::Ready(Err(self.unreadable(error))),
        }
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

impl Default for Outgoing {
    fn default() -> Self {
        Self {
            chunked: false,
            framed: BytesMut::new(),
            piece: Bytes::new(),
            tail: b"",
            unflushed: false,
        }
    }
}

impl Outgoing {
    fn length(&self) -> usize {
        self.framed.len() + self.piece.len() + self.tail.len()
    }

    fn drop_all(&mut self) {
        self.framed.clear();
        self.piece = Bytes::new();
        self.tail = b"";
        self.unflushed = false;
    }

    fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        connection: &mut Connection,
    ) -> Poll<io::Result<()>> {
        while self.length() > 0 {
            let pieces = [&self.framed[..], &self.piece, self.tail];
            let written = std::task::ready!(connection.poll_write(cx, pieces))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.unflushed = connection.holds_back();
            let framed = written.min(self.framed.len());
            self.framed.advance(framed);
            let piece = (written - framed).min(self.piece.len());
            self.piece.advance(piece);
            self.tail = &self.tail[written - framed - piece..];
        }
        if self.unflushed {
            std::task::ready!(connection.poll_flush(cx))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }
}

impl Buf for Payload<'_> {
    fn remaining(&self) -> usize {
        self.left
    }

    fn chunk(&self) -> &[u8] {
        &self.read[..self.left]
    }

    fn advance(&mut self, count: usize) {
        self.read.advance(count);
        self.body.passed(count);
        self.left -= count;
    }

    /// Without a copy.
    fn copy_to_bytes(&mut self, length: usize) -> Bytes {
        let taken = self.read.split_to(length).freeze();
        self.body.passed(length);
        self.left -= length;
        taken
    }
}

fn malformed_chunks() -> Box<Error> {
    failure::invalid("the answer's chunks are malformed")
}

/// An answer that cannot be passed on.
fn invalid(why: InvalidHead) -> Box<Error> {
    failure::invalid(why.0)
}
