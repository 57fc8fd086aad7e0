//! Routes, upstreams and certificates as the API shows them.

use super::policies;
use crate::api::{
    CertificateStatus, EndpointStatus, RouteDescription, RouteStatus, UpstreamStatus,
};
use crate::config;
use crate::gateway::{RouteRuntime, Snapshot, State, Target, describe_breaker, describe_places};
use crate::primitives::{ListenerName, clock};
use crate::tls::ListenerConfig;
use crate::upstream::Standing;

/// Every route in the order in which they are tried, with what it does now.
pub(in crate::server) fn routes(state: &State) -> Vec<RouteStatus> {
    let Some(snapshot) = state.snapshot() else {
        return Vec::new();
    };
    let now = state.clock.now();
    let each = snapshot.table.in_match_order().into_iter().map(|index| {
        let (config, runtime) = (&snapshot.table.routes()[index], &*snapshot.routes[index]);
        let breaker = runtime.breaker.as_ref();
        RouteStatus {
            route: describe_route(config, runtime, now),
            breaker: breaker.map(|breaker| describe_breaker(breaker, now)),
            in_flight: runtime.stats.in_flight.value(),
            windows: state.windows.of(config.name.as_str()),
        }
    });
    each.collect()
}

/// Every upstream with its endpoints as they stand.
pub(in crate::server) fn upstreams(state: &State) -> Vec<UpstreamStatus> {
    let Some(snapshot) = state.snapshot() else {
        return Vec::new();
    };
    let now = state.clock.now();
    let each = snapshot.pools.values().map(|pool| {
        let endpoints = pool.standings(now).into_iter();
        let endpoints = endpoints.map(|standing| describe_endpoint(standing, now));
        UpstreamStatus {
            name: pool.settings().name.to_string(),
            balance: pool.settings().balance.name().into(),
            endpoints: endpoints.collect(),
            discovery_error: pool.failure(),
            concurrency: describe_places(pool),
            breaker: pool.breaker().map(|breaker| describe_breaker(breaker, now)),
            hedge_after_ms: pool
                .pace()
                .map(|pace| pace.after().map(|after| after.as_secs_f64() * 1000.0)),
        }
    });
    each.collect()
}

/// What clients are shown, and for how long it holds.
pub(in crate::server) fn certificates(snapshot: &Snapshot) -> Vec<CertificateStatus> {
    let now = clock::unix_now().as_secs() as i64;
    let of = |(listener, tls): (&ListenerName, &ListenerConfig)| {
        let listener = listener.to_string();
        let each = tls.shown.iter().map(move |shown| {
            let end = jiff::Timestamp::from_second(shown.not_after).unwrap_or_default();
            CertificateStatus {
                listener: listener.clone(),
                name: shown.name.clone(),
                not_after: end.to_string(),
                days_left: (shown.not_after - now).div_euclid(86_400),
            }
        });
        each.collect::<Vec<_>>()
    };
    snapshot.tls.iter().flat_map(of).collect()
}

fn describe_endpoint(standing: Standing, now: u64) -> EndpointStatus {
    let endpoint = &standing.endpoint;
    EndpointStatus {
        endpoint: endpoint.label.to_string(),
        address: endpoint.address.to_string(),
        weight: standing.weight,
        effective_weight: (standing.effective * 100.0).round() / 100.0,
        backup: standing.backup,
        state: endpoint.state(now).into(),
        in_flight: endpoint.in_flight.value(),
        why: standing.why,
        score: standing.score,
    }
}

/// A route for the API and for `tollgate routes --json`.
pub fn describe_route(
    config: &config::Route,
    runtime: &RouteRuntime,
    now: u64,
) -> RouteDescription {
    let upstream = match &runtime.target {
        Target::Forward { pool, .. } => Some(pool.settings().name.to_string()),
        Target::Respond(_) => None,
    };
    let filters = runtime.chain.filters().iter();
    RouteDescription {
        id: config.name.to_string(),
        path: config.matching.path.to_string(),
        methods: config
            .matching
            .methods
            .iter()
            .map(ToString::to_string)
            .collect(),
        hosts: config
            .matching
            .hosts
            .iter()
            .map(ToString::to_string)
            .collect(),
        priority: config.matching.priority,
        class: config.limits.class.as_str().into(),
        upstream,
        maintenance: config.policies.maintenance.is_some(),
        filters: filters.map(|filter| filter.name().to_owned()).collect(),
        location: config.location.to_string(),
        policy: policies::describe(runtime, now),
    }
}
