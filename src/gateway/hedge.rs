//! A second try beside the first: when an answer is awaited for longer than most take, another endpoint is asked too.
//! The first answer wins, and the other is given up. What a try is depends on the protocol: an [`Attempt`].

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use pingora::{Error, ErrorSource};
use smallvec::SmallVec;
use tokio::time::Sleep;

use super::client::ClientIo;
use super::contest::Contender;
use super::ctx::Ctx;
use super::{failure, forward};
use crate::observe::stats::RetryCause;
use crate::upstream::breaker::Ending;

/// A further try, as far as its protocol is concerned.
pub(super) trait Attempt: Sized {
    /// Goes on; ready with the status once the head of its answer is here. `sent` becomes the moment when it could be sent.
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        client: &ClientIo,
        ctx: &mut Ctx,
        sent: &mut Instant,
    ) -> Poll<Result<u16, Box<Error>>>;

    /// Whether its failure tells nothing about the endpoint.
    fn is_stale(&self) -> bool;
}

/// Further tries of one request.
pub(super) struct Hedge<A> {
    after: Duration,
    timer: Pin<Box<Sleep>>,
    /// Further tries that may still begin.
    left: u32,
    rivals: SmallVec<[Rival<A>; 1]>,
    /// How the first try failed, while others are under way.
    pub(super) failed: Option<Box<Error>>,
}

/// A further try under way, or one that answered first.
pub(super) struct Rival<A> {
    contender: Contender,
    attempt: A,
}

impl<A: Attempt> Hedge<A> {
    /// For the first try of a request, where the upstream asks for it.
    pub(super) fn of(ctx: &Ctx) -> Option<Box<Self>> {
        let pool = ctx.forward.pool.as_ref()?;
        let pace = pool.pace()?;
        let (rule, after) = (pace.rule(), pace.after()?);
        if ctx.lean() || ctx.forward.attempts > 1 || !forward::hedged(ctx) {
            return None;
        }
        let sent = ctx.forward.sent.unwrap_or_else(Instant::now);
        let timer = tokio::time::sleep_until((sent + after).into());
        Some(Box::new(Self {
            after,
            timer: Box::pin(timer),
            left: rule.max,
            rivals: SmallVec::new(),
            failed: None,
        }))
    }

    /// Whether another try is under way.
    pub(super) fn is_on(&self) -> bool {
        !self.rivals.is_empty()
    }

    /// Begins a further try when it is time. Called once the endpoint asked first has the whole request; one that is not
    /// `replayable` cannot be sent again.
    pub(super) fn poll_begin(
        &mut self,
        cx: &mut Context<'_>,
        ctx: &mut Ctx,
        replayable: bool,
        mut begin: impl FnMut(&Contender, &mut Ctx) -> Option<A>,
    ) {
        while self.left > 0 && self.failed.is_none() {
            if self.timer.as_mut().poll(cx).is_pending() {
                return;
            }
            let contender = replayable.then(|| Contender::begin(ctx)).flatten();
            let begun = contender.and_then(|contender| {
                // The head is that of its own try: host, span and time left.
                let endpoint = Arc::clone(contender.endpoint());
                let sent = ctx.forward.sent.replace(contender.sent);
                let current = ctx.forward.current.replace(endpoint);
                let attempt = begin(&contender, ctx);
                (ctx.forward.sent, ctx.forward.current) = (sent, current);
                Some(Rival {
                    attempt: attempt?,
                    contender,
                })
            });
            let Some(rival) = begun else {
                self.left = 0;
                return;
            };
            self.rivals.push(rival);
            self.left -= 1;
            let next = Instant::now() + self.after;
            self.timer.as_mut().reset(next.into());
        }
    }

    /// Goes on with the further tries; the first that has an answer is taken out.
    pub(super) fn poll_rivals(
        &mut self,
        cx: &mut Context<'_>,
        client: &ClientIo,
        ctx: &mut Ctx,
    ) -> Option<Rival<A>> {
        let mut index = 0;
        while index < self.rivals.len() {
            let Rival { contender, attempt } = &mut self.rivals[index];
            let Poll::Ready(outcome) = attempt.poll(cx, client, ctx, &mut contender.sent) else {
                index += 1;
                continue;
            };
            let Rival { contender, attempt } = self.rivals.remove(index);
            match outcome {
                Ok(status) => {
                    let alone = self.failed.is_some() && self.rivals.is_empty();
                    if alone || !contender.would_rather_wait(status) {
                        return Some(Rival { contender, attempt });
                    }
                    contender.failed(Ending::Answered(status), ctx);
                }
                Err(_) if attempt.is_stale() => contender.in_vain(),
                Err(error) if failure::out_of_descriptors(&error) => contender.in_vain(),
                Err(error) => {
                    let cause = failure::cause(&error).unwrap_or(RetryCause::Reset);
                    contender.failed(Ending::Broken(cause), ctx);
                }
            }
        }
        None
    }

    /// The winner is the request's try from now on; the others are given up.
    pub(super) fn won(self, winner: Rival<A>, ctx: &mut Ctx) -> A {
        let failed = self.failed.map(|error| {
            let cause = failure::cause(&error);
            cause.unwrap_or(RetryCause::Reset)
        });
        winner.contender.take_over(failed, ctx);
        winner.attempt
    }
}

/// Whether another try may still save a request whose first failed so: not when it is the client's fault, or when another
/// upstream took it over.
pub(super) fn may_go_on(error: &Error, client: &ClientIo, ctx: &Ctx) -> bool {
    let clients = *error.esource() == ErrorSource::Downstream;
    !clients && ctx.refusal.is_none() && ctx.policy.fell.is_none() && client.fault().is_none()
}
