//! What verifies tokens: one key, or a set from which `kid` chooses.
//!
//! Which algorithms a key serves follows from the key itself: an RSA key can never be an HS secret, a P-256 key never
//! serves ES384. What the configuration allows only narrows that.

use aws_lc_rs::rsa;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ED25519, ParsedPublicKey,
};
use jsonwebtoken::jwk::{Jwk, KeyOperations, PublicKeyUse};
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey, DecodingKeyKind, Validation};
use serde::Deserialize;
use serde_json::Value;

use crate::auth::error::{check_only_key, read_at, read_secret_at};
use crate::auth::{BuildError, ReadSecret};
use crate::config::{HS_SECRET, JwtAuth, JwtKey};
use crate::primitives::secret::Secret;

/// Least size of an RSA modulus in bytes: 2048 bits, below which the cryptography refuses to verify.
const RSA_MODULUS: usize = 256;

/// One key, ready.
pub(super) struct Key {
    kid: Option<String>,
    /// The key itself.
    pub(super) decoding: DecodingKey,
    /// Its algorithms and the claims that must be there.
    pub(super) validation: Validation,
}

/// All keys of an `[auth.NAME]`.
pub(super) enum Keys {
    /// The only one: `kid` says nothing.
    One(Box<Key>),
    /// A set: `kid` chooses.
    Set(Vec<Key>),
}

impl Keys {
    /// Reads the keys, and returns the bytes they came from as well: when those change, the keys have.
    pub(super) fn build(
        auth: &JwtAuth,
        read: ReadSecret<'_>,
    ) -> Result<(Self, Secret), BuildError> {
        let (source, name) = match &auth.key {
            JwtKey::Secret(source) => (source, "secret"),
            JwtKey::PublicKey(source) => (source, "public_key"),
            JwtKey::KeySet(source) => (source, "jwks"),
        };
        let place = format!("auth.{}.{name}", auth.name);
        let material = match &auth.key {
            JwtKey::Secret(_) => read_secret_at(&place, source, read)?,
            JwtKey::PublicKey(_) | JwtKey::KeySet(_) => read_at(&place, source, read)?,
        };
        let keys = match &auth.key {
            JwtKey::Secret(_) => Self::One(Box::new(secret(auth, &place, &material)?)),
            JwtKey::PublicKey(_) => Self::One(Box::new(public_key(auth, &place, &material)?)),
            JwtKey::KeySet(_) => Self::Set(key_set(auth, &place, &material)?),
        };
        Ok((keys, material))
    }

    /// The key for a token. Without `kid` a set must leave no choice; an unknown one is never answered by trying all.
    pub(super) fn find(&self, algorithm: Algorithm, kid: Option<&str>) -> Option<&Key> {
        let serves = |key: &Key| key.validation.algorithms.contains(&algorithm);
        let set = match self {
            Self::One(key) => return serves(key).then_some(key),
            Self::Set(set) => set,
        };
        if kid.is_some() {
            return set
                .iter()
                .find(|key| key.kid.as_deref() == kid && serves(key));
        }
        let mut fit = set.iter().filter(|key| serves(key));
        match (fit.next(), fit.next()) {
            (Some(only), None) => Some(only),
            _ => None,
        }
    }
}

fn secret(auth: &JwtAuth, place: &str, material: &Secret) -> Result<Key, BuildError> {
    if material.expose().len() < HS_SECRET {
        return Err(BuildError::ShortSecret {
            place: place.to_owned(),
        });
    }
    let decoding = DecodingKey::from_secret(material.expose());
    Key::new(auth, decoding, None).ok_or_else(|| no_key(auth, place))
}

fn public_key(auth: &JwtAuth, place: &str, material: &Secret) -> Result<Key, BuildError> {
    let pem = material.expose();
    let decoding = match auth.algorithms.first().map(|a| a.family()) {
        Some(AlgorithmFamily::Rsa) => DecodingKey::from_rsa_pem(pem),
        Some(AlgorithmFamily::Ec) => DecodingKey::from_ec_pem(pem),
        Some(AlgorithmFamily::Ed) => DecodingKey::from_ed_pem(pem),
        Some(AlgorithmFamily::Hmac) | None => return Err(no_key(auth, place)),
    };
    decoding
        .ok()
        .and_then(|decoding| Key::new(auth, decoding, None))
        .ok_or_else(|| no_key(auth, place))
        .and_then(|key| check_only_key(place, material).map(|()| key))
}

fn no_key(auth: &JwtAuth, place: &str) -> BuildError {
    let names: Vec<String> = auth.algorithms.iter().map(|a| format!("{a:?}")).collect();
    BuildError::PublicKey {
        place: place.to_owned(),
        wanted: names.join(", "),
    }
}

/// The keys of a set that can serve; others are skipped, as RFC 7517 §5 asks.
fn key_set(auth: &JwtAuth, place: &str, material: &Secret) -> Result<Vec<Key>, BuildError> {
    #[derive(Deserialize)]
    struct KeySet {
        keys: Vec<Value>,
    }
    let bad = |reason| BuildError::KeySet {
        place: place.to_owned(),
        reason,
    };
    // The parser's own message may quote the file, which may hold a secret.
    let set: KeySet = serde_json::from_slice(material.expose())
        .map_err(|_| bad("is no JSON object with a list of \"keys\""))?;
    let listed = set.keys.len();
    let keys: Vec<Key> = set
        .keys
        .into_iter()
        .filter_map(|value| serde_json::from_value(value).ok())
        .filter_map(|jwk| of_set(auth, &jwk))
        .collect();
    if keys.is_empty() {
        return Err(bad("holds no key for the algorithms of this table"));
    }
    if keys.len() < listed {
        let passed_over = listed - keys.len();
        log::info!(
            "{place}: {passed_over} of {listed} keys serve none of the algorithms of this table"
        );
    }
    Ok(keys)
}

fn of_set(auth: &JwtAuth, jwk: &Jwk) -> Option<Key> {
    let common = &jwk.common;
    let signs = matches!(common.public_key_use, None | Some(PublicKeyUse::Signature));
    let verifies = match &common.key_operations {
        Some(operations) => operations.contains(&KeyOperations::Verify),
        None => true,
    };
    if !signs || !verifies {
        return None;
    }
    let decoding = DecodingKey::from_jwk(jwk).ok()?;
    let mut key = Key::new(auth, decoding, common.key_id.clone())?;
    if let Some(bound) = common.key_algorithm {
        key.validation.algorithms.retain(|a| bound == (*a).into());
    }
    (!key.validation.algorithms.is_empty()).then_some(key)
}

impl Key {
    /// A key with the algorithms that it serves and `auth` allows; `None` when there are none.
    fn new(auth: &JwtAuth, decoding: DecodingKey, kid: Option<String>) -> Option<Self> {
        let served = served(&decoding);
        let allowed = auth.algorithms.iter().copied();
        let algorithms: Vec<Algorithm> = allowed.filter(|a| served.contains(a)).collect();
        let mut validation = Validation::new(*algorithms.first()?);
        validation.algorithms = algorithms;
        // Presence is checked by the crate, time by `Window`: one clock for remembered and fresh tokens.
        validation.validate_exp = false;
        let mut required = vec!["exp"];
        if let Some(issuer) = &auth.issuer {
            validation.set_issuer(&[issuer]);
            required.push("iss");
        }
        // Without a configured audience `aud` is not looked at; the crate would refuse every token that has one.
        validation.validate_aud = !auth.audience.is_empty();
        if validation.validate_aud {
            validation.set_audience(&auth.audience);
            required.push("aud");
        }
        validation.set_required_spec_claims(&required);
        Some(Self {
            kid,
            decoding,
            validation,
        })
    }
}

/// The algorithms a key can serve by its own nature; none when it is malformed or too weak.
fn served(key: &DecodingKey) -> &'static [Algorithm] {
    use Algorithm::{ES256, ES384, EdDSA, HS256, HS384, HS512};
    use Algorithm::{PS256, PS384, PS512, RS256, RS384, RS512};
    match (key.family(), key.kind()) {
        (AlgorithmFamily::Hmac, DecodingKeyKind::SecretOrDer(secret))
            if secret.len() >= HS_SECRET =>
        {
            &[HS256, HS384, HS512]
        }
        (AlgorithmFamily::Rsa, kind) if is_rsa(kind) => &[RS256, RS384, RS512, PS256, PS384, PS512],
        (AlgorithmFamily::Ec, DecodingKeyKind::SecretOrDer(point)) => {
            if ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).is_ok() {
                &[ES256]
            } else if ParsedPublicKey::new(&ECDSA_P384_SHA384_FIXED, point).is_ok() {
                &[ES384]
            } else {
                &[]
            }
        }
        (AlgorithmFamily::Ed, DecodingKeyKind::SecretOrDer(point))
            if ParsedPublicKey::new(&ED25519, point).is_ok() =>
        {
            &[EdDSA]
        }
        _ => &[],
    }
}

fn is_rsa(kind: &DecodingKeyKind) -> bool {
    match kind {
        DecodingKeyKind::SecretOrDer(der) => {
            rsa::PublicKey::from_der(der).is_ok_and(|key| key.modulus_len() >= RSA_MODULUS)
        }
        DecodingKeyKind::RsaModulusExponent { n, e } => {
            let leading = n.iter().take_while(|byte| **byte == 0).count();
            n.len() - leading >= RSA_MODULUS && !e.is_empty()
        }
    }
}
