//! What carries an exchange: a connection of HTTP/1, a stream of HTTP/2, or memory.

use std::io;
use std::task::{Context, Poll};

use crate::gateway::http1::body::BodyDecoder;
use crate::gateway::http1::wire::Http1Wire;
use crate::gateway::http2::wire::Http2Wire;
use crate::gateway::memory::MemoryWire;

/// What carries the exchange.
pub(super) enum Wire {
    Http1(Http1Wire),
    Http2(Http2Wire),
    /// Nothing: the request was made inside the process.
    Memory(MemoryWire),
}

impl Wire {
    /// Whether all of the body was read.
    pub(super) fn body_done(&self) -> bool {
        match self {
            Self::Http1(wire) => wire.guard == BodyDecoder::Done,
            Self::Http2(wire) => wire.body_done(),
            Self::Memory(wire) => wire.body_done(),
        }
    }

    /// Whether another request may follow: all of this one was read, and the client sends on.
    pub(super) fn may_go_on(&self) -> bool {
        let ended = matches!(self, Self::Http1(wire) if wire.ended);
        self.body_done() && !ended
    }

    /// Whether the client sends no more, and may still read.
    pub(super) fn half_closed(&self) -> bool {
        matches!(self, Self::Http1(wire) if wire.ended && wire.half_close)
    }

    pub(super) fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        match self {
            Self::Http1(wire) => wire.poll_gone(cx),
            Self::Http2(wire) => wire.poll_gone(cx),
            // Whoever asked from inside and leaves drops the request.
            Self::Memory(_) => Poll::Pending,
        }
    }

    /// Whether it carries no HTTP any more.
    pub(super) fn is_tunnel(&self) -> bool {
        matches!(self, Self::Http1(wire) if wire.guard == BodyDecoder::Raw)
    }
}
