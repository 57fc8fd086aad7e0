//! `[upstream.NAME.concurrency]`: how many requests an upstream gets at once, and who waits for a place.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::document::At;
use crate::config::scope::Scope;

#[derive(Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawConcurrency {
    /// Requests at once: all there are, or with `adaptive` the most it may come to.
    #[serde(skip_serializing_if = "Option::is_none")]
    max: Option<u32>,
    /// Find the limit from the upstream's latency.
    adaptive: bool,
    /// With `adaptive`: the least it may come to.
    #[serde(skip_serializing_if = "Option::is_none")]
    min: Option<u32>,
    /// Requests that may wait for a place; 0 = none.
    queue: u32,
    /// How long one may wait.
    queue_timeout: String,
}

impl Default for RawConcurrency {
    fn default() -> Self {
        Self {
            max: None,
            adaptive: false,
            min: None,
            queue: 100,
            queue_timeout: "200ms".into(),
        }
    }
}

/// How many at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConcurrencyLimit {
    /// So many.
    Fixed(u32),
    /// As many as the upstream's latency bears, within these bounds.
    Adaptive {
        /// Not fewer.
        min: u32,
        /// Not more.
        max: u32,
    },
}

/// `[upstream.NAME.concurrency]`, validated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Concurrency {
    /// Requests at once.
    pub limit: ConcurrencyLimit,
    /// Requests that may wait for a place.
    pub queue: u32,
    /// How long one may wait.
    pub queue_timeout: Duration,
}

/// Most that can wait: each holds its request in memory, and a connection.
const LONGEST_QUEUE: u32 = 100_000;
/// Most that can be asked for, for the same reason.
const MOST: u32 = 1_000_000;
/// Bounds of an adaptive limit, where none are given (Envoy's are the same).
const ADAPTIVE: (u32, u32) = (3, 1000);

impl RawConcurrency {
    pub(super) fn validate(&self, at: &At<'_>, scope: &mut Scope<'_>) -> Concurrency {
        for (key, value, most) in [("max", self.max, MOST), ("min", self.min, MOST)] {
            if value.is_some_and(|value| value == 0 || value > most) {
                scope.problem(&at.key(key), format!("must lie between 1 and {most}"));
            }
        }
        if self.queue > LONGEST_QUEUE {
            scope.problem(&at.key("queue"), format!("at most {LONGEST_QUEUE}"));
        }
        let limit = if self.adaptive {
            let max = self
                .max
                .unwrap_or_else(|| ADAPTIVE.1.max(self.min.unwrap_or(0)));
            let min = self.min.unwrap_or(ADAPTIVE.0.min(max));
            if min > max {
                scope.problem(&at.key("min"), format!("must not exceed `max`, {max}"));
            }
            ConcurrencyLimit::Adaptive { min, max }
        } else {
            if self.min.is_some() {
                let why = "means nothing without `adaptive = true`: a fixed limit is `max`";
                scope.problem(&at.key("min"), why);
            }
            if self.max.is_none() {
                scope.problem(at, "needs `max`, or `adaptive = true`");
            }
            ConcurrencyLimit::Fixed(self.max.unwrap_or(MOST))
        };
        Concurrency {
            limit,
            queue: self.queue,
            queue_timeout: scope.positive(&at.key("queue_timeout"), &self.queue_timeout),
        }
    }
}
