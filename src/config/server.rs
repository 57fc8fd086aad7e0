//! `[server]` and `[server.client]`: the process as a whole, and what a client may do to it.

use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::document::At;
use super::maintenance::{Maintenance, RawMaintenance};
use super::overload::{Overload, RawOverload};
use super::scope::Scope;
use crate::primitives::ranges::AddressRanges;
use crate::primitives::units;

/// The process as a whole.
#[derive(Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawServer {
    /// Worker threads; 0 = one per core.
    threads: u16,
    /// Longest drain on stop; ends early when idle.
    grace_period: String,
    /// How long /readyz says 503 before accepting stops.
    drain_delay: String,
    /// Directory for the pid file and admin.sock; created 0700.
    runtime_dir: String,
    /// Whose X-Forwarded-For is believed.
    trusted_proxies: Vec<String>,
    /// Shape of error bodies.
    error_format: ErrorFormat,
    /// Bytes of bodies that are kept at once until it is known who sent them.
    auth_buffer: String,
    /// Closed for the time being, all routes.
    #[serde(skip_serializing_if = "Option::is_none")]
    maintenance: Option<RawMaintenance>,
    /// What a client may do.
    client: RawClient,
    /// Signs of overload, by which requests are let in by class.
    overload: RawOverload,
}

/// The runtime directory unless told otherwise.
pub(super) const RUNTIME_DIR: &str = "/run/tollgate";

impl Default for RawServer {
    fn default() -> Self {
        Self {
            threads: 0,
            grace_period: "30s".into(),
            drain_delay: "0s".into(),
            runtime_dir: RUNTIME_DIR.into(),
            trusted_proxies: Vec::new(),
            error_format: ErrorFormat::Problem,
            auth_buffer: "64MiB".into(),
            maintenance: None,
            client: RawClient::default(),
            overload: RawOverload::default(),
        }
    }
}

/// What a client may do.
#[derive(Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct RawClient {
    /// Whole request head, from its first byte.
    header_timeout: String,
    /// Between two pieces of a body.
    body_timeout: String,
    /// Between two pieces of an answer that the client takes.
    write_timeout: String,
    /// Bytes a second, on average, of a body that comes and of an answer that is taken.
    min_rate: String,
    /// Idle between requests, and before the first byte of a connection.
    keepalive_timeout: String,
    /// Requests on one connection.
    keepalive_requests: u32,
    /// Bytes of all header fields together.
    max_header_bytes: String,
    /// Number of header fields.
    max_headers: u32,
    /// Bytes of the request target.
    max_uri: String,
    /// Bytes of a body; a route may raise or lower it.
    max_body: String,
    /// Connections at once, over all listeners.
    max_connections: u32,
    /// Connections at once from one address.
    max_connections_per_ip: u32,
    /// Bytes that are read and dropped of a request that was refused, so that its client gets the answer.
    linger_body: String,
    /// Whether a client that says it sends no more still gets its answer.
    half_close: bool,
}

impl Default for RawClient {
    fn default() -> Self {
        Self {
            header_timeout: "10s".into(),
            body_timeout: "30s".into(),
            write_timeout: "30s".into(),
            min_rate: "240B/s".into(),
            keepalive_timeout: "75s".into(),
            keepalive_requests: 10_000,
            max_header_bytes: "16KiB".into(),
            max_headers: 100,
            max_uri: "8KiB".into(),
            max_body: "1MiB".into(),
            max_connections: 100_000,
            max_connections_per_ip: 1000,
            linger_body: "16MiB".into(),
            half_close: false,
        }
    }
}

/// Shape of error bodies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ErrorFormat {
    /// RFC 9457 `application/problem+json`.
    Problem,
    /// `{"code", "msg", "data", "trace_id"}`.
    Envelope,
}

/// `[server]`, validated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// Worker threads; `None` = one per core.
    pub threads: Option<u16>,
    /// Longest drain.
    pub grace_period: Duration,
    /// Time between "not ready" and the end of accepting.
    pub drain_delay: Duration,
    /// Directory for the pid file and `admin.sock`.
    pub runtime_dir: PathBuf,
    /// Whose forwarding headers are believed.
    pub trusted_proxies: AddressRanges,
    /// Shape of error bodies.
    pub error_format: ErrorFormat,
    /// Bytes of bodies that are kept at once until it is known who sent them.
    pub auth_buffer: u64,
    /// How routes answer that have no word of their own on maintenance; `None` = as ever.
    pub maintenance: Option<Maintenance>,
    /// What a client may do.
    pub client: ClientLimits,
    /// Signs of overload that are watched.
    pub overload: Option<Overload>,
}

/// `[server.client]`, validated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientLimits {
    /// Whole request head, from its first byte.
    pub header_timeout: Duration,
    /// Between two pieces of a body.
    pub body_timeout: Duration,
    /// Between two pieces of an answer that the client takes.
    pub write_timeout: Duration,
    /// Longest that a byte of either may take on average; zero: nobody looks.
    pub longest_byte: Duration,
    /// Idle between requests, and before the first byte of a connection.
    pub keepalive_timeout: Duration,
    /// Requests on one connection; at least 1.
    pub keepalive_requests: u32,
    /// Bytes of all header fields together.
    pub max_header_bytes: usize,
    /// Number of header fields.
    pub max_headers: usize,
    /// Bytes of the request target.
    pub max_uri: usize,
    /// Bytes of a body.
    pub max_body: u64,
    /// Connections at once, over all listeners.
    pub max_connections: u32,
    /// Connections at once from one address.
    pub max_connections_per_ip: u32,
    /// Bytes that are read and dropped of a request that was refused.
    pub linger_body: u64,
    /// Whether a client that says it sends no more still gets its answer.
    pub half_close: bool,
}

/// Largest head that can be allowed: what the HTTP codec underneath parses.
const LARGEST_HEAD: u64 = 512 << 10;
/// Most header fields that can be allowed, for the same reason.
const MOST_HEADERS: u32 = 256;

/// Most bytes a second that can be demanded.
const FASTEST: u64 = 100_000_000;

impl RawServer {
    pub(super) fn validate(&self, at: &At<'_>, scope: &mut Scope<'_>) -> Server {
        if self.runtime_dir.is_empty() {
            scope.problem(&at.key("runtime_dir"), "must not be empty");
        }
        if self.threads > 1024 {
            scope.problem(
                &at.key("threads"),
                "more than 1024 workers; 0 means one per core",
            );
        }
        Server {
            threads: (self.threads > 0).then_some(self.threads),
            grace_period: scope.duration(&at.key("grace_period"), &self.grace_period),
            drain_delay: scope.duration(&at.key("drain_delay"), &self.drain_delay),
            runtime_dir: PathBuf::from(&self.runtime_dir),
            trusted_proxies: scope.ranges(&at.key("trusted_proxies"), &self.trusted_proxies),
            error_format: self.error_format,
            auth_buffer: scope.size(&at.key("auth_buffer"), &self.auth_buffer),
            maintenance: self
                .maintenance
                .as_ref()
                .and_then(|raw| raw.validate(&at.key("maintenance"), scope)),
            client: self.client.validate(&at.key("client"), scope),
            overload: self.overload.validate(&at.key("overload"), scope),
        }
    }
}

impl RawClient {
    fn validate(&self, at: &At<'_>, scope: &mut Scope<'_>) -> ClientLimits {
        for (key, value, most) in [
            ("keepalive_requests", self.keepalive_requests, u32::MAX),
            ("max_headers", self.max_headers, MOST_HEADERS),
            ("max_connections", self.max_connections, u32::MAX),
            (
                "max_connections_per_ip",
                self.max_connections_per_ip,
                u32::MAX,
            ),
        ] {
            if value == 0 || value > most {
                scope.problem(&at.key(key), format!("must lie between 1 and {most}"));
            }
        }
        let mut head = |key, text: &str| {
            let bytes = scope.size(&at.key(key), text);
            if !(64..=LARGEST_HEAD).contains(&bytes) {
                scope.problem(&at.key(key), "must lie between 64B and 512KiB");
            }
            bytes as usize
        };
        let max_header_bytes = head("max_header_bytes", &self.max_header_bytes);
        let max_uri = head("max_uri", &self.max_uri);
        ClientLimits {
            header_timeout: scope.positive(&at.key("header_timeout"), &self.header_timeout),
            body_timeout: scope.positive(&at.key("body_timeout"), &self.body_timeout),
            write_timeout: scope.positive(&at.key("write_timeout"), &self.write_timeout),
            longest_byte: scope
                .read(&at.key("min_rate"), &self.min_rate, byte_rate)
                .map_or(Duration::ZERO, |rate| {
                    Duration::from_nanos(1_000_000_000_u64.checked_div(rate).unwrap_or_default())
                }),
            keepalive_timeout: scope
                .positive(&at.key("keepalive_timeout"), &self.keepalive_timeout),
            keepalive_requests: self.keepalive_requests,
            max_header_bytes,
            max_headers: self.max_headers as usize,
            max_uri,
            max_body: scope.size(&at.key("max_body"), &self.max_body),
            max_connections: self.max_connections,
            max_connections_per_ip: self.max_connections_per_ip,
            linger_body: scope.size(&at.key("linger_body"), &self.linger_body),
            half_close: self.half_close,
        }
    }
}

/// Reads bytes a second: a size and `/s`, or a bare 0 for none.
fn byte_rate(text: &str) -> Result<u64, String> {
    if text.trim() == "0" {
        return Ok(0);
    }
    let size = text.trim().strip_suffix("/s");
    let rate = size.and_then(|size| units::size(size).ok());
    match rate {
        None => Err(format!(
            "{text:?} is no rate of bytes; write for example \"240B/s\", or \"0\" for none"
        )),
        Some(rate) if rate > FASTEST => Err("must be at most 100MB/s".into()),
        Some(rate) => Ok(rate),
    }
}
