//! How much a route takes: requests, bytes, time.

use std::collections::BTreeMap;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::known::Known;
use super::says::Says;
use crate::config::document::At;
use crate::config::limit::{LimitUse, RawLimitUse};
use crate::config::overload::Class;
use crate::config::scope::Scope;
use crate::primitives::LimitName;

/// What a route and its group can both say of how much they take.
#[derive(Clone, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
pub(super) struct RawRouteLimits {
    /// Limits, asked in this order.
    #[serde(skip_serializing_if = "Option::is_none")]
    limits: Option<Vec<String>>,
    /// What a request counts, and amounts of the route's own, by limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    limit_overrides: Option<BTreeMap<String, RawLimitUse>>,
    /// Deadline of the whole exchange; default: the upstream's.
    #[serde(skip_serializing_if = "Option::is_none")]
    timeout: Option<String>,
    /// Bytes of a body; default: the server's.
    #[serde(skip_serializing_if = "Option::is_none")]
    max_body: Option<String>,
    /// Levels that JSON in a request may nest; any number when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    json_depth: Option<u32>,
    /// Bytes of the body of an upstream's answer; any number when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    max_answer: Option<String>,
    /// Who is let in last under overload; "normal" when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    class: Option<Class>,
}

/// How much a route takes.
#[derive(Clone, Debug)]
pub struct RouteLimits {
    /// Limits, in the order in which they are asked.
    pub names: Vec<LimitName>,
    /// What the route says of some of them.
    pub uses: BTreeMap<LimitName, LimitUse>,
    /// Deadline of the whole exchange.
    pub timeout: Option<Duration>,
    /// Bytes of a body.
    pub max_body: u64,
    /// Levels that JSON in a request may nest; `None` = any number.
    pub json_depth: Option<u32>,
    /// Bytes of the body of an upstream's answer; `None` = any number.
    pub max_answer: Option<u64>,
    /// Who is let in last under overload.
    pub class: Class,
}

impl RawRouteLimits {
    pub(super) fn validate(
        says: &Says<'_, Self>,
        known: &Known<'_>,
        scope: &mut Scope<'_>,
    ) -> RouteLimits {
        let names = says.read(
            "limits",
            |raw| raw.limits.as_ref(),
            scope,
            |list, at, scope| {
                known.named("limit", list, at, scope);
                list.clone()
            },
        );
        let names = names.unwrap_or_default();
        let uses = Self::uses(says, &names, known, scope);
        let timeout = says.read(
            "timeout",
            |raw| raw.timeout.as_ref(),
            scope,
            |text, at, scope| scope.positive(at, text),
        );
        let max_body = says.read(
            "max_body",
            |raw| raw.max_body.as_ref(),
            scope,
            |text, at, scope| scope.size(at, text),
        );
        let max_answer = says.read(
            "max_answer",
            |raw| raw.max_answer.as_ref(),
            scope,
            |text, at, scope| scope.size(at, text),
        );
        let depth = |raw: &u32, at: &At<'_>, scope: &mut Scope<'_>| {
            if *raw == 0 {
                scope.problem(
                    at,
                    "no JSON is that flat; 1 lets objects and arrays pass that hold none",
                );
            }
            *raw
        };
        let json_depth = says.read("json_depth", |raw| raw.json_depth.as_ref(), scope, depth);
        let class = says.get(|raw| raw.class.as_ref()).copied();
        RouteLimits {
            names: names.iter().map(|name| LimitName::new(name)).collect(),
            uses,
            timeout,
            max_body: max_body.unwrap_or(known.max_body),
            json_depth,
            max_answer,
            class: class.unwrap_or_default(),
        }
    }

    /// What the route says of limits that it asks.
    fn uses(
        says: &Says<'_, Self>,
        limits: &[String],
        known: &Known<'_>,
        scope: &mut Scope<'_>,
    ) -> BTreeMap<LimitName, LimitUse> {
        // Whether the route asks a limit is the route's own affair, whoever overrides it.
        let overrides = says.get(|raw| raw.limit_overrides.as_ref());
        let table = says.at.key("limit_overrides");
        let unasked = |name: &String| !limits.contains(name);
        for name in overrides.iter().flat_map(|table| table.keys()) {
            if unasked(name) {
                scope.problem(
                    &table.key(name),
                    "the route does not ask this limit; name it in `limits`",
                );
            }
        }
        let uses = says.read(
            "limit_overrides",
            |raw| raw.limit_overrides.as_ref(),
            scope,
            |overrides, table, scope| {
                let asked = overrides.iter().filter(|(name, _)| !unasked(name));
                let uses = asked.filter_map(|(name, raw)| {
                    let (limit, validated) = (known.limit)(name)?;
                    let used = limit.used(raw, validated, &table.key(name), scope);
                    Some((LimitName::new(name), used))
                });
                uses.collect()
            },
        );
        uses.unwrap_or_default()
    }
}
