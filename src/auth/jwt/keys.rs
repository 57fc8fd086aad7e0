//! What verifies tokens: one key, or a set from which `kid` chooses.
//!
//! Which algorithms a key serves follows from the key itself: an RSA key can never be an HS secret, a P-256 key never
//! serves ES384. What the configuration allows only narrows that.

use aws_lc_rs::rsa;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ED25519, ParsedPublicKey,
};
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey, DecodingKeyKind, Validation};

use super::key_set::KeySet;
use crate::auth::error::{check_only_key, read_at, read_secret_at};
use crate::auth::{BuildError, ReadSecret, Warning};
use crate::config::{HS_SECRET, JwtAuth, JwtKey};
use crate::primitives::secret::Secret;

/// Least size of an RSA modulus in bytes: 2048 bits, below which the cryptography refuses to verify.
const RSA_MODULUS: usize = 256;

/// One key, ready.
pub(super) struct Key {
    kid: Option<String>,
    /// The key itself.
    pub(super) decoding: DecodingKey,
    /// Algorithms the key is good for, and the claims that must be there.
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
    /// Reads the keys, and returns the bytes they came from as well: when those change, the keys have. Last comes what is
    /// to be said of keys that are not used.
    pub(super) fn build(
        auth: &JwtAuth,
        read: ReadSecret<'_>,
    ) -> Result<(Self, Secret, Vec<Warning>), BuildError> {
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
        let mut unused = Vec::new();
        let keys = match &auth.key {
            JwtKey::Secret(_) => Self::One(Box::new(secret(auth, &place, &material)?)),
            JwtKey::PublicKey(_) => Self::One(Box::new(public_key(auth, &place, &material)?)),
            JwtKey::KeySet(_) => {
                let set = KeySet::read(auth, &place, &material)?;
                unused = set.unused;
                Self::Set(set.keys)
            }
        };
        let warnings = unused.into_iter().map(|text| Warning {
            place: place.clone(),
            text,
        });
        Ok((keys, material, warnings.collect()))
    }

    /// The key for a token. Without `kid` a set must leave no choice; an unknown one is never answered by trying all. A key
    /// without a name may have any, so the only such one serves a token that names one nobody has.
    pub(super) fn find(&self, algorithm: Algorithm, kid: Option<&str>) -> Option<&Key> {
        let serves = |key: &&Key| key.validation.algorithms.contains(&algorithm);
        let set = match self {
            Self::One(key) => return Some(&**key).filter(serves),
            Self::Set(set) => set,
        };
        let named = |key: &Key| kid.is_some() && key.kid() == kid;
        if let Some(key) = set.iter().find(|key| named(key)) {
            return Some(key).filter(serves);
        }
        let nameless = |key: &&Key| kid.is_none() || key.kid().is_none();
        let mut fit = set.iter().filter(serves).filter(nameless);
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
    Key::new(auth, decoding, None).map_err(|_| no_key(auth, place))
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
        .and_then(|decoding| Key::new(auth, decoding, None).ok())
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

impl Key {
    /// A key with the algorithms that it serves and `auth` allows, or why there are none.
    pub(super) fn new(
        auth: &JwtAuth,
        decoding: DecodingKey,
        kid: Option<String>,
    ) -> Result<Self, &'static str> {
        let served = served(&decoding);
        let allowed = auth.algorithms.iter().copied();
        let algorithms: Vec<Algorithm> = allowed.filter(|a| served.contains(a)).collect();
        let first = algorithms.first().ok_or(match served {
            [] => "it is malformed, or too short to be safe",
            _ => "it serves none of `algorithms`",
        })?;
        let mut validation = Validation::new(*first);
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
        Ok(Self {
            kid,
            decoding,
            validation,
        })
    }

    /// The name by which a token may mean it.
    pub(super) fn kid(&self) -> Option<&str> {
        self.kid.as_deref()
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
