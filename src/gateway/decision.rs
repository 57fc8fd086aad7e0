//! What becomes of a request once everybody was asked.

use std::sync::Arc;

use crate::filter::{Refusal, Reply};

/// What becomes of a request.
pub(super) enum Decision {
    Forward,
    /// The route's own answer.
    Answer(Arc<Reply>),
    /// A filter's answer, complete as it is.
    Done(Arc<Reply>),
    Refuse(Refusal),
}
