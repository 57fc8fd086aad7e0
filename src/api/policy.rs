//! What a route does in bad times and while something new is tried.

use serde::{Deserialize, Serialize};

use super::{ApiWord, Behaviour};

/// The policies of a route as they stand.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct PolicyStatus {
    /// How much of its work the route does.
    pub level: LevelStatus,
    /// Further upstreams that get a share of the requests; `null` without a split.
    pub sides: Option<Vec<SideStatus>>,
    /// What is answered in the upstream's place; `null` without `[route.fallback]`.
    pub fallback: Option<FallbackStatus>,
    /// Where copies of requests go; `null` without `[route.mirror]`.
    pub mirror: Option<MirrorStatus>,
}

/// A route's level and where it comes from.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct LevelStatus {
    /// The level in force.
    pub level: ApiWord,
    /// The level an operator set.
    pub operator: ApiWord,
    /// For how many seconds the operator's level still holds; absent: until it is changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub left_seconds: Option<f64>,
    /// The level the route took by itself.
    pub own: ApiWord,
    /// The level as which the route acts where it lacks what the one in force needs; absent where it lacks nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub acts_as: Option<ApiWord>,
}

/// A side of a route's split.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SideStatus {
    /// The name of its upstream.
    pub upstream: String,
    /// Why the side was stopped; `null` while it goes on.
    pub stopped: Option<SideStopped>,
    /// How the side behaved lately.
    pub window: Behaviour,
    /// Configured weight; absent in the answer of a call that stops or starts the side.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weight: Option<u32>,
}

/// Why and when a side was stopped.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SideStopped {
    /// In words.
    pub reason: String,
    /// When, seconds since 1970.
    pub at_unix: u64,
}

/// What is answered in place of the upstream.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct FallbackStatus {
    /// Kinds in the order in which they are tried: `upstream`, `last_good`, `fixed`.
    pub kinds: Vec<ApiWord>,
    /// The name of the upstream that is asked instead.
    pub upstream: Option<String>,
    /// Answers that are kept; `null` where none are.
    pub kept_answers: Option<usize>,
    /// Bytes of the answers that are kept.
    pub kept_bytes: Option<usize>,
}

/// Where copies of a route's requests go.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct MirrorStatus {
    /// The name of the upstream.
    pub upstream: String,
    /// Share of the requests that are copied, 0 to 1.
    pub share: f64,
}
