//! A second try beside the first: when an answer is awaited for longer than most take, another endpoint is asked too. The
//! first answer wins, and the other is given up. Beyond when it begins, such a try is like any other.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use pingora::http::RequestHeader;
use pingora::{Error, ErrorSource};
use smallvec::SmallVec;
use tokio::time::Sleep;

use super::hedged::HedgedAttempt;
use super::outcome;
use super::transport::Transport;
use super::upload::Upload;
use crate::gateway::client::ClientIo;
use crate::gateway::ctx::Ctx;
use crate::gateway::failure;
use crate::gateway::worker_local::WorkerLocal;
use crate::observe::TryEnd;
use crate::observe::stats::RetryCause;
use crate::upstream::breaker::Ending;

/// The tries beside the first of one request. As many as its upstream's `hedge.max` at most.
pub(super) struct Race {
    lane: Arc<WorkerLocal>,
    after: Duration,
    timer: Pin<Box<Sleep>>,
    /// Further tries that may still begin.
    left: u32,
    others: SmallVec<[HedgedAttempt; 1]>,
    /// How the first try failed, while others are under way.
    pub(super) failed: Option<Box<Error>>,
}

impl Race {
    /// A race for the first try of a request, where the upstream asks for it.
    pub(super) fn of(ctx: &Ctx, lane: &Arc<WorkerLocal>) -> Option<Box<Self>> {
        let pool = ctx.forward.pool.as_ref()?;
        let pace = pool.pace()?;
        let (rule, after) = (pace.rule(), pace.after()?);
        if ctx.lean() || ctx.forward.attempts.count() > 1 || !outcome::hedged(ctx) {
            return None;
        }
        let sent = ctx.forward.attempts.sent().unwrap_or_else(Instant::now);
        let timer = tokio::time::sleep_until((sent + after).into());
        Some(Box::new(Self {
            lane: Arc::clone(lane),
            after,
            timer: Box::pin(timer),
            left: rule.max,
            others: SmallVec::new(),
            failed: None,
        }))
    }

    /// Whether another try is under way.
    pub(super) fn is_on(&self) -> bool {
        !self.others.is_empty()
    }

    /// Whether another try may still save a request whose first failed so: one is under way, and it was neither the
    /// client's fault nor another upstream's turn.
    pub(super) fn goes_on(&self, error: &Error, client: &ClientIo, ctx: &Ctx) -> bool {
        let clients = *error.esource() == ErrorSource::Downstream;
        self.is_on()
            && !clients
            && ctx.refusal.is_none()
            && ctx.policy.failover.is_none()
            && client.fault().is_none()
    }

    /// Begins further tries that are due, with what the first sent: all of it, or there are none.
    pub(super) fn poll_begin(
        &mut self,
        cx: &mut Context<'_>,
        request: &RequestHeader,
        first: &Upload,
        ctx: &mut Ctx,
    ) {
        while self.left > 0 && self.failed.is_none() {
            if self.timer.as_mut().poll(cx).is_pending() {
                return;
            }
            let begun = first
                .repeatable()
                .then(|| HedgedAttempt::begin(request, first, ctx, &self.lane))
                .flatten();
            let Some(begun) = begun else {
                self.left = 0;
                return;
            };
            self.others.push(begun);
            self.left -= 1;
            let next = Instant::now() + self.after;
            self.timer.as_mut().reset(next.into());
        }
    }

    /// Goes on with the further tries; the first that has an answer is taken out.
    pub(super) fn poll_others(
        &mut self,
        cx: &mut Context<'_>,
        request: &RequestHeader,
        client: &ClientIo,
        ctx: &mut Ctx,
    ) -> Option<HedgedAttempt> {
        let mut index = 0;
        while index < self.others.len() {
            let Poll::Ready(outcome) = self.others[index].poll(cx, request, client, ctx) else {
                index += 1;
                continue;
            };
            let other = self.others.remove(index);
            let status = match outcome {
                Ok(status) => status,
                Err(error) => {
                    fail(other, &error, ctx);
                    continue;
                }
            };
            let alone = self.failed.is_some() && self.others.is_empty();
            if alone || !other.holding.would_rather_wait(status) {
                return Some(other);
            }
            other.count(ctx);
            let (holding, _) = other.into_parts();
            holding.failed(Ending::Answered(status), ctx);
        }
        None
    }

    /// The winner is the request's try from now on; the others are given up.
    pub(super) fn won(
        mut self,
        winner: HedgedAttempt,
        ctx: &mut Ctx,
    ) -> Option<(Transport, Upload)> {
        let failed = self.failed.take().map(|error| {
            let cause = failure::cause(&error);
            cause.unwrap_or(RetryCause::Reset)
        });
        self.give_up(ctx);
        let (holding, carried) = winner.into_parts();
        holding.take_over(failed, ctx);
        carried
    }

    /// The further tries are lost: another answered first.
    pub(super) fn give_up(self, ctx: &mut Ctx) {
        for other in &self.others {
            other.count(ctx);
            ctx.forward.attempts.end(other.holding.index, TryEnd::Lost);
        }
    }
}

/// A further try failed.
fn fail(other: HedgedAttempt, error: &Error, ctx: &mut Ctx) {
    let stale = other.is_stale();
    other.count(ctx);
    let (holding, _) = other.into_parts();
    let cause = failure::cause(error).unwrap_or(RetryCause::Reset);
    if stale {
        holding.in_vain(TryEnd::Stale, ctx);
    } else if failure::out_of_descriptors(error) {
        holding.in_vain(TryEnd::Connect, ctx);
    } else {
        holding.failed(Ending::Broken(cause), ctx);
    }
}
