//! HTTP/1 framing, read strictly before the framework sees it.
//!
//! The codec underneath is lenient where two parsers could disagree (attacks.md §1). So the head is examined as raw
//! bytes first, and the body is followed byte by byte on its way through: what is doubtful is refused, what belongs to
//! the next request is never handed on with this one.

pub(super) mod body;
pub(super) mod head;
