//! Requests in flight by key: what a limit on concurrency knows, which outlives a reload.

use super::shards::Shards;
use super::table::Table;
use crate::primitives::sync::atomic::{AtomicUsize, Ordering};

/// Requests in flight by key; none is zero.
pub(super) struct Counts {
    shards: Shards<Table>,
    capacity: AtomicUsize,
    len: AtomicUsize,
}

impl Counts {
    pub(super) fn new(capacity: u32) -> Self {
        Self {
            shards: Shards::for_capacity(capacity),
            capacity: AtomicUsize::new(capacity as usize),
            len: AtomicUsize::new(0),
        }
    }

    /// What it is, for tests that compare.
    #[cfg(test)]
    pub(super) fn dump(&self) -> String {
        format!("{self:p} {:?} of {:?}", self.len, self.capacity)
    }

    pub(super) fn set_capacity(&self, capacity: u32) {
        self.capacity.store(capacity as usize, Ordering::Relaxed);
    }

    pub(super) fn in_flight(&self, key: u64) -> u64 {
        self.shards.of(key).get(key).unwrap_or_default()
    }

    pub(super) fn enter(&self, key: u64, places: u64, max: u64) -> bool {
        let mut table = self.shards.of(key);
        if let Some(count) = table.get_mut(key) {
            let free = *count + places <= max;
            *count += if free { places } else { 0 };
            return free;
        }
        if places > max {
            return false;
        }
        if self.len.fetch_add(1, Ordering::Relaxed) >= self.capacity.load(Ordering::Relaxed) {
            self.len.fetch_sub(1, Ordering::Relaxed);
            return false;
        }
        table.insert(key, places);
        true
    }

    pub(super) fn leave(&self, key: u64, places: u64) {
        let mut table = self.shards.of(key);
        match table.get_mut(key) {
            Some(count) if *count > places => *count -= places,
            Some(_) => {
                table.remove(key);
                self.len.fetch_sub(1, Ordering::Relaxed);
            }
            None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_with_nothing_in_flight_takes_no_room() {
        let counts = Counts::new(2);
        assert!(counts.enter(1, 1, 5) && counts.enter(1, 3, 5) && counts.enter(2, 1, 5));
        assert!(!counts.enter(1, 2, 5), "two places are not left");
        assert!(!counts.enter(3, 1, 5), "a third key finds no room");
        assert!(counts.enter(2, 1, 5), "a known one does");
        counts.leave(1, 1);
        assert!(!counts.enter(3, 1, 5));
        counts.leave(1, 3);
        assert_eq!(counts.in_flight(1), 0);
        assert!(counts.enter(3, 1, 5));
    }
}
