//! What version 0.1.0 leaves to the next process, over the channel of an upgrade and in its two files: read, never written.
//!
//! Layout: eight bytes of name, the length of a JSON head in four bytes, the head, then for each list the head names, in
//! its order, its entries at a fixed width (big endian), kept answers, and SHA-256 over all of it. One checksum for all: what
//! is damaged is lost whole.

use std::time::Duration;

use anyhow::{Context, ensure};
use serde::Deserialize;

use crate::auth::{CarriedNonces, UsedNonces};
use crate::degrade::{CarriedAnswers, CarriedLevels, KnownLevel, RouteAnswers};
use crate::limit::{CarriedTimes, KeptQuotas, KeptTimes};
use crate::primitives::digest::sha256;
use crate::primitives::sections::Sections;
use crate::rollout::{CarriedStops, KnownStop};
use crate::upstream::breaker::{CarriedBreakers, KnownBreaker};
use crate::upstream::{CarriedEndpoints, KnownEndpoint};

/// Begins what an upgrade or a stop leaves.
const CARRIED: [u8; 8] = *b"tollgat1";
/// Begins the file of quotas.
const QUOTAS: [u8; 8] = *b"tollquo1";
const CHECKSUM: usize = 32;

#[derive(Deserialize)]
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
    #[serde(default)]
    levels: Vec<KnownLevel>,
    #[serde(default)]
    stopped: Vec<KnownStop>,
    #[serde(default)]
    breakers: Vec<KnownBreaker>,
    #[serde(default)]
    answers: Vec<AnswersHead>,
}

#[derive(Deserialize)]
struct QuotasHead {
    seed: [u64; 2],
    limits: Vec<LimitHead>,
}

#[derive(Deserialize)]
struct AnswersHead {
    route: String,
    identity: String,
    length: u64,
}

#[derive(Deserialize)]
struct NoncesHead {
    auth: String,
    fence_unix_ms: u64,
    lifetime_ms: u64,
    count: u64,
}

#[derive(Deserialize)]
struct LimitHead {
    identity: String,
    count: u64,
}

/// Whether this is what 0.1.0 wrote.
pub(in crate::server) fn is(bytes: &[u8]) -> bool {
    bytes.starts_with(&CARRIED) || bytes.starts_with(&QUOTAS)
}

/// Reads what 0.1.0 wrote, as the sections that it would be today.
pub(in crate::server) fn decode(bytes: &[u8]) -> anyhow::Result<Sections> {
    let (rest, checksum) = bytes.split_last_chunk::<CHECKSUM>().context("cut short")?;
    ensure!(sha256(rest) == *checksum, "damaged");
    let mut rest = rest;
    let magic = take::<8>(&mut rest)?;
    let length = u32::from_be_bytes(take(&mut rest)?) as usize;
    let head = rest.split_off(..length).context("cut short")?;
    let sections = match magic {
        CARRIED => carried(serde_json::from_slice(head)?, &mut rest)?,
        _ => quotas_file(serde_json::from_slice(head)?, &mut rest)?,
    };
    ensure!(rest.is_empty(), "longer than its head says");
    Ok(sections)
}

fn quotas_file(head: QuotasHead, rest: &mut &[u8]) -> anyhow::Result<Sections> {
    let mut sections = Sections::default();
    sections.put(&quotas(head.seed, head.limits, rest)?)?;
    Ok(sections)
}

/// The lists stand behind each other in this order.
fn carried(head: Head, rest: &mut &[u8]) -> anyhow::Result<Sections> {
    let mut sections = Sections::at(Duration::from_millis(head.at_unix_ms));
    sections.put(&nonces(head.nonces, head.at_unix_ms, rest)?)?;
    let limits = times(head.limits, rest)?;
    if let Some(seed) = head.seed {
        sections.put(&CarriedTimes { seed, limits })?;
    }
    let quotas = quotas(head.quota_seed.unwrap_or_default(), head.quotas, rest)?;
    if !quotas.limits.is_empty() {
        sections.put(&quotas)?;
    }
    sections.put(&answers(head.answers, rest)?)?;
    sections.put(&CarriedEndpoints(head.endpoints))?;
    sections.put(&CarriedLevels(head.levels))?;
    sections.put(&CarriedStops(head.stopped))?;
    sections.put(&CarriedBreakers(head.breakers))?;
    Ok(sections)
}

fn nonces(
    lists: Vec<NoncesHead>,
    at_unix_ms: u64,
    rest: &mut &[u8],
) -> anyhow::Result<CarriedNonces> {
    let mut nonces = Vec::new();
    for list in lists {
        let mut entries = Vec::new();
        for _ in 0..list.count {
            let nonce = u128::from_be_bytes(take(rest)?);
            let left = Duration::from_millis(u64::from_be_bytes(take(rest)?));
            entries.push((nonce, left));
        }
        nonces.push(UsedNonces {
            auth: list.auth,
            fence_unix_ms: list.fence_unix_ms,
            lifetime: Duration::from_millis(list.lifetime_ms),
            at_unix_ms,
            entries,
        });
    }
    Ok(CarriedNonces(nonces))
}

fn times(lists: Vec<LimitHead>, rest: &mut &[u8]) -> anyhow::Result<Vec<KeptTimes>> {
    let mut limits = Vec::new();
    for list in lists {
        let entries = pairs(rest, list.count)?.into_iter();
        let entries = entries.map(|(key, left)| (key, Duration::from_nanos(left)));
        limits.push(KeptTimes {
            identity: list.identity,
            entries: entries.collect(),
        });
    }
    Ok(limits)
}

fn quotas(seed: [u64; 2], lists: Vec<LimitHead>, rest: &mut &[u8]) -> anyhow::Result<KeptQuotas> {
    let mut limits = Vec::new();
    for list in lists {
        limits.push((list.identity, pairs(rest, list.count)?));
    }
    Ok(KeptQuotas { seed, limits })
}

fn answers(lists: Vec<AnswersHead>, rest: &mut &[u8]) -> anyhow::Result<CarriedAnswers> {
    let mut answers = Vec::new();
    for list in lists {
        let length = usize::try_from(list.length)?;
        let bytes = rest.split_off(..length).context("cut short")?;
        let route = RouteAnswers::of_first_format(list.route, list.identity, bytes);
        answers.push(route);
    }
    Ok(CarriedAnswers(answers))
}

/// So many keys with a number each.
fn pairs(rest: &mut &[u8], count: u64) -> anyhow::Result<Vec<(u64, u64)>> {
    let mut pairs = Vec::new();
    for _ in 0..count {
        let key = u64::from_be_bytes(take(rest)?);
        pairs.push((key, u64::from_be_bytes(take(rest)?)));
    }
    Ok(pairs)
}

fn take<const N: usize>(rest: &mut &[u8]) -> anyhow::Result<[u8; N]> {
    let (taken, left) = rest.split_first_chunk().context("cut short")?;
    *rest = left;
    Ok(*taken)
}

#[cfg(test)]
mod tests;
