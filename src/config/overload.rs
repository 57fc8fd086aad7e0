//! `class` of routes, and `[server.overload]`: who is let in last when there is more to do than can be done.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::document::At;
use super::scope::Scope;

/// How much a request matters when not all can be served.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Class {
    /// Given up last.
    Critical,
    /// What is not said to be anything else.
    #[default]
    Normal,
    /// Given up first.
    Sheddable,
}

impl Class {
    /// All of them, the most important first.
    pub const ALL: [Self; 3] = [Self::Critical, Self::Normal, Self::Sheddable];

    /// As the configuration writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Critical => "critical",
            Self::Normal => "normal",
            Self::Sheddable => "sheddable",
        }
    }
}

/// Signs of overload of the gateway itself; each is off by default.
#[derive(Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawOverload {
    /// Requests at once; 0 = no bound.
    max_in_flight: u32,
    /// How late the workers may be; "0s" = whatever.
    max_lag: String,
    /// Memory of the process; "0B" = whatever.
    max_memory: String,
}

impl Default for RawOverload {
    fn default() -> Self {
        Self {
            max_in_flight: 0,
            max_lag: "0s".into(),
            max_memory: "0B".into(),
        }
    }
}

/// `[server.overload]`, validated; at least one sign is watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Overload {
    /// Requests at once.
    pub max_in_flight: Option<u32>,
    /// How late the workers may be.
    pub max_lag: Option<Duration>,
    /// Memory of the process, bytes.
    pub max_memory: Option<u64>,
}

/// Below this a worker is late by chance: its timers are good to a millisecond, and a turn of its work takes as long.
const LEAST_LAG: Duration = Duration::from_millis(5);
/// What an idle process with a small configuration takes.
const LEAST_MEMORY: u64 = 32 << 20;

impl RawOverload {
    /// `None` when nothing is watched.
    pub(super) fn validate(&self, at: &At<'_>, scope: &mut Scope<'_>) -> Option<Overload> {
        let lag = scope.duration(&at.key("max_lag"), &self.max_lag);
        if !lag.is_zero() && lag < LEAST_LAG {
            scope.problem(
                &at.key("max_lag"),
                "must be at least 5ms, or \"0s\" for none",
            );
        }
        let memory = scope.size(&at.key("max_memory"), &self.max_memory);
        if memory > 0 && memory < LEAST_MEMORY {
            scope.problem(
                &at.key("max_memory"),
                "must be at least 32MiB, or \"0B\" for none",
            );
        }
        let watched = Overload {
            max_in_flight: (self.max_in_flight > 0).then_some(self.max_in_flight),
            max_lag: (!lag.is_zero()).then_some(lag),
            max_memory: (memory > 0).then_some(memory),
        };
        let any = watched.max_in_flight.is_some()
            || watched.max_lag.is_some()
            || watched.max_memory.is_some();
        any.then_some(watched)
    }
}
