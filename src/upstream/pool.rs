//! One upstream of one configuration: its endpoints in the order of use.

mod discovery;
mod watch;

pub use watch::Standing;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use pingora::upstreams::peer::HttpPeer;

use super::balance::{Balance, Choice, mix};
use super::breaker::{Breaker, Guarded};
use super::budget::RetryBudget;
use super::concurrency::Gate;
use super::endpoint::{Endpoint, EndpointFacts, KnownEndpoint};
use super::hedge_delay::HedgeDelay;
use super::members::{Member, Members};
use super::outlier::Comparison;
use super::peer::PeerTemplate;
use super::score::Scores;
use super::source::{self, Discovered};
use super::sticky::StickyCookie;
use crate::config::Upstream;
use crate::observe::stats::{Ejection, UpstreamStats};
use crate::primitives::address::Address;
use crate::primitives::clock::nanos;

/// An upstream, ready to choose from.
pub struct Pool {
    settings: Upstream,
    tls_reuse_key: u64,
    peers: PeerTemplate,
    facts: Arc<EndpointFacts>,
    balance: Balance,
    members: ArcSwap<Members>,
    sticky: Option<StickyCookie>,
    scores: Mutex<Scores>,
    comparison: Mutex<Comparison>,
    /// Held while an outlier is put aside: two at once could be the last two.
    ejecting: Mutex<()>,
    /// What its source found last, of what was believed.
    discovered: Mutex<Arc<[Discovered]>>,
    /// Why its source failed when it looked last.
    failure: Mutex<Option<String>>,
    /// Whether its configuration is. Before it is and after it was, what it computes is its own and is told nobody.
    in_force: AtomicBool,
    /// When the order must be computed again, since an ejection runs out or a slow start goes on; 0 = nothing to wait for.
    recheck_at: AtomicU64,
    budget: RetryBudget,
    gate: Option<Arc<Gate>>,
    breaker: Option<Arc<Breaker>>,
    pace: Option<Arc<HedgeDelay>>,
    stats: Arc<UpstreamStats>,
}

/// What is known of a request that needs an endpoint.
#[derive(Clone, Copy, Debug, Default)]
pub struct PickHints<'w> {
    /// Where it was tried already.
    pub tried: &'w [Address],
    /// A random number, another one for each try.
    pub chance: u64,
    /// What it is hashed by.
    pub key: Option<u64>,
    /// Tag of the endpoint that its client stays with.
    pub stay: Option<u64>,
}

/// How a try ended, as far as it tells something about the endpoint. A client that leaves tells nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The endpoint answered.
    Good,
    /// The endpoint could not be reached, broke off, took too long, or answered with a status that is tried again.
    Bad,
}

impl Pool {
    /// Builds the pool. Named endpoints have no address until its [source](super::source) found one. Endpoints that are known already
    /// are looked up and left as they are, until [`begin`](Self::begin).
    pub fn new(
        settings: Upstream,
        peers: PeerTemplate,
        facts: Arc<EndpointFacts>,
        stats: Arc<UpstreamStats>,
        now: u64,
    ) -> Self {
        let gate = settings
            .concurrency
            .map(|concurrency| Arc::new(Gate::new(concurrency, facts.places(&settings.name))));
        let discovered = source::configured(&settings.endpoints, &HashMap::new());
        let pool = Self {
            gate,
            tls_reuse_key: if !settings.http2 && settings.tls.is_some() {
                peers.tls_reuse_key() | 1
            } else {
                0
            },
            pace: settings
                .hedge
                .clone()
                .map(|rule| Arc::new(HedgeDelay::new(rule))),
            balance: Balance::new(&settings.balance),
            settings,
            peers,
            facts,
            members: ArcSwap::from_pointee(Members::none()),
            sticky: None,
            scores: Mutex::default(),
            comparison: Mutex::default(),
            ejecting: Mutex::default(),
            discovered: Mutex::new(discovered),
            failure: Mutex::default(),
            in_force: AtomicBool::new(false),
            recheck_at: AtomicU64::new(0),
            budget: RetryBudget::default(),
            breaker: None,
            stats,
        };
        pool.gather(now);
        pool.with_breaker(None)
    }

    /// Keeps the breaker of an earlier configuration, if that had the same settings.
    fn with_breaker(mut self, known: Option<&Arc<Breaker>>) -> Self {
        self.breaker = self.settings.breaker.as_ref().map(|rule| {
            let guarded = Guarded::Upstream(self.settings.name.to_string());
            Breaker::carried(known, rule, guarded, &self.stats.breaker)
        });
        self
    }

    /// Takes over from the pool of an earlier configuration what names resolved to, the state of its breaker and how soon
    /// answers come.
    #[must_use]
    pub fn inherit(mut self, earlier: &Self, now: u64) -> Self {
        if self.settings.hedge == earlier.settings.hedge {
            self.pace.clone_from(&earlier.pace);
        }
        let known = source::configured(&self.settings.endpoints, &earlier.resolved());
        *self.discovered.lock() = known;
        let places = |gate: &Arc<Gate>| Arc::new(gate.following(earlier.gate.as_deref()));
        self.gate = self.gate.as_ref().map(places);
        self.gather(now);
        self.with_breaker(earlier.breaker.as_ref())
    }

    /// Puts the pool in force in place of `earlier` ones, or back, being one of them: endpoints are used by its
    /// settings from now on. Those that none of them had join the others, and warm up.
    pub fn begin(&self, earlier: &[&Self], now: u64) {
        self.in_force.store(true, Ordering::Relaxed);
        let members = self.members.load_full();
        self.facts.register_upstream(&self.settings.name);
        self.register(&members.all);
        let known = earlier.iter().map(|earlier| earlier.members.load_full());
        let known: Vec<_> = known.collect();
        for Member { endpoint, .. } in members.all.iter() {
            endpoint.set_checked(self.settings.health.is_some());
            let same = |old: &Member| Arc::ptr_eq(&old.endpoint, endpoint);
            if !known.is_empty() && !known.iter().any(|known| known.all.iter().any(same)) {
                endpoint.live.joins();
            }
        }
        self.set_factors(&members.all);
        self.reorder(now);
    }

    /// Takes the pool out of force. What it serves still is served to its end.
    pub fn end(&self) {
        self.in_force.store(false, Ordering::Relaxed);
    }

    /// Settings of the upstream.
    pub fn settings(&self) -> &Upstream {
        &self.settings
    }

    /// What is wrong with its TLS material, which is used all the same.
    pub fn warning(&self) -> Option<&super::peer::TlsError> {
        self.peers.warning()
    }

    /// How the framework reaches an endpoint of this upstream.
    pub fn peer(&self, endpoint: &Endpoint) -> Option<Box<HttpPeer>> {
        self.peers.at(&endpoint.address).map(Box::new)
    }

    /// The peer of this upstream without an address.
    pub(super) fn peer_template(&self) -> HttpPeer {
        self.peers.nowhere()
    }

    /// What TLS of its connections of HTTP/1.1 is like: those opened by other settings are not used. 0 without TLS.
    pub fn tls_reuse_key(&self) -> u64 {
        self.tls_reuse_key
    }

    /// How many requests it gets at once; `None` = as many as come.
    pub fn gate(&self) -> Option<&Arc<Gate>> {
        self.gate.as_ref()
    }

    /// Says in the log what changed within the last second.
    pub fn tell(&self) {
        if let Some(gate) = &self.gate {
            gate.tell(self.settings.name.as_str());
        }
    }

    /// Circuit breaker of the upstream.
    pub fn breaker(&self) -> Option<&Arc<Breaker>> {
        self.breaker.as_ref()
    }

    /// How soon its answers come, where second tries wait for that.
    pub fn pace(&self) -> Option<&HedgeDelay> {
        self.pace.as_deref()
    }

    /// Counts of the upstream.
    pub fn stats(&self) -> &UpstreamStats {
        &self.stats
    }

    /// The next endpoint, none of `tried` while another is usable, for a request of which nothing else is known.
    pub fn pick(&self, now: u64, tried: &[Address]) -> Option<Arc<Endpoint>> {
        self.choose(
            now,
            &PickHints {
                tried,
                chance: mix(now),
                ..PickHints::default()
            },
        )
    }

    /// The next endpoint for a request. `None` when no endpoint is usable.
    pub fn choose(&self, now: u64, hints: &PickHints<'_>) -> Option<Arc<Endpoint>> {
        self.tick(now);
        let members = self.members.load();
        let tried = hints.tried;
        let fresh = |index: u32| !tried.contains(&members.all[index as usize].endpoint.address);
        if let Some(stay) = hints.stay
            && let Some(index) = members.tags.get(&stay).copied()
            && members.uses(index)
            && fresh(index)
        {
            return Some(Arc::clone(&members.all[index as usize].endpoint));
        }
        let among = |side| Choice {
            all: &members.all,
            side,
            now,
            chance: hints.chance,
            key: hints.key,
            again: !tried.is_empty(),
        };
        let (primaries, backups) = (among(&members.primaries), among(&members.backups));
        let balance = &self.balance;
        let index = if tried.is_empty() {
            let first = balance.choose(&primaries, |_| true);
            first.or_else(|| balance.choose(&backups, |_| true))
        } else {
            balance
                .choose(&primaries, fresh)
                .or_else(|| balance.choose(&backups, fresh))
                .or_else(|| balance.choose(&primaries, |_| true))
                .or_else(|| balance.choose(&backups, |_| true))
        }?;
        Some(Arc::clone(&members.all[index as usize].endpoint))
    }

    /// Takes endpoints back whose ejection has run out. One load when there are none; called by every pick, and once a
    /// second so that metrics show it without traffic.
    pub fn tick(&self, now: u64) {
        let due = self.recheck_at.load(Ordering::Relaxed);
        if due != 0
            && now >= due
            && self
                .recheck_at
                .compare_exchange(due, 0, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
        {
            self.reorder(now);
        }
    }

    /// Counts a request towards the retry budget.
    pub fn request(&self, now: u64) {
        self.budget.request(now);
    }

    /// Takes room for one retry, if the budget has any.
    pub fn may_retry(&self, now: u64) -> bool {
        self.budget.take(self.settings.retry.budget, now)
    }

    /// Learns from live traffic.
    pub fn report(&self, endpoint: &Endpoint, outcome: Outcome, now: u64) {
        match outcome {
            Outcome::Good => {
                endpoint.succeeded();
                if endpoint.ejected_until() != 0 && endpoint.ejected_until() <= now {
                    endpoint.readmit();
                }
            }
            Outcome::Bad
                if endpoint.failed(&self.settings.passive, now)
                    && self.has_other(endpoint, now) =>
            {
                endpoint.eject(now + nanos(self.settings.passive.fail_timeout));
                endpoint.counts.stats.ejected(Ejection::MaxFails);
                log::warn!(upstream = self.settings.name.as_str(), endpoint = &*endpoint.label;
                    "endpoint put aside: {} failures within {:?}",
                    self.settings.passive.max_fails, self.settings.passive.fail_timeout);
                self.reorder(now);
            }
            Outcome::Bad => {}
        }
    }

    /// The last usable endpoint is never put aside: a bad answer beats none.
    fn has_other(&self, endpoint: &Endpoint, now: u64) -> bool {
        let members = self.members.load();
        members
            .all
            .iter()
            .any(|m| m.endpoint.address != endpoint.address && m.endpoint.usable(now))
    }

    /// What an active check found. Says whether the endpoint changed.
    pub(super) fn checked(&self, endpoint: &Endpoint, healthy: bool, now: u64) -> bool {
        let readmitted = healthy && endpoint.readmit();
        let changed = endpoint.set_healthy(healthy);
        if changed || readmitted {
            self.reorder(now);
        }
        changed
    }

    /// Takes every endpoint labelled `label` out, or back in. `false` when there is none.
    pub fn set_drained(&self, label: &str, drained: bool, now: u64) -> bool {
        let members = self.members.load_full();
        let mut known = false;
        for member in members
            .all
            .iter()
            .filter(|member| &*member.endpoint.label == label)
        {
            member.endpoint.set_drained(drained);
            known = true;
        }
        self.reorder(now);
        known
    }

    /// Goes on from what another process knew until `passed` ago.
    pub fn recall(&self, known: &[KnownEndpoint], passed: Duration, now: u64) {
        let members = self.members.load_full();
        let checked = self.settings.health.is_some();
        for member in members.all.iter() {
            let endpoint = &member.endpoint;
            let same = |known: &&KnownEndpoint| {
                known.upstream == self.settings.name.as_str()
                    && known.address == endpoint.address
                    && known.label == *endpoint.label
            };
            if let Some(known) = known.iter().find(same) {
                endpoint.recall(known, checked, nanos(passed), now);
            }
        }
        self.reorder(now);
    }

    /// Current endpoints with weight and backup flag.
    pub fn endpoints(&self) -> Vec<(Arc<Endpoint>, u32, bool)> {
        self.members
            .load()
            .all
            .iter()
            .map(|m| (Arc::clone(&m.endpoint), m.weight, m.backup))
            .collect()
    }

    /// Collects the members anew from what its source found.
    fn gather(&self, now: u64) {
        let discovered = self.discovered.lock();
        let member = |one: &Discovered| Member {
            endpoint: self
                .facts
                .endpoint(&self.settings.name, &one.label, one.address.clone()),
            weight: one.weight,
            backup: one.backup,
            named: one.is_named(),
        };
        let all: Vec<Member> = discovered.iter().map(member).collect();
        if self.in_force.load(Ordering::Relaxed) {
            self.register(&all);
            self.welcome(&all);
        }
        self.balance.gathered(&all);
        let tags = self.tags(&all);
        self.order(all.into(), tags, now);
    }

    /// Endpoints that are in force are known to all from now on.
    fn register(&self, all: &[Member]) {
        let endpoints = all.iter().map(|member| &*member.endpoint);
        endpoints.for_each(|endpoint| self.facts.register(&self.settings.name, endpoint));
    }

    /// Endpoints that join others have to warm up; those that are there from the start have nobody to leave the load to.
    fn welcome(&self, all: &[Member]) {
        let earlier = self.members.load();
        for member in all {
            let endpoint = &member.endpoint;
            let known = |old: &Member| Arc::ptr_eq(&old.endpoint, endpoint);
            if !earlier.all.is_empty() && !earlier.all.iter().any(known) {
                endpoint.live.joins();
            }
            endpoint.set_checked(self.settings.health.is_some());
        }
        self.set_factors(all);
    }

    /// Computes the order anew after health changed.
    fn reorder(&self, now: u64) {
        let _one_at_a_time = self.discovered.lock();
        let (all, tags) = {
            let members = self.members.load();
            (Arc::clone(&members.all), Arc::clone(&members.tags))
        };
        self.order(all, tags, now);
    }

    /// Called with `discovered` locked, so that a slower computation never overwrites a newer one.
    fn order(&self, all: Arc<[Member]>, tags: Arc<HashMap<u64, u32>>, now: u64) {
        let rules = &self.settings.passive;
        let old = self.members.load();
        let old = (&**old, self.in_force.load(Ordering::Relaxed));
        let (members, recheck) = Members::ordered(all, tags, rules, old, now);
        self.recheck_at.store(recheck, Ordering::Relaxed);
        self.members.store(Arc::new(members));
    }
}

#[cfg(test)]
mod tests;
