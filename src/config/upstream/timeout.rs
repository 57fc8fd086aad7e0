//! `[upstream.NAME.timeout]`: time limits.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::document::At;
use crate::config::scope::Scope;

#[derive(Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawTimeout {
    /// To connect, TLS included.
    connect: String,
    /// Between two pieces of an answer.
    read: String,
    /// Between two pieces of a request that the endpoint takes.
    write: String,
    /// The whole exchange, retries included.
    request: String,
    /// Through a WebSocket in which neither side says anything.
    tunnel: String,
}

impl Default for RawTimeout {
    fn default() -> Self {
        Self {
            connect: "1s".into(),
            read: "15s".into(),
            write: "15s".into(),
            request: "20s".into(),
            tunnel: "1h".into(),
        }
    }
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
    /// How long neither side of a WebSocket may say anything.
    pub tunnel: Duration,
}

impl RawTimeout {
    pub(super) fn validate(&self, at: &At<'_>, scope: &mut Scope<'_>) -> Timeouts {
        Timeouts {
            connect: scope.positive(&at.key("connect"), &self.connect),
            read: scope.positive(&at.key("read"), &self.read),
            write: scope.positive(&at.key("write"), &self.write),
            request: scope.positive(&at.key("request"), &self.request),
            tunnel: scope.positive(&at.key("tunnel"), &self.tunnel),
        }
    }
}
