//! What a configuration points to, read by whoever builds a snapshot of it.

use std::path::Path;

use crate::primitives::secret::{Secret, SecretSource};

/// Reads what a configuration points to. `server` reads files and the environment; tests read a table.
pub trait Material {
    /// The content of a secret.
    fn secret(&self, source: &SecretSource) -> Result<Secret, String>;
    /// The content of a file.
    fn file(&self, path: &Path) -> Result<Vec<u8>, String>;
}
