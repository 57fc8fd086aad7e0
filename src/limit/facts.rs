//! What limits remember across reloads.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::concurrency::Counts;
use super::seed::Seed;
use super::sketch::Sketch;
use super::store::Store;
use crate::config::{Algorithm, Limit, LimitKey};
use crate::primitives::LimitName;

/// Everything counted so far, by limit.
///
/// A changed rate, burst, `max`, `max_delay` or capacity goes on from what was counted; a changed key, algorithm or
/// period of an estimator counts something else and begins anew.
pub struct LimitFacts {
    seed: Arc<Seed>,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    times: HashMap<Identity, Arc<Store>>,
    sketches: HashMap<Identity, Arc<Sketch>>,
    counts: HashMap<Identity, Arc<Counts>>,
}

/// Two limits with the same identity count the same thing in the same unit.
#[derive(PartialEq, Eq, Hash)]
struct Identity {
    name: LimitName,
    key: LimitKey,
    kind: Kind,
}

#[derive(PartialEq, Eq, Hash)]
enum Kind {
    Estimator { period: Duration },
    TokenBucket,
    LeakyBucket,
    Concurrency,
}

impl LimitFacts {
    /// Nothing counted yet.
    pub fn new() -> Self {
        Self {
            seed: Arc::new(Seed::random()),
            kept: Mutex::default(),
        }
    }

    /// Forgets what none of these limits counts on. Called once the configuration that names them is in force, so that
    /// a reload that fails on the way loses nothing.
    pub fn retain<'a>(&self, limits: impl IntoIterator<Item = &'a Limit>) {
        let wanted: HashSet<Identity> = limits.into_iter().map(Identity::of).collect();
        let mut kept = self.kept.lock();
        kept.times.retain(|identity, _| wanted.contains(identity));
        kept.sketches
            .retain(|identity, _| wanted.contains(identity));
        kept.counts.retain(|identity, _| wanted.contains(identity));
    }

    pub(super) fn seed(&self) -> &Arc<Seed> {
        &self.seed
    }

    /// What keys are hashed under: without it, exported times belong to nobody.
    pub fn seed_numbers(&self) -> [u64; 2] {
        self.seed.numbers()
    }

    /// What the exact rates remember. Requests at the same time are not among it: they are this process' own; nor are
    /// sketches, which promise no exact count.
    pub fn export(&self, now: u64) -> Vec<KeptTimes> {
        let kept = self.kept.lock();
        let of = |(identity, store): (&Identity, &Arc<Store>)| KeptTimes {
            identity: identity.text(),
            entries: store.export(now),
        };
        kept.times.iter().map(of).collect()
    }

    /// Goes on with what another process remembered until `passed` ago, for the limits that are known here. To be called
    /// before the first request: every key is hashed anew.
    pub fn import(&self, seed: [u64; 2], all: &[KeptTimes], passed: Duration, now: u64) {
        self.seed.set(seed);
        let kept = self.kept.lock();
        for (identity, store) in &kept.times {
            let text = identity.text();
            for times in all.iter().filter(|times| times.identity == text) {
                store.import(&times.entries, passed, now);
            }
        }
    }

    pub(super) fn times(&self, limit: &Limit, capacity: u32) -> Arc<Store> {
        let mut kept = self.kept.lock();
        let new = || Arc::new(Store::new(capacity));
        let store = kept.times.entry(Identity::of(limit)).or_insert_with(new);
        store.set_capacity(capacity);
        Arc::clone(store)
    }

    pub(super) fn sketch(&self, limit: &Limit, period: Duration) -> Arc<Sketch> {
        let mut kept = self.kept.lock();
        let new = || Arc::new(Sketch::new(period));
        Arc::clone(kept.sketches.entry(Identity::of(limit)).or_insert_with(new))
    }

    pub(super) fn counts(&self, limit: &Limit, capacity: u32) -> Arc<Counts> {
        let mut kept = self.kept.lock();
        let new = || Arc::new(Counts::new(capacity));
        let counts = kept.counts.entry(Identity::of(limit)).or_insert_with(new);
        counts.set_capacity(capacity);
        Arc::clone(counts)
    }
}

/// The times one limit keeps, on their way to another process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptTimes {
    /// Which limit, and what it counts.
    pub identity: String,
    /// Keys with how long it takes until they are as good as new.
    pub entries: Vec<(u64, Duration)>,
}

impl Default for LimitFacts {
    fn default() -> Self {
        Self::new()
    }
}

impl Identity {
    /// The same in every process that counts the same.
    fn text(&self) -> String {
        let key = match &self.key {
            LimitKey::ClientIp => "client_ip".to_owned(),
            LimitKey::Consumer => "consumer".to_owned(),
            LimitKey::Header(name) => format!("header:{name}"),
            LimitKey::Claim(path) => format!("claim:{path}"),
            LimitKey::Route => "route".to_owned(),
            LimitKey::ClientCert(part) => part.name().to_owned(),
        };
        let kind = match self.kind {
            Kind::Estimator { .. } => "estimator",
            Kind::TokenBucket => "token_bucket",
            Kind::LeakyBucket => "leaky_bucket",
            Kind::Concurrency => "concurrency",
        };
        format!("{} {kind} {key}", self.name)
    }

    fn of(limit: &Limit) -> Self {
        Self {
            name: limit.name.clone(),
            key: limit.key.clone(),
            kind: match limit.algorithm {
                Algorithm::Estimator { rate } => Kind::Estimator { period: rate.per },
                Algorithm::TokenBucket { .. } => Kind::TokenBucket,
                Algorithm::LeakyBucket { .. } => Kind::LeakyBucket,
                Algorithm::Concurrency { .. } => Kind::Concurrency,
            },
        }
    }
}
