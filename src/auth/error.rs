//! What can be wrong with keys that only reading them shows.

use super::ReadSecret;
use crate::config::SHORT_SECRET;
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
    /// A key set that cannot be used.
    #[error("{place}: {reason}")]
    KeySet {
        /// TOML path.
        place: String,
        /// What is wrong, without a word of its content but names of keys.
        reason: String,
    },
    /// A file with more than the one key that is looked for.
    #[error(
        "{place} holds {count} keys where one is used; keep that one, or make a key set of them"
    )]
    SeveralKeys {
        /// TOML path.
        place: String,
        /// How many.
        count: usize,
    },
}

impl BuildError {
    /// TOML path of the key at fault.
    pub fn place(&self) -> &str {
        match self {
            Self::Unreadable { place, .. }
            | Self::EmptySecret { place }
            | Self::ShortSecret { place }
            | Self::PublicKey { place, .. }
            | Self::KeySet { place, .. }
            | Self::SeveralKeys { place, .. } => place,
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
