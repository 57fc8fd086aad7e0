//! What keys are hashed under.
//!
//! Two numbers drawn when the process starts, unless it takes over what another counted: then the other's, since a key
//! is known by its hash alone. They are set before the first request, so no order of memory matters.

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};

use siphasher::sip::SipHasher13;

/// The seed of all keys.
#[derive(Debug)]
pub(super) struct Seed([AtomicU64; 2]);

impl Seed {
    /// Numbers that nobody can guess.
    pub(super) fn random() -> Self {
        let random = RandomState::new();
        Self([0, 1].map(|n: u8| AtomicU64::new(random.hash_one(n))))
    }

    /// The numbers.
    pub(super) fn numbers(&self) -> [u64; 2] {
        [0, 1].map(|n| self.0[n].load(Ordering::Relaxed))
    }

    /// Goes on with the numbers of another process.
    pub(super) fn set(&self, numbers: [u64; 2]) {
        for (place, number) in self.0.iter().zip(numbers) {
            place.store(number, Ordering::Relaxed);
        }
    }
}

impl BuildHasher for Seed {
    type Hasher = SipHasher13;

    fn build_hasher(&self) -> SipHasher13 {
        let [first, second] = self.numbers();
        SipHasher13::new_with_keys(first, second)
    }
}
