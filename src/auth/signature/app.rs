//! Applications and what verifies their signatures.

use std::net::IpAddr;
use std::sync::Arc;

use aws_lc_rs::hmac;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, ED25519, ParsedPublicKey};
use jsonwebtoken::DecodingKey;

use super::Principal;
use super::nonce::Share;
use crate::auth::error::{check_only_key, read_at, read_secret_at};
use crate::auth::header_text::header_text;
use crate::auth::{BuildError, ReadSecret};
use crate::config;
use crate::filter::NamedBy;
use crate::primitives::AuthName;
use crate::primitives::ranges::AddressRanges;

/// One application, ready.
pub(super) struct App {
    /// What verifies it.
    pub(super) key: AppKey,
    /// The app's part of the nonce store.
    pub(super) share: Arc<Share>,
    /// Who it is, the same for every request.
    pub(super) principal: Arc<Principal>,
    ips: Option<AddressRanges>,
}

impl App {
    pub(super) fn build(
        (auth, name): (&AuthName, &str),
        settings: &config::App,
        place: &str,
        read: ReadSecret<'_>,
        share: Arc<Share>,
    ) -> Result<Self, BuildError> {
        Ok(Self {
            key: AppKey::build(&settings.key, place, read)?,
            share,
            principal: Arc::new(Principal {
                auth_header: header_text(auth.as_str()),
                consumer_header: header_text(name),
                tier: settings.tier.as_deref().map(Into::into),
                ..Principal::named(auth, NamedBy::App, name)
            }),
            ips: settings.ips.clone(),
        })
    }

    /// Whether it may call from `address`.
    pub(super) fn admits(&self, address: IpAddr) -> bool {
        self.ips.as_ref().is_none_or(|ips| ips.contains(address))
    }
}

/// What verifies a signature. It decides the algorithm; a request can only agree.
pub(super) enum AppKey {
    /// HMAC-SHA256 with the active secret or the one before a rotation.
    Secrets(Vec<hmac::Key>),
    /// A public key.
    Public {
        /// Name of its algorithm in RFC 9421.
        algorithm: &'static str,
        /// The key.
        key: ParsedPublicKey,
    },
}

impl AppKey {
    /// A key that is nobody's.
    pub(super) fn nobody() -> Self {
        Self::Secrets(vec![hmac::Key::new(hmac::HMAC_SHA256, &[0; 32])])
    }

    fn build(key: &config::AppKey, place: &str, read: ReadSecret<'_>) -> Result<Self, BuildError> {
        match key {
            config::AppKey::Secrets(sources) => sources
                .iter()
                .zip(["secret", "previous_secret"])
                .map(|(source, name)| {
                    let secret = read_secret_at(&format!("{place}.{name}"), source, read)?;
                    Ok(hmac::Key::new(hmac::HMAC_SHA256, secret.expose()))
                })
                .collect::<Result<_, _>>()
                .map(Self::Secrets),
            config::AppKey::PublicKey(source) => {
                let place = format!("{place}.public_key");
                let pem = read_at(&place, source, read)?;
                let key = public_key(pem.expose()).ok_or_else(|| BuildError::PublicKey {
                    place: place.clone(),
                    wanted: "Ed25519 or P-256".to_owned(),
                })?;
                check_only_key(&place, &pem)?;
                Ok(key)
            }
        }
    }

    /// Name of its algorithm in RFC 9421.
    pub(super) fn algorithm(&self) -> &'static str {
        match self {
            Self::Secrets(_) => "hmac-sha256",
            Self::Public { algorithm, .. } => algorithm,
        }
    }

    /// Whether `signature` is its signature of `message`. Secrets are compared in constant time, and all of them.
    pub(super) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        match self {
            Self::Secrets(keys) => keys.iter().fold(false, |found, key| {
                hmac::verify(key, message, signature).is_ok() | found
            }),
            Self::Public { key, .. } => key.verify_sig(message, signature).is_ok(),
        }
    }
}

fn public_key(pem: &[u8]) -> Option<AppKey> {
    let parsed = |algorithm: &'static _, point: &DecodingKey| {
        ParsedPublicKey::new(algorithm, point.try_get_as_bytes().ok()?).ok()
    };
    if let Ok(point) = DecodingKey::from_ed_pem(pem) {
        return Some(AppKey::Public {
            algorithm: "ed25519",
            key: parsed(&ED25519, &point)?,
        });
    }
    let point = DecodingKey::from_ec_pem(pem).ok()?;
    Some(AppKey::Public {
        algorithm: "ecdsa-p256-sha256",
        key: parsed(&ECDSA_P256_SHA256_FIXED, &point)?,
    })
}
