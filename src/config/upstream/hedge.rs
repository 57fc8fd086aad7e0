//! `[upstream.NAME.hedge]`: a second try while the first is still awaited.

use std::time::Duration;

use http::Method;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::document::At;
use crate::config::method::method;
use crate::config::scope::Scope;
use crate::primitives::units;

#[derive(Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawHedge {
    /// How long an answer is awaited before another endpoint is asked too: "p95" of the upstream's latency, or a duration.
    after: String,
    /// Never sooner than that.
    at_least: String,
    /// Further tries at most.
    max: u32,
    /// Methods that may be sent twice.
    methods: Vec<String>,
}

impl Default for RawHedge {
    fn default() -> Self {
        Self {
            after: "p95".into(),
            at_least: "5ms".into(),
            max: 1,
            methods: ["GET", "HEAD", "OPTIONS"].map(str::to_owned).to_vec(),
        }
    }
}

/// A second try while the first is still awaited.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hedge {
    /// How long the answer is awaited before.
    pub after: HedgeAfter,
    /// Never sooner than that.
    pub at_least: Duration,
    /// Further tries at most.
    pub max: u32,
    /// Methods that may be sent twice.
    pub methods: Vec<Method>,
}

/// How long an answer is awaited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HedgeAfter {
    /// So long that such a percentage of answers has come.
    Percentile(u8),
    /// So long.
    Fixed(Duration),
}

/// Most further tries: each is load that nobody asked for.
const MOST: u32 = 3;

impl RawHedge {
    pub(super) fn validate(&self, at: &At<'_>, scope: &mut Scope<'_>) -> Hedge {
        if !(1..=MOST).contains(&self.max) {
            let message = format!("must lie between 1 and {MOST}");
            scope.problem(&at.key("max"), message);
        }
        let list = at.key("methods");
        if self.methods.is_empty() {
            scope.problem(&list, "an empty list would send nothing twice");
        }
        let methods = self.methods.iter().enumerate();
        let methods = methods
            .filter_map(|(i, text)| scope.read(&list.index(i), text, method))
            .collect();
        let after = scope.read(&at.key("after"), &self.after, after);
        Hedge {
            after: after.unwrap_or(HedgeAfter::Percentile(95)),
            at_least: scope.duration(&at.key("at_least"), &self.at_least),
            max: self.max,
            methods,
        }
    }
}

fn after(text: &str) -> Result<HedgeAfter, String> {
    let Some(percent) = text.strip_prefix('p') else {
        return match units::duration(text)? {
            Duration::ZERO => Err("must be more than zero".into()),
            span => Ok(HedgeAfter::Fixed(span)),
        };
    };
    let percent = percent.parse().ok().filter(|p| (50..=99).contains(p));
    percent
        .map(HedgeAfter::Percentile)
        .ok_or_else(|| format!("{text:?} must lie between \"p50\" and \"p99\""))
}
