//! What a process leaves to the next: used nonces, what limits counted, what is known of endpoints and of breakers that are
//! open, answers that are kept.
//!
//! It travels over the channel of an upgrade, or lies in a file between a stop and the next start. The file is taken
//! away as it is read: after a crash nothing old is found, and stamps from before the start are refused. Kept answers go
//! over the channel alone.
//!
//! Layout: eight bytes of name and version, the length of a JSON head in four bytes, the head, then for each list the
//! head names, in its order, its entries at a fixed width (big endian), kept answers, and SHA-256 over all of it. Endpoints
//! are in the head; nonces and times of limits, of which there may be millions, in the lists.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use serde::{Deserialize, Serialize};

use crate::auth::UsedNonces;
use crate::degrade::{CarriedAnswers, KnownLevel};
use crate::gateway::State;
use crate::limit::{KeptQuotas, KeptTimes};
use crate::primitives::clock;
use crate::primitives::digest::sha256;
use crate::rollout::KnownStop;
use crate::upstream::KnownEndpoint;
use crate::upstream::breaker::KnownBreaker;

const MAGIC: &[u8; 8] = b"tollgat1";
const FILE: &str = "carried";
/// Most bytes of kept answers that are carried; the latest go first.
const MOST_ANSWERS: usize = 64 << 20;
/// Most bytes that are taken over: some forty million nonces.
pub(super) const LARGEST: u64 = 1 << 30;
pub(super) const CHECKSUM: usize = 32;

/// What is carried.
#[derive(Debug, Default)]
pub(super) struct Carried {
    /// When it was written, since 1970.
    at: Duration,
    seed: Option<[u64; 2]>,
    nonces: Vec<UsedNonces>,
    limits: Vec<KeptTimes>,
    quotas: KeptQuotas,
    endpoints: Vec<KnownEndpoint>,
    levels: Vec<KnownLevel>,
    stopped: Vec<KnownStop>,
    breakers: Vec<KnownBreaker>,
    answers: Vec<CarriedAnswers>,
}

#[derive(Serialize, Deserialize)]
struct Head {
    at_unix_ms: u64,
    seed: Option<[u64; 2]>,
    nonces: Vec<NoncesHead>,
    limits: Vec<LimitHead>,
    #[serde(default)]
    quota_seed: Option<[u64; 2]>,
    #[serde(default)]
    quotas: Vec<LimitHead>,
    endpoints: Vec<KnownEndpoint>,
    /// What operators set; absent in what earlier versions wrote.
    #[serde(default)]
    levels: Vec<KnownLevel>,
    /// Sides of splits; absent in what earlier versions wrote.
    #[serde(default)]
    stopped: Vec<KnownStop>,
    /// Those that are not closed; absent in what earlier versions wrote.
    #[serde(default)]
    breakers: Vec<KnownBreaker>,
    /// Kept answers; absent in what earlier versions wrote.
    #[serde(default)]
    answers: Vec<AnswersHead>,
}

#[derive(Serialize, Deserialize)]
struct AnswersHead {
    route: String,
    identity: String,
    length: u64,
}

#[derive(Serialize, Deserialize)]
struct NoncesHead {
    auth: String,
    fence_unix_ms: u64,
    lifetime_ms: u64,
    count: u64,
}

#[derive(Serialize, Deserialize)]
struct LimitHead {
    identity: String,
    count: u64,
}

impl Carried {
    /// Everything this process knows. Nonces are no longer decided here afterwards.
    pub(super) fn of(state: &State) -> Self {
        let now = state.clock.now();
        let nonces = state.auth.hand_over(now);
        Self {
            // Afterwards: what is not known is whatever came before this.
            at: clock::unix_now(),
            nonces,
            seed: Some(state.limits.seed_numbers()),
            limits: state.limits.export(now),
            quotas: state.limits.export_quotas(),
            endpoints: state.endpoints.export(now),
            levels: state.levels.export(now),
            stopped: state.rollouts.export(),
            breakers: known_breakers(state, now),
            answers: Vec::new(),
        }
    }

    /// With the answers that are kept for bad times.
    pub(super) fn with_answers(mut self, state: &State) -> Self {
        let now = state.clock.now();
        self.answers = state.kept_answers.export(MOST_ANSWERS, now);
        self
    }

    /// Takes over what another process knew.
    pub(super) fn give_to(self, state: &State) {
        let now = state.clock.now();
        // A wall clock that was set back in between counts as no time passed.
        let passed = clock::unix_now().saturating_sub(self.at);
        state.auth.take_over(&self.nonces, millis(self.at), now);
        if let Some(seed) = self.seed {
            state.limits.import(seed, &self.limits, passed, now);
        }
        if !self.quotas.limits.is_empty() {
            state.limits.import_quotas(&self.quotas);
        }
        state.levels.import(&self.levels, passed, now);
        state.rollouts.import(&self.stopped);
        if let Some(snapshot) = state.snapshot() {
            let pools = snapshot.pools.values();
            pools.for_each(|pool| pool.recall(&self.endpoints, passed, now));
            let breakers = snapshot.breakers();
            breakers.for_each(|breaker| breaker.recall(&self.breakers, passed, now));
        }
        state.kept_answers.import(&self.answers, passed, now);
    }

    /// As bytes.
    pub(super) fn encode(&self) -> anyhow::Result<Vec<u8>> {
        let head = Head {
            at_unix_ms: millis(self.at),
            seed: self.seed,
            nonces: self.nonces.iter().map(NoncesHead::of).collect(),
            limits: self.limits.iter().map(LimitHead::of).collect(),
            quota_seed: (!self.quotas.limits.is_empty()).then_some(self.quotas.seed),
            quotas: self.quotas.limits.iter().map(LimitHead::of_quota).collect(),
            endpoints: self.endpoints.clone(),
            levels: self.levels.clone(),
            stopped: self.stopped.clone(),
            breakers: self.breakers.clone(),
            answers: self.answers.iter().map(AnswersHead::of).collect(),
        };
        let head = serde_json::to_vec(&head)?;
        let mut out = MAGIC.to_vec();
        out.extend_from_slice(&u32::try_from(head.len())?.to_be_bytes());
        out.extend_from_slice(&head);
        for (nonce, left) in self.nonces.iter().flat_map(|used| &used.entries) {
            out.extend_from_slice(&nonce.to_be_bytes());
            out.extend_from_slice(&(millis(*left).saturating_add(1)).to_be_bytes());
        }
        for (key, left) in self.limits.iter().flat_map(|kept| &kept.entries) {
            out.extend_from_slice(&key.to_be_bytes());
            out.extend_from_slice(&clock::nanos(*left).to_be_bytes());
        }
        for (key, value) in self.quotas.limits.iter().flat_map(|(_, entries)| entries) {
            out.extend_from_slice(&key.to_be_bytes());
            out.extend_from_slice(&value.to_be_bytes());
        }
        for carried in &self.answers {
            out.extend_from_slice(&carried.bytes);
        }
        out.extend_from_slice(&sha256(&out));
        ensure!(
            out.len() as u64 <= LARGEST,
            "{} bytes of nonces and limits are more than can be carried",
            out.len()
        );
        Ok(out)
    }

    /// Reads what [`encode`](Self::encode) wrote.
    pub(super) fn decode(bytes: &[u8]) -> anyhow::Result<Self> {
        let (rest, checksum) = bytes.split_last_chunk::<CHECKSUM>().context("cut short")?;
        ensure!(sha256(rest) == *checksum, "damaged");
        let mut rest = rest;
        ensure!(take::<8>(&mut rest)? == *MAGIC, "of another version");
        let length = u32::from_be_bytes(take(&mut rest)?) as usize;
        let head = rest.split_off(..length).context("cut short")?;
        let head: Head = serde_json::from_slice(head)?;
        let mut nonces = Vec::new();
        for list in head.nonces {
            let mut entries = Vec::new();
            for _ in 0..list.count {
                let nonce = u128::from_be_bytes(take(&mut rest)?);
                let left = Duration::from_millis(u64::from_be_bytes(take(&mut rest)?));
                entries.push((nonce, left));
            }
            nonces.push(UsedNonces {
                auth: list.auth,
                fence_unix_ms: list.fence_unix_ms,
                lifetime: Duration::from_millis(list.lifetime_ms),
                at_unix_ms: head.at_unix_ms,
                entries,
            });
        }
        let mut limits = Vec::new();
        for list in head.limits {
            let entries = pairs(&mut rest, list.count)?.into_iter();
            let entries = entries.map(|(key, left)| (key, Duration::from_nanos(left)));
            limits.push(KeptTimes {
                identity: list.identity,
                entries: entries.collect(),
            });
        }
        let mut quotas = KeptQuotas {
            seed: head.quota_seed.unwrap_or_default(),
            limits: Vec::new(),
        };
        for list in head.quotas {
            let entries = pairs(&mut rest, list.count)?;
            quotas.limits.push((list.identity, entries));
        }
        let mut answers = Vec::new();
        for list in head.answers {
            let length = usize::try_from(list.length)?;
            let bytes = rest.split_off(..length).context("cut short")?.to_vec();
            answers.push(CarriedAnswers {
                route: list.route,
                identity: list.identity,
                bytes,
            });
        }
        ensure!(rest.is_empty(), "longer than its head says");
        Ok(Self {
            at: Duration::from_millis(head.at_unix_ms),
            seed: head.seed,
            nonces,
            limits,
            quotas,
            endpoints: head.endpoints,
            levels: head.levels,
            stopped: head.stopped,
            breakers: head.breakers,
            answers,
        })
    }

    /// Takes the file that an orderly stop left in `directory`; `None` when there is none that can be used.
    pub(super) fn take_from(directory: &Path) -> Option<Self> {
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
        match read(&file).and_then(|bytes| Self::decode(&bytes)) {
            Ok(carried) => Some(carried),
            Err(error) => {
                log::warn!(
                    "{} is not used, signed requests from before this start are refused: {error:#}",
                    path.display()
                );
                None
            }
        }
    }

    /// Leaves a file in `directory`.
    pub(super) fn leave_in(&self, directory: &Path) -> anyhow::Result<()> {
        let path = directory.join(FILE);
        let partial = path.with_extension("partial");
        let _ = fs::remove_file(&partial);
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&partial)
            .with_context(|| partial.display().to_string())?;
        // A disk that is busy does not hold up the stop: what is not written when the power fails has no valid sum, which
        // is as after a crash.
        file.write_all(&self.encode()?)?;
        fs::rename(&partial, &path)?;
        Ok(())
    }

    /// What it amounts to, for the log.
    pub(super) fn describe(&self) -> String {
        let nonces: usize = self.nonces.iter().map(|used| used.entries.len()).sum();
        let times: usize = self.limits.iter().map(|kept| kept.entries.len()).sum();
        let endpoints = self.endpoints.len();
        let breakers = self.breakers.len();
        format!(
            "{nonces} nonces, {times} keys of limits, {endpoints} endpoints, {breakers} open breakers"
        )
    }
}

/// Where a file is left: the state directory that the service manager gives, else the runtime directory.
pub(super) fn directory(runtime_dir: &Path) -> PathBuf {
    std::env::var("STATE_DIRECTORY")
        .ok()
        .and_then(|paths| paths.split(':').next().map(PathBuf::from))
        .filter(|path| path.is_absolute())
        .unwrap_or_else(|| runtime_dir.to_owned())
}

fn read(file: &File) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(LARGEST + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > LARGEST {
        bail!("larger than anything that is written");
    }
    Ok(bytes)
}

pub(super) fn take<const N: usize>(rest: &mut &[u8]) -> anyhow::Result<[u8; N]> {
    let (taken, left) = rest.split_first_chunk().context("cut short")?;
    *rest = left;
    Ok(*taken)
}

/// So many keys with a number each.
pub(super) fn pairs(rest: &mut &[u8], count: u64) -> anyhow::Result<Vec<(u64, u64)>> {
    let mut pairs = Vec::new();
    for _ in 0..count {
        let key = u64::from_be_bytes(take(rest)?);
        pairs.push((key, u64::from_be_bytes(take(rest)?)));
    }
    Ok(pairs)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn known_breakers(state: &State, now: u64) -> Vec<KnownBreaker> {
    let snapshot = state.snapshot();
    let breakers = snapshot.iter().flat_map(|snapshot| snapshot.breakers());
    breakers.filter_map(|breaker| breaker.known(now)).collect()
}

impl AnswersHead {
    fn of(carried: &CarriedAnswers) -> Self {
        Self {
            route: carried.route.clone(),
            identity: carried.identity.clone(),
            length: carried.bytes.len() as u64,
        }
    }
}

impl NoncesHead {
    fn of(used: &UsedNonces) -> Self {
        Self {
            auth: used.auth.clone(),
            fence_unix_ms: used.fence_unix_ms,
            lifetime_ms: millis(used.lifetime),
            count: used.entries.len() as u64,
        }
    }
}

impl LimitHead {
    fn of(kept: &KeptTimes) -> Self {
        Self {
            identity: kept.identity.clone(),
            count: kept.entries.len() as u64,
        }
    }

    fn of_quota((identity, entries): &(String, Vec<(u64, u64)>)) -> Self {
        Self {
            identity: identity.clone(),
            count: entries.len() as u64,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Carried {
        Carried {
            at: Duration::from_millis(1_000),
            seed: Some([1, 2]),
            nonces: vec![UsedNonces {
                auth: "partner".into(),
                fence_unix_ms: 5,
                lifetime: Duration::from_secs(602),
                at_unix_ms: 1_000,
                entries: vec![
                    (1, Duration::from_secs(1)),
                    (u128::MAX, Duration::from_secs(2)),
                ],
            }],
            limits: vec![KeptTimes {
                identity: "per_user".into(),
                entries: vec![(7, Duration::from_nanos(8))],
            }],
            quotas: KeptQuotas {
                seed: [3, 4],
                limits: vec![("daily".into(), vec![(9, 10)])],
            },
            endpoints: Vec::new(),
            levels: Vec::new(),
            stopped: Vec::new(),
            breakers: Vec::new(),
            answers: vec![CarriedAnswers {
                route: "reviews".into(),
                identity: "of these settings".into(),
                bytes: b"answers".to_vec(),
            }],
        }
    }

    #[test]
    fn comes_back_as_it_was() {
        let carried = Carried::decode(&sample().encode().expect("encoded")).expect("decoded");
        assert_eq!(carried.at, Duration::from_millis(1_000));
        assert_eq!(carried.nonces[0].entries.len(), 2);
        assert_eq!(carried.nonces[0].entries[1].0, u128::MAX);
        assert!(carried.nonces[0].entries[1].1 >= Duration::from_secs(2));
        assert_eq!(carried.limits[0].entries, [(7, Duration::from_nanos(8))]);
        assert_eq!(carried.seed, Some([1, 2]));
        assert_eq!(carried.quotas, sample().quotas);
        assert_eq!(carried.answers, sample().answers);
    }

    #[test]
    fn nothing_damaged_is_taken() {
        let bytes = sample().encode().expect("encoded");
        for cut in 0..bytes.len() {
            assert!(Carried::decode(&bytes[..cut]).is_err(), "{cut}");
        }
        for at in 0..bytes.len() {
            let mut bytes = bytes.clone();
            bytes[at] ^= 1;
            assert!(Carried::decode(&bytes).is_err(), "{at}");
        }
        // With a sum that is right, but a count that is not.
        let mut bytes = bytes[..bytes.len() - CHECKSUM].to_vec();
        bytes.push(0);
        bytes.extend_from_slice(&sha256(&bytes));
        assert!(Carried::decode(&bytes).is_err());
    }

    #[test]
    fn a_file_is_read_once() {
        let directory = tempfile::tempdir().expect("directory");
        assert!(Carried::take_from(directory.path()).is_none());
        sample().leave_in(directory.path()).expect("written");
        assert!(Carried::take_from(directory.path()).is_some());
        assert!(Carried::take_from(directory.path()).is_none());
        fs::write(directory.path().join(FILE), b"tollgat1 and rubbish").expect("written");
        assert!(Carried::take_from(directory.path()).is_none());
        assert!(!directory.path().join(FILE).exists());
    }
}
