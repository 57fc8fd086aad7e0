//! `GET /api/v1/routes`.

use serde::{Deserialize, Serialize};

use super::{ApiWord, BreakerStatus, PolicyStatus, RouteWindows};

/// A route with what it does now.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RouteStatus {
    /// The route as it is configured.
    #[serde(flatten)]
    pub route: RouteDescription,
    /// The route's own breaker; absent without one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub breaker: Option<BreakerStatus>,
    /// Requests in flight.
    pub in_flight: i64,
    /// What the route did lately.
    #[serde(flatten)]
    pub windows: RouteWindows,
}

/// A route as it is configured, and its policies as they stand.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RouteDescription {
    /// The name of the route, or its path where it has none.
    pub id: String,
    /// Pattern of paths.
    pub path: String,
    /// Methods; empty: all.
    pub methods: Vec<String>,
    /// Patterns of hosts; empty: all.
    pub hosts: Vec<String>,
    /// Routes with more of it are tried first.
    pub priority: i32,
    /// How much its requests matter when not all can be served: `critical`, `normal` or `sheddable`.
    pub class: ApiWord,
    /// The name of the upstream; `null` where the gateway answers itself.
    pub upstream: Option<String>,
    /// Whether the route is closed for the time being.
    pub maintenance: bool,
    /// Filters in the order in which they are asked.
    pub filters: Vec<String>,
    /// Where the route is defined.
    pub location: String,
    /// What the route does in bad times and while something new is tried.
    pub policy: PolicyStatus,
}
