//! `[auth.NAME]`: ways to find out who is calling. One table with a `type`, so it is read in one place: which keys belong to
//! which type, and what is foreign to it, is seen side by side.

use std::collections::BTreeMap;
use std::time::Duration;

use http::HeaderName;
use jsonwebtoken::Algorithm;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::document::At;
use super::raw::RawSecret;
use super::scope::Scope;
use super::server::ClientLimits;
use crate::primitives::AuthName;
use crate::primitives::ranges::AddressRanges;
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

/// JSON Web Tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JwtAuth {
    /// The name of the `[auth.NAME]`.
    pub name: AuthName,
    /// Accepted algorithms; at least one, all of one family.
    pub algorithms: Vec<Algorithm>,
    /// What verifies them.
    pub key: JwtKey,
    /// Required `iss`.
    pub issuer: Option<String>,
    /// Accepted `aud`; when not empty, one of them is required.
    pub audience: Vec<String>,
    /// Tolerance for `exp` and `nbf`.
    pub leeway: Duration,
    /// Where the token is looked for, in order.
    pub from: Vec<TokenSource>,
    /// Claims (dotted paths) sent upstream as headers.
    pub forward_claims: Vec<(String, HeaderName)>,
    /// The claim (a dotted path) that names the caller's tier.
    pub tier_claim: Option<String>,
    /// Bytes of a token.
    pub max_token: usize,
    /// Verified tokens remembered; 0 = none.
    pub cache: u32,
}

/// What verifies a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JwtKey {
    /// A shared secret.
    Secret(SecretSource),
    /// A public key as PEM.
    PublicKey(SecretSource),
    /// A key set as JSON.
    KeySet(SecretSource),
}

/// Where a token is looked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenSource {
    /// A header; of `Authorization`, what follows `Bearer`.
    Header(HeaderName),
    /// A cookie.
    Cookie(String),
    /// A query parameter.
    Query(String),
}

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

/// Verified tokens remembered unless told otherwise.
const TOKEN_CACHE: u32 = 100_000;
/// Bytes of a token unless told otherwise: more than most issuers make.
const MAX_TOKEN: &str = "8KiB";
/// Distance of time stamps unless told otherwise.
const SKEW: &str = "300s";
/// Nonces remembered unless told otherwise.
const NONCE_CAPACITY: u32 = 2_000_000;
/// Headers a claim may never be written to: they frame or route the request, or are ours.
const NOT_FORWARDABLE: [&str; 16] = [
    "host",
    "connection",
    "content-length",
    "transfer-encoding",
    "upgrade",
    "te",
    "trailer",
    "keep-alive",
    "expect",
    "x-trace-id",
    "traceparent",
    "x-consumer",
    "x-consumer-auth",
    "x-consumer-claim",
    "x-client-cert-subject",
    "x-client-cert-fingerprint",
];

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

    fn jwt(&self, name: &str, at: &At<'_>, scope: &mut Scope<'_>) -> Option<JwtAuth> {
        let algorithms = self.algorithms(at, scope);
        let key = self.jwt_key(at, scope);
        if let (Some(first), Some(key)) = (algorithms.first(), &key) {
            check_family(*first, key, at, scope);
        }
        let default = ["header:Authorization".to_owned()];
        let list = at.key("from");
        let texts = self.from.as_deref().unwrap_or(&default);
        if texts.is_empty() {
            scope.problem(&list, "a token must come from somewhere");
        }
        let from = texts
            .iter()
            .enumerate()
            .filter_map(|(i, text)| scope.read(&list.index(i), text, token_source));
        let from = from.collect();
        let headers = at.key("forward_claims");
        let mut forward_claims = Vec::new();
        for (claim, header) in &self.forward_claims {
            let Some(header) = scope.read(&headers.key(claim), header, forwardable) else {
                continue;
            };
            let earlier = forward_claims.iter().find(|(_, known)| *known == header);
            if let Some((other, _)) = earlier {
                scope.problem(
                    &headers.key(claim),
                    format!("{header:?} is the header of the claim {other:?} already"),
                );
            }
            forward_claims.push((claim.clone(), header));
        }
        let audience = self.audience.clone();
        if audience.iter().any(String::is_empty)
            || self.issuer.as_ref().is_some_and(String::is_empty)
        {
            scope.problem(at, "`issuer` and `audience` must not be empty text");
        }
        Some(JwtAuth {
            name: AuthName::new(name),
            algorithms,
            key: key?,
            issuer: self.issuer.clone(),
            audience,
            leeway: scope.duration(&at.key("leeway"), self.leeway.as_deref().unwrap_or("0s")),
            from,
            forward_claims,
            tier_claim: self.tier_claim.clone(),
            max_token: self.max_token(at, scope),
            cache: self.cache.unwrap_or(TOKEN_CACHE),
        })
    }

    fn max_token(&self, at: &At<'_>, scope: &mut Scope<'_>) -> usize {
        let at = at.key("max_token");
        let text = self.max_token.as_deref().unwrap_or(MAX_TOKEN);
        let bytes = scope.size(&at, text);
        if !(256..=512 << 10).contains(&bytes) {
            scope.problem(&at, "must lie between 256B and 512KiB");
        }
        bytes as usize
    }

    /// Refuses a length that no token reaches: the head that would bring it is refused.
    pub(super) fn check_max_token(
        &self,
        auth: &Auth,
        client: &ClientLimits,
        at: &At<'_>,
        scope: &mut Scope<'_>,
    ) {
        let (Auth::Jwt(jwt), Some(_)) = (auth, &self.max_token) else {
            return;
        };
        let carries = |from: &TokenSource| match from {
            TokenSource::Header(_) | TokenSource::Cookie(_) => client.max_header_bytes,
            TokenSource::Query(_) => client.max_uri,
        };
        let most = jwt.from.iter().map(carries).max();
        if let Some(most) = most.filter(|most| jwt.max_token > *most) {
            scope.problem(
                &at.key("max_token"),
                format!(
                    "no token is that long: server.client takes heads of {most} bytes (max_header_bytes, max_uri)"
                ),
            );
        }
    }

    fn algorithms(&self, at: &At<'_>, scope: &mut Scope<'_>) -> Vec<Algorithm> {
        let list = at.key("algorithms");
        if self.algorithms.is_empty() {
            scope.problem(
                &list,
                "name the accepted algorithms, as algorithms = [\"HS256\"]",
            );
        }
        let texts = self.algorithms.iter().enumerate();
        let found: Vec<Algorithm> = texts
            .filter_map(|(i, text)| scope.read(&list.index(i), text, algorithm))
            .collect();
        if let Some(first) = found.first()
            && found.iter().any(|other| family(*other) != family(*first))
        {
            scope.problem(
                &list,
                "all algorithms must be of one family: one key verifies one family",
            );
        }
        found
    }

    fn jwt_key(&self, at: &At<'_>, scope: &mut Scope<'_>) -> Option<JwtKey> {
        let given = [
            self.secret.is_some(),
            self.public_key.is_some(),
            self.jwks.is_some(),
        ];
        if given.iter().filter(|given| **given).count() != 1 {
            scope.problem(at, "needs exactly one of `secret`, `public_key` and `jwks`");
            return None;
        }
        if let Some(secret) = &self.secret {
            let source = SecretSource::parse(&secret.0);
            if let SecretSource::Literal(literal) = &source
                && literal.expose().len() < HS_SECRET
            {
                scope.problem(&at.key("secret"), SHORT_SECRET);
            }
            return Some(JwtKey::Secret(source));
        }
        if let Some(text) = &self.public_key {
            return scope
                .read(&at.key("public_key"), text, pem_source)
                .map(JwtKey::PublicKey);
        }
        let text = self.jwks.as_deref().unwrap_or_default();
        if text.starts_with("https://") || text.starts_with("http://") {
            scope.problem(
                &at.key("jwks"),
                "key sets by URL are not supported yet; use \"file:…\"",
            );
            return None;
        }
        if !text.starts_with("file:") {
            scope.problem(&at.key("jwks"), "must be \"file:/path/to/keys.json\"");
            return None;
        }
        Some(JwtKey::KeySet(SecretSource::parse(text)))
    }

    fn signature(&self, name: &str, at: &At<'_>, scope: &mut Scope<'_>) -> Option<SignatureAuth> {
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

/// Least length of an HS secret: 256 bits (RFC 8725 §3.5).
pub const HS_SECRET: usize = 32;
/// What an operator with a shorter one is told.
pub const SHORT_SECRET: &str = "is shorter than 32 bytes; make one with: openssl rand -base64 48";

/// Families of algorithms: one key serves one of them.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Family {
    Hmac,
    Rsa,
    Ec,
    Ed,
}

fn family(algorithm: Algorithm) -> Family {
    match algorithm {
        Algorithm::HS256 | Algorithm::HS384 | Algorithm::HS512 => Family::Hmac,
        Algorithm::ES256 | Algorithm::ES384 => Family::Ec,
        Algorithm::EdDSA => Family::Ed,
        _ => Family::Rsa,
    }
}

fn check_family(algorithm: Algorithm, key: &JwtKey, at: &At<'_>, scope: &mut Scope<'_>) {
    let symmetric = family(algorithm) == Family::Hmac;
    match key {
        JwtKey::Secret(_) if !symmetric => {
            scope.problem(
                &at.key("secret"),
                "a shared secret verifies HS algorithms only; use `public_key` or `jwks`",
            );
        }
        JwtKey::PublicKey(_) if symmetric => {
            scope.problem(
                &at.key("public_key"),
                "HS algorithms need `secret`: a public key must never serve as one",
            );
        }
        _ => {}
    }
}

fn algorithm(text: &str) -> Result<Algorithm, String> {
    const KNOWN: [&str; 12] = [
        "HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256",
        "ES384", "EdDSA",
    ];
    if !KNOWN.contains(&text) {
        return Err(format!("{text:?} is none of {}", KNOWN.join(", ")));
    }
    text.parse()
        .map_err(|_| format!("{text:?} is not supported"))
}

fn token_source(text: &str) -> Result<TokenSource, String> {
    match text.split_once(':') {
        Some(("header", name)) => name
            .parse()
            .map(TokenSource::Header)
            .map_err(|_| format!("{name:?} is no header name")),
        Some(("cookie", name)) if !name.is_empty() => Ok(TokenSource::Cookie(name.to_owned())),
        Some(("query", name)) if !name.is_empty() => Ok(TokenSource::Query(name.to_owned())),
        _ => Err(format!(
            "{text:?} is none of header:NAME, cookie:NAME, query:NAME"
        )),
    }
}

fn forwardable(text: &str) -> Result<HeaderName, String> {
    let name: HeaderName = text
        .parse()
        .map_err(|_| format!("{text:?} is no header name"))?;
    // Some origins read `_` as `-`.
    let read = name.as_str().replace('_', "-");
    if NOT_FORWARDABLE.contains(&&*read) || read.starts_with("x-forwarded-") {
        return Err(format!(
            "{text:?} has a meaning of its own and cannot carry a claim"
        ));
    }
    Ok(name)
}

fn pem_source(text: &str) -> Result<SecretSource, String> {
    if text.starts_with("file:") || text.starts_with("cred:") {
        Ok(SecretSource::parse(text))
    } else {
        Err("must be \"file:/path/to/key.pem\"".to_owned())
    }
}
