//! Levels and sides of routes, as operators see and set them.

use std::time::Duration;

use http::StatusCode;

use crate::api::{
    ApiWord, FallbackStatus, LevelSet, LevelStatus, LevelWanted, MirrorStatus, PolicyStatus,
    SideSet, SideStatus,
};
use crate::gateway::{RouteRuntime, Snapshot, State, Target};
use crate::primitives::level::Level;
use crate::primitives::{clock, units};
use crate::rollout::SideFacts;

/// Why something was not done.
type Refused = (StatusCode, String);

/// Longest time for which a level is set; for ever is said by saying nothing.
const LONGEST: Duration = Duration::from_secs(30 * 24 * 3600);

/// Sets the level of a route.
pub(in crate::server) fn set_level(
    state: &State,
    id: &str,
    body: &[u8],
) -> Result<LevelSet, Refused> {
    let bad = |why: String| (StatusCode::BAD_REQUEST, why);
    let wanted: LevelWanted = serde_json::from_slice(body).map_err(|error| {
        bad(format!(
            "expected {{\"level\": \"lean\", \"for\": \"30m\"}}: {error}"
        ))
    })?;
    let level = Level::parse(&wanted.level).map_err(bad)?;
    let span = wanted.span.as_deref().map(units::duration);
    let span = span.transpose().map_err(bad)?;
    if span.is_some_and(|span| span.is_zero() || span > LONGEST) {
        return Err(bad(
            "a level is set for more than nothing and at most 30d".to_owned()
        ));
    }
    if span.is_some() && level == Level::Normal {
        return Err(bad(
            "normal is what is left when a level ends; set it without a time".to_owned(),
        ));
    }
    with_route(state, id, |route| {
        if level == Level::Fallback && route.policy.fallback.is_none() {
            let why = format!("route {id} has no [route.fallback]; add one, or set lean or off");
            return Err((StatusCode::CONFLICT, why));
        }
        let now = state.clock.now();
        route.policy.level.set(level, span, now);
        Ok(LevelSet {
            route: id.to_owned(),
            level: route.policy.level.shown(now),
        })
    })
}

/// Stops a side of a route's split, or lets it go on.
pub(in crate::server) fn set_side(
    state: &State,
    id: &str,
    upstream: &str,
    start: bool,
) -> Result<SideSet, Refused> {
    with_route(state, id, |route| {
        let sides = route.policy.sides.as_ref();
        let side = sides.and_then(|sides| sides.split.facts().side_of(upstream));
        let Some(side) = side else {
            let why = format!("route {id} has no further side {upstream}");
            return Err((StatusCode::NOT_FOUND, why));
        };
        if start {
            side.start();
            log::warn!(route = id, upstream = upstream; "a side of the split goes on");
        } else {
            side.stop("by an operator", clock::unix_now().as_secs());
            log::warn!(route = id, upstream = upstream; "a side of the split was stopped by an operator");
        }
        Ok(SideSet {
            route: id.to_owned(),
            side: describe_side(side),
        })
    })
}

fn with_route<T>(
    state: &State,
    id: &str,
    then: impl FnOnce(&RouteRuntime) -> Result<T, Refused>,
) -> Result<T, Refused> {
    let snapshot = state.snapshot();
    let routes = snapshot.iter().flat_map(|snapshot| &snapshot.routes);
    let mut named = routes.filter(|route| route.name.as_str() == id);
    match named.next() {
        Some(route) => then(route),
        None => Err((StatusCode::NOT_FOUND, format!("there is no route {id}"))),
    }
}

/// What a route does in bad times and while something new is tried.
pub(in crate::server) fn describe(route: &RouteRuntime, now: u64) -> PolicyStatus {
    let policy = &route.policy;
    let sides = policy.sides.as_ref().map(|sides| {
        let each = sides.split.sides().iter().enumerate();
        let each = each.filter_map(|(index, settings)| {
            Some(SideStatus {
                weight: Some(settings.weight),
                ..describe_side(sides.split.facts().side(index)?)
            })
        });
        each.collect()
    });
    let fallback = policy.fallback.as_ref().map(|fallback| {
        let held = fallback.held();
        FallbackStatus {
            kinds: fallback.kinds().into_iter().map(ApiWord::from).collect(),
            upstream: fallback.upstream().map(str::to_owned),
            kept_answers: held.map(|(answers, _)| answers),
            kept_bytes: held.map(|(_, bytes)| bytes),
        }
    });
    let mirror = policy.mirror.as_ref().map(|mirror| {
        let settings = mirror.settings();
        MirrorStatus {
            upstream: settings.upstream.to_string(),
            share: settings.share.fraction(),
        }
    });
    PolicyStatus {
        level: LevelStatus {
            acts_as: policy.acts_as().map(|level| level.as_str().into()),
            ..policy.level.shown(now)
        },
        sides,
        fallback,
        mirror,
    }
}

fn describe_side(side: &SideFacts) -> SideStatus {
    SideStatus {
        upstream: side.upstream().to_string(),
        stopped: side.why(),
        window: side.behaviour(),
        weight: None,
    }
}

/// Ends levels whose time is over, tells of those that cannot be had, and compares the sides of splits. Called once a
/// second.
pub(in crate::server) fn tick(state: &State, snapshot: Option<&Snapshot>) {
    state.levels.tick(state.clock.now());
    let routes = || snapshot.into_iter().flat_map(|snapshot| &snapshot.routes);
    routes().for_each(|route| route.policy.tell_hollow(&route.name));
    let routes = routes();
    let forwarding = routes.filter(|route| matches!(route.target, Target::Forward { .. }));
    let sides = forwarding.filter_map(|route| route.policy.sides.as_ref());
    sides.for_each(|sides| sides.split.facts().tick());
}
