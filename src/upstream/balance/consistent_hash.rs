//! One endpoint for one key, with a bound on what one endpoint takes.
//!
//! Keys fall into slots, and each slot belongs to the endpoint that wins it by weighted rendezvous hashing: a member that
//! leaves gives away its own slots and moves no other, and shares are even to a hundredth, which a ring of a few hundred
//! points is not. The table holds all configured members, whether usable or not, so that health changes nothing in it: a key
//! whose endpoint cannot take it is hashed again until one can, and its neighbours stay where they are.

use arc_swap::ArcSwap;

use super::super::members::Member;
use super::{Choice, hash, mix};
use crate::primitives::units::Percent;

/// Slots of a small upstream.
const SLOTS: usize = 1 << 16;
/// Up to so many members compete for each slot; more are laid out on a ring, for which the same holds less evenly.
const COMPETING: usize = 128;
/// Points of a member of mean weight on the ring.
const POINTS: f64 = 64.0;
/// Hashes of one key before the next best endpoint takes it.
const TRIES: u32 = 32;
/// An endpoint with fewer requests in flight is never full: a handful of one client's is no overload.
const NEVER_FULL: f32 = 8.0;
/// Endpoints looked at to know what is in flight on average.
const SAMPLE: usize = 64;

/// Which slot belongs to whom.
pub(in crate::upstream) struct Slots {
    owners: ArcSwap<Box<[u32]>>,
    /// What an endpoint may hold, as a multiple of its share of all.
    bound: f32,
}

impl Slots {
    pub(super) fn new(excess: Percent) -> Self {
        Self {
            owners: ArcSwap::from_pointee(Box::default()),
            bound: 1.0 + excess.fraction() as f32,
        }
    }

    /// Computes the table anew. Backups take no part: they are used in turns.
    pub(super) fn fill(&self, all: &[Member]) {
        let primaries: Vec<(u32, u64, u32)> = (0u32..)
            .zip(all)
            .filter(|(_, member)| !member.backup)
            .map(|(index, member)| {
                let name = hash(member.endpoint.address.to_string().as_bytes());
                (index, name, member.weight)
            })
            .collect();
        let owners = if primaries.len() <= COMPETING {
            compete(&primaries)
        } else {
            around(&primaries)
        };
        self.owners.store(std::sync::Arc::new(owners));
    }

    pub(super) fn choose(
        &self,
        choice: &Choice<'_>,
        admits: impl Fn(u32) -> bool + Copy,
    ) -> Option<u32> {
        let key = choice.key.unwrap_or(choice.chance);
        let owners = self.owners.load();
        if !owners.is_empty() {
            let mean = mean_in_flight(choice);
            let mut number = key;
            for _ in 0..TRIES {
                let index = owners[(number % owners.len() as u64) as usize];
                let share = choice.share(index);
                if share > 0.0 && admits(index) {
                    let most = (self.bound * (mean + 1.0 / choice.side.list.len() as f32) * share)
                        .ceil()
                        .max(NEVER_FULL);
                    if choice.in_flight(index) < most {
                        return Some(index);
                    }
                }
                number = mix(number);
            }
        }
        choice.side.rotation.at(key as usize >> 1, admits)
    }
}

fn mean_in_flight(choice: &Choice<'_>) -> f32 {
    let list = &choice.side.list;
    let step = list.len().div_ceil(SAMPLE).max(1);
    let sampled = list.iter().step_by(step);
    let (sum, shares) = sampled.fold((0.0, 0.0), |(sum, shares), index| {
        (
            sum + choice.in_flight(*index),
            shares + choice.share(*index),
        )
    });
    if shares > 0.0 { sum / shares } else { 0.0 }
}

/// Each slot goes to whoever draws best for it: −ln(u)/weight, the least wins.
fn compete(members: &[(u32, u64, u32)]) -> Box<[u32]> {
    if members.is_empty() {
        return Box::default();
    }
    let even = members.iter().all(|(.., weight)| *weight == members[0].2);
    let winner = |slot: u64| {
        let draw = |name: u64| mix(name ^ mix(slot));
        let best = if even {
            members.iter().max_by_key(|(_, name, _)| draw(*name))
        } else {
            let price = |(_, name, weight): &(u32, u64, u32)| {
                let u = (draw(*name) >> 11) as f64 / (1u64 << 53) as f64;
                -(u.max(f64::MIN_POSITIVE).ln()) / f64::from(*weight)
            };
            members
                .iter()
                .map(|member| (price(member), member))
                .min_by(|(a, _), (b, _)| a.total_cmp(b))
                .map(|(_, member)| member)
        };
        best.map_or(0, |(index, ..)| *index)
    };
    (0..SLOTS as u64).map(winner).collect()
}

/// A ring of points, cut into slots: each belongs to the next point.
fn around(members: &[(u32, u64, u32)]) -> Box<[u32]> {
    let sum: f64 = members.iter().map(|(.., weight)| f64::from(*weight)).sum();
    let mean = sum / members.len() as f64;
    let mut points: Vec<(u64, u32)> = Vec::new();
    for (index, name, weight) in members {
        let count = (POINTS * f64::from(*weight) / mean).round().max(1.0) as u64;
        points.extend((0..count).map(|point| (mix(name ^ mix(point)), *index)));
    }
    points.sort_unstable();
    let slots = (members.len() * 64)
        .next_power_of_two()
        .clamp(SLOTS, 1 << 20) as u64;
    let width = u64::MAX / slots;
    let mut next = 0;
    (0..slots)
        .map(|slot| {
            while next < points.len() && points[next].0 < slot * width {
                next += 1;
            }
            points.get(next).unwrap_or(&points[0]).1
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn members(weights: &[u32]) -> Vec<(u32, u64, u32)> {
        let each = (0u32..).zip(weights);
        each.map(|(i, weight)| (i, hash(format!("10.0.{i}.1:80").as_bytes()), *weight))
            .collect()
    }

    fn shares(owners: &[u32], count: usize) -> Vec<f64> {
        let mut shares = vec![0.0; count];
        for owner in owners {
            shares[*owner as usize] += 1.0 / owners.len() as f64;
        }
        shares
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(12))]

        #[test]
        fn slots_follow_the_weights(weights in prop::collection::vec(1u32..10, 2..12)) {
            let sum: u32 = weights.iter().sum();
            for (share, weight) in shares(&compete(&members(&weights)), weights.len()).iter().zip(&weights) {
                let wanted = f64::from(*weight) / f64::from(sum);
                prop_assert!((share - wanted).abs() < 0.01, "{share} of {wanted}");
            }
        }

        #[test]
        fn who_leaves_moves_its_own_slots_alone(count in 2usize..16, leaving in 0usize..16) {
            let all = members(&vec![1; count]);
            let leaving = leaving % count;
            let mut rest = all.clone();
            rest.remove(leaving);
            let (before, after) = (compete(&all), compete(&rest));
            let moved = before.iter().zip(&after).filter(|(a, b)| a != b).count();
            let own = before.iter().filter(|owner| **owner as usize == leaving).count();
            prop_assert_eq!(moved, own);
            prop_assert!(moved as f64 / before.len() as f64 <= 1.0 / count as f64 + 0.01);
        }
    }

    #[test]
    fn a_ring_of_many_is_about_even_and_moves_little() {
        let all = members(&vec![1; 1000]);
        let before = around(&all);
        let most = shares(&before, 1000).into_iter().fold(0.0, f64::max);
        assert!(most < 2.0 / 1000.0, "{most}");
        let after = around(&all[..999]);
        assert_eq!(before.len(), after.len());
        let moved = before.iter().zip(&after).filter(|(a, b)| a != b).count();
        assert!((moved as f64) < before.len() as f64 * 2.0 / 1000.0);
    }
}
