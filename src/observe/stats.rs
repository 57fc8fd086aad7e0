//! Counters that the request path adds to. Each is one atomic; the collector reads them when asked.

use std::sync::atomic::{AtomicU64, Ordering};

/// A count that only grows.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    /// Adds one.
    pub fn up(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// Adds `n`.
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    /// The count so far.
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What one limit decided: `gateway_limit_decisions_total`.
#[derive(Debug, Default)]
pub struct LimitStats {
    /// Passed.
    pub allowed: Count,
    /// Passed after a wait.
    pub delayed: Count,
    /// Refused.
    pub refused: Count,
    /// Passed uncounted: the key was missing and the limit says so.
    pub skipped: Count,
}
