//! What a route does in bad times and while something new is tried, built from its settings: its level, sides, fallback
//! and mirror. What a request does with them is in [`policy`](super::policy).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use http::{HeaderName, HeaderValue};

use super::facts::Facts;
use super::parts::Parts;
use super::route_fallback::Fallback;
use super::route_mirror::Mirror;
use crate::config::{self, Action, Degrade};
use crate::degrade::RouteLevel;
use crate::filter::Reason;
use crate::primitives::RouteName;
use crate::primitives::level::Level;
use crate::rollout::Split;
use crate::upstream::Pool;

/// What a route does in bad times and while something new is tried.
pub struct Policy {
    /// Level of the route.
    pub level: Arc<RouteLevel>,
    /// The log was told that the level wants a fallback which is not there.
    told: AtomicBool,
    /// What makes it take a level by itself.
    degrade: Degrade,
    /// Several upstreams.
    pub sides: Option<Box<TrafficSplit>>,
    /// Who answers when the upstream cannot.
    pub fallback: Option<Box<Fallback>>,
    /// Who gets copies.
    pub mirror: Option<Arc<Mirror>>,
    /// None of these is there: nothing is to be done but to forward.
    pub(super) plain: bool,
}

/// Several upstreams for one route.
pub struct TrafficSplit {
    /// Who goes where.
    pub split: Split,
    /// In the order of the sides.
    pub pools: Vec<Arc<Pool>>,
}

impl Policy {
    /// The policies of a route; `fallback_headers` are those of its fixed answer, with their values read.
    pub(super) fn of(
        route: &config::Route,
        fallback_headers: &[(HeaderName, HeaderValue)],
        parts: &Parts<'_>,
        facts: &Facts,
    ) -> Self {
        let pools = parts.pools;
        let counts = &facts.metrics.rollouts;
        let level = facts
            .levels
            .route(&route.name, || counts.route(&route.name));
        let split = match &route.action {
            Action::Forward { split, .. } => split.as_ref(),
            Action::Respond(_) => None,
        };
        let sides = split.map(|split| {
            Box::new(TrafficSplit {
                split: Split::new(
                    &route.name,
                    split,
                    facts.rollouts.route(&route.name, split, counts),
                ),
                pools: split
                    .sides
                    .iter()
                    .map(|side| Arc::clone(&pools[&side.upstream]))
                    .collect(),
            })
        });
        let fallback = route.policies.fallback.as_ref();
        let mirror = route.policies.mirror.as_ref();
        Self {
            plain: sides.is_none() && fallback.is_none() && mirror.is_none(),
            level,
            told: AtomicBool::new(false),
            degrade: route.policies.degrade,
            sides,
            fallback: fallback.map(|settings| {
                Box::new(Fallback::new(
                    route,
                    settings,
                    fallback_headers,
                    parts,
                    facts,
                ))
            }),
            mirror: mirror.map(|settings| {
                let stats = counts.mirror(&route.name, &settings.upstream);
                Arc::new(Mirror::new(settings, &pools[&settings.upstream], stats))
            }),
        }
    }

    /// Makes what was made for it known to all: the route is about to be in force.
    pub(super) fn register(&self, route: &RouteName, facts: &Facts) {
        facts.levels.register(route);
        let split = self.sides.as_ref().map(|sides| sides.split.facts());
        if let Some(split) = split {
            facts.rollouts.register(split);
        }
        let sides = split.into_iter().flat_map(|split| split.upstreams());
        let mirror = self.mirror.as_ref();
        let mirror = mirror.map(|mirror| &mirror.settings().upstream);
        facts.metrics.rollouts.register(route, sides, mirror);
        let fallback = self.fallback.as_ref();
        if let Some(kept) = fallback.and_then(|fallback| fallback.kept()) {
            facts.kept_answers.register(route, kept);
        }
    }

    /// What a level amounts to that wants a fallback which is not there any more: a reload took it away, and left what an
    /// operator had set or what the route had met before. `None`: the level is what it says.
    pub fn acts_as(&self) -> Option<Level> {
        let hollow = self.level.now() == Level::Fallback && self.fallback.is_none();
        hollow.then_some(Level::Lean)
    }

    /// Tells once of such a level. Called once a second.
    pub fn tell_hollow(&self, route: &RouteName) {
        let Some(level) = self.acts_as() else {
            return self.told.store(false, Ordering::Relaxed);
        };
        if !self.told.swap(true, Ordering::Relaxed) {
            log::warn!(route = route.as_str();
                "level is fallback, and the route has no fallback any more: it acts as {}", level.as_str());
        }
    }

    /// A request met this.
    pub(super) fn met(&self, reason: Reason, now: u64) {
        let (level, why) = match reason {
            Reason::BreakerOpen => (self.degrade.on_breaker, "the breaker is open"),
            Reason::Overloaded => (self.degrade.on_overload, "requests are shed"),
            _ => return,
        };
        if let Some(level) = level {
            self.level.met(level, self.degrade.hold, why, now);
        }
    }
}
