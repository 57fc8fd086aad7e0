//! What one process tells the next of breakers: those that are not closed.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Breaker, Figures, Guarded};
use crate::observe::BreakerState;
use crate::primitives::clock::nanos;
use crate::primitives::sections::Section;
use crate::primitives::sync::atomic::Ordering;

/// A breaker that lets nothing through, or a few calls that decide.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownBreaker {
    /// What it stands before.
    guarded: Guarded,
    /// For how long it still refuses; 0 when calls would decide.
    left_ms: u64,
}

/// Breakers that are not closed: the section that another process goes on from, or the next.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CarriedBreakers(pub Vec<KnownBreaker>);

impl Section for CarriedBreakers {
    const NAME: &'static str = "breakers";
    const VERSION: u16 = 1;
    const LARGEST: usize = 16 << 20;
}

impl Breaker {
    /// What there is to tell; `None` while it is closed.
    pub fn known(&self, now: u64) -> Option<KnownBreaker> {
        let standing = self.standing(now);
        (standing.state != BreakerState::Closed).then(|| KnownBreaker {
            guarded: self.guarded.clone(),
            left_ms: u64::try_from(standing.left.as_millis()).unwrap_or(u64::MAX),
        })
    }

    /// Goes on from what another process knew until `passed` ago. It is no longer open than its own settings say, and calls
    /// that were to decide there are made anew.
    pub fn recall(&self, known: &[KnownBreaker], passed: Duration, now: u64) {
        let Some(known) = known.iter().find(|known| known.guarded == self.guarded) else {
            return;
        };
        let mut trial = self.trial.lock();
        if self.state() != BreakerState::Closed {
            return;
        }
        let left = Duration::from_millis(known.left_ms).saturating_sub(passed);
        let left = left.min(self.rule.open_for);
        trial.finished = Figures::default();
        let until = now.saturating_add(nanos(left));
        self.until.store(until, Ordering::Relaxed);
        self.turn(BreakerState::Open);
        self.say(format_args!(
            "the breaker is open as before this process: nothing is sent for {left:?}"
        ));
    }
}
