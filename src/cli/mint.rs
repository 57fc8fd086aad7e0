//! Making what callers need: tokens and signed requests.

use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use http::{HeaderMap, HeaderName, HeaderValue};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Map, Value};

use super::args::{Scheme, Sign, Token};
use super::output::write_out;
use crate::auth::{self, signature};
use crate::primitives::{clock, digest, units};

/// `tollgate token`.
pub(super) fn token(asked: &Token) -> anyhow::Result<()> {
    auth::install_crypto();
    let expires = units::duration(&asked.expires).map_err(|why| anyhow!("--expires: {why}"))?;
    let mut claims = Map::new();
    for pair in &asked.claims {
        let (name, value) = pair
            .split_once('=')
            .ok_or_else(|| anyhow!("--claim {pair:?}: write name=value"))?;
        claims.insert(name.to_owned(), claim_value(value));
    }
    let default = if asked.secret.is_some() {
        "HS256"
    } else {
        "RS256"
    };
    let name = asked.alg.as_deref().unwrap_or(default);
    let algorithm: Algorithm = name
        .parse()
        .map_err(|_| anyhow!("--alg {name:?} is not known"))?;
    let key = match (&asked.secret, &asked.key) {
        (Some(secret), _) => EncodingKey::from_secret(secret.as_bytes()),
        (None, Some(path)) => {
            let pem = std::fs::read(path).with_context(|| path.display().to_string())?;
            private_key(algorithm, &pem)
                .with_context(|| format!("{} is no key for {name}", path.display()))?
        }
        (None, None) => bail!("a --secret or a --key is needed"),
    };
    write_out(&format!("{}\n", mint(algorithm, &key, claims, expires)?))
}

/// A token with these claims that expires after a while.
pub(super) fn mint(
    algorithm: Algorithm,
    key: &EncodingKey,
    mut claims: Map<String, Value>,
    expires: Duration,
) -> anyhow::Result<String> {
    let now = clock::unix_now().as_secs();
    claims.entry("iat").or_insert(now.into());
    claims
        .entry("exp")
        .or_insert((now + expires.as_secs()).into());
    Ok(jsonwebtoken::encode(&Header::new(algorithm), &claims, key)?)
}

/// Numbers, booleans, lists and objects as JSON; anything else is text.
fn claim_value(text: &str) -> Value {
    match serde_json::from_str::<Value>(text) {
        Ok(value) if !value.is_string() && !value.is_null() => value,
        _ => Value::from(text.trim_matches('"')),
    }
}

fn private_key(algorithm: Algorithm, pem: &[u8]) -> anyhow::Result<EncodingKey> {
    Ok(match algorithm {
        Algorithm::ES256 | Algorithm::ES384 => EncodingKey::from_ec_pem(pem)?,
        Algorithm::EdDSA => EncodingKey::from_ed_pem(pem)?,
        Algorithm::HS256 | Algorithm::HS384 | Algorithm::HS512 => {
            bail!("an HS algorithm takes --secret")
        }
        _ => EncodingKey::from_rsa_pem(pem)?,
    })
}

/// `tollgate sign`.
pub(super) fn sign(asked: &Sign) -> anyhow::Result<()> {
    let fields = signed_fields(asked, Duration::ZERO)?;
    if asked.headers {
        let lines: String = fields
            .iter()
            .map(|(name, value)| format!("{name}: {value}\n"))
            .collect();
        return write_out(&lines);
    }
    write_out(&format!("{}\n", curl_line(asked, &fields)))
}

/// All fields to send with the request, signature included. The stamp lies `ahead` of the clock.
pub(super) fn signed_fields(
    asked: &Sign,
    ahead: Duration,
) -> anyhow::Result<Vec<(String, String)>> {
    let (scheme, rest) = asked
        .url
        .split_once("://")
        .context("the URL must begin with http:// or https://")?;
    let at = rest.find(['/', '?']).unwrap_or(rest.len());
    let authority = &rest[..at];
    let target = if rest[at..].starts_with('/') {
        rest[at..].to_owned()
    } else {
        format!("/{}", &rest[at..])
    };
    let mut fields = given_fields(asked)?;
    let mut headers = HeaderMap::new();
    for (name, value) in &fields {
        headers.append(name.parse::<HeaderName>()?, HeaderValue::from_str(value)?);
    }
    let body = asked.body.as_deref().unwrap_or_default().as_bytes();
    let now = clock::unix_now() + ahead;
    let mut random = [0u8; 16];
    rand::fill(&mut random[..]);
    let nonce = digest::hex(&random);
    let method = asked.method.to_ascii_uppercase();
    let added = match asked.scheme {
        Scheme::Ca => {
            let message = signature::ca::Message {
                method: &method,
                target: &target,
                headers: &headers,
                body,
            };
            let stamp = u64::try_from(now.as_millis())?;
            signature::ca::sign(&message, &asked.key, asked.secret.as_bytes(), stamp, &nonce)?
        }
        Scheme::Rfc9421 => {
            let scheme = if scheme == "https" {
                crate::filter::Scheme::Https
            } else {
                crate::filter::Scheme::Http
            };
            let message = signature::rfc9421::Message {
                method: &method,
                scheme,
                authority,
                target: &target,
                headers: &headers,
            };
            signature::rfc9421::sign(
                &message,
                body,
                &asked.key,
                asked.secret.as_bytes(),
                now.as_secs(),
                &nonce,
            )?
        }
    };
    fields.extend(
        added
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value)),
    );
    Ok(fields)
}

/// What the caller asked for, and what curl would add on its own: it is signed, so it must be said.
fn given_fields(asked: &Sign) -> anyhow::Result<Vec<(String, String)>> {
    let mut fields: Vec<(String, String)> = Vec::new();
    for field in &asked.fields {
        let (name, value) = field
            .split_once(':')
            .ok_or_else(|| anyhow!("-H {field:?}: write 'name: value'"))?;
        fields.push((name.trim().to_owned(), value.trim().to_owned()));
    }
    let has = |fields: &[(String, String)], wanted: &str| {
        fields
            .iter()
            .any(|(name, _)| name.eq_ignore_ascii_case(wanted))
    };
    if !has(&fields, "accept") {
        fields.push(("Accept".into(), "*/*".into()));
    }
    if let Some(body) = &asked.body
        && !has(&fields, "content-type")
    {
        let json = serde_json::from_str::<Value>(body)
            .is_ok_and(|value| value.is_object() || value.is_array());
        let kind = if json {
            "application/json"
        } else {
            "application/x-www-form-urlencoded"
        };
        fields.push(("Content-Type".into(), kind.into()));
    }
    Ok(fields)
}

/// The request as a line for a shell.
pub(super) fn curl_line(asked: &Sign, fields: &[(String, String)]) -> String {
    let mut line = format!("curl -sS -X {}", asked.method.to_ascii_uppercase());
    for (name, value) in fields {
        line.push_str(&format!(" -H {}", quoted(&format!("{name}: {value}"))));
    }
    if let Some(body) = &asked.body {
        line.push_str(&format!(" --data-raw {}", quoted(body)));
    }
    line.push_str(&format!(" {}", quoted(&asked.url)));
    line
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}
