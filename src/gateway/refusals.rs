//! Refusals that several places give, each with one wording.

use std::time::Duration;

use super::auth_buffer;
use crate::filter::{Reason, Refusal};

/// Who meets an overload is told to come again after one to so many seconds.
const RETRY_AFTER: u64 = 3;
/// When to come back to a route that is off.
const COME_BACK: Duration = Duration::from_secs(30);

/// What stands in records of a client that left. It is told nothing.
pub(super) fn gone() -> Refusal {
    Refusal::new(Reason::ClientGone, "the client left")
}

/// The refusal of an exchange whose time is over.
pub(super) fn deadline() -> Refusal {
    Refusal::new(Reason::DeadlineExceeded, "the request took too long")
}

/// The refusal of a body that ended before its end.
pub(super) fn incomplete() -> Refusal {
    Refusal::new(Reason::BadRequest, "the body is incomplete")
}

/// The refusal of a body whose framing makes no sense.
pub(super) fn malformed() -> Refusal {
    Refusal::new(Reason::BadRequest, "the body is malformed")
}

/// The refusal of a body that paused for too long.
pub(super) fn slow() -> Refusal {
    Refusal::new(Reason::RequestTimeout, "the body took too long")
}

/// The refusal of a body that is longer than `most`.
pub(super) fn too_large(most: u64) -> Refusal {
    Refusal::new(
        Reason::BodyTooLarge,
        format!("the body may have {most} bytes"),
    )
}

/// The refusal of more than can be served now; `spread` keeps those who get it from coming again all at once.
pub(super) fn overloaded(spread: u64) -> Refusal {
    let wait = Duration::from_secs(1 + spread % RETRY_AFTER);
    Refusal::new(
        Reason::Overloaded,
        "more is asked for than can be served now",
    )
    .retry_after(wait)
}

/// The refusal of a body for which `server.auth_buffer` has no room.
pub(super) fn auth_buffer_full(spread: u64) -> Refusal {
    overloaded(spread).cause(auth_buffer::FULL)
}

/// The refusal of a route that is off.
pub(super) fn off() -> Refusal {
    Refusal::new(Reason::RouteOff, "the route is switched off").retry_after(COME_BACK)
}
