//! One thing split into many, each behind its own lock, so that workers seldom meet.

use crate::primitives::sync::{Mutex, MutexGuard};

/// Most parts; with a million keys each holds four thousand, so that even growing one takes well under a millisecond.
const MOST: usize = 256;
/// Keys a part should expect at least: below this a part would often be empty while others are full.
const EXPECTED: usize = 16;

/// Parts, chosen by key.
pub(super) struct Shards<T>(Box<[Line<T>]>);

/// A part on cache lines of its own: a lock taken next door does not slow this one.
#[derive(Default)]
#[repr(align(64))]
struct Line<T>(Mutex<T>);

impl<T: Default> Shards<T> {
    /// As many parts as `capacity` keys deserve; a power of two.
    pub(super) fn for_capacity(capacity: u32) -> Self {
        let parts = (capacity as usize / EXPECTED)
            .next_power_of_two()
            .clamp(1, MOST);
        Self((0..parts).map(|_| Line::default()).collect())
    }

    /// Every part, locked one after the other.
    pub(super) fn all(&self) -> impl Iterator<Item = MutexGuard<'_, T>> {
        self.0.iter().map(|line| line.0.lock())
    }

    /// The part that holds `key`, locked. It goes by the upper half of the key: the lower places it inside the part.
    pub(super) fn of(&self, key: u64) -> MutexGuard<'_, T> {
        let index = (key >> 32) as usize & (self.0.len() - 1);
        self.0[index].0.lock()
    }
}
