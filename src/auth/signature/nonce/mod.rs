//! Nonces that were used: each passes once.
//!
//! A nonce is kept as 16 bytes of a digest over application and nonce. Shards keep workers apart; within one, nonces
//! live in buckets by time of arrival, and a bucket is dropped whole when its time is over, so nothing is timed one by
//! one. A live nonce is never dropped to make room: that would let a request be played twice. A full store refuses.
//!
//! Times are nanoseconds on the monotonic clock, so a step of the wall clock cannot shorten a nonce's life. One back makes
//! it longer: see [`steps`](super::steps).

mod ownership;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use self::ownership::Decider;
pub use self::ownership::NonceOwner;
pub(in crate::auth) use self::ownership::Ownership;
use super::steps::Steps;
use crate::primitives::AuthName;
use crate::primitives::digest::names128;
use crate::primitives::interned::Interned;
use crate::primitives::sync::Mutex;
use crate::primitives::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

/// Shards: a power of two well above the number of workers.
const SHARDS: usize = 64;
/// Buckets a lifetime is cut into; a nonce lives at most one bucket's width too long.
const BUCKETS: u64 = 8;
/// Added to twice the skew: stamps and clock are read in whole seconds.
const GRAIN: Duration = Duration::from_secs(2);
/// Shortest time between two searches for expired buckets in all shards, nanoseconds. A full store under attack must
/// not be searched for each request.
const SWEEP: u64 = 100_000_000;
/// Imported nonces are kept in buckets of this many nanoseconds, so that any list makes few of them.
const SLOT: u64 = 4_000_000_000;

/// What became of a nonce.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NonceOutcome {
    /// The nonce was new, and is kept now.
    Fresh,
    /// The nonce was used before.
    Seen,
    /// There is no room to remember it.
    Full,
}

impl NonceOutcome {
    /// Whether the nonce was new.
    #[cfg(test)]
    pub(in crate::auth) fn is_fresh(self) -> bool {
        self == Self::Fresh
    }
}

/// The nonces of one `[auth.NAME]`.
pub(in crate::auth) struct NonceStore {
    name: AuthName,
    ownership: Arc<Ownership>,
    shards: Box<[Mutex<Shard>]>,
    /// How long a nonce is kept, nanoseconds.
    lifetime: AtomicU64,
    capacity: AtomicUsize,
    live: AtomicUsize,
    /// Stamps before this cannot be judged, wall clock in milliseconds.
    fence_unix_ms: AtomicU64,
    /// Some nonce was kept here, if only once.
    used: AtomicBool,
    /// Since nonces are kept for less: the earliest stamp, wall clock in milliseconds, whose nonce may be forgotten already
    /// by the skew that holds now, though requests under way still judge it by a wider one. `u64::MAX`: there is none.
    narrowed_unix_ms: AtomicU64,
    /// From then on no such request is left.
    narrowed_until_ms: AtomicU64,
    /// Made by a reload that nobody has been served by yet.
    unpublished: AtomicBool,
    swept: AtomicU64,
    steps: Mutex<Steps>,
    /// One entry for each application that a configuration names or that keeps nonces.
    shares: Mutex<Interned<String, Share>>,
}

/// One application's part of a store.
pub(in crate::auth) struct Share {
    app: String,
    live: AtomicUsize,
    /// Most nonces it may keep.
    most: AtomicUsize,
}

#[derive(Default)]
struct Shard {
    /// Newest last.
    buckets: VecDeque<Bucket>,
}

struct Bucket {
    /// The shortest time that any of them was to be kept: how much longer that is under a wider skew.
    lifetime: u64,
    /// Until then it is kept. An open one takes new nonces while that is at least a lifetime away.
    expires: u64,
    /// Until then it takes room: for as long as what comes now is kept.
    room_until: u64,
    /// The bound under which they were let in.
    capacity: usize,
    nonces: HashSet<u128>,
    /// How many of them take no room: they came when nonces were kept for longer, or more of them.
    uncounted: usize,
    /// How many of them each application keeps.
    shares: HashMap<String, (Arc<Share>, usize)>,
    /// Whether it takes nonces that come. One that is kept for longer than those must be does not.
    open: bool,
}

impl NonceStore {
    /// An empty store that knows nothing from before `fence_unix_ms`.
    pub(in crate::auth) fn new(
        name: AuthName,
        fence_unix_ms: u64,
        ownership: Arc<Ownership>,
    ) -> Self {
        Self {
            name,
            ownership,
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            lifetime: AtomicU64::new(0),
            capacity: AtomicUsize::new(usize::MAX),
            live: AtomicUsize::new(0),
            fence_unix_ms: AtomicU64::new(fence_unix_ms),
            used: AtomicBool::new(false),
            narrowed_unix_ms: AtomicU64::new(u64::MAX),
            narrowed_until_ms: AtomicU64::new(0),
            unpublished: AtomicBool::new(false),
            swept: AtomicU64::new(0),
            steps: Mutex::default(),
            shares: Mutex::default(),
        }
    }

    /// Keeps nonces for `skew` and up to `capacity` from now on. What is kept stays. Of that, what was let in when there
    /// was more room takes none any more, and the rest does for as long as it would have been kept by `skew`: it would leave
    /// no room for as long as the other bounds wanted it kept.
    ///
    /// With a wider skew, stamps become good again whose nonces were dropped already: those are fenced off.
    pub(in crate::auth) fn configure(&self, skew: Duration, capacity: usize, now_unix_ms: u64) {
        let most = self.capacity.swap(capacity, Ordering::Relaxed);
        let lifetime = nanos(lifetime_of(skew));
        let before = self.lifetime.swap(lifetime, Ordering::Relaxed);
        if before == 0 {
            // What came from another process came with its time.
            for shard in &self.shards {
                for bucket in &mut shard.lock().buckets {
                    bucket.lifetime = bucket.lifetime.max(lifetime);
                    bucket.capacity = bucket.capacity.min(capacity);
                }
            }
            return;
        }
        if lifetime < before {
            self.note_narrowing(skew, before, now_unix_ms);
        }
        if lifetime != before || capacity != most {
            self.measure(lifetime, capacity);
        }
        if lifetime <= before {
            return;
        }
        // The fence is for all, whatever skew they judge by.
        self.narrowed_unix_ms.store(u64::MAX, Ordering::Relaxed);
        self.narrowed_until_ms.store(0, Ordering::Relaxed);
        for shard in &self.shards {
            for bucket in &mut shard.lock().buckets {
                let longer = lifetime.saturating_sub(bucket.lifetime);
                bucket.expires = bucket.expires.saturating_add(longer);
                bucket.room_until = bucket.expires;
                bucket.lifetime = bucket.lifetime.max(lifetime);
            }
        }
        let old_skew_ms = (before - nanos(GRAIN)) / 2 / 1_000_000;
        let fence = now_unix_ms.saturating_sub(old_skew_ms);
        self.fence_unix_ms.fetch_max(fence, Ordering::Relaxed);
    }

    /// What comes from now on is kept for `skew` only. Requests under way may judge by what held `before` for as long as
    /// that: until then, a second narrowing joins the first.
    fn note_narrowing(&self, skew: Duration, before: u64, now_unix_ms: u64) {
        let earlier = now_unix_ms < self.narrowed_until_ms.load(Ordering::Relaxed);
        let mut since = now_unix_ms.saturating_sub(millis(skew.saturating_add(GRAIN)));
        if earlier {
            since = since.min(self.narrowed_unix_ms.load(Ordering::Relaxed));
        }
        self.narrowed_unix_ms.store(since, Ordering::Relaxed);
        let until = now_unix_ms.saturating_add(before / 1_000_000);
        self.narrowed_until_ms.fetch_max(until, Ordering::Relaxed);
    }

    /// How much room what is kept takes by these bounds, and for how long. It is known until its time all the same.
    fn measure(&self, lifetime: u64, capacity: usize) {
        for shard in &self.shards {
            for bucket in &mut shard.lock().buckets {
                // What comes from now on came under other bounds.
                bucket.open = false;
                let shorter = bucket.lifetime.saturating_sub(lifetime);
                bucket.room_until = bucket.expires.saturating_sub(shorter);
                if bucket.capacity > capacity {
                    self.uncount(bucket);
                }
            }
        }
    }

    /// What a bucket keeps takes no room from now on.
    fn uncount(&self, bucket: &mut Bucket) {
        self.give_room(bucket);
        bucket.uncounted = bucket.nonces.len();
        bucket.shares.clear();
    }

    /// The room that a bucket took is free.
    fn give_room(&self, bucket: &Bucket) {
        let counted = bucket.nonces.len().saturating_sub(bucket.uncounted);
        self.live.fetch_sub(counted, Ordering::Relaxed);
        for (share, kept) in bucket.shares.values() {
            share.live.fetch_sub(*kept, Ordering::Relaxed);
        }
    }

    /// From which stamp on (wall clock in milliseconds) a request is judged by no wider skew than the one that is in
    /// milliseconds beside it: its nonce may have come already, and is kept for no longer than that skew wants.
    pub(super) fn narrowed(&self) -> (u64, u64) {
        let since = self.narrowed_unix_ms.load(Ordering::Relaxed);
        (since, self.skew_ms())
    }

    fn skew_ms(&self) -> u64 {
        let lifetime = self.lifetime.load(Ordering::Relaxed);
        lifetime.saturating_sub(nanos(GRAIN)) / 2 / 1_000_000
    }

    /// Nobody is served by it yet: what was served until then is fenced off [when it is](Self::publish).
    pub(in crate::auth) fn begin_unpublished(&self) {
        self.unpublished.store(true, Ordering::Relaxed);
    }

    /// Requests are served by it from now on.
    pub(in crate::auth) fn publish(&self, now_unix_ms: u64) {
        if self.unpublished.swap(false, Ordering::Relaxed) {
            self.fence_off(now_unix_ms);
        }
    }

    /// Compares the clocks, once a second. After a step back what is known is kept for as much longer, and stamps that
    /// are good again and whose nonces are not known are fenced off; says how far it was.
    pub(in crate::auth) fn compare_clocks(&self, now: u64, unix_ms: u64) -> Option<Duration> {
        let lifetime = self.lifetime.load(Ordering::Relaxed);
        let back = self.steps.lock().look(now, unix_ms, lifetime)?;
        let longer = nanos(back.by);
        for shard in &self.shards {
            let mut shard = shard.lock();
            self.drop_expired(&mut shard, now);
            for bucket in &mut shard.buckets {
                bucket.expires = bucket.expires.saturating_add(longer);
                bucket.room_until = bucket.room_until.saturating_add(longer);
            }
            // What comes from now on is kept as long as ever.
            if !shard.buckets.is_empty() {
                let expires = now.saturating_add(lifetime + lifetime / BUCKETS);
                let capacity = self.capacity.load(Ordering::Relaxed);
                let new = Bucket::new(expires, lifetime, capacity);
                shard.buckets.push_back(new);
            }
        }
        let skew_ms = lifetime.saturating_sub(nanos(GRAIN)) / 2 / 1_000_000;
        self.fence_off(back.forgotten_unix_ms.saturating_add(skew_ms));
        Some(back.by)
    }

    /// The part of an application, one of `apps`. That of one which is known stays as it was; a new one belongs to who
    /// asked until it is [registered](Self::register).
    pub(in crate::auth) fn share(&self, app: &str, apps: usize) -> Arc<Share> {
        let mut shares = self.shares.lock();
        shares.find_or(app.to_owned(), |app| Share {
            app: app.clone(),
            live: AtomicUsize::new(0),
            most: AtomicUsize::new(Self::part(self.capacity.load(Ordering::Relaxed), apps)),
        })
    }

    /// An application is in force from now on.
    pub(in crate::auth) fn register(&self, app: &str) {
        self.shares.lock().register(app);
    }

    /// Most nonces of one of `apps` applications: one alone may fill the store, one of several at most half of it.
    pub(in crate::auth) fn part(capacity: usize, apps: usize) -> usize {
        if apps > 1 {
            (capacity / 2).max(1)
        } else {
            capacity
        }
    }

    /// An application that is known may keep so many from now on.
    pub(in crate::auth) fn allot(&self, app: &str, most: usize) {
        if let Some(share) = self.shares.lock().known().get(app) {
            share.most.store(most, Ordering::Relaxed);
        }
    }

    /// Whether no nonce is kept. Drops what is over, and applications that nobody holds and that keep none.
    pub(in crate::auth) fn is_idle(&self, now: u64) -> bool {
        let mut idle = true;
        for shard in &self.shards {
            let mut shard = shard.lock();
            self.drop_expired(&mut shard, now);
            // What takes no room is known all the same.
            idle &= shard.buckets.iter().all(|bucket| bucket.nonces.is_empty());
        }
        self.shares.lock().prune();
        idle
    }

    /// The earliest stamp that none of the nonces had that were kept here and are over, at `now_unix_ms`: whoever forgets the
    /// store has to refuse those before. `None`: there were none.
    pub(in crate::auth) fn fence_of_what_is_gone(&self, now_unix_ms: u64) -> Option<u64> {
        let used = self.used.load(Ordering::Relaxed);
        used.then(|| {
            let over = now_unix_ms.saturating_sub(self.skew_ms());
            over.max(self.fence_unix_ms())
        })
    }

    /// Stamps older than this must be refused, wall clock in milliseconds.
    pub(in crate::auth) fn fence_unix_ms(&self) -> u64 {
        self.fence_unix_ms.load(Ordering::Relaxed)
    }

    /// How long until a full store has room again, more or less: a bucket's width.
    pub(super) fn relief(&self) -> Duration {
        Duration::from_nanos(self.lifetime.load(Ordering::Relaxed) / BUCKETS)
    }

    /// Uses a nonce. Of any number of callers with the same one, exactly one is told `Fresh`.
    #[cfg(test)]
    pub(in crate::auth) fn claim(&self, share: &Arc<Share>, nonce: &str, now: u64) -> NonceOutcome {
        self.claim_for(share, nonce, Duration::ZERO, now)
    }

    /// Like [`Self::claim`], for a request whose stamp is judged by a skew for which nonces are kept for `own`: where
    /// that is longer than they are kept here, as for a request that was under way when a reload narrowed the skew,
    /// this one is kept for longer.
    pub(super) fn claim_for(
        &self,
        share: &Arc<Share>,
        nonce: &str,
        own: Duration,
        now: u64,
    ) -> NonceOutcome {
        let key = key(share, nonce);
        match self.try_claim(key, share, own, now) {
            NonceOutcome::Full if self.sweep(now) => self.try_claim(key, share, own, now),
            claim => claim,
        }
    }

    /// What [`claim`](Self::claim) would say. Uses nothing.
    pub(super) fn peek(&self, share: &Share, nonce: &str, now: u64) -> NonceOutcome {
        let key = key(share, nonce);
        let seen = self.shard(key).lock().knows(key, now);
        let full = |live: &AtomicUsize, most: &AtomicUsize| {
            live.load(Ordering::Relaxed) >= most.load(Ordering::Relaxed)
        };
        if seen {
            return NonceOutcome::Seen;
        }
        // A full store may hold expired buckets that nobody has dropped yet.
        let is_full = || full(&self.live, &self.capacity) || full(&share.live, &share.most);
        if is_full() && (!self.sweep(now) || is_full()) {
            return NonceOutcome::Full;
        }
        NonceOutcome::Fresh
    }

    /// Every live nonce with the time it must still be kept.
    pub(in crate::auth) fn export(&self, now: u64) -> Vec<(u128, Duration)> {
        let mut entries = Vec::with_capacity(self.live.load(Ordering::Relaxed));
        for shard in &self.shards {
            for bucket in &shard.lock().buckets {
                let left = Duration::from_nanos(bucket.expires.saturating_sub(now));
                if !left.is_zero() {
                    entries.extend(bucket.nonces.iter().map(|key| (*key, left)));
                }
            }
        }
        entries
    }

    /// How long a nonce is kept.
    pub(in crate::auth) fn lifetime(&self) -> Duration {
        Duration::from_nanos(self.lifetime.load(Ordering::Relaxed))
    }

    /// Knows from now on what a store knew that refused stamps before `fence_unix_ms` and kept nonces for `lifetime`
    /// until `at_unix_ms`. Where nonces are kept longer here, stamps are good again whose nonces were dropped there:
    /// those are fenced off.
    pub(in crate::auth) fn succeed(&self, fence_unix_ms: u64, lifetime: Duration, at_unix_ms: u64) {
        let (ours, theirs) = (self.lifetime.load(Ordering::Relaxed), nanos(lifetime));
        let mut fence = fence_unix_ms;
        if ours > theirs {
            let skew_ms = theirs.saturating_sub(nanos(GRAIN)) / 2 / 1_000_000;
            fence = fence.max(at_unix_ms.saturating_sub(skew_ms));
        }
        self.fence_unix_ms.store(fence, Ordering::Relaxed);
    }

    /// Refuses stamps before `fence_unix_ms` from now on.
    pub(in crate::auth) fn fence_off(&self, fence_unix_ms: u64) {
        self.fence_unix_ms
            .fetch_max(fence_unix_ms, Ordering::Relaxed);
    }

    /// Decides for another process, which keeps nonces for `lifetime`.
    pub(in crate::auth) fn claim_for_other(
        &self,
        nonce: u128,
        lifetime: Duration,
        now: u64,
    ) -> NonceOutcome {
        let lifetime = lifetime.max(self.lifetime());
        let mut shard = self.shard(nonce).lock();
        self.drop_expired(&mut shard, now);
        if shard.knows(nonce, now) {
            return NonceOutcome::Seen;
        }
        if self.ownership.is_handed_over() {
            drop(shard);
            match self.ask_on(nonce, lifetime) {
                Some(NonceOutcome::Fresh) => {}
                Some(claim) => return claim,
                None => return self.claim_for_other(nonce, lifetime, now),
            }
            shard = self.shard(nonce).lock();
        }
        if !take(&self.live, &self.capacity) {
            return NonceOutcome::Full;
        }
        self.note_use();
        let lifetime = nanos(lifetime);
        let capacity = self.capacity.load(Ordering::Relaxed);
        let slot = shard.slot(in_slot(now, lifetime), lifetime, capacity);
        slot.nonces.insert(nonce);
        NonceOutcome::Fresh
    }

    /// What the process says that decides in our place; `None`: we decide again. Never with a shard's lock held: the answer
    /// comes from another process. Whoever asks us may have handed over before we did, and is asked on.
    fn ask_on(&self, key: u128, lifetime: Duration) -> Option<NonceOutcome> {
        match self.ownership.decider() {
            Decider::Us => None,
            Decider::Other(owner) => {
                let claim = owner.claim(&self.name, key, lifetime);
                Some(claim.unwrap_or(NonceOutcome::Full))
            }
            Decider::Nobody => Some(NonceOutcome::Full),
        }
    }

    /// Takes over exported nonces. They count for the store, not for an application: which was whose is not exported.
    pub(in crate::auth) fn import(&self, entries: &[(u128, Duration)], now: u64) {
        self.note_use();
        for (key, left) in entries {
            let mut shard = self.shard(*key).lock();
            if !shard.knows(*key, now) {
                let lifetime = self.lifetime.load(Ordering::Relaxed);
                let capacity = self.capacity.load(Ordering::Relaxed);
                let slot = shard.slot(in_slot(now, nanos(*left)), lifetime, capacity);
                slot.nonces.insert(*key);
                self.live.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    fn try_claim(&self, key: u128, share: &Arc<Share>, own: Duration, now: u64) -> NonceOutcome {
        let mut shard = self.shard(key).lock();
        self.drop_expired(&mut shard, now);
        if shard.knows(key, now) {
            return NonceOutcome::Seen;
        }
        if self.ownership.is_handed_over() {
            drop(shard);
            match self.ask_on(key, own.max(self.lifetime())) {
                Some(NonceOutcome::Fresh) => {}
                Some(claim) => return claim,
                None => return self.try_claim(key, share, own, now),
            }
            // Kept here as well, in case it all comes back.
            shard = self.shard(key).lock();
        }
        if !take(&self.live, &self.capacity) {
            return NonceOutcome::Full;
        }
        if !take(&share.live, &share.most) {
            self.live.fetch_sub(1, Ordering::Relaxed);
            return NonceOutcome::Full;
        }
        self.note_use();
        let lifetime = self.lifetime.load(Ordering::Relaxed);
        let capacity = self.capacity.load(Ordering::Relaxed);
        let bucket = if nanos(own) > lifetime {
            // Among the others it would keep them for as long.
            shard.slot(in_slot(now, nanos(own)), nanos(own), capacity)
        } else {
            shard.opened(now, lifetime, capacity)
        };
        bucket.keep(key, share);
        NonceOutcome::Fresh
    }

    fn note_use(&self) {
        if !self.used.load(Ordering::Relaxed) {
            self.used.store(true, Ordering::Relaxed);
        }
    }

    /// Drops expired buckets everywhere; says whether it looked.
    fn sweep(&self, now: u64) -> bool {
        let last = self.swept.load(Ordering::Relaxed);
        let due = last == 0 || now >= last.saturating_add(SWEEP);
        let mine = due
            && self
                .swept
                .compare_exchange(last, now.max(1), Ordering::Relaxed, Ordering::Relaxed)
                .is_ok();
        if mine {
            for shard in &self.shards {
                self.drop_expired(&mut shard.lock(), now);
            }
        }
        mine
    }

    fn drop_expired(&self, shard: &mut Shard, now: u64) {
        shard.buckets.retain_mut(|bucket| {
            if bucket.room_until <= now || bucket.expires <= now {
                self.uncount(bucket);
            }
            bucket.expires > now
        });
    }

    fn shard(&self, key: u128) -> &Mutex<Shard> {
        &self.shards[(key >> 64) as usize % SHARDS]
    }

    /// What is kept, and how, for tests that compare.
    #[cfg(test)]
    pub(in crate::auth) fn dump(&self) -> String {
        let shares = self.shares.lock();
        let shares = shares.known().iter().map(|(app, share)| {
            let [live, most] = [&share.live, &share.most].map(|n| n.load(Ordering::Relaxed));
            (app.clone(), live, most)
        });
        let shares: std::collections::BTreeSet<_> = shares.collect();
        let [live, most] = [&self.live, &self.capacity].map(|n| n.load(Ordering::Relaxed));
        let (lifetime, fence) = (self.lifetime(), self.fence_unix_ms());
        format!(
            "{}: {live} of {most} for {lifetime:?} since {fence}, {shares:?}",
            self.name
        )
    }

    /// Most nonces in all, and of one application.
    #[cfg(test)]
    pub(in crate::auth) fn bounds(&self, share: &Share) -> (usize, usize) {
        let [all, most] = [&self.capacity, &share.most].map(|bound| bound.load(Ordering::Relaxed));
        (all, most)
    }
}

impl Shard {
    fn knows(&self, key: u128, now: u64) -> bool {
        self.buckets
            .iter()
            .any(|bucket| bucket.expires > now && bucket.nonces.contains(&key))
    }

    /// The bucket for what comes `now` and is kept for `lifetime`.
    fn opened(&mut self, now: u64, lifetime: u64, capacity: usize) -> &mut Bucket {
        let needed = now.saturating_add(lifetime);
        let last = self.buckets.back();
        if !last.is_some_and(|last| last.open && last.expires >= needed) {
            let width = lifetime / BUCKETS;
            let new = Bucket::new(needed.saturating_add(width), lifetime, capacity);
            self.buckets.push_back(new);
        }
        let last = self.buckets.len() - 1;
        self.buckets[last].takes(lifetime, capacity)
    }

    /// The bucket for what is kept until `expires`, whenever it came, and for a skew that wants it kept for `lifetime`.
    fn slot(&mut self, expires: u64, lifetime: u64, capacity: usize) -> &mut Bucket {
        let known = self.buckets.iter().position(|b| b.expires == expires);
        let index = known.unwrap_or_else(|| {
            self.buckets.push_front(Bucket {
                open: false,
                ..Bucket::new(expires, lifetime, capacity)
            });
            0
        });
        self.buckets[index].takes(lifetime, capacity)
    }
}

impl Bucket {
    fn new(expires: u64, lifetime: u64, capacity: usize) -> Self {
        Self {
            lifetime,
            expires,
            room_until: expires,
            capacity,
            nonces: HashSet::new(),
            uncounted: 0,
            shares: HashMap::new(),
            open: true,
        }
    }

    /// Is about to keep what is to be kept for so long, let in under this bound.
    fn takes(&mut self, lifetime: u64, capacity: usize) -> &mut Self {
        self.capacity = self.capacity.min(capacity);
        self.lifetime = self.lifetime.min(lifetime);
        self
    }

    /// Keeps a nonce of an application.
    fn keep(&mut self, key: u128, share: &Arc<Share>) {
        self.nonces.insert(key);
        match self.shares.get_mut(&share.app) {
            Some((_, kept)) => *kept += 1,
            None => {
                let mine = (Arc::clone(share), 1);
                self.shares.insert(share.app.clone(), mine);
            }
        }
    }
}

/// How long the nonce of a request is kept whose stamp is judged by this skew.
pub(super) fn lifetime_of(skew: Duration) -> Duration {
    skew.saturating_mul(2).saturating_add(GRAIN)
}

/// `left` from now, rounded up on a grid common to all: not to the present, or each would open a bucket of its own.
fn in_slot(now: u64, left: u64) -> u64 {
    now.saturating_add(left).saturating_add(SLOT) / SLOT * SLOT
}

/// Neither holds a zero byte: a key is visible ASCII, a nonce consists of token characters. Another process that took over,
/// or takes over, may be of another version, so this never changes.
fn key(share: &Share, nonce: &str) -> u128 {
    names128(&[&share.app, nonce])
}

/// Counts one more unless that would be too many.
fn take(live: &AtomicUsize, most: &AtomicUsize) -> bool {
    let most = most.load(Ordering::Relaxed);
    live.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| {
        (n < most).then_some(n + 1)
    })
    .is_ok()
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX / 4)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
