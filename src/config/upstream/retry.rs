//! `[upstream.NAME.retry]`: further tries.

use std::time::Duration;

use http::Method;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::document::At;
use crate::config::method::method;
use crate::config::scope::Scope;
use crate::primitives::units::{self, Percent};

#[derive(Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawRetry {
    /// Further tries after the first.
    attempts: u32,
    /// What is tried again.
    on: Vec<RawRetryOn>,
    /// Methods that may be sent again; a failed connect is tried again for any.
    methods: Vec<String>,
    /// Share of live requests that may be retries.
    budget: String,
    /// Wait before a further try; doubled each time.
    backoff: String,
    /// The longest wait.
    max_backoff: String,
    /// What part of the wait is left to chance.
    jitter: Jitter,
}

/// What part of a wait is left to chance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Jitter {
    /// Nothing.
    None,
    /// The second half.
    Equal,
    /// All of it.
    Full,
}

impl Default for RawRetry {
    fn default() -> Self {
        use RawRetryOn::{BadGateway, Connect, GatewayTimeout, Reset, Unavailable};
        Self {
            attempts: 2,
            on: vec![Connect, Reset, BadGateway, Unavailable, GatewayTimeout],
            methods: ["GET", "HEAD", "OPTIONS"].map(str::to_owned).to_vec(),
            budget: "20%".into(),
            backoff: "25ms".into(),
            max_backoff: "1s".into(),
            jitter: Jitter::Equal,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub(super) enum RawRetryOn {
    #[serde(rename = "connect")]
    Connect,
    #[serde(rename = "reset")]
    Reset,
    #[serde(rename = "timeout")]
    Timeout,
    #[serde(rename = "500")]
    Internal,
    #[serde(rename = "502")]
    BadGateway,
    #[serde(rename = "503")]
    Unavailable,
    #[serde(rename = "504")]
    GatewayTimeout,
}

impl RawRetryOn {
    /// The status it stands for.
    pub(super) fn status(&self) -> Option<u16> {
        match self {
            Self::Internal => Some(500),
            Self::BadGateway => Some(502),
            Self::Unavailable => Some(503),
            Self::GatewayTimeout => Some(504),
            Self::Connect | Self::Reset | Self::Timeout => None,
        }
    }
}

/// Further tries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retry {
    /// Further tries after the first.
    pub attempts: u32,
    /// After a connection that could not be made.
    pub on_connect: bool,
    /// After a connection that broke before the answer began.
    pub on_reset: bool,
    /// After a read that took too long.
    pub on_timeout: bool,
    /// After these statuses.
    pub on_status: Vec<u16>,
    /// Methods that may be sent again.
    pub methods: Vec<Method>,
    /// Share of live requests that may be retries.
    pub budget: Percent,
    /// Wait before the first further try; doubled each time.
    pub backoff: Duration,
    /// The longest wait.
    pub max_backoff: Duration,
    /// What part of it is left to chance.
    pub jitter: Jitter,
}

/// Most further tries that can be asked for.
const MOST_ATTEMPTS: u32 = 10;

impl RawRetry {
    pub(super) fn validate(&self, at: &At<'_>, scope: &mut Scope<'_>) -> Retry {
        if self.attempts > MOST_ATTEMPTS {
            scope.problem(&at.key("attempts"), format!("at most {MOST_ATTEMPTS}"));
        }
        let list = at.key("methods");
        let methods = self.methods.iter().enumerate();
        let methods = methods
            .filter_map(|(i, text)| scope.read(&list.index(i), text, method))
            .collect();
        let budget = scope.read(&at.key("budget"), &self.budget, units::percent);
        Retry {
            attempts: self.attempts,
            on_connect: self.on.contains(&RawRetryOn::Connect),
            on_reset: self.on.contains(&RawRetryOn::Reset),
            on_timeout: self.on.contains(&RawRetryOn::Timeout),
            on_status: self.on.iter().filter_map(RawRetryOn::status).collect(),
            methods,
            budget: budget.unwrap_or(Percent::ZERO),
            backoff: scope.duration(&at.key("backoff"), &self.backoff),
            max_backoff: scope.positive(&at.key("max_backoff"), &self.max_backoff),
            jitter: self.jitter,
        }
    }
}
