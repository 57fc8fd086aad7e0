//! `mirror`: a copy of some requests for an upstream whose answers nobody sees.

use std::time::Duration;

use http::Method;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::known::Known;
use crate::config::document::At;
use crate::config::method::method;
use crate::config::scope::Scope;
use crate::primitives::UpstreamName;
use crate::primitives::units::{self, Percent};

/// A copy of some requests.
#[derive(Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RawMirror {
    /// Upstream that gets the copies.
    upstream: String,
    /// Share of requests that are copied.
    #[serde(default = "all")]
    share: String,
    /// Methods that are copied.
    #[serde(default = "safe")]
    methods: Vec<String>,
    /// Bytes of a body that is copied; requests with more are not.
    #[serde(default = "max_body")]
    max_body: String,
    /// Copies under way at once; further ones are left out.
    #[serde(default = "in_flight")]
    in_flight: u32,
    /// Time for one copy; default: its upstream's.
    #[serde(skip_serializing_if = "Option::is_none")]
    timeout: Option<String>,
}

fn all() -> String {
    "100%".into()
}

fn safe() -> Vec<String> {
    ["GET", "HEAD", "OPTIONS"].map(str::to_owned).to_vec()
}

fn max_body() -> String {
    "64KiB".into()
}

fn in_flight() -> u32 {
    64
}

/// A copy of some requests for an upstream whose answers nobody sees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mirror {
    /// Upstream that gets the copies.
    pub upstream: UpstreamName,
    /// Share of requests that are copied.
    pub share: Percent,
    /// Methods that are copied.
    pub methods: Vec<Method>,
    /// Bytes of a body that is copied.
    pub max_body: usize,
    /// Copies under way at once.
    pub in_flight: u32,
    /// Time for one copy; `None` = its upstream's.
    pub timeout: Option<Duration>,
}

/// Bounds that keep the memory for copies within what a host has.
const MOST_BODY: u64 = 16 << 20;
const MOST_IN_FLIGHT: u32 = 10_000;

impl RawMirror {
    pub(super) fn validate(&self, at: &At<'_>, known: &Known<'_>, scope: &mut Scope<'_>) -> Mirror {
        known.upstream(&at.key("upstream"), &self.upstream, scope);
        let share = scope.read(&at.key("share"), &self.share, units::percent);
        if share == Some(Percent::ZERO) {
            scope.problem(
                &at.key("share"),
                "copies nothing; leave `mirror` out instead",
            );
        }
        let list = at.key("methods");
        if self.methods.is_empty() {
            scope.problem(&list, "an empty list would copy nothing");
        }
        let methods = self.methods.iter().enumerate();
        let methods = methods
            .filter_map(|(i, text)| scope.read(&list.index(i), text, method))
            .collect();
        let max_body = scope.size(&at.key("max_body"), &self.max_body);
        if max_body > MOST_BODY {
            scope.problem(&at.key("max_body"), "at most 16MiB");
        }
        if !(1..=MOST_IN_FLIGHT).contains(&self.in_flight) {
            let message = format!("must lie between 1 and {MOST_IN_FLIGHT}");
            scope.problem(&at.key("in_flight"), message);
        }
        let timeout = self.timeout.as_ref();
        Mirror {
            upstream: UpstreamName::new(&self.upstream),
            share: share.unwrap_or(Percent::ZERO),
            methods,
            max_body: usize::try_from(max_body).unwrap_or(usize::MAX),
            in_flight: self.in_flight,
            timeout: timeout.map(|text| scope.positive(&at.key("timeout"), text)),
        }
    }
}
