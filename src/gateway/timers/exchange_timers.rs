//! Every time limit of an exchange, and the one timer that serves them all.

use std::io;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use super::abort_reason::AbortReason;
use super::shared_timer::SharedTimer;
use super::stall_timer::StallTimer;
use crate::config::ClientLimits;

/// What is waited for, and since when.
pub(in crate::gateway) struct ExchangeTimers {
    pub(in crate::gateway) fault: Option<AbortReason>,
    pub(in crate::gateway) deadline: Option<Instant>,
    /// With the client's pauses within its body.
    sending: StallTimer,
    /// How long the upstream may say nothing once the request is read, and since when it does.
    pub(in crate::gateway) silence: Option<Duration>,
    pub(in crate::gateway) silent: Option<Instant>,
    /// With a client that takes nothing.
    taking: StallTimer,
    alarm: SharedTimer,
}

impl ExchangeTimers {
    /// Nothing is waited for. Until a request begins the client has so long to take what it is sent.
    pub(in crate::gateway) fn new(write_timeout: Duration) -> Self {
        Self {
            fault: None,
            deadline: None,
            sending: StallTimer::new(Duration::MAX, Duration::ZERO),
            silence: None,
            silent: None,
            taking: StallTimer::new(write_timeout, Duration::ZERO),
            alarm: SharedTimer::default(),
        }
    }

    /// An exchange begins.
    pub(in crate::gateway) fn begin(&mut self, limits: &ClientLimits) {
        self.fault = None;
        self.deadline = None;
        self.sending = StallTimer::new(limits.body_timeout, limits.longest_byte);
        self.silence = None;
        self.silent = None;
        self.taking = StallTimer::new(limits.write_timeout, limits.longest_byte);
    }

    /// The body need not move at any rate: its client says something when there is something to say.
    pub(in crate::gateway) fn body_at_any_rate(&mut self) {
        self.sending.any_rate();
    }

    /// Whether the client takes nothing at the moment.
    pub(in crate::gateway) fn is_stalled(&self) -> bool {
        self.taking.is_waiting()
    }

    /// How long the client was waited for in all, to send and to take.
    pub(in crate::gateway) fn for_client(&self) -> Duration {
        self.sending.waited().saturating_add(self.taking.waited())
    }

    /// So much of the body came.
    pub(in crate::gateway) fn body_goes_on(&mut self, bytes: usize) {
        self.sending.moved(bytes);
    }

    /// All of the body came: the upstream's silence counts from now.
    pub(in crate::gateway) fn body_ended(&mut self) {
        self.silent = None;
    }

    /// Nothing comes at the moment: of a body, or through a `tunnel`, where silence of both sides is bounded.
    pub(in crate::gateway) fn poll_body(
        &mut self,
        cx: &mut Context<'_>,
        tunnel: bool,
    ) -> Poll<io::Error> {
        let limit = if tunnel {
            let limit = self.silence.zip(self.silent);
            limit.map(|(limit, since)| (since + limit, AbortReason::Silence))
        } else {
            self.sending.waits().map(|due| (due, AbortReason::Paused))
        };
        self.poll_due(cx, limit)
    }

    /// The request is read, and the upstream says nothing.
    pub(in crate::gateway) fn poll_answer(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        let limit = self.silence.map(|limit| {
            let since = *self.silent.get_or_insert_with(Instant::now);
            (since + limit, AbortReason::Silence)
        });
        self.poll_due(cx, limit)
    }

    /// Ready when the exchange's time is over, or this limit's.
    pub(in crate::gateway) fn poll_due(
        &mut self,
        cx: &mut Context<'_>,
        limit: Option<(Instant, AbortReason)>,
    ) -> Poll<io::Error> {
        let deadline = self.deadline.map(|at| (at, AbortReason::Deadline));
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

    /// Ready when `due` has passed.
    pub(in crate::gateway) fn poll_until(
        &mut self,
        cx: &mut Context<'_>,
        due: Instant,
    ) -> Poll<()> {
        self.alarm.poll_until(cx, due)
    }

    /// Whoever reads from the upstream had to wait for something else.
    pub(in crate::gateway) fn listens_again(&mut self) {
        if self.silent.is_some() {
            self.silent = Some(Instant::now());
        }
    }

    /// The client takes so many bytes. While it took nothing nobody listened to the upstream.
    pub(in crate::gateway) fn unstalled(&mut self, bytes: usize) {
        if self.taking.moved(bytes) && self.silent.is_some() {
            self.silent = Some(Instant::now());
        }
    }

    /// The client takes nothing; it has what is left of `write_timeout` to change that.
    pub(in crate::gateway) fn stalled<T>(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        let Some(due) = self.taking.waits() else {
            return Poll::Pending;
        };
        std::task::ready!(self.poll_until(cx, due));
        self.fault = Some(AbortReason::Stalled);
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}
