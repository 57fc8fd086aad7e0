//! `respond` of a route: answers made by the gateway itself.

use http::{HeaderValue, StatusCode};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::document::At;
use super::scope::Scope;

/// An answer made by the gateway.
#[derive(Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RawRespond {
    /// Status; default 200, with redirect 302.
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
    /// Body as text.
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<String>,
    /// Body as JSON.
    #[serde(skip_serializing_if = "Option::is_none")]
    json: Option<serde_json::Value>,
    /// Location of a redirect.
    #[serde(skip_serializing_if = "Option::is_none")]
    redirect: Option<String>,
}

/// An answer made by the gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Respond {
    /// Status.
    pub status: StatusCode,
    /// `Content-Type` and body.
    pub body: Option<(&'static str, Vec<u8>)>,
    /// `Location`.
    pub redirect: Option<HeaderValue>,
}

impl RawRespond {
    pub(super) fn validate(&self, at: &At<'_>, scope: &mut Scope<'_>) -> Option<Respond> {
        let bodies = [
            self.text.is_some(),
            self.json.is_some(),
            self.redirect.is_some(),
        ];
        if bodies.iter().filter(|given| **given).count() > 1 {
            scope.problem(at, "has more than one of `text`, `json` and `redirect`");
        }
        let default = if self.redirect.is_some() { 302 } else { 200 };
        let number = self.status.unwrap_or(default);
        let status = StatusCode::from_u16(number)
            .ok()
            .filter(|status| (200..600).contains(&status.as_u16()));
        let redirects = status.is_some_and(|status| status.is_redirection());
        if status.is_none() {
            scope.problem(
                &at.key("status"),
                format!("{number} is no status of a final answer"),
            );
        } else if self.redirect.is_some() && !redirects {
            scope.problem(&at.key("status"), "a redirect needs a status of 3xx");
        }
        let redirect = self.redirect.as_ref().and_then(|text| {
            scope.read(&at.key("redirect"), text, |t| {
                HeaderValue::from_str(t).map_err(|_| "is no header value".into())
            })
        });
        let body = match (&self.text, &self.json) {
            (Some(text), _) => Some(("text/plain; charset=utf-8", text.clone().into_bytes())),
            (None, Some(json)) => Some(("application/json", json.to_string().into_bytes())),
            (None, None) => None,
        };
        if body.is_some() && matches!(number, 204 | 304) {
            scope.problem(at, format!("an answer with status {number} has no body"));
        }
        Some(Respond {
            status: status?,
            body,
            redirect,
        })
    }
}
