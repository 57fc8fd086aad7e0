//! The limits of a configuration as filters: those that routes share, and those that a route has to itself.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::config::{Algorithm, Config, Limit, Route};
use crate::filter::RequestFilter;
use crate::limit::{self, LimitFacts};
use crate::observe::Metrics;
use crate::primitives::{LimitName, RouteName};

/// Filters of limits.
#[derive(Default)]
pub(super) struct Limits {
    shared: BTreeMap<LimitName, Built>,
    of_routes: HashMap<(RouteName, LimitName), Built>,
}

/// One filter, and what its place in a chain depends on.
struct Built {
    filter: Arc<dyn RequestFilter>,
    needs_principal: bool,
    /// Whether the limit hands out turns, which cannot always be given back.
    queues: bool,
}

impl Limits {
    pub(super) fn build(config: &Config, metrics: &Metrics, facts: &LimitFacts) -> Self {
        let built = |limit: &Limit, cost: u32| Built {
            filter: limit::charging(limit, cost, metrics.limit(&limit.name), facts),
            needs_principal: limit.needs_principal(),
            queues: matches!(limit.algorithm, Algorithm::LeakyBucket { .. }),
        };
        let shared = config.limits.iter();
        let shared = shared.map(|(name, limit)| (name.clone(), built(limit, 1)));
        let mut of_routes = HashMap::new();
        for route in config.routes.iter() {
            for (name, used) in &route.limits.uses {
                let limit = used.own.as_deref().or_else(|| config.limits.get(name));
                if let Some(limit) = limit {
                    let key = (route.name.clone(), name.clone());
                    of_routes.insert(key, built(limit, used.cost));
                }
            }
        }
        Self {
            shared: shared.collect(),
            of_routes,
        }
    }

    /// Limits that `route` asks before or after it is known who is calling, in its order, but queues last: a turn in a
    /// queue is taken when nothing else of its kind can refuse the request any more.
    pub(super) fn of(&self, route: &Route, needs_principal: bool) -> Vec<Arc<dyn RequestFilter>> {
        let built = |name: &LimitName| {
            let own = self.of_routes.get(&(route.name.clone(), name.clone()));
            own.or_else(|| self.shared.get(name))
        };
        let named = route.limits.names.iter().filter_map(built);
        let mut asked: Vec<&Built> = named
            .filter(|built| built.needs_principal == needs_principal)
            .collect();
        asked.sort_by_key(|built| built.queues);
        asked
            .into_iter()
            .map(|built| Arc::clone(&built.filter))
            .collect()
    }
}
