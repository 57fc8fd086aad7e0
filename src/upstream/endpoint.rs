//! One endpoint and the facts about it. Outlives a reload.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::concurrency::Places;
use super::live::Live;
use crate::config::Passive;
use crate::observe::stats::Level;
use crate::observe::{EndpointCounts, Metrics};
use crate::primitives::UpstreamName;
use crate::primitives::address::Address;
use crate::primitives::clock::nanos;
use crate::primitives::interned::Interned;
use crate::primitives::sections::Section;
use crate::primitives::sync::Mutex;
use crate::primitives::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// An address requests are sent to, with what is known about it.
#[derive(Debug)]
pub struct Endpoint {
    /// As configured: the metric label. Addresses resolved from one name share it.
    pub label: Arc<str>,
    /// Where it is.
    pub address: Address,
    /// What it answered.
    pub counts: Arc<EndpointCounts>,
    /// Tries being served, by all workers.
    pub in_flight: Level,
    /// What policies read of live traffic.
    pub(super) live: Live,
    unhealthy: AtomicBool,
    /// Whether the configuration in force checks it: what earlier checks found counts only then.
    checked: AtomicBool,
    drained: AtomicBool,
    ejected_until: AtomicU64,
    failing: AtomicBool,
    fails: Mutex<Fails>,
}

/// What is known of an endpoint that does not simply take requests, on its way to another process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownEndpoint {
    /// Name of the upstream.
    pub upstream: String,
    /// As configured.
    pub label: String,
    /// Where it is.
    pub address: Address,
    /// Active checks fail.
    pub unhealthy: bool,
    /// An operator took it out.
    pub drained: bool,
    /// For how long it is still put aside.
    pub ejected_ms: u64,
}

/// What is known of endpoints: the section that another process, or the next, goes on from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CarriedEndpoints(pub Vec<KnownEndpoint>);

impl Section for CarriedEndpoints {
    const NAME: &'static str = "endpoints";
    const VERSION: u16 = 1;
    const LARGEST: usize = 16 << 20;
}

/// Failures of live traffic in the current window.
#[derive(Debug, Default)]
struct Fails {
    count: u32,
    since: u64,
}

impl Endpoint {
    fn new(label: Arc<str>, address: Address, counts: Arc<EndpointCounts>) -> Self {
        Self {
            label,
            address,
            counts,
            in_flight: Level::default(),
            live: Live::default(),
            unhealthy: AtomicBool::new(false),
            checked: AtomicBool::new(true),
            drained: AtomicBool::new(false),
            ejected_until: AtomicU64::new(0),
            failing: AtomicBool::new(false),
            fails: Mutex::default(),
        }
    }

    /// Whether requests may be sent to it at `now`.
    pub fn usable(&self, now: u64) -> bool {
        self.state(now) == "up"
    }

    /// `up`, `down` (checks fail), `ejected` (live traffic failed) or `drained` (an operator took it out).
    pub fn state(&self, now: u64) -> &'static str {
        if self.drained.load(Ordering::Relaxed) {
            "drained"
        } else if self.unhealthy.load(Ordering::Relaxed) && self.checked.load(Ordering::Relaxed) {
            "down"
        } else if self.ejected_until.load(Ordering::Relaxed) > now {
            "ejected"
        } else {
            "up"
        }
    }

    /// When an ejection ends; 0 when there is none.
    pub(super) fn ejected_until(&self) -> u64 {
        self.ejected_until.load(Ordering::Relaxed)
    }

    /// Takes it out by an operator's word, or puts it back. Says whether that changed anything.
    pub fn set_drained(&self, drained: bool) -> bool {
        self.drained.swap(drained, Ordering::Relaxed) != drained
    }

    /// Says whether the configuration in force checks it: without checks nothing would ever find it healthy again.
    pub(super) fn set_checked(&self, checked: bool) {
        self.checked.store(checked, Ordering::Relaxed);
    }

    /// What active checks found. Says whether that changed anything. A good check also ends an ejection.
    pub(super) fn set_healthy(&self, healthy: bool) -> bool {
        self.unhealthy.swap(!healthy, Ordering::Relaxed) == healthy
    }

    /// Whether active checks hold it for good.
    pub(super) fn healthy(&self) -> bool {
        !self.unhealthy.load(Ordering::Relaxed)
    }

    /// Ends an ejection. Says whether there was one.
    pub(super) fn readmit(&self) -> bool {
        self.forgive();
        self.ejected_until.swap(0, Ordering::Relaxed) != 0
    }

    /// A request succeeded: forget failures. One relaxed load when there are none.
    pub(super) fn succeeded(&self) {
        if self.failing.load(Ordering::Relaxed) {
            self.forgive();
        }
    }

    /// Count and flag change under one lock: a failure in between would be counted and not flagged, and the successes
    /// after it overlooked.
    fn forgive(&self) {
        let mut fails = self.fails.lock();
        *fails = Fails::default();
        self.failing.store(false, Ordering::Relaxed);
    }

    /// A request failed at `now`: whether that is one too many. After an ejection has run out a single failure is
    /// (nginx lets one live request probe).
    pub(super) fn failed(&self, rule: &Passive, now: u64) -> bool {
        if rule.max_fails == 0 {
            return false;
        }
        let mut fails = self.fails.lock();
        let ejected_until = self.ejected_until.load(Ordering::Relaxed);
        let probing = ejected_until != 0 && ejected_until <= now;
        if now.saturating_sub(fails.since) > nanos(rule.fail_timeout) {
            *fails = Fails {
                count: 0,
                since: now,
            };
        }
        fails.count += 1;
        self.failing.store(true, Ordering::Relaxed);
        probing || fails.count >= rule.max_fails
    }

    /// What another process should know of it; `None` when there is nothing but that it takes requests.
    fn known(&self, upstream: &UpstreamName, now: u64) -> Option<KnownEndpoint> {
        let ejected = self
            .ejected_until
            .load(Ordering::Relaxed)
            .saturating_sub(now);
        let known = KnownEndpoint {
            upstream: upstream.to_string(),
            label: self.label.to_string(),
            address: self.address.clone(),
            unhealthy: self.unhealthy.load(Ordering::Relaxed),
            drained: self.drained.load(Ordering::Relaxed),
            ejected_ms: ejected / 1_000_000,
        };
        (known.unhealthy || known.drained || ejected > 0).then_some(known)
    }

    /// Goes on from what another process knew. Without checks nothing would ever find it healthy again.
    pub(super) fn recall(&self, known: &KnownEndpoint, checked: bool, passed: u64, now: u64) {
        let left = known
            .ejected_ms
            .saturating_mul(1_000_000)
            .saturating_sub(passed);
        self.unhealthy
            .store(known.unhealthy && checked, Ordering::Relaxed);
        self.drained.store(known.drained, Ordering::Relaxed);
        if left > 0 {
            self.eject(now.saturating_add(left));
        }
    }

    /// Puts it aside until `until`.
    pub(super) fn eject(&self, until: u64) {
        *self.fails.lock() = Fails::default();
        self.ejected_until.store(until, Ordering::Relaxed);
    }
}

/// Upstream, configured address and address: two names of one address are two endpoints.
type Key = (UpstreamName, Arc<str>, Address);

/// Endpoints and places of upstreams: what outlives a reload.
pub struct EndpointFacts {
    endpoints: Mutex<Interned<Key, Endpoint>>,
    places: Mutex<Interned<UpstreamName, Places>>,
    metrics: Arc<Metrics>,
}

impl EndpointFacts {
    /// Nothing known yet.
    pub fn new(metrics: Arc<Metrics>) -> Self {
        Self {
            endpoints: Mutex::default(),
            places: Mutex::default(),
            metrics,
        }
    }

    /// The endpoint known under this address, or a new one, which is taken to be healthy, and which belongs to who asked
    /// until it is [registered](Self::register).
    pub fn endpoint(
        &self,
        upstream: &UpstreamName,
        label: &str,
        address: Address,
    ) -> Arc<Endpoint> {
        let mut endpoints = self.endpoints.lock();
        let key = (upstream.clone(), Arc::from(label), address);
        let new = |(upstream, label, address): &Key| {
            let counts = self.metrics.endpoint(upstream, label);
            Endpoint::new(Arc::clone(label), address.clone(), counts)
        };
        endpoints.find_or(key, new)
    }

    /// The places of an upstream that bounds how many requests it gets at once.
    pub fn places(&self, upstream: &UpstreamName) -> Arc<Places> {
        let new = |upstream: &UpstreamName| Places::new(self.metrics.concurrency(upstream));
        self.places.lock().find_or(upstream.clone(), new)
    }

    /// Knows an endpoint of an upstream from now on: it is in force.
    pub(super) fn register(&self, upstream: &UpstreamName, endpoint: &Endpoint) {
        let label = Arc::clone(&endpoint.label);
        self.metrics.register_endpoint(upstream, &label);
        let key = (upstream.clone(), label, endpoint.address.clone());
        self.endpoints.lock().register(&key);
    }

    /// Knows an upstream from now on: it is in force.
    pub(super) fn register_upstream(&self, upstream: &UpstreamName) {
        self.metrics.register_upstream(upstream);
        self.places.lock().register(upstream);
    }

    /// What another process should know.
    pub fn export(&self, now: u64) -> Vec<KnownEndpoint> {
        let endpoints = self.endpoints.lock();
        let known = endpoints.known().iter();
        let known = known.filter_map(|((upstream, ..), endpoint)| endpoint.known(upstream, now));
        known.collect()
    }

    /// Every endpoint, for tests that compare.
    #[cfg(test)]
    pub(crate) fn dump(&self) -> Vec<String> {
        let endpoints = self.endpoints.lock();
        let each = endpoints.known().iter();
        let mut lines: Vec<_> = each
            .map(|(key, endpoint)| format!("{key:?} {endpoint:?}"))
            .collect();
        lines.sort();
        lines
    }

    /// Forgets endpoints that nobody holds any more.
    pub fn prune(&self) {
        self.endpoints.lock().prune();
        self.places.lock().prune();
    }
}
