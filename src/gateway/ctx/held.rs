//! What a request holds of what is bounded.

use crate::gateway::overload::shed_permit::ShedPermit;
use crate::upstream::GatePermit;

/// What a request holds while it is served. Dropping it gives all of it back.
#[derive(Default)]
pub(in crate::gateway) struct RequestPermits {
    /// Proof that the gateway's own door let the request in.
    pub(in crate::gateway) door: Option<ShedPermit>,
    /// Place at the upstream of the current try.
    pub(in crate::gateway) place: Option<GatePermit>,
    /// The current try was told about.
    pub(in crate::gateway) told: bool,
}
