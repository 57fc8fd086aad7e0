//! The client's side of an exchange: the body it sends, the answer it is sent, and every time limit of both.
//!
//! [`ClientIo`] is shared by whoever serves the connection, the request being served, and the session that the framework
//! drives. So a body can be buffered before it is forwarded, an answer can still be written when the framework has given
//! up, and an exchange can be ended without cutting an answer off. What carries it is a connection of HTTP/1, which
//! serves one request after the other, a stream of HTTP/2, which serves one, or nothing but memory, where the request
//! was made inside the process. Uncontended lock: one task uses it.

mod linger;
mod pacing;
mod presence;

use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes, BytesMut};
use http::{HeaderMap, Version};
use parking_lot::Mutex;

pub(super) use self::linger::Rest;
pub(super) use self::pacing::Pacing;

use super::auth_buffer::{Gathered, Room, Unbuffered};
use super::http1::answer::{AnswerHead, Delimited, Extra};
use super::http1::body::BodyGuard;
use super::http1::wire::Http1Wire;
use super::http2::wire::Http2Wire;
use super::memory::MemoryWire;
use super::socket::Socket;
use super::timers::{Fault, Waits};
use crate::config::ClientLimits;
use crate::primitives::trace::TraceId;

/// Why no head was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoHead {
    /// The client went away.
    Gone,
    /// It took too long.
    TimedOut,
}

/// The client's side of an exchange.
pub(super) struct ClientIo {
    state: Mutex<State>,
}

struct State {
    wire: Wire,
    waits: Waits,
    /// The body, or how it begins, read before it is forwarded.
    buffered: Option<Bytes>,
    /// Bytes of the body, or of a tunnel, that came from the client, however often they are sent on.
    received: u64,
    /// Most of them that a body may have.
    most: u64,
    /// An answer began.
    answered: bool,
    /// The connection may go on after this answer.
    persistent: bool,
    /// The answer is whole.
    complete: bool,
    /// How fast the answer's body may go out; `None` = as fast as it is taken.
    pacing: Option<Pacing>,
    /// What the answer carries besides its own fields.
    extra: Extra,
    trace: Option<TraceId>,
    /// When the last exchange ended, or the connection came.
    ended: Instant,
}

/// What carries the exchange.
enum Wire {
    Http1(Http1Wire),
    Http2(Http2Wire),
    /// Nothing: the request was made inside the process.
    Memory(MemoryWire),
}

/// How long a client is waited for of which nothing more is expected.
const LINGER: Duration = Duration::from_secs(1);
/// How long after its time is over an exchange may end by itself.
const OVERDUE: Duration = Duration::from_millis(500);

impl ClientIo {
    /// A connection of HTTP/1.
    pub(super) fn new(socket: Socket) -> Arc<Self> {
        Self::over(Wire::Http1(Http1Wire::new(socket)))
    }

    /// A stream of HTTP/2.
    pub(super) fn stream(wire: Http2Wire) -> Arc<Self> {
        Self::over(Wire::Http2(wire))
    }

    /// A request made inside the process.
    pub(super) fn memory(wire: MemoryWire) -> Arc<Self> {
        Self::over(Wire::Memory(wire))
    }

    fn over(wire: Wire) -> Arc<Self> {
        let state = State {
            wire,
            waits: Waits::new(LINGER),
            buffered: None,
            received: 0,
            most: u64::MAX,
            answered: false,
            persistent: false,
            complete: false,
            pacing: None,
            extra: Extra::default(),
            trace: None,
            ended: Instant::now(),
        };
        Arc::new(Self {
            state: Mutex::new(state),
        })
    }

    /// A request begins whose body `guard` follows.
    pub(super) fn begin(&self, guard: BodyGuard, persistent: bool, limits: &ClientLimits) {
        let mut state = self.state.lock();
        if let Wire::Http1(wire) = &mut state.wire {
            wire.guard = guard;
            wire.half_close = limits.half_close;
        }
        state.waits.begin(limits);
        state.buffered = None;
        state.received = 0;
        state.most = u64::MAX;
        state.answered = false;
        state.persistent = persistent;
        state.complete = false;
        state.pacing = None;
        state.extra = Extra::default();
        state.trace = None;
    }

    /// The exchange ended. Says how many bytes the client sent in it, without its head.
    pub(super) fn ended(&self, now: Instant) -> u64 {
        let mut state = self.state.lock();
        state.ended = now;
        state.received
    }

    /// Why the exchange was ended here, if it was.
    pub(super) fn fault(&self) -> Option<Fault> {
        self.state.lock().waits.fault
    }

    /// How long the client kept the exchange waiting in all.
    pub(super) fn kept_waiting(&self) -> Duration {
        self.state.lock().waits.for_client()
    }

    /// Whether an answer began.
    pub(super) fn answered(&self) -> bool {
        self.state.lock().answered
    }

    /// Whether the answer is whole.
    pub(super) fn complete(&self) -> bool {
        self.state.lock().complete
    }

    /// Whether the whole request was read and handed on.
    pub(super) fn body_done(&self) -> bool {
        let state = self.state.lock();
        state.wire.body_done() && state.buffered.is_none()
    }

    /// Drops what is here of the body already, without reading; says whether that is all of it.
    pub(super) fn drop_body(&self) -> bool {
        let mut state = self.state.lock();
        state.buffered = None;
        match &mut state.wire {
            Wire::Http1(wire) => wire.drop_body(),
            Wire::Http2(_) => true,
            Wire::Memory(wire) => {
                wire.drop_body();
                true
            }
        }
    }

    /// The connection ends with this answer.
    pub(super) fn end_after(&self) {
        self.state.lock().persistent = false;
    }

    /// Whether the client takes nothing at the moment.
    pub(super) fn stalled(&self) -> bool {
        self.state.lock().waits.is_stalled()
    }

    /// Ends the exchange so that the client sees that something is missing.
    pub(super) fn break_off(&self) {
        let mut state = self.state.lock();
        state.persistent = false;
        match &mut state.wire {
            Wire::Http1(wire) => wire.break_off(),
            Wire::Http2(wire) => wire.break_off(),
            Wire::Memory(wire) => wire.break_off(),
        }
    }

    /// What the answer is to carry besides its own fields.
    pub(super) fn set_extra(&self, extra: Extra) {
        self.state.lock().extra = extra;
    }

    /// How fast the answer's body may go out.
    pub(super) fn set_pace(&self, pacing: Pacing) {
        self.state.lock().pacing = Some(pacing);
    }

    /// Remembers the identifier of the request being served, for an answer after a panic.
    pub(super) fn note(&self, trace: TraceId) {
        self.state.lock().trace = Some(trace);
    }

    /// The identifier of the request being served.
    pub(super) fn trace(&self) -> Option<TraceId> {
        self.state.lock().trace
    }

    /// When the time of the exchange is over, if it is bounded.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.state.lock().waits.deadline
    }

    /// Ends the exchange when its time is over.
    pub(super) fn set_deadline(&self, at: Instant) {
        self.state.lock().waits.deadline = Some(at);
    }

    /// The route that takes the exchange bounds it: it ends at that time, and its body has so many bytes at most. They are
    /// counted as they come from the client, whatever becomes of them: who reads the body learns when there are more.
    pub(super) fn bound(&self, deadline: Instant, most: u64) {
        let mut state = self.state.lock();
        state.waits.deadline = Some(deadline);
        state.most = most;
    }

    /// The silence of a try beside the first is not the exchange's end.
    pub(super) fn forgive_silence(&self) {
        let mut state = self.state.lock();
        state.waits.fault.take_if(|fault| *fault == Fault::Silence);
    }

    /// Bounds the upstream's silence from `now`, when a try is sent; while the request is being read it does not count.
    /// The framework's own limit would need a timer for each request, and would blame the upstream for a client that
    /// sends slowly.
    pub(super) fn bound_silence(&self, limit: Duration, now: Instant) {
        let mut state = self.state.lock();
        let read = state.wire.body_done() && state.buffered.is_none();
        state.waits.fault = None;
        state.waits.silence = Some(limit);
        state.waits.silent = read.then_some(now);
    }

    /// The upstream said something: its silence is counted anew.
    pub(super) fn heard(&self, now: Instant) {
        self.state.lock().waits.silent = Some(now);
    }

    /// Lets the body come as slowly as it likes, as long as it does not pause too long.
    pub(super) fn body_at_any_rate(&self) {
        self.state.lock().waits.body_at_any_rate();
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
        state.waits.poll_due(cx, Some((due, Fault::Silence)))
    }

    /// Waits for the client to go away, or for the exchange to take too long.
    pub(super) fn poll_idle(&self, cx: &mut Context<'_>) -> Poll<io::Error> {
        self.state.lock().poll_idle(cx)
    }

    /// Ready when the exchange should have ended by itself: a while after its deadline, or after a tunnel's silence. The
    /// framework does not listen to the client while it waits for an upstream that takes nothing more.
    pub(super) fn poll_overdue(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.state.lock();
        let tunnel = state.waits.silence.filter(|_| state.wire.is_tunnel());
        let silence = tunnel.zip(state.waits.silent);
        let silence = silence.map(|(limit, since)| since + limit);
        let Some(due) = state.waits.deadline.or(silence) else {
            return Poll::Pending;
        };
        std::task::ready!(state.waits.poll_until(cx, due + OVERDUE));
        state.waits.fault = Some(Fault::Deadline);
        state.persistent = false;
        Poll::Ready(())
    }

    /// What was read of the body comes again, before what follows it: somebody else reads it from its beginning.
    pub(super) fn put_back(&self, read: Bytes) {
        self.state.lock().buffered = Some(read);
    }

    /// Reads the whole body, of about `expected` bytes and at most `most`, and keeps it for forwarding in `room`.
    pub(super) async fn buffer_body(
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
    pub(super) fn buffered(&self) -> Option<Bytes> {
        self.state.lock().buffered.clone()
    }

    /// Says that the body may come, at once.
    pub(super) async fn ask_on(&self) -> io::Result<()> {
        self.queue_continue();
        self.flush().await
    }

    /// Queues the word that the body may come.
    pub(super) fn queue_continue(&self) {
        match &mut self.state.lock().wire {
            Wire::Http1(wire) => wire.ask_on(),
            Wire::Http2(wire) => wire.ask_on(),
            // Its body is here, whole.
            Wire::Memory(_) => {}
        }
    }

    /// Queues an informational head.
    pub(super) fn inform(&self, head: &impl AnswerHead, version: Version) {
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
    pub(super) fn begin_answer(
        &self,
        head: &impl AnswerHead,
        delimited: Delimited,
        version: Version,
    ) {
        let state = &mut *self.state.lock();
        state.answered = true;
        state.persistent &= delimited != Delimited::Close && state.wire.may_go_on();
        match &mut state.wire {
            Wire::Http1(wire) => {
                wire.begin_answer(head, delimited, &state.extra, state.persistent, version);
            }
            Wire::Http2(wire) => wire.begin_answer(head, delimited, &state.extra),
            Wire::Memory(wire) => wire.begin_answer(head, delimited, &state.extra),
        }
    }

    /// Queues pieces of the answer's body that `write` shows, behind what the client took: [`Self::poll_flush`] comes
    /// first.
    pub(super) fn queue_pieces<T>(&self, write: impl FnOnce(&mut dyn FnMut(&[u8])) -> T) -> T {
        match &mut self.state.lock().wire {
            Wire::Http1(wire) => write(&mut |piece| wire.queue(piece)),
            Wire::Http2(wire) => gathered(write, |pieces| wire.queue(pieces)),
            Wire::Memory(wire) => gathered(write, |pieces| wire.queue(pieces)),
        }
    }

    /// Writes what is queued and `piece`; little is only queued, and written by the next [`Self::flush`].
    pub(super) async fn send(&self, mut piece: impl Buf) -> io::Result<()> {
        poll_fn(|cx| {
            while piece.has_remaining() {
                std::task::ready!(self.poll_send(cx, &mut piece))?;
            }
            Poll::Ready(Ok(()))
        })
        .await
    }

    /// The same for some of `piece`, which is taken from it: says how many bytes.
    pub(super) fn poll_send(
        &self,
        cx: &mut Context<'_>,
        piece: &mut impl Buf,
    ) -> Poll<io::Result<usize>> {
        let state = &mut *self.state.lock();
        if state.pacing.is_none() {
            return state.poll_send(cx, piece);
        }
        let room = std::task::ready!(state.poll_room(cx, piece.remaining()))?;
        let sent = std::task::ready!(state.poll_send(cx, &mut piece.take(room)))?;
        state.spent(sent);
        Poll::Ready(Ok(sent))
    }

    /// How many of `wanted` bytes of the body may be queued now. What was queued is [`Self::spent`].
    pub(super) fn poll_room(&self, cx: &mut Context<'_>, wanted: usize) -> Poll<io::Result<usize>> {
        self.state.lock().poll_room(cx, wanted)
    }

    /// So many bytes of the body were queued.
    pub(super) fn spent(&self, bytes: usize) {
        self.state.lock().spent(bytes);
    }

    /// Queues the end of the answer. Trailers go where the protocol carries them without being asked for.
    pub(super) fn end_answer(&self, trailers: Option<HeaderMap>) {
        match &mut self.state.lock().wire {
            Wire::Http1(wire) => wire.end_answer(),
            Wire::Http2(wire) => wire.end_answer(trailers),
            Wire::Memory(wire) => wire.end_answer(trailers),
        }
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

    /// Closes the writing side.
    pub(super) async fn shutdown(&self) {
        let _ = poll_fn(|cx| self.state.lock().poll_shutdown(cx)).await;
    }
}

/// What only a connection of HTTP/1 has: heads that come one after the other, upgrades, and an end. A stream has none of
/// it, and says so.
impl ClientIo {
    /// Lets `look` see the bytes of the next head, and reads more while it says so, until so long after `since`, or
    /// after the last exchange.
    pub(super) async fn read_head(
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
    pub(super) fn something_waits(&self) -> bool {
        match &self.state.lock().wire {
            Wire::Http1(wire) => !wire.ahead.is_empty() || wire.socket.something_waits(),
            Wire::Http2(_) | Wire::Memory(_) => false,
        }
    }

    /// What was read and not taken.
    pub(super) fn peek(&self) -> Bytes {
        match &self.state.lock().wire {
            Wire::Http1(wire) => Bytes::copy_from_slice(&wire.ahead),
            Wire::Http2(_) | Wire::Memory(_) => Bytes::new(),
        }
    }

    /// Takes the first `length` bytes read, which are a head; `skip` bytes before it are dropped.
    pub(super) fn take_head(&self, skip: usize, length: usize) -> Bytes {
        match &mut self.state.lock().wire {
            Wire::Http1(wire) => wire.take_head(skip, length),
            Wire::Http2(_) | Wire::Memory(_) => Bytes::new(),
        }
    }

    /// The socket, and what was read from it and not taken: the client goes on in another protocol.
    pub(super) fn into_socket(self: Arc<Self>) -> Option<(Socket, Bytes)> {
        match Arc::into_inner(self)?.state.into_inner().wire {
            Wire::Http1(wire) => Some((wire.socket, wire.ahead.freeze())),
            Wire::Http2(_) | Wire::Memory(_) => None,
        }
    }

    /// Whether bytes of a next request are here already.
    pub(super) fn has_ahead(&self) -> bool {
        match &self.state.lock().wire {
            Wire::Http1(wire) => !wire.ahead.is_empty(),
            Wire::Http2(_) | Wire::Memory(_) => false,
        }
    }

    /// Whether the next request can be read: after a whole answer, when nothing of this request is left.
    pub(super) fn goes_on(&self) -> bool {
        let state = self.state.lock();
        match &state.wire {
            Wire::Http1(wire) => state.persistent && state.complete && wire.is_clean(),
            Wire::Http2(_) | Wire::Memory(_) => false,
        }
    }

    /// Whether the connection was upgraded.
    pub(super) fn upgraded(&self) -> bool {
        self.state.lock().wire.is_tunnel()
    }

    /// From here on the connection is no HTTP. Both sides may be silent for so long.
    pub(super) fn upgrade(&self, silence: Duration) {
        let mut state = self.state.lock();
        if let Wire::Http1(wire) = &mut state.wire {
            wire.guard = BodyGuard::Raw;
        }
        state.persistent = false;
        state.waits.deadline = None;
        state.waits.silence = Some(silence);
        state.waits.silent = Some(Instant::now());
    }

    /// What the client sends is not read any more: its tunnel has ended.
    pub(super) fn end_reading(&self) {
        if let Wire::Http1(wire) = &mut self.state.lock().wire {
            wire.guard = BodyGuard::Done;
        }
    }
}

/// Pieces that `write` shows, gathered for a wire that takes them as one.
fn gathered<T>(write: impl FnOnce(&mut dyn FnMut(&[u8])) -> T, queue: impl FnOnce(Bytes)) -> T {
    let mut pieces = BytesMut::new();
    let wrote = write(&mut |piece| pieces.extend_from_slice(piece));
    if !pieces.is_empty() {
        queue(pieces.freeze());
    }
    wrote
}

impl Wire {
    /// Whether all of the body was read.
    fn body_done(&self) -> bool {
        match self {
            Self::Http1(wire) => wire.guard == BodyGuard::Done,
            Self::Http2(wire) => wire.body_done(),
            Self::Memory(wire) => wire.body_done(),
        }
    }

    /// Whether another request may follow: all of this one was read, and the client sends on.
    fn may_go_on(&self) -> bool {
        let ended = matches!(self, Self::Http1(wire) if wire.ended);
        self.body_done() && !ended
    }

    /// Whether the client sends no more, and may still read.
    fn half_closed(&self) -> bool {
        matches!(self, Self::Http1(wire) if wire.ended && wire.half_close)
    }

    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        match self {
            Self::Http1(wire) => wire.poll_gone(cx),
            Self::Http2(wire) => wire.poll_gone(cx),
            // Whoever asked from inside and leaves drops the request.
            Self::Memory(_) => Poll::Pending,
        }
    }

    /// Whether it carries no HTTP any more.
    fn is_tunnel(&self) -> bool {
        matches!(self, Self::Http1(wire) if wire.guard == BodyGuard::Raw)
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
        match read {
            Poll::Ready(Ok(Some(_))) if tunnel => self.waits.silent = Some(Instant::now()),
            Poll::Ready(Ok(Some(_))) if self.received > self.most => {
                // Said once: who reads on drops the rest.
                self.most = u64::MAX;
                self.waits.fault = Some(Fault::TooLarge);
                return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
            }
            Poll::Ready(Ok(Some(ref piece))) => self.waits.body_goes_on(piece.len()),
            Poll::Ready(Ok(None)) if tunnel => {}
            Poll::Ready(Ok(None)) => self.waits.body_ended(),
            Poll::Ready(Err(ref error)) => {
                if error.kind() == io::ErrorKind::InvalidData {
                    self.waits.fault = Some(Fault::Framing);
                    self.persistent = false;
                } else if self.wire.half_closed() {
                    self.waits.fault = Some(Fault::Incomplete);
                    self.persistent = false;
                }
            }
            Poll::Pending => return self.waits.poll_body(cx, tunnel).map(Err),
        }
        read
    }

    /// The message is read; the framework only wants to know whether the client goes away.
    fn poll_idle(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        let gone = self.wire.poll_gone(cx);
        if gone.is_ready() {
            return gone;
        }
        self.waits.poll_answer(cx)
    }

    fn poll_send(&mut self, cx: &mut Context<'_>, piece: &mut impl Buf) -> Poll<io::Result<usize>> {
        let Self { wire, waits, .. } = self;
        match wire {
            Wire::Http1(wire) => {
                let sent = std::task::ready!(wire.poll_send(cx, piece.chunk(), waits))?;
                piece.advance(sent);
                Poll::Ready(Ok(sent))
            }
            Wire::Http2(wire) => wire.poll_send(cx, piece, waits),
            Wire::Memory(wire) => wire.poll_send(cx, piece, waits),
        }
    }

    fn poll_room(&mut self, cx: &mut Context<'_>, wanted: usize) -> Poll<io::Result<usize>> {
        let Some(pacing) = &mut self.pacing else {
            return Poll::Ready(Ok(wanted));
        };
        if let Poll::Ready(room) = pacing.poll(cx, wanted) {
            // Nobody listened to the upstream meanwhile.
            self.waits.listens_again();
            return Poll::Ready(Ok(room));
        }
        // What was queued before need not wait with the rest.
        if let Poll::Ready(Err(error)) = self.poll_flush(cx) {
            return Poll::Ready(Err(error));
        }
        self.waits.poll_due(cx, None).map(Err)
    }

    fn spent(&mut self, bytes: usize) {
        if let Some(pacing) = &mut self.pacing {
            pacing.spent(bytes);
        }
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
