//! From the bytes of a token to claims that hold.
//!
//! `jsonwebtoken` checks the signature, the algorithm list and that the relied-on claims are there. Stricter than the
//! crate, here: the spelling is canonical, `crit` and `b64` are refused, no name stands twice, `iss` is one text, and
//! time is that of the exchange instead of the system's, so that a remembered token and a fresh one are judged alike.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::Algorithm;
use jsonwebtoken::errors::ErrorKind;
use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};
use serde_json::{Map, Value};

use super::keys::Keys;
use crate::config::JwtAuth;
use crate::filter::{Reason, Refusal};

/// Longest `kid` looked up. It is a key of a map and nothing else.
pub(super) const LONGEST_KID: usize = 256;
/// Latest time taken: 2^53, up to which every JSON reader agrees on integers.
const LATEST: u64 = 1 << 53;

/// Why a token was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flaw {
    Missing,
    /// With what the operator is told, and the client never: no two forgeries can be told apart.
    Invalid(&'static str),
    Expired,
    NotYetValid,
}

impl Flaw {
    /// What the client is told: constant text, so that no two forgeries can be told apart.
    pub(super) fn refusal(self) -> Refusal {
        const INVALID: &str = "Bearer error=\"invalid_token\"";
        let (reason, detail, challenge) = match self {
            Self::Missing => (Reason::TokenMissing, "A token is required.", "Bearer"),
            Self::Invalid(_) => (Reason::TokenInvalid, "The token does not hold.", INVALID),
            Self::Expired => (Reason::TokenExpired, "The token has expired.", INVALID),
            Self::NotYetValid => (
                Reason::TokenNotYetValid,
                "The token is not valid yet.",
                INVALID,
            ),
        };
        let refusal = Refusal::new(reason, detail).challenge(challenge);
        match self {
            Self::Invalid(cause) => refusal.cause(cause),
            _ => refusal,
        }
    }
}

/// The time in which a token holds, leeway included, in seconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Window {
    /// First second.
    pub(super) from: u64,
    /// First second after it: RFC 7519 §4.1.4 ends a token *on* its `exp`.
    pub(super) until: u64,
}

impl Window {
    /// Whether `now` lies inside.
    pub(super) fn holds(self, now: u64) -> Result<(), Flaw> {
        if now >= self.until {
            return Err(Flaw::Expired);
        }
        if now < self.from {
            return Err(Flaw::NotYetValid);
        }
        Ok(())
    }

    fn read(claims: &Map<String, Value>, leeway: u64) -> Result<Self, Flaw> {
        let exp = claims.get("exp").ok_or(Flaw::Invalid(NO_EXP))?;
        let exp = time(exp).ok_or(Flaw::Invalid("`exp` is no time"))?;
        let nbf = match claims.get("nbf") {
            Some(value) => time(value).ok_or(Flaw::Invalid("`nbf` is no time"))?,
            None => 0,
        };
        Ok(Self {
            from: nbf.saturating_sub(leeway),
            until: exp.saturating_add(leeway),
        })
    }
}

/// A NumericDate: a number of seconds, possibly with a fraction, from 1970 on.
fn time(value: &Value) -> Option<u64> {
    let seconds = match value.as_u64() {
        Some(whole) => whole,
        None => value.as_f64().filter(|s| *s >= 0.0)? as u64,
    };
    (seconds <= LATEST).then_some(seconds)
}

/// What a token must satisfy besides its signature.
pub(super) struct Rules {
    algorithms: Vec<Algorithm>,
    issuer: Option<String>,
    /// Seconds: neither a token's times nor the exchange's clock are finer.
    leeway: u64,
}

impl Rules {
    pub(super) fn new(auth: &JwtAuth) -> Self {
        Self {
            algorithms: auth.algorithms.clone(),
            issuer: auth.issuer.clone(),
            leeway: auth.leeway.as_secs(),
        }
    }
}

/// Verifies everything that does not depend on the time, and reads the times.
pub(super) fn verify(token: &[u8], keys: &Keys, rules: &Rules) -> Result<(Value, Window), Flaw> {
    let header = header(token)?;
    let (algorithm, kid) = read_header(&header)?;
    if !rules.algorithms.contains(&algorithm) {
        return Err(Flaw::Invalid("`alg` is none of `algorithms`"));
    }
    let key = keys.find(algorithm, kid.as_deref());
    let key = key.ok_or(Flaw::Invalid("no key for its `alg` and `kid`"))?;
    let decoded = jsonwebtoken::decode::<Object>(token, &key.decoding, &key.validation);
    let Object(claims) = decoded
        .map_err(|error| Flaw::Invalid(cause(&error)))?
        .claims;
    if let Some(issuer) = &rules.issuer
        && claims.get("iss").and_then(Value::as_str) != Some(issuer)
    {
        return Err(Flaw::Invalid("`iss` is not `issuer`"));
    }
    let window = Window::read(&claims, rules.leeway)?;
    Ok((Value::Object(claims), window))
}

const NO_EXP: &str = "the token has no `exp`, which is required";

/// The library's word in ours.
fn cause(error: &jsonwebtoken::errors::Error) -> &'static str {
    match error.kind() {
        ErrorKind::InvalidSignature => "the signature does not hold",
        ErrorKind::InvalidIssuer => "`iss` is not `issuer`",
        ErrorKind::InvalidAudience => "`aud` names none of `audience`",
        ErrorKind::MissingRequiredClaim(claim) => match claim.as_str() {
            "exp" => NO_EXP,
            "aud" => "the token has no `aud`, which is required",
            _ => "the token has no `iss`, which is required",
        },
        _ => "the token is malformed",
    }
}

const MALFORMED: Flaw = Flaw::Invalid("the token is malformed");

/// The decoded header of a token of three non-empty parts in plain base64url. A second spelling of the same token
/// would be a second key in the cache and slip past whoever revokes tokens by their text.
fn header(token: &[u8]) -> Result<Vec<u8>, Flaw> {
    let mut parts = token.split(|byte| *byte == b'.');
    let (Some(header), Some(payload), Some(signature), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(MALFORMED);
    };
    let plain = |part: &[u8]| {
        !part.is_empty()
            && part
                .iter()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    if !(plain(header) && plain(payload) && plain(signature)) {
        return Err(MALFORMED);
    }
    URL_SAFE_NO_PAD.decode(header).map_err(|_| MALFORMED)
}

fn read_header(json: &[u8]) -> Result<(Algorithm, Option<String>), Flaw> {
    let Object(mut header) = serde_json::from_slice(json).map_err(|_| MALFORMED)?;
    // Extensions that must be understood (RFC 7515 §4.1.11); we understand none, and b64 changes what is signed.
    if header.contains_key("crit") || header.contains_key("b64") {
        return Err(Flaw::Invalid("its header has `crit` or `b64`"));
    }
    let algorithm = header.get("alg").and_then(Value::as_str);
    let algorithm = algorithm.and_then(|name| name.parse().ok());
    let kid = match header.remove("kid") {
        None => None,
        Some(Value::String(kid)) if kid.len() <= LONGEST_KID => Some(kid),
        // Who numbers keys in the set does so here; only the digits can be meant.
        Some(Value::Number(kid)) if kid.is_u64() || kid.is_i64() => Some(kid.to_string()),
        Some(_) => return Err(Flaw::Invalid("`kid` is no text, or too long")),
    };
    let algorithm = algorithm.ok_or(Flaw::Invalid("`alg` is none of `algorithms`"));
    Ok((algorithm?, kid))
}

/// A JSON object in which no name stands twice: two readers could take different ones.
pub(super) struct Object(Map<String, Value>);

impl<'de> Deserialize<'de> for Object {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Names;

        impl<'de> Visitor<'de> for Names {
            type Value = Object;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Object, A::Error> {
                let mut object = Map::new();
                while let Some((name, value)) = map.next_entry::<String, Value>()? {
                    if object.insert(name, value).is_some() {
                        return Err(A::Error::custom("a name stands twice"));
                    }
                }
                Ok(Object(object))
            }
        }

        deserializer.deserialize_map(Names)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_window_ends_on_exp_and_leeway_widens_both_ends() {
        let claims = json!({"exp": 100, "nbf": 50});
        let window = Window::read(claims.as_object().unwrap(), 0).unwrap();
        assert_eq!(window.holds(49), Err(Flaw::NotYetValid));
        assert_eq!(window.holds(50), Ok(()));
        assert_eq!(window.holds(99), Ok(()));
        assert_eq!(window.holds(100), Err(Flaw::Expired));
        let wide = Window::read(claims.as_object().unwrap(), 10).unwrap();
        assert_eq!(wide.holds(40), Ok(()));
        assert_eq!(wide.holds(109), Ok(()));
        assert_eq!(wide.holds(110), Err(Flaw::Expired));
    }

    #[test]
    fn times_are_numbers_within_range() {
        for (text, expected) in [
            ("5", Some(5)),
            ("5.9", Some(5)),
            ("0", Some(0)),
            ("-1", None),
            ("-0.5", None),
            ("\"5\"", None),
            ("null", None),
            ("true", None),
            ("[5]", None),
            ("9007199254740992", Some(LATEST)),
            ("9007199254740993", None),
            ("1234567890123456789012345678901234567890", None),
        ] {
            let value: Value = serde_json::from_str(text).unwrap();
            assert_eq!(time(&value), expected, "{text}");
        }
    }
}
