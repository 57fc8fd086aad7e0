//! What `explain` is asked, and what it answers.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::filter::Refusal;

/// A request to be explained.
#[derive(Clone, Debug, Deserialize)]
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

/// What would happen.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Answer {
    pub(super) route: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) location: Option<String>,
    pub(super) path: Option<String>,
    pub(super) decision: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) status: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) detail: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) captures: Vec<(String, String)>,
    /// More than the client would learn.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) cause: Option<&'static str>,
    pub(super) client_ip: Option<IpAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) consumer: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) consumer_auth: Option<String>,
    /// The claim that names the caller in place of `sub`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) consumer_claim: Option<&'static str>,
    pub(super) steps: Vec<Step>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) upstream: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) candidates: Vec<Candidate>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) nearest: Vec<NearMiss>,
}

/// One thing that is asked on the way of a request.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Step {
    step: String,
    verdict: String,
    /// Where the rule stands in the configuration.
    #[serde(skip_serializing_if = "Option::is_none")]
    rule: Option<String>,
}

/// An endpoint that may be asked.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Candidate {
    pub(super) endpoint: String,
    pub(super) weight: u32,
    pub(super) backup: bool,
    pub(super) state: &'static str,
}

/// A route that nearly takes a request, and why it does not.
#[derive(Clone, Debug, Serialize)]
pub(super) struct NearMiss {
    pub(super) route: String,
    pub(super) path: String,
    pub(super) location: String,
    pub(super) why: String,
}

impl Answer {
    /// The gateway answers itself.
    pub(super) fn respond(&mut self, status: u16) {
        self.decision = "respond".to_owned();
        self.status = Some(status);
    }

    /// The gateway refuses it.
    pub(super) fn refuse(&mut self, refusal: &Refusal) {
        self.decision = refusal.reason.code().to_owned();
        self.status = Some(refusal.reason.status());
        self.detail = Some(refusal.detail.to_string());
        self.cause = refusal.cause;
    }

    /// One thing that was asked on the way, what was said to it, and where its rule stands.
    pub(super) fn step(&mut self, name: &str, verdict: &str, rule: Option<&str>) {
        self.steps.push(Step {
            step: name.to_owned(),
            verdict: verdict.to_owned(),
            rule: rule.map(str::to_owned),
        });
    }
}
