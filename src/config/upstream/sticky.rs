//! `[upstream.NAME.sticky]`: a client stays with its endpoint, by a signed cookie.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::auth::{HS_SECRET, SHORT_SECRET};
use crate::config::document::At;
use crate::config::raw::RawSecret;
use crate::config::scope::Scope;
use crate::primitives::secret::SecretSource;

#[derive(Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RawSticky {
    /// Name of the cookie.
    #[serde(default = "cookie")]
    cookie: String,
    /// What signs it.
    secret: RawSecret,
    /// How long a client stays; "0s" = until it closes its browser.
    #[serde(default = "ttl")]
    ttl: String,
    /// Path of the cookie.
    #[serde(default = "path")]
    path: String,
    /// Domain of the cookie; default: the host asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    domain: Option<String>,
    /// Sent over TLS alone; default: when the client came over TLS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    secure: Option<bool>,
    /// Hidden from scripts.
    #[serde(default = "http_only")]
    http_only: bool,
    /// Whether other sites' requests carry it.
    #[serde(default)]
    same_site: SameSite,
}

fn cookie() -> String {
    "tollgate_sticky".into()
}

fn ttl() -> String {
    "0s".into()
}

fn path() -> String {
    "/".into()
}

fn http_only() -> bool {
    true
}

/// Whether other sites' requests carry the cookie.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SameSite {
    /// Never.
    Strict,
    /// Only where the user follows a link.
    #[default]
    Lax,
    /// Always; over TLS alone.
    None,
}

/// A cookie that names an endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sticky {
    /// Name of the cookie.
    pub cookie: String,
    /// What signs it.
    pub secret: SecretSource,
    /// How long a client stays; zero = until it closes its browser.
    pub ttl: Duration,
    /// Path of the cookie.
    pub path: String,
    /// Domain of the cookie.
    pub domain: Option<String>,
    /// Sent over TLS alone; `None` = when the client came over TLS.
    pub secure: Option<bool>,
    /// Hidden from scripts.
    pub http_only: bool,
    /// Whether other sites' requests carry it.
    pub same_site: SameSite,
}

impl RawSticky {
    pub(super) fn validate(&self, at: &At<'_>, scope: &mut Scope<'_>) -> Sticky {
        let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        if self.cookie.is_empty() || self.cookie.len() > 64 || !self.cookie.bytes().all(token) {
            scope.problem(
                &at.key("cookie"),
                format!("{:?} is no name of a cookie", self.cookie),
            );
        }
        let plain = |text: &str| text.bytes().all(|b| b.is_ascii_graphic() && b != b';');
        if !self.path.starts_with('/') || !plain(&self.path) {
            scope.problem(&at.key("path"), "must be a path, as \"/shop\"");
        }
        if self
            .domain
            .as_ref()
            .is_some_and(|domain| domain.is_empty() || !plain(domain) || domain.contains('/'))
        {
            scope.problem(&at.key("domain"), "must be a domain, as \"example.com\"");
        }
        if self.same_site == SameSite::None && self.secure == Some(false) {
            scope.problem(
                &at.key("secure"),
                "a cookie with same_site = \"none\" is kept only when it is secure",
            );
        }
        let secret = SecretSource::parse(&self.secret.0);
        if let SecretSource::Literal(text) = &secret
            && text.expose().len() < HS_SECRET
        {
            scope.problem(&at.key("secret"), SHORT_SECRET);
        }
        Sticky {
            cookie: self.cookie.clone(),
            secret,
            ttl: scope.duration(&at.key("ttl"), &self.ttl),
            path: self.path.clone(),
            domain: self.domain.clone(),
            secure: self.secure,
            http_only: self.http_only,
            same_site: self.same_site,
        }
    }
}
