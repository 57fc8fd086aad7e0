//! A hash table from keys to numbers that can be swept and sampled a few places at a time.
//!
//! `HashMap` can drop what is idle only by walking the whole map and cannot pick a few entries at random. Here the
//! places are one array, keys are random numbers already, and a hand goes round the array: to sweep eight places or to
//! look at eight entries costs the same however many there are. Linear probing with backward shift, so removed entries
//! leave no marks behind.
//!
//! A place is 16 bytes and a table between 3/8 and 3/4 full while it grows: 21 to 43 bytes a key. It keeps the room it
//! has grown to.

/// Keys to numbers. Keys are uniformly random and never zero.
#[derive(Default)]
pub(super) struct Table {
    /// Empty, or a power of two with a free place at least.
    places: Box<[Place]>,
    len: usize,
    hand: usize,
}

#[derive(Clone, Copy)]
struct Place {
    key: u64,
    value: u64,
}

const FREE: Place = Place { key: 0, value: 0 };
/// Places of the smallest table.
const SMALLEST: usize = 8;

impl Table {
    /// The number kept for `key`.
    pub(super) fn get(&self, key: u64) -> Option<u64> {
        let found = self.find(key)?;
        Some(self.places[found].value)
    }

    /// The number kept for `key`, to be changed.
    pub(super) fn get_mut(&mut self, key: u64) -> Option<&mut u64> {
        let found = self.find(key)?;
        Some(&mut self.places[found].value)
    }

    /// Keeps `value` for a `key` that is not there yet.
    pub(super) fn insert(&mut self, key: u64, value: u64) {
        if (self.len + 1) * 4 > self.places.len() * 3 {
            self.grow();
        }
        self.put(Place { key, value });
        self.len += 1;
    }

    /// Every key with its number.
    pub(super) fn entries(&self) -> impl Iterator<Item = (u64, u64)> {
        let taken = self.places.iter().filter(|place| place.key != 0);
        taken.map(|place| (place.key, place.value))
    }

    /// Forgets `key`.
    pub(super) fn remove(&mut self, key: u64) {
        if let Some(found) = self.find(key) {
            self.clear(found);
        }
    }

    /// Moves the hand over `steps` places and forgets what is `idle` there. Returns how many were forgotten.
    pub(super) fn sweep(&mut self, steps: usize, idle: impl Fn(u64) -> bool) -> usize {
        let before = self.len;
        for _ in 0..steps.min(self.places.len()) {
            let place = self.places[self.hand];
            if place.key != 0 && idle(place.value) {
                // Another entry may have moved in; the hand looks here again.
                self.clear(self.hand);
            } else {
                self.hand = self.after(self.hand);
            }
        }
        before - self.len
    }

    /// Forgets the lowest of the next `sample` entries; `false` when there is none at all.
    pub(super) fn evict_lowest(&mut self, sample: usize) -> bool {
        let mut lowest: Option<usize> = None;
        let mut seen = 0;
        for _ in 0..self.places.len() {
            let here = self.hand;
            self.hand = self.after(here);
            if self.places[here].key == 0 {
                continue;
            }
            if lowest.is_none_or(|index| self.places[here].value < self.places[index].value) {
                lowest = Some(here);
            }
            seen += 1;
            if seen == sample {
                break;
            }
        }
        if let Some(index) = lowest {
            self.clear(index);
        }
        lowest.is_some()
    }

    fn find(&self, key: u64) -> Option<usize> {
        if self.len == 0 {
            return None;
        }
        let mut index = self.home(key);
        while self.places[index].key != 0 {
            if self.places[index].key == key {
                return Some(index);
            }
            index = self.after(index);
        }
        None
    }

    fn put(&mut self, place: Place) {
        let mut index = self.home(place.key);
        while self.places[index].key != 0 {
            index = self.after(index);
        }
        self.places[index] = place;
    }

    /// Frees a place and moves later entries of its run up, so that each is still found from its home.
    fn clear(&mut self, index: usize) {
        let mask = self.places.len() - 1;
        let mut hole = index;
        let mut next = self.after(index);
        while self.places[next].key != 0 {
            let from_home = next.wrapping_sub(self.home(self.places[next].key)) & mask;
            let from_hole = next.wrapping_sub(hole) & mask;
            if from_home >= from_hole {
                self.places[hole] = self.places[next];
                hole = next;
            }
            next = self.after(next);
        }
        self.places[hole] = FREE;
        self.len -= 1;
    }

    fn grow(&mut self) {
        let room = (self.places.len() * 2).max(SMALLEST);
        let old = std::mem::replace(&mut self.places, vec![FREE; room].into_boxed_slice());
        for place in old.into_iter().filter(|place| place.key != 0) {
            self.put(place);
        }
    }

    fn home(&self, key: u64) -> usize {
        key as usize & (self.places.len() - 1)
    }

    fn after(&self, index: usize) -> usize {
        (index + 1) & (self.places.len() - 1)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    impl Table {
        fn len(&self) -> usize {
            self.len
        }

        /// Places looked at to find `key`.
        fn probes(&self, key: u64) -> usize {
            let found = self.find(key).expect("a key that is there");
            (found.wrapping_sub(self.home(key)) & (self.places.len() - 1)) + 1
        }
    }

    /// Fill differs between sizes, so the fullest each can be is compared: where it is about to grow.
    #[test]
    fn a_key_is_found_as_fast_among_a_million() {
        use std::hash::{BuildHasher, RandomState};
        let seed = RandomState::new();
        let probes = |count: u64| {
            let mut table = Table::default();
            let keys = || (0..count).map(|i| seed.hash_one(i).max(1));
            keys().for_each(|key| table.insert(key, 1));
            let all = keys().map(|key| table.probes(key));
            let (sum, longest) = all.fold((0, 0), |(sum, longest), one| {
                (sum + one, usize::max(longest, one))
            });
            (sum as f64 / count as f64, longest)
        };
        let ((few, _), (many, longest)) = (probes(3 << 12), probes(3 << 18));
        assert!(
            few < 3.5 && many < 3.5,
            "{few:.2} and {many:.2} places a look-up"
        );
        assert!(longest < 2000, "{longest} places at worst");
    }

    proptest! {
        /// Few distinct keys with equal low bits make long runs, wraps and shifts.
        #[test]
        fn behaves_like_a_map(steps in prop::collection::vec((0u8..4, 1u64..40, 0u64..9), 1..400)) {
            let (mut table, mut map) = (Table::default(), HashMap::new());
            for (act, number, value) in steps {
                let key = (number % 8) | (number << 32);
                match act {
                    0 | 1 => {
                        match table.get_mut(key) {
                            Some(kept) => *kept = value,
                            None => table.insert(key, value),
                        }
                        map.insert(key, value);
                    }
                    2 => {
                        table.remove(key);
                        map.remove(&key);
                    }
                    _ => {
                        let whole = table.places.len() * 2;
                        while table.sweep(whole, |kept| kept == value) > 0 {}
                        map.retain(|_, kept| *kept != value);
                    }
                }
                prop_assert_eq!(table.len(), map.len());
                for (key, value) in &map {
                    prop_assert_eq!(table.get(*key), Some(*value));
                }
            }
        }
    }

    #[test]
    fn evicts_the_lowest_it_sees() {
        let mut table = Table::default();
        assert!(!table.evict_lowest(8));
        for key in 1..=5 {
            table.insert(key, 100 - key);
        }
        assert!(table.evict_lowest(8));
        assert_eq!(table.get(5), None);
        assert_eq!(table.len(), 4);
    }
}
