//! `[limit.NAME]`: how much.

use std::time::Duration;

use http::HeaderName;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::document::At;
use super::raw::Later;
use super::scope::Scope;
use super::tls::CertificatePart;
use crate::primitives::LimitName;
use crate::primitives::units::{self, Rate};

/// A limit.
#[derive(Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RawLimit {
    /// What is counted: client_ip, consumer, header:NAME, claim:NAME, client_cert:subject, client_cert:fingerprint or
    /// route.
    key: String,
    /// How it is counted.
    algorithm: RawAlgorithm,
    /// Requests per period; not for concurrency.
    #[serde(skip_serializing_if = "Option::is_none")]
    rate: Option<String>,
    /// token_bucket: requests that pass at once. leaky_bucket: requests that may wait. Default: one second's worth.
    #[serde(skip_serializing_if = "Option::is_none")]
    burst: Option<u32>,
    /// leaky_bucket: longest wait.
    #[serde(skip_serializing_if = "Option::is_none")]
    max_delay: Option<String>,
    /// concurrency: requests at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    max: Option<u32>,
    /// Keys remembered; not for estimator.
    #[serde(skip_serializing_if = "Option::is_none")]
    capacity: Option<u32>,
    /// What to do with a request that has no such key.
    #[serde(default)]
    on_missing_key: OnMissingKey,
    /// Counting shared between hosts. Not supported yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    scope: Option<Later>,
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum RawAlgorithm {
    /// Constant memory for any number of keys, approximate, never under-counts.
    Estimator,
    /// Exact, with a burst.
    TokenBucket,
    /// Evens out: waits, then refuses.
    LeakyBucket,
    /// Requests at the same time.
    Concurrency,
}

/// What to do with a request that has no such key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnMissingKey {
    /// Refuse it.
    #[default]
    Deny,
    /// Count it under the client's address.
    ClientIp,
    /// Let it pass uncounted.
    Skip,
}

/// What a limit counts.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum LimitKey {
    /// The client's address.
    ClientIp,
    /// Who is calling.
    Consumer,
    /// The first value of a header.
    Header(HeaderName),
    /// A claim, by dotted path.
    Claim(String),
    /// What the client's certificate says.
    ClientCert(CertificatePart),
    /// The route, all callers together.
    Route,
}

impl LimitKey {
    /// Whether the key is known only after authentication.
    pub fn needs_principal(&self) -> bool {
        matches!(self, Self::Consumer | Self::Claim(_))
    }
}

/// How a limit counts.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// Count-min sketch over a sliding window.
    Estimator {
        /// Requests per period.
        rate: Rate,
    },
    /// GCRA.
    TokenBucket {
        /// Requests per period.
        rate: Rate,
        /// Requests that pass at once; at least 1.
        burst: u32,
        /// Keys remembered.
        capacity: u32,
    },
    /// A queue that lets one through every `1/rate`.
    LeakyBucket {
        /// Requests per period.
        rate: Rate,
        /// Requests that may wait.
        burst: u32,
        /// Longest wait.
        max_delay: Duration,
        /// Keys remembered.
        capacity: u32,
    },
    /// Requests at the same time.
    Concurrency {
        /// At most so many; at least 1.
        max: u32,
        /// Keys remembered.
        capacity: u32,
    },
}

/// A limit, validated.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Limit {
    /// Its name.
    pub name: LimitName,
    /// What it counts.
    pub key: LimitKey,
    /// How it counts.
    pub algorithm: Algorithm,
    /// What happens to a request without the key.
    pub on_missing_key: OnMissingKey,
}

impl std::hash::Hash for OnMissingKey {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        (*self as u8).hash(state);
    }
}

/// Keys remembered unless told otherwise.
const CAPACITY: u32 = 1_000_000;
/// Longest wait in a leaky bucket unless told otherwise.
const MAX_DELAY: Duration = Duration::from_secs(1);

impl RawLimit {
    pub(super) fn validate(&self, name: &str, at: &At<'_>, scope: &mut Scope<'_>) -> Option<Limit> {
        scope.later(&at.key("scope"), self.scope.as_ref());
        self.refuse_foreign_keys(at, scope);
        let key = scope.read(&at.key("key"), &self.key, limit_key);
        let algorithm = self.algorithm(at, scope);
        Some(Limit {
            name: LimitName::new(name),
            key: key?,
            algorithm: algorithm?,
            on_missing_key: self.on_missing_key,
        })
    }

    fn algorithm(&self, at: &At<'_>, scope: &mut Scope<'_>) -> Option<Algorithm> {
        let capacity = self.capacity.unwrap_or(CAPACITY);
        if capacity == 0 || capacity > 100_000_000 {
            scope.problem(&at.key("capacity"), "must lie between 1 and 100000000");
        }
        if self.algorithm == RawAlgorithm::Concurrency {
            let Some(max) = self.max.filter(|max| *max > 0) else {
                scope.problem(
                    &at.key("max"),
                    "a concurrency limit needs `max`, at least 1",
                );
                return None;
            };
            return Some(Algorithm::Concurrency { max, capacity });
        }
        let Some(text) = &self.rate else {
            scope.problem(
                at,
                "the key \"rate\" is missing, for example rate = \"100/s\"",
            );
            return None;
        };
        let rate = scope.read(&at.key("rate"), text, units::rate)?;
        let burst = self
            .burst
            .unwrap_or_else(|| u32::try_from(rate.per_second()).unwrap_or(u32::MAX));
        Some(match self.algorithm {
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
            RawAlgorithm::Estimator | RawAlgorithm::Concurrency => Algorithm::Estimator { rate },
        })
    }

    /// A key that the algorithm does not read would promise something that is not done.
    fn refuse_foreign_keys(&self, at: &At<'_>, scope: &mut Scope<'_>) {
        use RawAlgorithm::{Concurrency, Estimator, LeakyBucket, TokenBucket};
        let keys: [(&str, bool, &[RawAlgorithm]); 5] = [
            (
                "rate",
                self.rate.is_some(),
                &[Estimator, TokenBucket, LeakyBucket],
            ),
            ("burst", self.burst.is_some(), &[TokenBucket, LeakyBucket]),
            ("max_delay", self.max_delay.is_some(), &[LeakyBucket]),
            ("max", self.max.is_some(), &[Concurrency]),
            (
                "capacity",
                self.capacity.is_some(),
                &[TokenBucket, LeakyBucket, Concurrency],
            ),
        ];
        for (key, given, readers) in keys {
            if given && !readers.contains(&self.algorithm) {
                scope.problem(&at.key(key), "means nothing to this algorithm");
            }
        }
    }
}

fn limit_key(text: &str) -> Result<LimitKey, String> {
    match text {
        "client_ip" => Ok(LimitKey::ClientIp),
        "consumer" => Ok(LimitKey::Consumer),
        "route" => Ok(LimitKey::Route),
        _ => match text.split_once(':') {
            Some(("header", name)) => name
                .parse()
                .map(LimitKey::Header)
                .map_err(|_| format!("{name:?} is no header name")),
            Some(("claim", path)) if !path.is_empty() => Ok(LimitKey::Claim(path.to_owned())),
            Some(("client_cert", _)) => CertificatePart::parse(text).map(LimitKey::ClientCert),
            _ => Err(format!(
                "{text:?} is none of client_ip, consumer, header:NAME, claim:NAME, client_cert:subject, \
                 client_cert:fingerprint, route"
            )),
        },
    }
}
