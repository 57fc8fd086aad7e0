//! `[route.degrade]`: which level a route takes by itself.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::document::At;
use crate::config::scope::Scope;
use crate::primitives::level::Level;

/// Which level a route takes by itself.
#[derive(Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawDegrade {
    /// Level while the breaker of its upstream is open.
    #[serde(skip_serializing_if = "Option::is_none")]
    on_breaker: Option<RawLevel>,
    /// Level while requests of it are shed.
    #[serde(skip_serializing_if = "Option::is_none")]
    on_overload: Option<RawLevel>,
    /// How long after the last such request.
    hold: String,
}

impl Default for RawDegrade {
    fn default() -> Self {
        Self {
            on_breaker: None,
            on_overload: None,
            hold: "5s".into(),
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum RawLevel {
    Lean,
    Fallback,
    Off,
}

impl RawLevel {
    fn level(self) -> Level {
        match self {
            Self::Lean => Level::Lean,
            Self::Fallback => Level::Fallback,
            Self::Off => Level::Off,
        }
    }
}

/// Which level a route takes by itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Degrade {
    /// Level while the breaker of its upstream is open.
    pub on_breaker: Option<Level>,
    /// Level while requests of it are shed.
    pub on_overload: Option<Level>,
    /// How long after the last such request.
    pub hold: Duration,
}

/// Longest time that a level is held by itself.
const LONGEST: Duration = Duration::from_secs(3600);

impl RawDegrade {
    pub(super) fn validate(
        &self,
        at: &At<'_>,
        has_fallback: bool,
        scope: &mut Scope<'_>,
    ) -> Degrade {
        let levels = [
            ("on_breaker", self.on_breaker),
            ("on_overload", self.on_overload),
        ];
        let [on_breaker, on_overload] = levels.map(|(key, level)| {
            if level == Some(RawLevel::Fallback) && !has_fallback {
                scope.problem(&at.key(key), "the route has no [route.fallback]");
            }
            level.map(RawLevel::level)
        });
        let hold = scope.positive(&at.key("hold"), &self.hold);
        if hold > LONGEST {
            scope.problem(&at.key("hold"), "at most 1h");
        }
        Degrade {
            on_breaker,
            on_overload,
            hold,
        }
    }
}
