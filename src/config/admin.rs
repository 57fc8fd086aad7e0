//! `[admin]`: the TCP side of the admin listener. The Unix socket is always there and needs no setting.

use std::net::SocketAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::document::At;
use super::listener::socket_address;
use super::raw::RawSecret;
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
}

/// `[admin]`, validated.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Admin {
    /// Address to bind besides the Unix socket.
    pub address: Option<SocketAddr>,
    /// Bearer token for `/api/`; while there is none, `/api/` answers 403 on TCP.
    pub token: Option<SecretSource>,
}

impl RawAdmin {
    pub(super) fn validate(&self, at: &At<'_>, scope: &mut Scope<'_>) -> Admin {
        let address = self.address.as_ref();
        Admin {
            address: address.and_then(|text| scope.read(&at.key("address"), text, socket_address)),
            token: self
                .token
                .as_ref()
                .map(|token| SecretSource::parse(&token.0)),
        }
    }
}
