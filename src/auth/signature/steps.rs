//! Steps of the wall clock, and which stamps a step back makes good again.
//!
//! A nonce is forgotten when its stamp is good no more. A clock that is set back makes stamps good again whose nonces are
//! forgotten: they must be refused, or the requests that came with them could be played twice. Which those are depends on
//! what the clock showed while it was wrong, so that is remembered; a clock that was wrong for a short time costs nothing.

use std::collections::VecDeque;
use std::time::Duration;

/// What is no step: as much as nonces are kept longer than they need be.
const TOLERANCE_MS: i64 = 1000;
/// Most steps that are remembered one by one.
const MOST: usize = 16;

/// What the wall clock showed.
#[derive(Debug, Default)]
pub(super) struct Steps {
    /// Since when, on the monotonic clock in nanoseconds, the wall clock was ahead of it by so many milliseconds. Oldest
    /// first.
    known: VecDeque<(u64, i64)>,
}

/// The wall clock was set back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Back {
    /// So far.
    pub(super) by: Duration,
    /// The latest it ever showed when a nonce may have come that is forgotten by now.
    pub(super) forgotten_unix_ms: u64,
}

impl Steps {
    /// Compares the clocks. What came longer than `lifetime` nanoseconds ago is forgotten.
    pub(super) fn look(&mut self, now: u64, unix_ms: u64, lifetime: u64) -> Option<Back> {
        let ahead = millis(unix_ms).saturating_sub(millis(now / 1_000_000));
        let Some((_, before)) = self.known.back().copied() else {
            self.known.push_back((0, ahead));
            return None;
        };
        let step = ahead.saturating_sub(before);
        if step.abs() < TOLERANCE_MS {
            return None;
        }
        let back = (step < 0).then(|| Back {
            by: Duration::from_millis(step.unsigned_abs()),
            forgotten_unix_ms: self.latest_by(now.saturating_sub(lifetime)),
        });
        self.remember(now, ahead);
        back
    }

    /// The latest that the clock showed up to `moment`.
    fn latest_by(&self, moment: u64) -> u64 {
        let ends = self.known.iter().skip(1).map(|(since, _)| *since);
        let ends = ends.chain([u64::MAX]);
        let spans = self.known.iter().zip(ends);
        let begun = spans.filter(|((since, _), _)| *since <= moment);
        let shown = begun.map(|((_, ahead), end)| {
            let last = millis(end.min(moment) / 1_000_000).saturating_add(*ahead);
            u64::try_from(last).unwrap_or_default()
        });
        shown.max().unwrap_or_default()
    }

    /// Of too many, the oldest two count as one that showed the later time.
    fn remember(&mut self, now: u64, ahead: i64) {
        self.known.push_back((now, ahead));
        if self.known.len() > MOST
            && let Some((since, first)) = self.known.pop_front()
            && let Some(second) = self.known.front_mut()
        {
            *second = (since, second.1.max(first));
        }
    }
}

fn millis(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::auth::signature::nonce::{NonceOutcome, NonceStore};
    use crate::primitives::AuthName;

    const SECOND: u64 = 1_000_000_000;
    /// Of a skew of five minutes.
    const LIFETIME: u64 = 602 * SECOND;
    const NOON: u64 = 1_700_000_000_000;

    /// Looks after so many seconds at a clock that shows so many seconds past noon.
    fn look(steps: &mut Steps, after: u64, shows: i64) -> Option<(u64, i64)> {
        let unix_ms = NOON.saturating_add_signed(shows * 1000);
        let back = steps.look(after * SECOND, unix_ms, LIFETIME)?;
        let forgotten = millis(back.forgotten_unix_ms) - millis(NOON);
        Some((back.by.as_secs(), forgotten / 1000))
    }

    #[test]
    fn a_clock_that_goes_on_makes_nothing_good_again() {
        let mut steps = Steps::default();
        for second in 0..10_000 {
            assert_eq!(look(&mut steps, second, second as i64), None);
        }
        assert_eq!(
            look(&mut steps, 10_000, 13_600),
            None,
            "nor one that is set forward"
        );
        assert_eq!(steps.known.len(), 2);
    }

    #[test]
    fn a_step_back_makes_good_again_what_was_forgotten() {
        let mut steps = Steps::default();
        look(&mut steps, 1, 1);
        assert_eq!(
            look(&mut steps, 10_000, 6400),
            Some((3600, 10_000 - 602)),
            "what the clock showed when the oldest nonce came that is known"
        );
    }

    #[test]
    fn a_clock_that_was_wrong_for_a_while_costs_nothing() {
        let mut steps = Steps::default();
        look(&mut steps, 1, 1);
        look(&mut steps, 10_000, 13_600);
        let expected = 10_300 - 602;
        assert_eq!(look(&mut steps, 10_300, 10_300), Some((3600, expected)));
        // Wrong for longer than nonces are kept: some that came in the future are forgotten.
        look(&mut steps, 20_000, 23_600);
        let (_, forgotten) = look(&mut steps, 21_000, 21_000).expect("a step back");
        assert_eq!(forgotten, 24_600 - 602);
    }

    #[test]
    fn many_steps_are_remembered_as_few() {
        let mut steps = Steps::default();
        look(&mut steps, 1, 90_000);
        for step in 1..100 {
            let shows = if step % 2 == 0 { 0 } else { 500 };
            look(&mut steps, step * 10_000, shows);
            assert!(steps.known.len() <= MOST);
        }
        // The oldest clock was the latest one, and is not lost.
        let (_, forgotten) = look(&mut steps, 1_000_000, -5000).expect("a step back");
        assert!(forgotten >= 90_000, "{forgotten}");
    }

    #[test]
    fn a_creeping_clock_is_noticed_as_well() {
        let mut steps = Steps::default();
        let mut found = 0;
        for second in 0..10_000_i64 {
            let shows = NOON.saturating_add_signed(second * 999);
            let now = second.unsigned_abs() * SECOND;
            found += u32::from(steps.look(now, shows, LIFETIME).is_some());
        }
        assert_eq!(found, 9);
    }

    #[test]
    fn a_store_keeps_what_it_knows_for_longer_and_refuses_what_it_forgot() {
        let store = NonceStore::new(AuthName::new("a"), 0, Arc::default());
        store.configure(Duration::from_secs(300), 100, NOON);
        let share = store.share("app", 1);
        let claim = |nonce, after: u64| store.claim(&share, nonce, after * SECOND);
        let compare =
            |after: u64, shows: u64| store.compare_clocks(after * SECOND, NOON + shows * 1000);
        assert_eq!(compare(1, 1), None);
        assert_eq!(claim("early", 10), NonceOutcome::Fresh);
        assert_eq!(claim("late", 10_000), NonceOutcome::Fresh);
        assert_eq!(compare(10_100, 6500), Some(Duration::from_secs(3600)));
        assert_eq!(store.fence_unix_ms(), NOON + (10_100 - 602 + 300) * 1000);
        assert_eq!(claim("after", 10_101), NonceOutcome::Fresh);
        assert_eq!(claim("late", 10_000 + 602 + 3600 - 1), NonceOutcome::Seen);
        // What comes after it is kept as long as ever: the wider life is not handed on.
        assert_eq!(claim("after", 10_101 + 602 + 2 * 76), NonceOutcome::Fresh);
    }
}
