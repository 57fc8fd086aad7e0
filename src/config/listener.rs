//! `[[listener]]`: where connections come in.

use std::net::SocketAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::document::At;
use super::scope::Scope;
use super::tls::{ListenerTls, RawListenerTls};
use crate::primitives::ListenerName;

/// An address to accept connections on.
#[derive(Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RawListener {
    /// Name, used as a metric label; default: the address.
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    /// IP address and port, as "0.0.0.0:8080" or "[::]:8080".
    address: String,
    /// HTTP/2: agreed upon in the TLS handshake, or by prior knowledge where there is none. Default: where TLS is on.
    #[serde(skip_serializing_if = "Option::is_none")]
    http2: Option<bool>,
    /// PROXY protocol. Not supported yet.
    #[serde(default)]
    proxy_protocol: bool,
    /// TLS.
    #[serde(skip_serializing_if = "Option::is_none")]
    tls: Option<RawListenerTls>,
}

/// A listener, validated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// Metric label.
    pub name: ListenerName,
    /// Address to bind.
    pub address: SocketAddr,
    /// HTTP/2 is spoken beside HTTP/1.
    pub http2: bool,
    /// TLS, when spoken.
    pub tls: Option<ListenerTls>,
}

impl RawListener {
    pub(super) fn validate(&self, at: &At<'_>, scope: &mut Scope<'_>) -> Option<Listener> {
        if self.proxy_protocol {
            scope.problem(
                &at.key("proxy_protocol"),
                "the PROXY protocol is not supported yet",
            );
        }
        let address = scope.read(&at.key("address"), &self.address, socket_address)?;
        let name = ListenerName::new(self.name.as_deref().unwrap_or(&self.address));
        let tls = match &self.tls {
            Some(tls) => Some(tls.validate(&at.key("tls"), scope)?),
            None => None,
        };
        Some(Listener {
            name,
            address,
            http2: self.http2.unwrap_or(tls.is_some()),
            tls,
        })
    }
}

/// Reads an IP address and port to bind.
pub(super) fn socket_address(text: &str) -> Result<SocketAddr, String> {
    let address: SocketAddr = text.parse().map_err(|_| {
        let hint = if text.starts_with("unix:") {
            "Unix sockets are not supported yet"
        } else {
            "write \"0.0.0.0:8080\""
        };
        format!("{text:?} is no IP address with a port; {hint}")
    })?;
    if address.port() == 0 {
        return Err(format!(
            "{text:?}: port 0 would be another port at every start"
        ));
    }
    Ok(address)
}
