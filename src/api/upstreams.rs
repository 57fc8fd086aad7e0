//! `GET /api/v1/upstreams`: endpoints, places, breakers.

use serde::{Deserialize, Deserializer, Serialize};

use super::ApiWord;

/// An upstream with its endpoints as they stand.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct UpstreamStatus {
    /// The name of its `[upstream.NAME]`.
    pub name: String,
    /// How an endpoint is picked.
    pub balance: ApiWord,
    /// Every endpoint.
    pub endpoints: Vec<EndpointStatus>,
    /// Why its endpoints are those of before; absent while their source says who they are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub discovery_error: Option<String>,
    /// How many requests it has at a time; absent without a bound.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<PlacesStatus>,
    /// The breaker of the whole upstream; absent without one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub breaker: Option<BreakerStatus>,
    /// After how many milliseconds another endpoint is asked: absent where none ever is, `null` while too little is
    /// known.
    #[serde(
        skip_serializing_if = "Option::is_none",
        deserialize_with = "there_or_null"
    )]
    pub hedge_after_ms: Option<Option<f64>>,
}

/// Reads a field that is there: `null` is a value too.
fn there_or_null<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Option<f64>>, D::Error> {
    Option::deserialize(from).map(Some)
}

/// An endpoint as it stands in its upstream.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct EndpointStatus {
    /// The endpoint as the configuration names it.
    pub endpoint: String,
    /// Where it is connected to.
    pub address: String,
    /// Configured weight.
    pub weight: u32,
    /// Weight now, after slow start and score.
    pub effective_weight: f64,
    /// Whether it is used only when no primary is usable.
    pub backup: bool,
    /// `up`, `down`, `ejected` or `drained`.
    pub state: ApiWord,
    /// Requests in flight.
    pub in_flight: i64,
    /// Why its weight is not the configured one, or why it gets nothing.
    pub why: Vec<String>,
    /// What its weight is multiplied by; absent where endpoints are not scored.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub score: Option<EndpointScore>,
}

/// What an endpoint's weight is multiplied by, and why.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct EndpointScore {
    /// The factor in force.
    pub factor: f64,
    /// The factor it moves towards.
    pub target: f64,
    /// What was seen.
    pub figures: EndpointFigures,
    /// What lowers the factor.
    pub reasons: Vec<WeightReason>,
}

/// What was seen of an endpoint in about the last two seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct EndpointFigures {
    /// Answers a second.
    pub qps: f64,
    /// Requests in flight.
    pub in_flight: u64,
    /// Mean time to the first byte; `None` without an answer.
    pub first_byte_ms: Option<f64>,
    /// Share of answers that failed.
    pub error_ratio: f64,
    /// Load that the endpoint reported, 1 being all it can do.
    pub load: Option<f64>,
}

/// Why a weight is lowered.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct WeightReason {
    /// The figure: `first_byte`, `errors`, `in_flight`, `load` or `qps`.
    pub figure: ApiWord,
    /// By what it multiplies the weight.
    pub factor: f64,
    /// In words.
    pub text: String,
}

/// The places of an upstream that has a bound.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct PlacesStatus {
    /// Requests it may have at a time.
    pub limit: u32,
    /// Whether the bound follows the latency.
    pub adaptive: bool,
    /// Latency without load in milliseconds, where it is known.
    pub unloaded_ms: Option<f64>,
    /// Places taken.
    pub in_flight: u32,
    /// Places kept for what matters more.
    pub kept_from: KeptFrom,
    /// Requests that wait for a place.
    pub queued: u32,
    /// How many may wait.
    pub queue: u32,
    /// Whether requests are refused now.
    pub refusing: bool,
    /// Requests refused since the start.
    pub refused: ClassCounts,
}

/// How many places a class of requests must leave to those that matter more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct KeptFrom {
    /// Of class `normal`.
    pub normal: u32,
    /// Of class `sheddable`.
    pub sheddable: u32,
}

/// Counts by class of requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ClassCounts {
    /// Of class `critical`.
    pub critical: u64,
    /// Of class `normal`.
    pub normal: u64,
    /// Of class `sheddable`.
    pub sheddable: u64,
}

/// A breaker: its state, the calls that decide about the next one, and for how long it refuses.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct BreakerStatus {
    /// `closed`, `open` or `half_open`.
    pub state: ApiWord,
    /// Calls that decide.
    pub calls: u64,
    /// Calls that failed.
    pub failed: u64,
    /// Calls that were slow.
    pub slow: u64,
    /// For how many milliseconds it refuses.
    pub open_for_ms: u64,
}
