//! Asks the filters of a route about a request that is served: in order, with the waiting that they want, and so that what
//! they took is given back by whoever ends it.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;

use super::auth_buffer::{AuthBuffer, Unbuffered};
use super::client::ClientIo;
use super::http1::head::Head;
use super::refusals;
use crate::filter::{
    FilterContext, Moment, PendingVerdict, Reason, Refusal, Reply, RequestFilter, Verdict,
};
use crate::primitives::clock::{Clock, WallClock};

/// What keeps a request from going on.
pub(super) enum Objection {
    /// A filter answers in place of an upstream.
    Answer(Arc<Reply>),
    /// A filter refuses it.
    Refuse(Refusal),
    /// No filter said no: it ended while it was waited for.
    Ended(Refusal),
}

impl Objection {
    /// Whether what limits took is given back: one of them says no, or nobody does.
    fn frees(&self) -> bool {
        match self {
            Self::Answer(_) => false,
            Self::Refuse(refusal) => {
                let limits = [Reason::RateLimited, Reason::ConcurrencyLimited];
                limits.contains(&refusal.reason)
            }
            Self::Ended(_) => true,
        }
    }
}

/// What filters are asked with: the client's side of the request, and its time.
pub(super) struct Asker<'s> {
    pub(super) client: &'s ClientIo,
    pub(super) head: &'s Head,
    /// When the request must be over.
    pub(super) until: Instant,
    /// Whether the request goes to an upstream, within a time that is configured or that its client asked for.
    pub(super) forwards: bool,
    pub(super) clock: Clock,
    pub(super) wall: &'s WallClock,
    pub(super) auth_buffer: &'s Arc<AuthBuffer>,
    /// Most that `auth_buffer` may have in all.
    pub(super) most_kept: u64,
    /// Spreads those who are told to come again.
    pub(super) spread: u64,
    /// The body was read, and waits to be forwarded.
    pub(super) buffered: bool,
}

/// Filters that were asked. Dropping it before all of them agreed gives back what limits took: the request ends unanswered.
struct Asked<'a, 'r> {
    filters: &'a [Arc<dyn RequestFilter>],
    context: &'a mut FilterContext<'r>,
    settled: bool,
}

impl Drop for Asked<'_, '_> {
    fn drop(&mut self) {
        // A filter that panics is not to be called again; what the context holds is freed with it.
        if !self.settled && !std::thread::panicking() {
            give_back(self.filters, self.context);
        }
    }
}

/// None of these filters counts the request, and what it held is free.
pub(super) fn give_back(asked: &[Arc<dyn RequestFilter>], context: &mut FilterContext<'_>) {
    for filter in asked.iter().rev() {
        filter.give_back(context);
    }
    context.tickets.clear();
}

impl Asker<'_> {
    /// Asks the filters in order, does the waiting that they want, and hands over the hooks that they set.
    pub(super) async fn ask_all(
        &mut self,
        filters: &[Arc<dyn RequestFilter>],
        context: &mut FilterContext<'_>,
    ) -> Result<(), Objection> {
        let mut asked = Asked {
            filters,
            context,
            settled: false,
        };
        let said = self.ask_each(&mut asked).await;
        asked.settled = said.as_ref().err().is_none_or(|said| !said.frees());
        drop(asked);
        said?;
        if !context.body_hooks.is_empty() {
            let hooks = std::mem::take(&mut context.body_hooks);
            let shown = self.client.set_body_hooks(hooks);
            shown.map_err(Objection::Refuse)?;
        }
        Ok(())
    }

    async fn ask_each(&mut self, asked: &mut Asked<'_, '_>) -> Result<(), Objection> {
        for filter in asked.filters {
            self.ask(&**filter, asked.context).await?;
        }
        // Where limits make it wait it waits once, and only when all of them agreed.
        match asked.context.turn {
            Some(turn) => self.wait_for(turn).await.map_err(Objection::Ended),
            None => Ok(()),
        }
    }

    /// Asks one filter, until it has a verdict.
    async fn ask(
        &mut self,
        filter: &dyn RequestFilter,
        context: &mut FilterContext<'_>,
    ) -> Result<(), Objection> {
        let mut verdict = filter.check(context);
        loop {
            verdict = match verdict {
                Verdict::Continue => return Ok(()),
                Verdict::Refuse(refusal) => return Err(Objection::Refuse(refusal)),
                Verdict::Answer(answer) => return Err(Objection::Answer(answer)),
                Verdict::Wait(wait) => {
                    let turn = Instant::now() + wait;
                    context.turn = Some(context.turn.map_or(turn, |known| known.max(turn)));
                    return Ok(());
                }
                Verdict::NeedBody => {
                    let body = self.body(context.request.max_body).await;
                    let body = body.map_err(Objection::Refuse)?;
                    // The client took its time with it: what counts is when it was there.
                    context.set_moment(self.moment());
                    filter.check_body(context, &body)
                }
                Verdict::Later(pending) => {
                    let verdict = self.later(pending).await.map_err(Objection::Ended)?;
                    context.set_moment(self.moment());
                    verdict
                }
            };
        }
    }

    fn moment(&self) -> Moment {
        let now = Instant::now();
        Moment {
            now: self.clock.at(now),
            unix_time: self.wall.at(now).as_secs(),
        }
    }

    /// Waits for the turn of the request, unless its time is over before.
    async fn wait_for(&self, turn: Instant) -> Result<(), Refusal> {
        if self.forwards && turn >= self.until {
            return Err(refusals::deadline());
        }
        let waiting = tokio::time::sleep_until(turn.into());
        let waited = self.client.unless_gone(waiting).await;
        waited.map_err(|_| refusals::gone())
    }

    /// Awaits a verdict, for as long as the request has time and its client is there.
    async fn later(&self, pending: PendingVerdict) -> Result<Verdict, Refusal> {
        let timed = tokio::time::timeout_at(self.until.into(), pending);
        match self.client.unless_gone(timed).await {
            Ok(Ok(verdict)) => Ok(verdict),
            Ok(Err(_)) => Err(refusals::deadline()),
            Err(_) => Err(refusals::gone()),
        }
    }

    /// The whole body, kept for forwarding.
    async fn body(&mut self, most: u64) -> Result<Bytes, Refusal> {
        let length = self.head.framing.length();
        if length.is_some_and(|length| length > most) {
            return Err(refusals::too_large(most));
        }
        let room = self.auth_buffer.room(self.most_kept);
        if self.head.expects_continue && !self.client.has_ahead() {
            let asked = self.client.send_continue().await;
            asked.map_err(|_| refusals::gone())?;
        }
        let expected = length.unwrap_or(most);
        let read = self.client.buffer_body(expected, most, room).await;
        let body = read.map_err(|why| self.unread(why, most))?;
        self.buffered = true;
        Ok(body)
    }

    /// The refusal of a body that could not be read.
    fn unread(&self, why: Unbuffered, most: u64) -> Refusal {
        match why {
            Unbuffered::Full => refusals::auth_buffer_full(self.spread),
            Unbuffered::TooLarge => refusals::too_large(most),
            // Where nobody is asked, the client is all that is waited for.
            Unbuffered::Late if self.forwards => refusals::deadline(),
            Unbuffered::Malformed => refusals::malformed(),
            Unbuffered::TimedOut | Unbuffered::Late => refusals::slow(),
            Unbuffered::Incomplete => refusals::incomplete(),
            Unbuffered::Gone => refusals::gone(),
        }
    }
}

#[cfg(test)]
mod tests;
