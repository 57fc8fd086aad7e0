//! A route's filters in order, and the one place that fixes the order.

use std::sync::Arc;

use super::address_lists::AddressLists;
use super::parts::Parts;
use super::refusals;
use crate::auth::{AuthFilter, ClaimsFilter};
use crate::config::Route;
use crate::filter::{FilterContext, Part, RequestFilter, Verdict};
use crate::primitives::level::Level;
use crate::transform::{CorsFilter, JsonDepthFilter, MaintenanceFilter, MaxAnswerFilter};

/// What a request meets before an upstream is chosen.
pub struct Chain {
    filters: Vec<Arc<dyn RequestFilter>>,
    /// So many of them are asked where the route is switched off.
    at_the_door: usize,
}

impl Chain {
    /// The chain of `route`. Each step has its place for a reason.
    pub(super) fn of(route: &Route, parts: &Parts<'_>, lists: &mut AddressLists<'_>) -> Self {
        let mut filters: Vec<Arc<dyn RequestFilter>> = Vec::new();
        // An address that may not come in costs nothing further, and learns nothing.
        if let Some(rules) = lists.rules(route.access.allow_ips.as_ref(), &route.access.deny_ips) {
            filters.push(Arc::new(rules));
        }
        // Browsers ask before they send credentials, so a preflight cannot be authenticated.
        if let Some(cors) = &route.transform.cors {
            filters.push(Arc::new(CorsFilter::new(cors)));
        }
        // Where the route is off this is all: who is told to come again has spent neither a nonce nor a quota.
        let at_the_door = filters.len();
        // After CORS, so that a browser may read why; before everything that a closed route need not do.
        if let Some(settings) = &route.policies.maintenance {
            let allow = lists.ranges(&settings.allow_ips);
            filters.push(Arc::new(MaintenanceFilter::new(settings, allow)));
        }
        // Limits that need no identity come before the work of finding one.
        filters.extend(parts.limits.of(route, false));
        // Who you are comes before what you may do.
        let authenticators = route
            .access
            .auth
            .iter()
            .filter_map(|name| parts.authenticators.get(name).cloned());
        let authenticators: Vec<_> = authenticators.collect();
        if !authenticators.is_empty() {
            filters.push(Arc::new(AuthFilter::new(authenticators)));
        }
        if let Some(claims) = ClaimsFilter::new(route.access.require.clone()) {
            filters.push(Arc::new(claims));
        }
        // Counted under an identity that is proven by now: nobody uses up another's quota.
        filters.extend(parts.limits.of(route, true));
        // Last, so that a caller who may not come in does not learn what fits.
        filters.push(Arc::new(BodyLimit));
        if let Some(most) = route.limits.json_depth {
            filters.push(Arc::new(JsonDepthFilter::new(most)));
        }
        // Wherever it stands it is asked when the answer comes.
        if let Some(most) = route.limits.max_answer {
            filters.push(Arc::new(MaxAnswerFilter::new(most)));
        }
        Self {
            filters,
            at_the_door,
        }
    }

    /// The filters in order.
    pub fn filters(&self) -> &[Arc<dyn RequestFilter>] {
        &self.filters
    }

    /// Filters that are asked at this level of the route.
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

/// Refuses a body that says it is longer than the route takes. Bodies of unknown length are counted on their way.
struct BodyLimit;

impl RequestFilter for BodyLimit {
    fn name(&self) -> &str {
        "body_limit"
    }

    fn part(&self) -> Part {
        Part::Form
    }

    fn check(&self, context: &mut FilterContext<'_>) -> Verdict {
        match context.request.body_length {
            Some(length) if length > context.request.max_body => {
                Verdict::Refuse(refusals::too_large(context.request.max_body))
            }
            _ => Verdict::Continue,
        }
    }
}
