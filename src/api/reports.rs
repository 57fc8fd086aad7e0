//! How reloads, trials and upgrades ended.

use serde::{Deserialize, Serialize};

use super::{ApiWord, Behaviour};

/// How a reload ended.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ReloadReport {
    /// `ok` or `error`.
    pub result: ApiWord,
    /// When, RFC 3339.
    pub at: String,
    /// Hash of the configuration in force afterwards.
    pub config_hash: String,
    /// Why the reload failed, one problem a line.
    pub error: Option<String>,
    /// Keys that changed but take effect only with an upgrade.
    pub needs_upgrade: Vec<ApiWord>,
}

/// How an upgrade ended.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct UpgradeReport {
    /// `ok` or `error`.
    pub result: ApiWord,
    /// When, RFC 3339.
    pub at: String,
    /// Why the upgrade failed.
    pub error: Option<String>,
    /// The process that serves now.
    pub pid: u32,
    /// What the new binary calls itself, once it was asked.
    pub version: Option<String>,
}

/// How a configuration on trial stands, or how the trial ended.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct TrialReport {
    /// `running`, `confirmed`, `worse`, `expired` or `replaced`.
    pub state: ApiWord,
    /// Hash of the configuration on trial.
    pub config_hash: String,
    /// Hash of the configuration that is in force again unless this one is confirmed.
    pub fallback_hash: String,
    /// Length of the trial in seconds.
    pub span_seconds: f64,
    /// What is left of the trial, seconds.
    pub left_seconds: f64,
    /// Routes with traffic, before and since.
    pub routes: Vec<RouteComparison>,
    /// What got clearly worse, with the route's name.
    pub worse: Vec<String>,
}

/// One route in the minute before a trial began and since.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RouteComparison {
    /// The name of the route.
    pub route: String,
    /// The minute before.
    pub before: Behaviour,
    /// The time since.
    pub since: Behaviour,
}
