//! `quota`: so many in an hour, a day, a week or a month of the calendar, exactly.
//!
//! Per key the number of its window and what was counted in it are kept as one number, window first: the lowest numbers are
//! those of windows that are over, then those that used least, which is whom a full table forgets first. A clock that is
//! set back opens no earlier window again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering as Std};
use std::time::Duration;

use super::LimitFacts;
use super::limiter::{Ask, Meter, Told};
use super::shards::Shards;
use super::table::Table;
use crate::config::{Algorithm, Limit};
use crate::filter::{Reason, Refusal, Verdict};
use crate::primitives::calendar::Calendar;
use crate::primitives::sync::atomic::{AtomicUsize, Ordering};

/// Bits of a count; what is above them is the number of the window.
const COUNT_BITS: u32 = 40;
const MOST: u64 = (1 << COUNT_BITS) - 1;
/// Places looked at for windows that are over whenever a key is added, and keys among which the lowest is looked for.
const SWEEP: usize = 8;
const SAMPLE: usize = 8;

/// A count per key and window.
pub(super) struct QuotaMeter {
    most: u64,
    calendar: Calendar,
    counts: Arc<Quotas>,
}

/// What was counted, by key.
pub(super) struct Quotas {
    shards: Shards<Table>,
    capacity: AtomicUsize,
    len: AtomicUsize,
    changed: AtomicBool,
}

/// Window and count of one number.
fn unpack(value: u64) -> (u64, u64) {
    (value >> COUNT_BITS, value & MOST)
}

fn pack(window: u64, count: u64) -> u64 {
    window << COUNT_BITS | count.min(MOST)
}

impl Meter for QuotaMeter {
    fn of(algorithm: &Algorithm, limit: &Limit, facts: &LimitFacts) -> Option<Self> {
        let Algorithm::Quota {
            most,
            calendar,
            capacity,
        } = *algorithm
        else {
            return None;
        };
        Some(Self {
            most: most.min(MOST),
            calendar,
            counts: facts.quotas(limit, capacity),
        })
    }

    fn admit(&self, ask: &Ask) -> Told {
        let period = self.calendar.period(ask.unix_time);
        let (window, count, fits) = self.counts.take(ask, period.number, self.most);
        let reset = Duration::from_secs(period.ends.saturating_sub(ask.unix_time));
        let verdict = if fits {
            Verdict::Continue
        } else {
            let refusal = Refusal::new(Reason::RateLimited, "The quota is used up.");
            Verdict::Refuse(refusal.retry_after(reset))
        };
        Told {
            left: Some((self.most, self.most.saturating_sub(count), reset)),
            ..Told::marked(verdict, window)
        }
    }

    fn give_back(&self, ask: &Ask, mark: u64) {
        self.counts.give_back(ask, mark);
    }

    fn promise(&self) -> Option<(u64, u64)> {
        Some((self.most, self.calendar.seconds()))
    }
}

impl Quotas {
    pub(super) fn new(capacity: u32) -> Self {
        Self {
            shards: Shards::for_capacity(capacity),
            capacity: AtomicUsize::new(capacity as usize),
            len: AtomicUsize::new(0),
            changed: AtomicBool::new(false),
        }
    }

    /// What it is, for tests that compare.
    #[cfg(test)]
    pub(super) fn dump(&self) -> String {
        format!("{self:p} {:?} of {:?}", self.len, self.capacity)
    }

    pub(super) fn set_capacity(&self, capacity: u32) {
        self.capacity.store(capacity as usize, Ordering::Relaxed);
    }

    /// Whether anything was counted since this was last asked.
    pub(super) fn changed(&self) -> bool {
        self.changed.swap(false, Std::Relaxed)
    }

    /// Counts a request if it fits: its window, the count with it, and whether it does.
    fn take(&self, ask: &Ask, window: u64, most: u64) -> (u64, u64, bool) {
        let mut table = self.shards.of(ask.key);
        let known = table.get(ask.key).map(unpack);
        let (window, count) = match known {
            Some((kept, count)) if kept >= window => (kept, count),
            _ => (window, 0),
        };
        let with = count.saturating_add(ask.cost);
        if with > most {
            return (window, count, false);
        }
        if !ask.look {
            let value = pack(window, with);
            match table.get_mut(ask.key) {
                Some(kept) => *kept = value,
                None => self.add(&mut table, ask.key, value),
            }
            self.note();
        }
        (window, with, true)
    }

    fn give_back(&self, ask: &Ask, window: u64) {
        let mut table = self.shards.of(ask.key);
        if let Some(kept) = table.get_mut(ask.key) {
            let (known, count) = unpack(*kept);
            if known == window {
                *kept = pack(window, count.saturating_sub(ask.cost));
                self.note();
            }
        }
    }

    /// Every key with its number.
    pub(super) fn export(&self) -> Vec<(u64, u64)> {
        let mut entries = Vec::with_capacity(self.len.load(Ordering::Relaxed));
        for table in self.shards.all() {
            entries.extend(table.entries());
        }
        entries
    }

    /// Goes on with what was exported; the higher of two numbers stays: a later window, or more of the same.
    pub(super) fn import(&self, entries: &[(u64, u64)]) {
        for &(key, value) in entries.iter().filter(|(key, _)| *key != 0) {
            let mut table = self.shards.of(key);
            match table.get_mut(key) {
                Some(kept) => *kept = value.max(*kept),
                None => self.add(&mut table, key, value),
            }
        }
    }

    fn note(&self) {
        if !self.changed.load(Std::Relaxed) {
            self.changed.store(true, Std::Relaxed);
        }
    }

    /// Adds a key, and forgets what must go for it.
    fn add(&self, table: &mut Table, key: u64, value: u64) {
        let over = table.sweep(SWEEP, |kept| unpack(kept).0 < unpack(value).0);
        self.len.fetch_sub(over, Ordering::Relaxed);
        let before = self.len.fetch_add(1, Ordering::Relaxed);
        if before >= self.capacity.load(Ordering::Relaxed) && table.evict_lowest(SAMPLE) {
            self.len.fetch_sub(1, Ordering::Relaxed);
        }
        table.insert(key, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(key: u64, cost: u64) -> Ask {
        Ask {
            key,
            cost,
            now: 1,
            unix_time: 1,
            look: false,
        }
    }

    #[test]
    fn a_window_begins_anew_and_no_earlier_one_comes_back() {
        let quotas = Quotas::new(100);
        assert_eq!(quotas.take(&ask(7, 2), 5, 3), (5, 2, true));
        assert_eq!(quotas.take(&ask(7, 2), 5, 3), (5, 2, false));
        assert_eq!(quotas.take(&ask(7, 1), 5, 3), (5, 3, true));
        // The clock was set back: the count goes on.
        assert_eq!(quotas.take(&ask(7, 1), 4, 3), (5, 3, false));
        assert_eq!(quotas.take(&ask(7, 1), 6, 3), (6, 1, true));
        // What belongs to a window that is over is not given back to this one.
        quotas.give_back(&ask(7, 1), 5);
        assert_eq!(quotas.take(&ask(7, 2), 6, 3), (6, 3, true));
        quotas.give_back(&ask(7, 2), 6);
        assert_eq!(quotas.take(&ask(7, 2), 6, 3), (6, 3, true));
    }

    #[test]
    fn a_full_table_forgets_who_used_least() {
        let quotas = Quotas::new(16);
        for key in 1..=16 {
            quotas.take(&ask(key, 50), 5, 100);
        }
        for key in 17..1000 {
            quotas.take(&ask(key, 1), 5, 100);
        }
        let kept = quotas.export();
        assert!(kept.len() <= 17, "{}", kept.len());
        let used = kept.iter().filter(|(_, value)| unpack(*value).1 == 50);
        assert!(used.count() >= 15);
    }

    #[test]
    fn the_higher_number_stays_when_two_meet() {
        let (old, new) = (Quotas::new(10), Quotas::new(10));
        old.take(&ask(1, 5), 7, 10);
        old.take(&ask(2, 5), 7, 10);
        new.take(&ask(2, 1), 8, 10);
        assert!(new.changed() && !new.changed());
        new.import(&old.export());
        assert_eq!(new.take(&ask(1, 6), 7, 10), (7, 5, false));
        assert_eq!(new.take(&ask(2, 1), 8, 10), (8, 2, true));
    }
}
