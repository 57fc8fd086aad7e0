//! What every way to choose is given, and what they share.

use std::hash::Hasher;

use siphasher::sip::SipHasher13;

use crate::upstream::members::{Member, Side};

/// One choice: among whom, when, and for whom.
pub(in crate::upstream) struct Choice<'c> {
    pub(in crate::upstream) all: &'c [Member],
    pub(in crate::upstream) side: &'c Side,
    pub(in crate::upstream) now: u64,
    /// A random number.
    pub(in crate::upstream) chance: u64,
    /// What the request is hashed by.
    pub(in crate::upstream) key: Option<u64>,
    /// A further try, which takes no turn.
    pub(in crate::upstream) again: bool,
}

/// An endpoint is clearly slower than another when it takes this many times as long. What is less is noise, and must not
/// take from anybody its share.
pub(super) const CLEARLY: f32 = 2.0;

impl Choice<'_> {
    pub(super) fn turn(&self, admits: impl Fn(u32) -> bool) -> Option<u32> {
        if self.again {
            self.side.rotation.spare(admits)
        } else {
            self.side.rotation.next(admits)
        }
    }

    pub(super) fn in_flight(&self, index: u32) -> f32 {
        self.all[index as usize].endpoint.in_flight.value().max(0) as f32
    }

    pub(super) fn share(&self, index: u32) -> f32 {
        self.side.shares[index as usize]
    }

    /// Nanoseconds to the first byte; `None` when nobody knows.
    pub(super) fn cost(&self, index: u32) -> Option<f32> {
        self.all[index as usize].endpoint.live.cost.at(self.now)
    }
}

/// A further random number out of one (splitmix64).
pub(in crate::upstream) fn mix(number: u64) -> u64 {
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
