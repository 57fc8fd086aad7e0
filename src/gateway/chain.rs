//! A route's filters in order, and the one place that fixes the order.

use std::sync::Arc;

use super::address_lists::AddressLists;
use super::snapshot::Parts;
use crate::auth::{AuthFilter, ClaimsFilter};
use crate::config::Route;
use crate::filter::{Exchange, Part, Reason, Refusal, RequestFilter, Verdict};
use crate::primitives::level::Level;
use crate::transform::{CorsFilter, MaintenanceFilter};

/// What a request meets before an upstream is chosen.
pub struct Chain {
    filters: Vec<Arc<dyn RequestFilter>>,
    /// So many of them are asked where the route is switched off.
    at_the_door: usize,
}

impl Chain {
    /// The chain of `route` (contract §5). Each step has its place for a reason.
    pub(super) fn of(route: &Route, parts: &Parts<'_>, lists: &mut AddressLists<'_>) -> Self {
        let mut filters: Vec<Arc<dyn RequestFilter>> = Vec::new();
        // An address that may not come in costs nothing further, and learns nothing.
        if let Some(rules) = lists.rules(route.allow_ips.as_ref(), &route.deny_ips) {
            filters.push(Arc::new(rules));
        }
        // Browsers ask before they send credentials, so a preflight cannot be authenticated.
        if let Some(cors) = &route.cors {
            filters.push(Arc::new(CorsFilter::new(cors)));
        }
        // Where the route is off this is all: who is told to come again has spent neither a nonce nor a quota.
        let at_the_door = filters.len();
        // After CORS, so that a browser may read why; before everything that a closed route need not do.
        if let Some(settings) = &route.maintenance {
            let allow = lists.ranges(&settings.allow_ips);
            filters.push(Arc::new(MaintenanceFilter::new(settings, allow)));
        }
        // Limits that need no identity come before the work of finding one.
        filters.extend(parts.limits.of(route, false));
        // Who you are comes before what you may do.
        let authenticators = route
            .auth
            .iter()
            .filter_map(|name| parts.authenticators.get(name).cloned());
        let authenticators: Vec<_> = authenticators.collect();
        if !authenticators.is_empty() {
            filters.push(Arc::new(AuthFilter::new(authenticators)));
        }
        if let Some(claims) = ClaimsFilter::new(route.require.clone()) {
            filters.push(Arc::new(claims));
        }
        // Counted under an identity that is proven by now: nobody uses up another's quota.
        filters.extend(parts.limits.of(route, true));
        // Last, so that a caller who may not come in does not learn what fits.
        filters.push(Arc::new(BodyLimit));
        Self {
            filters,
            at_the_door,
        }
    }

    /// The filters in order.
    pub fn filters(&self) -> &[Arc<dyn RequestFilter>] {
        &self.filters
    }

    /// Those that are asked at this level of the route.
    pub(super) fn asked_at(&self, level: Level) -> &[Arc<dyn RequestFilter>] {
        match level {
            Level::Off => self.filters.get(..self.at_the_door).unwrap_or_default(),
            _ => &self.filters,
        }
    }

    /// A chain of these filters.
    #[cfg(test)]
    pub(super) fn with(filters: Vec<Arc<dyn RequestFilter>>) -> Self {
        Self {
            at_the_door: filters.len(),
            filters,
        }
    }
}

/// A limit refuses the request: none of those asked before counts it, and what it held is free.
pub(super) fn give_back(asked: &[Arc<dyn RequestFilter>], exchange: &mut Exchange<'_>) {
    for filter in asked.iter().rev() {
        filter.give_back(exchange);
    }
    exchange.tickets.clear();
}

/// Refuses a body that says it is longer than the route takes. Bodies of unknown length are counted on their way.
struct BodyLimit;

impl RequestFilter for BodyLimit {
    fn name(&self) -> &str {
        "body_limit"
    }

    fn part(&self) -> Part {
        Part::Form
    }

    fn check(&self, exchange: &mut Exchange<'_>) -> Verdict {
        match exchange.body_length {
            Some(length) if length > exchange.max_body => {
                Verdict::Refuse(too_large(exchange.max_body))
            }
            _ => Verdict::Continue,
        }
    }
}

/// The refusal of a body that is longer than `most`.
pub(super) fn too_large(most: u64) -> Refusal {
    Refusal::new(
        Reason::BodyTooLarge,
        format!("the body may have {most} bytes"),
    )
}
