//! Kept answers on their way to the process that replaces this one. They go over its channel alone, never into a file:
//! what clients were answered is nothing to leave on a disk.

use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut, Bytes};
use http::{HeaderName, HeaderValue};

use super::{ENTRY, Entry, Good, KeptAnswers, LastGood, What};
use crate::primitives::RouteName;
use crate::primitives::clock::nanos;

/// The kept answers of one route.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CarriedAnswers {
    /// The route.
    pub route: String,
    /// What makes its answers, and how they are kept: others are of no use.
    pub identity: String,
    /// The answers, from the oldest on.
    pub bytes: Vec<u8>,
}

/// Kinds of entries.
const VARIES: u8 = 0;
const ANSWER: u8 = 1;

impl KeptAnswers {
    /// The answers of all routes, in not much more than `most` bytes: of each route the latest that fit.
    pub fn export(&self, most: usize, now: u64) -> Vec<CarriedAnswers> {
        let mut left = most;
        let routes = self.routes.lock();
        let each = routes.iter().map(|((name, stamp), kept)| CarriedAnswers {
            route: name.to_string(),
            identity: stamp.clone(),
            bytes: kept.export(&mut left, now),
        });
        each.filter(|carried| !carried.bytes.is_empty()).collect()
    }

    /// Takes over what another process kept until `passed` ago.
    pub fn import(&self, carried: &[CarriedAnswers], passed: Duration, now: u64) {
        let routes = self.routes.lock();
        for carried in carried {
            let key = (RouteName::new(&carried.route), carried.identity.clone());
            if let Some(kept) = routes.get(&key) {
                kept.import(&carried.bytes, nanos(passed), now);
            }
        }
    }
}

impl LastGood {
    pub(super) fn export(&self, left: &mut usize, now: u64) -> Vec<u8> {
        let kept = self.kept.read();
        let mut chosen = Vec::new();
        for key in kept.order.values().rev() {
            let Some(entry) = kept.by_key.get(key) else {
                continue;
            };
            if entry.cost <= *left {
                *left -= entry.cost;
                chosen.push((*key, entry));
            }
        }
        let mut out = Vec::new();
        for (key, entry) in chosen.into_iter().rev() {
            out.put_u128(key);
            entry.write(now, &mut out);
        }
        out
    }

    pub(super) fn import(&self, mut bytes: &[u8], passed: u64, now: u64) {
        let mut kept = self.kept.write();
        while let Some((key, what)) = read(&mut bytes, passed, now) {
            let cost = match &what {
                What::Varies(_) => ENTRY,
                What::Answer(good) if good.age(now) > nanos(self.settings.max_age) => continue,
                What::Answer(good) => good.cost(),
            };
            if cost <= self.settings.size && !kept.by_key.contains_key(&key) {
                kept.put(key, what, cost);
            }
        }
        while kept.bytes > self.settings.size {
            kept.drop_oldest();
        }
    }
}

impl Entry {
    fn write(&self, now: u64, out: &mut Vec<u8>) {
        match &self.what {
            What::Varies(names) => {
                out.put_u8(VARIES);
                put(out, names.len());
                names
                    .iter()
                    .for_each(|name| put_bytes(out, name.as_str().as_bytes()));
            }
            What::Answer(good) => {
                out.put_u8(ANSWER);
                out.put_u64(good.age(now));
                put(out, good.headers.len());
                for (name, value) in &good.headers {
                    put_bytes(out, name.as_str().as_bytes());
                    put_bytes(out, value.as_bytes());
                }
                put_bytes(out, &good.body);
            }
        }
    }
}

fn put(out: &mut Vec<u8>, number: usize) {
    out.put_u32(u32::try_from(number).unwrap_or(u32::MAX));
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put(out, bytes.len());
    out.put_slice(bytes);
}

/// The next entry; `None` at the end, and where nothing makes sense any more.
fn read(rest: &mut &[u8], passed: u64, now: u64) -> Option<(u128, What)> {
    let key = u128::from_be_bytes(take(rest)?);
    let what = match take::<1>(rest)? {
        [VARIES] => {
            let names = (0..number(rest)?).map(|_| name(rest));
            What::Varies(names.collect::<Option<_>>()?)
        }
        [ANSWER] => {
            let age = u64::from_be_bytes(take(rest)?);
            let headers = (0..number(rest)?).map(|_| {
                let name = name(rest)?;
                Some((name, HeaderValue::from_bytes(piece(rest)?).ok()?))
            });
            What::Answer(Arc::new(Good {
                headers: headers.collect::<Option<_>>()?,
                body: Bytes::copy_from_slice(piece(rest)?),
                at: now,
                before: age.saturating_add(passed),
            }))
        }
        _ => return None,
    };
    Some((key, what))
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, left) = rest.split_first_chunk()?;
    *rest = left;
    Some(*taken)
}

fn number(rest: &mut &[u8]) -> Option<u32> {
    take(rest).map(u32::from_be_bytes)
}

fn piece<'b>(rest: &mut &'b [u8]) -> Option<&'b [u8]> {
    let length = number(rest)? as usize;
    let (piece, left) = rest.split_at_checked(length)?;
    *rest = left;
    Some(piece)
}

fn name(rest: &mut &[u8]) -> Option<HeaderName> {
    HeaderName::from_bytes(piece(rest)?).ok()
}
