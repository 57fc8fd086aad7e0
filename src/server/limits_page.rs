//! What limits decided, for the API and for `tollgate status`.

use serde_json::{Value, json};

use crate::config::Limit;
use crate::gateway::State;

/// Every limit of the configuration in force with what it decided so far.
pub(super) fn limits(state: &State) -> Value {
    let Some(snapshot) = state.snapshot() else {
        return json!([]);
    };
    let limits = snapshot.config.limits.values();
    limits.map(|limit| describe(limit, state)).collect()
}

fn describe(limit: &Limit, state: &State) -> Value {
    let stats = state.metrics.limit(&limit.name);
    let tiers: Vec<&str> = limit.tiers.iter().map(|(name, _)| name.as_str()).collect();
    json!({
        "name": limit.name.as_str(),
        "key": limit.key.to_string(),
        "algorithm": limit.algorithm.name(),
        "tiers": tiers,
        "dry_run": limit.dry_run,
        "allowed": stats.allowed.value(),
        "delayed": stats.delayed.value(),
        "refused": stats.refused.value(),
        "skipped": stats.skipped.value(),
        "returned": stats.returned.value(),
        "would_refuse": stats.would_refuse.value(),
        "would_delay": stats.would_delay.value(),
    })
}
