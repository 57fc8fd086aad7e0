//! `tollgate degrade`, and what commands without a gateway of their own learn of a running one: levels and stopped sides.

use std::path::Path;
use std::time::Duration;

use anyhow::bail;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};

use super::admin_client::{exchange, text};
use super::running::socket_of;
use super::write_out;
use crate::degrade::KnownLevel;
use crate::server::Offline;

/// `tollgate degrade`.
pub(super) fn set(path: &Path, route: &str, level: &str, span: Option<&str>) -> anyhow::Result<()> {
    let mut body = json!({ "level": level });
    if let Some(span) = span {
        body["for"] = span.into();
    }
    let id = utf8_percent_encode(route, NON_ALPHANUMERIC);
    let target = format!("/api/v1/routes/{id}/level");
    let (status, answer) = exchange(&socket_of(path)?, "PUT", &target, &body.to_string())?;
    let answer: Value = serde_json::from_str(&answer).unwrap_or_default();
    if status != 200 {
        bail!("{}", text(&answer["error"]));
    }
    let shown = &answer["level"];
    let (operator, in_force) = (text(&shown["operator"]), text(&shown["level"]));
    let mut line = format!("route {route} is set to {operator}");
    if let Some(left) = shown["left_seconds"].as_f64() {
        line.push_str(&format!(" for {left:.0} s"));
    }
    if in_force != operator {
        line.push_str(&format!(", and is {in_force} by itself"));
    }
    write_out(&format!("{line}\n"))
}

/// Takes levels and stopped sides over from the gateway that runs with this file, if one does.
pub(super) fn learn(path: &Path, offline: &Offline) {
    let routes = socket_of(path).and_then(|socket| exchange(&socket, "GET", "/api/v1/routes", ""));
    let Ok((200, routes)) = routes else { return };
    let routes: Value = serde_json::from_str(&routes).unwrap_or_default();
    let routes = routes.as_array().into_iter().flatten();
    let (mut known, now) = (Vec::new(), offline.state.clock.now());
    for route in routes {
        let policy = &route["policy"];
        known.push(KnownLevel {
            route: text(&route["id"]),
            level: text(&policy["level"]["level"]),
            left_ms: None,
        });
        let mut named = offline.snapshot.routes.iter();
        let named = named.find(|one| Some(one.name.as_str()) == route["id"].as_str());
        let Some(sides) = named.and_then(|one| one.policy.sides.as_ref()) else {
            continue;
        };
        let seen = policy["sides"].as_array().into_iter().flatten();
        for side in seen.filter(|side| side["stopped"].is_object()) {
            let facts = sides
                .split
                .facts()
                .side_of(side["upstream"].as_str().unwrap_or_default());
            if let Some(facts) = facts {
                let stopped = &side["stopped"];
                facts.stop(
                    &text(&stopped["reason"]),
                    stopped["at_unix"].as_u64().unwrap_or_default(),
                );
            }
        }
    }
    offline.state.levels.import(&known, Duration::ZERO, now);
}

/// Lines for `status` about routes that do not do all of their work, and sides that were stopped.
pub(super) fn status_lines(routes: &Value) -> String {
    let mut out = String::new();
    for route in routes.as_array().into_iter().flatten() {
        let (id, policy) = (text(&route["id"]), &route["policy"]);
        let level = &policy["level"];
        if level["level"]
            .as_str()
            .is_some_and(|level| level != "normal")
        {
            let by = if level["operator"] == level["level"] {
                "set by an operator"
            } else {
                "by itself"
            };
            out.push_str(&format!("\nLEVEL {} of {id}, {by}", text(&level["level"])));
            if let Some(left) = level["left_seconds"].as_f64() {
                out.push_str(&format!(", {left:.0} s left"));
            }
            if let Some(acts_as) = level["acts_as"].as_str() {
                out.push_str(&format!(
                    "; the route has no fallback, so it acts as {acts_as}"
                ));
            }
            out.push('\n');
        }
        let sides = policy["sides"].as_array().into_iter().flatten();
        for (index, side) in sides.enumerate() {
            if index == 0 {
                out.push_str(&format!("\nSPLIT of {id}\n"));
            }
            let (window, stopped) = (&side["window"], &side["stopped"]);
            let number = |key: &str| window[key].as_f64().unwrap_or_default();
            out.push_str(&format!(
                "  {:<28} weight {:<6} {:>8} requests {:>7.2}% 5xx {:>8.1} ms p99",
                text(&side["upstream"]),
                side["weight"],
                window["requests"],
                number("error_ratio") * 100.0,
                number("p99_ms"),
            ));
            if let Some(reason) = stopped["reason"].as_str() {
                out.push_str(&format!("  stopped: {reason}"));
            }
            out.push('\n');
        }
    }
    out
}
