//! What became of the policies of its route for one request.

use std::sync::Arc;

use super::{FailoverAffinity, Shadow};
use crate::filter::Reply;
use crate::observe::rollouts::{FallbackCalled, FallbackKind, SideStats};
use crate::primitives::level::Level;

/// What became of the policies of its route for one request.
#[derive(Default)]
pub(in crate::gateway) struct Path {
    /// The level when it came.
    pub(in crate::gateway) level: Level,
    /// The side it went to.
    pub(in crate::gateway) side: Option<Arc<SideStats>>,
    /// Somebody else answers.
    pub(in crate::gateway) failover: Option<Failover>,
    /// The copy that waits for the whole body.
    pub(in crate::gateway) shadow: Option<Box<Shadow>>,
    /// Where it belongs in the upstream of the fallback.
    pub(in crate::gateway) failover_affinity: Option<Box<FailoverAffinity>>,
}

/// Somebody else answers this request.
pub(in crate::gateway) struct Failover {
    /// Who.
    pub(in crate::gateway) kind: FallbackKind,
    /// Why.
    pub(in crate::gateway) called: FallbackCalled,
    /// The answer, while it is not given yet.
    pub(in crate::gateway) pending: Option<Arc<Reply>>,
}

impl Failover {
    /// Another upstream takes the request over.
    pub(in crate::gateway) fn upstream(called: FallbackCalled) -> Self {
        Self {
            kind: FallbackKind::Upstream,
            called,
            pending: None,
        }
    }
}
