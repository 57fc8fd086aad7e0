//! `[route.fallback]`: what is answered when the upstream cannot.

use std::collections::BTreeMap;
use std::time::Duration;

use http::HeaderName;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::known::Known;
use crate::config::document::At;
use crate::config::header_rules::{HeaderField, distinct_fields, header_name};
use crate::config::raw::RawSecret;
use crate::config::respond::{RawRespond, Respond};
use crate::config::scope::Scope;
use crate::primitives::UpstreamName;

/// What is answered when the upstream cannot.
#[derive(Clone, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawFallback {
    /// What calls for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    on: Option<Vec<String>>,
    /// The last good answer to the same request.
    #[serde(skip_serializing_if = "Option::is_none")]
    last_good: Option<RawLastGood>,
    /// Another upstream.
    #[serde(skip_serializing_if = "Option::is_none")]
    upstream: Option<String>,
    /// Status of a fixed answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
    /// Body of a fixed answer as text.
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<String>,
    /// Body of a fixed answer as JSON.
    #[serde(skip_serializing_if = "Option::is_none")]
    json: Option<serde_json::Value>,
    /// Headers of a fixed answer.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    headers: BTreeMap<String, RawSecret>,
}

/// Which answers are kept.
#[derive(Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawLastGood {
    /// How old an answer may be.
    max_age: String,
    /// Bytes of one body.
    max_body: String,
    /// Bytes of all of them.
    size: String,
    /// Whose answers are told apart.
    per: RawPer,
    /// Request headers that answers are told apart by, besides those that `Vary` names.
    vary: Vec<String>,
}

impl Default for RawLastGood {
    fn default() -> Self {
        Self {
            max_age: "10m".into(),
            max_body: "64KiB".into(),
            size: "4MiB".into(),
            per: RawPer::Anyone,
            vary: Vec::new(),
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum RawPer {
    Anyone,
    Consumer,
}

/// What is answered when the upstream cannot: the first of these that there is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fallback {
    /// What calls for it.
    pub on: FallbackOn,
    /// The last good answer to the same request.
    pub last_good: Option<LastGood>,
    /// Another upstream.
    pub upstream: Option<UpstreamName>,
    /// A fixed answer.
    pub fixed: Option<(Respond, Vec<HeaderField>)>,
}

/// What calls for a fallback.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FallbackOn {
    /// Failures of the gateway's own finding.
    pub causes: Vec<FallbackCause>,
    /// Statuses that the client would be answered, by the upstream or by the gateway.
    pub statuses: Vec<u16>,
}

/// A failure of the gateway's own finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FallbackCause {
    /// The breaker of the upstream is open.
    Breaker,
    /// No endpoint is usable.
    NoEndpoint,
    /// The time of the exchange is over.
    Deadline,
    /// The request was shed.
    Overloaded,
    /// No connection.
    Connect,
    /// The connection broke before an answer.
    Reset,
    /// The upstream said nothing for too long.
    Timeout,
}

impl FallbackCause {
    const WORDS: [(&str, Self); 7] = [
        ("breaker", Self::Breaker),
        ("no_endpoint", Self::NoEndpoint),
        ("deadline", Self::Deadline),
        ("overloaded", Self::Overloaded),
        ("connect", Self::Connect),
        ("reset", Self::Reset),
        ("timeout", Self::Timeout),
    ];
}

/// Which answers are kept, and for whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastGood {
    /// How old an answer may be.
    pub max_age: Duration,
    /// Bytes of one body.
    pub max_body: usize,
    /// Bytes of all of them.
    pub size: usize,
    /// Each consumer is only answered what was answered to it.
    pub per_consumer: bool,
    /// Request headers that answers are told apart by.
    pub vary: Vec<HeaderName>,
}

/// Most memory for kept answers of one route, and the longest that one is kept.
const MOST_KEPT: u64 = 1 << 30;
const OLDEST: Duration = Duration::from_secs(24 * 3600);

impl RawFallback {
    pub(super) fn validate(
        &self,
        at: &At<'_>,
        authenticated: bool,
        known: &Known<'_>,
        scope: &mut Scope<'_>,
    ) -> Option<Fallback> {
        let last_good = self.last_good.as_ref();
        let last_good =
            last_good.map(|raw| raw.validate(&at.key("last_good"), authenticated, scope));
        if let Some(upstream) = &self.upstream {
            known.upstream(&at.key("upstream"), upstream, scope);
        }
        let fixed = self.fixed(at, scope);
        if last_good.is_none() && self.upstream.is_none() && fixed.is_none() {
            scope.problem(
                at,
                "answers nothing: it needs `status`, `text` or `json`, `upstream`, or `last_good`",
            );
        }
        let on = self.on(at, scope);
        let only_upstream = self.upstream.is_some() && fixed.is_none() && last_good.is_none();
        if only_upstream && self.on.is_some() && on.causes.contains(&FallbackCause::Deadline) {
            scope.problem(
                &at.key("on"),
                "after the deadline no time is left to ask another upstream; add a fixed answer, or leave \"deadline\" out",
            );
        }
        Some(Fallback {
            on,
            last_good,
            upstream: self.upstream.as_deref().map(UpstreamName::new),
            fixed,
        })
    }

    fn on(&self, at: &At<'_>, scope: &mut Scope<'_>) -> FallbackOn {
        let usual = ["breaker", "no_endpoint", "deadline"].map(str::to_owned);
        let list = at.key("on");
        let words = self.on.as_deref().unwrap_or(&usual);
        if words.is_empty() {
            scope.problem(&list, "an empty list would never call for the fallback");
        }
        let mut on = FallbackOn {
            causes: Vec::new(),
            statuses: Vec::new(),
        };
        for (index, word) in words.iter().enumerate() {
            let cause = FallbackCause::WORDS.iter().find(|(name, _)| name == word);
            let status = word
                .parse()
                .ok()
                .filter(|status| (500..600).contains(status));
            match (cause, status) {
                (Some((_, cause)), _) => on.causes.push(*cause),
                (None, Some(status)) => on.statuses.push(status),
                (None, None) => {
                    let words = FallbackCause::WORDS.map(|(name, _)| name).join(", ");
                    scope.problem(
                        &list.index(index),
                        format!(
                            "{word:?} is none of {words}, nor a status from \"500\" to \"599\""
                        ),
                    );
                }
            }
        }
        on
    }

    fn fixed(&self, at: &At<'_>, scope: &mut Scope<'_>) -> Option<(Respond, Vec<HeaderField>)> {
        if self.status.is_none() && self.text.is_none() && self.json.is_none() {
            if !self.headers.is_empty() {
                scope.problem(
                    &at.key("headers"),
                    "are those of a fixed answer, which needs `status`, `text` or `json`",
                );
            }
            return None;
        }
        let respond = RawRespond::fixed(self.status, self.text.clone(), self.json.clone());
        let headers = distinct_fields(&self.headers, &at.key("headers"), scope);
        respond
            .validate(at, scope)
            .map(|respond| (respond, headers))
    }
}

impl RawLastGood {
    fn validate(&self, at: &At<'_>, authenticated: bool, scope: &mut Scope<'_>) -> LastGood {
        let max_age = scope.positive(&at.key("max_age"), &self.max_age);
        if max_age > OLDEST {
            scope.problem(&at.key("max_age"), "at most 24h");
        }
        let [max_body, size] = [("max_body", &self.max_body), ("size", &self.size)]
            .map(|(key, text)| scope.size(&at.key(key), text));
        if size > MOST_KEPT {
            scope.problem(&at.key("size"), "at most 1GiB");
        }
        if max_body > size {
            scope.problem(&at.key("max_body"), "is more than `size`");
        }
        let per_consumer = self.per == RawPer::Consumer;
        if authenticated && !per_consumer {
            scope.problem(
                at,
                "the route has `auth`, and one caller's answer must not reach another; say per = \"consumer\"",
            );
        }
        if per_consumer && !authenticated {
            scope.problem(
                &at.key("per"),
                "the route has no `auth`, so there are no consumers",
            );
        }
        let list = at.key("vary");
        let names = self.vary.iter().enumerate();
        let vary = names.filter_map(|(i, name)| scope.read(&list.index(i), name, header_name));
        LastGood {
            max_age,
            max_body: usize::try_from(max_body).unwrap_or(usize::MAX),
            size: usize::try_from(size).unwrap_or(usize::MAX),
            per_consumer,
            vary: vary.collect(),
        }
    }
}
