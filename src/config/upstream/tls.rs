//! `[upstream.NAME.tls]`: TLS towards the endpoints.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::document::At;
use crate::config::scope::Scope;

#[derive(Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RawUpstreamTls {
    /// Name asked for and verified.
    sni: String,
    /// Roots to trust instead of the system's, PEM.
    #[serde(skip_serializing_if = "Option::is_none")]
    ca: Option<String>,
    /// Our certificate chain, PEM.
    #[serde(skip_serializing_if = "Option::is_none")]
    cert: Option<String>,
    /// Private key of the certificate, PEM.
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
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

impl RawUpstreamTls {
    pub(super) fn validate(&self, at: &At<'_>, scope: &mut Scope<'_>) -> Option<UpstreamTls> {
        if matches!(self.sni.as_str(), "" | ".") {
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
            // On the wire a name has no final dot (RFC 6066 §3), nor has it in a certificate.
            sni: self.sni.strip_suffix('.').unwrap_or(&self.sni).to_owned(),
            ca: self.ca.as_ref().map(PathBuf::from),
            identity,
        })
    }
}
