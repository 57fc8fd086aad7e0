//! Text that must never be shown.

use std::fmt;
use std::sync::Arc;

/// A secret value. Its `Debug` and `Display` say nothing, so it cannot reach a log by accident.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Arc<[u8]>);

impl Secret {
    /// Keeps `bytes` secret.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Self(Arc::from(bytes.into()))
    }

    /// The bytes themselves: for key construction and comparison, nothing else.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Where a configured secret comes from. Reading it is the loader's work; the configuration only knows the source.
#[derive(Clone, PartialEq, Eq)]
pub enum SecretSource {
    /// Written in the file itself.
    Literal(Secret),
    /// `env:NAME`.
    Env(String),
    /// `file:/path`; one trailing newline is cut.
    File(String),
    /// `cred:NAME`, a systemd credential: a file of that name in `$CREDENTIALS_DIRECTORY`.
    Credential(String),
}

impl SecretSource {
    /// Tells the source from the prefix; a text without one is the secret itself.
    pub fn parse(text: &str) -> Self {
        if let Some(name) = text.strip_prefix("env:") {
            Self::Env(name.to_owned())
        } else if let Some(path) = text.strip_prefix("file:") {
            Self::File(path.to_owned())
        } else if let Some(name) = text.strip_prefix("cred:") {
            Self::Credential(name.to_owned())
        } else {
            Self::Literal(Secret::new(text))
        }
    }
}

impl fmt::Debug for SecretSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for SecretSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Literal(_) => f.write_str("***"),
            Self::Env(name) => write!(f, "env:{name}"),
            Self::File(path) => write!(f, "file:{path}"),
            Self::Credential(name) => write!(f, "cred:{name}"),
        }
    }
}
