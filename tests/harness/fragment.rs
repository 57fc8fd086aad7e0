//! Blocks of TOML that stand in many tests and are the subject of none. What a test is about it writes out itself.

/// An upstream with one endpoint: the origin that [`Setup::to`](super::Setup::to) names.
pub(crate) fn upstream(name: &str) -> String {
    format!("\n[upstream.{name}]\nendpoints = [{{ address = \"{{origin}}\" }}]\n")
}

/// Callers with tokens that are signed with [`SECRET`].
pub(crate) fn callers(name: &str) -> String {
    format!("\n[auth.{name}]\ntype = \"jwt\"\nalgorithms = [\"HS256\"]\nsecret = \"{SECRET}\"\n")
}

/// The secret of [`callers`].
pub(crate) const SECRET: &str = "0123456789abcdef0123456789abcdef";
