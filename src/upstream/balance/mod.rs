//! Ways to choose one of the endpoints that may be used: one file for each that is more than a turn.
//!
//! All of them honour weights, and all begin with the turn of the rotation or with a random one, so that endpoints which
//! are alike get exactly their shares. What a try has met is left to the caller: it says which endpoints it admits.

mod choice;
mod consistent_hash;
mod least_connections;
mod peak_ewma;

pub use self::choice::hash;
pub(super) use self::choice::{Choice, mix};
use self::consistent_hash::Slots;
use super::live::Follow;
use super::members::Member;
use crate::config;

/// How an endpoint is chosen, ready to do it.
pub(super) enum Balance {
    /// In turns. `score` is this too: it changes the weights.
    Turns,
    Random,
    LeastConnections,
    PeakEwma,
    ConsistentHash(Slots),
}

impl Balance {
    pub(super) fn new(settings: &config::Balance) -> Self {
        match settings {
            config::Balance::WeightedRoundRobin | config::Balance::Score(_) => Self::Turns,
            config::Balance::Random => Self::Random,
            config::Balance::LeastConnections => Self::LeastConnections,
            config::Balance::PeakEwma => Self::PeakEwma,
            config::Balance::ConsistentHash { excess, .. } => {
                Self::ConsistentHash(Slots::new(*excess))
            }
        }
    }

    /// The members changed; not called when only their health did.
    pub(super) fn gathered(&self, all: &[Member]) {
        if let Self::ConsistentHash(slots) = self {
            slots.fill(all);
        }
    }

    /// How the time to the first byte is followed; `None` where nobody asks for it.
    pub(super) fn follows(&self) -> Option<Follow> {
        match self {
            Self::PeakEwma => Some(Follow::Peaks),
            Self::LeastConnections => Some(Follow::Mean),
            Self::Turns | Self::Random | Self::ConsistentHash(_) => None,
        }
    }

    /// Chooses one that `admits` accepts; `None` when it accepts none.
    pub(super) fn choose(
        &self,
        choice: &Choice<'_>,
        admits: impl Fn(u32) -> bool + Copy,
    ) -> Option<u32> {
        match self {
            Self::Turns => choice.turn(admits),
            Self::Random => choice.side.rotation.at(choice.chance as usize >> 1, admits),
            Self::LeastConnections => least_connections::choose(choice, admits),
            Self::PeakEwma => peak_ewma::choose(choice, admits),
            Self::ConsistentHash(slots) => slots.choose(choice, admits),
        }
    }
}

#[cfg(test)]
mod tests;
