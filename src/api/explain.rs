//! `POST /api/v1/explain` and `tollgate explain`: what would happen to a request.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::ApiWord;

/// A request to be explained.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Question {
    /// Method.
    pub method: String,
    /// Path with query, or a whole URL.
    pub url: String,
    /// Header fields in order.
    #[serde(default)]
    pub headers: Vec<(String, String)>,
    /// Address of the client; default 127.0.0.1.
    #[serde(default)]
    pub ip: Option<IpAddr>,
    /// Body, for signatures that cover it.
    #[serde(default)]
    pub body: Option<String>,
}

/// What would happen to a request, and why.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Explanation {
    /// The id of the route; `null` when none matches.
    pub route: Option<String>,
    /// Where the route is defined.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub location: Option<String>,
    /// Path and query as they would be forwarded, or as they were asked for.
    pub path: Option<String>,
    /// `forward`, `respond`, or the code of the refusal.
    pub decision: String,
    /// Status of the answer, unless the upstream decides it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// What the client would be told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// Parts of the path that the route's pattern captured, by name.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub captures: Vec<(String, String)>,
    /// Cause of a refusal: more than the client would learn.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cause: Option<ApiWord>,
    /// Address of the client, after trusted proxies were passed.
    pub client_ip: Option<IpAddr>,
    /// Who is calling.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub consumer: Option<String>,
    /// The `[auth.NAME]` that found out who is calling.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub consumer_auth: Option<String>,
    /// The claim that names the caller in place of `sub`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub consumer_claim: Option<ApiWord>,
    /// What was asked in turn, and what each said.
    pub steps: Vec<ExplainedStep>,
    /// The name of the upstream.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upstream: Option<String>,
    /// Endpoints among which one would be picked.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub candidates: Vec<Candidate>,
    /// Routes that all but match, where none does.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub nearest: Vec<NearMiss>,
}

/// One thing that was asked, and what it said.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ExplainedStep {
    /// What was asked: a filter, a limit, a breaker.
    pub step: String,
    /// What it said.
    pub verdict: String,
    /// The rule by which it decided, where it has several.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
}

/// An endpoint that might be picked.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Candidate {
    /// The endpoint as the configuration names it.
    pub endpoint: String,
    /// Configured weight.
    pub weight: u32,
    /// Whether it is used only when no primary is usable.
    pub backup: bool,
    /// `up`, `down`, `ejected`, `drained` or `unresolved`.
    pub state: ApiWord,
}

/// A route that all but matches.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct NearMiss {
    /// The id of the route.
    pub route: String,
    /// The route's pattern of paths.
    pub path: String,
    /// Where the route is defined.
    pub location: String,
    /// What of the request does not match.
    pub why: String,
}

impl Explanation {
    /// Notes that the gateway answers itself, with this status.
    pub fn respond(&mut self, status: u16) {
        self.decision = "respond".to_owned();
        self.status = Some(status);
    }

    /// Notes what one of those that are asked said, and by which of its rules.
    pub fn step(&mut self, name: &str, verdict: &str, rule: Option<&str>) {
        self.steps.push(ExplainedStep {
            step: name.to_owned(),
            verdict: verdict.to_owned(),
            rule: rule.map(str::to_owned),
        });
    }
}
