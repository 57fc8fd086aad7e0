//! `balance` of an upstream: how an endpoint is chosen.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

#[derive(Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum RawBalance {
    WeightedRoundRobin,
    LeastConnections,
    PeakEwma,
    ConsistentHash,
    Random,
}
