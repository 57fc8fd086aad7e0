//! Turning an address into the framework's peer: time limits, TLS and what keeps connections apart.

use std::cell::RefCell;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::SocketAddr;
use std::os::unix::net as unix;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use pingora::protocols::ALPN;
use pingora::protocols::l4::socket as l4;
use pingora::upstreams::peer::HttpPeer;
use pingora::utils::tls::{CertKey, WrappedX509, parse_x509};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use thiserror::Error;

use crate::config::{Timeouts, Upstream, UpstreamTls};
use crate::primitives::address::Address;
use crate::primitives::certificates::{self, UNSIGNED, is_signed_within};
use crate::primitives::pem;

/// Why TLS material of an upstream cannot be used.
#[derive(Debug, Error)]
#[error("{file}: {what}")]
pub struct TlsError {
    /// The file.
    pub file: String,
    /// What is wrong with it.
    pub what: String,
}

/// Requests at once on a connection of HTTP/2, as far as the endpoint allows.
const H2_STREAMS: usize = 100;
/// How often such a connection is asked whether it lives.
const H2_PING: Duration = Duration::from_secs(30);

/// A peer without an address.
pub struct PeerTemplate {
    peer: HttpPeer,
    timeout: Timeouts,
    warning: Option<TlsError>,
}

impl PeerTemplate {
    /// Builds the template; `read` brings the content of a file.
    pub fn new(
        upstream: &Upstream,
        read: &dyn Fn(&Path) -> Result<Vec<u8>, String>,
    ) -> Result<Self, TlsError> {
        let nowhere = SocketAddr::from(([0, 0, 0, 0], 1));
        let sni = upstream.tls.as_ref().map(|tls| tls.sni.clone());
        let mut peer = HttpPeer::new(nowhere, sni.is_some(), sni.unwrap_or_default());
        let timeout = upstream.timeout;
        peer.options.connection_timeout = Some(timeout.connect);
        peer.options.total_connection_timeout = Some(timeout.connect);
        // How long an endpoint may say nothing is watched where the request is served, with the timer that is there
        // anyway: the framework would arm one for each read.
        peer.options.read_timeout = None;
        peer.options.write_timeout = Some(timeout.write);
        // A pool that keeps nothing is asked to forget at once.
        let idle = if upstream.keepalive == 0 {
            Duration::ZERO
        } else {
            upstream.idle_timeout
        };
        peer.options.idle_timeout = Some(idle);
        peer.options.alpn = ALPN::H1;
        if upstream.http2 {
            // Over plain TCP by prior knowledge.
            peer.options.alpn = ALPN::H2;
            peer.options.max_h2_streams = H2_STREAMS;
            peer.options.h2_ping_interval = Some(H2_PING);
        }
        // The framework's reuse key leaves out the CA: without this two upstreams at one address would share
        // connections that only one of them may trust. What files hold counts, so that a reload that brings other
        // authorities uses no connection of before.
        let hasher = RefCell::new(DefaultHasher::new());
        let read_and_hash = |path: &Path| {
            let content = read(path)?;
            content.hash(&mut *hasher.borrow_mut());
            Ok(content)
        };
        let warning = match &upstream.tls {
            Some(tls) => add_tls(&mut peer, tls, &read_and_hash)?,
            None => None,
        };
        let mut hasher = hasher.into_inner();
        (&upstream.name, &upstream.tls, upstream.http2).hash(&mut hasher);
        peer.group_key = hasher.finish();
        Ok(Self {
            peer,
            timeout,
            warning,
        })
    }

    /// The peer at `address`.
    pub fn at(&self, address: &Address) -> Option<HttpPeer> {
        let mut peer = self.peer.clone();
        peer._address = socket_address(address)?;
        Some(peer)
    }

    /// Tells connections of these settings from those of others.
    pub(super) fn tls_reuse_key(&self) -> u64 {
        self.peer.group_key
    }

    /// The peer without an address.
    pub(super) fn nowhere(&self) -> HttpPeer {
        self.peer.clone()
    }

    /// What is wrong with TLS material that is used all the same.
    pub fn warning(&self) -> Option<&TlsError> {
        self.warning.as_ref()
    }

    /// Time limits as configured.
    pub fn timeout(&self) -> &Timeouts {
        &self.timeout
    }
}

/// The address as the framework has it.
pub(super) fn socket_address(address: &Address) -> Option<l4::SocketAddr> {
    match address {
        Address::Inet(address) => Some(l4::SocketAddr::Inet(*address)),
        Address::Unix(path) => {
            let path = unix::SocketAddr::from_pathname(path);
            path.ok().map(l4::SocketAddr::Unix)
        }
    }
}

fn add_tls(
    peer: &mut HttpPeer,
    tls: &UpstreamTls,
    read: &dyn Fn(&Path) -> Result<Vec<u8>, String>,
) -> Result<Option<TlsError>, TlsError> {
    if let Some(path) = &tls.ca {
        let roots = certificates(path, read)?;
        let roots: Vec<WrappedX509> = roots
            .into_iter()
            .map(|der| WrappedX509::new(der.to_vec(), parse_x509))
            .collect();
        peer.options.ca = Some(Arc::from(roots));
    }
    if let Some((cert, key)) = &tls.identity {
        let chain = certificates(cert, read)?;
        let text = read(key).map_err(|what| wrong(key, what))?;
        pem::check_private_key(&text).map_err(|what| wrong(key, what))?;
        let key = PrivateKeyDer::from_pem_slice(&text)
            .map_err(|error| wrong(key, format!("no private key: {error}")))?;
        let whole = is_signed_within(&chain);
        let chain = chain.iter().map(|der| der.to_vec()).collect();
        peer.client_cert_key = Some(Arc::new(CertKey::new(chain, key.secret_der().to_vec())));
        if !whole {
            return Ok(Some(wrong(cert, UNSIGNED.to_owned())));
        }
    }
    Ok(None)
}

/// The certificates of a PEM file, each checked to parse: the framework would panic on one that does not.
fn certificates(
    path: &Path,
    read: &dyn Fn(&Path) -> Result<Vec<u8>, String>,
) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let text = read(path).map_err(|what| wrong(path, what))?;
    let found = certificates::read(&text).map_err(|what| wrong(path, what))?;
    for certificate in &found {
        x509_parser::parse_x509_certificate(certificate)
            .map_err(|error| wrong(path, format!("no X.509 certificate: {error}")))?;
    }
    Ok(found)
}

fn wrong(path: &Path, what: String) -> TlsError {
    TlsError {
        file: path.display().to_string(),
        what,
    }
}
