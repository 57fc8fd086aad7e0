//! `[upstream.NAME.breaker]`, `[route.breaker]`, `[group.NAME.breaker]`: when to send nothing more for a while.

use std::borrow::Cow;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use super::retry::RawRetryOn;
use crate::config::document::At;
use crate::config::scope::Scope;
use crate::primitives::units::{self, Percent};

#[derive(Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(in crate::config) struct RawBreaker {
    /// The calls that are looked at: those of the last while, as "10s", or the last so many, as 100.
    window: RawWindow,
    /// Calls in the window before their rates mean anything; default: 20, or the window where that is smaller.
    #[serde(skip_serializing_if = "Option::is_none")]
    minimum_calls: Option<u32>,
    /// Share of failed calls that opens it.
    failure_rate: String,
    /// A call that takes so long to be answered is slow.
    slow_call: String,
    /// Share of slow calls that opens it.
    slow_rate: String,
    /// How long nothing is sent then.
    open_for: String,
    /// Calls that are let through afterwards and decide.
    half_open_calls: u32,
    /// What counts as a failure.
    failures: Vec<RawRetryOn>,
}

impl Default for RawBreaker {
    fn default() -> Self {
        use RawRetryOn::{BadGateway, Connect, GatewayTimeout, Reset, Timeout, Unavailable};
        Self {
            window: RawWindow::Time("10s".into()),
            minimum_calls: None,
            failure_rate: "50%".into(),
            slow_call: "2s".into(),
            slow_rate: "100%".into(),
            open_for: "5s".into(),
            half_open_calls: 5,
            failures: vec![
                Connect,
                Reset,
                Timeout,
                BadGateway,
                Unavailable,
                GatewayTimeout,
            ],
        }
    }
}

/// A duration is text; a bare number counts calls, which have no unit.
#[derive(Clone, Deserialize, Serialize)]
#[serde(untagged)]
enum RawWindow {
    Time(String),
    Calls(u32),
}

impl JsonSchema for RawWindow {
    fn schema_name() -> Cow<'static, str> {
        "RawWindow".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": ["string", "integer"], "format": "uint32" })
    }
}

/// When to send nothing more for a while.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Breaker {
    /// The calls that are looked at.
    pub window: BreakerWindow,
    /// Calls in the window before their rates mean anything; at least 1.
    pub minimum_calls: u32,
    /// Share of failed calls that opens it; never zero.
    pub failure_rate: Percent,
    /// A call that takes so long to be answered is slow.
    pub slow_call: Duration,
    /// Share of slow calls that opens it; never zero.
    pub slow_rate: Percent,
    /// How long nothing is sent then.
    pub open_for: Duration,
    /// Calls that are let through afterwards and decide; at least 1.
    pub half_open_calls: u32,
    /// What counts as a failure.
    pub failures: Failures,
}

/// The calls that a breaker looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BreakerWindow {
    /// Calls of the last while.
    Time(Duration),
    /// The last so many; at least 1.
    Calls(u32),
}

/// What a breaker counts as a failure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failures {
    /// No connection, or no TLS on it.
    pub connect: bool,
    /// The connection broke before the answer began, or the answer made no sense.
    pub reset: bool,
    /// The answer took too long.
    pub timeout: bool,
    /// Statuses that are failures.
    pub statuses: Vec<u16>,
}

/// Calls that rates should be made of, where the window holds so many.
const ENOUGH_CALLS: u32 = 20;
/// Bounds of the window: of time, since its parts are counted in pieces of a second and more; of calls for their memory.
const SHORTEST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(3600);
const MOST_CALLS: u32 = 100_000;
/// Most calls that may probe.
const MOST_PROBES: u32 = 1000;

impl RawBreaker {
    pub(in crate::config) fn validate(&self, at: &At<'_>, scope: &mut Scope<'_>) -> Breaker {
        let window = self.window(at, scope);
        let holds = match window {
            BreakerWindow::Time(_) => u32::MAX,
            BreakerWindow::Calls(calls) => calls,
        };
        let minimum_calls = self.minimum_calls.unwrap_or(ENOUGH_CALLS.min(holds));
        if minimum_calls == 0 {
            scope.problem(&at.key("minimum_calls"), "must be at least 1");
        }
        if minimum_calls > holds {
            scope.problem(
                &at.key("minimum_calls"),
                format!("the window holds {holds} calls, so {minimum_calls} are never reached"),
            );
        }
        if !(1..=MOST_PROBES).contains(&self.half_open_calls) {
            let message = format!("must lie between 1 and {MOST_PROBES}");
            scope.problem(&at.key("half_open_calls"), message);
        }
        let open_for = scope.positive(&at.key("open_for"), &self.open_for);
        if open_for > LONGEST {
            scope.problem(&at.key("open_for"), "at most \"1h\"");
        }
        Breaker {
            window,
            minimum_calls,
            failure_rate: rate(&at.key("failure_rate"), &self.failure_rate, scope),
            slow_call: scope.positive(&at.key("slow_call"), &self.slow_call),
            slow_rate: rate(&at.key("slow_rate"), &self.slow_rate, scope),
            open_for,
            half_open_calls: self.half_open_calls,
            failures: Failures {
                connect: self.failures.contains(&RawRetryOn::Connect),
                reset: self.failures.contains(&RawRetryOn::Reset),
                timeout: self.failures.contains(&RawRetryOn::Timeout),
                statuses: self
                    .failures
                    .iter()
                    .filter_map(RawRetryOn::status)
                    .collect(),
            },
        }
    }

    fn window(&self, at: &At<'_>, scope: &mut Scope<'_>) -> BreakerWindow {
        let here = at.key("window");
        match &self.window {
            RawWindow::Time(text) => {
                let read = |text: &str| match units::duration(text)? {
                    span if (SHORTEST..=LONGEST).contains(&span) => Ok(span),
                    _ => Err(format!("{text:?} must lie between \"1s\" and \"1h\"")),
                };
                BreakerWindow::Time(scope.read(&here, text, read).unwrap_or(SHORTEST))
            }
            RawWindow::Calls(calls) => {
                if !(1..=MOST_CALLS).contains(calls) {
                    let message = format!("must lie between 1 and {MOST_CALLS} calls");
                    scope.problem(&here, message);
                }
                BreakerWindow::Calls(*calls)
            }
        }
    }
}

/// Reads a share that some calls must reach.
fn rate(at: &At<'_>, text: &str, scope: &mut Scope<'_>) -> Percent {
    let read = |text: &str| match units::percent(text)? {
        Percent::ZERO => Err("must be more than 0%: every call reaches that".to_owned()),
        share => Ok(share),
    };
    scope.read(at, text, read).unwrap_or(Percent::whole(100))
}
