//! The circuit breaker: an upstream that fails by halves is sent nothing for a while, and then a few calls that decide.
//!
//! *Closed*, calls pass and are counted; when enough of them in the window failed or were slow, it *opens* and calls are
//! refused at once. After `open_for` it is *half-open*: exactly `half_open_calls` are let through, the others are refused,
//! and when all of them have finished their rates close it or open it again. A call that ends without telling anything
//! about the upstream (the client left) gives its place to another.
//!
//! While it is closed a call costs one load on its way in and a few counters on its way out. Everything else is rare
//! and happens under one lock, which makes it exact.

mod known;
mod window;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use self::known::{CarriedBreakers, KnownBreaker};
pub use self::window::Figures;
use self::window::Window;
use crate::config::Breaker as Rule;
use crate::observe::stats::RetryCause;
use crate::observe::{BreakerState, BreakerStats};
use crate::primitives::clock::nanos;
use crate::primitives::sync::Mutex;
use crate::primitives::sync::atomic::{AtomicU64, Ordering};

/// What a breaker stands before: how it is called in the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Guarded {
    /// An upstream.
    Upstream(String),
    /// What one route sends.
    Route(String),
}

/// A circuit breaker. Times are nanoseconds of the process clock.
pub struct Breaker {
    rule: Rule,
    guarded: Guarded,
    stats: Arc<BreakerStats>,
    /// The state, and above it how often it changed: a call that began before the last change tells nothing any more.
    word: AtomicU64,
    /// When calls are let through again.
    until: AtomicU64,
    /// Changes of state happen with this locked.
    trial: Mutex<Trial>,
    window: Window,
}

/// The calls of a half-open breaker.
#[derive(Debug, Default)]
struct Trial {
    /// Calls that may still begin.
    left: u32,
    /// Trial calls that have finished.
    finished: Figures,
}

/// How a call ended, as far as a breaker is concerned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Call {
    failed: bool,
    slow: bool,
}

/// How a try ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// With an answer of this status.
    Answered(u16),
    /// Without one.
    Broken(RetryCause),
}

/// What a breaker is like at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// State of the breaker.
    pub state: BreakerState,
    /// The calls that decide about the next state.
    pub figures: Figures,
    /// For how long it refuses.
    pub left: Duration,
}

/// How long a client waits that was refused by a half-open breaker: the calls that decide are under way.
const ABOUT_TO_DECIDE: Duration = Duration::from_secs(1);

const STATE_BITS: u32 = 2;

fn state_of(word: u64) -> BreakerState {
    match word & ((1 << STATE_BITS) - 1) {
        0 => BreakerState::Closed,
        1 => BreakerState::HalfOpen,
        _ => BreakerState::Open,
    }
}

impl Breaker {
    /// A closed one.
    pub fn new(rule: Rule, guarded: Guarded, stats: Arc<BreakerStats>) -> Self {
        Self {
            window: Window::new(rule.window),
            rule,
            guarded,
            stats,
            word: AtomicU64::new(0),
            until: AtomicU64::new(0),
            trial: Mutex::default(),
        }
    }

    /// The one among those of earlier configurations whose settings were these, so that its state goes on, or a new one.
    pub fn carried<'k>(
        known: impl IntoIterator<Item = &'k Arc<Self>>,
        rule: &Rule,
        guarded: Guarded,
        stats: &Arc<BreakerStats>,
    ) -> Arc<Self> {
        let mut known = known.into_iter();
        match known.find(|known| known.rule == *rule && known.guarded == guarded) {
            Some(same) => Arc::clone(same),
            None => Arc::new(Self::new(rule.clone(), guarded, Arc::clone(stats))),
        }
    }

    /// Lets a call through, or says how long none will be.
    pub fn enter(self: &Arc<Self>, now: u64) -> Result<BreakerPermit, Duration> {
        let word = self.word.load(Ordering::Acquire);
        let word = match state_of(word) {
            BreakerState::Closed => word,
            BreakerState::Open if now < self.until.load(Ordering::Relaxed) => {
                return Err(self.left(now));
            }
            BreakerState::Open | BreakerState::HalfOpen => self.enter_trial(now)?,
        };
        Ok(BreakerPermit {
            breaker: Arc::clone(self),
            word,
            told: false,
        })
    }

    /// Whether a call would be refused now, and for how long. Takes nothing.
    pub fn refuses(&self, now: u64) -> Option<Duration> {
        let standing = self.standing(now);
        match standing.state {
            BreakerState::Closed => None,
            BreakerState::HalfOpen => (self.trial.lock().left == 0).then_some(ABOUT_TO_DECIDE),
            BreakerState::Open => (!standing.left.is_zero()).then_some(standing.left),
        }
    }

    /// What it is like.
    pub fn standing(&self, now: u64) -> Standing {
        let trial = self.trial.lock();
        let state = self.state();
        Standing {
            state,
            figures: match state {
                BreakerState::Closed => self.window.figures(now),
                BreakerState::HalfOpen | BreakerState::Open => trial.finished,
            },
            left: match state {
                BreakerState::Open => self.left(now),
                BreakerState::HalfOpen | BreakerState::Closed => Duration::ZERO,
            },
        }
    }

    /// Done once a second: without traffic, too, an open one becomes half-open, and metrics show what is in force.
    pub fn tick(&self, now: u64) {
        if self.state() == BreakerState::Open && now >= self.until.load(Ordering::Relaxed) {
            let mut trial = self.trial.lock();
            self.half_open_if_due(&mut trial, now);
        }
        self.stats.show(self.state());
    }

    fn state(&self) -> BreakerState {
        state_of(self.word.load(Ordering::Acquire))
    }

    fn left(&self, now: u64) -> Duration {
        let until = self.until.load(Ordering::Relaxed);
        Duration::from_nanos(until.saturating_sub(now))
    }

    /// Takes a place among the calls that decide; the word they belong to.
    fn enter_trial(&self, now: u64) -> Result<u64, Duration> {
        let mut trial = self.trial.lock();
        self.half_open_if_due(&mut trial, now);
        let word = self.word.load(Ordering::Relaxed);
        match state_of(word) {
            BreakerState::Closed => Ok(word),
            BreakerState::Open => Err(self.left(now)),
            BreakerState::HalfOpen if trial.left == 0 => Err(ABOUT_TO_DECIDE),
            BreakerState::HalfOpen => {
                trial.left -= 1;
                Ok(word)
            }
        }
    }

    fn half_open_if_due(&self, trial: &mut Trial, now: u64) {
        let due = now >= self.until.load(Ordering::Relaxed);
        if due && self.state() == BreakerState::Open {
            *trial = Trial {
                left: self.rule.half_open_calls,
                finished: Figures::default(),
            };
            self.turn(BreakerState::HalfOpen);
            self.say(format_args!(
                "the breaker is half-open: the next {} calls decide",
                self.rule.half_open_calls
            ));
        }
    }

    /// A call that was let in while the word was `word` ended.
    fn told(&self, word: u64, call: Call, now: u64) {
        if self.word.load(Ordering::Acquire) != word {
            return;
        }
        match state_of(word) {
            BreakerState::Closed => {
                let minimum = u64::from(self.rule.minimum_calls);
                let enough =
                    |figures: Figures| figures.calls >= minimum && figures.reach(&self.rule);
                if self.window.add(call, now) && enough(self.window.estimate(now)) {
                    let mut trial = self.trial.lock();
                    let figures = self.window.figures(now);
                    if self.word.load(Ordering::Relaxed) == word && enough(figures) {
                        self.open(&mut trial, figures, now);
                    }
                }
            }
            BreakerState::HalfOpen => self.finish(word, call, now),
            BreakerState::Open => {}
        }
    }

    /// One of the calls that decide ended. The last of them decides.
    fn finish(&self, word: u64, call: Call, now: u64) {
        let mut trial = self.trial.lock();
        if self.word.load(Ordering::Relaxed) != word {
            return;
        }
        trial.finished.add(call);
        let finished = trial.finished;
        if finished.calls < u64::from(self.rule.half_open_calls) {
            return;
        }
        if finished.reach(&self.rule) {
            self.open(&mut trial, finished, now);
        } else {
            self.window.clear();
            self.turn(BreakerState::Closed);
            self.say(format_args!(
                "the breaker is closed: {} of {} calls failed, {} were slow",
                finished.failed, finished.calls, finished.slow
            ));
        }
    }

    fn open(&self, trial: &mut Trial, figures: Figures, now: u64) {
        trial.finished = figures;
        let until = now.saturating_add(nanos(self.rule.open_for));
        self.until.store(until, Ordering::Relaxed);
        self.turn(BreakerState::Open);
        self.say(format_args!(
            "the breaker is open: {} of {} calls failed, {} were slow; nothing is sent for {:?}",
            figures.failed, figures.calls, figures.slow, self.rule.open_for
        ));
    }

    /// A call ended that tells nothing: another may take its place.
    fn gave_up(&self, word: u64) {
        if state_of(word) != BreakerState::HalfOpen {
            return;
        }
        let mut trial = self.trial.lock();
        if self.word.load(Ordering::Relaxed) == word {
            trial.left += 1;
        }
    }

    /// Called with `trial` locked.
    fn turn(&self, to: BreakerState) {
        let turns = self.word.load(Ordering::Relaxed) >> STATE_BITS;
        let word = (turns + 1) << STATE_BITS | to as u64;
        self.word.store(word, Ordering::Release);
        self.stats.turned(to);
    }

    fn say(&self, what: std::fmt::Arguments<'_>) {
        match &self.guarded {
            Guarded::Upstream(name) => log::warn!(upstream = name.as_str(); "{what}"),
            Guarded::Route(name) => log::warn!(route = name.as_str(); "{what}"),
        }
    }

    /// What a try that took so long means.
    fn judge(&self, ending: Ending, took: Duration) -> Call {
        let failures = &self.rule.failures;
        Call {
            failed: match ending {
                Ending::Answered(status) => failures.statuses.contains(&status),
                Ending::Broken(RetryCause::Connect) => failures.connect,
                Ending::Broken(RetryCause::Timeout) => failures.timeout,
                Ending::Broken(RetryCause::Reset | RetryCause::Status) => failures.reset,
            },
            slow: took >= self.rule.slow_call,
        }
    }
}

/// A call that was let through. Dropped without a word it gives its place back.
#[must_use]
pub struct BreakerPermit {
    breaker: Arc<Breaker>,
    word: u64,
    told: bool,
}

impl BreakerPermit {
    /// Whether `breaker` gave it and would still do so.
    pub fn holds(&self, breaker: &Arc<Breaker>) -> bool {
        Arc::ptr_eq(&self.breaker, breaker)
            && self.breaker.word.load(Ordering::Acquire) == self.word
    }

    /// Tells how the try ended.
    pub fn tell(mut self, ending: Ending, took: Duration, now: u64) {
        let call = self.breaker.judge(ending, took);
        self.tell_call(call, now);
    }

    fn tell_call(&mut self, call: Call, now: u64) {
        self.told = true;
        self.breaker.told(self.word, call, now);
    }
}

impl Drop for BreakerPermit {
    fn drop(&mut self) {
        if !self.told {
            self.breaker.gave_up(self.word);
        }
    }
}
