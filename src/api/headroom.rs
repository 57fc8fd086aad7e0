//! `GET /api/v1/headroom`: how much more the process could serve.

use serde::{Deserialize, Serialize};

use super::ApiWord;

/// How much more could be served, with what the estimate rests on.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Headroom {
    /// Time between the first and the last reading, seconds.
    pub seconds: f64,
    /// Why there is no estimate; empty when there is one.
    pub too_thin: Vec<String>,
    /// Answers.
    pub requests: u64,
    /// Answers per second.
    pub rate: f64,
    /// CPU time of the process per answer, microseconds.
    pub cpu_us_per_request: f64,
    /// Processors the process may keep busy.
    pub processors: f64,
    /// Processors the process kept busy.
    pub processors_used: f64,
    /// Processors nobody used.
    pub processors_idle: f64,
    /// Each worker.
    pub workers: Vec<WorkerLoad>,
    /// The number of the worker that is the limit among its like.
    pub busiest: Option<usize>,
    /// Latency in the first half of the readings and in the second.
    pub latency: [HeadroomLatency; 2],
    /// The estimate; `null` when too little was seen.
    pub estimate: Option<HeadroomEstimate>,
}

/// What one worker did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct WorkerLoad {
    /// Share of a processor, 0 to 1.
    pub busy: f64,
    /// By how many milliseconds the worker was late at worst when it should have looked at the clock: how long a request
    /// may have waited.
    pub lag_ms: f64,
}

/// Quantiles over all routes, milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct HeadroomLatency {
    /// Half of the answers were as fast.
    pub p50_ms: f64,
    /// 99 of 100 answers were as fast.
    pub p99_ms: f64,
}

/// How much more could be served until something is full.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct HeadroomEstimate {
    /// Answers per second beyond those of now.
    pub more: f64,
    /// Answers per second beyond those of now if the workers had equal shares.
    pub more_if_even: f64,
    /// What is full first: `worker` (the busiest), `processors` (those this process may use) or `host` (with what else
    /// runs on them).
    pub limit: ApiWord,
    /// What counts as full, 0 to 1.
    pub full: f64,
    /// What the estimate takes for granted.
    pub assumes: ApiWord,
}
