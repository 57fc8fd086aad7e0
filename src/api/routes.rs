//! `GET /api/v1/routes`, and what the windows of a route hold.

use serde::{Deserialize, Serialize};

use super::{BreakerStatus, PolicyStatus, Word};

/// A route with what it does now.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RouteStatus {
    /// The route as it is configured.
    #[serde(flatten)]
    pub route: RouteDescription,
    /// The route's own breaker; absent without one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub breaker: Option<BreakerStatus>,
    /// Requests in flight.
    pub in_flight: i64,
    /// What the route did lately.
    #[serde(flatten)]
    pub windows: RouteWindows,
}

/// A route as it is configured, and its policies as they stand.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RouteDescription {
    /// The name of the route, or its path where it has none.
    pub id: String,
    /// Pattern of paths.
    pub path: String,
    /// Methods; empty: all.
    pub methods: Vec<String>,
    /// Patterns of hosts; empty: all.
    pub hosts: Vec<String>,
    /// Routes with more of it are tried first.
    pub priority: i32,
    /// How much its requests matter when not all can be served: `critical`, `normal` or `sheddable`.
    pub class: Word,
    /// The name of the upstream; `null` where the gateway answers itself.
    pub upstream: Option<String>,
    /// Whether the route is closed for the time being.
    pub maintenance: bool,
    /// Filters in the order in which they are asked.
    pub filters: Vec<String>,
    /// Where the route is defined.
    pub location: String,
    /// What the route does in bad times and while something new is tried.
    pub policy: PolicyStatus,
}

/// Both windows of a route.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RouteWindows {
    /// The last ten seconds.
    pub last_10s: TrafficWindow,
    /// The last five minutes.
    pub last_5m: TrafficWindow,
}

/// What a route did in one window. Latencies are in milliseconds, interpolated within a bucket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct TrafficWindow {
    /// Length of the window in seconds; shorter just after the start.
    pub seconds: u64,
    /// Answers.
    pub requests: u64,
    /// Answers per second.
    pub rate: f64,
    /// Share of 5xx answers, 0 to 1.
    pub error_ratio: f64,
    /// Half of the answers were as fast.
    pub p50_ms: f64,
    /// Nine of ten answers were as fast.
    pub p90_ms: f64,
    /// 99 of 100 answers were as fast.
    pub p99_ms: f64,
}

/// How a route, or a side of one, behaved in a span of time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Behaviour {
    /// Answers.
    pub requests: u64,
    /// Share of 5xx answers, 0 to 1.
    pub error_ratio: f64,
    /// Share of requests that the gateway refused, 0 to 1.
    pub refusal_ratio: f64,
    /// 99 of 100 answers were as fast, in milliseconds.
    pub p99_ms: f64,
}
