//! `[limit.NAME]`: how much.

mod amounts;

use std::collections::BTreeMap;
use std::time::Duration;

use http::HeaderName;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use self::amounts::LimitUse;
use self::amounts::{Fixed, check_periods};
pub(super) use self::amounts::{RawAmounts, RawLimitUse};
use super::document::At;
use super::raw::Later;
use super::scope::Scope;
use super::tls::CertificatePart;
use crate::primitives::calendar::{Calendar, Window, utc_offset};
use crate::primitives::units::Rate;
use crate::primitives::{LimitName, RouteName};

/// A limit.
#[derive(Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RawLimit {
    /// What is counted: client_ip, consumer, header:NAME, claim:NAME, client_cert:subject, client_cert:fingerprint or
    /// route; bandwidth also response, each by itself.
    key: String,
    /// How it is counted.
    algorithm: RawAlgorithm,
    /// How much.
    #[serde(flatten)]
    amounts: RawAmounts,
    /// quota: what a window is; default "day".
    #[serde(skip_serializing_if = "Option::is_none")]
    window: Option<RawWindow>,
    /// quota: how far the clock of its windows is ahead of UTC, as "+08:00"; default "Z".
    #[serde(skip_serializing_if = "Option::is_none")]
    utc_offset: Option<String>,
    /// Amounts of callers of a tier; they take the limit's own where they name none.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    tiers: BTreeMap<String, RawAmounts>,
    /// Keys remembered; not for estimator.
    #[serde(skip_serializing_if = "Option::is_none")]
    capacity: Option<u32>,
    /// What to do with a request that has no such key.
    #[serde(default)]
    on_missing_key: OnMissingKey,
    /// What exact limits tell the client.
    #[serde(default)]
    headers: LimitHeaders,
    /// Only count; nothing is refused or delayed.
    #[serde(default)]
    dry_run: bool,
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
    /// So many in a window of the calendar; survives a restart.
    Quota,
    /// Bytes a second of answers.
    Bandwidth,
}

/// A window of the calendar.
#[derive(Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum RawWindow {
    Hour,
    Day,
    Week,
    Month,
}

/// What to do with a request that has no such key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize, JsonSchema)]
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

/// What exact limits tell the client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LimitHeaders {
    /// `X-RateLimit-Limit`, `-Remaining`, `-Reset`.
    #[default]
    Legacy,
    /// `RateLimit` and `RateLimit-Policy` (draft-ietf-httpapi-ratelimit-headers).
    Draft,
    /// Both kinds.
    Both,
    /// Neither; `Retry-After` is always sent.
    None,
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
    /// The answer, each by itself; for bandwidth only.
    Response,
}

impl std::fmt::Display for LimitKey {
    /// As the configuration writes it.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::ClientIp => f.write_str("client_ip"),
            Self::Consumer => f.write_str("consumer"),
            Self::Header(name) => write!(f, "header:{name}"),
            Self::Claim(path) => write!(f, "claim:{path}"),
            Self::ClientCert(part) => f.write_str(part.name()),
            Self::Route => f.write_str("route"),
            Self::Response => f.write_str("response"),
        }
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
    /// Windows of the calendar.
    Quota {
        /// Requests in a window; at least 1.
        most: u64,
        /// Windows of the calendar.
        calendar: Calendar,
        /// Keys remembered.
        capacity: u32,
    },
    /// How fast answers go out.
    Bandwidth {
        /// Bytes a second; at least 1.
        rate: u64,
        /// Bytes that go at once.
        burst: u64,
        /// Keys remembered.
        capacity: u32,
    },
}

impl Algorithm {
    /// As the configuration writes it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Estimator { .. } => "estimator",
            Self::TokenBucket { .. } => "token_bucket",
            Self::LeakyBucket { .. } => "leaky_bucket",
            Self::Concurrency { .. } => "concurrency",
            Self::Quota { .. } => "quota",
            Self::Bandwidth { .. } => "bandwidth",
        }
    }

    /// Keys remembered; `None` where memory does not depend on them.
    pub fn capacity(&self) -> Option<u32> {
        match *self {
            Self::Estimator { .. } => None,
            Self::TokenBucket { capacity, .. }
            | Self::LeakyBucket { capacity, .. }
            | Self::Concurrency { capacity, .. }
            | Self::Quota { capacity, .. }
            | Self::Bandwidth { capacity, .. } => Some(capacity),
        }
    }
}

/// A limit, validated.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Limit {
    /// The name of the `[limit.NAME]`.
    pub name: LimitName,
    /// The route that has amounts of its own, and counts apart from others.
    pub route: Option<RouteName>,
    /// What it counts.
    pub key: LimitKey,
    /// How it counts.
    pub algorithm: Algorithm,
    /// What counts for callers of a tier, in place of the others.
    pub tiers: Vec<(String, Algorithm)>,
    /// What happens to a request without the key.
    pub on_missing_key: OnMissingKey,
    /// What the client is told.
    pub headers: LimitHeaders,
    /// Nothing is refused or delayed.
    pub dry_run: bool,
    /// The most that one request counts on any route.
    pub largest_cost: u32,
}

impl Limit {
    /// Whether it can be asked only when it is known who is calling.
    pub fn needs_principal(&self) -> bool {
        !self.tiers.is_empty() || matches!(self.key, LimitKey::Consumer | LimitKey::Claim(_))
    }
}

/// Keys remembered unless told otherwise.
const CAPACITY: u32 = 1_000_000;

impl RawLimit {
    pub(super) fn validate(&self, name: &str, at: &At<'_>, scope: &mut Scope<'_>) -> Option<Limit> {
        scope.later(&at.key("scope"), self.scope.as_ref());
        self.refuse_foreign_keys(at, scope);
        let key = scope.read(&at.key("key"), &self.key, limit_key);
        if key == Some(LimitKey::Response) && self.algorithm != RawAlgorithm::Bandwidth {
            scope.problem(&at.key("key"), "\"response\" is for bandwidth only");
        }
        if !(1..=100_000_000).contains(&self.fixed().capacity) {
            scope.problem(&at.key("capacity"), "must lie between 1 and 100000000");
        }
        if let Some(text) = &self.utc_offset {
            scope.read(&at.key("utc_offset"), text, utc_offset);
        }
        let algorithm = self
            .amounts
            .algorithm(self.algorithm, &self.fixed(), at, scope);
        // What the tiers leave open was reported already.
        let tiers = match &algorithm {
            Some(_) => self.tiers(&self.tiers, &self.amounts, at, scope),
            None => Vec::new(),
        };
        check_periods(algorithm.as_ref(), &tiers, at, scope);
        Some(Limit {
            name: LimitName::new(name),
            route: None,
            key: key?,
            algorithm: algorithm?,
            tiers,
            on_missing_key: self.on_missing_key,
            headers: self.headers,
            dry_run: self.dry_run,
            largest_cost: 1,
        })
    }

    fn fixed(&self) -> Fixed {
        let window = match self.window {
            Some(RawWindow::Hour) => Window::Hour,
            None | Some(RawWindow::Day) => Window::Day,
            Some(RawWindow::Week) => Window::Week,
            Some(RawWindow::Month) => Window::Month,
        };
        let offset = self.utc_offset.as_deref().map(utc_offset);
        Fixed {
            capacity: self.capacity.unwrap_or(CAPACITY),
            calendar: Calendar {
                window,
                offset: offset.and_then(Result::ok).unwrap_or_default(),
            },
        }
    }

    /// A key that the algorithm does not read would promise something that is not done.
    fn refuse_foreign_keys(&self, at: &At<'_>, scope: &mut Scope<'_>) {
        use RawAlgorithm::{Bandwidth, Estimator, Quota};
        self.amounts.refuse_foreign_keys(self.algorithm, at, scope);
        let quota = self.algorithm == Quota;
        let foreign = [
            ("window", self.window.is_some() && !quota),
            ("utc_offset", self.utc_offset.is_some() && !quota),
            (
                "capacity",
                self.capacity.is_some() && self.algorithm == Estimator,
            ),
            ("dry_run", self.dry_run && self.algorithm == Bandwidth),
        ];
        for (key, foreign) in foreign {
            if foreign {
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
        "response" => Ok(LimitKey::Response),
        _ => match text.split_once(':') {
            Some(("header", name)) => name
                .parse()
                .map(LimitKey::Header)
                .map_err(|_| format!("{name:?} is no header name")),
            Some(("claim", path)) if !path.is_empty() => Ok(LimitKey::Claim(path.to_owned())),
            Some(("client_cert", _)) => CertificatePart::parse(text).map(LimitKey::ClientCert),
            _ => Err(format!(
                "{text:?} is none of client_ip, consumer, header:NAME, claim:NAME, client_cert:subject, \
                 client_cert:fingerprint, route, response"
            )),
        },
    }
}
