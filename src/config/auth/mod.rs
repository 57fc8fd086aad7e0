//! `[auth.NAME]`: ways to find out who is calling. One table with a `type`, so it is read in one place: which keys belong to
//! which type, and what is foreign to it, is seen side by side.

mod jwt;
mod signature;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use self::jwt::{HS_SECRET, JwtAuth, JwtKey, SHORT_SECRET, TokenSource};
pub use self::signature::{App, AppKey, SignatureAuth, SignatureScheme};
use super::document::At;
use super::raw::RawSecret;
use super::scope::Scope;
use crate::primitives::secret::SecretSource;

/// A way to find out who is calling.
#[derive(Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RawAuth {
    /// "jwt" or "signature".
    r#type: RawType,
    /// jwt: accepted algorithms, all of one family.
    #[serde(default)]
    algorithms: Vec<String>,
    /// jwt: shared secret of the HS algorithms.
    #[serde(skip_serializing_if = "Option::is_none")]
    secret: Option<RawSecret>,
    /// jwt: public key, "file:…pem".
    #[serde(skip_serializing_if = "Option::is_none")]
    public_key: Option<String>,
    /// jwt: key set, "file:…json". Sets by URL are not supported yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    jwks: Option<String>,
    /// jwt: required `iss`.
    #[serde(skip_serializing_if = "Option::is_none")]
    issuer: Option<String>,
    /// jwt: accepted `aud`, one of which is required.
    #[serde(default)]
    audience: Vec<String>,
    /// jwt: tolerance for `exp` and `nbf`.
    #[serde(skip_serializing_if = "Option::is_none")]
    leeway: Option<String>,
    /// jwt: where the token is looked for, in order.
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<Vec<String>>,
    /// jwt: claims sent upstream as headers.
    #[serde(default)]
    forward_claims: BTreeMap<String, String>,
    /// jwt: the claim that names the caller's tier, for limits that know tiers.
    #[serde(skip_serializing_if = "Option::is_none")]
    tier_claim: Option<String>,
    /// jwt: bytes of a token.
    #[serde(skip_serializing_if = "Option::is_none")]
    max_token: Option<String>,
    /// jwt: verified tokens remembered, never past their exp; 0 = off.
    #[serde(skip_serializing_if = "Option::is_none")]
    cache: Option<u32>,
    /// signature: "ca" or "rfc9421".
    #[serde(skip_serializing_if = "Option::is_none")]
    scheme: Option<RawScheme>,
    /// signature: how far a time stamp may be from our clock.
    #[serde(skip_serializing_if = "Option::is_none")]
    skew: Option<String>,
    /// signature: "required".
    #[serde(skip_serializing_if = "Option::is_none")]
    nonce: Option<RawNonce>,
    /// signature: nonces remembered; a full store refuses.
    #[serde(skip_serializing_if = "Option::is_none")]
    nonce_capacity: Option<u32>,
    /// signature: a body must come with a signed digest.
    #[serde(skip_serializing_if = "Option::is_none")]
    require_body_digest: Option<bool>,
    /// signature, ca: refuse repeated parameters and values that hold `&`, `=` or control characters.
    #[serde(skip_serializing_if = "Option::is_none")]
    strict_params: Option<bool>,
    /// signature: applications by key.
    #[serde(default)]
    apps: BTreeMap<String, RawApp>,
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum RawType {
    Jwt,
    Signature,
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum RawScheme {
    Ca,
    Rfc9421,
    Kong,
    Apisix,
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum RawNonce {
    Required,
    Optional,
}

/// An application that signs its requests.
#[derive(Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct RawApp {
    /// Shared secret.
    #[serde(skip_serializing_if = "Option::is_none")]
    secret: Option<RawSecret>,
    /// The secret before a rotation; accepted beside `secret`.
    #[serde(skip_serializing_if = "Option::is_none")]
    previous_secret: Option<RawSecret>,
    /// rfc9421: public key, "file:…pem", Ed25519 or P-256.
    #[serde(skip_serializing_if = "Option::is_none")]
    public_key: Option<String>,
    /// Tier of the app's caller, for limits that know tiers.
    #[serde(skip_serializing_if = "Option::is_none")]
    tier: Option<String>,
    /// Addresses it may call from.
    #[serde(skip_serializing_if = "Option::is_none")]
    ips: Option<Vec<String>>,
}

/// `[auth.NAME]`, validated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Auth {
    /// JSON Web Tokens.
    Jwt(JwtAuth),
    /// Request signatures.
    Signature(SignatureAuth),
}

impl RawAuth {
    pub(super) fn validate(&self, name: &str, at: &At<'_>, scope: &mut Scope<'_>) -> Option<Auth> {
        self.refuse_foreign_keys(at, scope);
        if name.is_empty() || name.chars().any(char::is_control) {
            scope.problem(
                at,
                "the name must not be empty nor hold control characters: upstreams read it in X-Consumer-Auth",
            );
        }
        match self.r#type {
            RawType::Jwt => self.jwt(name, at, scope).map(Auth::Jwt),
            RawType::Signature => self.signature(name, at, scope).map(Auth::Signature),
        }
    }

    fn refuse_foreign_keys(&self, at: &At<'_>, scope: &mut Scope<'_>) {
        let jwt = [
            ("algorithms", !self.algorithms.is_empty()),
            ("secret", self.secret.is_some()),
            ("public_key", self.public_key.is_some()),
            ("jwks", self.jwks.is_some()),
            ("issuer", self.issuer.is_some()),
            ("audience", !self.audience.is_empty()),
            ("leeway", self.leeway.is_some()),
            ("from", self.from.is_some()),
            ("forward_claims", !self.forward_claims.is_empty()),
            ("tier_claim", self.tier_claim.is_some()),
            ("max_token", self.max_token.is_some()),
            ("cache", self.cache.is_some()),
        ];
        let signature = [
            ("scheme", self.scheme.is_some()),
            ("skew", self.skew.is_some()),
            ("nonce", self.nonce.is_some()),
            ("nonce_capacity", self.nonce_capacity.is_some()),
            ("require_body_digest", self.require_body_digest.is_some()),
            ("strict_params", self.strict_params.is_some()),
            ("apps", !self.apps.is_empty()),
        ];
        let (foreign, kind): (&[(&str, bool)], _) = match self.r#type {
            RawType::Jwt => (&signature, "jwt"),
            RawType::Signature => (&jwt, "signature"),
        };
        for (key, given) in foreign {
            if *given {
                scope.problem(
                    &at.key(key),
                    format!("means nothing with type = \"{kind}\""),
                );
            }
        }
    }
}

/// Reads where a public key is.
fn pem_source(text: &str) -> Result<SecretSource, String> {
    if text.starts_with("file:") || text.starts_with("cred:") {
        Ok(SecretSource::parse(text))
    } else {
        Err("must be \"file:/path/to/key.pem\"".to_owned())
    }
}
