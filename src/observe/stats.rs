//! Counters that the request path adds to. Each is an atomic; the collector reads them when asked.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use super::breaker::BreakerStats;
use super::hedge::HedgeStats;

/// A count that only grows.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    /// Adds one.
    pub fn up(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// Adds `n`.
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    /// The count so far.
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A number that goes up and down.
#[derive(Debug, Default)]
pub struct Level(AtomicI64);

impl Level {
    /// Adds one.
    pub fn up(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// Takes one away.
    pub fn down(&self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }

    /// The number now.
    pub fn value(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Upper bounds of the latency buckets, seconds. A last bucket takes the rest.
pub const BUCKETS: [f64; 14] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
];

/// A histogram of durations.
#[derive(Debug, Default)]
pub struct Histogram {
    buckets: [Count; BUCKETS.len() + 1],
    nanos: Count,
}

impl Histogram {
    /// Adds one observation: two atomic adds.
    pub fn observe(&self, took: Duration) {
        const NANOS: [u64; BUCKETS.len()] = {
            let mut nanos = [0; BUCKETS.len()];
            let mut i = 0;
            while i < BUCKETS.len() {
                nanos[i] = (BUCKETS[i] * 1e9) as u64;
                i += 1;
            }
            nanos
        };
        let took = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.buckets[NANOS.partition_point(|bound| *bound < took)].up();
        self.nanos.add(took);
    }

    /// Observations per bucket, not cumulative; the last is beyond all bounds.
    pub fn counts(&self) -> [u64; BUCKETS.len() + 1] {
        std::array::from_fn(|bucket| self.buckets[bucket].value())
    }

    /// Sum of all observations in seconds.
    pub fn sum(&self) -> f64 {
        self.nanos.value() as f64 / 1e9
    }
}

/// Counts by exact status, 100 to 599. Memory is taken per class on its first answer.
#[derive(Debug, Default)]
pub struct StatusCounts {
    classes: [OnceLock<Box<[Count; 100]>>; 5],
}

impl StatusCounts {
    /// Adds one; a status outside 100 to 599 is not counted.
    pub fn up(&self, status: u16) {
        if let Some(class) = usize::from(status / 100)
            .checked_sub(1)
            .and_then(|class| self.classes.get(class))
        {
            let counts = class.get_or_init(|| Box::new(std::array::from_fn(|_| Count::default())));
            counts[usize::from(status % 100)].up();
        }
    }

    /// `(status, count)` of every status seen.
    pub fn seen(&self) -> impl Iterator<Item = (u16, u64)> + '_ {
        (1u16..)
            .zip(&self.classes)
            .filter_map(|(class, counts)| Some((class, counts.get()?)))
            .flat_map(|(class, counts)| {
                let each = (0u16..).zip(counts.iter());
                each.map(move |(rest, count)| (class * 100 + rest, count.value()))
                    .filter(|(_, count)| *count > 0)
            })
    }
}

/// Methods that are labels; all others count as the last.
pub const METHODS: [&str; 8] = [
    "GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "_OTHER",
];

/// What one route served.
#[derive(Debug, Default)]
pub struct RouteStats {
    /// Requests being served.
    pub in_flight: Level,
    /// Answers by exact status.
    pub statuses: StatusCounts,
    /// Circuit breaker of the route.
    pub breaker: Arc<BreakerStats>,
    latency: [[OnceLock<Box<Histogram>>; 5]; METHODS.len()],
    refused: OnceLock<Box<[Count; REASONS]>>,
    apart: OnceLock<Box<RouteStats>>,
    amended: OnceLock<Box<RouteStats>>,
}

/// Room for every reason of refusal.
const REASONS: usize = crate::filter::Reason::ALL.len();

impl RouteStats {
    /// Counts one answered request.
    pub fn served(&self, method: &str, status: u16, took: Duration) {
        self.statuses.up(status);
        let method = METHODS
            .iter()
            .position(|known| *known == method)
            .unwrap_or(METHODS.len() - 1);
        if let Some(class) = usize::from(status / 100)
            .checked_sub(1)
            .filter(|class| *class < 5)
        {
            self.latency[method][class]
                .get_or_init(Box::default)
                .observe(took);
        }
    }

    /// Counts one request whose client left before it was answered: by its status alone. There is no answer whose time could
    /// be measured, and none that could be judged.
    pub fn left(&self, status: u16) {
        self.statuses.up(status);
    }

    /// Counts one refusal.
    pub fn refused(&self, reason: crate::filter::Reason) {
        self.refused
            .get_or_init(|| Box::new(std::array::from_fn(|_| Count::default())))[reason as usize]
            .up();
    }

    /// Requests that tell nothing about the route, because their clients caused what became of them, or not
    /// by the time they took. They are counted here besides.
    pub fn apart(&self) -> &Self {
        self.apart.get_or_init(Box::default)
    }

    /// Requests counted [apart](Self::apart) that tell something by another time.
    pub fn amended(&self) -> &Self {
        self.amended.get_or_init(Box::default)
    }

    /// What is counted apart, and what of it counts otherwise, where there was any.
    pub fn seen_apart(&self) -> [Option<&Self>; 2] {
        [&self.apart, &self.amended].map(|seen| seen.get().map(|seen| &**seen))
    }

    /// `(method, status class from 1, histogram)` of what was seen.
    pub fn latencies(&self) -> impl Iterator<Item = (&'static str, usize, &Histogram)> {
        METHODS
            .iter()
            .zip(&self.latency)
            .flat_map(|(method, classes)| {
                (1..)
                    .zip(classes)
                    .filter_map(|(class, histogram)| Some((*method, class, &**histogram.get()?)))
            })
    }

    /// `(reason, count)` of what was refused.
    pub fn refusals(&self) -> impl Iterator<Item = (crate::filter::Reason, u64)> {
        let counts = self.refused.get();
        let each = crate::filter::Reason::ALL
            .iter()
            .filter_map(move |reason| Some((*reason, counts?[*reason as usize].value())));
        each.filter(|(_, count)| *count > 0)
    }
}

/// Why a connection was closed before it was served: label `reason` of `gateway_connections_refused_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TurnedAway {
    /// `server.client.max_connections` were open.
    Full,
    /// `server.client.max_connections_per_ip` of its address were open.
    FullForAddress,
    /// The process may not open more files.
    Descriptors,
    /// A PROXY header is believed only from `server.trusted_proxies`, and it came from elsewhere.
    ProxyUntrusted,
    /// The connection began with no PROXY header, or with a broken one.
    ProxyHeader,
    /// The PROXY header took too long.
    ProxyTimeout,
    /// The listener's `allow_ips` and `deny_ips` keep its address out.
    IpDenied,
    /// The TLS handshake failed.
    TlsHandshake,
    /// The TLS handshake took too long.
    TlsTimeout,
}

impl TurnedAway {
    /// All reasons with their labels.
    pub const ALL: [(Self, &'static str); 9] = [
        (Self::Full, "max_connections"),
        (Self::FullForAddress, "max_connections_per_ip"),
        (Self::Descriptors, "descriptors"),
        (Self::ProxyUntrusted, "proxy_untrusted"),
        (Self::ProxyHeader, "proxy_header"),
        (Self::ProxyTimeout, "proxy_timeout"),
        (Self::IpDenied, "ip_denied"),
        (Self::TlsHandshake, "tls_handshake"),
        (Self::TlsTimeout, "tls_timeout"),
    ];
}

/// Why a try was repeated: label `cause` of `gateway_upstream_retries_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetryCause {
    /// No connection.
    Connect,
    /// The connection broke.
    Reset,
    /// The answer took too long.
    Timeout,
    /// The status asked for it.
    Status,
}

impl RetryCause {
    /// All causes with their labels.
    pub const ALL: [(Self, &'static str); 4] = [
        (Self::Connect, "connect"),
        (Self::Reset, "reset"),
        (Self::Timeout, "timeout"),
        (Self::Status, "status"),
    ];
}

/// Whether a client stays with its endpoint: label `result` of `gateway_sticky_requests_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StickyOutcome {
    /// The request came with no cookie.
    Fresh,
    /// The cookie names an endpoint that is usable.
    Kept,
    /// The cookie names an endpoint that is not usable.
    Moved,
    /// The cookie is forged, broken or past its time.
    Invalid,
}

impl StickyOutcome {
    /// All of them with their labels.
    pub const ALL: [(Self, &'static str); 4] = [
        (Self::Fresh, "fresh"),
        (Self::Kept, "kept"),
        (Self::Moved, "moved"),
        (Self::Invalid, "invalid"),
    ];
}

/// What one upstream answered.
#[derive(Debug, Default)]
pub struct UpstreamStats {
    /// From sending a try to its answer's head.
    pub latency: Histogram,
    /// Circuit breaker of the upstream.
    pub breaker: Arc<BreakerStats>,
    /// Second tries beside the first.
    pub hedges: HedgeStats,
    retries: [Count; RetryCause::ALL.len()],
    stuck: [Count; StickyOutcome::ALL.len()],
}

impl UpstreamStats {
    /// Counts one repeated try.
    pub fn retried(&self, cause: RetryCause) {
        self.retries[cause as usize].up();
    }

    /// Counts one request of an upstream whose clients stay.
    pub fn stuck(&self, how: StickyOutcome) {
        self.stuck[how as usize].up();
    }

    /// `(label, count)` of how clients stayed.
    pub fn stickiness(&self) -> impl Iterator<Item = (&'static str, u64)> {
        StickyOutcome::ALL
            .iter()
            .map(|(how, label)| (*label, self.stuck[*how as usize].value()))
    }

    /// `(label, count)` of every cause.
    pub fn retries(&self) -> impl Iterator<Item = (&'static str, u64)> {
        RetryCause::ALL
            .iter()
            .map(|(cause, label)| (*label, self.retries[*cause as usize].value()))
    }
}

/// What one endpoint answered.
#[derive(Debug, Default)]
pub struct EndpointStats {
    /// Answers by exact status.
    pub statuses: StatusCounts,
    /// Tries that brought no answer.
    pub errors: Count,
    ejected: [Count; Ejection::ALL.len()],
}

impl EndpointStats {
    /// Counts that it was put aside.
    pub fn ejected(&self, cause: Ejection) {
        self.ejected[cause as usize].up();
    }

    /// `(label, count)` of every cause.
    pub fn ejections(&self) -> impl Iterator<Item = (&'static str, u64)> {
        Ejection::ALL
            .iter()
            .map(|(cause, label)| (*label, self.ejected[*cause as usize].value()))
    }
}

/// Why an endpoint was put aside: label `cause` of `gateway_endpoint_ejections_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ejection {
    /// `passive.max_fails`.
    MaxFails,
    /// `outlier.consecutive`.
    Consecutive,
    /// `outlier.deviations`.
    SuccessRate,
    /// `outlier.failure_rate`.
    FailureRate,
}

impl Ejection {
    /// All causes with their labels.
    pub const ALL: [(Self, &'static str); 4] = [
        (Self::MaxFails, "max_fails"),
        (Self::Consecutive, "consecutive"),
        (Self::SuccessRate, "success_rate"),
        (Self::FailureRate, "failure_rate"),
    ];
}

/// What one limit decided: `gateway_limit_decisions_total`.
#[derive(Debug, Default)]
pub struct LimitStats {
    /// Passed.
    pub allowed: Count,
    /// Passed after a wait.
    pub delayed: Count,
    /// Refused.
    pub refused: Count,
    /// Passed uncounted: the key was missing and the limit says so.
    pub skipped: Count,
    /// Passed, and taken back since another limit refused.
    pub returned: Count,
    /// Passed, but would be refused if the limit did more than count.
    pub would_refuse: Count,
    /// Requests that would have waited if the limit did more than count.
    pub would_delay: Count,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_belongs_to_its_bucket() {
        let histogram = Histogram::default();
        histogram.observe(Duration::from_millis(1));
        histogram.observe(Duration::from_nanos(1_000_001));
        histogram.observe(Duration::from_secs(31));
        let counts = histogram.counts();
        assert_eq!((counts[0], counts[1], counts[BUCKETS.len()]), (1, 1, 1));
    }

    #[test]
    fn counts_statuses_and_ignores_what_is_none() {
        let counts = StatusCounts::default();
        for status in [200, 200, 404, 99, 600, 0] {
            counts.up(status);
        }
        assert_eq!(counts.seen().collect::<Vec<_>>(), [(200, 2), (404, 1)]);
    }
}
