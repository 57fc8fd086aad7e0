//! What was built.

/// Version of this build.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
/// Commit it was built from; `unknown` outside a repository.
pub const COMMIT: &str = env!("TOLLGATE_COMMIT");
