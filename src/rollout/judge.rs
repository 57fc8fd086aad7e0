//! Whether a side of a split is clearly worse than the first, and what then.
//!
//! Once a second the answers of each side within the window are compared with those of the first side, by the rules that
//! judge a configuration on trial. What is found three times in a row stops the side: it takes no request any more, not
//! even those it names, until somebody starts it again or the split is changed.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::comparison::worse;
use crate::api::{Behaviour, SideStopped};
use crate::config::Split;
use crate::observe::Sums;
use crate::observe::rollouts::{Rollouts as Counts, SideStats};
use crate::primitives::clock;
use crate::primitives::interned::Interned;
use crate::primitives::sections::Section;
use crate::primitives::{RouteName, UpstreamName};

/// What is known of all splits.
#[derive(Debug, Default)]
pub struct Rollouts {
    /// By route, and by the split as it is written: another split begins anew.
    routes: Mutex<Interned<(RouteName, String), RolloutFacts>>,
}

/// What is known of one split.
#[derive(Debug)]
pub struct RolloutFacts {
    route: RouteName,
    /// The split as it is written.
    split: String,
    stop: bool,
    window: Duration,
    sides: Vec<SideFacts>,
}

/// What is known of one side.
#[derive(Debug)]
pub struct SideFacts {
    upstream: UpstreamName,
    stats: Arc<SideStats>,
    stopped: AtomicBool,
    watch: Mutex<Watch>,
}

#[derive(Debug, Default)]
struct Watch {
    /// Sums once a second, the oldest first.
    past: VecDeque<Sums>,
    /// How often in a row it was found worse.
    worse: u32,
    why: Option<SideStopped>,
}

/// A side that was stopped, as another process knew it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownStop {
    route: String,
    split: String,
    upstream: String,
    reason: String,
    at_unix: u64,
}

/// Sides that were stopped: the section that another process, or the next, goes on from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CarriedStops(pub Vec<KnownStop>);

impl Section for CarriedStops {
    const NAME: &'static str = "stops";
    const VERSION: u16 = 1;
    const LARGEST: usize = 16 << 20;
}

/// How often in a row a side has to be found worse: one look may meet the end of a bad second.
const LOOKS: u32 = 3;
/// Answers of the first side below which nothing is compared with it.
const FEW: u64 = 20;

impl Rollouts {
    /// What is known of a route's split; nothing when it is new: then it belongs to who asked until it is
    /// [registered](Self::register).
    pub fn route(&self, name: &RouteName, split: &Split, counts: &Counts) -> Arc<RolloutFacts> {
        let key = (name.clone(), format!("{split:?}"));
        let mut routes = self.routes.lock();
        routes.find_or(key, |(_, written)| {
            let side = |side: &crate::config::Side| {
                let stats = counts.side(name, &side.upstream);
                let begun = Sums::judged(&stats.served);
                SideFacts {
                    upstream: side.upstream.clone(),
                    stats,
                    stopped: AtomicBool::new(false),
                    watch: Mutex::new(Watch {
                        past: VecDeque::from([begun]),
                        ..Watch::default()
                    }),
                }
            };
            RolloutFacts {
                route: name.clone(),
                split: written.clone(),
                stop: split.stop,
                window: split.window,
                sides: split.sides.iter().map(side).collect(),
            }
        })
    }

    /// A split is in force from now on.
    pub fn register(&self, facts: &RolloutFacts) {
        let key = (facts.route.clone(), facts.split.clone());
        self.routes.lock().register(&key);
    }

    /// Forgets splits that are in no configuration.
    pub fn prune(&self) {
        self.routes.lock().prune();
    }

    /// The sides that were stopped.
    pub fn export(&self) -> Vec<KnownStop> {
        let routes = self.routes.lock();
        let stopped = routes.known().iter().flat_map(|((route, split), facts)| {
            facts.sides.iter().filter_map(move |side| {
                let why = side.why()?;
                Some(KnownStop {
                    route: route.to_string(),
                    split: split.clone(),
                    upstream: side.upstream.to_string(),
                    reason: why.reason,
                    at_unix: why.at_unix,
                })
            })
        });
        stopped.collect()
    }

    /// Goes on with what another process had stopped.
    pub fn import(&self, known: &[KnownStop]) {
        let routes = self.routes.lock();
        for one in known {
            let key = (RouteName::new(&one.route), one.split.clone());
            let Some(facts) = routes.find(&key) else {
                continue;
            };
            let sides = facts.sides.iter();
            for side in sides.filter(|side| side.upstream.as_str() == one.upstream) {
                side.stop(&one.reason, one.at_unix);
            }
        }
    }
}

impl RolloutFacts {
    /// The upstream of each side.
    pub fn upstreams(&self) -> impl Iterator<Item = &UpstreamName> {
        self.sides.iter().map(SideFacts::upstream)
    }

    /// What is known of side number `index`.
    pub fn side(&self, index: usize) -> Option<&SideFacts> {
        self.sides.get(index)
    }

    /// What is known of the side of an upstream; the first cannot be stopped.
    pub fn side_of(&self, upstream: &str) -> Option<&SideFacts> {
        let mut others = self.sides.iter().skip(1);
        others.find(|side| side.upstream.as_str() == upstream)
    }

    /// Begins anew with judging: what the sides did while another split was in force says nothing.
    pub fn begin(&self) {
        for side in &self.sides {
            let mut watch = side.watch.lock();
            watch.past = VecDeque::from([Sums::judged(&side.stats.served)]);
            watch.worse = 0;
        }
    }

    /// Compares its sides, while it is in force. Called once a second.
    pub fn tick(&self) {
        let Some((main, others)) = self.sides.split_first() else {
            return;
        };
        let within = main.look(self.window);
        for side in others {
            let seen = side.look(self.window);
            side.stats.set_stopped(side.stopped());
            if side.stopped() || !self.stop || Behaviour::from(&within).requests < FEW {
                continue;
            }
            let found = worse(&within, &seen);
            let mut watch = side.watch.lock();
            watch.worse = if found.is_empty() { 0 } else { watch.worse + 1 };
            if watch.worse < LOOKS {
                continue;
            }
            drop(watch);
            let reason = format!("clearly worse than {}: {}", main.upstream, found.join("; "));
            log::error!(route = self.route.as_str(), upstream = side.upstream.as_str();
                "a side of the split was stopped, {reason}");
            side.stop(&reason, clock::unix_now().as_secs());
        }
    }
}

impl SideFacts {
    /// Upstream of the side.
    pub fn upstream(&self) -> &UpstreamName {
        &self.upstream
    }

    /// Counts of the side.
    pub fn stats(&self) -> &Arc<SideStats> {
        &self.stats
    }

    /// Whether it takes no requests.
    pub fn stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }

    /// Why.
    pub fn why(&self) -> Option<SideStopped> {
        self.watch.lock().why.clone()
    }

    /// How it behaved within the window.
    pub fn behaviour(&self) -> Behaviour {
        let watch = self.watch.lock();
        let before = watch.past.front().copied().unwrap_or_default();
        Behaviour::from(&Sums::judged(&self.stats.served).since(&before))
    }

    /// Stops the side: it takes no requests from now on.
    pub fn stop(&self, reason: &str, at_unix: u64) {
        self.watch.lock().why = Some(SideStopped {
            reason: reason.to_owned(),
            at_unix,
        });
        self.stopped.store(true, Ordering::Relaxed);
        self.stats.set_stopped(true);
    }

    /// Starts the side again: it is judged by what it answers from now on.
    pub fn start(&self) {
        *self.watch.lock() = Watch {
            past: VecDeque::from([Sums::judged(&self.stats.served)]),
            ..Watch::default()
        };
        self.stopped.store(false, Ordering::Relaxed);
        self.stats.set_stopped(false);
    }

    /// What it answered within the window.
    fn look(&self, window: Duration) -> Sums {
        let now = Sums::judged(&self.stats.served);
        let mut watch = self.watch.lock();
        let before = watch.past.front().copied().unwrap_or_default();
        watch.past.push_back(now);
        while watch.past.len() as u64 > window.as_secs().max(1) {
            watch.past.pop_front();
        }
        now.since(&before)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Side, SplitKey};
    use crate::observe::Metrics;

    fn settings(stop: bool) -> Split {
        let side = |name| Side {
            upstream: UpstreamName::new(name),
            weight: 1,
            headers: Vec::new(),
            cookies: Vec::new(),
            claims: Vec::new(),
        };
        Split {
            sides: vec![side("main"), side("next")],
            by: SplitKey::Random,
            stop,
            window: Duration::from_secs(10),
        }
    }

    struct Case {
        rollouts: Rollouts,
        metrics: Metrics,
        facts: Arc<RolloutFacts>,
    }

    fn case(stop: bool) -> Case {
        let metrics = Metrics::new("0", "0").expect("metrics");
        let rollouts = Rollouts::default();
        let (name, split) = (RouteName::new("r"), settings(stop));
        let facts = rollouts.route(&name, &split, &metrics.rollouts);
        rollouts.register(&facts);
        let sides = split.sides.iter().map(|side| &side.upstream);
        metrics.rollouts.register(&name, sides, None);
        Case {
            rollouts,
            metrics,
            facts,
        }
    }

    impl Case {
        /// A second in which each side answers so many 200 and 500.
        fn second(&self, main: (u32, u32), next: (u32, u32), millis: u64) {
            let took = [Duration::from_millis(4), Duration::from_millis(millis)];
            for ((side, (good, bad)), took) in self.facts.sides.iter().zip([main, next]).zip(took) {
                (0..good).for_each(|_| side.stats.served.served("GET", 200, took));
                (0..bad).for_each(|_| side.stats.served.served("GET", 500, took));
            }
            self.facts.tick();
        }

        fn stopped(&self) -> bool {
            self.facts.sides[1].stopped()
        }
    }

    #[test]
    fn a_side_that_fails_is_stopped_with_its_reason() {
        let case = case(true);
        (0..5).for_each(|_| case.second((100, 1), (20, 0), 4));
        assert!(!case.stopped());
        (0..4).for_each(|_| case.second((100, 1), (5, 20), 4));
        assert!(case.stopped());
        let why = case.facts.sides[1].why().expect("why").reason;
        assert!(
            why.starts_with("clearly worse than main: 5xx answers"),
            "{why}"
        );
        let text = case.metrics.render().expect("text");
        let series = "gateway_split_stopped{route=\"r\",upstream=\"next\"} 1";
        assert!(text.contains(series), "{text}");
        case.facts.sides[1].start();
        assert!(!case.stopped() && case.facts.sides[1].why().is_none());
        // What it did before is not held against it.
        (0..5).for_each(|_| case.second((100, 1), (20, 0), 4));
        assert!(!case.stopped());
    }

    #[test]
    fn a_side_that_is_slow_is_stopped() {
        let case = case(true);
        (0..6).for_each(|_| case.second((100, 0), (50, 0), 400));
        assert!(case.stopped());
    }

    #[test]
    fn what_both_sides_do_stops_neither_nor_does_a_few_bad_answers() {
        let both = case(true);
        (0..30).for_each(|_| both.second((50, 50), (5, 5), 4));
        assert!(!both.stopped());
        let few = case(true);
        (0..3).for_each(|_| few.second((100, 0), (1, 3), 4));
        assert!(!few.stopped());
        let unwatched = case(false);
        (0..30).for_each(|_| unwatched.second((100, 0), (0, 50), 4));
        assert!(!unwatched.stopped());
        let alone = case(true);
        (0..30).for_each(|_| alone.second((0, 0), (0, 50), 4));
        assert!(!alone.stopped());
    }

    #[test]
    fn a_stop_is_known_again_for_the_same_split_only() {
        let old = case(true);
        old.facts.sides[1].stop("because", 7);
        let known = old.rollouts.export();
        let same = case(true);
        same.rollouts.import(&known);
        assert_eq!(same.facts.sides[1].why(), old.facts.sides[1].why());
        let other = case(false);
        other.rollouts.import(&known);
        assert!(!other.stopped());
        let again =
            old.rollouts
                .route(&RouteName::new("r"), &settings(true), &old.metrics.rollouts);
        assert!(again.sides[1].stopped());
    }
}
