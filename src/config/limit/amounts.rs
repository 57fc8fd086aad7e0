//! How much a limit lets pass: for everybody, for callers of a tier, and on a route of its own.

use std::collections::BTreeMap;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Algorithm, Limit, RawAlgorithm, RawLimit};
use crate::config::document::At;
use crate::config::scope::Scope;
use crate::primitives::calendar::Calendar;
use crate::primitives::units;

/// Amounts. Which of them an algorithm reads is its own; a tier and a route replace those they name.
#[derive(Clone, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
pub(in crate::config) struct RawAmounts {
    /// Requests per period; bandwidth: bytes a second, as "1MiB/s". Not for concurrency and quota.
    #[serde(skip_serializing_if = "Option::is_none")]
    rate: Option<String>,
    /// token_bucket: requests that pass at once. leaky_bucket: requests that may wait. Default: one second's worth.
    #[serde(skip_serializing_if = "Option::is_none")]
    burst: Option<u32>,
    /// bandwidth: bytes that go at once. Default: a tenth of a second's worth.
    #[serde(skip_serializing_if = "Option::is_none")]
    burst_bytes: Option<String>,
    /// leaky_bucket: longest wait.
    #[serde(skip_serializing_if = "Option::is_none")]
    max_delay: Option<String>,
    /// concurrency: requests at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    max: Option<u32>,
    /// quota: requests in a window.
    #[serde(skip_serializing_if = "Option::is_none")]
    quota: Option<u64>,
}

/// What a route says of a limit that it asks.
#[derive(Clone, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
pub(in crate::config) struct RawLimitUse {
    /// What one request counts here; default 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    cost: Option<u32>,
    /// Amounts of its own, counted apart from other routes.
    #[serde(flatten)]
    amounts: RawAmounts,
    /// Amounts for callers of a tier, in place of the others.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    tiers: BTreeMap<String, RawAmounts>,
}

/// What a route says of a limit that it asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LimitUse {
    /// What one request counts; at least 1.
    pub cost: u32,
    /// The limit with the route's own amounts; `None` = the shared one.
    pub own: Option<Box<Limit>>,
}

/// What amounts do not change.
pub(super) struct Fixed {
    pub(super) capacity: u32,
    pub(super) calendar: Calendar,
}

/// Longest wait in a leaky bucket unless told otherwise.
const MAX_DELAY: Duration = Duration::from_secs(1);
/// The largest quota that can be counted.
const MOST_QUOTA: u64 = 1_000_000_000_000;

impl RawAmounts {
    fn is_empty(&self) -> bool {
        self.given().iter().all(|(_, given, _)| !given)
    }

    /// Amounts of `self`, and of `base` what they leave open.
    pub(super) fn over(&self, base: &Self) -> Self {
        Self {
            rate: self.rate.clone().or_else(|| base.rate.clone()),
            burst: self.burst.or(base.burst),
            burst_bytes: self
                .burst_bytes
                .clone()
                .or_else(|| base.burst_bytes.clone()),
            max_delay: self.max_delay.clone().or_else(|| base.max_delay.clone()),
            max: self.max.or(base.max),
            quota: self.quota.or(base.quota),
        }
    }

    /// Each key, whether it is there, and who reads it.
    fn given(&self) -> [(&'static str, bool, &'static [RawAlgorithm]); 6] {
        use RawAlgorithm::{Bandwidth, Concurrency, Estimator, LeakyBucket, Quota, TokenBucket};
        [
            (
                "rate",
                self.rate.is_some(),
                &[Estimator, TokenBucket, LeakyBucket, Bandwidth],
            ),
            ("burst", self.burst.is_some(), &[TokenBucket, LeakyBucket]),
            ("burst_bytes", self.burst_bytes.is_some(), &[Bandwidth]),
            ("max_delay", self.max_delay.is_some(), &[LeakyBucket]),
            ("max", self.max.is_some(), &[Concurrency]),
            ("quota", self.quota.is_some(), &[Quota]),
        ]
    }

    /// A key that the algorithm does not read would promise something that is not done.
    pub(super) fn refuse_foreign_keys(
        &self,
        kind: RawAlgorithm,
        at: &At<'_>,
        scope: &mut Scope<'_>,
    ) {
        for (key, given, readers) in self.given() {
            if given && !readers.contains(&kind) {
                scope.problem(&at.key(key), "means nothing to this algorithm");
            }
        }
    }

    pub(super) fn algorithm(
        &self,
        kind: RawAlgorithm,
        fixed: &Fixed,
        at: &At<'_>,
        scope: &mut Scope<'_>,
    ) -> Option<Algorithm> {
        let capacity = fixed.capacity;
        match kind {
            RawAlgorithm::Concurrency => {
                let max = self.max.filter(|max| *max > 0);
                if max.is_none() {
                    scope.problem(
                        &at.key("max"),
                        "a concurrency limit needs `max`, at least 1",
                    );
                }
                Some(Algorithm::Concurrency {
                    max: max?,
                    capacity,
                })
            }
            RawAlgorithm::Quota => {
                let most = self.quota.filter(|most| (1..=MOST_QUOTA).contains(most));
                if most.is_none() {
                    scope.problem(
                        &at.key("quota"),
                        "a quota needs `quota`, the requests of a window, at least 1",
                    );
                }
                Some(Algorithm::Quota {
                    most: most?,
                    calendar: fixed.calendar,
                    capacity,
                })
            }
            RawAlgorithm::Bandwidth => self.bandwidth(capacity, at, scope),
            _ => self.of_requests(kind, capacity, at, scope),
        }
    }

    fn rate<'r>(&'r self, example: &str, at: &At<'_>, scope: &mut Scope<'_>) -> Option<&'r str> {
        if self.rate.is_none() {
            let message = format!("the key \"rate\" is missing, for example rate = \"{example}\"");
            scope.problem(at, message);
        }
        self.rate.as_deref()
    }

    fn bandwidth(&self, capacity: u32, at: &At<'_>, scope: &mut Scope<'_>) -> Option<Algorithm> {
        let text = self.rate("1MiB/s", at, scope)?;
        let rate = scope.read(&at.key("rate"), text, units::byte_rate)?;
        let burst = self.burst_bytes.as_ref();
        let burst = burst.map(|text| scope.size(&at.key("burst_bytes"), text));
        Some(Algorithm::Bandwidth {
            rate,
            burst: burst.unwrap_or(rate / 10),
            capacity,
        })
    }

    fn of_requests(
        &self,
        kind: RawAlgorithm,
        capacity: u32,
        at: &At<'_>,
        scope: &mut Scope<'_>,
    ) -> Option<Algorithm> {
        let text = self.rate("100/s", at, scope)?;
        let rate = scope.read(&at.key("rate"), text, units::rate)?;
        let burst = self
            .burst
            .unwrap_or_else(|| u32::try_from(rate.per_second()).unwrap_or(u32::MAX));
        Some(match kind {
            RawAlgorithm::TokenBucket => {
                if burst == 0 {
                    scope.problem(
                        &at.key("burst"),
                        "a token bucket that holds nothing lets nothing pass",
                    );
                }
                Algorithm::TokenBucket {
                    rate,
                    burst,
                    capacity,
                }
            }
            RawAlgorithm::LeakyBucket => {
                let delay = self
                    .max_delay
                    .as_ref()
                    .map(|text| scope.duration(&at.key("max_delay"), text));
                Algorithm::LeakyBucket {
                    rate,
                    burst,
                    max_delay: delay.unwrap_or(MAX_DELAY),
                    capacity,
                }
            }
            _ => Algorithm::Estimator { rate },
        })
    }
}

impl Algorithm {
    /// The most that one request may count without being refused for ever.
    fn most(&self) -> u64 {
        match *self {
            Self::Estimator { rate } => rate.count,
            Self::TokenBucket { burst, .. } => u64::from(burst),
            Self::Concurrency { max, .. } => u64::from(max),
            Self::Quota { most, .. } => most,
            // The first in the queue passes at once, whatever it counts.
            Self::LeakyBucket { .. } | Self::Bandwidth { .. } => u64::MAX,
        }
    }
}

impl RawLimit {
    /// The amounts of tiers, each over those of `base`.
    pub(super) fn tiers(
        &self,
        tiers: &BTreeMap<String, RawAmounts>,
        base: &RawAmounts,
        at: &At<'_>,
        scope: &mut Scope<'_>,
    ) -> Vec<(String, Algorithm)> {
        let table = at.key("tiers");
        let mut all = Vec::new();
        for (name, amounts) in tiers {
            let here = table.key(name);
            amounts.refuse_foreign_keys(self.algorithm, &here, scope);
            if amounts.is_empty() {
                scope.problem(&here, "says nothing; leave the tier out");
            }
            let whole = amounts.over(base);
            if let Some(algorithm) = whole.algorithm(self.algorithm, &self.fixed(), &here, scope) {
                all.push((name.clone(), algorithm));
            }
        }
        all
    }

    /// What a route says of this limit, which is `limit` once validated.
    pub(in crate::config) fn used(
        &self,
        by: &RawLimitUse,
        limit: &Limit,
        at: &At<'_>,
        scope: &mut Scope<'_>,
    ) -> LimitUse {
        by.amounts.refuse_foreign_keys(self.algorithm, at, scope);
        let mut own = None;
        if !by.amounts.is_empty() || !by.tiers.is_empty() {
            let amounts = by.amounts.over(&self.amounts);
            let algorithm = amounts.algorithm(self.algorithm, &self.fixed(), at, scope);
            let mut tiers = self.tiers.clone();
            tiers.extend(by.tiers.clone());
            let tiers = self.tiers(&tiers, &amounts, at, scope);
            check_periods(algorithm.as_ref(), &tiers, at, scope);
            own = algorithm.map(|algorithm| {
                Box::new(Limit {
                    algorithm,
                    tiers,
                    ..limit.clone()
                })
            });
        }
        let cost = by.cost.unwrap_or(1);
        let limit = own.as_deref().unwrap_or(limit);
        if cost == 0 {
            scope.problem(&at.key("cost"), "must be at least 1");
        } else if cost > 1 && matches!(limit.algorithm, Algorithm::Bandwidth { .. }) {
            scope.problem(&at.key("cost"), "means nothing to this algorithm");
        }
        let tiers = limit
            .tiers
            .iter()
            .map(|(name, amounts)| (Some(name), amounts));
        for (tier, amounts) in std::iter::once((None, &limit.algorithm)).chain(tiers) {
            if u64::from(cost) > amounts.most() {
                let whom = tier.map(|tier| format!(" for the tier {tier:?}"));
                let message = format!(
                    "more than the limit ever lets pass at once{}, which is {}: every request would be refused",
                    whom.unwrap_or_default(),
                    amounts.most()
                );
                scope.problem(&at.key("cost"), message);
            }
        }
        LimitUse {
            cost: cost.max(1),
            own,
        }
    }
}

/// Estimators of one limit share their windows.
pub(super) fn check_periods(
    algorithm: Option<&Algorithm>,
    tiers: &[(String, Algorithm)],
    at: &At<'_>,
    scope: &mut Scope<'_>,
) {
    let Some(Algorithm::Estimator { rate }) = algorithm else {
        return;
    };
    for (name, amounts) in tiers {
        if let Algorithm::Estimator { rate: other } = amounts
            && other.per != rate.per
        {
            let table = at.key("tiers");
            scope.problem(
                &table.key(name).key("rate"),
                "an estimator counts everybody in the same window: write the same period",
            );
        }
    }
}
