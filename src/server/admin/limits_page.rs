//! What limits decided, for the API and for `tollgate status`.

use crate::api::LimitStatus;
use crate::config::Limit;
use crate::gateway::State;

/// Every limit of the configuration in force with what it decided so far.
pub(in crate::server) fn limits(state: &State) -> Vec<LimitStatus> {
    let Some(snapshot) = state.snapshot() else {
        return Vec::new();
    };
    let limits = snapshot.config.limits.values();
    limits.map(|limit| describe(limit, state)).collect()
}

fn describe(limit: &Limit, state: &State) -> LimitStatus {
    let stats = state.metrics.limit(&limit.name);
    LimitStatus {
        name: limit.name.to_string(),
        key: limit.key.to_string(),
        algorithm: limit.algorithm.name().into(),
        tiers: limit.tiers.iter().map(|(name, _)| name.clone()).collect(),
        dry_run: limit.dry_run,
        allowed: stats.allowed.value(),
        delayed: stats.delayed.value(),
        refused: stats.refused.value(),
        skipped: stats.skipped.value(),
        returned: stats.returned.value(),
        would_refuse: stats.would_refuse.value(),
        would_delay: stats.would_delay.value(),
    }
}
