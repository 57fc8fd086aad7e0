//! What a worker has for itself: its number, its random numbers, its connections to endpoints.

use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rand::rngs::SmallRng;
use rand::{RngCore, SeedableRng};

use super::exchange::h1::kept::KeptConnections;
use super::exchange::h2::connections::StreamConnections;
use crate::primitives::trace::TraceId;

/// What a worker has for itself.
pub struct WorkerLocal {
    index: usize,
    /// For identifiers: they have to differ, not to be secret.
    numbers: Mutex<SmallRng>,
    /// Connections to endpoints.
    pub(super) kept: KeptConnections,
    /// Connections to endpoints that many requests share.
    pub(super) streams: StreamConnections,
}

impl WorkerLocal {
    /// The lane of worker number `index`, one of so many.
    pub fn new(index: usize, workers: usize) -> Self {
        Self {
            index,
            kept: KeptConnections::new(workers),
            streams: StreamConnections::default(),
            numbers: Mutex::new(SmallRng::from_os_rng()),
        }
    }

    /// Which worker it is.
    pub(super) fn index(&self) -> usize {
        self.index
    }

    /// Identifier and first span of a request that brings none.
    pub(super) fn identity(&self) -> (TraceId, u64) {
        let numbers = &mut *self.numbers.lock();
        (TraceId::random(numbers), numbers.next_u64())
    }

    /// Closes connections to endpoints that nobody needed for too long, once a second. Runs until dropped.
    pub async fn tidy(&self) {
        loop {
            tokio::time::sleep(Duration::from_secs(1)).await;
            let now = Instant::now();
            self.kept.sweep(now);
            self.streams.sweep(now);
        }
    }
}
