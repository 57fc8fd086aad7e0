//! `type = "jwt"`: JSON Web Tokens.

use std::time::Duration;

use http::HeaderName;
use jsonwebtoken::Algorithm;

use super::{Auth, RawAuth, pem_source};
use crate::config::document::At;
use crate::config::scope::Scope;
use crate::config::server::ClientLimits;
use crate::primitives::AuthName;
use crate::primitives::secret::SecretSource;

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

/// Verified tokens remembered unless told otherwise.
const TOKEN_CACHE: u32 = 100_000;
/// Bytes of a token unless told otherwise: more than most issuers make.
const MAX_TOKEN: &str = "8KiB";
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
    pub(super) fn jwt(&self, name: &str, at: &At<'_>, scope: &mut Scope<'_>) -> Option<JwtAuth> {
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
    pub(in crate::config) fn check_max_token(
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
