//! `[route.cors]`: cross-origin requests.

use std::time::Duration;

use http::{HeaderName, Method};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::document::At;
use super::header_rules::header_name;
use super::scope::Scope;
use super::upstream::method;

/// Cross-origin requests.
#[derive(Clone, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawCors {
    /// Origins, exact, or "*" for any.
    origins: Vec<String>,
    /// Methods allowed; default: the usual ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    methods: Option<Vec<String>>,
    /// Request headers allowed.
    headers: Vec<String>,
    /// Response headers shown to scripts.
    expose: Vec<String>,
    /// Whether cookies may be sent.
    credentials: bool,
    /// How long a browser may remember a preflight.
    #[serde(skip_serializing_if = "Option::is_none")]
    max_age: Option<String>,
}

/// Cross-origin requests (Fetch standard §3.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cors {
    /// Origins allowed; `None` = any.
    pub origins: Option<Vec<String>>,
    /// Methods allowed.
    pub methods: Vec<Method>,
    /// Request headers allowed.
    pub headers: Vec<HeaderName>,
    /// Response headers shown to scripts.
    pub expose: Vec<HeaderName>,
    /// Whether cookies may be sent.
    pub credentials: bool,
    /// How long a preflight may be remembered.
    pub max_age: Option<Duration>,
}

impl RawCors {
    pub(super) fn validate(&self, at: &At<'_>, scope: &mut Scope<'_>) -> Cors {
        if self.origins.is_empty() {
            scope.problem(
                &at.key("origins"),
                "name the allowed origins, as [\"https://servicewechat.com\"]",
            );
        }
        let any = self.origins.iter().any(|origin| origin == "*");
        if any && self.credentials {
            scope.problem(
                &at.key("credentials"),
                "browsers refuse cookies with origins = [\"*\"]; name the origins",
            );
        }
        let origins = at.key("origins");
        for (index, origin) in self.origins.iter().enumerate() {
            let bare = origin
                .split_once("://")
                .is_some_and(|(_, host)| !host.is_empty() && !host.contains('/'));
            if origin != "*" && !bare {
                scope.problem(
                    &origins.index(index),
                    format!("{origin:?} is no origin; write \"https://example.com\""),
                );
            }
        }
        let usual = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"].map(str::to_owned);
        let methods = at.key("methods");
        let texts = self.methods.as_deref().unwrap_or(&usual).iter().enumerate();
        let methods = texts
            .filter_map(|(i, text)| scope.read(&methods.index(i), text, method))
            .collect();
        let mut names = |key: &str, texts: &[String]| -> Vec<HeaderName> {
            let list = at.key(key);
            texts
                .iter()
                .enumerate()
                .filter_map(|(i, text)| scope.read(&list.index(i), text, header_name))
                .collect()
        };
        let headers = names("headers", &self.headers);
        let expose = names("expose", &self.expose);
        Cors {
            origins: (!any).then(|| self.origins.clone()),
            methods,
            headers,
            expose,
            credentials: self.credentials,
            max_age: self
                .max_age
                .as_ref()
                .map(|text| scope.duration(&at.key("max_age"), text)),
        }
    }
}
