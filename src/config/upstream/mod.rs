//! `[upstream.NAME]`: a group of endpoints and how to talk to it.

mod balance;
mod breaker;
mod concurrency;
mod endpoint;
mod health;
mod hedge;
mod outlier;
mod passive;
mod retry;
mod sticky;
mod timeout;
mod tls;

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use self::balance::{Balance, HashOn, Score};
use self::balance::{RawBalance, RawChoice, RawScore};
pub(super) use self::breaker::RawBreaker;
pub use self::breaker::{Breaker, BreakerWindow, Failures};
use self::concurrency::RawConcurrency;
pub use self::concurrency::{Concurrency, ConcurrencyLimit};
use self::endpoint::RawEndpoint;
pub use self::endpoint::{Endpoint, EndpointAddress};
pub use self::health::Health;
use self::health::RawHealth;
use self::hedge::RawHedge;
pub use self::hedge::{Hedge, HedgeAfter};
pub use self::outlier::Outlier;
use self::outlier::RawOutlier;
pub use self::passive::Passive;
use self::passive::RawPassive;
use self::retry::RawRetry;
pub use self::retry::{Jitter, Retry};
use self::sticky::RawSticky;
pub use self::sticky::{SameSite, Sticky};
use self::timeout::RawTimeout;
pub use self::timeout::Timeouts;
use self::tls::RawUpstreamTls;
pub use self::tls::UpstreamTls;
use super::document::At;
use super::raw::Later;
use super::scope::Scope;
use crate::primitives::UpstreamName;
use crate::primitives::address::Address;
use crate::primitives::units;

/// A group of endpoints.
#[derive(Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawUpstream {
    /// How an endpoint is chosen.
    balance: RawBalance,
    /// What consistent_hash hashes: client_ip, header:NAME, cookie:NAME, path or claim:NAME.
    #[serde(skip_serializing_if = "Option::is_none")]
    hash_on: Option<String>,
    /// consistent_hash: how much more than its share an endpoint may hold before further keys go elsewhere.
    #[serde(skip_serializing_if = "Option::is_none")]
    hash_excess: Option<String>,
    /// score: how weights follow what is seen.
    #[serde(skip_serializing_if = "Option::is_none")]
    score: Option<RawScore>,
    /// A client stays with its endpoint.
    #[serde(skip_serializing_if = "Option::is_none")]
    sticky: Option<RawSticky>,
    /// Addresses of the upstream.
    endpoints: Vec<RawEndpoint>,
    /// HTTP version spoken to it: "1.1", or "2", which gRPC needs; over TLS by agreement, else by prior knowledge.
    http_version: String,
    /// Host sent upstream; default: the client's.
    #[serde(skip_serializing_if = "Option::is_none")]
    host: Option<String>,
    /// Speak TLS to it.
    #[serde(skip_serializing_if = "Option::is_none")]
    tls: Option<RawUpstreamTls>,
    /// Idle connections kept.
    keepalive: u32,
    /// How long an idle connection is kept; below the endpoint's own limit.
    idle_timeout: String,
    /// Bytes of the head of an answer, interim ones included; each alone.
    max_response_header: String,
    /// Fields of such a head.
    max_response_headers: u32,
    /// Time limits.
    timeout: RawTimeout,
    /// Active checks; none when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    health: Option<RawHealth>,
    /// What live traffic tells.
    passive: RawPassive,
    /// Endpoints that do worse than the others.
    #[serde(skip_serializing_if = "Option::is_none")]
    outlier: Option<RawOutlier>,
    /// Further tries.
    retry: RawRetry,
    /// How many requests it gets at once; no bound when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    concurrency: Option<RawConcurrency>,
    /// A second try while the first is still awaited; none when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    hedge: Option<RawHedge>,
    /// Circuit breaker; none when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    breaker: Option<RawBreaker>,
    /// Discovery. Not supported yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    discovery: Option<Later>,
}

impl Default for RawUpstream {
    fn default() -> Self {
        Self {
            balance: RawBalance::WeightedRoundRobin,
            hash_on: None,
            hash_excess: None,
            score: None,
            sticky: None,
            endpoints: Vec::new(),
            http_version: "1.1".into(),
            host: None,
            tls: None,
            keepalive: 256,
            idle_timeout: "50s".into(),
            max_response_header: "64KiB".into(),
            max_response_headers: 256,
            timeout: RawTimeout::default(),
            health: None,
            passive: RawPassive::default(),
            outlier: None,
            retry: RawRetry::default(),
            concurrency: None,
            hedge: None,
            breaker: None,
            discovery: None,
        }
    }
}

/// How large the head of an answer may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadLimits {
    /// Bytes of the head, from the status line to the empty line.
    pub bytes: usize,
    /// Fields of the head.
    pub fields: usize,
}

/// What the bounds of an answer's head may be: an origin that says more says no head, and each is held in memory.
const HEAD_BYTES: std::ops::RangeInclusive<u64> = 1024..=1 << 20;
const HEAD_FIELDS: std::ops::RangeInclusive<u32> = 1..=10_000;

/// `[upstream.NAME]`, validated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstream {
    /// The name of the `[upstream.NAME]`.
    pub name: UpstreamName,
    /// How one of them is chosen.
    pub balance: Balance,
    /// A client stays with its endpoint.
    pub sticky: Option<Sticky>,
    /// Endpoints of the upstream; at least one.
    pub endpoints: Vec<Endpoint>,
    /// HTTP/2 is spoken to them.
    pub http2: bool,
    /// `Host` sent upstream; `None` = the client's.
    pub host: Option<String>,
    /// TLS, when spoken.
    pub tls: Option<UpstreamTls>,
    /// Idle connections kept.
    pub keepalive: u32,
    /// How long an idle connection is kept.
    pub idle_timeout: Duration,
    /// What the head of an answer may be.
    pub answer_head: HeadLimits,
    /// Time limits.
    pub timeout: Timeouts,
    /// Active checks.
    pub health: Option<Health>,
    /// What live traffic tells.
    pub passive: Passive,
    /// Endpoints that do worse than the others.
    pub outlier: Option<Outlier>,
    /// Further tries.
    pub retry: Retry,
    /// How many requests it gets at once.
    pub concurrency: Option<Concurrency>,
    /// A second try while the first is still awaited.
    pub hedge: Option<Hedge>,
    /// Circuit breaker.
    pub breaker: Option<Breaker>,
}

impl RawUpstream {
    pub(super) fn validate(&self, name: &str, at: &At<'_>, scope: &mut Scope<'_>) -> Upstream {
        let choice = RawChoice {
            balance: self.balance,
            hash_on: self.hash_on.as_ref(),
            hash_excess: self.hash_excess.as_ref(),
            score: self.score.as_ref(),
        };
        let balance = choice.validate(at, scope);
        let http2 = scope.read(
            &at.key("http_version"),
            &self.http_version,
            |text| match text {
                "1.1" => Ok(false),
                "2" => Ok(true),
                other => Err(format!("{other:?} is not spoken; write \"1.1\" or \"2\"")),
            },
        );
        scope.later(&at.key("discovery"), self.discovery.as_ref());
        let host = self
            .host
            .as_ref()
            .and_then(|text| scope.read(&at.key("host"), text, host_header));
        let endpoints = endpoint::validate(&self.endpoints, at, scope);
        Upstream {
            name: UpstreamName::new(name),
            sticky: self
                .sticky
                .as_ref()
                .map(|sticky| sticky.validate(&at.key("sticky"), scope)),
            http2: http2.unwrap_or_default(),
            host,
            tls: self
                .tls
                .as_ref()
                .and_then(|tls| tls.validate(&at.key("tls"), scope)),
            keepalive: self.keepalive,
            idle_timeout: scope.positive(&at.key("idle_timeout"), &self.idle_timeout),
            answer_head: self.answer_head(at, scope),
            timeout: self.timeout.validate(&at.key("timeout"), scope),
            health: self
                .health
                .as_ref()
                .map(|health| health.validate(&at.key("health"), scope)),
            passive: self.passive.validate(&balance, &at.key("passive"), scope),
            outlier: self
                .outlier
                .as_ref()
                .map(|outlier| outlier.validate(&at.key("outlier"), scope)),
            balance,
            retry: self.retry.validate(&at.key("retry"), scope),
            concurrency: self
                .concurrency
                .as_ref()
                .map(|concurrency| concurrency.validate(&at.key("concurrency"), scope)),
            hedge: self.hedge(&endpoints, at, scope),
            endpoints,
            breaker: self
                .breaker
                .as_ref()
                .map(|breaker| breaker.validate(&at.key("breaker"), scope)),
        }
    }
}

impl RawUpstream {
    fn answer_head(&self, at: &At<'_>, scope: &mut Scope<'_>) -> HeadLimits {
        let (here, fields) = (at.key("max_response_header"), self.max_response_headers);
        let bytes = scope.read(&here, &self.max_response_header, |text| {
            let bytes = units::size(text)?;
            match HEAD_BYTES.contains(&bytes) {
                true => Ok(bytes),
                false => Err("must be from 1KiB to 1MiB".to_owned()),
            }
        });
        let bytes = bytes.unwrap_or_default();
        if !HEAD_FIELDS.contains(&fields) {
            let here = at.key("max_response_headers");
            scope.problem(&here, "must be from 1 to 10000");
        }
        HeadLimits {
            bytes: usize::try_from(bytes).unwrap_or(usize::MAX),
            fields: fields as usize,
        }
    }

    /// Whether it says when a second try begins.
    pub(super) fn is_hedged(&self) -> bool {
        self.hedge.is_some()
    }

    fn hedge(&self, endpoints: &[Endpoint], at: &At<'_>, scope: &mut Scope<'_>) -> Option<Hedge> {
        let here = at.key("hedge");
        let hedge = self.hedge.as_ref()?.validate(&here, scope);
        let is_unix = |endpoint: &Endpoint| {
            matches!(endpoint.address, EndpointAddress::Fixed(Address::Unix(_)))
        };
        if endpoints.iter().any(is_unix) {
            scope.problem(&here, "second tries go over TCP alone: not to Unix sockets");
        }
        if let [
            Endpoint {
                address: EndpointAddress::Fixed(_),
                ..
            },
        ] = endpoints
        {
            scope.problem(
                &here,
                "there is no other endpoint that a second try could go to",
            );
        }
        Some(hedge)
    }
}

fn host_header(text: &str) -> Result<String, String> {
    let well_formed = !text.is_empty()
        && text
            .parse::<http::uri::Authority>()
            .is_ok_and(|authority| !authority.as_str().contains('@'));
    if well_formed {
        Ok(text.to_owned())
    } else {
        Err(format!("{text:?} is no host"))
    }
}
