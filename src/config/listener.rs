//! `[[listener]]`: where connections come in.

use std::net::SocketAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::addresses::AddressList;
use super::document::At;
use super::scope::Scope;
use super::tls::{ListenerTls, RawListenerTls};
use crate::primitives::ListenerName;
use crate::primitives::address::Address;

/// An address to accept connections on.
#[derive(Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RawListener {
    /// Name, used as a metric label; default: the address.
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    /// IP address and port, as "0.0.0.0:8080" or "[::]:8080", or a Unix socket, as "unix:/run/tollgate/public.sock".
    address: String,
    /// Mode of a Unix socket's file, octal; default "0660".
    #[serde(skip_serializing_if = "Option::is_none")]
    mode: Option<String>,
    /// HTTP/2: agreed upon in the TLS handshake, or by prior knowledge where there is none. Default: where TLS is on.
    #[serde(skip_serializing_if = "Option::is_none")]
    http2: Option<bool>,
    /// Every connection begins with a PROXY header, which tells the client's address.
    #[serde(default)]
    proxy_protocol: bool,
    /// Clients that may connect; any when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    allow_ips: Option<Vec<String>>,
    /// Clients that may not.
    #[serde(skip_serializing_if = "Option::is_none")]
    deny_ips: Option<Vec<String>>,
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
    pub address: Address,
    /// Mode of a Unix socket's file.
    pub mode: u32,
    /// Connections begin with a PROXY header.
    pub proxy_protocol: bool,
    /// HTTP/2 is spoken beside HTTP/1.
    pub http2: bool,
    /// Clients that may connect; `None` = any.
    pub allow_ips: Option<AddressList>,
    /// Clients that may not.
    pub deny_ips: AddressList,
    /// TLS, when spoken.
    pub tls: Option<ListenerTls>,
}

impl RawListener {
    pub(super) fn validate(&self, at: &At<'_>, scope: &mut Scope<'_>) -> Option<Listener> {
        let address = scope.read(&at.key("address"), &self.address, address)?;
        let mode = self.mode.as_ref();
        if mode.is_some() && address.inet().is_some() {
            scope.problem(&at.key("mode"), "only a Unix socket has a mode");
        }
        let mode = mode.map(|text| scope.read(&at.key("mode"), text, file_mode));
        let name = ListenerName::new(self.name.as_deref().unwrap_or(&self.address));
        let tls = match &self.tls {
            Some(tls) => Some(tls.validate(&at.key("tls"), scope)?),
            None => None,
        };
        if tls.is_some() && address.inet().is_none() {
            scope.problem(&at.key("tls"), "TLS is not spoken on a Unix socket");
        }
        Some(Listener {
            name,
            address,
            mode: mode.flatten().unwrap_or(MODE),
            proxy_protocol: self.proxy_protocol,
            http2: self.http2.unwrap_or(tls.is_some()),
            allow_ips: self
                .allow_ips
                .as_ref()
                .map(|ips| scope.addresses(&at.key("allow_ips"), ips)),
            deny_ips: scope.addresses(
                &at.key("deny_ips"),
                self.deny_ips.as_deref().unwrap_or_default(),
            ),
            tls,
        })
    }
}

/// Mode of a Unix socket that names none: the service's user and group may connect.
const MODE: u32 = 0o660;

/// Reads the mode of a socket's file: who may connect is who may write.
fn file_mode(text: &str) -> Result<u32, String> {
    u32::from_str_radix(text, 8)
        .ok()
        .filter(|mode| *mode <= 0o777 && mode & 0o200 != 0 && !text.starts_with('+'))
        .ok_or_else(|| format!("{text:?} is no mode of a socket; write \"0660\" or \"0666\""))
}

/// Reads where a listener is bound.
fn address(text: &str) -> Result<Address, String> {
    Address::unix(text).unwrap_or_else(|| socket_address(text).map(Address::Inet))
}

/// Reads an IP address and port to bind.
pub(super) fn socket_address(text: &str) -> Result<SocketAddr, String> {
    let address: SocketAddr = text.parse().map_err(|_| {
        let hint = if text.starts_with("unix:") {
            "a Unix socket cannot be used here"
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
