//! What only a connection of HTTP/1 has: heads that come one after the other, upgrades, and an end. A stream has none of it,
//! and says so.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};

use super::io::{ClientIo, State};
use super::wire::Wire;
use crate::gateway::http1::body::BodyDecoder;
use crate::gateway::socket::Socket;

/// Why no head was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::gateway) enum NoHead {
    /// The client went away.
    Gone,
    /// The head took too long.
    TimedOut,
}

impl ClientIo {
    /// Lets `look` see the bytes of the next head, and reads more while it says so, until so long after `since`, or
    /// after the last exchange.
    pub(in crate::gateway) async fn read_head(
        &self,
        since: Option<Instant>,
        limit: Duration,
        mut look: impl FnMut(&BytesMut) -> bool,
    ) -> Result<(), NoHead> {
        poll_fn(|cx| {
            let State {
                wire, waits, ended, ..
            } = &mut *self.state.lock();
            let Wire::Http1(wire) = wire else {
                return Poll::Ready(Err(NoHead::Gone));
            };
            loop {
                if !wire.ahead.is_empty() && look(&wire.ahead) {
                    return Poll::Ready(Ok(()));
                }
                match wire.fill_ahead(cx) {
                    Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(Err(NoHead::Gone)),
                    Poll::Ready(Ok(_)) => {}
                    Poll::Pending => {
                        let due = since.unwrap_or(*ended) + limit;
                        std::task::ready!(waits.poll_until(cx, due));
                        return Poll::Ready(Err(NoHead::TimedOut));
                    }
                }
            }
        })
        .await
    }

    /// Whether bytes came that were not read yet.
    pub(in crate::gateway) fn something_waits(&self) -> bool {
        match &self.state.lock().wire {
            Wire::Http1(wire) => !wire.ahead.is_empty() || wire.socket.something_waits(),
            Wire::Http2(_) | Wire::Memory(_) => false,
        }
    }

    /// What was read and not taken.
    pub(in crate::gateway) fn peek(&self) -> Bytes {
        match &self.state.lock().wire {
            Wire::Http1(wire) => Bytes::copy_from_slice(&wire.ahead),
            Wire::Http2(_) | Wire::Memory(_) => Bytes::new(),
        }
    }

    /// Takes the first `length` bytes read, which are a head; `skip` bytes before it are dropped.
    pub(in crate::gateway) fn take_head(&self, skip: usize, length: usize) -> Bytes {
        match &mut self.state.lock().wire {
            Wire::Http1(wire) => wire.take_head(skip, length),
            Wire::Http2(_) | Wire::Memory(_) => Bytes::new(),
        }
    }

    /// The socket, and what was read from it and not taken: the client goes on in another protocol.
    pub(in crate::gateway) fn into_socket(self: Arc<Self>) -> Option<(Socket, Bytes)> {
        match Arc::into_inner(self)?.state.into_inner().wire {
            Wire::Http1(wire) => Some((wire.socket, wire.ahead.freeze())),
            Wire::Http2(_) | Wire::Memory(_) => None,
        }
    }

    /// Whether bytes of a next request are here already.
    pub(in crate::gateway) fn has_ahead(&self) -> bool {
        match &self.state.lock().wire {
            Wire::Http1(wire) => !wire.ahead.is_empty(),
            Wire::Http2(_) | Wire::Memory(_) => false,
        }
    }

    /// Whether the next request can be read: after a whole answer, when nothing of this request is left.
    pub(in crate::gateway) fn can_keep_alive(&self) -> bool {
        let state = self.state.lock();
        match &state.wire {
            Wire::Http1(wire) => state.persistent && state.complete && wire.is_clean(),
            Wire::Http2(_) | Wire::Memory(_) => false,
        }
    }

    /// Whether the connection was upgraded.
    pub(in crate::gateway) fn upgraded(&self) -> bool {
        self.state.lock().wire.is_tunnel()
    }

    /// From here on the connection is no HTTP. Both sides may be silent for so long.
    pub(in crate::gateway) fn upgrade(&self, silence: Duration) {
        let mut state = self.state.lock();
        if let Wire::Http1(wire) = &mut state.wire {
            wire.guard = BodyDecoder::Raw;
        }
        state.persistent = false;
        state.waits.deadline = None;
        state.waits.silence = Some(silence);
        state.waits.silent = Some(Instant::now());
    }

    /// What the client sends is not read any more: its tunnel has ended.
    pub(in crate::gateway) fn end_reading(&self) {
        if let Wire::Http1(wire) = &mut self.state.lock().wire {
            wire.guard = BodyDecoder::Done;
        }
    }
}
