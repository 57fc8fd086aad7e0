//! `[admin]`: the TCP side of the admin listener. The Unix socket is always there and needs no setting.

use std::net::SocketAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::document::At;
use super::listener::socket_address;
use super::raw::RawSecret;
use super::route::{HostPattern, host_pattern};
use super::scope::Scope;
use crate::primitives::secret::SecretSource;

/// The TCP side of the admin listener.
#[derive(Clone, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawAdmin {
    /// IP address and port; without it the Unix socket is alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<String>,
    /// Bearer token for /api/.
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<RawSecret>,
    /// Names under which it may be asked besides "localhost" and IP addresses, exact or "*.example.com".
    hosts: Vec<String>,
}

/// `[admin]`, validated.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Admin {
    /// Address to bind besides the Unix socket.
    pub address: Option<SocketAddr>,
    /// Bearer token for `/api/`; while there is none, `/api/` answers 403 on TCP.
    pub token: Option<SecretSource>,
    /// Names under which it may be asked over TCP, besides `localhost` and IP addresses.
    pub hosts: Vec<HostPattern>,
}

impl RawAdmin {
    pub(super) fn validate(&self, at: &At<'_>, scope: &mut Scope<'_>) -> Admin {
        let address = self.address.as_ref();
        let list = at.key("hosts");
        if !self.hosts.is_empty() && address.is_none() {
            scope.problem(
                &list,
                "mean nothing without `address`: the socket has no names",
            );
        }
        let hosts = self.hosts.iter().enumerate();
        let hosts = hosts
            .filter_map(|(i, text)| scope.read(&list.index(i), text, host_pattern))
            .collect();
        Admin {
            hosts,
            address: address.and_then(|text| scope.read(&at.key("address"), text, socket_address)),
            token: self
                .token
                .as_ref()
                .map(|token| SecretSource::parse(&token.0)),
        }
    }
}
