//! One time per key, for as many keys as the operator allows: what the exact buckets remember.
//!
//! The time is when the key is as good as new: a token bucket full again, a leaky bucket empty. A key whose time has
//! come is idle and equal to a key never seen, so forgetting it changes nothing. Each new key sweeps a few places for
//! idle ones. When the store is full all the same, a new key takes the place of the one closest to idle among a few:
//! a new key is never turned away because of others, and what is forgotten is the smallest debt in sight. A caller
//! with more keys than `capacity` at its command can thus make the gateway forget, and its own one-request keys go
//! first; whoever is near its limit stays.
//!
//! A decision is a look-up and a few additions under one of up to 256 locks.

use std::time::Duration;

use super::shards::Shards;
use super::table::Table;
use crate::primitives::clock::nanos;
use crate::primitives::sync::atomic::{AtomicUsize, Ordering};

/// Places looked at for idle keys whenever a key is added: more than one, so that they go faster than new ones come.
const SWEEP: usize = 8;
/// Keys among which the one closest to idle is looked for.
const SAMPLE: usize = 8;
/// Keys forgotten for one new key when there are too many, which happens after a reload lowered the capacity.
const EVICTIONS: usize = 2;

/// One time per key.
pub(super) struct Store {
    shards: Shards<Shard>,
    capacity: AtomicUsize,
    len: AtomicUsize,
}

#[derive(Default)]
struct Shard {
    table: Table,
    /// The latest time seen. A request may ask long after its clock was read, and times kept for others must not look
    /// longer than they are because of that.
    latest: u64,
}

impl Store {
    /// Room for `capacity` keys. While a shard holds none of them it may take one key more.
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

    /// Another bound from now on; a lower one is reached as new keys come.
    pub(super) fn set_capacity(&self, capacity: u32) {
        self.capacity.store(capacity as usize, Ordering::Relaxed);
    }

    /// Gives `decide` the time kept for `key` (0 for none) and the present, and keeps the time it returns. No two
    /// calls for one key overlap.
    pub(super) fn update<R>(
        &self,
        key: u64,
        now: u64,
        decide: impl FnOnce(u64, u64) -> (u64, R),
    ) -> R {
        let mut shard = self.shards.of(key);
        let now = now.max(shard.latest);
        shard.latest = now;
        if let Some(time) = shard.table.get_mut(key) {
            let (next, answer) = decide(*time, now);
            *time = next;
            return answer;
        }
        let (next, answer) = decide(0, now);
        if next > now {
            self.make_room(&mut shard.table, now);
            shard.table.insert(key, next);
        }
        answer
    }

    /// Gives `decide` what [`Store::update`] would, and keeps nothing.
    pub(super) fn peek<R>(&self, key: u64, now: u64, decide: impl FnOnce(u64, u64) -> R) -> R {
        let shard = self.shards.of(key);
        decide(
            shard.table.get(key).unwrap_or_default(),
            now.max(shard.latest),
        )
    }

    /// Every key that is not idle, with how long it takes until it is.
    pub(super) fn export(&self, now: u64) -> Vec<(u64, Duration)> {
        let mut entries = Vec::with_capacity(self.len.load(Ordering::Relaxed));
        for shard in self.shards.all() {
            let left = |time: u64| Duration::from_nanos(time.saturating_sub(now));
            let busy = shard.table.entries().map(|(key, time)| (key, left(time)));
            entries.extend(busy.filter(|(_, left)| !left.is_zero()));
        }
        entries
    }

    /// Keeps what another store exported `passed` ago. A later time that is known already stays.
    pub(super) fn import(&self, entries: &[(u64, Duration)], passed: Duration, now: u64) {
        for (key, left) in entries {
            let time = now.saturating_add(nanos(left.saturating_sub(passed)));
            self.update(*key, now, |known, _| (known.max(time), ()));
        }
    }

    /// Counts one key more, and forgets what must go for it.
    fn make_room(&self, table: &mut Table, now: u64) {
        let idle = table.sweep(SWEEP, |time| time <= now);
        self.len.fetch_sub(idle, Ordering::Relaxed);
        let before = self.len.fetch_add(1, Ordering::Relaxed);
        let over = (before + 1).saturating_sub(self.capacity.load(Ordering::Relaxed));
        for _ in 0..over.min(EVICTIONS) {
            if !table.evict_lowest(SAMPLE) {
                break;
            }
            self.len.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::hash::{BuildHasher, RandomState};

    use super::*;

    impl Store {
        fn len(&self) -> usize {
            self.len.load(Ordering::Relaxed)
        }
    }

    fn keys(n: u64) -> impl Iterator<Item = u64> {
        let state = RandomState::new();
        (0..n).map(move |i| state.hash_one(i).max(1))
    }

    fn set(store: &Store, key: u64, now: u64, time: u64) {
        store.update(key, now, |_, _| (time, ()));
    }

    #[test]
    fn keeps_as_many_keys_as_it_may_and_no_more() {
        let store = Store::new(1000);
        let all: Vec<u64> = keys(5000).collect();
        for key in &all[..1000] {
            set(&store, *key, 1, 100);
        }
        assert!(
            all[..1000]
                .iter()
                .all(|key| store.peek(*key, 1, |time, _| time == 100))
        );
        for key in &all[1000..] {
            set(&store, *key, 1, 50);
            assert!(store.len() <= 1000);
            assert_eq!(store.peek(*key, 1, |time, _| time), 50);
        }
        store.set_capacity(100);
        for key in keys(2000) {
            set(&store, key, 1, 50);
        }
        assert!(store.len() <= 100 + 64, "{}", store.len());
    }

    #[test]
    fn small_debts_are_forgotten_before_large_ones() {
        let store = Store::new(10_000);
        let debtors: Vec<u64> = keys(5000).collect();
        for key in &debtors {
            set(&store, *key, 1, 1_000_000);
        }
        for key in keys(50_000) {
            set(&store, key, 1, 2);
        }
        let kept = debtors
            .iter()
            .filter(|key| store.peek(**key, 1, |time, _| time > 0));
        let kept = kept.count();
        assert!(kept > 4500, "{kept}");
    }

    #[test]
    fn idle_keys_make_room_by_themselves() {
        let store = Store::new(1_000_000);
        for (now, key) in (1u64..).zip(keys(200_000)) {
            set(&store, key, now, now + 100);
        }
        assert!(store.len() < 20_000, "{}", store.len());
    }

    #[test]
    fn what_is_owed_travels_to_another_store() {
        let (old, new) = (Store::new(100), Store::new(100));
        set(&old, 1, 100, 5_000);
        set(&old, 2, 100, 200);
        let entries = old.export(1_000);
        assert_eq!(entries, [(1, Duration::from_nanos(4_000))], "2 is idle");
        set(&new, 3, 50_000, 60_000);
        new.import(&entries, Duration::from_nanos(500), 50_000);
        new.import(&[(3, Duration::from_nanos(1))], Duration::ZERO, 50_000);
        assert_eq!(new.peek(1, 50_000, |time, _| time), 53_500);
        assert_eq!(new.peek(3, 50_000, |time, _| time), 60_000);
        new.import(&entries, Duration::from_secs(1), 60_000);
        assert_eq!(new.len(), 2);
    }

    #[test]
    fn time_does_not_run_backwards() {
        let store = Store::new(1);
        set(&store, 1, 500, 900);
        store.update(1, 400, |time, now| {
            assert_eq!((time, now), (900, 500));
            (time, ())
        });
    }
}
