//! A stream of an HTTP/2 connection: the body that comes, and the answer that goes.

use std::io;
use std::task::{Context, Poll};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, Response, StatusCode};

use super::answer;
use super::traffic::Open;
use crate::gateway::message::{AnswerHead, BodyFraming, GatewayHeaders};
use crate::gateway::timers::ExchangeTimers;

/// Bytes of an answer that are put together before they become a frame. A frame for each small piece would cost more than
/// the piece, and codecs end connections that bring many of them.
const GATHER: usize = 8 << 10;

/// One request's stream. Dropped before its answer is whole it is reset.
pub(crate) struct Http2Wire {
    /// The body, while something of it may come.
    incoming: Option<RecvStream>,
    sending: Sending,
    /// Bytes of the answer's body that were announced and not sent yet; `None`: nobody knows.
    left: Option<u64>,
    /// Of the body, not yet handed to the codec: the client's window is not open for it, or what follows it is not known.
    pending: Bytes,
    /// Small pieces of it, put together: one frame for all of them. Empty while `pending` is not.
    gathered: BytesMut,
    /// The request turned out to be malformed: it has no answer (RFC 9113 §8.1.1).
    malformed: bool,
    /// What stood behind the request's body. Boxed, as what stands behind the answer's: few have any.
    trailers: Option<Box<HeaderMap>>,
    /// The answer ends behind `pending`, perhaps with trailers.
    ending: Option<Option<Box<HeaderMap>>>,
    open: Open,
}

enum Sending {
    /// The head was not sent.
    Head(SendResponse<Bytes>),
    /// The body is under way.
    Body(SendStream<Bytes>),
    /// All of it was handed to the codec.
    Ended,
    /// The stream was reset, or the connection is gone.
    Failed,
}

impl Http2Wire {
    pub(super) fn new(incoming: RecvStream, respond: SendResponse<Bytes>, open: Open) -> Self {
        Self {
            incoming: (!incoming.is_end_stream()).then_some(incoming),
            sending: Sending::Head(respond),
            left: None,
            pending: Bytes::new(),
            gathered: BytesMut::new(),
            malformed: false,
            trailers: None,
            ending: None,
            open,
        }
    }

    /// Whether all of the request's body was handed on.
    pub(crate) fn body_done(&self) -> bool {
        self.incoming.is_none()
    }

    /// What stood behind the request's body, once all of it was handed on.
    pub(crate) fn take_trailers(&mut self) -> Option<HeaderMap> {
        self.trailers.take().map(|trailers| *trailers)
    }

    /// The next piece of the body; `None` behind the last.
    pub(crate) fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Option<Bytes>>> {
        loop {
            let Some(incoming) = &mut self.incoming else {
                return Poll::Ready(Ok(None));
            };
            match std::task::ready!(incoming.poll_data(cx)) {
                Some(Ok(piece)) => {
                    // The next piece is asked for when this one was sent on, so one window more is all that waits here.
                    let _ = incoming.flow_control().release_capacity(piece.len());
                    if !piece.is_empty() {
                        self.open.goes_on();
                        return Poll::Ready(Ok(Some(piece)));
                    }
                }
                Some(Err(error)) => return Poll::Ready(Err(gone(error))),
                None => {
                    let trailers = std::task::ready!(incoming.poll_trailers(cx));
                    let stream = incoming.stream_id().as_u32();
                    let trailers = match trailers {
                        Ok(trailers) => trailers,
                        Err(error) => return Poll::Ready(Err(gone(error))),
                    };
                    self.incoming = None;
                    if self.open.has_malformed_trailers(stream) {
                        self.malformed = true;
                        return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
                    }
                    self.trailers = trailers.map(Box::new);
                }
            }
        }
    }

    /// Drops what still comes of the body, of which the client may send one window more.
    pub(crate) fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while let Some(incoming) = &mut self.incoming {
            if !matches!(std::task::ready!(incoming.poll_data(cx)), Some(Ok(_))) {
                self.incoming = None;
            }
        }
        Poll::Ready(())
    }

    /// Waits for the client to go away, or to lose interest.
    pub(crate) fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        let reset = match &mut self.sending {
            Sending::Head(respond) => std::task::ready!(respond.poll_reset(cx)),
            Sending::Body(stream) => std::task::ready!(stream.poll_reset(cx)),
            Sending::Ended => return Poll::Pending,
            Sending::Failed => return Poll::Ready(io::ErrorKind::ConnectionReset.into()),
        };
        Poll::Ready(match reset {
            Ok(_) if self.broke_rules(cx) => io::ErrorKind::InvalidData.into(),
            Ok(_) => {
                self.open.given_up();
                io::ErrorKind::ConnectionReset.into()
            }
            Err(error) => gone(error),
        })
    }

    /// Whether it was the codec that reset the stream, for what came of its body.
    fn broke_rules(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(incoming) = &mut self.incoming else {
            return false;
        };
        loop {
            match incoming.poll_data(cx) {
                Poll::Ready(Some(Ok(_))) => {}
                Poll::Ready(Some(Err(error))) => return error.is_library(),
                Poll::Ready(None) | Poll::Pending => return false,
            }
        }
    }

    /// Sends an informational head.
    pub(crate) fn inform(&mut self, head: &impl AnswerHead) {
        if let Sending::Head(respond) = &mut self.sending
            && let Some(head) = answer::informational(head)
        {
            let _ = respond.send_informational(head);
        }
    }

    /// Says that the body may come (RFC 9110 §10.1.1).
    pub(crate) fn send_continue(&mut self) {
        if let Sending::Head(respond) = &mut self.sending {
            let mut head = Response::new(());
            *head.status_mut() = StatusCode::CONTINUE;
            let _ = respond.send_informational(head);
        }
    }

    /// Sends the head of the final answer.
    pub(crate) fn begin_answer(
        &mut self,
        head: &impl AnswerHead,
        framing: BodyFraming,
        ours: &GatewayHeaders,
    ) {
        if self.malformed {
            return self.reset(Reason::PROTOCOL_ERROR);
        }
        let Sending::Head(respond) = &mut self.sending else {
            return;
        };
        self.left = match framing {
            BodyFraming::Absent => Some(0),
            BodyFraming::Length(length) => Some(length),
            BodyFraming::Chunked | BodyFraming::Close => None,
        };
        // Trailers may follow a body of no bytes.
        let ends = framing == BodyFraming::Absent;
        let sent = answer::response(head, framing, ours)
            .and_then(|head| respond.send_response(head, ends).ok());
        self.sending = match sent {
            Some(_) if ends => Sending::Ended,
            Some(stream) => Sending::Body(stream),
            None => Sending::Failed,
        };
    }

    /// Adds a piece of the answer's body to what is to be sent, of which nothing may be left.
    pub(crate) fn queue(&mut self, piece: Bytes) {
        self.take_off(piece.len());
        self.pending = piece;
    }

    /// Sends as much of `piece` as the client's windows are open for; says how much. Little is only queued, behind what is
    /// queued, and sent by the next [`Self::poll_flush`].
    pub(crate) fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        piece: &mut impl Buf,
        waits: &mut ExchangeTimers,
    ) -> Poll<io::Result<usize>> {
        let length = piece.remaining();
        if matches!(self.sending, Sending::Body(_)) && self.queued() + length <= GATHER {
            self.gather(piece);
            return Poll::Ready(Ok(length));
        }
        std::task::ready!(self.poll_flush(cx, waits))?;
        if self.left == Some(length as u64) {
            // The last frame says that the stream ends, unless trailers do: it waits for one of them, or a flush.
            self.left = Some(0);
            self.pending = piece.copy_to_bytes(length);
            return Poll::Ready(Ok(length));
        }
        let sent = std::task::ready!(self.poll_piece_out(cx, piece, waits))?;
        self.take_off(sent);
        Poll::Ready(Ok(sent))
    }

    /// Bytes that wait for the codec.
    fn queued(&self) -> usize {
        self.pending.len() + self.gathered.len()
    }

    /// Puts a small piece behind what is queued. Alone it stays where it lies.
    fn gather(&mut self, piece: &mut impl Buf) {
        let length = piece.remaining();
        self.take_off(length);
        if self.queued() == 0 {
            self.pending = piece.copy_to_bytes(length);
            return;
        }
        if self.gathered.is_empty() {
            self.gathered.reserve(GATHER);
            self.gathered.put(std::mem::take(&mut self.pending));
        }
        self.gathered.put(piece);
    }

    /// So many bytes of the answer's body are queued or sent.
    fn take_off(&mut self, bytes: usize) {
        self.left = self.left.map(|left| left.saturating_sub(bytes as u64));
    }

    /// Sends what is queued, as far as the client's windows are open.
    pub(crate) fn poll_flush(
        &mut self,
        cx: &mut Context<'_>,
        waits: &mut ExchangeTimers,
    ) -> Poll<io::Result<()>> {
        if !self.gathered.is_empty() {
            self.pending = self.gathered.split().freeze();
        }
        while !self.pending.is_empty() {
            let mut pending = std::mem::take(&mut self.pending);
            let sent = self.poll_piece_out(cx, &mut pending, waits);
            self.pending = pending;
            std::task::ready!(sent)?;
        }
        if let Some(trailers) = self.ending.take()
            && let Sending::Body(stream) = &mut self.sending
        {
            let sent = match trailers {
                Some(trailers) => stream.send_trailers(*trailers),
                None => stream.send_data(Bytes::new(), true),
            };
            self.sending = match sent {
                Ok(()) => Sending::Ended,
                Err(_) => Sending::Failed,
            };
        }
        if let Sending::Failed = self.sending {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        Poll::Ready(Ok(()))
    }

    /// Hands to the codec what the windows are open for. It would hold any more, for a client that may take nothing.
    fn poll_piece_out(
        &mut self,
        cx: &mut Context<'_>,
        piece: &mut impl Buf,
        waits: &mut ExchangeTimers,
    ) -> Poll<io::Result<usize>> {
        let Sending::Body(stream) = &mut self.sending else {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        };
        let length = piece.remaining();
        stream.reserve_capacity(length);
        let mut open = stream.capacity();
        while open == 0 && length > 0 {
            open = match stream.poll_capacity(cx) {
                Poll::Ready(Some(Ok(open))) => open,
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(gone(error))),
                Poll::Ready(None) => {
                    return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
                }
                Poll::Pending => return waits.stalled(cx),
            };
        }
        let length = length.min(open);
        waits.unstalled(length);
        self.open.goes_on();
        let whole = matches!(self.ending, Some(None)) && length == piece.remaining();
        match stream.send_data(piece.copy_to_bytes(length), whole) {
            Ok(()) if whole => self.sending = Sending::Ended,
            Ok(()) => {}
            Err(error) => return Poll::Ready(Err(gone(error))),
        }
        Poll::Ready(Ok(length))
    }

    /// The answer ends behind what is queued, with trailers or without. One that is shorter than was said does not end.
    pub(crate) fn end_answer(&mut self, trailers: Option<HeaderMap>) {
        if self.left.is_none_or(|left| left == 0) {
            self.ending = Some(trailers.map(Box::new));
        }
    }

    /// Ends the stream so that the client sees that something is missing.
    pub(crate) fn break_off(&mut self) {
        self.reset(match self.malformed {
            true => Reason::PROTOCOL_ERROR,
            false => Reason::INTERNAL_ERROR,
        });
    }

    fn reset(&mut self, reason: Reason) {
        match &mut self.sending {
            Sending::Head(respond) => respond.send_reset(reason),
            Sending::Body(stream) => stream.send_reset(reason),
            Sending::Ended | Sending::Failed => return,
        }
        self.sending = Sending::Failed;
    }
}

/// The client gave the stream up, or the connection is gone; or it was the codec that reset a stream that is malformed.
fn gone(error: h2::Error) -> io::Error {
    if error.is_reset() && error.is_library() {
        return io::ErrorKind::InvalidData.into();
    }
    error
        .into_io()
        .unwrap_or_else(|| io::ErrorKind::ConnectionReset.into())
}
