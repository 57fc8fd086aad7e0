//! `GET /info` and the probes: the process as a whole.

use serde::{Deserialize, Serialize};

use super::{ApiWord, ClassCounts, ReloadReport, TrialReport, UpgradeReport};

/// Answer of `/livez`, `/readyz` and their other names.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct HealthStatus {
    /// `UP` or `OUT_OF_SERVICE`.
    pub status: ApiWord,
    /// Why the gateway is not ready; absent when it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<ApiWord>,
    /// What readiness is made of; with `?verbose` only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub checks: Option<Vec<NamedCheck>>,
}

/// One thing that readiness is made of.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct NamedCheck {
    /// What is looked at.
    pub name: ApiWord,
    /// Whether it is as it should be.
    pub ok: bool,
    /// How it ended, where it is something that ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub result: Option<ApiWord>,
}

/// Answer of `/info`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Info {
    /// Version of the program.
    pub version: ApiWord,
    /// Commit it was built from.
    pub commit: ApiWord,
    /// The file that was read.
    pub config_file: String,
    /// Hash of the configuration in force; `null` before there is one.
    pub config_hash: Option<String>,
    /// Number of the process.
    pub pid: u32,
    /// When the process started, RFC 3339.
    pub started: String,
    /// For how long the process runs.
    pub uptime_seconds: u64,
    /// How the last reload ended; `null` before the first.
    pub last_reload: Option<ReloadReport>,
    /// How the trial under way stands, or how the last one ended; `null` before the first.
    pub trial: Option<TrialReport>,
    /// How the last upgrade ended; `null` before the first.
    pub last_upgrade: Option<UpgradeReport>,
    /// Requests in flight.
    pub in_flight: u64,
    /// Open connections of clients.
    pub connections: u32,
    /// Whether the gateway is ready.
    pub ready: bool,
    /// What is refused because more comes in than can be served.
    pub overload: OverloadStatus,
    /// Bodies that are kept until it is known who sent them; `null` while no request is signed.
    pub auth_buffer: Option<AuthBufferStatus>,
    /// Certificates that clients are shown; `null` before there is a configuration.
    pub certificates: Option<Vec<CertificateStatus>>,
    /// Why the gateway is not ready; `null` when it is.
    pub not_ready: Option<ApiWord>,
}

/// What the gateway as a whole refuses because more comes in than can be served.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct OverloadStatus {
    /// The most important class that is refused now, or `nothing`.
    pub refused_now: ApiWord,
    /// Requests in flight.
    pub in_flight: u32,
    /// By how many milliseconds the workers are late.
    pub lag_ms: f64,
    /// Requests refused since the start.
    pub refused: ClassCounts,
}

/// The buffer of bodies whose senders are not known yet.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct AuthBufferStatus {
    /// Bytes taken.
    pub bytes: u64,
    /// Bytes there are.
    pub most: u64,
    /// Bodies refused since the start.
    pub refused: u64,
}

/// A certificate that clients are shown, and for how long it holds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct CertificateStatus {
    /// The name of the listener.
    pub listener: String,
    /// The name it is shown for.
    pub name: String,
    /// When it ends, RFC 3339.
    pub not_after: String,
    /// Whole days until then; negative once it is over.
    pub days_left: i64,
}
