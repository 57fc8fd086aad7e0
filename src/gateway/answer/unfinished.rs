//! Why an answer did not reach its end.

use std::io;

use crate::gateway::message::InvalidHead;

/// Why an answer is not whole.
#[derive(Debug)]
pub(in crate::gateway) enum Unfinished {
    /// The client did not take it.
    Client(io::Error),
    /// The source ended before the length it had said.
    CutShort,
    /// The head could not be sent.
    Head(InvalidHead),
}

impl From<io::Error> for Unfinished {
    fn from(error: io::Error) -> Self {
        Self::Client(error)
    }
}

impl From<InvalidHead> for Unfinished {
    fn from(invalid: InvalidHead) -> Self {
        Self::Head(invalid)
    }
}
