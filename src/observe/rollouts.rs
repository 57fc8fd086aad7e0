//! What levels, fallbacks, splits and mirrors count.

use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::Mutex;
use prometheus::proto::MetricFamily;

use super::family::{counter, gauge, histogram, labels, observed};
use super::stats::{Count, Histogram, Level as Gauge, RouteStats};
use crate::filter::Reason;
use crate::primitives::interned::Interned;
use crate::primitives::level::Level;
use crate::primitives::{RouteName, UpstreamName};

/// Who answered in place of the upstream: label `kind`, and `X-Fallback`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FallbackKind {
    /// Another upstream.
    Upstream,
    /// The last good answer to the same request.
    LastGood,
    /// A fixed answer.
    Fixed,
}

impl FallbackKind {
    const ALL: [Self; 3] = [Self::Upstream, Self::LastGood, Self::Fixed];

    /// The label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Upstream => "upstream",
            Self::LastGood => "last_good",
            Self::Fixed => "fixed",
        }
    }
}

/// What called for a fallback: label `cause`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FallbackCalled {
    /// The request would have been refused.
    Refused(Reason),
    /// The upstream answered this status.
    Status(u16),
    /// The route's level.
    Level,
}

/// Room for each cause.
const CAUSES: usize = Reason::ALL.len() + 2;

impl FallbackCalled {
    /// The label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Refused(reason) => reason.code(),
            Self::Status(_) => "status",
            Self::Level => "level",
        }
    }

    /// The status that the client was spared.
    pub const fn status(self) -> Option<u16> {
        match self {
            Self::Refused(reason) => Some(reason.status()),
            Self::Status(status) => Some(status),
            Self::Level => None,
        }
    }

    const fn index(self) -> usize {
        match self {
            Self::Refused(reason) => reason as usize,
            Self::Status(_) => Reason::ALL.len(),
            Self::Level => Reason::ALL.len() + 1,
        }
    }

    fn label(index: usize) -> &'static str {
        match Reason::ALL.get(index) {
            Some(reason) => reason.code(),
            None if index == Reason::ALL.len() => "status",
            None => "level",
        }
    }
}

/// A route's level, and how often its fallback answered.
#[derive(Debug, Default)]
pub struct RouteMarks {
    level: AtomicU8,
    fallbacks: OnceLock<Box<[[Count; CAUSES]; FallbackKind::ALL.len()]>>,
}

impl RouteMarks {
    /// The level now.
    pub fn level(&self) -> Level {
        Level::from_u8(self.level.load(Ordering::Relaxed))
    }

    /// Goes to a level.
    pub fn set_level(&self, level: Level) {
        self.level.store(level as u8, Ordering::Relaxed);
    }

    /// The fallback answered.
    pub fn fell(&self, kind: FallbackKind, called: FallbackCalled) {
        let row = || std::array::from_fn(|_| Count::default());
        let counts = self
            .fallbacks
            .get_or_init(|| Box::new(std::array::from_fn(|_| row())));
        counts[kind as usize][called.index()].up();
    }
}

/// One side of a split.
#[derive(Debug, Default)]
pub struct SideStats {
    /// What it answered.
    pub served: RouteStats,
    stopped: AtomicBool,
}

impl SideStats {
    /// Says whether it was stopped.
    pub fn set_stopped(&self, stopped: bool) {
        self.stopped.store(stopped, Ordering::Relaxed);
    }
}

/// What became of a copy: label `outcome` of `gateway_mirror_requests_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mirrored {
    /// The copy was answered, whatever the status.
    Answered,
    /// The copy was answered with 5xx.
    ServerError,
    /// The copy could not be sent, or was not answered in time.
    Failed,
    /// Left out: too many were under way.
    Full,
    /// Left out: its body was too long, or not whole.
    Body,
}

impl Mirrored {
    const ALL: [(Self, &'static str); 5] = [
        (Self::Answered, "answered"),
        (Self::ServerError, "5xx"),
        (Self::Failed, "failed"),
        (Self::Full, "full"),
        (Self::Body, "body"),
    ];
}

/// Copies of a route's requests.
#[derive(Debug, Default)]
pub struct MirrorStats {
    /// Under way.
    pub in_flight: Gauge,
    latency: Histogram,
    outcomes: [Count; Mirrored::ALL.len()],
}

impl MirrorStats {
    /// Counts a copy.
    pub fn count(&self, outcome: Mirrored) {
        self.outcomes[outcome as usize].up();
    }

    /// The head of an answer came after so long.
    pub fn took(&self, took: Duration) {
        self.latency.observe(took);
    }
}

type ByUpstream<S> = Mutex<Interned<(RouteName, UpstreamName), S>>;

/// What levels, fallbacks, splits and mirrors count.
#[derive(Debug, Default)]
pub struct Rollouts {
    routes: Mutex<Interned<RouteName, RouteMarks>>,
    sides: ByUpstream<SideStats>,
    mirrors: ByUpstream<MirrorStats>,
}

impl Rollouts {
    /// Level and fallbacks of a route.
    pub fn route(&self, name: &RouteName) -> Arc<RouteMarks> {
        self.routes
            .lock()
            .find_or(name.clone(), |_| RouteMarks::default())
    }

    /// The counts of a side.
    pub fn side(&self, route: &RouteName, upstream: &UpstreamName) -> Arc<SideStats> {
        let key = (route.clone(), upstream.clone());
        self.sides.lock().find_or(key, |_| SideStats::default())
    }

    /// The counts of a mirror.
    pub fn mirror(&self, route: &RouteName, upstream: &UpstreamName) -> Arc<MirrorStats> {
        let key = (route.clone(), upstream.clone());
        self.mirrors.lock().find_or(key, |_| MirrorStats::default())
    }

    /// Shows a route from now on, with the sides of its split and its mirror: it is in force.
    pub fn register<'s>(
        &self,
        name: &RouteName,
        sides: impl IntoIterator<Item = &'s UpstreamName>,
        mirror: Option<&UpstreamName>,
    ) {
        self.routes.lock().register(name);
        let mut shown = self.sides.lock();
        for upstream in sides {
            shown.register(&(name.clone(), upstream.clone()));
        }
        drop(shown);
        if let Some(upstream) = mirror {
            let key = (name.clone(), upstream.clone());
            self.mirrors.lock().register(&key);
        }
    }

    /// Forgets what nobody counts any more.
    pub(super) fn prune(&self) {
        self.routes.lock().prune();
        self.sides.lock().prune();
        self.mirrors.lock().prune();
    }

    /// All families.
    pub(super) fn families(&self) -> Vec<MetricFamily> {
        let mut families = self.of_routes();
        families.extend(self.of_sides());
        families.extend(self.of_mirrors());
        families
    }

    fn of_routes(&self) -> Vec<MetricFamily> {
        let mut levels = gauge(
            "gateway_route_level",
            "How much of its work a route does: 0 all, 1 no optional work, 2 its fallback, 3 nothing",
        );
        let mut fallbacks = counter(
            "gateway_fallbacks_total",
            "Answers given in place of the upstream, by kind and by what called for them",
        );
        for (route, marks) in self.routes.lock().known() {
            let route = route.as_str();
            levels.push(labels(&[("route", route)]), f64::from(marks.level() as u8));
            let Some(counts) = marks.fallbacks.get() else {
                continue;
            };
            for (kind, row) in FallbackKind::ALL.into_iter().zip(counts.iter()) {
                let seen = row
                    .iter()
                    .enumerate()
                    .filter(|(_, count)| count.value() > 0);
                for (index, count) in seen {
                    let cause = FallbackCalled::label(index);
                    let named = [("route", route), ("kind", kind.as_str()), ("cause", cause)];
                    fallbacks.push(labels(&named), count.value() as f64);
                }
            }
        }
        vec![levels.done(), fallbacks.done()]
    }

    fn of_sides(&self) -> Vec<MetricFamily> {
        let mut requests = counter(
            "gateway_split_requests_total",
            "Answers of each side of a split by exact status, before any fallback",
        );
        let mut seconds = histogram(
            "gateway_split_seconds",
            "Time from the request's head to the end of its answer, by side of a split",
        );
        let mut stopped = gauge(
            "gateway_split_stopped",
            "Whether a side of a split was stopped",
        );
        for ((route, upstream), stats) in self.sides.lock().known() {
            let place = [("route", route.as_str()), ("upstream", upstream.as_str())];
            for (status, count) in stats.served.statuses.seen() {
                let status = status.to_string();
                let named = [place[0], place[1], ("status", &status)];
                requests.push(labels(&named), count as f64);
            }
            let mut all = ([0; super::stats::BUCKETS.len() + 1], 0.0);
            for (_, _, latency) in stats.served.latencies() {
                let (counts, sum) = observed(latency);
                all.1 += sum;
                all.0
                    .iter_mut()
                    .zip(counts)
                    .for_each(|(all, one)| *all += one);
            }
            seconds.push(labels(&place), all);
            let is_stopped = stats.stopped.load(Ordering::Relaxed);
            stopped.push(labels(&place), f64::from(u8::from(is_stopped)));
        }
        vec![requests.done(), seconds.done(), stopped.done()]
    }

    fn of_mirrors(&self) -> Vec<MetricFamily> {
        let mut requests = counter(
            "gateway_mirror_requests_total",
            "Copies of requests, by what became of them",
        );
        let mut seconds = histogram(
            "gateway_mirror_seconds",
            "Time from sending a copy to the head of its answer",
        );
        let mut in_flight = gauge("gateway_mirror_in_flight", "Copies under way");
        for ((route, upstream), stats) in self.mirrors.lock().known() {
            let place = [("route", route.as_str()), ("upstream", upstream.as_str())];
            for (outcome, label) in Mirrored::ALL {
                let named = [place[0], place[1], ("outcome", label)];
                let count = stats.outcomes[outcome as usize].value();
                requests.push(labels(&named), count as f64);
            }
            seconds.push(labels(&place), observed(&stats.latency));
            in_flight.push(labels(&place), stats.in_flight.value() as f64);
        }
        vec![requests.done(), seconds.done(), in_flight.done()]
    }
}
