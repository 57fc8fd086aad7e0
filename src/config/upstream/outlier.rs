//! `[upstream.NAME.outlier]`: endpoints that do worse than the others are put aside, longer each time.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::document::At;
use crate::config::scope::Scope;
use crate::primitives::units::{self, Percent};

#[derive(Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawOutlier {
    /// Failures in a row that put an endpoint aside at once; 0 = never.
    consecutive: u32,
    /// How often endpoints are compared.
    interval: String,
    /// Standard deviations below the mean success rate; 0 = never.
    deviations: f64,
    /// Failures of an interval's answers that put an endpoint aside whatever the others do; "0%" = never.
    failure_rate: String,
    /// Fewest endpoints with enough requests to compare.
    min_endpoints: u32,
    /// Fewest requests of an interval for an endpoint to be judged.
    min_requests: u32,
    /// How long an endpoint stays aside the first time; the n-th time n times as long.
    base_ejection: String,
    /// The longest it stays aside.
    max_ejection: String,
    /// Most endpoints that are aside at once; one may always be.
    max_ejected: String,
}

impl Default for RawOutlier {
    fn default() -> Self {
        Self {
            consecutive: 5,
            interval: "10s".into(),
            deviations: 1.9,
            failure_rate: "0%".into(),
            min_endpoints: 5,
            min_requests: 100,
            base_ejection: "30s".into(),
            max_ejection: "300s".into(),
            max_ejected: "10%".into(),
        }
    }
}

/// When an endpoint is an outlier, and for how long it is put aside.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Outlier {
    /// Failures in a row that put an endpoint aside at once; 0 = never.
    pub consecutive: u32,
    /// How often endpoints are compared.
    pub interval: Duration,
    /// Standard deviations below the mean success rate; 0 = never.
    pub deviations: f64,
    /// Share of failures that puts an endpoint aside whatever the others do; zero = never.
    pub failure_rate: Percent,
    /// Fewest endpoints with enough requests to compare.
    pub min_endpoints: u32,
    /// Fewest requests of an interval for an endpoint to be judged.
    pub min_requests: u32,
    /// How long an endpoint stays aside the first time.
    pub base_ejection: Duration,
    /// The longest it stays aside.
    pub max_ejection: Duration,
    /// Most endpoints that are aside at once; one may always be.
    pub max_ejected: Percent,
}

/// Settings are compared whole, and a deviation that is read from a file is a number.
impl Eq for Outlier {}

impl RawOutlier {
    pub(super) fn validate(&self, at: &At<'_>, scope: &mut Scope<'_>) -> Outlier {
        if !(0.0..=10.0).contains(&self.deviations) {
            scope.problem(&at.key("deviations"), "must lie between 0 and 10");
        }
        for (key, value) in [
            ("min_endpoints", self.min_endpoints),
            ("min_requests", self.min_requests),
        ] {
            if value == 0 {
                scope.problem(&at.key(key), "must be at least 1");
            }
        }
        let mut share = |key: &str, text: &str| {
            let read = scope.read(&at.key(key), text, units::percent);
            read.unwrap_or(Percent::ZERO)
        };
        let failure_rate = share("failure_rate", &self.failure_rate);
        let max_ejected = share("max_ejected", &self.max_ejected);
        let outlier = Outlier {
            consecutive: self.consecutive,
            interval: scope.positive(&at.key("interval"), &self.interval),
            deviations: self.deviations,
            failure_rate,
            min_endpoints: self.min_endpoints,
            min_requests: self.min_requests,
            base_ejection: scope.positive(&at.key("base_ejection"), &self.base_ejection),
            max_ejection: scope.positive(&at.key("max_ejection"), &self.max_ejection),
            max_ejected,
        };
        if outlier.max_ejection < outlier.base_ejection {
            scope.problem(
                &at.key("max_ejection"),
                "must not be shorter than `base_ejection`",
            );
        }
        outlier
    }
}
