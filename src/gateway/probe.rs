//! Connections that the process makes to its own listeners, to learn that they are served.
//!
//! They are known by the address they come from, and end where they are accepted: no client is counted, none is logged.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;

/// Addresses that connections of our own come from.
#[derive(Debug, Default)]
pub struct OwnConnections {
    /// How many are expected: accepting looks at this alone but for a moment at the start.
    count: AtomicUsize,
    expected: Mutex<Vec<(IpAddr, u16)>>,
}

impl OwnConnections {
    /// A connection from `address` will be one of our own.
    pub fn expect(&self, address: SocketAddr) {
        let mut expected = self.expected.lock();
        expected.push(named(address));
        self.count.store(expected.len(), Ordering::Release);
    }

    /// Whether a connection from `address` is one of our own, which is asked where it was accepted. It is expected no
    /// longer.
    pub fn accepted(&self, address: SocketAddr) -> bool {
        self.count.load(Ordering::Acquire) > 0 && self.forget(address)
    }

    /// Expects no connection from `address` any more; says whether one was.
    pub fn forget(&self, address: SocketAddr) -> bool {
        let mut expected = self.expected.lock();
        let before = expected.len();
        expected.retain(|known| *known != named(address));
        self.count.store(expected.len(), Ordering::Release);
        expected.len() < before
    }

    /// Whether a connection from `address` is still expected.
    pub fn is_expected(&self, address: SocketAddr) -> bool {
        self.expected.lock().contains(&named(address))
    }
}

/// IPv4 in IPv6 form is IPv4: a listener on both families tells it so.
fn named(address: SocketAddr) -> (IpAddr, u16) {
    (address.ip().to_canonical(), address.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_expected_is_our_own_and_only_once() {
        let own = OwnConnections::default();
        let ours: SocketAddr = "127.0.0.1:4000".parse().expect("address");
        let foreign: SocketAddr = "127.0.0.1:4001".parse().expect("address");
        assert!(!own.accepted(ours));
        own.expect(ours);
        assert!(!own.accepted(foreign));
        assert!(own.is_expected(ours));
        assert!(own.accepted("[::ffff:127.0.0.1]:4000".parse().expect("address")));
        assert!(!own.accepted(ours) && !own.is_expected(ours));
    }
}
