//! What opens connections to upstreams over TLS or in HTTP/2, and carries copies. Each worker has its own.
//!
//! A connection that several workers used would be read by the one that opened it: streams of the others would wait for that
//! one's turn, and end with it.

use std::sync::OnceLock;

use pingora::connectors::TransportConnector;
use pingora::connectors::http::Connector;

/// Upstream connections of all workers.
#[derive(Default)]
pub struct UpstreamConnections {
    workers: OnceLock<Box<[OfWorker]>>,
    /// Of whoever is no worker.
    others: OfWorker,
}

/// What a configuration needs of these connections.
pub(super) struct NeededConnections {
    /// Some upstream is reached over TLS or in HTTP/2.
    pub(super) upstreams: bool,
    /// Some route has its requests copied.
    pub(super) mirrors: bool,
}

/// Upstream connections of one worker. Made when they are needed: each reads the system's authorities.
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

    /// Makes what a configuration needs, so that no request waits for it.
    pub(super) fn prepare(&self, needed: &NeededConnections) {
        for worker in self.workers.get().into_iter().flatten() {
            if needed.upstreams {
                worker.upstreams();
            }
            if needed.mirrors {
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
