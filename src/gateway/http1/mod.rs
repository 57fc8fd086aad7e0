//! HTTP/1 towards the client, read strictly and written by ourselves.
//!
//! Where two parsers could disagree about where a message ends, it is refused: the head is judged as raw bytes, the body is
//! followed byte by byte.

pub(super) mod answer;
pub(super) mod body;
pub(super) mod connection;
pub(super) mod head;
pub(super) mod replay;
pub(super) mod wire;
