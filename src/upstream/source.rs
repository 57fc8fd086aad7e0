//! Where the endpoints of an upstream come from.
//!
//! A source watches something outside the process and says which endpoints there are, all of them each time. Names are the
//! first of them, see [`resolve`](super::resolve). The pool decides what of it is believed: a source that fails, finds
//! nothing or loses too much at once changes nothing, and endpoints that stay keep what is known about them.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use futures_util::future::BoxFuture;
use tokio::sync::watch;

use crate::config::{Endpoint, EndpointAddress};
use crate::primitives::address::Address;

/// An endpoint that a source found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Discovered {
    /// Where it is.
    pub address: Address,
    /// Weight, at least 1.
    pub weight: u32,
    /// Whether it is used only when no primary is usable.
    pub backup: bool,
    /// The metric label: what was configured, never what was found.
    pub label: Arc<str>,
}

impl Discovered {
    /// Whether it is one of several addresses that may share its label.
    pub(super) fn is_named(&self) -> bool {
        *self.label != *self.address.to_string()
    }
}

/// What a source knows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Discovery {
    /// All endpoints; empty while none is known.
    pub endpoints: Arc<[Discovered]>,
    /// Why the last look failed, if it did. What was found before stands.
    pub failure: Option<String>,
    /// Everything was looked for at least once, found or not.
    pub looked: bool,
}

/// Finds the endpoints of one upstream.
pub(super) trait EndpointSource: Send + Sync {
    /// What is known now, and each change of it.
    fn watch(&self) -> watch::Receiver<Discovery>;

    /// Looks, again and again, for as long as it is polled.
    fn look(&self) -> BoxFuture<'_, ()>;

    /// The part of the endpoints in use that has to be among those found: with fewer of them a finding is taken for a
    /// failure. 0 where every finding is believed that is not empty.
    fn min_keep(&self) -> f64 {
        0.0
    }
}

/// The endpoints of a configuration, in its order, when names are at these addresses.
pub(super) fn configured(
    endpoints: &[Endpoint],
    resolved: &HashMap<String, Vec<IpAddr>>,
) -> Arc<[Discovered]> {
    let each = endpoints.iter().flat_map(|endpoint| {
        let label: Arc<str> = endpoint.address.to_string().into();
        let addresses: Vec<Address> = match &endpoint.address {
            EndpointAddress::Fixed(address) => vec![address.clone()],
            EndpointAddress::Named(host, port) => {
                let known = resolved.get(host).into_iter().flatten();
                known
                    .map(|ip| Address::Inet(SocketAddr::new(*ip, *port)))
                    .collect()
            }
        };
        addresses.into_iter().map(move |address| Discovered {
            address,
            weight: endpoint.weight.get(),
            backup: endpoint.backup,
            label: Arc::clone(&label),
        })
    });
    each.collect()
}
