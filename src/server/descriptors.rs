//! Files that the process may open, counted before it starts: one that runs out of them while its workers begin would end
//! in the middle of it, and one that has none left for upstreams serves nobody.

use anyhow::ensure;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use super::reload::Fixed;
use crate::config::Config;

/// Files of a worker besides those of its listeners: what its runtime waits with.
const PER_WORKER: u64 = 4;
/// Files of a listener in each worker: its socket, another descriptor of it to be passed on, and one that is kept for the
/// moment when there is no other.
const PER_LISTENER: u64 = 3;
/// Everything else: logs, the runtimes of admin and background services, the runtime directory, and files that a reload
/// reads.
const OTHERS: u64 = 64;

/// Files that the process opens before it serves anybody.
pub(super) fn needed(config: &Config) -> u64 {
    let workers = Fixed::of(config).workers() as u64;
    let listeners = config.listeners.len() as u64;
    workers * (PER_WORKER + PER_LISTENER * listeners) + OTHERS
}

/// Whether so many files are enough to start with, and for one connection with its upstream's.
pub(super) fn check(config: &Config, files: u64) -> anyhow::Result<()> {
    let (needed, workers) = (needed(config), Fixed::of(config).workers());
    let listeners = config.listeners.len();
    ensure!(
        files >= needed + 2,
        "this process may open {files} files, and {workers} workers with {listeners} listeners each need {}: raise the \
         limit (LimitNOFILE=, ulimit -n) or lower server.threads",
        needed + 2
    );
    Ok(())
}

/// Whether this configuration can be started by a process with the limits of this one.
pub fn check_here(config: &Config) -> anyhow::Result<()> {
    let limits = getrlimit(Resource::RLIMIT_NOFILE);
    check(config, limits.map_or(u64::MAX, |(_, hard)| hard))
}

/// Two descriptors a request are needed; the soft limit of a shell is far below that. Returns the limit in force.
pub(super) fn raise_limit() -> u64 {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else {
        return u64::MAX;
    };
    if soft < hard
        && let Err(error) = setrlimit(Resource::RLIMIT_NOFILE, hard, hard)
    {
        log::warn!("the limit of open files stays at {soft}: {error}");
        return soft;
    }
    hard
}
