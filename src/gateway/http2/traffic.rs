//! What goes over a connection of HTTP/2: whether it serves anybody, and whether the client takes what it is sent.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use futures_util::task::AtomicWaker;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::blocks::{Blocks, Flaw};
use crate::gateway::socket::Socket;

/// Most bytes that may come while nobody is served: no request, no piece of a body, no answer going out. Frames that ask
/// for nothing (PING, SETTINGS, PRIORITY, windows opened by a byte, padding) are answered or dropped by the codec at no
/// cost of memory; more of them than this are a flood (CVE-2019-9512, CVE-2019-9515, CVE-2019-9518).
const IDLE_BYTES: usize = 1 << 20;
/// Streams that may wait with a flaw to be looked at; with more all are taken to have one.
const FLAWED: usize = 64;
/// Streams that a client may give up before most of its streams have to be served (CVE-2023-44487).
const GIVEN_UP: u32 = 100;

/// Counts of one connection, shared with its streams.
#[derive(Default)]
pub(super) struct Traffic {
    idle_bytes: AtomicUsize,
    open: AtomicU32,
    accepted: AtomicU32,
    given_up: AtomicU32,
    is_stalled: AtomicBool,
    stalled: Mutex<Option<Instant>>,
    /// Streams in which something is wrong that the codec does not tell.
    is_flawed: AtomicBool,
    flaws: Mutex<Vec<Flaw>>,
    /// Wakes the connection when its last stream ended.
    quiet: AtomicWaker,
}

impl Traffic {
    /// A request came.
    pub(super) fn accepted(&self) {
        self.accepted.fetch_add(1, Ordering::Relaxed);
        self.useful();
    }

    /// Something was asked, sent or served.
    fn useful(&self) {
        self.idle_bytes.store(0, Ordering::Relaxed);
    }

    /// The codec is about to be shown something that it does not tell.
    fn tell(&self, flaw: Flaw) {
        let mut flaws = self.flaws.lock();
        if flaws.len() < FLAWED {
            flaws.push(flaw);
        } else {
            *flaws = vec![Flaw::Lost];
        }
        self.is_flawed.store(true, Ordering::Release);
    }

    /// Whether this is wrong; it is told once.
    pub(super) fn has(&self, flaw: Flaw) -> bool {
        if !self.is_flawed.load(Ordering::Acquire) {
            return false;
        }
        let mut flaws = self.flaws.lock();
        if flaws.contains(&Flaw::Lost) {
            return true;
        }
        let before = flaws.len();
        flaws.retain(|known| *known != flaw);
        flaws.len() < before
    }

    /// A stream begins; it ends with what is returned.
    pub(super) fn enter(self: &Arc<Self>) -> Open {
        self.open.fetch_add(1, Ordering::Relaxed);
        Open(Arc::clone(self))
    }

    /// Whether any stream is served.
    pub(super) fn is_busy(&self) -> bool {
        self.open.load(Ordering::Acquire) > 0
    }

    /// The task to wake when the last stream ended.
    pub(super) fn listen(&self, cx: &Context<'_>) {
        self.quiet.register(cx.waker());
    }

    /// Whether the client does what nobody does who wants to be served.
    pub(super) fn is_flood(&self) -> bool {
        let given_up = self.given_up.load(Ordering::Relaxed);
        self.idle_bytes.load(Ordering::Relaxed) > IDLE_BYTES
            || (given_up > GIVEN_UP && given_up > self.accepted.load(Ordering::Relaxed) / 2)
    }

    /// The flood was answered.
    pub(super) fn calm(&self) {
        self.idle_bytes.store(0, Ordering::Relaxed);
        self.given_up.store(0, Ordering::Relaxed);
    }

    /// Since when the client takes nothing of what is to be sent.
    pub(super) fn stalled(&self) -> Option<Instant> {
        self.is_stalled
            .load(Ordering::Relaxed)
            .then(|| *self.stalled.lock())
            .flatten()
    }

    fn wrote(&self, taken: bool) {
        if self.is_stalled.load(Ordering::Relaxed) == taken {
            *self.stalled.lock() = (!taken).then(Instant::now);
            self.is_stalled.store(!taken, Ordering::Relaxed);
        }
    }
}

/// A stream that is served.
pub(crate) struct Open(Arc<Traffic>);

impl Open {
    /// A piece of a body came or went.
    pub(super) fn goes_on(&self) {
        self.0.useful();
    }

    /// Whether the trailers of this stream are malformed.
    pub(super) fn has_malformed_trailers(&self, stream: u32) -> bool {
        self.0.has(Flaw::Trailers(stream))
    }

    /// The client does not want the answer any more.
    pub(super) fn given_up(&self) {
        self.0.given_up.fetch_add(1, Ordering::Relaxed);
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        if self.0.open.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.quiet.wake();
        }
    }
}

/// A socket whose bytes are counted, and what was read from it before.
pub(super) struct Watched {
    socket: Socket,
    read: Bytes,
    traffic: Arc<Traffic>,
    blocks: Blocks,
}

impl Watched {
    /// `read` was read from the socket already; a block of fields has so many bytes at most.
    pub(super) fn new(
        socket: Socket,
        read: Bytes,
        traffic: Arc<Traffic>,
        longest_block: usize,
    ) -> Self {
        Self {
            socket,
            read,
            traffic,
            blocks: Blocks::new(longest_block),
        }
    }
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.read.is_empty() {
            let length = self.read.len().min(buf.remaining());
            let read = self.read.split_to(length);
            buf.put_slice(&read);
            let Self {
                blocks, traffic, ..
            } = &mut *self;
            blocks.follow(&read, |flaw| traffic.tell(flaw));
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        std::task::ready!(self.socket.poll_read(cx, buf))?;
        let came = &buf.filled()[before..];
        let Self {
            blocks, traffic, ..
        } = &mut *self;
        traffic.idle_bytes.fetch_add(came.len(), Ordering::Relaxed);
        blocks.follow(came, |flaw| traffic.tell(flaw));
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Watched {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = self.socket.poll_write(cx, bytes);
        self.traffic.wrote(written.is_ready());
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = self.socket.poll_write_vectored(cx, slices);
        self.traffic.wrote(written.is_ready());
        written
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.socket.poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.socket.poll_shutdown(cx)
    }
}
