//! Why an exchange is ended before its end.

/// Why an exchange was ended here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::gateway) enum AbortReason {
    /// The chunked coding is malformed.
    Framing,
    /// The client ended within its body, and still reads.
    Incomplete,
    /// The deadline of the exchange passed.
    Deadline,
    /// The client took nothing for too long.
    Stalled,
    /// The client paused too long within its body.
    Paused,
    /// The upstream said nothing for too long after it had the whole request.
    Silence,
    /// The body is longer than its route takes.
    TooLarge,
    /// A filter that sees the body on its way has something against it.
    Refused,
}
