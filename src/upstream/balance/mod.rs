//! Ways to choose one of the endpoints that may be used: one file for each that is more than a turn.
//!
//! All of them honour weights, and all begin with the turn of the rotation or with a random one, so that endpoints which
//! are alike get exactly their shares. What a try has met is left to the caller: it says which endpoints it admits.

mod consistent_hash;
mod least_connections;
mod peak_ewma;

use std::hash::Hasher;

use siphasher::sip::SipHasher13;

use self::consistent_hash::Slots;
use super::live::Follow;
use super::members::{Member, Side};
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

/// One choice: among whom, when, and for whom.
pub(super) struct Choice<'c> {
    pub(super) all: &'c [Member],
    pub(super) side: &'c Side,
    pub(super) now: u64,
    /// A random number.
    pub(super) chance: u64,
    /// What the request is hashed by.
    pub(super) key: Option<u64>,
    /// A further try, which takes no turn.
    pub(super) again: bool,
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

/// An endpoint is clearly slower than another when it takes this many times as long. What is less is noise, and must not
/// take from anybody its share.
const CLEARLY: f32 = 2.0;

impl Choice<'_> {
    fn turn(&self, admits: impl Fn(u32) -> bool) -> Option<u32> {
        if self.again {
            self.side.rotation.spare(admits)
        } else {
            self.side.rotation.next(admits)
        }
    }

    fn in_flight(&self, index: u32) -> f32 {
        self.all[index as usize].endpoint.in_flight.value().max(0) as f32
    }

    fn share(&self, index: u32) -> f32 {
        self.side.shares[index as usize]
    }

    /// Nanoseconds to the first byte; `None` when nobody knows.
    fn cost(&self, index: u32) -> Option<f32> {
        self.all[index as usize].endpoint.live.cost.at(self.now)
    }
}

/// A further random number out of one (splitmix64).
pub(super) fn mix(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The hash of a key: the same in every process, so that several gateways send a key to the same endpoint. Whoever aims at
/// one endpoint with keys made for it meets the bound on its load.
pub fn hash(key: &[u8]) -> u64 {
    let mut hasher = SipHasher13::new();
    hasher.write(key);
    hasher.finish()
}

#[cfg(test)]
mod tests;
