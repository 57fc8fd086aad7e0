//! What a process leaves to the next: used nonces, what limits counted, what is known of endpoints and of breakers that are
//! open, answers that are kept.
//!
//! It travels over the channel of an upgrade, or lies in a file between a stop and the next start. The file is taken
//! away as it is read: after a crash nothing old is found, and stamps from before the start are refused. Kept answers go
//! over the channel alone.
//!
//! Each room writes a [section](crate::primitives::sections) of its own. One that is damaged, or was written by a later
//! version, is lost alone: without the nonces stamps from before are refused, all others are as if they had been empty.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;

use super::section_file::{self, Durable, section};
use crate::auth::CarriedNonces;
use crate::degrade::{CarriedAnswers, CarriedLevels};
use crate::gateway::State;
use crate::limit::{CarriedTimes, KeptQuotas};
use crate::primitives::clock;
use crate::primitives::sections::{Section, Sections};
use crate::rollout::CarriedStops;
use crate::upstream::CarriedEndpoints;
use crate::upstream::breaker::{CarriedBreakers, KnownBreaker};

const FILE: &str = "carried";
/// Most bytes of kept answers that are carried; the latest go first.
const MOST_ANSWERS: usize = 64 << 20;

/// What is carried.
#[derive(Debug, Default, PartialEq)]
pub(in crate::server) struct HandoverState {
    /// When it was written, since 1970.
    at: Duration,
    nonces: CarriedNonces,
    times: Option<CarriedTimes>,
    quotas: KeptQuotas,
    endpoints: CarriedEndpoints,
    levels: CarriedLevels,
    stops: CarriedStops,
    breakers: CarriedBreakers,
    answers: CarriedAnswers,
}

impl HandoverState {
    /// Everything this process knows. Nonces are no longer decided here afterwards.
    pub(in crate::server) fn of(state: &State) -> Self {
        let now = state.clock.now();
        let nonces = state.auth.hand_over(now);
        Self {
            // Afterwards: what is not known is whatever came before this.
            at: clock::unix_now(),
            nonces: CarriedNonces(nonces),
            times: Some(CarriedTimes {
                seed: state.limits.seed_numbers(),
                limits: state.limits.export(now),
            }),
            quotas: state.limits.export_quotas(),
            endpoints: CarriedEndpoints(state.endpoints.export(now)),
            levels: CarriedLevels(state.levels.export(now)),
            stops: CarriedStops(state.rollouts.export()),
            breakers: CarriedBreakers(known_breakers(state, now)),
            answers: CarriedAnswers::default(),
        }
    }

    /// With the answers that are kept for bad times.
    pub(in crate::server) fn with_answers(mut self, state: &State) -> Self {
        let now = state.clock.now();
        self.answers = state.kept_answers.export(MOST_ANSWERS, now);
        self
    }

    /// Takes over what another process knew.
    pub(in crate::server) fn give_to(self, state: &State) {
        let now = state.clock.now();
        // A wall clock that was set back in between counts as no time passed.
        let passed = clock::unix_now().saturating_sub(self.at);
        state.auth.take_over(&self.nonces.0, millis(self.at), now);
        if let Some(times) = self.times {
            state.limits.import(times.seed, &times.limits, passed, now);
        }
        if !self.quotas.limits.is_empty() {
            state.limits.import_quotas(&self.quotas);
        }
        state.levels.import(&self.levels.0, passed, now);
        state.rollouts.import(&self.stops.0);
        if let Some(snapshot) = state.snapshot() {
            let pools = snapshot.pools.values();
            pools.for_each(|pool| pool.recall(&self.endpoints.0, passed, now));
            let breakers = snapshot.breakers();
            breakers.for_each(|breaker| breaker.recall(&self.breakers.0, passed, now));
        }
        state.kept_answers.import(&self.answers, passed, now);
    }

    /// As bytes. More than can be carried is an error: the process that knows it goes on.
    pub(in crate::server) fn encode(&self) -> anyhow::Result<Vec<u8>> {
        let mut sections = Sections::at(self.at);
        // What must not be lost first: a file that was cut short still has it.
        put(&mut sections, &self.nonces)?;
        if let Some(times) = &self.times {
            put(&mut sections, times)?;
        }
        if !self.quotas.limits.is_empty() {
            put(&mut sections, &self.quotas)?;
        }
        put(&mut sections, &self.levels)?;
        put(&mut sections, &self.stops)?;
        put(&mut sections, &self.endpoints)?;
        put(&mut sections, &self.breakers)?;
        put(&mut sections, &self.answers)?;
        Ok(sections.encode()?)
    }

    /// Reads what [`encode`](Self::encode) wrote, here or in 0.1.0.
    pub(in crate::server) fn decode(bytes: &[u8]) -> anyhow::Result<Self> {
        Ok(Self::read(&section_file::decode(bytes)?))
    }

    fn read(sections: &Sections) -> Self {
        Self {
            at: sections.at,
            nonces: section(sections).unwrap_or_default(),
            times: section(sections),
            quotas: section(sections).unwrap_or_default(),
            endpoints: section(sections).unwrap_or_default(),
            levels: section(sections).unwrap_or_default(),
            stops: section(sections).unwrap_or_default(),
            breakers: section(sections).unwrap_or_default(),
            answers: section(sections).unwrap_or_default(),
        }
    }

    /// Takes the file that an orderly stop left in `directory`; `None` when there is none that can be used.
    pub(in crate::server) fn take_from(directory: &Path) -> Option<Self> {
        let path = directory.join(FILE);
        let file = File::open(&path).ok()?;
        // First of all it goes: read twice it would bring back limits of long ago.
        if let Err(error) = fs::remove_file(&path) {
            log::warn!(
                "{} cannot be removed and is not used: {error}",
                path.display()
            );
            return None;
        }
        match section_file::read(&file) {
            Ok(sections) => Some(Self::read(&sections)),
            Err(error) => {
                log::warn!(
                    "{} is not used, signed requests from before this start are refused: {error:#}",
                    path.display()
                );
                None
            }
        }
    }

    /// Leaves a file in `directory`. A disk that is busy does not hold up the stop: what is not written when the power
    /// fails has no valid checksums, which is as after a crash.
    pub(in crate::server) fn leave_in(&self, directory: &Path) -> anyhow::Result<()> {
        section_file::replace(&directory.join(FILE), &self.encode()?, Durable::Soon)
    }

    /// What it amounts to, for the log.
    pub(in crate::server) fn describe(&self) -> String {
        let nonces: usize = self.nonces.0.iter().map(|used| used.entries.len()).sum();
        let times = self.times.iter().flat_map(|times| &times.limits);
        let times: usize = times.map(|kept| kept.entries.len()).sum();
        let endpoints = self.endpoints.0.len();
        let breakers = self.breakers.0.len();
        format!(
            "{nonces} nonces, {times} keys of limits, {endpoints} endpoints, {breakers} open breakers"
        )
    }
}

/// Where a file is left: the state directory that the service manager gives, else the runtime directory.
pub(in crate::server) fn directory(runtime_dir: &Path) -> PathBuf {
    std::env::var("STATE_DIRECTORY")
        .ok()
        .and_then(|paths| paths.split(':').next().map(PathBuf::from))
        .filter(|path| path.is_absolute())
        .unwrap_or_else(|| runtime_dir.to_owned())
}

fn put<S: Section>(sections: &mut Sections, section: &S) -> anyhow::Result<()> {
    sections.put(section).context(S::NAME)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn known_breakers(state: &State, now: u64) -> Vec<KnownBreaker> {
    let snapshot = state.snapshot();
    let breakers = snapshot.iter().flat_map(|snapshot| snapshot.breakers());
    breakers.filter_map(|breaker| breaker.known(now)).collect()
}

#[cfg(test)]
mod tests;
