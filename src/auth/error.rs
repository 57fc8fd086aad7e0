//! What can be wrong with keys that only reading them shows.

use super::ReadSecret;
use crate::config::SHORT_SECRET;
use crate::primitives::pem;
use crate::primitives::secret::{Secret, SecretSource};

/// Why an authenticator could not be made. `place` is the TOML path of the key at fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BuildError {
    /// The source gave nothing.
    #[error("{place}: {reason}")]
    Unreadable {
        /// TOML path.
        place: String,
        /// What the reader said.
        reason: String,
    },
    /// A secret of no bytes, which anybody can sign with.
    #[error("{place} is empty")]
    EmptySecret {
        /// TOML path.
        place: String,
    },
    /// A secret that brought along what is not part of it.
    #[error("{place} {what}")]
    Unmeant {
        /// TOML path.
        place: String,
        /// What is wrong with its end.
        what: &'static str,
    },
    /// A secret for HS algorithms that can be guessed.
    #[error("{place} {SHORT_SECRET}")]
    ShortSecret {
        /// TOML path.
        place: String,
    },
    /// A file that holds no public key of the wanted kind.
    #[error("{place} is no PEM public key for {wanted}")]
    PublicKey {
        /// TOML path.
        place: String,
        /// Algorithms it should serve.
        wanted: String,
    },
    /// A file with keys of which not all would be used.
    #[error("{place}: {reason}")]
    FurtherKey {
        /// TOML path.
        place: String,
        /// What is passed over.
        reason: String,
    },
    /// A key set that cannot be used.
    #[error("{place}: {reason}")]
    KeySet {
        /// TOML path.
        place: String,
        /// What is wrong, without a word of its content but names of keys.
        reason: String,
    },
}

impl BuildError {
    /// TOML path of the key at fault.
    pub fn place(&self) -> &str {
        match self {
            Self::Unreadable { place, .. }
            | Self::EmptySecret { place }
            | Self::Unmeant { place, .. }
            | Self::ShortSecret { place }
            | Self::PublicKey { place, .. }
            | Self::FurtherKey { place, .. }
            | Self::KeySet { place, .. } => place,
        }
    }
}

/// Reads `source`, naming `place` when that fails.
pub(super) fn read_at(
    place: &str,
    source: &SecretSource,
    read: ReadSecret<'_>,
) -> Result<Secret, BuildError> {
    let secret = read(source).map_err(|reason| BuildError::Unreadable {
        place: place.to_owned(),
        reason,
    })?;
    if secret.expose().is_empty() {
        return Err(BuildError::EmptySecret {
            place: place.to_owned(),
        });
    }
    Ok(secret)
}

/// Reads a shared secret: unlike a file with a key in it, every byte of it counts.
pub(super) fn read_secret_at(
    place: &str,
    source: &SecretSource,
    read: ReadSecret<'_>,
) -> Result<Secret, BuildError> {
    let secret = read_at(place, source, read)?;
    secret.check_end().map_err(|what| BuildError::Unmeant {
        place: place.to_owned(),
        what,
    })?;
    Ok(secret)
}

/// Refuses a file of which something was passed over when its public key was read.
pub(super) fn check_only_key(place: &str, pem: &Secret) -> Result<(), BuildError> {
    pem::check_public_key(pem.expose()).map_err(|reason| BuildError::FurtherKey {
        place: place.to_owned(),
        reason,
    })
}
