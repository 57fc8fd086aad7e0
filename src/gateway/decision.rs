//! What becomes of a request once everybody was asked.

use std::sync::Arc;

use crate::filter::{Reason, Refusal, Reply};

/// What becomes of a request.
pub(super) enum Decision {
    Forward,
    /// The route's own answer.
    Answer(Arc<Reply>),
    /// A filter's answer, complete as it is.
    Done(Arc<Reply>),
    Refuse(Refusal),
}

impl Decision {
    /// Whether a limit says no.
    pub(super) fn is_of_a_limit(&self) -> bool {
        let limits = [Reason::RateLimited, Reason::ConcurrencyLimited];
        matches!(self, Self::Refuse(refusal) if limits.contains(&refusal.reason))
    }
}
