//! Key sets (RFC 7517): which keys of a file can serve, and why the others do not.
//!
//! Issuers write numbers in more ways than the RFC has: with padding, in the standard alphabet of Base64, with leading zero
//! octets or without those that a coordinate needs, and a number for a `kid`. Where only one thing can be meant it is
//! taken. A key that is not used is named with its reason; nothing of a key's own value is ever told.

use std::collections::HashSet;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::DecodingKey;
use jsonwebtoken::jwk::{Jwk, KeyOperations, PublicKeyUse};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::keys::Key;
use super::verify::LONGEST_KID;
use crate::auth::BuildError;
use crate::config::JwtAuth;
use crate::primitives::secret::Secret;

/// A set, as far as it serves.
pub(super) struct KeySet {
    /// Keys that serve.
    pub(super) keys: Vec<Key>,
    /// What is to be said of each of the others.
    pub(super) unused: Vec<String>,
}

/// Most of a `kid` that is repeated to the operator.
const SHOWN_KID: usize = 64;

impl KeySet {
    /// Reads the keys that can serve `auth`; others are skipped, as RFC 7517 section 5 asks.
    pub(super) fn read(auth: &JwtAuth, place: &str, material: &Secret) -> Result<Self, BuildError> {
        #[derive(Deserialize)]
        struct File {
            keys: Vec<Value>,
        }
        let bad = |reason: String| BuildError::KeySet {
            place: place.to_owned(),
            reason,
        };
        // The parser's own message may quote the file, which may hold a secret.
        let file: File = serde_json::from_slice(material.expose())
            .map_err(|_| bad("is no JSON object with a list of \"keys\"".to_owned()))?;
        let mut set = Self {
            keys: Vec::new(),
            unused: Vec::new(),
        };
        for (index, value) in file.keys.into_iter().enumerate() {
            let named = describe(index, &value);
            match of_set(auth, value) {
                Ok(key) => set.keys.push(key),
                Err(why) => set.unused.push(format!("{named} is not used: {why}")),
            }
        }
        if let Some(kid) = set.repeated_kid() {
            let kid = cut(kid);
            return Err(bad(format!(
                "two keys of one family have the kid {kid:?}; which of them a token means cannot be known"
            )));
        }
        if set.keys.is_empty() {
            let why = set.unused.iter().map(|why| format!("; {why}"));
            let why: String = why.collect();
            return Err(bad(format!(
                "holds no key for the algorithms of this table{why}"
            )));
        }
        Ok(set)
    }

    /// All keys that serve are of one family, as the algorithms of a table are.
    fn repeated_kid(&self) -> Option<&str> {
        let mut known = HashSet::new();
        let kids = self.keys.iter().filter_map(Key::kid);
        let mut repeated = kids.filter(|kid| !known.insert(*kid));
        repeated.next()
    }
}

/// `key 2 (kid "a")`, counted from one.
fn describe(index: usize, value: &Value) -> String {
    let number = index + 1;
    match value.get("kid") {
        Some(Value::String(kid)) => format!("key {number} (kid {:?})", cut(kid)),
        Some(Value::Number(kid)) => format!("key {number} (kid {kid})"),
        _ => format!("key {number}"),
    }
}

fn cut(kid: &str) -> &str {
    let end = kid.char_indices().nth(SHOWN_KID);
    end.map_or(kid, |(end, _)| &kid[..end])
}

/// A key that serves, or why it does not.
fn of_set(auth: &JwtAuth, value: Value) -> Result<Key, &'static str> {
    let Value::Object(mut fields) = value else {
        return Err("it is no object");
    };
    let kid = kid(fields.remove("kid"))?;
    plain(&mut fields)?;
    let jwk: Jwk =
        serde_json::from_value(Value::Object(fields)).map_err(|_| "it is no key of its `kty`")?;
    match &jwk.common.public_key_use {
        None | Some(PublicKeyUse::Signature) => {}
        Some(PublicKeyUse::Encryption) => return Err("its `use` is encryption"),
        Some(PublicKeyUse::Other(_)) => return Err("its `use` is not \"sig\""),
    }
    if let Some(operations) = &jwk.common.key_operations
        && !operations.contains(&KeyOperations::Verify)
    {
        return Err("its `key_ops` lack \"verify\"");
    }
    let decoding = DecodingKey::from_jwk(&jwk).map_err(|_| "it is no key of its `kty`")?;
    let mut key = Key::new(auth, decoding, kid)?;
    if let Some(bound) = jwk.common.key_algorithm {
        key.validation.algorithms.retain(|a| bound == (*a).into());
    }
    if key.validation.algorithms.is_empty() {
        return Err("its `alg` is none of `algorithms`");
    }
    Ok(key)
}

/// A text; a whole number is meant as its digits.
fn kid(value: Option<Value>) -> Result<Option<String>, &'static str> {
    let text = match value {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::String(text)) => text,
        Some(Value::Number(number)) if number.is_u64() || number.is_i64() => number.to_string(),
        Some(_) => return Err("its `kid` is neither a text nor a whole number"),
    };
    if text.len() > LONGEST_KID {
        return Err("its `kid` is longer than 256 bytes");
    }
    Ok(Some(text))
}

/// What the octets of a field are.
#[derive(Clone, Copy)]
enum Octets {
    /// A number, big endian, as long as it has to be.
    Number,
    /// A number of so many octets.
    Wide(usize),
    /// Just octets.
    Bytes,
}

/// Writes the numbers of a key as RFC 7518 wants them.
fn plain(fields: &mut Map<String, Value>) -> Result<(), &'static str> {
    let text = |name: &str| fields.get(name).and_then(Value::as_str);
    let wanted: &[(&str, Octets)] = match (text("kty"), text("crv")) {
        (Some("RSA"), _) => &[("n", Octets::Number), ("e", Octets::Number)],
        (Some("EC"), Some("P-256")) => &[("x", Octets::Wide(32)), ("y", Octets::Wide(32))],
        (Some("EC"), Some("P-384")) => &[("x", Octets::Wide(48)), ("y", Octets::Wide(48))],
        (Some("OKP"), Some("Ed25519")) => &[("x", Octets::Bytes)],
        (Some("oct"), _) => &[("k", Octets::Bytes)],
        (Some("EC" | "OKP"), _) => return Err("its `crv` is not supported"),
        _ => return Err("its `kty` is not supported"),
    };
    for (name, octets) in wanted {
        let Some(Value::String(text)) = fields.get_mut(*name) else {
            return Err("it lacks a number of its `kty`");
        };
        *text = decoded(text)
            .and_then(|bytes| octets.write(bytes))
            .map(|bytes| URL_SAFE_NO_PAD.encode(bytes))
            .ok_or("a number of it is not Base64, or too long")?;
    }
    Ok(())
}

/// Base64 in either alphabet, padded or not.
fn decoded(text: &str) -> Option<Vec<u8>> {
    let text = text.trim_end_matches('=');
    let text = text.replace('+', "-").replace('/', "_");
    URL_SAFE_NO_PAD.decode(text).ok()
}

impl Octets {
    fn write(self, bytes: Vec<u8>) -> Option<Vec<u8>> {
        let leading = bytes.iter().take_while(|byte| **byte == 0).count();
        let digits = &bytes[leading..];
        match self {
            Self::Bytes => Some(bytes),
            Self::Number => (!digits.is_empty()).then(|| digits.to_vec()),
            Self::Wide(width) => {
                let missing = width.checked_sub(digits.len())?;
                let mut wide = vec![0; missing];
                wide.extend_from_slice(digits);
                Some(wide)
            }
        }
    }
}
