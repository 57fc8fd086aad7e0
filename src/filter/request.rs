//! A request as it came: what a filter may look at, and nothing that a filter says.

use std::net::{IpAddr, Ipv4Addr};

use http::{HeaderValue, Method};
use pingora::http::RequestHeader;

use crate::config::{CertificatePart, Scheme};
use crate::primitives::RouteName;

/// The certificate that a client showed, verified by the handshake.
#[derive(Debug)]
pub struct ClientCertificate {
    /// The certificate's subject as RFC 4514 writes it, ASCII; `None` when it names nobody.
    pub subject: Option<HeaderValue>,
    /// SHA-256 of the certificate, in lower-case hexadecimal digits.
    pub fingerprint: HeaderValue,
}

impl ClientCertificate {
    /// What `part` says.
    pub fn part(&self, part: CertificatePart) -> Option<&HeaderValue> {
        match part {
            CertificatePart::Subject => self.subject.as_ref(),
            CertificatePart::Fingerprint => Some(&self.fingerprint),
        }
    }
}

/// A request as it came, and the route that takes it. Nothing of it changes while filters are asked.
#[derive(Clone, Copy)]
pub struct RequestView<'r> {
    /// Request head as received.
    pub head: &'r RequestHeader,
    /// Request target as received, before any normalisation: what signatures cover.
    pub raw_target: &'r str,
    /// Normalised path.
    pub path: &'r str,
    /// Query without `?`, as received.
    pub query: Option<&'r str>,
    /// Effective host in lower case, without port; empty when an HTTP/1.0 client named none.
    pub host: &'r str,
    /// Effective authority as received: host and port.
    pub authority: &'r str,
    /// How the client reached us.
    pub scheme: Scheme,
    /// The client, seen through trusted proxies.
    pub client_ip: IpAddr,
    /// The certificate that the client showed.
    pub certificate: Option<&'r ClientCertificate>,
    /// The matched route.
    pub route: &'r RouteName,
    /// Most body bytes the route takes.
    pub max_body: u64,
    /// How long the request says its body is.
    pub body_length: Option<u64>,
}

impl<'r> RequestView<'r> {
    /// A request of which nothing is known but what was asked for, over HTTP and of no host, by nobody in particular: what
    /// trials and measurements of single filters begin with.
    pub fn bare(head: &'r RequestHeader, target: &'r str, route: &'r RouteName) -> Self {
        let (path, query) = match target.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (target, None),
        };
        Self {
            head,
            raw_target: target,
            path,
            query,
            host: "",
            authority: "",
            scheme: Scheme::Http,
            client_ip: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            certificate: None,
            route,
            max_body: 1 << 20,
            body_length: None,
        }
    }

    /// Method of the request.
    pub fn method(&self) -> &'r Method {
        &self.head.method
    }

    /// The first value of a header as text; `None` when absent or not UTF-8.
    pub fn header(&self, name: &str) -> Option<&'r str> {
        self.head
            .headers
            .get(name)
            .and_then(|value| std::str::from_utf8(value.as_bytes()).ok())
    }
}
