//! `[server.maintenance]`, and the same of a group or a route: closed for the time being.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::addresses::AddressList;
use super::document::At;
use super::scope::Scope;

/// Closed for the time being. A route's own table wins over its group's, and that over the server's.
#[derive(Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RawMaintenance {
    /// Whether it is closed now. Required, so that the table may stay where it is between two times.
    enabled: bool,
    /// When callers are told to come back.
    #[serde(default = "retry_after")]
    retry_after: String,
    /// Body as text, instead of the error body.
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<String>,
    /// Body as HTML.
    #[serde(skip_serializing_if = "Option::is_none")]
    html: Option<String>,
    /// Body as JSON.
    #[serde(skip_serializing_if = "Option::is_none")]
    json: Option<serde_json::Value>,
    /// Who is let in all the same.
    #[serde(default)]
    allow_ips: Vec<String>,
}

fn retry_after() -> String {
    "1m".into()
}

/// How a closed route answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Maintenance {
    /// When callers are told to come back.
    pub retry_after: Duration,
    /// `Content-Type` and body; `None` = the error body.
    pub body: Option<(&'static str, Vec<u8>)>,
    /// Who is let in all the same.
    pub allow_ips: AddressList,
}

impl RawMaintenance {
    /// `None`: open.
    pub(super) fn validate(&self, at: &At<'_>, scope: &mut Scope<'_>) -> Option<Maintenance> {
        let bodies = [
            self.text.is_some(),
            self.html.is_some(),
            self.json.is_some(),
        ];
        if bodies.iter().filter(|given| **given).count() > 1 {
            scope.problem(at, "has more than one of `text`, `html` and `json`");
        }
        let text = |kind, text: &Option<String>| Some((kind, text.clone()?.into_bytes()));
        let json = self.json.as_ref().map(|json| json.to_string());
        let maintenance = Maintenance {
            retry_after: scope.positive(&at.key("retry_after"), &self.retry_after),
            body: text("text/plain; charset=utf-8", &self.text)
                .or_else(|| text("text/html; charset=utf-8", &self.html))
                .or_else(|| text("application/json", &json)),
            allow_ips: scope.addresses(&at.key("allow_ips"), &self.allow_ips),
        };
        self.enabled.then_some(maintenance)
    }
}
