//! Where a request belongs, in the upstreams that ask for it.

use crate::observe::stats::StickyOutcome;
use crate::upstream::Stickiness;

/// Where a request belongs.
#[derive(Clone, Copy, Default)]
pub(in crate::gateway) struct Affinity {
    pub(in crate::gateway) key: Option<u64>,
    pub(in crate::gateway) stay: Option<Stickiness>,
    /// The client came over TLS.
    pub(in crate::gateway) tls: bool,
}

/// Where a request belongs in another upstream than that which it goes to first.
pub(in crate::gateway) struct FailoverAffinity {
    pub(in crate::gateway) affinity: Affinity,
    pub(in crate::gateway) stuck: Option<StickyOutcome>,
}
