//! `[route.cors]`: cross-origin requests.

use std::time::Duration;

use http::{HeaderName, Method};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::document::At;
use super::header_rules::header_name;
use super::method::method;
use super::scope::Scope;

/// Cross-origin requests.
#[derive(Clone, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawCors {
    /// Origins, exact or "https://*.example.com", or "*" for any.
    origins: Vec<String>,
    /// Methods allowed, or "*" for any; default: the usual ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    methods: Option<Vec<String>>,
    /// Request headers allowed, or "*" for any but Authorization.
    headers: Vec<String>,
    /// Response headers shown to scripts.
    expose: Vec<String>,
    /// Whether cookies may be sent.
    credentials: bool,
    /// Whether pages of the public internet may ask a gateway of a private network.
    private_network: bool,
    /// How long a browser may remember a preflight.
    #[serde(skip_serializing_if = "Option::is_none")]
    max_age: Option<String>,
}

/// Cross-origin requests (Fetch standard §3.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cors {
    /// Origins allowed, some perhaps with `*.` before the host; `None` = any.
    pub origins: Option<Vec<String>>,
    /// Methods allowed; `*` = any.
    pub methods: Vec<Method>,
    /// Request headers allowed.
    pub headers: Vec<HeaderName>,
    /// Response headers shown to scripts.
    pub expose: Vec<HeaderName>,
    /// Whether cookies may be sent.
    pub credentials: bool,
    /// Whether pages of the public internet may ask a gateway of a private network.
    pub private_network: bool,
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
            if origin == "*" && self.origins.len() > 1 {
                scope.problem(
                    &origins.index(index),
                    "\"*\" is any origin and stands alone",
                );
            } else if !matches!(origin.as_str(), "*" | "null") && !is_origin(origin) {
                scope.problem(
                    &origins.index(index),
                    format!(
                        "{origin:?} is no origin; write \"https://example.com\" or \"https://*.example.com\""
                    ),
                );
            }
        }
        let usual = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"].map(str::to_owned);
        let methods = at.key("methods");
        let texts = self.methods.as_deref().unwrap_or(&usual).iter().enumerate();
        let methods = texts
            .filter_map(|(i, text)| scope.read(&methods.index(i), text, any_or_method))
            .collect();
        self.refuse_literal_stars(at, scope);
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
            private_network: self.private_network,
            max_age: self
                .max_age
                .as_ref()
                .map(|text| scope.duration(&at.key("max_age"), text)),
        }
    }

    /// With credentials a browser takes `*` for a name of its own (Fetch standard, CORS protocol and credentials).
    fn refuse_literal_stars(&self, at: &At<'_>, scope: &mut Scope<'_>) {
        let methods = self.methods.as_deref().unwrap_or_default();
        for (key, list) in [
            ("methods", methods),
            ("headers", &self.headers),
            ("expose", &self.expose),
        ] {
            let star = list.iter().position(|text| text == "*");
            if let Some(index) = star.filter(|_| self.credentials) {
                scope.problem(
                    &at.key(key).index(index),
                    "\"*\" means nothing to browsers where credentials are sent; name them",
                );
            }
        }
    }
}

fn any_or_method(text: &str) -> Result<Method, String> {
    match text {
        "*" => Ok(Method::from_bytes(b"*").expect("a token")),
        _ => method(text),
    }
}

/// Scheme and host, perhaps with a port, and nothing else. `*.` may stand for everything before a domain.
fn is_origin(text: &str) -> bool {
    let Some((scheme, host)) = text.split_once("://") else {
        return false;
    };
    let named = host.strip_prefix("*.").unwrap_or(host);
    let wild = named.len() < host.len();
    !scheme.is_empty()
        && !named.is_empty()
        && !named.contains(['/', '*', '?', '#', '@'])
        && !named.contains(char::is_whitespace)
        && (!wild || named.contains('.'))
}
