//! `bandwidth`: how fast answers go out, in bytes a second, all of one key together or each for itself.
//!
//! Nothing is counted when the request is asked about. The filter leaves a pace in the context, and whoever sends the
//! answer's body asks it for room, piece by piece: the pace says how long to wait before that piece may go. What is not
//! sent is not read from the upstream either, so that no answer piles up here.

use std::sync::Arc;
use std::time::Duration;

use super::LimitFacts;
use super::key::{Found, KeyFinder};
use super::limiter::missing;
use super::store::Store;
use crate::config::{Algorithm, Limit, LimitKey};
use crate::filter::{FilterContext, Pace, Part, RequestFilter, Verdict};
use crate::observe::stats::LimitStats;

/// The filter of a bandwidth limit.
pub(super) struct Bandwidth {
    name: String,
    keys: KeyFinder,
    stats: Arc<LimitStats>,
    times: Option<Arc<Store>>,
    usual: Speed,
    tiers: Vec<(String, Speed)>,
}

/// Bytes a second, and bytes that may go at once.
#[derive(Clone, Copy, Debug)]
struct Speed {
    rate: u64,
    burst: u64,
}

/// The pace of one answer.
struct Paced {
    speed: Speed,
    /// Shared with every answer of the key; `None` when the answer has a pace of its own.
    shared: Option<(Arc<Store>, u64)>,
    own: u64,
    stats: Arc<LimitStats>,
    delayed: bool,
}

impl Bandwidth {
    /// The filter of a limit; `None` when its algorithm is another's.
    pub(super) fn of(limit: &Limit, stats: Arc<LimitStats>, facts: &LimitFacts) -> Option<Self> {
        let Algorithm::Bandwidth { capacity, .. } = limit.algorithm else {
            return None;
        };
        let own = limit.key == LimitKey::Response;
        let tiers = limit.tiers.iter();
        let tiers = tiers.filter_map(|(name, speed)| Some((name.clone(), Speed::of(speed)?)));
        Some(Self {
            name: format!("limit.{}", limit.name),
            keys: KeyFinder::new(limit, facts.seed_of(limit)),
            stats,
            times: (!own).then(|| facts.times(limit, capacity)),
            usual: Speed::of(&limit.algorithm)?,
            tiers: tiers.collect(),
        })
    }

    fn speed(&self, context: &FilterContext<'_>) -> Speed {
        let principal = context.principal.as_ref();
        let name = principal.and_then(|principal| principal.tier.as_deref());
        let known = name.and_then(|name| self.tiers.iter().find(|(known, _)| known == name));
        known.map_or(self.usual, |(_, speed)| *speed)
    }
}

impl RequestFilter for Bandwidth {
    fn name(&self) -> &str {
        &self.name
    }

    fn part(&self) -> Part {
        Part::Limits
    }

    fn check(&self, context: &mut FilterContext<'_>) -> Verdict {
        let (verdict, count) = match self.keys.find(context) {
            Found::Skip => (Verdict::Continue, &self.stats.skipped),
            Found::Deny => (Verdict::Refuse(missing()), &self.stats.refused),
            Found::Key(key) => {
                if !context.dry_run {
                    context.paces.push(Box::new(Paced {
                        speed: self.speed(context),
                        shared: self.times.clone().map(|times| (times, key)),
                        own: 0,
                        stats: Arc::clone(&self.stats),
                        delayed: false,
                    }));
                }
                (Verdict::Continue, &self.stats.allowed)
            }
        };
        if !context.dry_run {
            count.up();
        }
        verdict
    }
}

impl Speed {
    fn of(algorithm: &Algorithm) -> Option<Self> {
        match *algorithm {
            Algorithm::Bandwidth { rate, burst, .. } => Some(Self { rate, burst }),
            _ => None,
        }
    }

    /// How long so many bytes take.
    fn span(self, bytes: u64) -> u64 {
        let nanos = u128::from(bytes) * 1_000_000_000 / u128::from(self.rate.max(1));
        u64::try_from(nanos).unwrap_or(u64::MAX)
    }

    /// When all that was promised will have gone, with `bytes` more; and how long these have to wait.
    fn promise(self, due: u64, now: u64, bytes: u64) -> (u64, u64) {
        let due = due.max(now).saturating_add(self.span(bytes));
        let wait = due.saturating_sub(self.span(self.burst));
        (due, wait.saturating_sub(now))
    }
}

impl Pace for Paced {
    fn piece(&self) -> usize {
        // About twenty a second: smooth enough, and seldom enough to cost nothing.
        usize::try_from(self.speed.rate / 20)
            .unwrap_or(usize::MAX)
            .clamp(512, 64 << 10)
    }

    fn reserve(&mut self, bytes: usize, now: u64) -> Duration {
        let (speed, bytes) = (self.speed, bytes as u64);
        let wait = match &self.shared {
            Some((times, key)) => {
                times.update(*key, now, |due, now| speed.promise(due, now, bytes))
            }
            None => {
                let (due, wait) = speed.promise(self.own, now, bytes);
                self.own = due;
                wait
            }
        };
        if wait > 0 && !std::mem::replace(&mut self.delayed, true) {
            self.stats.delayed.up();
        }
        Duration::from_nanos(wait)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: u64 = 1_000_000_000;

    proptest! {
        /// Answers of one key take turns with pieces of any size, each sent when it may be: in no span does more go out
        /// than the burst and what the rate makes of the span; and nobody waits while less was sent than that.
        #[test]
        fn no_span_holds_more_than_burst_and_rate(
            rate in 1_000u64..1_000_000,
            burst in 1u64..50_000,
            pieces in prop::collection::vec((1u64..5_000, 0u64..20_000_000), 1..200),
        ) {
            let speed = Speed { rate, burst };
            let start = 5 * SECOND;
            let (mut due, mut now, mut sent) = (0, start, Vec::new());
            for (bytes, pause) in pieces {
                now += pause;
                let (next, wait) = speed.promise(due, now, bytes);
                due = next;
                now += wait;
                sent.push((now, bytes));
            }
            for (index, (from, _)) in sent.iter().enumerate() {
                let mut total = 0;
                for (at, bytes) in &sent[index..] {
                    total += bytes;
                    let largest = 5_000 + burst;
                    let most = largest + (at - from) / 1_000 * rate / 1_000_000 + 2;
                    prop_assert!(total <= most, "{total} bytes in {} ns", at - from);
                }
            }
        }
    }

    #[test]
    fn what_comes_at_once_goes_at_once_and_the_rest_at_the_rate() {
        let speed = Speed {
            rate: 1_000,
            burst: 500,
        };
        let (due, wait) = speed.promise(0, SECOND, 500);
        assert_eq!(wait, 0);
        let (due, wait) = speed.promise(due, SECOND, 250);
        assert_eq!(wait, SECOND / 4);
        let (_, wait) = speed.promise(due, SECOND * 5 / 4, 250);
        assert_eq!(wait, SECOND / 4);
    }
}
