//! `[listener.tls]`: TLS towards clients.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::document::At;
use super::scope::Scope;

#[derive(Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RawListenerTls {
    /// Certificates, chosen by the name the client asks for; the first is for all other names.
    certificates: Vec<RawCertificate>,
    /// CA certificates (PEM). Clients must show a certificate that one of them signed.
    #[serde(skip_serializing_if = "Option::is_none")]
    client_ca: Option<String>,
    /// Oldest version spoken: "1.2" or "1.3".
    #[serde(default = "oldest")]
    min_version: String,
}

#[derive(Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct RawCertificate {
    /// Certificate, followed by those between it and the root (PEM).
    cert: String,
    /// Private key of the certificate (PEM).
    key: String,
}

fn oldest() -> String {
    "1.2".into()
}

/// TLS of a listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerTls {
    /// Files of certificate and key. The first is for clients that name no host we know.
    pub certificates: Vec<CertificateFiles>,
    /// Whoever signed the certificates that clients must show.
    pub client_ca: Option<PathBuf>,
    /// TLS 1.2 is spoken too.
    pub tls12: bool,
}

/// A certificate and its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFiles {
    /// Certificate chain, PEM.
    pub cert: PathBuf,
    /// Private key, PEM.
    pub key: PathBuf,
}

/// What of a client's certificate a limit or a route can ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CertificatePart {
    /// Subject of the certificate.
    Subject,
    /// Fingerprint of the certificate.
    Fingerprint,
}

impl CertificatePart {
    /// As it is written in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::Subject => "client_cert:subject",
            Self::Fingerprint => "client_cert:fingerprint",
        }
    }

    /// Reads `client_cert:subject` or `client_cert:fingerprint`.
    pub fn parse(text: &str) -> Result<Self, String> {
        match text {
            "client_cert:subject" => Ok(Self::Subject),
            "client_cert:fingerprint" => Ok(Self::Fingerprint),
            _ => Err(format!(
                "{text:?}: a certificate has client_cert:subject and client_cert:fingerprint"
            )),
        }
    }
}

impl RawListenerTls {
    pub(super) fn validate(&self, at: &At<'_>, scope: &mut Scope<'_>) -> Option<ListenerTls> {
        let certificates = at.key("certificates");
        if self.certificates.is_empty() {
            scope.problem(
                &certificates,
                "names no certificate; write [{ cert = \"/path\", key = \"/path\" }]",
            );
            return None;
        }
        for (index, pair) in self.certificates.iter().enumerate() {
            let at = certificates.index(index);
            for (key, path) in [("cert", &pair.cert), ("key", &pair.key)] {
                if path.is_empty() {
                    scope.problem(&at.key(key), "is empty");
                }
            }
        }
        let tls12 = scope.read(
            &at.key("min_version"),
            &self.min_version,
            |text| match text {
                "1.2" => Ok(true),
                "1.3" => Ok(false),
                other => Err(format!("{other:?} is not spoken; write \"1.2\" or \"1.3\"")),
            },
        )?;
        let files = self.certificates.iter().map(|pair| CertificateFiles {
            cert: PathBuf::from(&pair.cert),
            key: PathBuf::from(&pair.key),
        });
        Some(ListenerTls {
            certificates: files.collect(),
            client_ca: self.client_ca.as_ref().map(PathBuf::from),
            tls12,
        })
    }
}
