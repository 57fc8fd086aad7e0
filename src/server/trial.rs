//! A configuration on trial: it is watched against the minute before, and taken back by itself unless somebody confirms
//! it.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::api::{Behaviour, RouteComparison, TrialReport};
use crate::gateway::{Snapshot, State};
use crate::observe::{Metrics, Sums, TrialEnd};
use crate::rollout::worse;

/// Shortest and longest trial.
const SHORTEST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// The name under which all routes together are judged: a request that matches none any more is missed by each of them.
const ALL: &str = "all routes";

/// A configuration that is in force and not confirmed.
pub(super) struct Trial {
    /// What was in force before, and will be again.
    pub(super) fallback: Arc<Snapshot>,
    hash: String,
    began: Instant,
    span: Duration,
    /// What each route did in the minute before.
    before: HashMap<Arc<str>, Sums>,
    /// What each route had done when the trial began.
    begun: HashMap<Arc<str>, Sums>,
}

/// Whether a trial may take so long.
pub(super) fn check_span(span: Duration) -> Result<(), String> {
    if (SHORTEST..=LONGEST).contains(&span) {
        Ok(())
    } else {
        Err("a trial takes between 1s and 24h".to_owned())
    }
}

impl Trial {
    /// Begins a trial of the configuration with this hash, which is about to be put in force.
    pub(super) fn begin(
        state: &State,
        fallback: Arc<Snapshot>,
        hash: &str,
        span: Duration,
    ) -> Self {
        Self {
            fallback,
            hash: hash.to_owned(),
            began: Instant::now(),
            span,
            before: state.windows.last_minute(),
            begun: now(&state.metrics),
        }
    }

    /// Whether its time is over.
    pub(super) fn expired(&self) -> bool {
        self.began.elapsed() >= self.span
    }

    /// How it stands.
    pub(super) fn look(&self, metrics: &Metrics) -> TrialReport {
        let mut routes = BTreeMap::new();
        let (mut all_before, mut all_since) = (Sums::default(), Sums::default());
        for (route, sums) in now(metrics) {
            let begun = self.begun.get(&route).copied().unwrap_or_default();
            let since = sums.since(&begun);
            let before = self.before.get(&route).copied().unwrap_or_default();
            all_before.add(&before);
            all_since.add(&since);
            routes.insert(route, (before, since));
        }
        let mut found = Vec::new();
        let each = routes.iter().map(|(route, sums)| (&**route, sums));
        for (route, (before, since)) in each.chain([(ALL, &(all_before, all_since))]) {
            let what = worse(before, since).into_iter();
            found.extend(what.map(|what| format!("{route}: {what}")));
        }
        let compared = routes
            .into_iter()
            .map(|(route, (before, since))| RouteComparison {
                route: route.to_string(),
                before: Behaviour::from(&before),
                since: Behaviour::from(&since),
            });
        TrialReport {
            state: TrialEnd::RUNNING.into(),
            config_hash: self.hash.clone(),
            fallback_hash: self.fallback.config.hash.clone(),
            span_seconds: self.span.as_secs_f64(),
            left_seconds: self.span.saturating_sub(self.began.elapsed()).as_secs_f64(),
            routes: compared
                .filter(|one| one.before.requests + one.since.requests > 0)
                .collect(),
            worse: found,
        }
    }
}

fn now(metrics: &Metrics) -> HashMap<Arc<str>, Sums> {
    let routes = metrics.each_route().into_iter();
    routes
        .map(|(route, stats)| (route, Sums::judged(&stats)))
        .collect()
}
