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

    /// Keeps the content of a file or a variable secret, less one line end: that is the editor's, or the shell's.
    pub fn of_text(mut bytes: Vec<u8>) -> Self {
        if bytes.last() == Some(&b'\n') {
            bytes.pop();
            if bytes.last() == Some(&b'\r') {
                bytes.pop();
            }
        }
        Self(Arc::from(bytes))
    }

    /// The bytes themselves: for key construction and comparison, nothing else.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// Refuses what came along when the secret was copied: at its end a blank, a tab or a line end is not part of it, and
    /// with it no signature would ever be right.
    pub fn check_end(&self) -> Result<(), &'static str> {
        match self.0.last() {
            Some(b' ') => Err("ends in a blank, which is hardly part of it; cut it off"),
            Some(b'\t') => Err("ends in a tab, which is hardly part of it; cut it off"),
            Some(b'\n' | b'\r' | 0x0b | 0x0c) => {
                Err("ends in a further line end, which is hardly part of it; cut it off")
            }
            _ => Ok(()),
        }
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
    /// `env:NAME`; one trailing newline is cut.
    Env(String),
    /// `file:/path`; one trailing newline is cut.
    File(String),
    /// `cred:NAME`, a systemd credential: a file of that name in `$CREDENTIALS_DIRECTORY`, read the same way.
    Credential(String),
}

/// Reads a secret; the text of the error says why it could not.
pub type ReadSecret<'r> = &'r dyn Fn(&SecretSource) -> Result<Secret, String>;

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
