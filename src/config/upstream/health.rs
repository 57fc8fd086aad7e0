//! `[upstream.NAME.health]`: active checks.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::document::At;
use crate::config::scope::Scope;

#[derive(Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawHealth {
    /// Path to GET; absent = a TCP connect.
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<String>,
    /// Between two checks.
    interval: String,
    /// Of one check.
    timeout: String,
    /// Successes to come back.
    rise: u32,
    /// Failures to go.
    fall: u32,
    /// Good statuses; empty = any 2xx.
    expect: Vec<u16>,
}

impl Default for RawHealth {
    fn default() -> Self {
        Self {
            path: None,
            interval: "5s".into(),
            timeout: "1s".into(),
            rise: 2,
            fall: 3,
            expect: Vec::new(),
        }
    }
}

/// Active checks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// Path to GET; `None` = a TCP connect.
    pub path: Option<String>,
    /// Between two checks.
    pub interval: Duration,
    /// Of one check.
    pub timeout: Duration,
    /// Successes to come back.
    pub rise: u32,
    /// Failures to go.
    pub fall: u32,
    /// Good statuses; empty = any 2xx.
    pub expect: Vec<u16>,
}

impl RawHealth {
    pub(super) fn validate(&self, at: &At<'_>, scope: &mut Scope<'_>) -> Health {
        for (key, value) in [("rise", self.rise), ("fall", self.fall)] {
            if value == 0 {
                scope.problem(&at.key(key), "must be at least 1");
            }
        }
        if self
            .path
            .as_ref()
            .is_some_and(|path| !path.starts_with('/') || path.parse::<http::Uri>().is_err())
        {
            scope.problem(&at.key("path"), "must be a path, as \"/healthz\"");
        }
        let expect = at.key("expect");
        for (index, status) in self.expect.iter().enumerate() {
            if !(100..600).contains(status) {
                scope.problem(&expect.index(index), format!("{status} is no HTTP status"));
            }
        }
        if self.path.is_none() && !self.expect.is_empty() {
            scope.problem(
                &expect,
                "means nothing without `path`: a TCP connect has no status",
            );
        }
        Health {
            path: self.path.clone(),
            interval: scope.positive(&at.key("interval"), &self.interval),
            timeout: scope.positive(&at.key("timeout"), &self.timeout),
            rise: self.rise,
            fall: self.fall,
            expect: self.expect.clone(),
        }
    }
}
