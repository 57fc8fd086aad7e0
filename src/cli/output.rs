//! What a command leaves behind: its data on stdout, or a failure that was told already.

use std::io::Write;

/// A failure whose explanation was printed already.
#[derive(Debug, thiserror::Error)]
#[error("failed")]
pub(super) struct Shown;

/// Writes to stdout; a reader that closed early is no failure.
pub(super) fn write_out(text: &str) -> anyhow::Result<()> {
    match std::io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}
