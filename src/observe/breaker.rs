//! What circuit breakers do, for metrics.

use std::sync::atomic::{AtomicU8, Ordering};

use super::stats::Count;

/// The states of a breaker; the number is the value of its gauge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum BreakerState {
    /// Calls pass.
    Closed = 0,
    /// A few calls pass and decide.
    HalfOpen = 1,
    /// No call passes.
    Open = 2,
}

impl BreakerState {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Closed, Self::HalfOpen, Self::Open];

    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::HalfOpen => "half_open",
            Self::Open => "open",
        }
    }
}

/// State and changes of the breaker of one upstream or route.
#[derive(Debug, Default)]
pub struct BreakerStats {
    /// One more than the state; 0 while there is no breaker.
    shown: AtomicU8,
    turns: [Count; BreakerState::ALL.len()],
}

impl BreakerStats {
    /// Shows the state in which the breaker is.
    pub fn show(&self, state: BreakerState) {
        self.shown.store(state as u8 + 1, Ordering::Relaxed);
    }

    /// There is none.
    pub fn hide(&self) {
        self.shown.store(0, Ordering::Relaxed);
    }

    /// Counts a change into a state.
    pub fn turned(&self, to: BreakerState) {
        self.turns[to as usize].up();
        self.show(to);
    }

    /// The gauge, and `(state, how often it went there)`; `None` while there is no breaker.
    pub(super) fn seen(&self) -> Option<(u8, impl Iterator<Item = (&'static str, u64)>)> {
        let value = self.shown.load(Ordering::Relaxed).checked_sub(1)?;
        let turns = BreakerState::ALL.iter();
        Some((
            value,
            turns.map(|to| (to.as_str(), self.turns[*to as usize].value())),
        ))
    }
}
