//! The body that a client sends: read piece by piece, or as a whole before it is forwarded.

use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use http::HeaderMap;

use super::io::{ClientIo, State};
use super::wire::Wire;
use crate::gateway::auth_buffer::{Gathered, Room, Unbuffered};
use crate::gateway::timers::AbortReason;

impl ClientIo {
    /// The next piece of the body's payload; `None` behind the last.
    pub(in crate::gateway) async fn read_body(&self) -> io::Result<Option<Bytes>> {
        poll_fn(|cx| self.poll_body(cx)).await
    }

    /// [`read_body`](Self::read_body) for whoever waits for other things besides.
    pub(in crate::gateway) fn poll_body(
        &self,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<Option<Bytes>>> {
        self.state.lock().poll_body(cx)
    }

    /// What stood behind the body, once [`Self::poll_body`] has said that it ended.
    pub(in crate::gateway) fn take_trailers(&self) -> Option<HeaderMap> {
        match &mut self.state.lock().wire {
            Wire::Memory(_) => None,
            Wire::Http1(wire) => wire.take_trailers(),
            Wire::Http2(wire) => wire.take_trailers(),
        }
    }

    /// Reads the whole body, of about `expected` bytes and at most `most`, and keeps it for forwarding in `room`.
    pub(in crate::gateway) async fn buffer_body(
        &self,
        expected: u64,
        most: u64,
        room: Room,
    ) -> Result<Bytes, Unbuffered> {
        let mut gathered = Gathered::new(expected, most, room);
        let read = poll_fn(|cx| {
            let mut state = self.state.lock();
            loop {
                match std::task::ready!(state.poll_body(cx)) {
                    Ok(Some(piece)) => gathered.add(&piece)?,
                    Ok(None) => return Poll::Ready(Ok::<_, Unbuffered>(())),
                    Err(_) => return Poll::Ready(Err(state.waits.fault.into())),
                }
            }
        });
        read.await?;
        let payload = gathered.into_bytes();
        self.state.lock().buffered = Some(payload.clone());
        Ok(payload)
    }

    /// The body that was buffered, while nobody took it.
    pub(in crate::gateway) fn buffered(&self) -> Option<Bytes> {
        self.state.lock().buffered.clone()
    }
}

impl State {
    fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Option<Bytes>>> {
        if let Some(body) = self.buffered.take() {
            return Poll::Ready(Ok((!body.is_empty()).then_some(body)));
        }
        let tunnel = self.wire.is_tunnel();
        let read = match &mut self.wire {
            Wire::Http1(wire) => wire.poll_piece(cx),
            Wire::Http2(wire) => wire.poll_piece(cx),
            Wire::Memory(wire) => Poll::Ready(Ok(wire.piece())),
        };
        if let Poll::Ready(Ok(Some(piece))) = &read {
            self.received += piece.len() as u64;
        }
        if !tunnel && self.received <= self.most && !self.hooks.admit(&read) {
            self.waits.fault = Some(AbortReason::Refused);
            return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
        }
        match read {
            Poll::Ready(Ok(Some(_))) if tunnel => self.waits.silent = Some(Instant::now()),
            Poll::Ready(Ok(Some(_))) if self.received > self.most => {
                // Said once: who reads on drops the rest.
                self.most = u64::MAX;
                self.waits.fault = Some(AbortReason::TooLarge);
                return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
            }
            Poll::Ready(Ok(Some(ref piece))) => self.waits.body_goes_on(piece.len()),
            Poll::Ready(Ok(None)) if tunnel => {}
            Poll::Ready(Ok(None)) => self.waits.body_ended(),
            Poll::Ready(Err(ref error)) => {
                if error.kind() == io::ErrorKind::InvalidData {
                    self.waits.fault = Some(AbortReason::Framing);
                    self.persistent = false;
                } else if self.wire.half_closed() {
                    self.waits.fault = Some(AbortReason::Incomplete);
                    self.persistent = false;
                }
            }
            Poll::Pending => return self.waits.poll_body(cx, tunnel).map(Err),
        }
        read
    }
}
