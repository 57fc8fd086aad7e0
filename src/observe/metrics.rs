//! Every metric family on one page: name, kind, help and labels (contract §9).
//!
//! Counts live in [`super::stats`], found once per snapshot and added to without a look-up; this collects them when
//! `/metrics` is read. Labels are configured names and enums, never anything a client sent.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;
use prometheus::proto::{
    Bucket, Counter, Gauge, Histogram, LabelPair, Metric, MetricFamily, MetricType,
};
use prometheus::{IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder};

use super::overload::{ConcurrencyStats, OverloadStats, ShedCause};
use super::stats::{
    self, BUCKETS, Count, EndpointStats, Level, LimitStats, RouteStats, TurnedAway, UpstreamStats,
};
use crate::config::Class;
use crate::primitives::{LimitName, ListenerName, RouteName, UpstreamName};

/// Route label of requests that match no route.
const UNMATCHED: &str = "_unmatched";

/// Everything that is counted. Made once and handed down; counts outlive a reload.
pub struct Metrics {
    routes: Mutex<BTreeMap<RouteName, Arc<RouteStats>>>,
    upstreams: Mutex<BTreeMap<UpstreamName, Arc<UpstreamStats>>>,
    endpoints: Mutex<Endpoints>,
    limits: Mutex<BTreeMap<LimitName, Arc<LimitStats>>>,
    concurrency: Mutex<BTreeMap<UpstreamName, Arc<ConcurrencyStats>>>,
    /// The process as a whole, where more comes in than can be served.
    pub overload: Arc<OverloadStats>,
    listeners: Mutex<BTreeMap<ListenerName, Arc<ListenerStats>>>,
    /// Levels, fallbacks, splits and mirrors.
    pub rollouts: super::rollouts::Rollouts,
    /// Requests that matched no route.
    pub unmatched: Arc<RouteStats>,
    /// Log lines dropped because a queue was full: access lines, and messages.
    pub dropped_access: Arc<Count>,
    /// The same for messages.
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
type Endpoints = BTreeMap<(UpstreamName, Arc<str>), Arc<EndpointCounts>>;

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
    /// It was taken back: something got clearly worse.
    Worse,
    /// It was taken back: nobody confirmed it in time.
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

    /// The counts of a route.
    pub fn route(&self, name: &RouteName) -> Arc<RouteStats> {
        Arc::clone(self.routes.lock().entry(name.clone()).or_default())
    }

    /// The counts of an upstream.
    pub fn upstream(&self, name: &UpstreamName) -> Arc<UpstreamStats> {
        Arc::clone(self.upstreams.lock().entry(name.clone()).or_default())
    }

    /// The counts of an endpoint, under its configured address.
    pub fn endpoint(&self, upstream: &UpstreamName, label: &Arc<str>) -> Arc<EndpointCounts> {
        let key = (upstream.clone(), Arc::clone(label));
        Arc::clone(self.endpoints.lock().entry(key).or_default())
    }

    /// The counts of a limit.
    pub fn limit(&self, name: &LimitName) -> Arc<LimitStats> {
        Arc::clone(self.limits.lock().entry(name.clone()).or_default())
    }

    /// The places of an upstream.
    pub fn concurrency(&self, name: &UpstreamName) -> Arc<ConcurrencyStats> {
        Arc::clone(self.concurrency.lock().entry(name.clone()).or_default())
    }

    /// The counts of a listener.
    pub fn listener(&self, name: &ListenerName) -> Arc<ListenerStats> {
        Arc::clone(self.listeners.lock().entry(name.clone()).or_default())
    }

    /// The certificates that a listener shows.
    pub fn certificates(&self, listener: &ListenerName, shown: Vec<(String, i64)>) {
        *self.listener(listener).certificates.lock() = shown;
    }

    /// Every route's counts, the unmatched included.
    pub fn each_route(&self) -> Vec<(Arc<str>, Arc<RouteStats>)> {
        let routes = self.routes.lock();
        let named = routes
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
        self.routes
            .lock()
            .retain(|_, stats| Arc::strong_count(stats) > 1);
        self.upstreams
            .lock()
            .retain(|_, stats| Arc::strong_count(stats) > 1);
        self.endpoints
            .lock()
            .retain(|_, stats| Arc::strong_count(stats) > 1);
        self.limits
            .lock()
            .retain(|_, stats| Arc::strong_count(stats) > 1);
        self.rollouts.prune();
        self.concurrency
            .lock()
            .retain(|_, stats| Arc::strong_count(stats) > 1);
    }

    /// All families in the text format.
    pub fn render(&self) -> Result<String, prometheus::Error> {
        let mut families = self.registry.gather();
        families.extend(
            self.collect()
                .into_iter()
                .filter(|family| !family.get_metric().is_empty()),
        );
        TextEncoder::new().encode_to_string(&families)
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let mut families = self.route_families();
        families.extend(self.upstream_families());
        families.extend(self.breaker_families());
        families.extend(self.other_families());
        families.extend(self.rollouts.families());
        families.extend(self.overload_families());
        families
    }

    fn route_families(&self) -> Vec<MetricFamily> {
        let mut seconds = histogram(
            "gateway_requests_seconds",
            "Time from the request's head to the end of its answer",
        );
        let mut by_route = counter(
            "gateway_requests_by_route_total",
            "Answers by route and exact status",
        );
        let mut in_flight = gauge("gateway_requests_in_flight", "Requests being served");
        let mut refused = counter("gateway_refused_total", "Requests refused, by reason");
        for (route, stats) in self.each_route() {
            for (method, class, latency) in stats.latencies() {
                let status = ["1xx", "2xx", "3xx", "4xx", "5xx"][class - 1];
                seconds.push(
                    labels(&[("route", &route), ("method", method), ("status", status)]),
                    observed(latency),
                );
            }
            for (status, count) in stats.statuses.seen() {
                by_route.push(
                    labels(&[("routeId", &route), ("status", &status.to_string())]),
                    count as f64,
                );
            }
            in_flight.push(labels(&[("route", &route)]), stats.in_flight.value() as f64);
            for (reason, count) in stats.refusals() {
                refused.push(
                    labels(&[("route", &route), ("reason", reason.code())]),
                    count as f64,
                );
            }
        }
        vec![
            seconds.done(),
            by_route.done(),
            in_flight.done(),
            refused.done(),
        ]
    }

    fn upstream_families(&self) -> Vec<MetricFamily> {
        let mut seconds = histogram(
            "gateway_upstream_seconds",
            "Time from sending a try to the head of its answer",
        );
        let mut retries = counter(
            "gateway_upstream_retries_total",
            "Repeated tries, by what caused them",
        );
        let mut sticky = counter(
            "gateway_sticky_requests_total",
            "Requests of upstreams whose clients stay with their endpoint, by what their cookie said",
        );
        let mut hedges = counter(
            "gateway_upstream_hedges_total",
            "Second tries beside the first, by what became of them",
        );
        for (upstream, stats) in self.upstreams.lock().iter() {
            for (result, count) in stats.stickiness().filter(|(_, count)| *count > 0) {
                sticky.push(
                    labels(&[("upstream", upstream.as_str()), ("result", result)]),
                    count as f64,
                );
            }
            seconds.push(
                labels(&[("upstream", upstream.as_str())]),
                observed(&stats.latency),
            );
            for (cause, count) in stats.retries() {
                retries.push(
                    labels(&[("upstream", upstream.as_str()), ("cause", cause)]),
                    count as f64,
                );
            }
        }
        for (upstream, stats) in self.upstreams.lock().iter() {
            for (outcome, count) in stats.hedges.seen() {
                let place = [("upstream", upstream.as_str()), ("outcome", outcome)];
                hedges.push(labels(&place), count as f64);
            }
        }
        let mut requests = counter(
            "http_client_requests_total",
            "Tries sent to endpoints, by exact status or error",
        );
        let mut healthy = gauge(
            "gateway_endpoint_healthy",
            "Whether requests are sent to the endpoint",
        );
        let mut weight = gauge(
            "gateway_endpoint_weight",
            "The endpoint's weight now: as configured, less what the score and a slow start take from it",
        );
        let mut ejections = counter(
            "gateway_endpoint_ejections_total",
            "How often the endpoint was put aside, by cause",
        );
        for ((upstream, endpoint), counts) in self.endpoints.lock().iter() {
            let place = [("upstream", upstream.as_str()), ("endpoint", &**endpoint)];
            let errors = counts.stats.errors.value();
            let statuses = counts
                .stats
                .statuses
                .seen()
                .map(|(status, count)| (status.to_string(), count));
            let errors = (errors > 0).then(|| ("error".to_owned(), errors));
            for (status, count) in statuses.chain(errors) {
                requests.push(
                    labels(&[place[0], place[1], ("status", &status)]),
                    count as f64,
                );
            }
            healthy.push(
                labels(&place),
                f64::from(u8::from(counts.healthy.load(Ordering::Relaxed))),
            );
            weight.push(
                labels(&place),
                f64::from_bits(counts.weight.load(Ordering::Relaxed)),
            );
            for (cause, count) in counts.stats.ejections().filter(|(_, count)| *count > 0) {
                ejections.push(
                    labels(&[place[0], place[1], ("cause", cause)]),
                    count as f64,
                );
            }
        }
        vec![
            seconds.done(),
            retries.done(),
            sticky.done(),
            hedges.done(),
            requests.done(),
            healthy.done(),
            weight.done(),
            ejections.done(),
        ]
    }

    fn overload_families(&self) -> Vec<MetricFamily> {
        let mut limit = gauge(
            "gateway_upstream_concurrency_limit",
            "Requests that the upstream may get at once",
        );
        let mut in_flight = gauge(
            "gateway_upstream_concurrency_in_flight",
            "Requests that hold a place at the upstream",
        );
        let mut queued = gauge(
            "gateway_upstream_queued",
            "Requests that wait for a place at the upstream",
        );
        let mut shed = counter(
            "gateway_shed_total",
            "Requests refused as too much, by class and cause; without an upstream, by the gateway as a whole",
        );
        let mut count = |upstream: &str, class: Class, cause: ShedCause, n: u64| {
            let (class, cause) = (("class", class.as_str()), ("cause", cause.label()));
            shed.push(labels(&[("upstream", upstream), class, cause]), n as f64);
        };
        for (upstream, stats) in self.concurrency.lock().iter() {
            let place = [("upstream", upstream.as_str())];
            for (family, value) in [&mut limit, &mut in_flight, &mut queued]
                .into_iter()
                .zip(stats.now())
            {
                family.push(labels(&place), f64::from(value));
            }
            for (class, cause, n) in stats.shed.seen() {
                count(upstream.as_str(), class, cause, n);
            }
        }
        for (class, cause, n) in self.overload.shed.seen() {
            count("", class, cause, n);
        }
        let mut level = gauge(
            "gateway_overload_level",
            "What is refused at present: 0 nothing, 1 sheddable, 2 normal as well, 3 critical as well",
        );
        level.push(
            labels(&[]),
            f64::from(self.overload.level.load(Ordering::Relaxed)),
        );
        let mut lag = gauge(
            "gateway_overload_lag_seconds",
            "By how much workers were late of late; 0 while nobody asks for it",
        );
        let nanos = self.overload.lag.load(Ordering::Relaxed);
        lag.push(labels(&[]), nanos as f64 / 1e9);
        vec![
            limit.done(),
            in_flight.done(),
            queued.done(),
            shed.done(),
            level.done(),
            lag.done(),
        ]
    }

    fn breaker_families(&self) -> [MetricFamily; 4] {
        let mut of_upstream = breaker_pair("breaker", "of the upstream");
        for (upstream, stats) in self.upstreams.lock().iter() {
            show_breaker(
                &mut of_upstream,
                ("upstream", upstream.as_str()),
                &stats.breaker,
            );
        }
        let mut of_route = breaker_pair("route_breaker", "of the route");
        for (route, stats) in self.routes.lock().iter() {
            show_breaker(&mut of_route, ("route", route.as_str()), &stats.breaker);
        }
        let ([a, b], [c, d]) = (of_upstream, of_route);
        [a, b, c, d].map(Family::done)
    }

    fn other_families(&self) -> Vec<MetricFamily> {
        let mut decisions = counter("gateway_limit_decisions_total", "What limits decided");
        for (limit, stats) in self.limits.lock().iter() {
            let counts = [
                ("allowed", &stats.allowed),
                ("delayed", &stats.delayed),
                ("refused", &stats.refused),
                ("skipped", &stats.skipped),
                ("returned", &stats.returned),
                ("would_refuse", &stats.would_refuse),
                ("would_delay", &stats.would_delay),
            ];
            for (outcome, count) in counts {
                decisions.push(
                    labels(&[("limit", limit.as_str()), ("outcome", outcome)]),
                    count.value() as f64,
                );
            }
        }
        let mut connections = gauge("gateway_connections_active", "Connections open now");
        let mut turned_away = counter(
            "gateway_connections_refused_total",
            "Connections closed before they were served, by reason",
        );
        let mut certificates = gauge(
            "gateway_tls_cert_not_after_seconds",
            "End of validity of each certificate, seconds since 1970",
        );
        for (listener, stats) in self.listeners.lock().iter() {
            let listener = listener.as_str();
            connections.push(
                labels(&[("listener", listener)]),
                stats.connections.value() as f64,
            );
            for (why, reason) in TurnedAway::ALL {
                turned_away.push(
                    labels(&[("listener", listener), ("reason", reason)]),
                    stats.turned_away[why as usize].value() as f64,
                );
            }
            for (name, not_after) in stats.certificates.lock().iter() {
                certificates.push(
                    labels(&[("listener", listener), ("name", name)]),
                    *not_after as f64,
                );
            }
        }
        let mut dropped = counter(
            "gateway_log_dropped_total",
            "Log lines dropped because a queue was full",
        );
        for (sink, count) in [
            ("access", &self.dropped_access),
            ("messages", &self.dropped_messages),
        ] {
            dropped.push(labels(&[("sink", sink)]), count.value() as f64);
        }
        vec![
            decisions.done(),
            connections.done(),
            turned_away.done(),
            certificates.done(),
            dropped.done(),
        ]
    }
}

/// State and changes of breakers.
fn breaker_pair(name: &str, whose: &str) -> [Family<f64>; 2] {
    let (state, turns) = (
        format!("gateway_{name}_state"),
        format!("gateway_{name}_transitions_total"),
    );
    [
        gauge(
            &state,
            &format!("Circuit breaker {whose}: 0 closed, 1 half-open, 2 open"),
        ),
        counter(
            &turns,
            &format!("Changes of the circuit breaker {whose}, by the state it went to"),
        ),
    ]
}

fn show_breaker(
    [state, turns]: &mut [Family<f64>; 2],
    place: (&str, &str),
    stats: &super::BreakerStats,
) {
    let Some((value, changes)) = stats.seen() else {
        return;
    };
    state.push(labels(&[place]), value.into());
    for (to, count) in changes {
        turns.push(labels(&[place, ("to", to)]), count as f64);
    }
}

/// A family being filled.
pub(super) struct Family<S> {
    family: MetricFamily,
    metrics: Vec<Metric>,
    set: fn(&mut Metric, S),
}

impl<S> Family<S> {
    fn new(name: &str, help: &str, kind: MetricType, set: fn(&mut Metric, S)) -> Self {
        let mut family = MetricFamily::default();
        family.set_name(name.to_owned());
        family.set_help(help.to_owned());
        family.set_field_type(kind);
        Self {
            family,
            metrics: Vec::new(),
            set,
        }
    }

    pub(super) fn push(&mut self, labels: Vec<LabelPair>, value: S) {
        let mut metric = Metric::from_label(labels);
        (self.set)(&mut metric, value);
        self.metrics.push(metric);
    }

    pub(super) fn done(mut self) -> MetricFamily {
        self.family.set_metric(self.metrics);
        self.family
    }
}

pub(super) fn counter(name: &str, help: &str) -> Family<f64> {
    Family::new(name, help, MetricType::COUNTER, |metric, value| {
        let mut counter = Counter::default();
        counter.set_value(value);
        metric.set_counter(counter);
    })
}

pub(super) fn gauge(name: &str, help: &str) -> Family<f64> {
    Family::new(name, help, MetricType::GAUGE, |metric, value| {
        let mut gauge = Gauge::default();
        gauge.set_value(value);
        metric.set_gauge(gauge);
    })
}

pub(super) fn histogram(name: &str, help: &str) -> Family<Observed> {
    Family::new(
        name,
        help,
        MetricType::HISTOGRAM,
        |metric, (counts, sum): Observed| {
            let mut total = 0;
            let buckets = BUCKETS.iter().zip(counts).map(|(bound, count)| {
                total += count;
                let mut bucket = Bucket::default();
                bucket.set_upper_bound(*bound);
                bucket.set_cumulative_count(total);
                bucket
            });
            let mut histogram = Histogram::default();
            histogram.set_bucket(buckets.collect());
            histogram.set_sample_count(counts.iter().sum());
            histogram.set_sample_sum(sum);
            metric.set_histogram(histogram);
        },
    )
}

/// Counts per bucket, and the sum.
pub(super) type Observed = ([u64; BUCKETS.len() + 1], f64);

pub(super) fn observed(histogram: &stats::Histogram) -> Observed {
    (histogram.counts(), histogram.sum())
}

pub(super) fn labels(pairs: &[(&str, &str)]) -> Vec<LabelPair> {
    let pair = |(name, value): &(&str, &str)| {
        let mut label = LabelPair::default();
        label.set_name((*name).to_owned());
        label.set_value((*value).to_owned());
        label
    };
    pairs.iter().map(pair).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn renders_what_was_counted() {
        let metrics = Metrics::new("1.2.3", "abc").expect("metrics");
        let route = metrics.route(&RouteName::new("users"));
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
