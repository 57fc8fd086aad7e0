//! What limits remember across reloads.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::counts::Counts;
use super::quota::Quotas;
use super::seed::Seed;
use super::sketch::Sketch;
use super::store::Store;
use crate::config::{Algorithm, Limit, LimitKey};
use crate::primitives::calendar::Calendar;
use crate::primitives::interned::Interned;
use crate::primitives::sections::{self, Section};
use crate::primitives::{LimitName, RouteName};

/// Everything counted so far, by limit.
///
/// A changed rate, burst, `max`, `max_delay` or capacity goes on from what was counted; a changed key, algorithm or
/// period of an estimator counts something else and begins anew.
pub struct LimitFacts {
    seed: Arc<Seed>,
    /// Of quotas, whose keys outlive every process.
    quota_seed: Arc<Seed>,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    times: Interned<Identity, Store>,
    sketches: Interned<Identity, Sketch>,
    counts: Interned<Identity, Counts>,
    quotas: Interned<Identity, Quotas>,
}

/// Two limits with the same identity count the same thing in the same unit.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Identity {
    name: LimitName,
    route: Option<RouteName>,
    /// As the configuration writes it.
    key: String,
    /// Whether keys are made of who is calling, as an authenticator knows them.
    of_callers: bool,
    kind: Kind,
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Estimator { period: Duration },
    TokenBucket,
    LeakyBucket,
    Concurrency,
    Quota(Calendar),
    Bandwidth,
}

impl LimitFacts {
    /// Nothing counted yet.
    pub fn new() -> Self {
        Self {
            seed: Arc::new(Seed::random()),
            quota_seed: Arc::new(Seed::random()),
            kept: Mutex::default(),
        }
    }

    /// Counts on what was made for these limits, which are about to be in force: until then it belongs to those filters
    /// alone that were built with it.
    pub fn register<'a>(&self, limits: impl IntoIterator<Item = &'a Limit>) {
        let mut kept = self.kept.lock();
        for identity in limits.into_iter().map(Identity::of) {
            kept.times.register(&identity);
            kept.sketches.register(&identity);
            kept.counts.register(&identity);
            kept.quotas.register(&identity);
        }
    }

    /// Has as much room as these limits want from now on: those of every configuration that is in force or may be again,
    /// of which the most holds. Building a filter changes none of this.
    pub fn apply<'a>(&self, limits: impl IntoIterator<Item = &'a Limit>) {
        let mut wanted: BTreeMap<Identity, (u32, u64)> = BTreeMap::new();
        for limit in limits {
            let (capacity, cost) = wanted.entry(Identity::of(limit)).or_default();
            *capacity = limit
                .algorithm
                .capacity()
                .unwrap_or_default()
                .max(*capacity);
            *cost = u64::from(limit.largest_cost).max(*cost);
        }
        let kept = self.kept.lock();
        for (identity, (capacity, cost)) in wanted {
            if let Some(times) = kept.times.known().get(&identity) {
                times.set_capacity(capacity);
            }
            if let Some(sketch) = kept.sketches.known().get(&identity) {
                sketch.charge(cost);
            }
            if let Some(counts) = kept.counts.known().get(&identity) {
                counts.set_capacity(capacity);
            }
            if let Some(quotas) = kept.quotas.known().get(&identity) {
                quotas.set_capacity(capacity);
            }
        }
    }

    /// Forgets what no filter counts on and none of these limits would.
    pub fn prune<'a>(&self, limits: impl IntoIterator<Item = &'a Limit>) {
        let wanted: BTreeSet<Identity> = limits.into_iter().map(Identity::of).collect();
        let mut kept = self.kept.lock();
        kept.times.keep(|one, _| wanted.contains(one));
        kept.sketches.keep(|one, _| wanted.contains(one));
        kept.counts.keep(|one, _| wanted.contains(one));
        kept.quotas.keep(|one, _| wanted.contains(one));
    }

    /// What the keys of a limit are hashed under.
    pub(super) fn seed_of(&self, limit: &Limit) -> &Arc<Seed> {
        match limit.algorithm {
            Algorithm::Quota { .. } => &self.quota_seed,
            _ => &self.seed,
        }
    }

    /// Whether a quota was counted since this was last asked.
    pub fn quotas_changed(&self) -> bool {
        let kept = self.kept.lock();
        // Each is asked: asking is what sets it back.
        let known = kept.quotas.known();
        known
            .values()
            .fold(false, |any, quotas| quotas.changed() | any)
    }

    /// What was counted of quotas.
    pub fn export_quotas(&self) -> KeptQuotas {
        let quotas: Vec<_> = {
            let kept = self.kept.lock();
            let each = kept.quotas.known().iter();
            each.map(|(identity, quotas)| (identity.text(), Arc::clone(quotas)))
                .collect()
        };
        let each = quotas.into_iter();
        KeptQuotas {
            seed: self.quota_seed.numbers(),
            limits: each
                .map(|(identity, quotas)| (identity, quotas.export()))
                .collect(),
        }
    }

    /// Goes on with what was exported, for the limits that are known here. To be called before the first request.
    pub fn import_quotas(&self, quotas: &KeptQuotas) {
        self.quota_seed.set(quotas.seed);
        let kept = self.kept.lock();
        for (identity, known) in kept.quotas.each() {
            let text = identity.text();
            for (_, entries) in quotas.limits.iter().filter(|(of, _)| *of == text) {
                known.import(entries);
            }
        }
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
        kept.times.known().iter().map(of).collect()
    }

    /// Goes on with what another process remembered until `passed` ago, for the limits that are known here. To be called
    /// before the first request: every key is hashed anew.
    pub fn import(&self, seed: [u64; 2], all: &[KeptTimes], passed: Duration, now: u64) {
        self.seed.set(seed);
        let kept = self.kept.lock();
        for (identity, store) in kept.times.each() {
            let text = identity.text();
            for times in all.iter().filter(|times| times.identity == text) {
                store.import(&times.entries, passed, now);
            }
        }
    }

    /// Everything with its bounds, for tests that compare.
    #[cfg(test)]
    pub(crate) fn dump(&self) -> Vec<String> {
        let kept = self.kept.lock();
        let mut lines: Vec<String> = Vec::new();
        lines.extend(
            kept.times
                .known()
                .iter()
                .map(|(of, kept)| format!("{} {}", of.text(), kept.dump())),
        );
        lines.extend(
            kept.counts
                .known()
                .iter()
                .map(|(of, kept)| format!("{} {}", of.text(), kept.dump())),
        );
        lines.extend(
            kept.quotas
                .known()
                .iter()
                .map(|(of, kept)| format!("{} {}", of.text(), kept.dump())),
        );
        let sketches = kept.sketches.known().iter();
        lines.extend(sketches.map(|(of, kept)| {
            format!(
                "{} {:?} at most {}",
                of.text(),
                Arc::as_ptr(kept),
                kept.largest()
            )
        }));
        lines.sort();
        lines
    }

    /// The times of a limit; room for `capacity` keys where there are none yet.
    pub(super) fn times(&self, limit: &Limit, capacity: u32) -> Arc<Store> {
        let mut kept = self.kept.lock();
        let new = |_: &Identity| Store::new(capacity);
        kept.times.find_or(Identity::of(limit), new)
    }

    pub(super) fn sketch(&self, limit: &Limit, period: Duration) -> Arc<Sketch> {
        let mut kept = self.kept.lock();
        let new = |_: &Identity| {
            let sketch = Sketch::new(period);
            sketch.charge(u64::from(limit.largest_cost));
            sketch
        };
        kept.sketches.find_or(Identity::of(limit), new)
    }

    pub(super) fn counts(&self, limit: &Limit, capacity: u32) -> Arc<Counts> {
        let mut kept = self.kept.lock();
        let new = |_: &Identity| Counts::new(capacity);
        kept.counts.find_or(Identity::of(limit), new)
    }

    pub(super) fn quotas(&self, limit: &Limit, capacity: u32) -> Arc<Quotas> {
        let mut kept = self.kept.lock();
        let new = |_: &Identity| Quotas::new(capacity);
        kept.quotas.find_or(Identity::of(limit), new)
    }
}

/// The times one limit keeps, on their way to another process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptTimes {
    /// Which limit, and what it counts.
    pub identity: String,
    /// Keys with how long it takes until they are as good as new.
    pub entries: Vec<(u64, Duration)>,
}

/// What was counted of quotas, on its way to a file or another process.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptQuotas {
    /// What keys were hashed under.
    pub seed: [u64; 2],
    /// Which limit counted, and its keys with their numbers.
    pub limits: Vec<(String, Vec<(u64, u64)>)>,
}

/// The times of every limit that remembers some: the section that another process, or the next, goes on from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CarriedTimes {
    /// What keys were hashed under.
    pub seed: [u64; 2],
    /// Of each limit its own.
    pub limits: Vec<KeptTimes>,
}

impl Section for CarriedTimes {
    const NAME: &'static str = "times";
    const VERSION: u16 = 1;
    const LARGEST: usize = sections::LARGEST;
}

impl Section for KeptQuotas {
    const NAME: &'static str = "quotas";
    const VERSION: u16 = 1;
    const LARGEST: usize = sections::LARGEST;
}

impl Default for LimitFacts {
    fn default() -> Self {
        Self::new()
    }
}

impl Identity {
    /// Text of the identity: alike in every process that counts the same.
    fn text(&self) -> String {
        let kind = match self.kind {
            Kind::Estimator { .. } => "estimator",
            Kind::TokenBucket => "token_bucket",
            Kind::LeakyBucket => "leaky_bucket",
            Kind::Concurrency => "concurrency",
            Kind::Quota(_) => "quota",
            Kind::Bandwidth => "bandwidth",
        };
        let of = match &self.kind {
            Kind::Quota(Calendar { window, offset }) => format!(" {window:?}{offset:+}"),
            _ => String::new(),
        };
        let route = self.route.as_ref();
        let route = route.map(|route| format!(" {route}")).unwrap_or_default();
        // Keys of callers are made of their authenticator too. What was counted under others belongs to nobody.
        let by = if self.of_callers { " by auth" } else { "" };
        format!("{} {kind}{of} {}{by}{route}", self.name, self.key)
    }

    fn of(limit: &Limit) -> Self {
        Self {
            name: limit.name.clone(),
            route: limit.route.clone(),
            key: limit.key.to_string(),
            of_callers: matches!(limit.key, LimitKey::Consumer | LimitKey::Claim(_)),
            kind: match limit.algorithm {
                Algorithm::Estimator { rate } => Kind::Estimator { period: rate.per },
                Algorithm::TokenBucket { .. } => Kind::TokenBucket,
                Algorithm::LeakyBucket { .. } => Kind::LeakyBucket,
                Algorithm::Concurrency { .. } => Kind::Concurrency,
                Algorithm::Quota { calendar, .. } => Kind::Quota(calendar),
                Algorithm::Bandwidth { .. } => Kind::Bandwidth,
            },
        }
    }
}
