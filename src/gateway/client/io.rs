//! What is shared of an exchange, and how it begins and ends.

use std::io;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::Mutex;

use super::body_hooks::BodyHooks;
use super::wire::Wire;
use crate::config::ClientLimits;
use crate::gateway::http1::body::BodyDecoder;
use crate::gateway::http1::wire::Http1Wire;
use crate::gateway::http2::wire::Http2Wire;
use crate::gateway::memory::MemoryWire;
use crate::gateway::socket::Socket;
use crate::gateway::timers::{AbortReason, ExchangeTimers};
use crate::primitives::trace::TraceId;

/// The client's side of an exchange.
pub(in crate::gateway) struct ClientIo {
    pub(super) state: Mutex<State>,
}

pub(super) struct State {
    pub(super) wire: Wire,
    pub(super) waits: ExchangeTimers,
    /// The body, or how it begins, read before it is forwarded.
    pub(super) buffered: Option<Bytes>,
    /// Bytes of the body, or of a tunnel, that came from the client, however often they are sent on.
    pub(super) received: u64,
    /// Most of them that a body may have.
    pub(super) most: u64,
    /// Who sees the body on its way.
    pub(super) hooks: BodyHooks,
    /// Something of an answer was said, if only that it will come.
    pub(super) answered: bool,
    /// Status of the final answer; 0 while its head was not queued.
    pub(super) status: u16,
    /// Bytes of its body, or of a tunnel, that were queued or written.
    pub(super) sent: u64,
    /// The connection may go on after this answer.
    pub(super) persistent: bool,
    /// The answer is whole.
    pub(super) complete: bool,
    /// Boxed: only a request that was given up has one here.
    pub(super) trace: Option<Box<TraceId>>,
    /// When the last exchange ended, or the connection came.
    pub(super) ended: Instant,
}

/// How long a client is waited for of which nothing more is expected.
pub(super) const LINGER: Duration = Duration::from_secs(1);
/// How long after its time is over an exchange may end by itself.
const OVERDUE: Duration = Duration::from_millis(500);

impl ClientIo {
    /// A connection of HTTP/1.
    pub(in crate::gateway) fn new(socket: Socket) -> Arc<Self> {
        Self::over(Wire::Http1(Http1Wire::new(socket)))
    }

    /// A stream of HTTP/2.
    pub(in crate::gateway) fn stream(wire: Http2Wire) -> Arc<Self> {
        Self::over(Wire::Http2(wire))
    }

    /// A request made inside the process.
    pub(in crate::gateway) fn memory(wire: MemoryWire) -> Arc<Self> {
        Self::over(Wire::Memory(wire))
    }

    fn over(wire: Wire) -> Arc<Self> {
        let state = State {
            wire,
            waits: ExchangeTimers::new(LINGER),
            buffered: None,
            received: 0,
            most: u64::MAX,
            hooks: BodyHooks::default(),
            answered: false,
            status: 0,
            sent: 0,
            persistent: false,
            complete: false,
            trace: None,
            ended: Instant::now(),
        };
        Arc::new(Self {
            state: Mutex::new(state),
        })
    }

    /// A request begins whose body `guard` follows.
    pub(in crate::gateway) fn begin(
        &self,
        guard: BodyDecoder,
        persistent: bool,
        limits: &ClientLimits,
    ) {
        let mut state = self.state.lock();
        if let Wire::Http1(wire) = &mut state.wire {
            wire.begin(guard);
            wire.half_close = limits.half_close;
        }
        state.waits.begin(limits);
        state.buffered = None;
        state.received = 0;
        state.most = u64::MAX;
        state.hooks = BodyHooks::default();
        state.answered = false;
        state.status = 0;
        state.sent = 0;
        state.persistent = persistent;
        state.complete = false;
        state.trace = None;
    }

    /// Why the exchange was ended here, if it was.
    pub(in crate::gateway) fn fault(&self) -> Option<AbortReason> {
        self.state.lock().waits.fault
    }

    /// How long the client kept the exchange waiting in all.
    pub(in crate::gateway) fn kept_waiting(&self) -> Duration {
        self.state.lock().waits.for_client()
    }

    /// Whether an answer began.
    pub(in crate::gateway) fn answered(&self) -> bool {
        self.state.lock().answered
    }

    /// Whether the answer is whole.
    pub(in crate::gateway) fn complete(&self) -> bool {
        self.state.lock().complete
    }

    /// Whether the whole request was read and handed on.
    pub(in crate::gateway) fn body_done(&self) -> bool {
        let state = self.state.lock();
        state.wire.body_done() && state.buffered.is_none()
    }

    /// Drops what is here of the body already, without reading; says whether that is all of it.
    pub(in crate::gateway) fn drop_body(&self) -> bool {
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
    pub(in crate::gateway) fn end_after(&self) {
        self.state.lock().persistent = false;
    }

    /// Whether the client takes nothing at the moment.
    pub(in crate::gateway) fn stalled(&self) -> bool {
        self.state.lock().waits.is_stalled()
    }

    /// Ends the exchange so that the client sees that something is missing.
    pub(in crate::gateway) fn break_off(&self) {
        let mut state = self.state.lock();
        state.persistent = false;
        match &mut state.wire {
            Wire::Http1(wire) => wire.break_off(),
            Wire::Http2(wire) => wire.break_off(),
            Wire::Memory(wire) => wire.break_off(),
        }
    }

    /// Remembers the identifier of the request being served, for an answer after a panic.
    pub(in crate::gateway) fn note(&self, trace: TraceId) {
        self.state.lock().trace = Some(Box::new(trace));
    }

    /// The identifier of the request being served.
    pub(in crate::gateway) fn trace(&self) -> Option<TraceId> {
        self.state.lock().trace.as_deref().copied()
    }

    /// When the time of the exchange is over, if it is bounded.
    pub(in crate::gateway) fn deadline(&self) -> Option<Instant> {
        self.state.lock().waits.deadline
    }

    /// Ends the exchange when its time is over.
    pub(in crate::gateway) fn set_deadline(&self, at: Instant) {
        self.state.lock().waits.deadline = Some(at);
    }

    /// The route that takes the exchange bounds it: it ends at that time, and its body has so many bytes at most. They are
    /// counted as they come from the client, whatever becomes of them: who reads the body learns when there are more.
    pub(in crate::gateway) fn bound(&self, deadline: Instant, most: u64) {
        let mut state = self.state.lock();
        state.waits.deadline = Some(deadline);
        state.most = most;
    }

    /// The silence of a try beside the first is not the exchange's end.
    pub(in crate::gateway) fn forgive_silence(&self) {
        let mut state = self.state.lock();
        state
            .waits
            .fault
            .take_if(|fault| *fault == AbortReason::Silence);
    }

    /// Bounds the upstream's silence from `now`, when a try is sent; while the request is being read it does not count.
    /// A limit on the endpoint's connection would need a timer for each request, and would blame the upstream for a client
    /// that sends slowly.
    pub(in crate::gateway) fn bound_silence(&self, limit: Duration, now: Instant) {
        let mut state = self.state.lock();
        let read = state.wire.body_done() && state.buffered.is_none();
        state.waits.fault = None;
        state.waits.silence = Some(limit);
        state.waits.silent = read.then_some(now);
    }

    /// The upstream said something: its silence is counted anew.
    pub(in crate::gateway) fn heard(&self, now: Instant) {
        self.state.lock().waits.silent = Some(now);
    }

    /// Lets the body come as slowly as it likes, as long as it does not pause too long.
    pub(in crate::gateway) fn body_at_any_rate(&self) {
        self.state.lock().waits.body_at_any_rate();
    }

    /// Ready when the upstream took nothing until `due`, or the exchange's time is over.
    pub(in crate::gateway) fn poll_silence(
        &self,
        cx: &mut Context<'_>,
        due: Instant,
    ) -> Poll<io::Error> {
        let mut state = self.state.lock();
        state.waits.poll_due(cx, Some((due, AbortReason::Silence)))
    }

    /// Waits for the client to go away, or for the exchange to take too long.
    pub(in crate::gateway) fn poll_idle(&self, cx: &mut Context<'_>) -> Poll<io::Error> {
        self.state.lock().poll_idle(cx)
    }

    /// Ready when the exchange should have ended by itself: a while after its deadline, or after a tunnel's silence. For
    /// whatever waits and does not look at the time.
    pub(in crate::gateway) fn poll_overdue(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.state.lock();
        let tunnel = state.waits.silence.filter(|_| state.wire.is_tunnel());
        let silence = tunnel.zip(state.waits.silent);
        let silence = silence.map(|(limit, since)| since + limit);
        let Some(due) = state.waits.deadline.or(silence) else {
            return Poll::Pending;
        };
        std::task::ready!(state.waits.poll_until(cx, due + OVERDUE));
        state.waits.fault = Some(AbortReason::Deadline);
        state.persistent = false;
        Poll::Ready(())
    }
}

impl State {
    /// The message is read; what matters is whether the client goes away.
    fn poll_idle(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        let gone = self.wire.poll_gone(cx);
        if gone.is_ready() {
            return gone;
        }
        self.waits.poll_answer(cx)
    }
}
