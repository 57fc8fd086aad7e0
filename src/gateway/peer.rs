//! Who is at the other end of a connection, as far as it is known before a request comes.

use std::net::IpAddr;
use std::sync::Arc;

use http::HeaderValue;

use crate::filter::{ClientCertificate, Scheme};
use crate::primitives::ListenerName;
use crate::primitives::ranges::AddressRanges;

/// Who is at the other end of a connection, made once per connection; or on whose behalf a request is made inside.
pub(super) struct Peer {
    pub(super) address: IpAddr,
    /// The address as a header value.
    pub(super) text: HeaderValue,
    pub(super) scheme: Scheme,
    /// Where it came in; the admin listener has no name.
    pub(super) listener: Option<ListenerName>,
    /// What it showed, where a certificate is asked for.
    pub(super) certified: Option<Arc<Certified>>,
    /// Whether requests are made inside on its behalf. Their heads are no proxy's: nothing they say of others is believed.
    pub(super) inside: bool,
}

impl Peer {
    /// The peer of requests made inside for whoever came from `address` by `scheme`, as was found when this one sent theirs.
    pub(super) fn found(&self, address: IpAddr, scheme: Scheme) -> Option<Self> {
        Some(Self {
            address,
            text: HeaderValue::from_str(&address.to_string()).ok()?,
            scheme,
            listener: self.listener.clone(),
            certified: self.certified.clone(),
            inside: true,
        })
    }

    /// Whether it is believed what it says about others: trusted proxies are.
    pub(super) fn is_believed(&self, trusted: &AddressRanges) -> bool {
        !self.inside && !trusted.is_empty() && trusted.contains(self.address)
    }
}

/// A client that showed a certificate.
#[derive(Debug)]
pub(super) struct Certified {
    pub(super) certificate: ClientCertificate,
    /// The host it asked for when the connection was opened, lower case.
    pub(super) server_name: Option<Box<str>>,
}

impl Certified {
    /// Whether a request for `host` may come over this connection: what was shown for one host must not open another.
    pub(super) fn may_ask(&self, host: &str) -> bool {
        self.server_name.as_deref().is_none_or(|name| name == host)
    }
}
