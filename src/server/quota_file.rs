//! Quotas on disk: what was counted in windows that last a day or a month survives the process, however it ends.
//!
//! The file is written every few seconds while something changes, and at an orderly stop: into a file of its own, which is
//! forced to the disk and put in place of the last one in one step. After a crash or a power failure what was counted since
//! the last write is lost, a few seconds' worth; never more, and never the file. Keys are hashes under a seed that is in the
//! file: no address, token or name is.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::carried::{CHECKSUM, LARGEST, pairs, take};
use super::handover::runtime_dir::RuntimeDir;
use crate::gateway::State;
use crate::limit::KeptQuotas;
use crate::primitives::digest::sha256;

const FILE: &str = "quotas";
const MAGIC: &[u8; 8] = b"tollquo1";
/// Between two writes: what a crash may cost.
const EVERY: Duration = Duration::from_secs(2);
/// A write that takes longer is not waited for.
const LONGEST_WRITE: Duration = Duration::from_secs(60);
/// Of the time that writing may take at most: a large file is written less often.
const SHARE: u32 = 10;

/// The file, and when it is written next.
pub(super) struct QuotaFile {
    path: PathBuf,
    directory: Arc<RuntimeDir>,
    next: Mutex<Next>,
    /// One write at a time.
    writing: Mutex<()>,
}

struct Next {
    due: Instant,
    /// What was counted is not on disk yet.
    changed: bool,
}

#[derive(Serialize, Deserialize)]
struct Head {
    seed: [u64; 2],
    limits: Vec<LimitHead>,
}

#[derive(Serialize, Deserialize)]
struct LimitHead {
    identity: String,
    count: u64,
}

impl QuotaFile {
    /// The file in `states`, which is this process' as long as `directory` is.
    pub(super) fn new(states: &Path, directory: &Arc<RuntimeDir>) -> Self {
        Self {
            path: states.join(FILE),
            directory: Arc::clone(directory),
            next: Mutex::new(Next {
                due: Instant::now() + EVERY,
                changed: false,
            }),
            writing: Mutex::default(),
        }
    }

    /// Goes on with what is there. Called before the first request.
    pub(super) fn restore(&self, state: &State) {
        let Ok(file) = File::open(&self.path) else {
            return;
        };
        match read(&file).and_then(|bytes| decode(&bytes)) {
            Ok(kept) => {
                let keys: usize = kept.limits.iter().map(|(_, entries)| entries.len()).sum();
                log::info!("going on with {keys} keys of quotas");
                state.limits.import_quotas(&kept);
            }
            Err(error) => log::warn!(
                "{} is not used, quotas begin anew: {error:#}",
                self.path.display()
            ),
        }
    }

    /// Writes when something changed and it is time. Called once a second.
    pub(super) fn tick(self: &Arc<Self>, state: &Arc<State>) {
        let mut next = self.next.lock();
        next.changed |= state.limits.quotas_changed();
        let now = Instant::now();
        if !next.changed || now < next.due || !self.directory.is_ours() {
            return;
        }
        // Not again before this write has ended, which says when the next is due.
        next.due = now + LONGEST_WRITE;
        drop(next);
        let (file, state) = (Arc::clone(self), Arc::clone(state));
        // The disk may take its time; nothing waits for it.
        tokio::task::spawn_blocking(move || file.write(&state));
    }

    /// Writes what was counted, if there is anything to keep.
    pub(super) fn write(&self, state: &State) {
        if !self.directory.is_ours() {
            return;
        }
        let _writing = self.writing.lock();
        let began = Instant::now();
        self.next.lock().changed = false;
        let kept = state.limits.export_quotas();
        if kept.limits.is_empty() {
            return;
        }
        let written = encode(&kept).and_then(|bytes| self.replace(&bytes));
        if let Err(error) = &written {
            log::warn!("quotas are not on disk: {error:#}");
        }
        let mut next = self.next.lock();
        next.changed |= written.is_err();
        next.due = Instant::now() + EVERY.max(began.elapsed() * SHARE);
    }

    fn replace(&self, bytes: &[u8]) -> anyhow::Result<()> {
        let partial = self.path.with_extension("partial");
        let _ = fs::remove_file(&partial);
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&partial)
            .with_context(|| partial.display().to_string())?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&partial, &self.path)?;
        // The name is on disk when its directory is.
        let folder = self.path.parent().context("no directory")?;
        File::open(folder)?.sync_all()?;
        Ok(())
    }
}

fn encode(kept: &KeptQuotas) -> anyhow::Result<Vec<u8>> {
    let limits = kept.limits.iter();
    let limits = limits.map(|(identity, entries)| LimitHead {
        identity: identity.clone(),
        count: entries.len() as u64,
    });
    let head = serde_json::to_vec(&Head {
        seed: kept.seed,
        limits: limits.collect(),
    })?;
    let mut out = MAGIC.to_vec();
    out.extend_from_slice(&u32::try_from(head.len())?.to_be_bytes());
    out.extend_from_slice(&head);
    for (key, value) in kept.limits.iter().flat_map(|(_, entries)| entries) {
        out.extend_from_slice(&key.to_be_bytes());
        out.extend_from_slice(&value.to_be_bytes());
    }
    out.extend_from_slice(&sha256(&out));
    ensure!(out.len() as u64 <= LARGEST, "too much to be kept");
    Ok(out)
}

fn decode(bytes: &[u8]) -> anyhow::Result<KeptQuotas> {
    let (rest, checksum) = bytes.split_last_chunk::<CHECKSUM>().context("cut short")?;
    ensure!(sha256(rest) == *checksum, "damaged");
    let mut rest = rest;
    ensure!(take::<8>(&mut rest)? == *MAGIC, "of another version");
    let length = u32::from_be_bytes(take(&mut rest)?) as usize;
    let head = rest.split_off(..length).context("cut short")?;
    let head: Head = serde_json::from_slice(head)?;
    let mut kept = KeptQuotas {
        seed: head.seed,
        limits: Vec::new(),
    };
    for limit in head.limits {
        let entries = pairs(&mut rest, limit.count)?;
        kept.limits.push((limit.identity, entries));
    }
    ensure!(rest.is_empty(), "longer than its head says");
    Ok(kept)
}

fn read(file: &File) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(LARGEST + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > LARGEST {
        bail!("larger than anything that is written");
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> KeptQuotas {
        KeptQuotas {
            seed: [1, 2],
            limits: vec![
                ("a".into(), vec![(1, 2), (3, u64::MAX)]),
                ("b".into(), Vec::new()),
            ],
        }
    }

    #[test]
    fn comes_back_as_it_was() {
        let bytes = encode(&sample()).expect("encoded");
        assert_eq!(decode(&bytes).expect("decoded"), sample());
    }

    #[test]
    fn nothing_damaged_is_taken() {
        let bytes = encode(&sample()).expect("encoded");
        for cut in 0..bytes.len() {
            assert!(decode(&bytes[..cut]).is_err(), "{cut}");
        }
        for at in 0..bytes.len() {
            let mut bytes = bytes.clone();
            bytes[at] ^= 1;
            assert!(decode(&bytes).is_err(), "{at}");
        }
    }
}
