//! TLS towards clients: which certificate is shown, who must show one, and what is remembered of a handshake.
//!
//! The library behind it (rustls) is known here and where sockets are read; nothing else depends on it. One
//! configuration serves all workers, so that a client can resume at any of them what it began at another.

mod certificate;
mod chooser;
mod client;

pub use client::client_certificate;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::server::{ProducesTickets, StoresServerSessions, WebPkiClientVerifier};
use rustls::{NamedGroup, RootCertStore, ServerConfig};
use thiserror::Error;

use self::certificate::Certificate;
use self::chooser::Chooser;
use crate::config::ListenerTls;
use crate::primitives::certificates::{self, UNSIGNED};

/// Why TLS of a listener cannot be served.
#[derive(Debug, Error)]
#[error("{file}: {what}")]
pub struct TlsError {
    /// Key of the configuration below `tls`.
    pub key: String,
    /// The file.
    pub file: String,
    /// What is wrong with it.
    pub what: String,
}

/// TLS of a listener, ready to serve.
pub struct ListenerConfig {
    /// For the library.
    pub server: Arc<ServerConfig>,
    /// Every certificate.
    pub shown: Vec<Shown>,
    /// What is served all the same.
    pub warnings: Vec<TlsError>,
}

/// What an operator wants to know about a certificate.
#[derive(Clone, Debug)]
pub struct Shown {
    /// First name in it, or the file's.
    pub name: String,
    /// End of its validity, seconds since 1970.
    pub not_after: i64,
}

/// What is remembered of handshakes. Made once; outlives every configuration, so that a reload costs no client a full
/// handshake.
pub struct TlsFacts {
    tickets: Option<Arc<dyn ProducesTickets>>,
    sessions: Arc<dyn StoresServerSessions>,
}

/// Sessions of TLS 1.2 clients that know no tickets.
const SESSIONS: usize = 4096;

impl Default for TlsFacts {
    fn default() -> Self {
        Self {
            // Without random numbers there are no tickets, and full handshakes instead.
            tickets: aws_lc_rs::Ticketer::new().ok(),
            sessions: rustls::server::ServerSessionMemoryCache::new(SESSIONS),
        }
    }
}

/// HTTP/2 as the handshake names it (RFC 9113 §3.1).
pub const HTTP2: &[u8] = b"h2";

/// What becomes of a certificate that has expired.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expired {
    /// An expired certificate is a problem: something better is in force, or can still be put in place.
    Refused,
    /// An expired certificate is served with a warning: the alternative is no gateway at all.
    Served,
}

/// Reads certificates and keys, checks that they belong together, and builds what serves them. `read` brings the content
/// of a file; `now` is the time since 1970. With `http2` it is offered in the handshake.
pub fn build(
    tls: &ListenerTls,
    http2: bool,
    facts: &TlsFacts,
    (now, expired): (Duration, Expired),
    read: &dyn Fn(&Path) -> Result<Vec<u8>, String>,
) -> Result<ListenerConfig, Vec<TlsError>> {
    let provider = Arc::new(provider());
    let (mut wrong, mut warnings) = (Vec::new(), Vec::new());
    let mut certificates = Vec::new();
    for (index, files) in tls.certificates.iter().enumerate() {
        match Certificate::read(files, &provider, read) {
            Ok(certificate) => {
                let days = certificate
                    .expired_for(now)
                    .map(|past| past.as_secs() / 86_400);
                match (days, expired) {
                    (Some(days), Expired::Refused) => wrong.push(TlsError {
                        key: format!("certificates[{index}].cert"),
                        file: files.cert.display().to_string(),
                        what: format!("expired {days} days ago"),
                    }),
                    (Some(days), Expired::Served) => {
                        log::error!(
                            "{}: expired {days} days ago; it is served all the same",
                            files.cert.display()
                        );
                    }
                    (None, _) => {}
                }
                if !certificate.whole {
                    warnings.push(TlsError {
                        key: format!("certificates[{index}].cert"),
                        file: files.cert.display().to_string(),
                        what: UNSIGNED.into(),
                    });
                }
                certificates.push(certificate);
            }
            Err((file, what)) => wrong.push(TlsError {
                key: format!("certificates[{index}]"),
                file: file.display().to_string(),
                what,
            }),
        }
    }
    let roots = tls.client_ca.as_ref().map(|path| {
        roots(path, read).map_err(|what| TlsError {
            key: "client_ca".into(),
            file: path.display().to_string(),
            what,
        })
    });
    let roots = roots.transpose().unwrap_or_else(|error| {
        wrong.push(error);
        None
    });
    if !wrong.is_empty() {
        return Err(wrong);
    }
    let shown = certificates.iter().map(Certificate::shown).collect();
    let server = server(tls, http2, facts, provider, roots, certificates).map_err(|what| {
        vec![TlsError {
            key: "certificates".into(),
            file: "TLS".into(),
            what,
        }]
    })?;
    Ok(ListenerConfig {
        server: Arc::new(server),
        shown,
        warnings,
    })
}

/// Makes [`provider`] that of every TLS connection of the process. The framework, which speaks to upstreams, installs one
/// of its own where it finds none; so this is to be called before anything of it is made.
pub fn install() {
    // An error means that it is there already.
    let _ = provider().install_default();
}

/// Key exchanges as they are offered, to clients and to upstreams.
pub fn key_exchanges() -> Vec<String> {
    let groups = provider().kx_groups.into_iter();
    groups.map(|group| format!("{:?}", group.name())).collect()
}

/// The library's cipher suites and key exchanges in our order. All of them are strong. AES with 128 bits costs least where
/// processors know AES, which is nearly everywhere, and goes first. So does the key exchange with ML-KEM beside X25519:
/// what is recorded today stays closed to a quantum computer of later.
fn provider() -> CryptoProvider {
    use rustls::CipherSuite as Suite;
    let mut provider = aws_lc_rs::default_provider();
    let groups = &mut provider.kx_groups;
    groups.sort_by_key(|group| group.name() != NamedGroup::X25519MLKEM768);
    provider.cipher_suites.sort_by_key(|known| {
        !matches!(
            known.suite(),
            Suite::TLS13_AES_128_GCM_SHA256
                | Suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256
                | Suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256
        )
    });
    provider
}

fn server(
    tls: &ListenerTls,
    http2: bool,
    facts: &TlsFacts,
    provider: Arc<CryptoProvider>,
    roots: Option<RootCertStore>,
    certificates: Vec<Certificate>,
) -> Result<ServerConfig, String> {
    let versions: &[&rustls::SupportedProtocolVersion] = if tls.tls12 {
        &[&rustls::version::TLS13, &rustls::version::TLS12]
    } else {
        &[&rustls::version::TLS13]
    };
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(versions)
        .map_err(|error| error.to_string())?;
    let verified = roots.is_some();
    let builder = match roots {
        Some(roots) => {
            let verifier =
                WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
            builder.with_client_cert_verifier(verifier.map_err(|error| error.to_string())?)
        }
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_cert_resolver(Arc::new(Chooser::new(certificates)));
    config.ignore_client_order = true;
    // In the order in which we would have it (RFC 7301 §3.2).
    config.alpn_protocols = vec![HTTP2.to_vec(), b"http/1.1".to_vec()];
    if !http2 {
        config.alpn_protocols.remove(0);
    }
    if verified {
        // What an earlier list of authorities let in must not come back by a ticket: these live as long as the list.
        if let Ok(tickets) = aws_lc_rs::Ticketer::new() {
            config.ticketer = tickets;
        }
    } else {
        if let Some(tickets) = &facts.tickets {
            config.ticketer = Arc::clone(tickets);
        }
        config.session_storage = Arc::clone(&facts.sessions);
    }
    Ok(config)
}

fn roots(
    path: &Path,
    read: &dyn Fn(&Path) -> Result<Vec<u8>, String>,
) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates::read(&read(path)?)? {
        roots
            .add(certificate)
            .map_err(|error| format!("no certificate of an authority: {error}"))?;
    }
    Ok(roots)
}
