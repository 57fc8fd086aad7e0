//! What passed through a route, in figures.

use serde::{Deserialize, Serialize};

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
