//! What one route does, built from its settings: its filters, where it leads, what it does in bad times.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue};

use super::address_lists::AddressLists;
use super::chain::Chain;
use super::facts::Facts;
use super::parts::Parts;
use super::route_policy::Policy;
use crate::config::{self, Action, Class, Problem};
use crate::filter::{Reply, ResponseFilter, UpstreamRequestFilter};
use crate::observe::stats::RouteStats;
use crate::primitives::RouteName;
use crate::primitives::secret::ReadSecret;
use crate::route::Outgoing;
use crate::transform::{self, CorsFilter, HeaderFilter};
use crate::upstream::Pool;
use crate::upstream::breaker::{Breaker, Guarded};

/// What a route does.
pub struct RouteRuntime {
    /// Name of the route.
    pub name: RouteName,
    /// Filters of the route.
    pub chain: Chain,
    /// What follows them.
    pub target: Target,
    /// Who is let in last under overload.
    pub class: Class,
    /// Whether another endpoint may be asked beside the first; `None`: as the upstream says.
    pub hedge: Option<bool>,
    /// Counts of the route.
    pub stats: Arc<RouteStats>,
    /// Level, sides, fallback and mirror.
    pub policy: Policy,
    /// Circuit breaker of what it sends, besides the upstream's own.
    pub breaker: Option<Arc<Breaker>>,
    /// Bytes of a body.
    pub max_body: u64,
    /// Levels that JSON in a body may nest; `None`: any.
    pub json_depth: Option<u32>,
    /// Changes towards the upstream.
    pub upstream_filters: Vec<Arc<dyn UpstreamRequestFilter>>,
    /// Changes towards the client.
    pub response_filters: Vec<Arc<dyn ResponseFilter>>,
}

/// Where a route leads.
pub enum Target {
    /// To an upstream.
    Forward {
        /// Which.
        pool: Arc<Pool>,
        /// How the path changes.
        outgoing: Outgoing,
        /// Deadline of the whole exchange.
        deadline: Duration,
    },
    /// To an answer of our own.
    Respond(Arc<Reply>),
}

impl RouteRuntime {
    /// Builds the route from its settings, and from `changes`, its header rules with their values read. `known` are the
    /// breakers it had in earlier configurations.
    pub(super) fn new(
        route: &config::Route,
        changes: HeaderChanges,
        parts: &Parts<'_>,
        facts: &Facts,
        known: &[&Arc<Breaker>],
        lists: &mut AddressLists<'_>,
    ) -> Self {
        let target = match &route.action {
            Action::Respond(respond) => Target::Respond(transform::reply(respond)),
            Action::Forward { upstream, .. } => {
                let pool = Arc::clone(&parts.pools[upstream]);
                let deadline = route
                    .limits
                    .timeout
                    .unwrap_or(pool.settings().timeout.request);
                Target::Forward {
                    pool,
                    outgoing: Outgoing::of(route),
                    deadline,
                }
            }
        };
        let mut upstream_filters: Vec<Arc<dyn UpstreamRequestFilter>> = Vec::new();
        let mut response_filters: Vec<Arc<dyn ResponseFilter>> = Vec::new();
        if let Some(rules) = changes.request {
            upstream_filters.push(Arc::new(rules));
        }
        if let Some(cors) = &route.transform.cors {
            response_filters.push(Arc::new(CorsFilter::new(cors)));
        }
        if let Some(rules) = changes.response {
            response_filters.push(Arc::new(rules));
        }
        let stats = facts.metrics.route(&route.name);
        let breaker = route.policies.breaker.as_ref().map(|rule| {
            let guarded = Guarded::Route(route.name.to_string());
            let known = known.iter().copied();
            Breaker::carried(known, rule, guarded, &stats.breaker)
        });
        Self {
            breaker,
            name: route.name.clone(),
            chain: Chain::of(route, parts, lists),
            target,
            class: route.limits.class,
            hedge: route.policies.hedge,
            stats,
            policy: Policy::of(route, &changes.fallback, parts, facts),
            max_body: route.limits.max_body,
            json_depth: route.limits.json_depth,
            upstream_filters,
            response_filters,
        }
    }
}

impl RouteRuntime {
    /// Makes what was made for the route known to all: it is about to be in force.
    pub(super) fn register(&self, facts: &Facts) {
        facts.metrics.register_route(&self.name);
        self.policy.register(&self.name, facts);
    }
}

/// The headers that a route sets, with their values read.
#[derive(Default)]
pub(super) struct HeaderChanges {
    request: Option<HeaderFilter>,
    response: Option<HeaderFilter>,
    /// Changes to the headers of the fixed answer.
    pub(super) fallback: Vec<(HeaderName, HeaderValue)>,
}

impl HeaderChanges {
    pub(super) fn read(
        route: &config::Route,
        read: ReadSecret<'_>,
        problems: &mut Vec<Problem>,
    ) -> Self {
        let fixed = route
            .policies
            .fallback
            .as_ref()
            .and_then(|one| one.fixed.as_ref());
        let fixed = fixed.map_or(&[][..], |(_, headers)| headers);
        Self {
            request: HeaderFilter::new(&route.transform.request, read, problems),
            response: HeaderFilter::new(&route.transform.response, read, problems),
            fallback: transform::read_fields(fixed, read, problems),
        }
    }
}
