//! Bodies as filters see them: piece by piece, on their way, and never as a whole.

use pingora::http::ResponseHeader;

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

/// What sees one answer of an upstream on its way to the client, head first. A filter leaves one in
/// [`FilterContext::answer_hooks`]. The gateway's own answers have none.
///
/// [`FilterContext::answer_hooks`]: super::FilterContext::answer_hooks
pub trait ResponseBodyHook: Send + Sync {
    /// Whether other bytes go on than come. Such a hook is not asked about the body of a part of something (206).
    fn changes(&self) -> bool {
        false
    }

    /// Sees the head as the route's filters left it, before anything is sent, and how many bytes its body has; `None`:
    /// that shows at its end. Of an answer without a body, to HEAD or with 304, it is 0. An `Err` is answered in its place.
    fn on_head(&mut self, _head: &ResponseHeader, _length: Option<u64>) -> Result<(), Refusal> {
        Ok(())
    }

    /// Sees the next piece of the body, or with `end` that nothing follows. Every byte is seen once, and before it is sent.
    /// A hook that [changes](Self::changes) the body gives what goes on in place of it; of others the piece itself does. An
    /// `Err` ends the answer: the piece goes nowhere, and the client sees that something is missing.
    fn on_body(
        &mut self,
        piece: &[u8],
        end: bool,
        give: &mut dyn FnMut(&[u8]),
    ) -> Result<(), Refusal>;
}
