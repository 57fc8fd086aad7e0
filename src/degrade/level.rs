//! The level of each route: who set it, and until when.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::api::LevelStatus;
use crate::observe::rollouts::RouteMarks;
use crate::primitives::RouteName;
use crate::primitives::clock::nanos;
use crate::primitives::interned::Interned;
use crate::primitives::level::Level;
use crate::primitives::sections::Section;

/// The levels of all routes. Times are nanoseconds of the process clock.
#[derive(Debug, Default)]
pub struct Levels {
    routes: Mutex<Interned<RouteName, RouteLevel>>,
}

/// The level of one route.
#[derive(Debug)]
pub struct RouteLevel {
    route: RouteName,
    /// Holds the level in force.
    marks: Arc<RouteMarks>,
    set: Mutex<Set>,
    /// The route's own level and when it ends, for a look without the lock.
    own: AtomicU8,
    own_until: AtomicU64,
}

/// What an operator set.
#[derive(Debug, Default)]
struct Set {
    level: Level,
    until: Option<u64>,
}

/// What another process, or the one before, had been told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownLevel {
    /// Name of the route.
    pub route: String,
    /// The level.
    pub level: String,
    /// How long it still holds; `None`: until it is changed.
    pub left_ms: Option<u64>,
}

/// What operators set: the section that another process, or the next, goes on from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CarriedLevels(pub Vec<KnownLevel>);

impl Section for CarriedLevels {
    const NAME: &'static str = "levels";
    const VERSION: u16 = 1;
    const LARGEST: usize = 16 << 20;
}

impl Levels {
    /// The level of a route; `marks` show it. A new one belongs to who asked until it is [registered](Self::register).
    pub fn route(
        &self,
        name: &RouteName,
        marks: impl FnOnce() -> Arc<RouteMarks>,
    ) -> Arc<RouteLevel> {
        let mut routes = self.routes.lock();
        routes.find_or(name.clone(), |name| RouteLevel {
            route: name.clone(),
            marks: marks(),
            set: Mutex::default(),
            own: AtomicU8::new(0),
            own_until: AtomicU64::new(0),
        })
    }

    /// A route is in force from now on.
    pub fn register(&self, name: &RouteName) {
        self.routes.lock().register(name);
    }

    /// Ends what was set for a while. Called once a second.
    pub fn tick(&self, now: u64) {
        let routes: Vec<_> = self.routes.lock().known().values().cloned().collect();
        routes.iter().for_each(|route| route.tick(now));
    }

    /// Forgets routes that are in no configuration.
    pub fn prune(&self) {
        self.routes.lock().prune();
    }

    /// What operators set.
    pub fn export(&self, now: u64) -> Vec<KnownLevel> {
        let routes = self.routes.lock();
        let known = routes.known().values().filter_map(|route| {
            let set = route.set.lock();
            (set.level != Level::Normal).then(|| KnownLevel {
                route: route.route.to_string(),
                level: set.level.as_str().to_owned(),
                left_ms: set.until.map(|until| until.saturating_sub(now) / 1_000_000),
            })
        });
        known.collect()
    }

    /// Goes on with what operators had set until `passed` ago.
    pub fn import(&self, known: &[KnownLevel], passed: Duration, now: u64) {
        let routes = self.routes.lock();
        for one in known {
            let route = routes.find(&RouteName::new(&one.route));
            let (Some(route), Ok(level)) = (route, Level::parse(&one.level)) else {
                continue;
            };
            let left = one.left_ms.map(Duration::from_millis);
            let left = left.map(|left| left.saturating_sub(passed));
            if left != Some(Duration::ZERO) {
                route.put(level, left, now);
            }
        }
    }
}

impl RouteLevel {
    /// The level in force.
    pub fn now(&self) -> Level {
        self.marks.level()
    }

    /// Counts of the route, and its level in force.
    pub fn marks(&self) -> &RouteMarks {
        &self.marks
    }

    /// An operator sets it, for a while or until it is changed.
    pub fn set(&self, level: Level, span: Option<Duration>, now: u64) {
        self.put(level, span, now);
        let route = self.route.as_str();
        let level = level.as_str();
        match span {
            Some(span) => {
                log::warn!(route = route, to = level; "level set to {level} for {span:?}");
            }
            None => log::warn!(route = route, to = level; "level set to {level}"),
        }
    }

    /// The route met what calls for `level`, which holds for a while. Called by each request that meets it.
    pub fn met(&self, level: Level, hold: Duration, why: &str, now: u64) {
        let (hold, until) = (nanos(hold), self.own_until.load(Ordering::Relaxed));
        let own = Level::from_u8(self.own.load(Ordering::Relaxed));
        if own >= level && until > now.saturating_add(hold / 2) {
            return;
        }
        let set = self.set.lock();
        let own = Level::from_u8(self.own.load(Ordering::Relaxed));
        self.own_until
            .fetch_max(now.saturating_add(hold), Ordering::Relaxed);
        if own < level {
            self.own.store(level as u8, Ordering::Relaxed);
            self.show(&set);
            log::warn!(route = self.route.as_str(), to = level.as_str(); "level is {} by itself: {why}",
                level.as_str());
        }
    }

    /// The level and where it comes from.
    pub fn shown(&self, now: u64) -> LevelStatus {
        let set = self.set.lock();
        LevelStatus {
            level: self.now().as_str().into(),
            operator: set.level.as_str().into(),
            left_seconds: set
                .until
                .map(|until| Duration::from_nanos(until.saturating_sub(now)).as_secs_f64()),
            own: Level::from_u8(self.own.load(Ordering::Relaxed))
                .as_str()
                .into(),
            acts_as: None,
        }
    }

    fn put(&self, level: Level, span: Option<Duration>, now: u64) {
        let mut set = self.set.lock();
        let until = span.map(|span| now.saturating_add(nanos(span)));
        *set = Set {
            level,
            until: until.filter(|_| level != Level::Normal),
        };
        self.show(&set);
    }

    fn tick(&self, now: u64) {
        let mut set = self.set.lock();
        let route = self.route.as_str();
        if set.until.is_some_and(|until| until <= now) {
            let was = set.level.as_str();
            *set = Set::default();
            log::warn!(route = route; "level {was} ended, its time was over");
        }
        let own = Level::from_u8(self.own.load(Ordering::Relaxed));
        if own != Level::Normal && self.own_until.load(Ordering::Relaxed) <= now {
            self.own.store(Level::Normal as u8, Ordering::Relaxed);
            log::info!(route = route; "level {} ended by itself", own.as_str());
        }
        self.show(&set);
    }

    /// Puts the higher of both in force. Called with `set` locked.
    fn show(&self, set: &Set) {
        let own = Level::from_u8(self.own.load(Ordering::Relaxed));
        self.marks.set_level(set.level.max(own));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn route(levels: &Levels) -> Arc<RouteLevel> {
        let name = RouteName::new("r");
        let route = levels.route(&name, Arc::default);
        levels.register(&name);
        route
    }

    #[test]
    fn the_higher_of_operator_and_route_holds() {
        let levels = Levels::default();
        let route = route(&levels);
        route.met(Level::Fallback, Duration::from_secs(5), "test", SECOND);
        route.set(Level::Lean, None, SECOND);
        assert_eq!(route.now(), Level::Fallback);
        levels.tick(6 * SECOND);
        assert_eq!(route.now(), Level::Lean);
        route.set(Level::Off, None, SECOND);
        assert_eq!(route.now(), Level::Off);
        route.set(Level::Normal, None, SECOND);
        assert_eq!(route.now(), Level::Normal);
    }

    #[test]
    fn what_is_met_again_holds_on() {
        let levels = Levels::default();
        let route = route(&levels);
        for second in 1..20 {
            route.met(Level::Lean, Duration::from_secs(5), "test", second * SECOND);
            levels.tick(second * SECOND);
            assert_eq!(route.now(), Level::Lean);
        }
        levels.tick(23 * SECOND);
        assert_eq!(route.now(), Level::Lean);
        levels.tick(25 * SECOND);
        assert_eq!(route.now(), Level::Normal);
    }

    #[test]
    fn a_level_for_a_while_ends_and_is_carried_with_what_is_left() {
        let levels = Levels::default();
        let route_a = route(&levels);
        route_a.set(Level::Off, Some(Duration::from_secs(10)), SECOND);
        levels.tick(10 * SECOND);
        assert_eq!(route_a.now(), Level::Off);
        let known = levels.export(5 * SECOND);
        assert_eq!(known[0].left_ms, Some(6000));
        levels.tick(11 * SECOND);
        assert_eq!(route_a.now(), Level::Normal);
        assert!(levels.export(SECOND).is_empty());
        let next = Levels::default();
        let route_b = route(&next);
        next.import(&known, Duration::from_secs(2), SECOND);
        assert_eq!(route_b.shown(SECOND).left_seconds, Some(4.0));
        next.import(&known, Duration::from_secs(20), SECOND);
        assert_eq!(route_b.now(), Level::Off);
        let late = Levels::default();
        let route_c = route(&late);
        late.import(&known, Duration::from_secs(7), SECOND);
        assert_eq!(route_c.now(), Level::Normal);
    }
}
