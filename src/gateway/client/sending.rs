//! The answer on its way to the client, as bytes. [`ResponseWriter`](super::super::answer) alone says what they are.

use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::{Buf, Bytes, BytesMut};
use http::{HeaderMap, Version};

use super::io::{ClientIo, State};
use super::wire::Wire;
use crate::gateway::message::{AnswerHead, BodyFraming, GatewayHeaders};

impl ClientIo {
    /// Says that the body may come, at once.
    pub(in crate::gateway) async fn send_continue(&self) -> io::Result<()> {
        self.queue_continue();
        self.flush().await
    }

    /// Queues the word that the body may come.
    pub(in crate::gateway) fn queue_continue(&self) {
        match &mut self.state.lock().wire {
            Wire::Http1(wire) => wire.send_continue(),
            Wire::Http2(wire) => wire.send_continue(),
            // The body is here, whole.
            Wire::Memory(_) => {}
        }
    }

    /// Queues an informational head.
    pub(in crate::gateway) fn inform(&self, head: &impl AnswerHead, version: Version) {
        let state = &mut *self.state.lock();
        match &mut state.wire {
            Wire::Http1(wire) => {
                state.answered |= version == Version::HTTP_11;
                wire.inform(head, version);
            }
            Wire::Http2(wire) => wire.inform(head),
            // Whoever asks from inside waits for the final answer.
            Wire::Memory(_) => {}
        }
    }

    /// Queues the head of the final answer. The connection ends with it when its end delimits the body, when the client sends
    /// no more, or when some of the request is unread: that would be taken for the next one.
    pub(in crate::gateway) fn begin_answer(
        &self,
        head: &impl AnswerHead,
        framing: BodyFraming,
        ours: &GatewayHeaders,
        version: Version,
    ) {
        let state = &mut *self.state.lock();
        state.answered = true;
        state.status = head.status();
        state.persistent &= framing != BodyFraming::Close && state.wire.may_go_on();
        match &mut state.wire {
            Wire::Http1(wire) => wire.begin_answer(head, framing, ours, state.persistent, version),
            Wire::Http2(wire) => wire.begin_answer(head, framing, ours),
            Wire::Memory(wire) => wire.begin_answer(head, framing, ours),
        }
    }

    /// Queues pieces of the answer's body that `write` shows, behind what the client took: [`Self::poll_flush`] comes
    /// first.
    pub(in crate::gateway) fn queue_pieces<T>(
        &self,
        write: impl FnOnce(&mut dyn FnMut(&[u8])) -> T,
    ) -> T {
        let State { wire, sent, .. } = &mut *self.state.lock();
        match wire {
            Wire::Http1(wire) => write(&mut |piece| {
                *sent += piece.len() as u64;
                wire.queue(piece);
            }),
            Wire::Http2(wire) => gathered(write, sent, |pieces| wire.queue(pieces)),
            Wire::Memory(wire) => gathered(write, sent, |pieces| wire.queue(pieces)),
        }
    }

    /// Writes what is queued and some of `piece`, which is taken from it: says how many bytes. Little is only queued, and
    /// written by the next [`Self::poll_flush`].
    pub(in crate::gateway) fn poll_send(
        &self,
        cx: &mut Context<'_>,
        piece: &mut impl Buf,
    ) -> Poll<io::Result<usize>> {
        self.state.lock().poll_send(cx, piece)
    }

    /// Queues the end of the answer, and trailers where the protocol carries them.
    pub(in crate::gateway) fn end_answer(&self, trailers: Option<HeaderMap>) {
        match &mut self.state.lock().wire {
            Wire::Http1(wire) => wire.end_answer(trailers.as_ref()),
            Wire::Http2(wire) => wire.end_answer(trailers),
            Wire::Memory(wire) => wire.end_answer(trailers),
        }
    }

    /// Writes what is queued, as far as the client takes it in time.
    pub(in crate::gateway) async fn flush(&self) -> io::Result<()> {
        poll_fn(|cx| self.poll_flush(cx)).await
    }

    /// Writes what is queued, for whoever waits for other things besides.
    pub(in crate::gateway) fn poll_flush(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.state.lock().poll_flush(cx)
    }

    /// Writes what is queued, the last of a whole answer.
    pub(in crate::gateway) fn poll_flush_last(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.state.lock();
        std::task::ready!(state.poll_flush(cx))?;
        state.complete = true;
        Poll::Ready(Ok(()))
    }

    /// Nothing of the answer may go at the moment: what was queued goes, and the deadline of the exchange holds.
    pub(in crate::gateway) fn poll_paced(&self, cx: &mut Context<'_>) -> Poll<io::Error> {
        let mut state = self.state.lock();
        if let Poll::Ready(Err(error)) = state.poll_flush(cx) {
            return Poll::Ready(error);
        }
        state.waits.poll_due(cx, None)
    }

    /// Something may go again. Nobody listened to the upstream meanwhile.
    pub(in crate::gateway) fn listens_again(&self) {
        self.state.lock().waits.listens_again();
    }

    /// Closes the writing side.
    pub(in crate::gateway) async fn shutdown(&self) {
        let _ = poll_fn(|cx| self.state.lock().poll_shutdown(cx)).await;
    }

    /// Status of the final answer, if its head was queued.
    pub(in crate::gateway) fn status(&self) -> Option<u16> {
        Some(self.state.lock().status).filter(|status| *status > 0)
    }

    /// The exchange ended.
    pub(in crate::gateway) fn ended(&self, now: Instant) -> Moved {
        let mut state = self.state.lock();
        state.ended = now;
        Moved {
            received: state.received,
            sent: state.sent,
            status: state.status,
        }
    }
}

/// Pieces that `write` shows, gathered for a wire that takes them as one and counted in `sent`.
fn gathered<T>(
    write: impl FnOnce(&mut dyn FnMut(&[u8])) -> T,
    sent: &mut u64,
    queue: impl FnOnce(Bytes),
) -> T {
    let mut pieces = BytesMut::new();
    let wrote = write(&mut |piece| pieces.extend_from_slice(piece));
    *sent += pieces.len() as u64;
    if !pieces.is_empty() {
        queue(pieces.freeze());
    }
    wrote
}

/// What went over the wire in one exchange.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::gateway) struct Moved {
    /// Bytes that the client sent, without its head.
    pub(in crate::gateway) received: u64,
    /// Bytes of the answer's body.
    pub(in crate::gateway) sent: u64,
    /// Status of the answer; 0: none began.
    pub(in crate::gateway) status: u16,
}

impl State {
    fn poll_send(&mut self, cx: &mut Context<'_>, piece: &mut impl Buf) -> Poll<io::Result<usize>> {
        let Self { wire, waits, .. } = self;
        let sent = match wire {
            Wire::Http1(wire) => {
                let sent = std::task::ready!(wire.poll_send(cx, piece.chunk(), waits))?;
                piece.advance(sent);
                sent
            }
            Wire::Http2(wire) => std::task::ready!(wire.poll_send(cx, piece, waits))?,
            Wire::Memory(wire) => std::task::ready!(wire.poll_send(cx, piece, waits))?,
        };
        self.sent += sent as u64;
        Poll::Ready(Ok(sent))
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.wire {
            Wire::Http1(wire) => wire.poll_flush(cx, &mut self.waits),
            Wire::Http2(wire) => wire.poll_flush(cx, &mut self.waits),
            Wire::Memory(wire) => wire.poll_flush(cx, &mut self.waits),
        }
    }

    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.wire {
            Wire::Http1(wire) => wire.poll_shutdown(cx, &mut self.waits),
            Wire::Http2(_) | Wire::Memory(_) => Poll::Ready(Ok(())),
        }
    }
}
