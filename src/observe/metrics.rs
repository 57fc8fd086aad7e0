//! Everything that is counted, by what it is counted of.
//!
//! Counts live in [`super::stats`], found once per snapshot and added to without a look-up; [`families`] collects them when
//! `/metrics` is read.

mod families;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;
use prometheus::{IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry};

use super::internal::InternalStats;
use super::overload::{ConcurrencyStats, OverloadStats};
use super::stats::{
    Count, EndpointStats, Level, LimitStats, RouteStats, TurnedAway, UpstreamStats,
};
use crate::primitives::interned::Interned;
use crate::primitives::{LimitName, ListenerName, RouteName, UpstreamName};

/// Route label of requests that match no route.
const UNMATCHED: &str = "_unmatched";

/// Everything that is counted. Made once and handed down; counts outlive a reload.
pub struct Metrics {
    routes: Mutex<Interned<RouteName, RouteStats>>,
    upstreams: Mutex<Interned<UpstreamName, UpstreamStats>>,
    endpoints: Mutex<Endpoints>,
    limits: Mutex<Interned<LimitName, LimitStats>>,
    concurrency: Mutex<Interned<UpstreamName, ConcurrencyStats>>,
    /// The process as a whole, where more comes in than can be served.
    pub overload: Arc<OverloadStats>,
    listeners: Mutex<BTreeMap<ListenerName, Arc<ListenerStats>>>,
    /// Levels, fallbacks, splits and mirrors.
    pub rollouts: super::rollouts::Rollouts,
    /// Requests made inside the process.
    pub internal: InternalStats,
    /// Requests that matched no route.
    pub unmatched: Arc<RouteStats>,
    /// Access lines dropped because a queue was full.
    pub dropped_access: Arc<Count>,
    /// Messages dropped because a queue was full.
    pub dropped_messages: Arc<Count>,
    registry: Registry,
    routes_active: IntGauge,
    reloads: IntCounterVec,
    trials: IntCounterVec,
    upgrades: IntCounterVec,
    config_info: IntGaugeVec,
    rejected_certificates: IntGauge,
}

/// Counts by upstream and configured address.
type Endpoints = Interned<(UpstreamName, Arc<str>), EndpointCounts>;

/// One endpoint's counts and whether it is usable.
#[derive(Debug, Default)]
pub struct EndpointCounts {
    /// What it answered.
    pub stats: EndpointStats,
    healthy: AtomicBool,
    weight: AtomicU64,
}

impl EndpointCounts {
    /// Says whether requests may be sent to it.
    pub fn set_healthy(&self, healthy: bool) {
        self.healthy.store(healthy, Ordering::Relaxed);
    }

    /// Says what share it has now: its configured weight, less what policies take from it.
    pub fn set_weight(&self, weight: f64) {
        self.weight.store(weight.to_bits(), Ordering::Relaxed);
    }
}

/// One listener's counts.
#[derive(Debug, Default)]
pub struct ListenerStats {
    /// Connections open now.
    pub connections: Level,
    turned_away: [Count; TurnedAway::ALL.len()],
    /// Certificates shown: name, and end of validity in seconds since 1970.
    certificates: Mutex<Vec<(String, i64)>>,
}

/// How the trial of a configuration ended: label `result` of `gateway_config_trials_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrialEnd {
    /// Somebody confirmed it.
    Confirmed,
    /// The trial was taken back: something got clearly worse.
    Worse,
    /// The trial was taken back: nobody confirmed it in time.
    Expired,
    /// Another configuration took its place.
    Replaced,
}

impl TrialEnd {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Confirmed, Self::Worse, Self::Expired, Self::Replaced];
    /// What is said of a trial that has not ended.
    pub const RUNNING: &str = "running";

    /// The label.
    pub fn label(self) -> &'static str {
        match self {
            Self::Confirmed => "confirmed",
            Self::Worse => "worse",
            Self::Expired => "expired",
            Self::Replaced => "replaced",
        }
    }
}

impl ListenerStats {
    /// Counts a connection that was closed before it was served.
    pub fn turned_away(&self, why: TurnedAway) {
        self.turned_away[why as usize].up();
    }
}

impl Metrics {
    /// No counts yet. Series that must exist from the start do.
    pub fn new(version: &str, commit: &str) -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        let routes_active = IntGauge::new(
            "gateway_routes_active",
            "Routes of the configuration in force",
        )?;
        let reloads = IntCounterVec::new(
            Opts::new(
                "gateway_config_reloads_total",
                "Reloads of the configuration by result",
            ),
            &["result"],
        )?;
        let trials = IntCounterVec::new(
            Opts::new(
                "gateway_config_trials_total",
                "Configurations on trial (reload --confirm) by how the trial ended",
            ),
            &["result"],
        )?;
        let upgrades = IntCounterVec::new(
            Opts::new(
                "gateway_upgrades_total",
                "Upgrades in place: those this process came from, and those that failed",
            ),
            &["result"],
        )?;
        let config_info = IntGaugeVec::new(
            Opts::new(
                "gateway_config_info",
                "The configuration in force, by its hash",
            ),
            &["hash"],
        )?;
        let build_info = IntGaugeVec::new(
            Opts::new("gateway_build_info", "This build"),
            &["version", "commit"],
        )?;
        let rejected_certificates = IntGauge::new(
            "gateway_tls_cert_rejected",
            "Certificates, keys and authorities that the last reload could not use: the ones before it stay in force",
        )?;
        registry.register(Box::new(rejected_certificates.clone()))?;
        reloads.with_label_values(&["ok"]);
        reloads.with_label_values(&["error"]);
        for end in TrialEnd::ALL {
            trials.with_label_values(&[end.label()]);
        }
        upgrades.with_label_values(&["ok"]);
        upgrades.with_label_values(&["error"]);
        build_info.with_label_values(&[version, commit]).set(1);
        registry.register(Box::new(routes_active.clone()))?;
        registry.register(Box::new(reloads.clone()))?;
        registry.register(Box::new(trials.clone()))?;
        registry.register(Box::new(upgrades.clone()))?;
        registry.register(Box::new(config_info.clone()))?;
        registry.register(Box::new(build_info))?;
        Ok(Self {
            routes: Mutex::default(),
            upstreams: Mutex::default(),
            endpoints: Mutex::default(),
            limits: Mutex::default(),
            concurrency: Mutex::default(),
            overload: Arc::default(),
            listeners: Mutex::default(),
            rollouts: Default::default(),
            internal: InternalStats::default(),
            unmatched: Arc::default(),
            dropped_access: Arc::default(),
            dropped_messages: Arc::default(),
            registry,
            routes_active,
            reloads,
            trials,
            upgrades,
            config_info,
            rejected_certificates,
        })
    }

    /// Shows a route from now on: it is in force.
    pub fn register_route(&self, name: &RouteName) {
        self.routes.lock().register(name);
    }

    /// Shows an upstream from now on, and its places: it is in force.
    pub fn register_upstream(&self, name: &UpstreamName) {
        self.upstreams.lock().register(name);
        self.concurrency.lock().register(name);
    }

    /// Shows an endpoint from now on: it is in force.
    pub fn register_endpoint(&self, upstream: &UpstreamName, label: &Arc<str>) {
        let key = (upstream.clone(), Arc::clone(label));
        self.endpoints.lock().register(&key);
    }

    /// Shows a limit from now on: it is in force.
    pub fn register_limit(&self, name: &LimitName) {
        self.limits.lock().register(name);
    }

    /// The counts of a route. Here and below: those of what is not in force yet belong to who asked, and are not shown
    /// before they are registered.
    pub fn route(&self, name: &RouteName) -> Arc<RouteStats> {
        self.routes
            .lock()
            .find_or(name.clone(), |_| RouteStats::default())
    }

    /// The counts of an upstream.
    pub fn upstream(&self, name: &UpstreamName) -> Arc<UpstreamStats> {
        self.upstreams
            .lock()
            .find_or(name.clone(), |_| UpstreamStats::default())
    }

    /// The counts of an endpoint, under its configured address.
    pub fn endpoint(&self, upstream: &UpstreamName, label: &Arc<str>) -> Arc<EndpointCounts> {
        let key = (upstream.clone(), Arc::clone(label));
        self.endpoints
            .lock()
            .find_or(key, |_| EndpointCounts::default())
    }

    /// The counts of a limit.
    pub fn limit(&self, name: &LimitName) -> Arc<LimitStats> {
        self.limits
            .lock()
            .find_or(name.clone(), |_| LimitStats::default())
    }

    /// The places of an upstream.
    pub fn concurrency(&self, name: &UpstreamName) -> Arc<ConcurrencyStats> {
        self.concurrency
            .lock()
            .find_or(name.clone(), |_| ConcurrencyStats::default())
    }

    /// The counts of a listener.
    pub fn listener(&self, name: &ListenerName) -> Arc<ListenerStats> {
        Arc::clone(self.listeners.lock().entry(name.clone()).or_default())
    }

    /// The certificates that listeners show; all others show none.
    pub fn certificates<'l>(
        &self,
        shown: impl IntoIterator<Item = (&'l ListenerName, Vec<(String, i64)>)>,
    ) {
        let mut shown: BTreeMap<_, _> = shown.into_iter().collect();
        shown
            .keys()
            .for_each(|listener| drop(self.listener(listener)));
        for (listener, stats) in self.listeners.lock().iter() {
            *stats.certificates.lock() = shown.remove(listener).unwrap_or_default();
        }
    }

    /// Every route's counts, the unmatched included.
    pub fn each_route(&self) -> Vec<(Arc<str>, Arc<RouteStats>)> {
        let routes = self.routes.lock();
        let named = routes
            .known()
            .iter()
            .map(|(name, stats)| (name.shared(), Arc::clone(stats)));
        named
            .chain([(Arc::from(UNMATCHED), Arc::clone(&self.unmatched))])
            .collect()
    }

    /// A configuration came into force.
    pub fn applied(&self, routes: usize, hash: &str) {
        self.routes_active
            .set(i64::try_from(routes).unwrap_or(i64::MAX));
        self.config_info.reset();
        self.config_info.with_label_values(&[hash]).set(1);
    }

    /// A reload ended.
    pub fn reloaded(&self, ok: bool) {
        self.reloads
            .with_label_values(&[if ok { "ok" } else { "error" }])
            .inc();
    }

    /// A trial of a configuration ended.
    pub fn tried(&self, end: TrialEnd) {
        self.trials.with_label_values(&[end.label()]).inc();
    }

    /// So many files of listeners' TLS could not be used by the last reload.
    pub fn rejected_certificates(&self, count: usize) {
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        self.rejected_certificates.set(count);
    }

    /// An upgrade in place ended.
    pub fn upgraded(&self, ok: bool) {
        self.upgrades
            .with_label_values(&[if ok { "ok" } else { "error" }])
            .inc();
    }

    /// Forgets the series of what no configuration names any more, so that they do not add up over reloads.
    pub fn prune(&self) {
        self.routes.lock().prune();
        self.upstreams.lock().prune();
        self.endpoints.lock().prune();
        self.limits.lock().prune();
        self.rollouts.prune();
        self.concurrency.lock().prune();
        self.listeners.lock().retain(|_, stats| {
            Arc::strong_count(stats) > 1 || !stats.certificates.lock().is_empty()
        });
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn renders_what_was_counted() {
        let metrics = Metrics::new("1.2.3", "abc").expect("metrics");
        let users = RouteName::new("users");
        let route = metrics.route(&users);
        metrics.register_route(&users);
        route.served("GET", 200, Duration::from_millis(3));
        route.served("BREW", 418, Duration::from_millis(3));
        route.refused(crate::filter::Reason::RateLimited);
        metrics.applied(1, "cafe");
        let text = metrics.render().expect("text");
        for line in [
            "gateway_requests_by_route_total{routeId=\"users\",status=\"200\"} 1",
            "gateway_requests_seconds_count{method=\"_OTHER\",route=\"users\",status=\"4xx\"} 1",
            "gateway_refused_total{reason=\"rate_limited\",route=\"users\"} 1",
            "gateway_config_reloads_total{result=\"error\"} 0",
            "gateway_config_info{hash=\"cafe\"} 1",
            "gateway_requests_in_flight{route=\"_unmatched\"} 0",
        ] {
            let wanted: std::collections::BTreeSet<&str> =
                line.split(['{', '}', ',', ' ']).collect();
            let found = text.lines().any(|l| {
                l.split(['{', '}', ',', ' '])
                    .collect::<std::collections::BTreeSet<_>>()
                    == wanted
            });
            assert!(found, "{line}\n{text}");
        }
    }
}
