//! `endpoints` of an upstream: addresses and their shares.

use std::fmt;
use std::net::SocketAddr;
use std::num::NonZeroU32;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::document::At;
use crate::config::scope::Scope;
use crate::primitives::address::Address;

#[derive(Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RawEndpoint {
    /// Host and port, or a Unix socket, as "unix:/run/users.sock".
    address: String,
    /// Share of the requests that the endpoint gets.
    #[serde(default = "one")]
    weight: u32,
    /// Used only when no primary is usable.
    #[serde(default)]
    backup: bool,
}

fn one() -> u32 {
    1
}

/// One endpoint as configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Where it is.
    pub address: EndpointAddress,
    /// Share of the requests that the endpoint gets.
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

/// The endpoints of an upstream at `at`.
pub(super) fn validate(raw: &[RawEndpoint], at: &At<'_>, scope: &mut Scope<'_>) -> Vec<Endpoint> {
    if raw.is_empty() {
        scope.problem(
            at,
            "an upstream needs endpoints: endpoints = [{ address = \"10.0.0.1:8080\" }]",
        );
    }
    let list = at.key("endpoints");
    let mut endpoints: Vec<Endpoint> = Vec::with_capacity(raw.len());
    let mut seen = std::collections::HashSet::new();
    for (index, raw) in raw.iter().enumerate() {
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
    // With a final dot the name is whole: no search domain is tried (RFC 1034 §3.1).
    let name = host.strip_suffix('.').unwrap_or(host);
    let well_formed = name.len() <= 253 && name.split('.').all(label);
    let numeric = name
        .rsplit('.')
        .next()
        .is_some_and(|last| last.bytes().all(|b| b.is_ascii_digit()));
    if !well_formed || numeric {
        return Err(bad());
    }
    Ok(EndpointAddress::Named(host.to_ascii_lowercase(), port))
}
