//! `type = "signature"`: requests signed by applications.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{RawApp, RawAuth, RawNonce, RawScheme, pem_source};
use crate::config::document::At;
use crate::config::scope::Scope;
use crate::primitives::AuthName;
use crate::primitives::ranges::AddressRanges;
use crate::primitives::secret::SecretSource;

/// Request signatures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignatureAuth {
    /// The name of the `[auth.NAME]`.
    pub name: AuthName,
    /// How requests are signed.
    pub scheme: SignatureScheme,
    /// How far a time stamp may be from our clock.
    pub skew: Duration,
    /// Nonces remembered.
    pub nonce_capacity: u32,
    /// Whether a body must come with a signed digest.
    pub require_body_digest: bool,
    /// `ca` only: refuse parameters whose boundaries the scheme does not protect.
    pub strict_params: bool,
    /// Applications by key; at least one.
    pub apps: BTreeMap<String, App>,
}

/// How requests are signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SignatureScheme {
    /// `X-Ca-*`, strict profile.
    Ca,
    /// RFC 9421 HTTP Message Signatures.
    Rfc9421,
}

/// An application that signs its requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct App {
    /// What verifies it.
    pub key: AppKey,
    /// Tier of the app's caller.
    pub tier: Option<String>,
    /// Addresses it may call from; `None` = any.
    pub ips: Option<AddressRanges>,
}

/// What verifies an application's signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AppKey {
    /// Shared secrets: the active one, and the one before a rotation.
    Secrets(Vec<SecretSource>),
    /// A public key as PEM.
    PublicKey(SecretSource),
}

/// Distance of time stamps unless told otherwise.
const SKEW: &str = "300s";
/// Nonces remembered unless told otherwise.
const NONCE_CAPACITY: u32 = 2_000_000;
impl RawAuth {
    pub(super) fn signature(
        &self,
        name: &str,
        at: &At<'_>,
        scope: &mut Scope<'_>,
    ) -> Option<SignatureAuth> {
        let scheme = match self.scheme {
            Some(RawScheme::Ca) => SignatureScheme::Ca,
            Some(RawScheme::Rfc9421) => SignatureScheme::Rfc9421,
            Some(RawScheme::Kong | RawScheme::Apisix) => {
                scope.problem(
                    &at.key("scheme"),
                    "not supported yet; \"ca\" and \"rfc9421\" are",
                );
                return None;
            }
            None => {
                scope.problem(at, "the key \"scheme\" is missing: \"ca\" or \"rfc9421\"");
                return None;
            }
        };
        if self.nonce == Some(RawNonce::Optional) {
            scope.problem(
                &at.key("nonce"),
                "not supported yet; only \"required\" is, which keeps replays out",
            );
        }
        let nonce_capacity = self.nonce_capacity.unwrap_or(NONCE_CAPACITY);
        if nonce_capacity == 0 || nonce_capacity > 100_000_000 {
            scope.problem(
                &at.key("nonce_capacity"),
                "must lie between 1 and 100000000",
            );
        }
        if self.strict_params.is_some() && scheme != SignatureScheme::Ca {
            scope.problem(
                &at.key("strict_params"),
                "means nothing with this scheme: it signs the query as it is",
            );
        }
        if self.apps.is_empty() {
            scope.problem(
                at,
                "needs applications: [auth.NAME.apps] \"app-1\" = { secret = \"env:APP_1\" }",
            );
        }
        let list = at.key("apps");
        let mut apps = BTreeMap::new();
        for (key, raw) in &self.apps {
            let here = list.key(key);
            if key.is_empty() || !key.bytes().all(|b| b.is_ascii_graphic()) {
                scope.problem(
                    &here,
                    "an application key is visible ASCII, as it travels in a header",
                );
            }
            if let Some(app) = raw.validate(scheme, &here, scope) {
                apps.insert(key.clone(), app);
            }
        }
        Some(SignatureAuth {
            name: AuthName::new(name),
            scheme,
            skew: scope.positive(&at.key("skew"), self.skew.as_deref().unwrap_or(SKEW)),
            nonce_capacity,
            require_body_digest: self.require_body_digest.unwrap_or(true),
            strict_params: self.strict_params.unwrap_or(false),
            apps,
        })
    }
}

impl RawApp {
    fn validate(&self, scheme: SignatureScheme, at: &At<'_>, scope: &mut Scope<'_>) -> Option<App> {
        let ips = self
            .ips
            .as_ref()
            .map(|ips| scope.ranges(&at.key("ips"), ips));
        let key = match (&self.secret, &self.public_key) {
            (Some(secret), None) => {
                let all = std::iter::once(("secret", secret)).chain(
                    self.previous_secret
                        .as_ref()
                        .map(|s| ("previous_secret", s)),
                );
                let mut sources = Vec::new();
                for (key, text) in all {
                    if text.0.is_empty() {
                        scope.problem(&at.key(key), "must not be empty");
                    }
                    sources.push(SecretSource::parse(&text.0));
                }
                AppKey::Secrets(sources)
            }
            (None, Some(_)) if scheme == SignatureScheme::Ca => {
                scope.problem(
                    &at.key("public_key"),
                    "the \"ca\" scheme signs with a secret",
                );
                return None;
            }
            (None, Some(text)) => {
                AppKey::PublicKey(scope.read(&at.key("public_key"), text, pem_source)?)
            }
            (Some(_), Some(_)) => {
                scope.problem(at, "has `secret` and `public_key`; one of them decides");
                return None;
            }
            (None, None) => {
                scope.problem(
                    at,
                    "needs `secret`, or `public_key` with the rfc9421 scheme",
                );
                return None;
            }
        };
        if matches!(key, AppKey::PublicKey(_)) && self.previous_secret.is_some() {
            scope.problem(
                &at.key("previous_secret"),
                "means nothing beside `public_key`",
            );
        }
        if self.tier.as_ref().is_some_and(String::is_empty) {
            scope.problem(&at.key("tier"), "must not be empty");
        }
        Some(App {
            key,
            tier: self.tier.clone(),
            ips,
        })
    }
}
