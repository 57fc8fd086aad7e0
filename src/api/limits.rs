//! `GET /api/v1/limits`: what limits decided.

use serde::{Deserialize, Serialize};

use super::ApiWord;

/// A limit with what it decided since the start.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct LimitStatus {
    /// The name of its `[limit.NAME]`.
    pub name: String,
    /// By what requests are counted together.
    pub key: String,
    /// `token_bucket`, `quota`, ...
    pub algorithm: ApiWord,
    /// Names of its tiers.
    pub tiers: Vec<String>,
    /// Whether the limit only counts.
    pub dry_run: bool,
    /// Requests let through.
    pub allowed: u64,
    /// Requests that waited first.
    pub delayed: u64,
    /// Requests refused.
    pub refused: u64,
    /// Requests that had no key.
    pub skipped: u64,
    /// Requests that were let through and counted back.
    pub returned: u64,
    /// Requests that would be refused if the limit did more than count.
    pub would_refuse: u64,
    /// Requests that would wait if the limit did more than count.
    pub would_delay: u64,
}
