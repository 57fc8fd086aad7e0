//! Who may connect: at most so many connections in all, and from one address.
//!
//! All together stay below what the process may open: a gateway that ran out of descriptors could reach no upstream for
//! those it let in, and read no certificate.

use std::collections::HashMap;
use std::hash::BuildHasher;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use parking_lot::Mutex;

use crate::config::ClientLimits;
use crate::observe::ListenerStats;
use crate::observe::stats::TurnedAway;

/// Shards of the table of addresses: workers rarely meet.
const SHARDS: usize = 32;

/// Connections open now. Made once; outlives every reload.
#[derive(Debug)]
pub struct Admission {
    total: AtomicU32,
    /// Connections that are read from only so that their clients get an answer.
    lingering: AtomicU32,
    /// Most that may be open, whatever the configuration says.
    ceiling: AtomicU32,
    by_address: [Mutex<HashMap<IpAddr, u32>>; SHARDS],
    hasher: std::hash::RandomState,
}

/// One connection's place; dropping it frees it.
pub struct AdmissionPermit {
    admission: Arc<Admission>,
    address: Option<IpAddr>,
    listener: Arc<ListenerStats>,
}

impl Default for Admission {
    fn default() -> Self {
        Self {
            total: AtomicU32::new(0),
            lingering: AtomicU32::new(0),
            ceiling: AtomicU32::new(u32::MAX),
            by_address: Default::default(),
            hasher: std::hash::RandomState::new(),
        }
    }
}

impl Admission {
    /// Keeps connections to half of the files that are left for them: each may need another one towards an upstream.
    pub fn keep_below(&self, files: u64) {
        let most = u32::try_from(files / 2).unwrap_or(u32::MAX).max(1);
        self.ceiling.store(most, Ordering::Relaxed);
    }

    /// Most connections that may be open, whatever the configuration says.
    pub fn ceiling(&self) -> u32 {
        self.ceiling.load(Ordering::Relaxed)
    }

    /// Takes a place, if there is one. Connections without an address (Unix sockets, and those whose client is not
    /// announced yet) count in the total only.
    pub fn enter(
        self: &Arc<Self>,
        address: Option<IpAddr>,
        limits: &ClientLimits,
        listener: &Arc<ListenerStats>,
    ) -> Result<AdmissionPermit, TurnedAway> {
        let ceiling = self.ceiling();
        if self.total.fetch_add(1, Ordering::Relaxed) >= limits.max_connections.min(ceiling) {
            self.total.fetch_sub(1, Ordering::Relaxed);
            return Err(if ceiling < limits.max_connections {
                TurnedAway::Descriptors
            } else {
                TurnedAway::Full
            });
        }
        listener.connections.up();
        let mut place = AdmissionPermit {
            admission: Arc::clone(self),
            address: None,
            listener: Arc::clone(listener),
        };
        if let Some(address) = address {
            place.count_for(address, limits)?;
        }
        Ok(place)
    }

    /// Takes one of the places for connections that are read from only so that their clients get an answer: a tenth of all
    /// that may be open, and one at least.
    pub fn linger(self: &Arc<Self>, limits: &ClientLimits) -> Option<Lingering> {
        let most = (limits.max_connections.min(self.ceiling()) / 10).max(1);
        let place = Lingering(Arc::clone(self));
        (self.lingering.fetch_add(1, Ordering::Relaxed) < most).then_some(place)
    }

    /// Connections open now.
    pub fn open(&self) -> u32 {
        self.total.load(Ordering::Relaxed)
    }

    fn shard(&self, address: IpAddr) -> &Mutex<HashMap<IpAddr, u32>> {
        &self.by_address[(self.hasher.hash_one(address) % SHARDS as u64) as usize]
    }
}

/// A connection that is read from only so that its client gets an answer. Dropping it frees its place.
pub struct Lingering(Arc<Admission>);

impl Drop for Lingering {
    fn drop(&mut self) {
        self.0.lingering.fetch_sub(1, Ordering::Relaxed);
    }
}

impl AdmissionPermit {
    /// Counts the connection for its client's address, which may be learnt after it was let in.
    pub fn count_for(&mut self, address: IpAddr, limits: &ClientLimits) -> Result<(), TurnedAway> {
        let address = subscriber(address);
        let mut counts = self.admission.shard(address).lock();
        let count = counts.entry(address).or_default();
        if *count >= limits.max_connections_per_ip {
            return Err(TurnedAway::FullForAddress);
        }
        *count += 1;
        drop(counts);
        self.address = Some(address);
        Ok(())
    }
}

/// Whom an address stands for: a subscriber gets a whole IPv6 /64 (RFC 6177), and could come from each of its addresses.
fn subscriber(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
    }
}

impl Drop for AdmissionPermit {
    fn drop(&mut self) {
        self.admission.total.fetch_sub(1, Ordering::Relaxed);
        self.listener.connections.down();
        let Some(address) = self.address else { return };
        let mut counts = self.admission.shard(address).lock();
        if let Some(count) = counts.get_mut(&address) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn counts_all_and_each_address_and_frees_places() {
        let limits = ClientLimits {
            header_timeout: Duration::ZERO,
            body_timeout: Duration::ZERO,
            write_timeout: Duration::ZERO,
            longest_byte: Duration::ZERO,
            keepalive_timeout: Duration::ZERO,
            keepalive_requests: 1,
            max_header_bytes: 0,
            max_headers: 0,
            max_uri: 0,
            max_body: 0,
            max_connections: 3,
            max_connections_per_ip: 2,
            linger_body: 0,
            half_close: false,
        };
        let (admission, listener) = (
            Arc::new(Admission::default()),
            Arc::new(ListenerStats::default()),
        );
        let enter =
            |last| admission.enter(Some(IpAddr::from([127, 0, 0, last])), &limits, &listener);
        let (a, b) = (enter(1), enter(1));
        assert!(a.is_ok() && b.is_ok());
        assert_eq!(enter(1).err(), Some(TurnedAway::FullForAddress));
        let c = enter(2);
        assert!(c.is_ok());
        assert_eq!(enter(3).err(), Some(TurnedAway::Full));
        assert_eq!((admission.open(), listener.connections.value()), (3, 3));
        drop((a, b, c));
        assert_eq!((admission.open(), listener.connections.value()), (0, 0));
        assert!(enter(3).is_ok());
        let enter = |text: &str| {
            let address: IpAddr = text.parse().expect("address");
            admission.enter(Some(address), &limits, &listener)
        };
        let _kept = (
            enter("2001:db8::1").expect("first"),
            enter("2001:db8::2").expect("second"),
        );
        assert!(enter("2001:db8::3").is_err(), "one /64 counts as one");
        assert!(enter("2001:db8:0:1::1").is_ok());
        // Without an address only the total counts, until the address is known.
        let mut unnamed = admission.enter(None, &limits, &listener).expect("place");
        let first = IpAddr::from([127, 0, 0, 1]);
        assert_eq!(unnamed.count_for(first, &limits), Ok(()));
        drop(unnamed);
        let lingering = admission.linger(&limits).expect("one at least");
        assert!(admission.linger(&limits).is_none());
        drop(lingering);
        assert!(admission.linger(&limits).is_some());
        admission.keep_below(3);
        assert_eq!(
            admission.enter(None, &limits, &listener).err(),
            Some(TurnedAway::Descriptors)
        );
    }
}
