//! The client's connection: what was read from it, what is to be written, and every time limit of both.
//!
//! [`ClientIo`] owns the socket and is shared by the connection's loop, the request being served, and the session that
//! the framework drives. So a body can be buffered before it is forwarded, an answer can still be written when the
//! framework has given up, and a connection can be closed without cutting an answer off. What a client sends ahead
//! waits here. Uncontended lock: one task uses one connection.

use std::future::{Future, poll_fn};
use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes, BytesMut};
use parking_lot::Mutex;
use tokio::io::ReadBuf;
use tokio::time::Sleep;

use super::http1::answer::Extra;
use super::http1::body::BodyGuard;
use super::socket::Socket;
use crate::config::ClientLimits;
use crate::primitives::trace::TraceId;

/// Why an exchange was ended here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// The chunked coding is malformed.
    Framing,
    /// The deadline of the exchange passed.
    Deadline,
    /// The client took nothing for too long.
    Stalled,
    /// The client paused too long within its body.
    Paused,
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

/// Why no head was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoHead {
    /// The client went away.
    Gone,
    /// It took too long.
    TimedOut,
}

/// The socket and what was read from it but not handed on.
pub(super) struct ClientIo {
    state: Mutex<State>,
}

struct State {
    socket: Socket,
    /// Read, not yet looked at.
    ahead: BytesMut,
    guard: BodyGuard,
    /// The body, read before it is forwarded.
    buffered: Option<Bytes>,
    /// Answer bytes not yet written.
    outgoing: BytesMut,
    /// An answer began.
    answered: bool,
    fault: Option<Fault>,
    deadline: Option<Instant>,
    /// How long the client may pause within its body, and since when it does.
    pause: Duration,
    paused: Option<Instant>,
    /// How long the upstream may say nothing once the request is read, and since when it does.
    silence: Option<Duration>,
    silent: Option<Instant>,
    /// How long the client may take nothing, and since when it does.
    write_timeout: Duration,
    stalled: Option<Instant>,
    /// One timer for all these, see [`State::poll_until`].
    timer: Option<Timer>,
    /// No more is written.
    closed: bool,
    /// The connection may go on after this answer.
    persistent: bool,
    /// The answer is whole.
    complete: bool,
    /// What the answer carries besides its own fields.
    extra: Extra,
    trace: Option<TraceId>,
    /// When the last exchange ended, or the connection came.
    ended: Instant,
}

struct Timer {
    sleep: Pin<Box<Sleep>>,
    waker: Waker,
}

/// Answer bytes gathered before they are written.
const GATHER: usize = 4096;
/// Bytes read at a time: of a head, and of a body.
const READ: usize = 4096;
const READ_BODY: usize = 32 << 10;
/// Most read and dropped of a request that was refused, and for how long (contract §11).
const LINGER_BYTES: usize = 64 << 10;
const LINGER: Duration = Duration::from_secs(1);
/// How long after its time is over an exchange may end by itself.
const OVERDUE: Duration = Duration::from_millis(500);

impl ClientIo {
    pub(super) fn new(socket: Socket) -> Arc<Self> {
        let state = State {
            socket,
            ahead: BytesMut::new(),
            guard: BodyGuard::Done,
            buffered: None,
            outgoing: BytesMut::new(),
            answered: false,
            fault: None,
            deadline: None,
            pause: Duration::MAX,
            paused: None,
            silence: None,
            silent: None,
            write_timeout: LINGER,
            stalled: None,
            timer: None,
            closed: false,
            persistent: false,
            complete: false,
            extra: Extra::default(),
            trace: None,
            ended: Instant::now(),
        };
        Arc::new(Self {
            state: Mutex::new(state),
        })
    }

    /// Lets `look` see the bytes of the next head, and reads more while it says so, until so long after `since`, or
    /// after the last exchange.
    pub(super) async fn read_head(
        &self,
        since: Option<Instant>,
        limit: Duration,
        mut look: impl FnMut(&BytesMut) -> bool,
    ) -> Result<(), NoHead> {
        poll_fn(|cx| {
            let mut state = self.state.lock();
            loop {
                if !state.ahead.is_empty() && look(&state.ahead) {
                    return Poll::Ready(Ok(()));
                }
                match state.fill_ahead(cx) {
                    Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(Err(NoHead::Gone)),
                    Poll::Ready(Ok(_)) => {}
                    Poll::Pending => {
                        let due = since.unwrap_or(state.ended) + limit;
                        std::task::ready!(state.poll_until(cx, due));
                        return Poll::Ready(Err(NoHead::TimedOut));
                    }
                }
            }
        })
        .await
    }

    /// Lets `look` see what was read and not taken.
    pub(super) fn peek<T>(&self, look: impl FnOnce(&[u8]) -> T) -> T {
        look(&self.state.lock().ahead)
    }

    /// Takes the first `length` bytes read, which are a head; `skip` bytes before it are dropped.
    pub(super) fn take_head(&self, skip: usize, length: usize) -> Bytes {
        let ahead = &mut self.state.lock().ahead;
        ahead.advance(skip);
        // Taken whole where it can be: an idle connection holds no buffer.
        if ahead.len() == length {
            std::mem::take(ahead).freeze()
        } else {
            ahead.split_to(length).freeze()
        }
    }

    /// A request begins whose body `guard` follows.
    pub(super) fn begin(&self, guard: BodyGuard, persistent: bool, limits: &ClientLimits) {
        let mut state = self.state.lock();
        state.guard = guard;
        state.buffered = None;
        state.answered = false;
        state.fault = None;
        state.deadline = None;
        state.pause = limits.body_timeout;
        state.paused = None;
        state.silence = None;
        state.silent = None;
        state.write_timeout = limits.write_timeout;
        state.persistent = persistent;
        state.complete = false;
        state.extra = Extra::default();
        state.trace = None;
    }

    /// The exchange ended.
    pub(super) fn ended(&self, now: Instant) {
        self.state.lock().ended = now;
    }

    /// Whether bytes of a next request are here already.
    pub(super) fn has_ahead(&self) -> bool {
        !self.state.lock().ahead.is_empty()
    }

    /// Why the exchange was ended here, if it was.
    pub(super) fn fault(&self) -> Option<Fault> {
        self.state.lock().fault
    }

    /// Whether an answer began.
    pub(super) fn answered(&self) -> bool {
        self.state.lock().answered
    }

    /// Whether the whole request was read and handed on.
    pub(super) fn body_done(&self) -> bool {
        let state = self.state.lock();
        state.guard == BodyGuard::Done && state.buffered.is_none()
    }

    /// Drops what is here of the body already, without reading; says whether that is all of it.
    pub(super) fn drop_body(&self) -> bool {
        let mut state = self.state.lock();
        state.buffered = None;
        if state.guard != BodyGuard::Raw {
            let _ = state.admit(|_| {});
        }
        state.guard == BodyGuard::Done
    }

    /// Whether the connection was upgraded.
    pub(super) fn upgraded(&self) -> bool {
        self.state.lock().guard == BodyGuard::Raw
    }

    /// The connection ends with this answer.
    pub(super) fn end_after(&self) {
        self.state.lock().persistent = false;
    }

    /// Whether the next request can be read: after a whole answer, when nothing of this request is left.
    pub(super) fn goes_on(&self) -> bool {
        let state = self.state.lock();
        let answered = state.complete && !state.closed && state.outgoing.is_empty();
        state.persistent && answered && state.guard == BodyGuard::Done
    }

    /// Whether the client takes nothing at the moment.
    pub(super) fn stalled(&self) -> bool {
        self.state.lock().stalled.is_some()
    }

    /// Ends the connection so that the client sees that something is missing.
    pub(super) fn break_off(&self) {
        let mut state = self.state.lock();
        state.persistent = false;
        state.closed = true;
        state.socket.break_off();
    }

    /// What the answer is to carry besides its own fields.
    pub(super) fn set_extra(&self, extra: Extra) {
        self.state.lock().extra = extra;
    }

    /// Remembers the identifier of the request being served, for an answer after a panic.
    pub(super) fn note(&self, trace: TraceId) {
        self.state.lock().trace = Some(trace);
    }

    /// The identifier of the request being served.
    pub(super) fn trace(&self) -> Option<TraceId> {
        self.state.lock().trace
    }

    /// Ends the exchange when its time is over.
    pub(super) fn set_deadline(&self, at: Instant) {
        self.state.lock().deadline = Some(at);
    }

    /// Bounds the upstream's silence from `now`, when a try is sent; while the request is being read it does not count.
    /// The framework's own limit would need a timer for each request, and would blame the upstream for a client that
    /// sends slowly.
    pub(super) fn bound_silence(&self, limit: Duration, now: Instant) {
        let mut state = self.state.lock();
        state.fault = None;
        state.silence = Some(limit);
        state.silent = (state.guard == BodyGuard::Done && state.buffered.is_none()).then_some(now);
    }

    /// The upstream said something: its silence is counted anew.
    pub(super) fn heard(&self, now: Instant) {
        self.state.lock().silent = Some(now);
    }

    /// From here on the connection is no HTTP. Silence of both sides stays bounded.
    pub(super) fn upgrade(&self) {
        let mut state = self.state.lock();
        state.guard = BodyGuard::Raw;
        state.persistent = false;
        state.deadline = None;
        state.silent = Some(Instant::now());
    }

    /// What the client sends is not read any more: the other side of an upgraded connection has ended.
    pub(super) fn end_reading(&self) {
        self.state.lock().guard = BodyGuard::Done;
    }

    /// The next piece of the body's payload; `None` behind the last.
    pub(super) async fn read_body(&self) -> io::Result<Option<Bytes>> {
        poll_fn(|cx| self.poll_body(cx)).await
    }

    /// The same, for whoever waits for other things besides.
    pub(super) fn poll_body(&self, cx: &mut Context<'_>) -> Poll<io::Result<Option<Bytes>>> {
        self.state.lock().poll_body(cx)
    }

    /// Ready when the upstream took nothing until `due`, or the exchange's time is over.
    pub(super) fn poll_silence(&self, cx: &mut Context<'_>, due: Instant) -> Poll<io::Error> {
        let mut state = self.state.lock();
        state.poll_due(cx, Some((due, Fault::Silence)))
    }

    /// Waits for the client to go away, or for the exchange to take too long.
    pub(super) fn poll_idle(&self, cx: &mut Context<'_>) -> Poll<io::Error> {
        self.state.lock().poll_idle(cx)
    }

    /// Ready when the exchange should have ended by itself: a while after its deadline, or after a tunnel's silence. The
    /// framework does not listen to the client while it waits for an upstream that takes nothing more.
    pub(super) fn poll_overdue(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.state.lock();
        let tunnel = state.silence.filter(|_| state.guard == BodyGuard::Raw);
        let silence = tunnel.zip(state.silent).map(|(limit, since)| since + limit);
        let Some(due) = state.deadline.or(silence) else {
            return Poll::Pending;
        };
        std::task::ready!(state.poll_until(cx, due + OVERDUE));
        state.fault = Some(Fault::Deadline);
        state.persistent = false;
        Poll::Ready(())
    }

    /// Reads the whole body and keeps it for the framework.
    pub(super) async fn buffer_body(&self, most: u64) -> Result<Bytes, Unbuffered> {
        let mut payload = BytesMut::new();
        let read = poll_fn(|cx| {
            let mut state = self.state.lock();
            loop {
                match std::task::ready!(state.poll_body(cx)) {
                    Ok(Some(piece)) => payload.extend_from_slice(&piece),
                    Ok(None) => return Poll::Ready(Ok(())),
                    Err(error) => return Poll::Ready(Err((error, state.fault))),
                }
                if payload.len() as u64 > most {
                    return Poll::Ready(Ok(()));
                }
            }
        });
        if let Err((_, fault)) = read.await {
            return Err(match fault {
                Some(Fault::Framing) => Unbuffered::Malformed,
                Some(_) => Unbuffered::TimedOut,
                None => Unbuffered::Gone,
            });
        }
        if payload.len() as u64 > most {
            return Err(Unbuffered::TooLarge);
        }
        let payload = payload.freeze();
        self.state.lock().buffered = Some(payload.clone());
        Ok(payload)
    }

    /// The body that was buffered, while nobody took it.
    pub(super) fn buffered(&self) -> Option<Bytes> {
        self.state.lock().buffered.clone()
    }

    /// Adds to what is to be written.
    pub(super) fn queue(&self, write: impl FnOnce(&mut BytesMut)) {
        let state = &mut *self.state.lock();
        state.answered = true;
        write(&mut state.outgoing);
    }

    /// Begins the final answer. The connection ends with it when it `ends`, or when some of the request is unread: that
    /// would be taken for the next one. `write` is told what the head carries besides, and whether the connection goes
    /// on.
    pub(super) fn queue_head(&self, ends: bool, write: impl FnOnce(&mut BytesMut, &Extra, bool)) {
        let state = &mut *self.state.lock();
        state.answered = true;
        state.persistent &= !ends && state.guard == BodyGuard::Done;
        write(&mut state.outgoing, &state.extra, state.persistent);
    }

    /// Writes what is queued and `bytes`; little is only queued, and written by the next [`Self::flush`].
    pub(super) async fn send(&self, bytes: &[u8]) -> io::Result<()> {
        let mut at = 0;
        poll_fn(|cx| {
            while at < bytes.len() {
                at += std::task::ready!(self.poll_send(cx, &bytes[at..]))?;
            }
            Poll::Ready(Ok(()))
        })
        .await
    }

    /// The same for some of `bytes`: says how many.
    pub(super) fn poll_send(&self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut state = self.state.lock();
        state.answered = true;
        state.poll_write(cx, bytes)
    }

    /// Writes what is queued, as far as the client takes it in time.
    pub(super) async fn flush(&self) -> io::Result<()> {
        poll_fn(|cx| self.poll_flush(cx)).await
    }

    /// The same, for whoever waits for other things besides.
    pub(super) fn poll_flush(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.state.lock().poll_flush(cx)
    }

    /// Writes what is queued, the last of a whole answer.
    pub(super) async fn flush_last(&self) -> io::Result<()> {
        poll_fn(|cx| self.poll_flush_last(cx)).await
    }

    /// The same, for whoever waits for other things besides.
    pub(super) fn poll_flush_last(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.state.lock();
        std::task::ready!(state.poll_flush(cx))?;
        state.complete = true;
        Poll::Ready(Ok(()))
    }

    /// Writes bytes of ours.
    pub(super) async fn write(&self, bytes: &[u8]) -> io::Result<()> {
        self.send(bytes).await?;
        self.flush().await
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

    /// Closes the writing side.
    pub(super) async fn shutdown(&self) {
        let _ = poll_fn(|cx| self.state.lock().poll_shutdown(cx)).await;
    }
}

impl State {
    /// Takes what belongs to this body from `ahead` and shows its payload.
    fn admit(&mut self, data: impl FnMut(&[u8])) -> Result<(), ()> {
        match self.guard.admit(&self.ahead, data) {
            Ok(taken) => {
                self.ahead.advance(taken);
                if self.ahead.is_empty() {
                    // Idle connections hold no buffer.
                    self.ahead = BytesMut::new();
                }
                Ok(())
            }
            Err(_) => {
                self.fault = Some(Fault::Framing);
                self.persistent = false;
                self.ahead = BytesMut::new();
                Err(())
            }
        }
    }

    /// The payload in `ahead`, without a copy where its bytes are nothing else.
    fn take_payload(&mut self) -> io::Result<Bytes> {
        let malformed = |()| io::Error::from(io::ErrorKind::InvalidData);
        if matches!(self.guard, BodyGuard::Chunked(_)) {
            let mut payload = BytesMut::new();
            self.admit(|data| payload.extend_from_slice(data))
                .map_err(malformed)?;
            return Ok(payload.freeze());
        }
        let taken = self.guard.admit(&self.ahead, |_| {});
        let taken = taken.map_err(|_| malformed(()))?;
        if taken == self.ahead.len() {
            return Ok(std::mem::take(&mut self.ahead).freeze());
        }
        Ok(self.ahead.split_to(taken).freeze())
    }

    fn fill_ahead(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut spare = [const { MaybeUninit::uninit() }; READ];
        let mut buf = ReadBuf::uninit(&mut spare);
        std::task::ready!(self.socket.poll_read(cx, &mut buf))?;
        // Copied: what a request keeps of its head, it keeps until it is over, and the copy is as long as the head.
        self.ahead.extend_from_slice(buf.filled());
        Poll::Ready(Ok(buf.filled().len()))
    }

    /// The same for a body: more at a time, and read to where it stays.
    fn fill_body(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let most = match self.guard {
            BodyGuard::Length(left) => usize::try_from(left).unwrap_or(READ_BODY).min(READ_BODY),
            _ => READ_BODY,
        };
        self.ahead.reserve(most);
        let read = self.socket.poll_read_buf(cx, &mut self.ahead);
        if read.is_pending() && self.ahead.is_empty() {
            self.ahead = BytesMut::new();
        }
        read
    }

    fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Option<Bytes>>> {
        if let Some(body) = self.buffered.take() {
            return Poll::Ready(Ok((!body.is_empty()).then_some(body)));
        }
        if self.guard == BodyGuard::Broken {
            return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
        }
        loop {
            if !self.ahead.is_empty() && self.guard != BodyGuard::Done {
                let payload = self.take_payload()?;
                if !payload.is_empty() {
                    self.paused = None;
                    return Poll::Ready(Ok(Some(payload)));
                }
            }
            if self.guard == BodyGuard::Done {
                self.paused = None;
                // The upstream's silence counts from now.
                self.silent = None;
                return Poll::Ready(Ok(None));
            }
            match self.fill_body(cx) {
                Poll::Ready(Ok(0)) if self.guard == BodyGuard::Raw => return Poll::Ready(Ok(None)),
                Poll::Ready(Ok(0)) => {
                    return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
                }
                Poll::Ready(Ok(_)) => {
                    self.paused = None;
                    if self.guard == BodyGuard::Raw {
                        self.silent = Some(Instant::now());
                    }
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => break,
            }
        }
        let limit = if self.guard == BodyGuard::Raw {
            let limit = self.silence.zip(self.silent);
            limit.map(|(limit, since)| (since + limit, Fault::Silence))
        } else {
            let since = *self.paused.get_or_insert_with(Instant::now);
            let due = since.checked_add(self.pause);
            due.map(|due| (due, Fault::Paused))
        };
        self.poll_due(cx, limit).map(Err)
    }

    /// The message is read; the framework only wants to know whether the client goes away. What it sends ahead stays
    /// here, and no more of it is read until its turn.
    fn poll_idle(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        if self.ahead.is_empty() {
            match self.fill_ahead(cx) {
                Poll::Ready(Ok(0)) => return Poll::Ready(io::ErrorKind::UnexpectedEof.into()),
                Poll::Ready(Err(error)) => return Poll::Ready(error),
                Poll::Ready(Ok(_)) | Poll::Pending => {}
            }
        }
        let limit = self.silence.map(|limit| {
            let since = *self.silent.get_or_insert_with(Instant::now);
            (since + limit, Fault::Silence)
        });
        self.poll_due(cx, limit)
    }

    /// Ready when the exchange's time is over, or this limit's.
    fn poll_due(
        &mut self,
        cx: &mut Context<'_>,
        limit: Option<(Instant, Fault)>,
    ) -> Poll<io::Error> {
        let deadline = self.deadline.map(|at| (at, Fault::Deadline));
        let first = match (deadline, limit) {
            (Some(deadline), Some(limit)) if limit.0 < deadline.0 => Some(limit),
            (deadline, limit) => deadline.or(limit),
        };
        let Some((due, fault)) = first else {
            return Poll::Pending;
        };
        std::task::ready!(self.poll_until(cx, due));
        self.fault = Some(fault);
        Poll::Ready(io::ErrorKind::TimedOut.into())
    }

    /// Ready when `due` has passed. One timer serves all waits of the connection: it is armed once and left alone while
    /// what is waited for lies behind it, fires early then, and is armed anew. Arming one for each wait would cost each
    /// request several. It need not be polled again while it would wake the same task.
    fn poll_until(&mut self, cx: &mut Context<'_>, due: Instant) -> Poll<()> {
        let timer = self.timer.get_or_insert_with(|| Timer {
            sleep: Box::pin(tokio::time::sleep_until(due.into())),
            waker: Waker::noop().clone(),
        });
        if timer.sleep.deadline() > due.into() {
            timer.sleep.as_mut().reset(due.into());
        } else if timer.waker.will_wake(cx.waker()) && !timer.sleep.is_elapsed() {
            return Poll::Pending;
        }
        timer.waker.clone_from(cx.waker());
        // Unconstrained: a task that used up its turn would be told "not yet" without the timer taking its waker.
        while Pin::new(&mut tokio::task::unconstrained(timer.sleep.as_mut()))
            .poll(cx)
            .is_ready()
        {
            if Instant::now() >= due {
                return Poll::Ready(());
            }
            timer.sleep.as_mut().reset(due.into());
        }
        Poll::Pending
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.outgoing.len() + bytes.len() <= GATHER {
            self.outgoing.extend_from_slice(bytes);
            return Poll::Ready(Ok(bytes.len()));
        }
        loop {
            let slices = [io::IoSlice::new(&self.outgoing), io::IoSlice::new(bytes)];
            let gathered = self.outgoing.len();
            let written = match self.socket.poll_write_vectored(cx, &slices) {
                Poll::Ready(written) => written?,
                Poll::Pending => return self.stalled(cx),
            };
            self.unstalled();
            self.outgoing.advance(written.min(gathered));
            if written > gathered {
                return Poll::Ready(Ok(written - gathered));
            }
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
        }
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.outgoing.is_empty() {
            return Poll::Ready(Ok(()));
        }
        while !self.outgoing.is_empty() {
            let written = match self.socket.poll_write(cx, &self.outgoing) {
                Poll::Ready(written) => written?,
                Poll::Pending => return self.stalled(cx),
            };
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.unstalled();
            self.outgoing.advance(written);
        }
        // Idle connections hold no buffer.
        self.outgoing = BytesMut::new();
        Poll::Ready(Ok(()))
    }

    /// The client takes something. While it took nothing nobody listened to the upstream.
    fn unstalled(&mut self) {
        if self.stalled.take().is_some() && self.silent.is_some() {
            self.silent = Some(Instant::now());
        }
    }

    /// The client takes nothing; it has `write_timeout` to change that.
    fn stalled<T>(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        let since = *self.stalled.get_or_insert_with(Instant::now);
        let due = since + self.write_timeout;
        std::task::ready!(self.poll_until(cx, due));
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
