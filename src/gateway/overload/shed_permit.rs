//! What a request holds that was let in at the gateway's door.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use crate::observe::overload::OverloadStats;

/// A request that was let in at the gateway's door, counted until this is dropped.
pub(in crate::gateway) struct ShedPermit(Arc<OverloadStats>);

impl ShedPermit {
    /// Counts one more; says how many there were before.
    pub(super) fn count(stats: &Arc<OverloadStats>) -> (Self, u64) {
        let before = stats.in_flight.fetch_add(1, Relaxed);
        (Self(Arc::clone(stats)), u64::from(before))
    }
}

impl Drop for ShedPermit {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Relaxed);
    }
}
