//! Bodies of calls that change something, and what they are answered.

use serde::{Deserialize, Serialize};

use super::{ApiWord, LevelStatus, SideStatus};

/// Why a call was refused: the body of every answer that is no success.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Failure {
    /// In words.
    pub error: String,
}

/// Body of `PUT /api/v1/routes/ID/level`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LevelWanted {
    /// `normal`, `lean`, `fallback` or `off`.
    pub level: String,
    /// For how long, with a unit (`30m`); absent: until it is changed.
    #[serde(default, rename = "for", skip_serializing_if = "Option::is_none")]
    pub span: Option<String>,
}

/// Answer of `PUT /api/v1/routes/ID/level`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct LevelSet {
    /// The id of the route.
    pub route: String,
    /// The level as it is now.
    pub level: LevelStatus,
}

/// Answer of `POST /api/v1/routes/ID/sides/UPSTREAM/start` and `stop`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SideSet {
    /// The id of the route.
    pub route: String,
    /// The side as it is now, without its weight.
    pub side: SideStatus,
}

/// Answer of `POST /api/v1/upstreams/NAME/endpoints/ADDRESS/drain` and `enable`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct EndpointSet {
    /// The name of the upstream.
    pub upstream: String,
    /// The endpoint as the configuration names it.
    pub endpoint: String,
    /// `drained` or `enabled`.
    pub state: ApiWord,
}
