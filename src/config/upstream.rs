//! `[upstream.NAME]`: a group of endpoints and how to talk to it.

use std::fmt;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use http::Method;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::document::At;
use super::raw::Later;
use super::scope::Scope;
use crate::primitives::UpstreamName;
use crate::primitives::address::Address;
use crate::primitives::units::{self, Percent};

/// A group of endpoints.
#[derive(Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawUpstream {
    /// How an endpoint is chosen.
    balance: RawBalance,
    /// What consistent_hash hashes. Not supported yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    hash_on: Option<Later>,
    /// Its addresses.
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
    /// Time limits.
    timeout: RawTimeout,
    /// Active checks; none when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    health: Option<RawHealth>,
    /// What live traffic tells.
    passive: RawPassive,
    /// Further tries.
    retry: RawRetry,
    /// Circuit breaker. Not supported yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    breaker: Option<Later>,
    /// Discovery. Not supported yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    discovery: Option<Later>,
}

impl Default for RawUpstream {
    fn default() -> Self {
        Self {
            balance: RawBalance::WeightedRoundRobin,
            hash_on: None,
            endpoints: Vec::new(),
            http_version: "1.1".into(),
            host: None,
            tls: None,
            keepalive: 256,
            idle_timeout: "50s".into(),
            timeout: RawTimeout::default(),
            health: None,
            passive: RawPassive::default(),
            retry: RawRetry::default(),
            breaker: None,
            discovery: None,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum RawBalance {
    WeightedRoundRobin,
    LeastConnections,
    PeakEwma,
    ConsistentHash,
    Random,
}

#[derive(Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct RawEndpoint {
    /// Host and port, or a Unix socket, as "unix:/run/users.sock".
    address: String,
    /// Its share of requests.
    #[serde(default = "one")]
    weight: u32,
    /// Used only when no primary is usable.
    #[serde(default)]
    backup: bool,
}

fn one() -> u32 {
    1
}

#[derive(Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct RawUpstreamTls {
    /// Name asked for and verified.
    sni: String,
    /// Roots to trust instead of the system's, PEM.
    #[serde(skip_serializing_if = "Option::is_none")]
    ca: Option<String>,
    /// Our certificate chain, PEM.
    #[serde(skip_serializing_if = "Option::is_none")]
    cert: Option<String>,
    /// Its key, PEM.
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
}

#[derive(Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct RawTimeout {
    /// To connect, TLS included.
    connect: String,
    /// Between two pieces of an answer.
    read: String,
    /// Between two pieces of a request that the endpoint takes.
    write: String,
    /// The whole exchange, retries included.
    request: String,
}

impl Default for RawTimeout {
    fn default() -> Self {
        Self {
            connect: "1s".into(),
            read: "15s".into(),
            write: "15s".into(),
            request: "20s".into(),
        }
    }
}

#[derive(Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct RawHealth {
    /// Path to GET; absent = a TCP connect.
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<String>,
    /// Between two checks.
    interval: String,
    /// Of one check.
    timeout: String,
    /// Successes to come back.
    rise: u32,
    /// Failures to go.
    fall: u32,
    /// Good statuses; empty = any 2xx.
    expect: Vec<u16>,
}

impl Default for RawHealth {
    fn default() -> Self {
        Self {
            path: None,
            interval: "5s".into(),
            timeout: "1s".into(),
            rise: 2,
            fall: 3,
            expect: Vec::new(),
        }
    }
}

#[derive(Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct RawPassive {
    /// Failures within fail_timeout that put an endpoint aside; 0 = never.
    max_fails: u32,
    /// The window, and how long the endpoint stays aside.
    fail_timeout: String,
    /// Ramp of the weight after recovery. Only "0s" is supported yet.
    slow_start: String,
    /// Below this share of usable endpoints use them all; "0%" = never.
    min_healthy: String,
}

impl Default for RawPassive {
    fn default() -> Self {
        Self {
            max_fails: 3,
            fail_timeout: "10s".into(),
            slow_start: "0s".into(),
            min_healthy: "0%".into(),
        }
    }
}

#[derive(Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct RawRetry {
    /// Further tries after the first.
    attempts: u32,
    /// What is tried again.
    on: Vec<RawRetryOn>,
    /// Methods that may be sent again; a failed connect is tried again for any.
    methods: Vec<String>,
    /// Share of live requests that may be retries.
    budget: String,
    /// Wait before a further try; doubled each time.
    backoff: String,
}

impl Default for RawRetry {
    fn default() -> Self {
        use RawRetryOn::{BadGateway, Connect, GatewayTimeout, Reset, Unavailable};
        Self {
            attempts: 2,
            on: vec![Connect, Reset, BadGateway, Unavailable, GatewayTimeout],
            methods: ["GET", "HEAD", "OPTIONS"].map(str::to_owned).to_vec(),
            budget: "20%".into(),
            backoff: "25ms".into(),
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
enum RawRetryOn {
    #[serde(rename = "connect")]
    Connect,
    #[serde(rename = "reset")]
    Reset,
    #[serde(rename = "timeout")]
    Timeout,
    #[serde(rename = "500")]
    Internal,
    #[serde(rename = "502")]
    BadGateway,
    #[serde(rename = "503")]
    Unavailable,
    #[serde(rename = "504")]
    GatewayTimeout,
}

/// `[upstream.NAME]`, validated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstream {
    /// Its name.
    pub name: UpstreamName,
    /// Its endpoints; at least one.
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
    /// Time limits.
    pub timeout: Timeouts,
    /// Active checks.
    pub health: Option<Health>,
    /// What live traffic tells.
    pub passive: Passive,
    /// Further tries.
    pub retry: Retry,
}

/// One endpoint as configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Where it is.
    pub address: EndpointAddress,
    /// Its share.
    pub weight: NonZeroU32,
    /// Whether it is used only when no primary is usable.
    pub backup: bool,
}

/// An endpoint's address: fixed, or a name to be resolved while running.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum EndpointAddress {
    /// IP address and port, or a Unix socket.
    Fixed(Address),
    /// Host name and port.
    Named(String, u16),
}

impl fmt::Display for EndpointAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(address) => write!(f, "{address}"),
            Self::Named(host, port) => write!(f, "{host}:{port}"),
        }
    }
}

/// TLS towards an upstream.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct UpstreamTls {
    /// Name asked for and verified; never empty, which would turn verification off.
    pub sni: String,
    /// Roots to trust instead of the system's.
    pub ca: Option<PathBuf>,
    /// Our certificate chain and its key.
    pub identity: Option<(PathBuf, PathBuf)>,
}

/// Time limits towards an upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// To connect, TLS included.
    pub connect: Duration,
    /// Between two pieces of an answer.
    pub read: Duration,
    /// Between two pieces of a request that the endpoint takes.
    pub write: Duration,
    /// The whole exchange, retries included.
    pub request: Duration,
}

/// Active checks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// Path to GET; `None` = a TCP connect.
    pub path: Option<String>,
    /// Between two checks.
    pub interval: Duration,
    /// Of one check.
    pub timeout: Duration,
    /// Successes to come back.
    pub rise: u32,
    /// Failures to go.
    pub fall: u32,
    /// Good statuses; empty = any 2xx.
    pub expect: Vec<u16>,
}

/// What live traffic tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Passive {
    /// Failures within `fail_timeout` that put an endpoint aside; 0 = never.
    pub max_fails: u32,
    /// The window, and how long the endpoint stays aside.
    pub fail_timeout: Duration,
    /// Below this share of usable endpoints all are used.
    pub min_healthy: Percent,
}

/// Further tries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retry {
    /// Further tries after the first.
    pub attempts: u32,
    /// After a connection that could not be made.
    pub on_connect: bool,
    /// After a connection that broke before the answer began.
    pub on_reset: bool,
    /// After a read that took too long.
    pub on_timeout: bool,
    /// After these statuses.
    pub on_status: Vec<u16>,
    /// Methods that may be sent again.
    pub methods: Vec<Method>,
    /// Share of live requests that may be retries.
    pub budget: Percent,
    /// Wait before the first further try; doubled each time.
    pub backoff: Duration,
}

/// Most further tries that can be asked for.
const MOST_ATTEMPTS: u32 = 10;

impl RawUpstream {
    pub(super) fn validate(&self, name: &str, at: &At<'_>, scope: &mut Scope<'_>) -> Upstream {
        if self.balance != RawBalance::WeightedRoundRobin {
            scope.problem(
                &at.key("balance"),
                "not supported yet; \"weighted_round_robin\" is",
            );
        }
        let http2 = scope.read(
            &at.key("http_version"),
            &self.http_version,
            |text| match text {
                "1.1" => Ok(false),
                "2" => Ok(true),
                other => Err(format!("{other:?} is not spoken; write \"1.1\" or \"2\"")),
            },
        );
        scope.later(&at.key("hash_on"), self.hash_on.as_ref());
        scope.later(&at.key("breaker"), self.breaker.as_ref());
        scope.later(&at.key("discovery"), self.discovery.as_ref());
        let host = self
            .host
            .as_ref()
            .and_then(|text| scope.read(&at.key("host"), text, host_header));
        let timeout = at.key("timeout");
        Upstream {
            name: UpstreamName::new(name),
            endpoints: self.endpoints(at, scope),
            http2: http2.unwrap_or_default(),
            host,
            tls: self
                .tls
                .as_ref()
                .and_then(|tls| tls.validate(&at.key("tls"), scope)),
            keepalive: self.keepalive,
            idle_timeout: scope.positive(&at.key("idle_timeout"), &self.idle_timeout),
            timeout: Timeouts {
                connect: scope.positive(&timeout.key("connect"), &self.timeout.connect),
                read: scope.positive(&timeout.key("read"), &self.timeout.read),
                write: scope.positive(&timeout.key("write"), &self.timeout.write),
                request: scope.positive(&timeout.key("request"), &self.timeout.request),
            },
            health: self
                .health
                .as_ref()
                .map(|health| health.validate(&at.key("health"), scope)),
            passive: self.passive.validate(&at.key("passive"), scope),
            retry: self.retry.validate(&at.key("retry"), scope),
        }
    }

    fn endpoints(&self, at: &At<'_>, scope: &mut Scope<'_>) -> Vec<Endpoint> {
        if self.endpoints.is_empty() {
            scope.problem(
                at,
                "an upstream needs endpoints: endpoints = [{ address = \"10.0.0.1:8080\" }]",
            );
        }
        let list = at.key("endpoints");
        let mut endpoints: Vec<Endpoint> = Vec::with_capacity(self.endpoints.len());
        let mut seen = std::collections::HashSet::new();
        for (index, raw) in self.endpoints.iter().enumerate() {
            let here = list.index(index);
            let address = scope.read(&here.key("address"), &raw.address, endpoint_address);
            let weight = NonZeroU32::new(raw.weight).filter(|weight| weight.get() <= 65_535);
            if weight.is_none() {
                scope.problem(
                    &here.key("weight"),
                    "must lie between 1 and 65535; to take an endpoint out, remove it",
                );
            }
            let (Some(address), Some(weight)) = (address, weight) else {
                continue;
            };
            if !seen.insert(address.clone()) {
                scope.problem(
                    &here.key("address"),
                    format!("{address} stands twice; give it a weight instead"),
                );
            }
            endpoints.push(Endpoint {
                address,
                weight,
                backup: raw.backup,
            });
        }
        if !endpoints.is_empty() && endpoints.iter().all(|endpoint| endpoint.backup) {
            scope.problem(
                &list,
                "all endpoints are backups; at least one must be a primary",
            );
        }
        endpoints
    }
}

impl RawUpstreamTls {
    fn validate(&self, at: &At<'_>, scope: &mut Scope<'_>) -> Option<UpstreamTls> {
        if self.sni.is_empty() {
            scope.problem(
                &at.key("sni"),
                "must name the upstream: without it nothing would be verified",
            );
            return None;
        }
        let identity = match (&self.cert, &self.key) {
            (Some(cert), Some(key)) => Some((PathBuf::from(cert), PathBuf::from(key))),
            (None, None) => None,
            _ => {
                scope.problem(at, "`cert` and `key` belong together");
                None
            }
        };
        Some(UpstreamTls {
            sni: self.sni.clone(),
            ca: self.ca.as_ref().map(PathBuf::from),
            identity,
        })
    }
}

impl RawHealth {
    fn validate(&self, at: &At<'_>, scope: &mut Scope<'_>) -> Health {
        for (key, value) in [("rise", self.rise), ("fall", self.fall)] {
            if value == 0 {
                scope.problem(&at.key(key), "must be at least 1");
            }
        }
        if self
            .path
            .as_ref()
            .is_some_and(|path| !path.starts_with('/') || path.parse::<http::Uri>().is_err())
        {
            scope.problem(&at.key("path"), "must be a path, as \"/healthz\"");
        }
        let expect = at.key("expect");
        for (index, status) in self.expect.iter().enumerate() {
            if !(100..600).contains(status) {
                scope.problem(&expect.index(index), format!("{status} is no HTTP status"));
            }
        }
        if self.path.is_none() && !self.expect.is_empty() {
            scope.problem(
                &expect,
                "means nothing without `path`: a TCP connect has no status",
            );
        }
        Health {
            path: self.path.clone(),
            interval: scope.positive(&at.key("interval"), &self.interval),
            timeout: scope.positive(&at.key("timeout"), &self.timeout),
            rise: self.rise,
            fall: self.fall,
            expect: self.expect.clone(),
        }
    }
}

impl RawPassive {
    fn validate(&self, at: &At<'_>, scope: &mut Scope<'_>) -> Passive {
        if !scope
            .duration(&at.key("slow_start"), &self.slow_start)
            .is_zero()
        {
            scope.problem(
                &at.key("slow_start"),
                "a slow start is not supported yet; only \"0s\" is",
            );
        }
        let min_healthy = scope.read(&at.key("min_healthy"), &self.min_healthy, units::percent);
        Passive {
            max_fails: self.max_fails,
            fail_timeout: scope.positive(&at.key("fail_timeout"), &self.fail_timeout),
            min_healthy: min_healthy.unwrap_or(Percent::ZERO),
        }
    }
}

impl RawRetry {
    fn validate(&self, at: &At<'_>, scope: &mut Scope<'_>) -> Retry {
        if self.attempts > MOST_ATTEMPTS {
            scope.problem(&at.key("attempts"), format!("at most {MOST_ATTEMPTS}"));
        }
        let list = at.key("methods");
        let methods = self.methods.iter().enumerate();
        let methods = methods
            .filter_map(|(i, text)| scope.read(&list.index(i), text, method))
            .collect();
        let budget = scope.read(&at.key("budget"), &self.budget, units::percent);
        let status = |on: &RawRetryOn| match on {
            RawRetryOn::Internal => Some(500),
            RawRetryOn::BadGateway => Some(502),
            RawRetryOn::Unavailable => Some(503),
            RawRetryOn::GatewayTimeout => Some(504),
            RawRetryOn::Connect | RawRetryOn::Reset | RawRetryOn::Timeout => None,
        };
        Retry {
            attempts: self.attempts,
            on_connect: self.on.contains(&RawRetryOn::Connect),
            on_reset: self.on.contains(&RawRetryOn::Reset),
            on_timeout: self.on.contains(&RawRetryOn::Timeout),
            on_status: self.on.iter().filter_map(status).collect(),
            methods,
            budget: budget.unwrap_or(Percent::ZERO),
            backoff: scope.duration(&at.key("backoff"), &self.backoff),
        }
    }
}

/// Reads a method name: upper case, as on the wire.
pub(super) fn method(text: &str) -> Result<Method, String> {
    let known = ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"];
    match text {
        "CONNECT" | "TRACE" => Err(format!("{text} is never served")),
        _ if text
            .bytes()
            .all(|b| b.is_ascii_uppercase() || matches!(b, b'-' | b'_'))
            && !text.is_empty() =>
        {
            Method::from_bytes(text.as_bytes()).map_err(|_| format!("{text:?} is no method"))
        }
        _ => {
            let hint = super::error::did_you_mean(&text.to_ascii_uppercase(), known);
            let hint = hint
                .map(|meant| format!("; did you mean \"{meant}\"?"))
                .unwrap_or_default();
            Err(format!(
                "{text:?} is no method; methods are written in upper case{hint}"
            ))
        }
    }
}

fn endpoint_address(text: &str) -> Result<EndpointAddress, String> {
    if let Ok(address) = text.parse::<SocketAddr>() {
        return if address.port() == 0 {
            Err(format!("{text:?}: port 0"))
        } else {
            Ok(EndpointAddress::Fixed(Address::Inet(address)))
        };
    }
    if let Some(socket) = Address::unix(text) {
        return socket.map(EndpointAddress::Fixed);
    }
    let bad = || {
        format!(
            "{text:?} is no host with a port; write \"10.0.0.1:8080\", \"users.internal:8080\" or \"unix:/path\""
        )
    };
    let (host, port) = text.rsplit_once(':').ok_or_else(bad)?;
    let port: u16 = port.parse().ok().filter(|port| *port > 0).ok_or_else(bad)?;
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
    };
    let well_formed = host.len() <= 253 && host.trim_end_matches('.').split('.').all(label);
    let numeric = host
        .rsplit('.')
        .next()
        .is_some_and(|last| last.bytes().all(|b| b.is_ascii_digit()));
    if !well_formed || numeric {
        return Err(bad());
    }
    Ok(EndpointAddress::Named(host.to_ascii_lowercase(), port))
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
