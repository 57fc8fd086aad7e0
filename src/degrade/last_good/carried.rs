//! Kept answers on their way to the process that replaces this one. They go over its channel alone, never into a file:
//! what clients were answered is nothing to leave on a disk.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue};
use serde::{Deserialize, Serialize};

use super::{ENTRY, KeptAnswers, LastGood, LastGoodAnswer, What};
use crate::primitives::RouteName;
use crate::primitives::clock::nanos;
use crate::primitives::sections::Section;

/// Kept answers: the section that another process goes on from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CarriedAnswers(pub Vec<RouteAnswers>);

impl Section for CarriedAnswers {
    const NAME: &'static str = "answers";
    const VERSION: u16 = 1;
    const LARGEST: usize = 128 << 20;
}

/// The kept answers of one route.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteAnswers {
    /// The route.
    pub route: String,
    /// What makes its answers, and how they are kept: others are of no use.
    pub identity: String,
    /// The answers by their keys, from the oldest on.
    pub(super) entries: Vec<(u128, CarriedEntry)>,
}

/// An entry of a route's answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum CarriedEntry {
    /// Names of the request headers by which answers differ.
    Varies(Vec<String>),
    /// An answer.
    Answer(CarriedAnswer),
}

/// A kept answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct CarriedAnswer {
    /// Nanoseconds since the upstream gave it.
    pub(super) age: u64,
    /// Names and values of its fields.
    pub(super) headers: Vec<(String, Bytes)>,
    /// The body.
    pub(super) body: Bytes,
}

impl KeptAnswers {
    /// The answers of all routes, in not much more than `most` bytes: of each route the latest that fit.
    pub fn export(&self, most: usize, now: u64) -> CarriedAnswers {
        let mut left = most;
        let routes = self.routes.lock();
        let each = routes
            .known()
            .iter()
            .map(|((name, stamp), kept)| RouteAnswers {
                route: name.to_string(),
                identity: stamp.clone(),
                entries: kept.export(&mut left, now),
            });
        CarriedAnswers(each.filter(|route| !route.entries.is_empty()).collect())
    }

    /// Takes over what another process kept until `passed` ago.
    pub fn import(&self, carried: &CarriedAnswers, passed: Duration, now: u64) {
        let routes = self.routes.lock();
        for carried in &carried.0 {
            let key = (RouteName::new(&carried.route), carried.identity.clone());
            if let Some(kept) = routes.find(&key) {
                kept.import(&carried.entries, nanos(passed), now);
            }
        }
    }
}

impl LastGood {
    /// The latest entries that fit into `left` bytes, which become fewer, from the oldest on.
    pub(super) fn export(&self, left: &mut usize, now: u64) -> Vec<(u128, CarriedEntry)> {
        let kept = self.kept.read();
        let mut chosen = Vec::new();
        for key in kept.order.values().rev() {
            let Some(entry) = kept.by_key.get(key) else {
                continue;
            };
            if entry.cost <= *left {
                *left -= entry.cost;
                chosen.push((*key, CarriedEntry::of(&entry.what, now)));
            }
        }
        chosen.reverse();
        chosen
    }

    /// Keeps what another process kept until `passed` nanoseconds ago, as far as it is none of its own, is young enough
    /// and makes sense.
    pub(super) fn import(&self, entries: &[(u128, CarriedEntry)], passed: u64, now: u64) {
        let mut kept = self.kept.write();
        for (key, entry) in entries {
            let Some(what) = entry.read(passed, now) else {
                continue;
            };
            let cost = match &what {
                What::Varies(_) => ENTRY,
                What::Answer(good) if good.age(now) > nanos(self.settings.max_age) => continue,
                What::Answer(good) => good.cost(),
            };
            if cost <= self.settings.size && !kept.by_key.contains_key(key) {
                kept.put(*key, what, cost);
            }
        }
        while kept.bytes > self.settings.size {
            kept.drop_oldest();
        }
    }
}

impl CarriedEntry {
    fn of(what: &What, now: u64) -> Self {
        match what {
            What::Varies(names) => {
                Self::Varies(names.iter().map(|name| name.as_str().to_owned()).collect())
            }
            What::Answer(good) => {
                let headers = good.headers.iter().map(|(name, value)| {
                    let value = Bytes::copy_from_slice(value.as_bytes());
                    (name.as_str().to_owned(), value)
                });
                Self::Answer(CarriedAnswer {
                    age: good.age(now),
                    headers: headers.collect(),
                    body: good.body.clone(),
                })
            }
        }
    }

    /// `None` where a name or a value is none.
    fn read(&self, passed: u64, now: u64) -> Option<What> {
        let name = |name: &String| HeaderName::from_bytes(name.as_bytes()).ok();
        Some(match self {
            Self::Varies(names) => What::Varies(names.iter().map(name).collect::<Option<_>>()?),
            Self::Answer(answer) => {
                let headers = answer.headers.iter().map(|(called, value)| {
                    Some((name(called)?, HeaderValue::from_bytes(value).ok()?))
                });
                What::Answer(Arc::new(LastGoodAnswer {
                    headers: headers.collect::<Option<_>>()?,
                    body: answer.body.clone(),
                    at: now,
                    before: answer.age.saturating_add(passed),
                }))
            }
        })
    }
}
