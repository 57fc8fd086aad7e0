//! What a route does in bad times, and while something new is tried.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::degrade::{Degrade, RawDegrade};
use super::fallback::{Fallback, RawFallback};
use super::known::Known;
use super::mirror::{Mirror, RawMirror};
use super::says::Says;
use crate::config::maintenance::{Maintenance, RawMaintenance};
use crate::config::scope::Scope;
use crate::config::upstream::{Breaker, RawBreaker};

/// What a route and its group can both say of bad times.
#[derive(Clone, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
pub(super) struct RawPolicies {
    /// Circuit breaker of what the route sends, besides the upstream's own; none when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) breaker: Option<RawBreaker>,
    /// Closed for the time being.
    #[serde(skip_serializing_if = "Option::is_none")]
    maintenance: Option<RawMaintenance>,
    /// Whether another endpoint may be asked beside the first: whatever the method, or not at all. As the upstream says when
    /// absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) hedge: Option<bool>,
}

/// What a route says of bad times that no group can say for it, and what that depends on.
pub(super) struct OwnPolicies<'r> {
    pub(super) mirror: Option<&'r RawMirror>,
    pub(super) fallback: Option<&'r RawFallback>,
    pub(super) degrade: Option<&'r RawDegrade>,
    /// Who calls the route is known.
    pub(super) authenticated: bool,
    /// The route answers itself, and asks no upstream.
    pub(super) responds: bool,
}

/// What a route does in bad times, and while something new is tried.
#[derive(Clone, Debug)]
pub struct Policies {
    /// Circuit breaker of what it sends.
    pub breaker: Option<Box<Breaker>>,
    /// How it answers while it is closed; `None` = open.
    pub maintenance: Option<Box<Maintenance>>,
    /// Whether another endpoint may be asked beside the first; `None`: as the upstream says.
    pub hedge: Option<bool>,
    /// A copy of some requests.
    pub mirror: Option<Box<Mirror>>,
    /// Answer when the upstream cannot.
    pub fallback: Option<Box<Fallback>>,
    /// Which level it takes by itself.
    pub degrade: Degrade,
}

impl RawPolicies {
    /// Reads what a route does in bad times.
    pub(super) fn validate(
        says: &Says<'_, Self>,
        own: &OwnPolicies<'_>,
        known: &Known<'_>,
        scope: &mut Scope<'_>,
    ) -> Policies {
        let at = says.at;
        let mirror = own
            .mirror
            .map(|raw| raw.validate(&at.key("mirror"), known, scope));
        let fallback = own
            .fallback
            .and_then(|raw| raw.validate(&at.key("fallback"), own.authenticated, known, scope));
        let degrade = own
            .degrade
            .map(|raw| raw.validate(&at.key("degrade"), own.fallback.is_some(), scope));
        let maintenance = says.read(
            "maintenance",
            |raw| raw.maintenance.as_ref(),
            scope,
            |raw, at, scope| raw.validate(at, scope),
        );
        let maintenance = maintenance.unwrap_or_else(|| known.maintenance.cloned());
        Policies {
            breaker: Self::breaker(says, own.responds, scope).map(Box::new),
            maintenance: maintenance.map(Box::new),
            hedge: says.get(|raw| raw.hedge.as_ref()).copied(),
            mirror: mirror.map(Box::new),
            fallback: fallback.map(Box::new),
            degrade: degrade.unwrap_or_default(),
        }
    }

    fn breaker(says: &Says<'_, Self>, responds: bool, scope: &mut Scope<'_>) -> Option<Breaker> {
        if responds {
            if says.own.breaker.is_some() {
                scope.problem(
                    &says.at.key("breaker"),
                    "a route that answers itself has nothing to break",
                );
            }
            return None;
        }
        says.read(
            "breaker",
            |raw| raw.breaker.as_ref(),
            scope,
            |raw, at, scope| raw.validate(at, scope),
        )
    }
}
