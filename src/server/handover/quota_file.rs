//! Quotas on disk: what was counted in windows that last a day or a month survives the process, however it ends.
//!
//! The file is written every few seconds while something changes, and at an orderly stop: into a file of its own, which is
//! forced to the disk and put in place of the last one in one step. After a crash or a power failure what was counted since
//! the last write is lost, a few seconds' worth; never more, and never the file. Keys are hashes under a seed that is in the
//! file: no address, token or name is.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use parking_lot::Mutex;

use super::runtime_dir::RuntimeDir;
use super::section_file::{self, Durable};
use crate::gateway::State;
use crate::limit::KeptQuotas;
use crate::primitives::clock;
use crate::primitives::sections::Sections;

const FILE: &str = "quotas";
/// Between two writes: what a crash may cost.
const EVERY: Duration = Duration::from_secs(2);
/// A write that takes longer is not waited for.
const LONGEST_WRITE: Duration = Duration::from_secs(60);
/// Of the time that writing may take at most: a large file is written less often.
const SHARE: u32 = 10;

/// The file, and when it is written next.
pub(in crate::server) struct QuotaFile {
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

impl QuotaFile {
    /// The file in `states`, which is this process' as long as `directory` is.
    pub(in crate::server) fn new(states: &Path, directory: &Arc<RuntimeDir>) -> Self {
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
    pub(in crate::server) fn restore(&self, state: &State) {
        let Ok(file) = File::open(&self.path) else {
            return;
        };
        match section_file::read(&file).and_then(|sections| decode(&sections)) {
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
    pub(in crate::server) fn tick(self: &Arc<Self>, state: &Arc<State>) {
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
    pub(in crate::server) fn write(&self, state: &State) {
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
        let written =
            encode(&kept).and_then(|bytes| section_file::replace(&self.path, &bytes, Durable::Now));
        if let Err(error) = &written {
            log::warn!("quotas are not on disk: {error:#}");
        }
        let mut next = self.next.lock();
        next.changed |= written.is_err();
        next.due = Instant::now() + EVERY.max(began.elapsed() * SHARE);
    }
}

fn encode(kept: &KeptQuotas) -> anyhow::Result<Vec<u8>> {
    let mut sections = Sections::at(clock::unix_now());
    sections.put(kept)?;
    Ok(sections.encode()?)
}

fn decode(sections: &Sections) -> anyhow::Result<KeptQuotas> {
    sections.get()?.context("there are none in it")
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

    fn read(bytes: &[u8]) -> anyhow::Result<KeptQuotas> {
        decode(&section_file::decode(bytes)?)
    }

    #[test]
    fn comes_back_as_it_was() {
        let bytes = encode(&sample()).expect("encoded");
        assert_eq!(read(&bytes).expect("read"), sample());
    }

    #[test]
    fn nothing_damaged_is_taken() {
        let bytes = encode(&sample()).expect("encoded");
        for cut in 0..bytes.len() {
            let read = read(&bytes[..cut]);
            assert!(read.map_or(true, |read| read == sample()), "{cut}");
        }
        for at in 0..bytes.len() {
            let mut bytes = bytes.clone();
            bytes[at] ^= 1;
            let read = read(&bytes);
            assert!(read.map_or(true, |read| read == sample()), "{at}");
        }
    }

    #[test]
    fn a_file_of_other_things_has_no_quotas() {
        let bytes = Sections::default().encode().expect("encoded");
        assert!(read(&bytes).is_err());
    }
}
