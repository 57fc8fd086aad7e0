//! Connections to endpoints that are kept for the next request. One set per worker.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rustc_hash::FxHashMap;

use super::connection::Socket;
use crate::primitives::UpstreamName;
use crate::primitives::address::Address;
use crate::upstream::Pool;

/// How connections of an upstream are kept.
struct KeepSettings<'u> {
    upstream: &'u UpstreamName,
    most: usize,
    idle: Duration,
    /// What its TLS is like: connections opened by other settings are not its own.
    tls_reuse_key: u64,
}

/// Kept connections by upstream and address.
pub(in crate::gateway) struct KeptConnections {
    workers: usize,
    upstreams: Mutex<FxHashMap<UpstreamName, Kept>>,
}

/// What is kept of one upstream. The connection used last is used next, so that those not needed grow old and go.
#[derive(Default)]
struct Kept {
    by_address: FxHashMap<Address, VecDeque<Idle>>,
    count: usize,
}

struct Idle {
    socket: Socket,
    tls_reuse_key: u64,
    until: Instant,
}

/// Addresses looked at for the oldest connection. More would cost each request of an upstream with many endpoints.
const LOOKED_AT: usize = 16;

impl KeptConnections {
    /// Nothing is kept. The process has so many workers, each of which keeps its share.
    pub(in crate::gateway) fn new(workers: usize) -> Self {
        Self {
            workers: workers.max(1),
            upstreams: Mutex::default(),
        }
    }

    /// How connections of this upstream are kept; `None` when they are not.
    fn keeping<'u>(&self, pool: &'u Pool) -> Option<KeepSettings<'u>> {
        let upstream = pool.settings();
        (upstream.keepalive > 0).then_some(KeepSettings {
            upstream: &upstream.name,
            most: (upstream.keepalive as usize).div_ceil(self.workers),
            idle: upstream.idle_timeout,
            tls_reuse_key: pool.tls_reuse_key(),
        })
    }

    /// A connection to `address` that is still open, as far as this side knows.
    pub(in crate::gateway) fn take(
        &self,
        pool: &Pool,
        address: &Address,
        now: Instant,
    ) -> Option<Socket> {
        let keeping = self.keeping(pool)?;
        let upstreams = &mut *self.upstreams.lock();
        let kept = upstreams.get_mut(keeping.upstream)?;
        let connections = kept.by_address.get_mut(address)?;
        while let Some(mut last) = connections.pop_back() {
            kept.count -= 1;
            if last.tls_reuse_key == keeping.tls_reuse_key
                && now < last.until
                && last.socket.is_open()
            {
                return Some(last.socket);
            }
        }
        None
    }

    /// Keeps a connection; the oldest goes when there are too many.
    pub(in crate::gateway) fn put(
        &self,
        pool: &Pool,
        address: &Address,
        socket: Socket,
        now: Instant,
    ) {
        let Some(keeping) = self.keeping(pool) else {
            return;
        };
        let upstreams = &mut *self.upstreams.lock();
        if !upstreams.contains_key(keeping.upstream) {
            upstreams.insert(keeping.upstream.clone(), Kept::default());
        }
        let Some(kept) = upstreams.get_mut(keeping.upstream) else {
            return;
        };
        let until = now + keeping.idle;
        let idle = Idle {
            socket,
            tls_reuse_key: keeping.tls_reuse_key,
            until,
        };
        match kept.by_address.get_mut(address) {
            Some(connections) => connections.push_back(idle),
            None => {
                kept.by_address.insert(address.clone(), [idle].into());
            }
        }
        kept.count += 1;
        while kept.count > keeping.most {
            kept.drop_oldest();
        }
    }

    /// Closes all connections of this upstream to `address`.
    pub(in crate::gateway) fn forget(&self, pool: &Pool, address: &Address) {
        let upstream = &pool.settings().name;
        if let Some(kept) = self.upstreams.lock().get_mut(upstream)
            && let Some(closed) = kept.by_address.remove(address)
        {
            kept.count -= closed.len();
        }
    }

    /// Closes what is too old, or was closed by the endpoint.
    pub(in crate::gateway) fn sweep(&self, now: Instant) {
        self.upstreams.lock().retain(|_, kept| {
            kept.by_address.retain(|_, connections| {
                connections.retain_mut(|idle| now < idle.until && idle.socket.is_open());
                !connections.is_empty()
            });
            kept.count = kept.by_address.values().map(VecDeque::len).sum();
            kept.count > 0
        });
    }
}

impl Kept {
    /// Closes the oldest connection of the first few addresses.
    fn drop_oldest(&mut self) {
        let oldest = self
            .by_address
            .iter_mut()
            .filter(|(_, connections)| !connections.is_empty())
            .take(LOOKED_AT)
            .min_by_key(|(_, connections)| connections.front().map(|idle| idle.until));
        match oldest {
            Some((_, connections)) => {
                connections.pop_front();
                self.count -= 1;
            }
            None => self.count = 0,
        }
    }
}
