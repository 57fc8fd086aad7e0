//! `[upstream.NAME.passive]`: what live traffic tells about endpoints.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::balance::Balance;
use crate::config::document::At;
use crate::config::scope::Scope;
use crate::primitives::units::{self, Percent};

#[derive(Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawPassive {
    /// Failures within fail_timeout that put an endpoint aside; 0 = never.
    max_fails: u32,
    /// The window, and how long the endpoint stays aside.
    fail_timeout: String,
    /// Ramp of the weight after recovery; "0s" = none.
    slow_start: String,
    /// Below this share of usable endpoints use them all; "0%" = never.
    min_healthy: String,
}

impl Default for RawPassive {
    fn default() -> Self {
        Self {
            max_fails: 3,
            fail_timeout: "10s".into(),
            slow_start: "0s".into(),
            min_healthy: "0%".into(),
        }
    }
}

/// What live traffic tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Passive {
    /// Failures within `fail_timeout` that put an endpoint aside; 0 = never.
    pub max_fails: u32,
    /// The window, and how long the endpoint stays aside.
    pub fail_timeout: Duration,
    /// How long an endpoint that came back takes to its whole weight; zero = none.
    pub slow_start: Duration,
    /// Below this share of usable endpoints all are used.
    pub min_healthy: Percent,
}

impl RawPassive {
    pub(super) fn validate(
        &self,
        balance: &Balance,
        at: &At<'_>,
        scope: &mut Scope<'_>,
    ) -> Passive {
        let slow_start = scope.duration(&at.key("slow_start"), &self.slow_start);
        if !slow_start.is_zero() && matches!(balance, Balance::ConsistentHash { .. }) {
            scope.problem(
                &at.key("slow_start"),
                "means nothing with balance = \"consistent_hash\": keys go where they belong at once",
            );
        }
        let min_healthy = scope.read(&at.key("min_healthy"), &self.min_healthy, units::percent);
        Passive {
            max_fails: self.max_fails,
            fail_timeout: scope.positive(&at.key("fail_timeout"), &self.fail_timeout),
            slow_start,
            min_healthy: min_healthy.unwrap_or(Percent::ZERO),
        }
    }
}
