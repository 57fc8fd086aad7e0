//! What was read of a request body, for another try.

use bytes::{Bytes, BytesMut};

/// A copy of what was read of a request body.
pub(crate) struct Replay {
    bytes: BytesMut,
    /// There was more than is kept; it cannot be sent again.
    truncated: bool,
    /// The body as it was buffered: kept anyway, whatever its length.
    buffered: Option<Bytes>,
}

/// Most that is kept of a body that was not buffered, as the framework's own session keeps.
const KEPT: usize = 64 << 10;

impl Replay {
    /// Nothing was read. Unless it is `wanted` nothing will be kept.
    pub(crate) fn new(wanted: bool) -> Self {
        Self {
            bytes: BytesMut::new(),
            truncated: !wanted,
            buffered: None,
        }
    }

    /// Adds a piece; `buffered` is the whole body when it had been read before it was forwarded.
    pub(crate) fn add(&mut self, piece: &Bytes, buffered: Option<Bytes>) {
        if buffered.is_some() {
            self.buffered = buffered;
            self.truncated = false;
        } else if self.bytes.len() + piece.len() > KEPT {
            self.truncated = true;
        } else if !self.truncated {
            self.bytes.extend_from_slice(piece);
        }
    }

    /// The same for a try beside the first, if all that was read is kept.
    pub(crate) fn again(&self) -> Option<Self> {
        self.whole().then(|| Self {
            bytes: self.bytes.clone(),
            truncated: false,
            buffered: self.buffered.clone(),
        })
    }

    /// Whether all that was read is kept.
    pub(crate) fn whole(&self) -> bool {
        !self.truncated
    }

    /// What was read, if it is all kept and not nothing.
    pub(crate) fn bytes(&self) -> Option<Bytes> {
        if self.truncated {
            return None;
        }
        let copied = (!self.bytes.is_empty()).then(|| Bytes::copy_from_slice(&self.bytes));
        self.buffered.clone().or(copied)
    }
}
