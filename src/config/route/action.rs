//! What a route does: which keys say it, and which do not go together.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::known::Known;
use super::says::Says;
use super::split::{self, RawRollout, RawSide, Split};
use crate::config::respond::{RawRespond, Respond};
use crate::config::scope::Scope;
use crate::primitives::UpstreamName;
use crate::primitives::template::{PathTemplate, Rewrite};

/// What a route and its group can both say of where requests go.
#[derive(Clone, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
pub(super) struct RawTarget {
    /// Upstream by name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) upstream: Option<String>,
    /// Leading segments cut off before forwarding.
    #[serde(skip_serializing_if = "Option::is_none")]
    strip_prefix: Option<u32>,
}

/// What a route says of where its requests go that no group can say for it.
pub(super) struct OwnTarget<'r> {
    pub(super) uri: Option<&'r str>,
    pub(super) rewrite: Option<&'r str>,
    pub(super) respond: Option<&'r RawRespond>,
    pub(super) split: Option<&'r [RawSide]>,
    pub(super) rollout: Option<&'r RawRollout>,
}

/// What a route does.
#[derive(Clone, Debug)]
pub enum Action {
    /// Sends the request to an upstream.
    Forward {
        /// Which.
        upstream: UpstreamName,
        /// Leading segments to cut off.
        strip_prefix: usize,
        /// Path to send instead.
        rewrite: Option<Rewrite>,
        /// Several upstreams, the first of which is `upstream`.
        split: Option<Box<Split>>,
    },
    /// Answers itself.
    Respond(Box<Respond>),
}

impl RawTarget {
    /// Reads what the route does. A path that cannot be read hides nothing but what depends on its captures.
    pub(super) fn validate(
        says: &Says<'_, Self>,
        own: &OwnTarget<'_>,
        path: Option<&PathTemplate>,
        known: &Known<'_>,
        scope: &mut Scope<'_>,
    ) -> Option<Action> {
        let at = says.at;
        let strip_prefix = says.get(|raw| raw.strip_prefix.as_ref());
        let unread = PathTemplate {
            segments: Vec::new(),
            tail: None,
        };
        let path = match path {
            Some(path) => path,
            None if own.rewrite.is_none() && strip_prefix.is_none() => &unread,
            None => return None,
        };
        let from_uri = own.uri.and_then(|text| match text.strip_prefix("lb://") {
            Some(name) if !name.is_empty() => Some(name.to_owned()),
            _ => {
                scope.problem(
                    &at.key("uri"),
                    format!("{text:?} must be \"lb://NAME\" with the name of an upstream"),
                );
                None
            }
        });
        if own.uri.is_some() && says.own.upstream.is_some() {
            scope.problem(at, "`uri` and `upstream` say the same; keep one");
        }
        if let Some(respond) = own.respond {
            let forwards = own.uri.is_some() || says.own.upstream.is_some();
            if forwards || own.rewrite.is_some() || says.own.strip_prefix.is_some() {
                scope.problem(
                    &at.key("respond"),
                    "a route answers itself or forwards, not both",
                );
            }
            return respond
                .validate(&at.key("respond"), scope)
                .map(|respond| Action::Respond(Box::new(respond)));
        }
        let split = own.split.map(|sides| {
            let rollout = own.rollout.cloned().unwrap_or_default();
            split::split(sides, &rollout, at, known, scope)
        });
        if split.is_some() && (own.uri.is_some() || says.own.upstream.is_some()) {
            scope.problem(
                &at.key("split"),
                "a route forwards to one upstream or splits, not both",
            );
        }
        let main = split.as_ref().and_then(|split| split.sides.first());
        let named = if split.is_some() {
            main.map(|side| side.upstream.to_string())
        } else if own.uri.is_some() {
            from_uri
        } else {
            says.get(|raw| raw.upstream.as_ref()).cloned()
        };
        let Some(upstream) = named else {
            if own.uri.is_none() && split.is_none() {
                scope.problem(
                    at,
                    "the route does nothing: it needs `upstream`, `uri`, `split` or `respond`",
                );
            }
            return None;
        };
        if split.is_none() && !(known.upstreams)(&upstream) {
            if own.uri.is_some() {
                known.upstream(&at.key("uri"), &upstream, scope);
            } else {
                says.read(
                    "upstream",
                    |raw| raw.upstream.as_ref(),
                    scope,
                    |name, at, scope| {
                        known.upstream(at, name, scope);
                    },
                );
            }
        }
        let rewrite = own
            .rewrite
            .and_then(|text| scope.read(&at.key("rewrite"), text, |t| Rewrite::parse(t, path)));
        if own.rewrite.is_some() && says.own.strip_prefix.is_some() {
            scope.problem(
                &at.key("rewrite"),
                "`rewrite` and `strip_prefix` both decide the path; keep one",
            );
        }
        let strip_prefix = if rewrite.is_some() {
            0
        } else {
            strip_prefix.copied().unwrap_or(0) as usize
        };
        if strip_prefix > path.segments.len() {
            let message = format!(
                "cuts {strip_prefix} segments, but the path has {} before its tail",
                path.segments.len()
            );
            scope.problem(&at.key("strip_prefix"), message);
        }
        Some(Action::Forward {
            upstream: UpstreamName::new(&upstream),
            strip_prefix,
            rewrite,
            split: split.map(Box::new),
        })
    }
}
