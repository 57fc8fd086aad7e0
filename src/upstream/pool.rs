//! One upstream of one configuration: its endpoints in the order of use.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use pingora::upstreams::peer::HttpPeer;

use super::breaker::{Breaker, Guarded};
use super::budget::RetryBudget;
use super::endpoint::{Endpoint, EndpointFacts, KnownEndpoint};
use super::peer::PeerTemplate;
use crate::config::{EndpointAddress, Upstream};
use crate::observe::stats::UpstreamStats;
use crate::primitives::address::Address;
use crate::primitives::clock::nanos;
use crate::primitives::rotation::Rotation;

/// An upstream, ready to choose from.
pub struct Pool {
    settings: Upstream,
    plain_tcp: bool,
    peers: PeerTemplate,
    facts: Arc<EndpointFacts>,
    members: ArcSwap<Members>,
    /// Addresses of endpoints that were configured by name.
    resolved: Mutex<HashMap<String, Vec<IpAddr>>>,
    /// When the first ejection runs out and the order must be computed again; 0 = nothing to wait for.
    recheck_at: AtomicU64,
    budget: RetryBudget,
    breaker: Option<Arc<Breaker>>,
    stats: Arc<UpstreamStats>,
}

/// Endpoints and their order. Replaced whole when anything changes.
struct Members {
    all: Arc<[Member]>,
    primaries: Rotation,
    backups: Rotation,
}

/// One address with its share.
struct Member {
    endpoint: Arc<Endpoint>,
    weight: u32,
    backup: bool,
    /// One of several addresses that may share a label.
    named: bool,
}

/// How a try ended, as far as it tells something about the endpoint. A client that leaves tells nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It answered.
    Good,
    /// It could not be reached, broke off, took too long, or answered with a status that is tried again.
    Bad,
}

impl Pool {
    /// Builds the pool. Named endpoints have no address until [`Pool::learn`] is told one.
    pub fn new(
        settings: Upstream,
        peers: PeerTemplate,
        facts: Arc<EndpointFacts>,
        stats: Arc<UpstreamStats>,
        now: u64,
    ) -> Self {
        let empty = Members {
            all: Arc::from([]),
            primaries: Rotation::new(&[], 0),
            backups: Rotation::new(&[], 0),
        };
        let in_file_system = |endpoint: &crate::config::Endpoint| {
            matches!(endpoint.address, EndpointAddress::Fixed(Address::Unix(_)))
        };
        let pool = Self {
            plain_tcp: settings.tls.is_none() && !settings.endpoints.iter().any(in_file_system),
            settings,
            peers,
            facts,
            members: ArcSwap::from_pointee(empty),
            resolved: Mutex::default(),
            recheck_at: AtomicU64::new(0),
            budget: RetryBudget::default(),
            breaker: None,
            stats,
        };
        pool.gather(now);
        pool.with_breaker(None)
    }

    /// Its breaker is that of an earlier configuration, if that had the same settings.
    fn with_breaker(mut self, known: Option<&Arc<Breaker>>) -> Self {
        self.breaker = self.settings.breaker.as_ref().map(|rule| {
            let guarded = Guarded::Upstream(self.settings.name.to_string());
            Breaker::carried(known, rule, guarded, &self.stats.breaker)
        });
        self
    }

    /// Takes over from the pool of an earlier configuration what names resolved to, and the state of its breaker.
    #[must_use]
    pub fn inherit(self, earlier: &Self, now: u64) -> Self {
        let known = earlier.resolved.lock().clone();
        let names = self.names();
        self.resolved.lock().extend(
            known
                .into_iter()
                .filter(|(host, _)| names.contains(&host.as_str())),
        );
        self.gather(now);
        self.with_breaker(earlier.breaker.as_ref())
    }

    /// Whether a name is still without an address.
    pub fn unresolved(&self) -> bool {
        let resolved = self.resolved.lock();
        self.names()
            .iter()
            .any(|host| !resolved.contains_key(*host))
    }

    /// Its settings.
    pub fn settings(&self) -> &Upstream {
        &self.settings
    }

    /// How the framework reaches an endpoint of this upstream.
    pub fn peer(&self, endpoint: &Endpoint) -> Option<Box<HttpPeer>> {
        self.peers.at(&endpoint.address).map(Box::new)
    }

    /// The peer of this upstream without an address.
    pub(super) fn peer_template(&self) -> HttpPeer {
        self.peers.nowhere()
    }

    /// Whether every endpoint is reached over TCP, without TLS.
    pub fn is_plain_tcp(&self) -> bool {
        self.plain_tcp
    }

    /// Its circuit breaker.
    pub fn breaker(&self) -> Option<&Arc<Breaker>> {
        self.breaker.as_ref()
    }

    /// Its counts.
    pub fn stats(&self) -> &UpstreamStats {
        &self.stats
    }

    /// The next endpoint, none of `tried` while another is usable. `None` when no endpoint is usable.
    pub fn pick(&self, now: u64, tried: &[Address]) -> Option<Arc<Endpoint>> {
        self.tick(now);
        let members = self.members.load();
        let fresh = |index: u32| !tried.contains(&members.all[index as usize].endpoint.address);
        let index = if tried.is_empty() {
            let first = members.primaries.next(|_| true);
            first.or_else(|| members.backups.next(|_| true))
        } else {
            let (primaries, backups) = (&members.primaries, &members.backups);
            primaries
                .spare(fresh)
                .or_else(|| backups.spare(fresh))
                .or_else(|| primaries.spare(|_| true))
                .or_else(|| backups.spare(|_| true))
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

    /// Takes over the addresses of a name. Says whether they changed. An empty list is never taken: it would empty the
    /// pool on a resolver's bad day.
    pub fn learn(&self, host: &str, mut addresses: Vec<IpAddr>, now: u64) -> bool {
        addresses.sort_unstable();
        addresses.dedup();
        let mut resolved = self.resolved.lock();
        if addresses.is_empty() || resolved.get(host) == Some(&addresses) {
            return false;
        }
        resolved.insert(host.to_owned(), addresses);
        drop(resolved);
        self.gather(now);
        true
    }

    /// Names that stand for endpoints.
    pub fn names(&self) -> Vec<&str> {
        let named = self
            .settings
            .endpoints
            .iter()
            .filter_map(|endpoint| match &endpoint.address {
                EndpointAddress::Named(host, _) => Some(host.as_str()),
                EndpointAddress::Fixed(_) => None,
            });
        let mut names: Vec<&str> = named.collect();
        names.sort_unstable();
        names.dedup();
        names
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

    /// Collects the members anew from settings and resolved names.
    fn gather(&self, now: u64) {
        let resolved = self.resolved.lock();
        let mut all: Vec<Member> = Vec::with_capacity(self.settings.endpoints.len());
        for endpoint in &self.settings.endpoints {
            let label = endpoint.address.to_string();
            let addresses: Vec<Address> = match &endpoint.address {
                EndpointAddress::Fixed(address) => vec![address.clone()],
                EndpointAddress::Named(host, port) => {
                    let known = resolved.get(host).map(Vec::as_slice).unwrap_or_default();
                    let known = known.iter();
                    known
                        .map(|ip| Address::Inet(SocketAddr::new(*ip, *port)))
                        .collect()
                }
            };
            for address in addresses {
                all.push(Member {
                    endpoint: self.facts.endpoint(&self.settings.name, &label, address),
                    weight: endpoint.weight.get(),
                    backup: endpoint.backup,
                    named: matches!(endpoint.address, EndpointAddress::Named(..)),
                });
            }
        }
        self.order(all.into(), now);
    }

    /// Computes the order anew after health changed.
    fn reorder(&self, now: u64) {
        let _one_at_a_time = self.resolved.lock();
        let all = Arc::clone(&self.members.load().all);
        self.order(all, now);
    }

    /// Called with `resolved` locked, so that a slower computation never overwrites a newer one.
    fn order(&self, all: Arc<[Member]>, now: u64) {
        let usable = |backup: bool| -> Vec<(u32, u32)> {
            let members = (0u32..)
                .zip(all.iter())
                .filter(|(_, m)| m.backup == backup && m.endpoint.usable(now));
            members.map(|(index, m)| (index, m.weight)).collect()
        };
        let mut primaries = usable(false);
        let total = all.iter().filter(|member| !member.backup).count();
        let share = self.settings.passive.min_healthy.fraction();
        if share > 0.0 && (primaries.len() as f64) < share * total as f64 {
            let every = (0u32..)
                .zip(all.iter())
                .filter(|(_, m)| !m.backup && m.endpoint.state(now) != "drained");
            primaries = every.map(|(index, m)| (index, m.weight)).collect();
        }
        for member in all.iter() {
            let same = |other: &&Member| other.endpoint.label == member.endpoint.label;
            let healthy = member.endpoint.usable(now)
                || (member.named
                    && all
                        .iter()
                        .filter(same)
                        .any(|other| other.endpoint.usable(now)));
            member.endpoint.counts.set_healthy(healthy);
        }
        let next = all
            .iter()
            .map(|m| m.endpoint.ejected_until())
            .filter(|until| *until > now)
            .min();
        self.recheck_at.store(next.unwrap_or(0), Ordering::Relaxed);
        let old = self.members.load();
        let primaries = Rotation::new(&primaries, old.primaries.position());
        let backups = Rotation::new(&usable(true), old.backups.position());
        self.members.store(Arc::new(Members {
            all,
            primaries,
            backups,
        }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{self, Source};
    use crate::primitives::UpstreamName;

    fn pool(upstream: &str) -> Pool {
        let text = format!("[[listener]]\naddress = \"127.0.0.1:8080\"\n[upstream.u]\n{upstream}");
        let source = Source {
            file: "t.toml".into(),
            text: text.into(),
        };
        let config =
            config::load(&[source], &|_| None).unwrap_or_else(|problems| panic!("{problems}"));
        let settings = config.upstreams[&UpstreamName::new("u")].clone();
        let peers = PeerTemplate::new(&settings, &|_| Err("no files".into())).expect("no TLS");
        let metrics = Arc::new(crate::observe::Metrics::new("0", "0").expect("metrics"));
        Pool::new(
            settings,
            peers,
            Arc::new(EndpointFacts::new(metrics)),
            Arc::default(),
            1,
        )
    }

    fn port(endpoint: &Endpoint) -> u16 {
        endpoint.address.inet().expect("address").port()
    }

    fn ports(pool: &Pool, now: u64, times: usize) -> Vec<u16> {
        (0..times)
            .filter_map(|_| pool.pick(now, &[]))
            .map(|endpoint| port(&endpoint))
            .collect()
    }

    const THREE: &str = r#"endpoints = [
        { address = "127.0.0.1:1", weight = 5 }, { address = "127.0.0.1:2" }, { address = "127.0.0.1:3" }]"#;
    const BACKED: &str = r#"endpoints = [
        { address = "127.0.0.1:1" }, { address = "127.0.0.1:2" }, { address = "127.0.0.1:3", backup = true }]
        passive = { max_fails = 2, fail_timeout = "10s" }"#;

    #[test]
    fn picks_in_the_smooth_order() {
        assert_eq!(ports(&pool(THREE), 1, 7), [1, 1, 2, 1, 3, 1, 1]);
    }

    #[test]
    fn shares_are_exact_over_threads() {
        let pool = Arc::new(pool(THREE));
        let threads: Vec<_> = (0..4)
            .map(|_| {
                let pool = Arc::clone(&pool);
                std::thread::spawn(move || ports(&pool, 1, 7000))
            })
            .collect();
        let all: Vec<u16> = threads
            .into_iter()
            .flat_map(|thread| thread.join().expect("thread"))
            .collect();
        let share = |port| all.iter().filter(|p| **p == port).count();
        assert_eq!((share(1), share(2), share(3)), (20_000, 4_000, 4_000));
    }

    #[test]
    fn uses_backups_only_when_no_primary_is_left() {
        let pool = pool(BACKED);
        let pick = |tried: &[&Arc<Endpoint>]| {
            let tried: Vec<_> = tried
                .iter()
                .map(|endpoint| endpoint.address.clone())
                .collect();
            pool.pick(1, &tried)
        };
        let (one, two) = (pick(&[]).expect("first"), pick(&[]).expect("second"));
        assert_ne!(one.address, two.address);
        assert!([&one, &two].iter().all(|endpoint| port(endpoint) < 3));
        let three = pick(&[&one, &two]).expect("third");
        assert_eq!(port(&three), 3);
        assert!(pick(&[&one, &two, &three]).is_some());
    }

    #[test]
    fn puts_a_failing_endpoint_aside_and_lets_it_back() {
        let pool = pool(BACKED);
        let second = 1_000_000_000;
        let first = pool.pick(second, &[]).expect("pick");
        pool.report(&first, Outcome::Bad, second);
        assert!(first.usable(second));
        pool.report(&first, Outcome::Bad, second);
        assert!(!first.usable(second));
        assert!(
            ports(&pool, 2 * second, 6)
                .iter()
                .all(|used| *used == 3 - port(&first))
        );
        assert!(ports(&pool, 12 * second, 6).contains(&port(&first)));
        pool.report(&first, Outcome::Bad, 12 * second);
        assert!(!first.usable(12 * second), "one failed probe is enough");
    }

    #[test]
    fn never_puts_the_last_one_aside() {
        let pool = pool("endpoints = [{ address = \"127.0.0.1:1\" }]\npassive = { max_fails = 1 }");
        let only = pool.pick(1, &[]).expect("pick");
        (0..10).for_each(|_| pool.report(&only, Outcome::Bad, 1));
        assert!(only.usable(1));
    }

    #[test]
    fn a_good_check_ends_an_ejection_and_a_bad_one_takes_it_out() {
        let pool = pool(BACKED);
        let first = pool.pick(1, &[]).expect("pick");
        (0..2).for_each(|_| pool.report(&first, Outcome::Bad, 1));
        pool.checked(&first, true, 2);
        assert!(first.usable(2));
        assert!(pool.checked(&first, false, 3));
        assert!(!ports(&pool, 3, 6).contains(&port(&first)));
    }

    #[test]
    fn what_another_process_knew_is_gone_on_from() {
        const NOW: u64 = 1_000_000_000;
        let (old, new) = (pool(THREE), pool(THREE));
        old.set_drained("127.0.0.1:1", true, NOW);
        let second = Arc::clone(&old.endpoints()[1].0);
        for _ in 0..3 {
            old.report(&second, Outcome::Bad, NOW);
        }
        let known = old.facts.export(NOW);
        new.recall(&known, Duration::from_secs(1), NOW);
        assert_eq!(ports(&new, NOW, 3), [3, 3, 3]);
        let states = |pool: &Pool| -> Vec<&str> {
            let endpoints = pool.endpoints();
            endpoints.iter().map(|(e, _, _)| e.state(NOW)).collect()
        };
        assert_eq!(states(&new), states(&old));
        let later = pool(THREE);
        later.recall(&known, Duration::from_secs(3600), NOW);
        assert_eq!(states(&later), ["drained", "up", "up"]);
        // Nothing checks these endpoints, so nothing would ever find one healthy again.
        let unhealthy: Vec<KnownEndpoint> = known
            .into_iter()
            .map(|known| KnownEndpoint {
                unhealthy: true,
                drained: false,
                ejected_ms: 0,
                ..known
            })
            .collect();
        let unchecked = pool(THREE);
        unchecked.recall(&unhealthy, Duration::ZERO, NOW);
        assert_eq!(states(&unchecked), ["up", "up", "up"]);
    }

    #[test]
    fn an_empty_answer_never_empties_a_pool() {
        let pool = pool("endpoints = [{ address = \"origin.internal:80\" }]");
        assert!(pool.pick(1, &[]).is_none());
        assert!(pool.learn("origin.internal", vec![IpAddr::from([10, 0, 0, 1])], 2));
        assert!(!pool.learn("origin.internal", Vec::new(), 3));
        assert_eq!(
            pool.pick(3, &[])
                .map(|endpoint| endpoint.address.to_string())
                .as_deref(),
            Some("10.0.0.1:80")
        );
    }
}
