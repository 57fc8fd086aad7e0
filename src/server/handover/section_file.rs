//! Files of sections: read whole, and put in place of the last one in one step.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use anyhow::{Context, ensure};

use super::first_format;
use crate::primitives::sections::{LARGEST, Section, Sections};

/// When a file is where a power failure cannot take it away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::server) enum Durable {
    /// When the system gets to it: a disk that is busy holds nothing up.
    Soon,
    /// When it was written.
    Now,
}

/// Reads the sections that lie in `file`, of this version or of 0.1.0.
pub(in crate::server) fn read(file: &File) -> anyhow::Result<Sections> {
    let mut bytes = Vec::new();
    file.take(LARGEST as u64 + 1).read_to_end(&mut bytes)?;
    ensure!(
        bytes.len() <= LARGEST,
        "larger than anything that is written"
    );
    decode(&bytes)
}

/// Reads sections, of this version or as 0.1.0 wrote what is in them.
pub(in crate::server) fn decode(bytes: &[u8]) -> anyhow::Result<Sections> {
    if first_format::is(bytes) {
        return first_format::decode(bytes);
    }
    Ok(Sections::decode(bytes)?)
}

/// The section of this kind; `None` when there is none, and when it cannot be used, which the log is told.
pub(in crate::server) fn section<S: Section>(sections: &Sections) -> Option<S> {
    sections.get().unwrap_or_else(|error| {
        log::warn!("what was kept of {} is not used: {error}", S::NAME);
        None
    })
}

/// Writes `bytes` into a file of their own, which then takes the place of the one at `path`.
pub(in crate::server) fn replace(
    path: &Path,
    bytes: &[u8],
    durable: Durable,
) -> anyhow::Result<()> {
    let partial = path.with_extension("partial");
    let _ = fs::remove_file(&partial);
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&partial)
        .with_context(|| partial.display().to_string())?;
    file.write_all(bytes)?;
    if durable == Durable::Now {
        file.sync_all()?;
    }
    fs::rename(&partial, path)?;
    if durable == Durable::Now {
        // The name is on disk when its directory is.
        let folder = path.parent().context("no directory")?;
        File::open(folder)?.sync_all()?;
    }
    Ok(())
}
