//! Bodies as filters see them: piece by piece, on their way, and never as a whole.

use super::Refusal;

/// What sees the body of one request while it is sent on. A filter leaves one in [`FilterContext::body_hooks`]; it lives as
/// long as the request, so that what it has to remember from piece to piece is its own.
///
/// [`FilterContext::body_hooks`]: super::FilterContext::body_hooks
pub trait RequestBodyHook: Send {
    /// Sees the next piece, or with `end` that nothing follows; of a request without a body it sees nothing at all. Every
    /// byte is seen once, however often it is sent, and before it is sent: an `Err` ends the request, and the piece goes
    /// nowhere.
    fn on_body(&mut self, piece: &[u8], end: bool) -> Result<(), Refusal>;
}
