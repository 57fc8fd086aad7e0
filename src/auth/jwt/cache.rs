//! Tokens that were verified, by their exact bytes.
//!
//! Bounded in number, never asked past a token's time, and thrown away as a whole when a key or a rule changes (the
//! owner makes a new one then). Split in shards so that workers rarely meet at a lock; a hit allocates nothing.

use std::collections::VecDeque;
use std::collections::hash_map::{HashMap, RandomState};
use std::hash::BuildHasher;
use std::sync::Arc;

use parking_lot::Mutex;

use super::verify::Window;
use crate::filter::Principal;

/// Most shards. Two dozen workers meet in one of 64 seldom enough.
const SHARDS: usize = 64;
/// Bytes at a token's end that are hashed: all of an HMAC or EC signature's half. The signature depends on every other
/// byte, so its end spreads as well as the whole, at a constant price; equality is decided by the whole.
const TAIL: usize = 64;

/// Verified tokens and what they mean.
pub(in crate::auth) struct TokenCache {
    shards: Box<[Mutex<Shard>]>,
    capacity: usize,
    seed: RandomState,
}

#[derive(Default)]
struct Shard {
    entries: HashMap<u64, Entry>,
    /// Hashes in order of arrival: the oldest makes room.
    order: VecDeque<u64>,
    /// No entry ends before this; saves looking for expired ones where there are none.
    soonest: u64,
}

struct Entry {
    token: Box<[u8]>,
    principal: Arc<Principal>,
    window: Window,
}

impl TokenCache {
    /// Room for `capacity` tokens; none when it is zero.
    pub(in crate::auth) fn new(capacity: usize) -> Self {
        let shards = capacity.min(SHARDS);
        Self {
            shards: (0..shards).map(|_| Mutex::default()).collect(),
            capacity: capacity.checked_div(shards).unwrap_or(0),
            seed: RandomState::new(),
        }
    }

    /// Remembers a token for good.
    #[cfg(test)]
    pub(in crate::auth) fn keep_for_test(&self, token: &[u8], principal: Principal) {
        let (from, until) = (0, u64::MAX);
        self.keep(token, Arc::new(principal), Window { from, until }, 0);
    }

    /// How many tokens it remembers.
    #[cfg(test)]
    pub(in crate::auth) fn len(&self) -> usize {
        let each = self.shards.iter();
        each.map(|shard| shard.lock().entries.len()).sum()
    }

    /// What `token` was found to mean, with the time in which that holds: the caller checks it.
    pub(super) fn find(&self, token: &[u8]) -> Option<(Arc<Principal>, Window)> {
        let (hash, shard) = self.locate(token)?;
        let shard = shard.lock();
        let entry = shard.entries.get(&hash)?;
        (*entry.token == *token).then(|| (Arc::clone(&entry.principal), entry.window))
    }

    /// Remembers `token`, making room when there is none.
    pub(super) fn keep(&self, token: &[u8], principal: Arc<Principal>, window: Window, now: u64) {
        let Some((hash, shard)) = self.locate(token) else {
            return;
        };
        let token = token.into();
        let mut shard = shard.lock();
        if !shard.entries.contains_key(&hash) {
            shard.make_room(self.capacity, now);
            shard.order.push_back(hash);
        }
        shard.soonest = match shard.entries.len() {
            0 => window.until,
            _ => shard.soonest.min(window.until),
        };
        shard.entries.insert(
            hash,
            Entry {
                token,
                principal,
                window,
            },
        );
    }

    fn locate(&self, token: &[u8]) -> Option<(u64, &Mutex<Shard>)> {
        if self.shards.is_empty() {
            return None;
        }
        let tail = &token[token.len().saturating_sub(TAIL)..];
        let hash = self.seed.hash_one(tail);
        Some((hash, &self.shards[hash as usize % self.shards.len()]))
    }
}

impl Shard {
    /// Leaves room for one more: what has ended goes first, then what came first.
    fn make_room(&mut self, capacity: usize, now: u64) {
        if self.entries.len() < capacity {
            return;
        }
        if self.soonest <= now {
            let Self { entries, order, .. } = self;
            entries.retain(|_, entry| entry.window.until > now);
            order.retain(|hash| entries.contains_key(hash));
            let ends = entries.values().map(|entry| entry.window.until);
            self.soonest = ends.min().unwrap_or(u64::MAX);
        }
        while self.entries.len() >= capacity {
            let Some(oldest) = self.order.pop_front() else {
                return;
            };
            self.entries.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::filter::NamedBy;
    use crate::primitives::AuthName;

    fn someone(name: &str) -> Arc<Principal> {
        let auth = AuthName::new("app");
        Arc::new(Principal::named(&auth, NamedBy::Subject, name))
    }

    fn until(until: u64) -> Window {
        Window { from: 0, until }
    }

    fn len(cache: &TokenCache) -> usize {
        cache.len()
    }

    #[test]
    fn finds_the_exact_bytes_only() {
        let cache = TokenCache::new(100);
        let tail = "x".repeat(TAIL);
        let token = format!("head.{tail}");
        cache.keep(token.as_bytes(), someone("a"), until(10), 0);
        let (principal, window) = cache.find(token.as_bytes()).unwrap();
        assert_eq!((&*principal.consumer, window), ("a", until(10)));
        assert!(cache.find(format!("HEAD.{tail}").as_bytes()).is_none());
        assert!(cache.find(tail.as_bytes()).is_none());
    }

    #[test]
    fn never_holds_more_than_its_capacity() {
        for capacity in [0, 1, 7, 64, 100, 1000] {
            let cache = TokenCache::new(capacity);
            for i in 0..3000 {
                cache.keep(format!("t{i}").as_bytes(), someone("a"), until(10), 0);
            }
            assert!(len(&cache) <= capacity, "{capacity}: {}", len(&cache));
            assert!(len(&cache) >= capacity / 2, "{capacity}: {}", len(&cache));
        }
    }

    #[test]
    fn a_million_tokens_leave_as_many_as_there_is_room_for() {
        let cache = TokenCache::new(100_000);
        let principal = someone("a");
        let token = |i: u32| format!("head.payload.{i:064x}");
        for i in 0..1_000_000 {
            cache.keep(token(i).as_bytes(), Arc::clone(&principal), until(10), 0);
        }
        assert!((90_000..=100_000).contains(&len(&cache)), "{}", len(&cache));
        assert!(cache.find(token(999_999).as_bytes()).is_some());
        assert!(cache.find(token(0).as_bytes()).is_none());
        for shard in &cache.shards {
            let shard = shard.lock();
            assert_eq!(shard.order.len(), shard.entries.len());
        }
    }

    #[test]
    fn what_has_ended_makes_room_first() {
        let cache = TokenCache::new(1);
        let mut shard = cache.shards[0].lock();
        let capacity = 3;
        for (hash, end) in [(1, 50), (2, 10), (3, 60)] {
            shard.entries.insert(
                hash,
                Entry {
                    token: Box::default(),
                    principal: someone("a"),
                    window: until(end),
                },
            );
            shard.order.push_back(hash);
        }
        shard.soonest = 10;
        shard.make_room(capacity, 20);
        assert!(!shard.entries.contains_key(&2));
        assert_eq!((shard.entries.len(), shard.soonest), (2, 50));
        shard.make_room(2, 20);
        assert!(!shard.entries.contains_key(&1), "the oldest goes next");
        assert_eq!(shard.order, [3]);
    }
}
