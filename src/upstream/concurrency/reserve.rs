//! Places kept free for what matters more.
//!
//! In the order of a queue alone a critical request still waits for the next place: where all of them were taken at the same
//! moment, for as long as an answer takes. So while a class comes, a few places are kept from those below it: as many as it
//! had in flight lately and has not now, and never more than a share of all of them (the rising shares by class of Netflix's
//! partitioned limits and of the SRE book, given only to who is there to use them). Where nothing critical comes nothing is
//! kept for it.

use crate::config::Class;
use crate::primitives::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// Parts of all places that are kept from a class at most, one of so many: none from critical, a tenth from normal, a fifth
/// from sheddable requests.
const KEPT: [Option<u32>; Class::ALL.len()] = [None, Some(10), Some(5)];

/// How much each class was in flight, lately and now.
#[derive(Default)]
pub(super) struct Demand {
    held: [AtomicU32; Class::ALL.len()],
    /// Most at once since the last turn, and between the one before it and that.
    most: [[AtomicU32; 2]; Class::ALL.len()],
}

impl Demand {
    /// One more of `class` is in flight.
    pub(super) fn came(&self, class: Class) {
        let held = self.held[class as usize].fetch_add(1, Relaxed) + 1;
        let most = &self.most[class as usize][0];
        if most.load(Relaxed) < held {
            most.fetch_max(held, Relaxed);
        }
    }

    /// One less of `class`.
    pub(super) fn went(&self, class: Class) {
        self.held[class as usize].fetch_sub(1, Relaxed);
    }

    /// Forgets what was before the last turn. Called once a second.
    pub(super) fn turn(&self) {
        for (held, [now, before]) in self.held.iter().zip(&self.most) {
            before.store(now.swap(held.load(Relaxed), Relaxed), Relaxed);
        }
    }

    /// Places of `limit` that are kept from `class` now.
    pub(super) fn kept_from(&self, class: Class, limit: u32) -> u32 {
        let Some(part) = KEPT[class as usize] else {
            return 0;
        };
        let above = self.held.iter().zip(&self.most).take(class as usize);
        let missing = above.map(|(held, [now, before])| {
            let most = now.load(Relaxed).max(before.load(Relaxed));
            most.saturating_sub(held.load(Relaxed))
        });
        missing.sum::<u32>().min(limit / part)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_kept_for_those_only_who_came_lately_and_are_not_there() {
        let demand = Demand::default();
        let kept = || Class::ALL.map(|class| demand.kept_from(class, 20));
        assert_eq!(kept(), [0, 0, 0]);
        for _ in 0..3 {
            demand.came(Class::Critical);
        }
        assert_eq!(kept(), [0, 0, 0], "they are there");
        demand.went(Class::Critical);
        assert_eq!(kept(), [0, 1, 1]);
        demand.went(Class::Critical);
        demand.went(Class::Critical);
        assert_eq!(kept(), [0, 2, 3], "a tenth at most, and a fifth");
        demand.turn();
        assert_eq!(kept(), [0, 2, 3]);
        demand.turn();
        assert_eq!(kept(), [0, 0, 0], "that was long ago");
    }

    #[test]
    fn few_places_are_for_all() {
        let demand = Demand::default();
        demand.came(Class::Critical);
        demand.went(Class::Critical);
        assert_eq!(demand.kept_from(Class::Sheddable, 4), 0);
        assert_eq!(demand.kept_from(Class::Sheddable, 5), 1);
        assert_eq!(demand.kept_from(Class::Normal, 5), 0);
    }
}
