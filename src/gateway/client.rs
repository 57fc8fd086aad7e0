//! The client's connection: what the framework may read of it, and what stays ours.
//!
//! [`ClientIo`] owns the socket and is shared by the connection's loop, the request being served, and the stream that
//! the framework holds. So a body can be buffered before it is forwarded, an answer can still be written when the
//! framework has given up, and a connection can be closed without cutting an answer off. The stream hands on exactly
//! one message; what a client sends ahead waits here. Uncontended lock: one task uses one connection.

use std::future::{Future, poll_fn};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::AsRawFd;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::{Buf, BytesMut};
use parking_lot::Mutex;
use pingora::protocols::raw_connect::ProxyDigest;
use pingora::protocols::{
    GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl,
    TimingDigest, UniqueID, UniqueIDType,
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::Sleep;

use super::http1::body::BodyGuard;
use crate::primitives::trace::TraceId;

/// An accepted socket.
#[derive(Debug)]
pub enum Socket {
    /// TCP.
    Tcp(TcpStream),
    /// A Unix socket.
    Unix(UnixStream),
}

/// Why reading on behalf of the framework was ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// The chunked coding is malformed.
    Framing,
    /// The deadline of the exchange passed.
    Deadline,
    /// The client took nothing for too long.
    Stalled,
    /// The upstream said nothing for too long after it had the whole request.
    Silence,
}

/// Why a body could not be buffered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unbuffered {
    /// It is longer than allowed.
    TooLarge,
    /// It is malformed.
    Malformed,
    /// The client paused too long.
    TimedOut,
    /// The client went away.
    Gone,
}

/// The socket and what was read from it but not handed on.
pub(super) struct ClientIo {
    state: Mutex<State>,
    fd: i32,
}

struct State {
    socket: Socket,
    /// Read, not yet looked at.
    ahead: BytesMut,
    /// Looked at and part of this message, not yet handed on.
    admitted: BytesMut,
    guard: BodyGuard,
    /// Answer bytes not yet written.
    outgoing: BytesMut,
    /// Answer bytes taken since the request began.
    taken: u64,
    fault: Option<Fault>,
    deadline: Option<Instant>,
    /// One timer for the deadlines of all requests of this connection, see [`State::poll_deadline`].
    timer: Option<Pin<Box<Sleep>>>,
    stall: Option<Pin<Box<Sleep>>>,
    /// How long the upstream may say nothing once the request is read, and the wait under way.
    silence: Option<(Duration, Option<Pin<Box<Sleep>>>)>,
    write_timeout: Duration,
    closed: bool,
    /// The answer promised that the connection goes on, and is complete.
    goes_on: bool,
    trace: Option<TraceId>,
}

/// Answer bytes gathered before they are written.
const GATHER: usize = 4096;
/// Bytes read at a time.
const READ: usize = 4096;
/// Most read and dropped of a request that was refused, and for how long (contract §11).
const LINGER_BYTES: usize = 64 << 10;
const LINGER: Duration = Duration::from_secs(1);

impl ClientIo {
    pub(super) fn new(socket: Socket, write_timeout: Duration) -> Arc<Self> {
        let fd = match &socket {
            Socket::Tcp(stream) => stream.as_raw_fd(),
            Socket::Unix(stream) => stream.as_raw_fd(),
        };
        let state = State {
            socket,
            ahead: BytesMut::new(),
            admitted: BytesMut::new(),
            guard: BodyGuard::Done,
            outgoing: BytesMut::new(),
            taken: 0,
            fault: None,
            deadline: None,
            timer: None,
            stall: None,
            silence: None,
            write_timeout,
            closed: false,
            goes_on: false,
            trace: None,
        };
        Arc::new(Self {
            state: Mutex::new(state),
            fd,
        })
    }

    /// Lets `look` see the bytes of the next head and reads more while it says so. `Ok(false)` when the client closed.
    pub(super) async fn read_head(
        &self,
        mut look: impl FnMut(&BytesMut) -> bool,
    ) -> io::Result<bool> {
        poll_fn(|cx| {
            let mut state = self.state.lock();
            loop {
                if !state.ahead.is_empty() && look(&state.ahead) {
                    return Poll::Ready(Ok(true));
                }
                match state.fill_ahead(cx) {
                    Poll::Ready(Ok(0)) => return Poll::Ready(Ok(false)),
                    Poll::Ready(Ok(_)) => {}
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                    Poll::Pending => return Poll::Pending,
                }
            }
        })
        .await
    }

    /// Whether bytes of a next request are here already.
    pub(super) fn has_ahead(&self) -> bool {
        !self.state.lock().ahead.is_empty()
    }

    /// Takes the first `length` bytes read, which are a head, and follows the body from there.
    pub(super) fn begin(
        &self,
        length: usize,
        guard: BodyGuard,
        write_timeout: Duration,
    ) -> BytesMut {
        let mut state = self.state.lock();
        state.guard = guard;
        state.taken = 0;
        state.goes_on = false;
        state.fault = None;
        state.deadline = None;
        state.silence = None;
        state.trace = None;
        state.write_timeout = write_timeout;
        let head = state.ahead.split_to(length);
        if state.ahead.is_empty() {
            // The head holds the allocation now; an idle connection holds none.
            state.ahead = BytesMut::new();
        }
        head
    }

    /// Bytes skipped before a request line: an empty line an old client may send (RFC 9112 §2.2).
    pub(super) fn skip(&self, length: usize) {
        self.state.lock().ahead.advance(length);
    }

    /// Why reading was ended, if it was.
    pub(super) fn fault(&self) -> Option<Fault> {
        self.state.lock().fault
    }

    /// Answer bytes written or gathered since the request began.
    pub(super) fn answered(&self) -> bool {
        self.state.lock().taken > 0
    }

    /// Whether the whole request was read from the socket.
    pub(super) fn body_read(&self) -> bool {
        self.state.lock().guard == BodyGuard::Done
    }

    /// Admits what is here of the body already, without reading; says whether that is all of it.
    pub(super) fn admit_ahead(&self) -> bool {
        let mut state = self.state.lock();
        let _ = state.admit(|_| {});
        state.guard == BodyGuard::Done
    }

    /// Whether the connection was upgraded.
    pub(super) fn upgraded(&self) -> bool {
        self.state.lock().guard == BodyGuard::Raw
    }

    /// A complete answer promised that the connection goes on. The framework drops every connection whose upstream
    /// failed; with an upstream down that would cost each client a new one for each request.
    pub(super) fn promise(&self) {
        self.state.lock().goes_on = true;
    }

    /// Whether that promise can be kept.
    pub(super) fn goes_on(&self) -> bool {
        let state = self.state.lock();
        state.goes_on && !state.closed && state.fault.is_none()
    }

    /// Remembers the identifier of the request being served, for an answer after a panic.
    pub(super) fn note(&self, trace: TraceId) {
        self.state.lock().trace = Some(trace);
    }

    /// The identifier of the request being served.
    pub(super) fn trace(&self) -> Option<TraceId> {
        self.state.lock().trace
    }

    /// Ends reading when the exchange's time is over.
    pub(super) fn set_deadline(&self, at: Instant) {
        self.state.lock().deadline = Some(at);
    }

    /// Bounds the upstream's silence, counted from when the request is read: the framework would count from when its
    /// head was sent, and blame the upstream for a client that sends slowly.
    pub(super) fn bound_silence(&self, limit: Duration) {
        self.state.lock().silence = Some((limit, None));
    }

    /// The upstream said something: its silence is counted anew.
    pub(super) fn heard(&self) {
        if let Some((_, wait)) = &mut self.state.lock().silence {
            *wait = None;
        }
    }

    /// From here on the connection is no HTTP.
    pub(super) fn upgrade(&self) {
        let mut state = self.state.lock();
        state.guard = BodyGuard::Raw;
        state.deadline = None;
        state.silence = None;
    }

    /// Reads the whole body and keeps it for the framework; returns its payload.
    pub(super) async fn buffer_body(
        &self,
        most: u64,
        pause: Duration,
    ) -> Result<Vec<u8>, Unbuffered> {
        let mut payload = Vec::new();
        loop {
            {
                let mut state = self.state.lock();
                let taken = state.admit(|data| payload.extend_from_slice(data));
                taken.map_err(|()| Unbuffered::Malformed)?;
                if payload.len() as u64 > most {
                    return Err(Unbuffered::TooLarge);
                }
                if state.guard == BodyGuard::Done {
                    return Ok(payload);
                }
            }
            let read = poll_fn(|cx| self.state.lock().fill_ahead(cx));
            match tokio::time::timeout(pause, read).await {
                Err(_) => return Err(Unbuffered::TimedOut),
                Ok(Ok(0) | Err(_)) => return Err(Unbuffered::Gone),
                Ok(Ok(_)) => {}
            }
        }
    }

    /// Writes bytes of ours to the client, as far as it takes them in time.
    pub(super) async fn write(&self, bytes: &[u8]) -> io::Result<()> {
        let mut at = 0;
        poll_fn(|cx| {
            let mut state = self.state.lock();
            while at < bytes.len() {
                match state.poll_write(cx, &bytes[at..]) {
                    Poll::Ready(Ok(written)) => at += written,
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                    Poll::Pending => return Poll::Pending,
                }
            }
            state.poll_flush(cx)
        })
        .await
    }

    /// Says that no more will be sent, then reads and drops what the client still sends, within bounds: closing at
    /// once would make the kernel reset the connection and the client lose our answer.
    pub(super) async fn linger(&self) {
        let drain = async {
            let _ = poll_fn(|cx| self.state.lock().poll_shutdown(cx)).await;
            let mut dropped = 0;
            while dropped < LINGER_BYTES {
                let read = poll_fn(|cx| {
                    let mut state = self.state.lock();
                    state.ahead.clear();
                    state.fill_ahead(cx)
                });
                match read.await {
                    Ok(0) | Err(_) => return,
                    Ok(read) => dropped += read,
                }
            }
        };
        let _ = tokio::time::timeout(LINGER, drain).await;
    }

    /// The stream for the framework.
    pub(super) fn stream(self: &Arc<Self>) -> ClientStream {
        ClientStream(Arc::clone(self))
    }
}

impl State {
    /// Moves what belongs to this message from `ahead` to `admitted`.
    fn admit(&mut self, data: impl FnMut(&[u8])) -> Result<usize, ()> {
        match self.guard.admit(&self.ahead, data) {
            Ok(taken) => {
                let bytes = self.ahead.split_to(taken);
                if self.admitted.is_empty() {
                    self.admitted = bytes;
                } else {
                    self.admitted.extend_from_slice(&bytes);
                }
                Ok(taken)
            }
            Err(_) => {
                self.fault = Some(Fault::Framing);
                Err(())
            }
        }
    }

    fn fill_ahead(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let before = self.ahead.len();
        let mut spare = [const { MaybeUninit::uninit() }; READ];
        let mut buf = ReadBuf::uninit(&mut spare);
        match self.socket.poll_read(cx, &mut buf) {
            Poll::Ready(Ok(())) => {
                self.ahead.extend_from_slice(buf.filled());
                Poll::Ready(Ok(self.ahead.len() - before))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => {
                if before == 0 {
                    self.ahead = BytesMut::new();
                }
                Poll::Pending
            }
        }
    }

    fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.poll_deadline(cx).is_ready() {
            self.fault = Some(Fault::Deadline);
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        if self.admitted.is_empty() && !self.ahead.is_empty() {
            self.admit(|_| {})
                .map_err(|()| io::Error::from(io::ErrorKind::InvalidData))?;
        }
        if !self.admitted.is_empty() {
            let taken = self.admitted.len().min(buf.remaining());
            buf.put_slice(&self.admitted.split_to(taken));
            if self.admitted.is_empty() {
                self.admitted = BytesMut::new();
            }
            return Poll::Ready(Ok(()));
        }
        if self.guard == BodyGuard::Done {
            return self.poll_idle(cx);
        }
        let before = buf.filled().len();
        std::task::ready!(self.socket.poll_read(cx, buf))?;
        let Ok(taken) = self.guard.admit(&buf.filled()[before..], |_| {}) else {
            self.fault = Some(Fault::Framing);
            buf.set_filled(before);
            return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
        };
        self.ahead
            .extend_from_slice(&buf.filled()[before + taken..]);
        buf.set_filled(before + taken);
        Poll::Ready(Ok(()))
    }

    /// Ready when the exchange's time is over. The timer is armed once and left alone: a later request's deadline is
    /// later, so it fires early at worst and is armed anew then. Arming it for each request would cost each of them.
    fn poll_deadline(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(deadline) = self.deadline else {
            return Poll::Pending;
        };
        let timer = self
            .timer
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline.into())));
        if timer.deadline() > deadline.into() {
            timer.as_mut().reset(deadline.into());
        }
        while timer.as_mut().poll(cx).is_ready() {
            if Instant::now() >= deadline {
                return Poll::Ready(());
            }
            timer.as_mut().reset(deadline.into());
        }
        Poll::Pending
    }

    /// The message is read; the framework only wants to know whether the client goes away. What it sends ahead stays
    /// here, and no more of it is read until its turn.
    fn poll_idle(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Some((limit, wait)) = &mut self.silence {
            let limit = *limit;
            let wait = wait.get_or_insert_with(|| Box::pin(tokio::time::sleep(limit)));
            if wait.as_mut().poll(cx).is_ready() {
                self.fault = Some(Fault::Silence);
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
        }
        if !self.ahead.is_empty() {
            return Poll::Pending;
        }
        match std::task::ready!(self.fill_ahead(cx))? {
            0 => Poll::Ready(Ok(())),
            _ => Poll::Pending,
        }
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.outgoing.len() + bytes.len() <= GATHER {
            self.outgoing.extend_from_slice(bytes);
            self.taken += bytes.len() as u64;
            return Poll::Ready(Ok(bytes.len()));
        }
        loop {
            let slices = [io::IoSlice::new(&self.outgoing), io::IoSlice::new(bytes)];
            let gathered = self.outgoing.len();
            let written = match self.socket.poll_write_vectored(cx, &slices) {
                Poll::Ready(written) => written?,
                Poll::Pending => return self.stalled(cx),
            };
            self.stall = None;
            self.outgoing.advance(written.min(gathered));
            if written > gathered {
                self.taken += (written - gathered) as u64;
                return Poll::Ready(Ok(written - gathered));
            }
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
        }
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.outgoing.is_empty() {
            let written = match self.socket.poll_write(cx, &self.outgoing) {
                Poll::Ready(written) => written?,
                Poll::Pending => return self.stalled(cx).map_ok(|_: usize| ()),
            };
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.stall = None;
            self.outgoing.advance(written);
        }
        // Idle connections hold no buffer.
        self.outgoing = BytesMut::new();
        Poll::Ready(Ok(()))
    }

    /// The client takes nothing; it has `write_timeout` to change that.
    fn stalled<T>(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        let limit = self.write_timeout;
        let stall = self
            .stall
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(limit)));
        std::task::ready!(stall.as_mut().poll(cx));
        self.fault = Some(Fault::Stalled);
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }

    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.closed {
            return Poll::Ready(Ok(()));
        }
        std::task::ready!(self.poll_flush(cx))?;
        std::task::ready!(self.socket.poll_shutdown(cx))?;
        self.closed = true;
        Poll::Ready(Ok(()))
    }
}

impl Socket {
    fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Unix(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self {
            Self::Tcp(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Unix(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        &mut self,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self {
            Self::Tcp(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
            Self::Unix(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
        }
    }

    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

/// What the framework reads and writes.
pub(super) struct ClientStream(Arc<ClientIo>);

impl std::fmt::Debug for ClientStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ClientStream({})", self.0.fd)
    }
}

impl AsyncRead for ClientStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.0.state.lock().poll_read(cx, buf)
    }
}

impl AsyncWrite for ClientStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.0.state.lock().poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.state.lock().poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.state.lock().poll_shutdown(cx)
    }
}

#[async_trait]
impl Shutdown for ClientStream {
    async fn shutdown(&mut self) {
        let _ = poll_fn(|cx| self.0.state.lock().poll_shutdown(cx)).await;
    }
}

impl UniqueID for ClientStream {
    fn id(&self) -> UniqueIDType {
        self.0.fd
    }
}

impl Ssl for ClientStream {}
impl Peek for ClientStream {}

impl GetTimingDigest for ClientStream {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        Vec::new()
    }
}

impl GetProxyDigest for ClientStream {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        None
    }
}

impl GetSocketDigest for ClientStream {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        None
    }
}
