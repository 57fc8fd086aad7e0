//! What was read of a request body, for another try.

use bytes::{Bytes, BytesMut};

/// A copy of what was read of a request body.
pub(crate) struct Replay {
    /// The body, or how it begins, as it was buffered: kept anyway, whatever its length.
    buffered: Option<Bytes>,
    /// What followed.
    bytes: BytesMut,
    /// There was more than is kept; it cannot be sent again.
    truncated: bool,
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

    /// Adds a piece; `buffered` is the same piece when it had been read before it was forwarded.
    pub(crate) fn add(&mut self, piece: &Bytes, buffered: Option<Bytes>) {
        if buffered.is_some() {
            self.buffered = buffered;
            self.truncated = false;
        } else if self.len() + piece.len() > KEPT {
            self.truncated = true;
        } else if !self.truncated {
            self.bytes.extend_from_slice(piece);
        }
    }

    fn len(&self) -> usize {
        self.buffered.as_ref().map_or(0, Bytes::len) + self.bytes.len()
    }

    /// A replay for a try beside the first, if all that was read is kept.
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
        match &self.buffered {
            Some(all) if self.bytes.is_empty() => Some(all.clone()),
            Some(begin) => Some([&begin[..], &self.bytes].concat().into()),
            None => (!self.bytes.is_empty()).then(|| Bytes::copy_from_slice(&self.bytes)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(length: usize) -> Bytes {
        vec![b'x'; length].into()
    }

    #[test]
    fn what_was_read_is_kept_in_its_order_up_to_a_bound() {
        let mut replay = Replay::new(true);
        assert_eq!(replay.bytes(), None);
        for read in ["he", "l", "lo"] {
            replay.add(&Bytes::from_static(read.as_bytes()), None);
        }
        assert_eq!(replay.bytes().as_deref(), Some(&b"hello"[..]));
        let again = replay.again().expect("whole");
        replay.add(&piece(KEPT - 5), None);
        assert!(replay.whole());
        replay.add(&piece(1), None);
        assert!(!replay.whole() && replay.bytes().is_none() && replay.again().is_none());
        assert_eq!(again.bytes().as_deref(), Some(&b"hello"[..]));
        let mut unwanted = Replay::new(false);
        unwanted.add(&piece(1), None);
        assert!(!unwanted.whole());
    }

    #[test]
    fn what_follows_a_beginning_that_was_buffered_comes_behind_it() {
        let mut replay = Replay::new(true);
        let begin = Bytes::from_static(b"he");
        replay.add(&begin, Some(begin.clone()));
        replay.add(&Bytes::from_static(b"llo"), None);
        assert_eq!(replay.bytes().as_deref(), Some(&b"hello"[..]));
        let again = replay.again().and_then(|again| again.bytes());
        assert_eq!(again.as_deref(), Some(&b"hello"[..]));
        let mut long = Replay::new(false);
        let all = piece(2 * KEPT);
        long.add(&all, Some(all.clone()));
        assert_eq!(long.bytes(), Some(all));
        long.add(&piece(1), None);
        assert!(!long.whole());
    }
}
