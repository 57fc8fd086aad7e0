//! `tollgate degrade`, and what commands without a gateway of their own learn of a running one: levels and stopped sides.

use std::path::Path;
use std::time::Duration;

use anyhow::bail;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use super::admin_client::exchange;
use super::output::write_out;
use super::running::socket_of;
use crate::api::{Failure, LevelSet, LevelWanted, RouteStatus};
use crate::degrade::KnownLevel;
use crate::server::Offline;

/// `tollgate degrade`.
pub(super) fn set(path: &Path, route: &str, level: &str, span: Option<&str>) -> anyhow::Result<()> {
    let wanted = LevelWanted {
        level: level.to_owned(),
        span: span.map(str::to_owned),
    };
    let body = serde_json::to_string(&wanted)?;
    let id = utf8_percent_encode(route, NON_ALPHANUMERIC);
    let target = format!("/api/v1/routes/{id}/level");
    let (status, answer) = exchange(&socket_of(path)?, "PUT", &target, &body)?;
    if status != 200 {
        bail!("{}", serde_json::from_str::<Failure>(&answer)?.error);
    }
    let LevelSet { level: now, .. } = serde_json::from_str(&answer)?;
    let mut line = format!("route {route} is set to {}", now.operator);
    if let Some(left) = now.left_seconds {
        line.push_str(&format!(" for {left:.0} s"));
    }
    if now.level != now.operator {
        line.push_str(&format!(", and is {} by itself", now.level));
    }
    write_out(&format!("{line}\n"))
}

/// Takes levels and stopped sides over from the gateway that runs with this file, if one does.
pub(super) fn learn(path: &Path, offline: &Offline) {
    let routes = socket_of(path).and_then(|socket| exchange(&socket, "GET", "/api/v1/routes", ""));
    let Ok((200, routes)) = routes else { return };
    let routes: Vec<RouteStatus> = serde_json::from_str(&routes).unwrap_or_default();
    let (mut known, now) = (Vec::new(), offline.state.clock.now());
    for RouteStatus { route, .. } in &routes {
        known.push(KnownLevel {
            route: route.id.clone(),
            level: route.policy.level.level.to_string(),
            left_ms: None,
        });
        let mut named = offline.snapshot.routes.iter();
        let named = named.find(|one| one.name.as_str() == route.id);
        let Some(sides) = named.and_then(|one| one.policy.sides.as_ref()) else {
            continue;
        };
        for side in route.policy.sides.iter().flatten() {
            let facts = sides.split.facts().side_of(&side.upstream);
            if let (Some(facts), Some(stopped)) = (facts, &side.stopped) {
                facts.stop(&stopped.reason, stopped.at_unix);
            }
        }
    }
    offline.state.levels.import(&known, Duration::ZERO, now);
}

/// Lines for `status` about routes that do not do all of their work, and sides that were stopped.
pub(super) fn status_lines(routes: &[RouteStatus]) -> String {
    let mut out = String::new();
    for RouteStatus { route, .. } in routes {
        let (id, level) = (&route.id, &route.policy.level);
        // A gateway from before there were levels says none.
        if !matches!(&*level.level, "normal" | "") {
            let by = if level.operator == level.level {
                "set by an operator"
            } else {
                "by itself"
            };
            out.push_str(&format!("\nLEVEL {} of {id}, {by}", level.level));
            if let Some(left) = level.left_seconds {
                out.push_str(&format!(", {left:.0} s left"));
            }
            if let Some(acts_as) = &level.acts_as {
                out.push_str(&format!(
                    "; the route has no fallback, so it acts as {acts_as}"
                ));
            }
            out.push('\n');
        }
        for (index, side) in route.policy.sides.iter().flatten().enumerate() {
            if index == 0 {
                out.push_str(&format!("\nSPLIT of {id}\n"));
            }
            out.push_str(&format!(
                "  {:<28} weight {:<6} {:>8} requests {:>7.2}% 5xx {:>8.1} ms p99",
                side.upstream,
                side.weight.unwrap_or_default(),
                side.window.requests,
                side.window.error_ratio * 100.0,
                side.window.p99_ms,
            ));
            if let Some(stopped) = &side.stopped {
                out.push_str(&format!("  stopped: {}", stopped.reason));
            }
            out.push('\n');
        }
    }
    out
}
