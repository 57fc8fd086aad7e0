//! Connections to upstreams where the framework opens none: each worker has its own, as it has of the framework's.
//!
//! A connection that several workers used would be read by the one that opened it: streams of the others would wait for that
//! one's turn, and end with it.

use std::sync::OnceLock;

use pingora::connectors::TransportConnector;
use pingora::connectors::http::Connector;

use super::snapshot::Snapshot;

/// Those of all workers.
#[derive(Default)]
pub struct UpstreamConnections {
    workers: OnceLock<Box<[OfWorker]>>,
    /// Of whoever is no worker.
    others: OfWorker,
}

/// Those of one worker. Made when they are needed: each reads the system's authorities.
#[derive(Default)]
struct OfWorker {
    mirrors: OnceLock<Connector>,
    upstreams: OnceLock<TransportConnector>,
}

impl UpstreamConnections {
    /// There are so many workers.
    pub fn begin(&self, workers: usize) {
        let each = std::iter::repeat_with(OfWorker::default);
        let _ = self.workers.set(each.take(workers).collect());
    }

    /// Makes what this configuration needs, so that no request waits for it.
    pub(super) fn prepare(&self, snapshot: &Snapshot) {
        let mut pools = snapshot.pools.values();
        let upstreams = pools.any(|pool| pool.settings().http2 || pool.trust() != 0);
        let mut routes = snapshot.routes.iter();
        let mirrors = routes.any(|route| route.policy.mirror.is_some());
        for worker in self.workers.get().into_iter().flatten() {
            if upstreams {
                worker.upstreams();
            }
            if mirrors {
                worker.mirrors();
            }
        }
    }

    /// Connections of worker number `lane` to upstreams that get copies.
    pub(super) fn mirrors(&self, lane: usize) -> &Connector {
        self.of(lane).mirrors()
    }

    /// What opens connections of worker number `lane` to upstreams over TLS, or for HTTP/2.
    pub(super) fn upstreams(&self, lane: usize) -> &TransportConnector {
        self.of(lane).upstreams()
    }

    fn of(&self, lane: usize) -> &OfWorker {
        let worker = self.workers.get().and_then(|workers| workers.get(lane));
        worker.unwrap_or(&self.others)
    }
}

impl OfWorker {
    fn mirrors(&self) -> &Connector {
        self.mirrors.get_or_init(|| Connector::new(None))
    }

    fn upstreams(&self) -> &TransportConnector {
        self.upstreams.get_or_init(|| TransportConnector::new(None))
    }
}
