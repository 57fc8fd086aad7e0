//! Endpoints of a pool and the order in which they are used. Replaced whole when anything changes.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::endpoint::Endpoint;
use crate::config::Passive;
use crate::primitives::clock::nanos;
use crate::primitives::rotation::Rotation;

/// One address with its share.
pub(super) struct Member {
    pub(super) endpoint: Arc<Endpoint>,
    pub(super) weight: u32,
    pub(super) backup: bool,
    /// One of several addresses that may share a label.
    pub(super) named: bool,
}

/// Endpoints and their order.
pub(super) struct Members {
    pub(super) all: Arc<[Member]>,
    pub(super) primaries: Side,
    pub(super) backups: Side,
    /// Endpoints by the tag that a client's cookie names them by; empty where clients do not stay.
    pub(super) tags: Arc<HashMap<u64, u32>>,
}

/// Primaries or backups, as far as they are used now.
pub(super) struct Side {
    pub(super) rotation: Rotation,
    /// Places of the members in [`Members::all`], in order.
    pub(super) list: Box<[u32]>,
    /// The share of each place, as a part of the mean of those in `list`; 0 for all others.
    pub(super) shares: Box<[f32]>,
}

/// Weights that do not stand as they are configured are kept in hundredths.
const FINE: f64 = 100.0;
/// What an endpoint begins a slow start with, and the least it has of its weight (Envoy's default).
const SLOW_LEAST: f64 = 0.1;

impl Members {
    pub(super) fn none() -> Self {
        Self {
            all: Arc::from([]),
            primaries: Side::new(&[], 0, 0),
            backups: Side::new(&[], 0, 0),
            tags: Arc::default(),
        }
    }

    /// Computes the order at `now`, and the moment when it must be computed again by itself; 0 = none. What is not in force
    /// notes nothing of it with the endpoints.
    pub(super) fn ordered(
        all: Arc<[Member]>,
        tags: Arc<HashMap<u64, u32>>,
        rules: &Passive,
        (old, in_force): (&Self, bool),
        now: u64,
    ) -> (Self, u64) {
        let mut recheck = u64::MAX;
        let factors: Vec<f64> = all
            .iter()
            .map(|member| {
                let (factor, next) = factor(&member.endpoint, rules.slow_start, now, in_force);
                recheck = recheck.min(next);
                factor
            })
            .collect();
        let fine = factors.iter().any(|factor| *factor != 1.0);
        let weight = |index: u32, member: &Member| {
            if !fine {
                return member.weight;
            }
            let weight = f64::from(member.weight) * factors[index as usize] * FINE;
            (weight.round() as u32).max(1)
        };
        let those = |wanted: &dyn Fn(&Member) -> bool| -> Vec<(u32, u32)> {
            let members = (0u32..).zip(all.iter()).filter(|(_, m)| wanted(m));
            members
                .map(|(index, m)| (index, weight(index, m)))
                .collect()
        };
        let mut primaries = those(&|m| !m.backup && m.endpoint.usable(now));
        let backups = those(&|m| m.backup && m.endpoint.usable(now));
        let total = all.iter().filter(|member| !member.backup).count();
        let share = rules.min_healthy.fraction();
        if share > 0.0 && (primaries.len() as f64) < share * total as f64 {
            primaries = those(&|m| !m.backup && m.endpoint.state(now) != "drained");
        }
        if in_force {
            tell(&all, &factors, now);
        }
        for member in all.iter() {
            let until = member.endpoint.ejected_until();
            if until > now {
                recheck = recheck.min(until);
            }
        }
        let members = Self {
            primaries: Side::new(&primaries, all.len(), old.primaries.rotation.position()),
            backups: Side::new(&backups, all.len(), old.backups.rotation.position()),
            all,
            tags,
        };
        (members, if recheck == u64::MAX { 0 } else { recheck })
    }

    /// Whether requests go there now.
    pub(super) fn uses(&self, index: u32) -> bool {
        let place = index as usize;
        self.primaries.shares[place] > 0.0 || self.backups.shares[place] > 0.0
    }

    /// The part of its weight that an endpoint has now, whatever lowers it.
    pub(super) fn factor(endpoint: &Endpoint, rules: &Passive, now: u64) -> f64 {
        factor(endpoint, rules.slow_start, now, false).0
    }
}

impl Side {
    fn new(members: &[(u32, u32)], places: usize, position: usize) -> Self {
        let mut shares = vec![0.0; places].into_boxed_slice();
        let sum: f64 = members.iter().map(|(_, weight)| f64::from(*weight)).sum();
        let mean = sum / members.len().max(1) as f64;
        for (index, weight) in members {
            shares[*index as usize] = (f64::from(*weight) / mean) as f32;
        }
        Self {
            rotation: Rotation::new(members, position),
            list: members.iter().map(|(index, _)| *index).collect(),
            shares,
        }
    }
}

/// Slow start in Envoy's form with its aggression left out: the part of the window that has passed, at least a tenth. And
/// the moment when there is more of it.
fn factor(endpoint: &Endpoint, slow_start: Duration, now: u64, noted: bool) -> (f64, u64) {
    let usable = endpoint.usable(now);
    let since = if noted {
        endpoint.live.back_since(usable, now)
    } else {
        endpoint.live.would_be_back_since(usable, now)
    };
    let scored = endpoint.live.factor();
    let window = nanos(slow_start);
    let passed = now.saturating_sub(since);
    if since == 0 || window == 0 || passed >= window {
        return (scored, u64::MAX);
    }
    let ramp = (passed.max(1_000_000_000) as f64 / window as f64).clamp(SLOW_LEAST, 1.0);
    let step = (window / 20).clamp(50_000_000, 1_000_000_000);
    (scored * ramp, now + step)
}

/// Metrics show by configured address whether requests go there.
fn tell(all: &[Member], factors: &[f64], now: u64) {
    for (member, factor) in all.iter().zip(factors) {
        let same = |other: &&Member| other.endpoint.label == member.endpoint.label;
        let healthy = member.endpoint.usable(now)
            || (member.named
                && all
                    .iter()
                    .filter(same)
                    .any(|other| other.endpoint.usable(now)));
        member.endpoint.counts.set_healthy(healthy);
        let weight = f64::from(member.weight) * factor;
        member.endpoint.counts.set_weight(weight);
    }
}
