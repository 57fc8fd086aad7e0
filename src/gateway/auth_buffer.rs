//! What all requests together keep of bodies that must be whole before it is known who sends them.
//!
//! A signature may cover the body, so it is kept before it can be trusted. Each is bounded by its route; all of them are
//! bounded here, by what is really kept and not by what heads announce: who announces much and sends nothing takes no
//! room from anybody. Bytes count until the last reader lets go of them, which is when the upstream has them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use bytes::Bytes;

use super::timers::AbortReason;

/// The log's and `explain`'s word for it.
pub(super) const FULL: &str = "server.auth_buffer is full";

/// Bytes that are kept now. Made once; outlives every reload.
#[derive(Debug, Default)]
pub struct AuthBuffer {
    kept: AtomicU64,
    refused: AtomicU64,
}

/// What one body takes of it; dropping it gives it back.
#[derive(Debug)]
pub(super) struct Room {
    buffer: Arc<AuthBuffer>,
    taken: u64,
    /// Most that all together may take.
    most: u64,
}

/// Why a piece of a body is not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Excess {
    /// The body is longer than allowed.
    TooLarge,
    /// So much is kept of other requests that there is no room for it.
    Full,
}

/// A body as far as it came.
#[derive(Debug)]
pub(super) struct Gathered {
    payload: Vec<u8>,
    /// What it will have, by its head or by its route: nothing is reserved beyond.
    expected: usize,
    most: usize,
    room: Room,
}

/// A first piece reserves so much at least: many small ones would move a body often.
const LEAST: usize = 4 << 10;

impl AuthBuffer {
    /// Room for one body while all together take at most `most` bytes.
    pub(super) fn room(self: &Arc<Self>, most: u64) -> Room {
        Room {
            buffer: Arc::clone(self),
            taken: 0,
            most,
        }
    }

    /// Bytes that are kept now.
    pub fn kept(&self) -> u64 {
        self.kept.load(Relaxed)
    }

    /// Bodies for which there was no room, since the start.
    pub fn refused(&self) -> u64 {
        self.refused.load(Relaxed)
    }
}

impl Room {
    /// Takes so many bytes more, or none.
    fn take(&mut self, bytes: usize) -> bool {
        let bytes = bytes as u64;
        let kept = &self.buffer.kept;
        let sum = |kept: u64| kept.checked_add(bytes).filter(|sum| *sum <= self.most);
        let taken = kept.fetch_update(Relaxed, Relaxed, sum).is_ok();
        if taken {
            self.taken += bytes;
        }
        taken
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.buffer.kept.fetch_sub(self.taken, Relaxed);
    }
}

impl Gathered {
    /// Nothing yet of a body that will have `expected` bytes, and must not have more than `most`.
    pub(super) fn new(expected: u64, most: u64, room: Room) -> Self {
        let size = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
        Self {
            payload: Vec::new(),
            expected: size(expected.min(most)),
            most: size(most),
            room,
        }
    }

    /// Adds a piece, if it may be and there is room.
    pub(super) fn add(&mut self, piece: &[u8]) -> Result<(), Excess> {
        let length = self.payload.len() + piece.len();
        if length > self.most {
            return Err(Excess::TooLarge);
        }
        if length > self.payload.capacity() && !self.grow(length) {
            self.room.buffer.refused.fetch_add(1, Relaxed);
            return Err(Excess::Full);
        }
        self.payload.extend_from_slice(piece);
        Ok(())
    }

    /// Reserves room for `length` bytes: twice what there was, so that a body is moved seldom, or what it needs where there
    /// is no more.
    fn grow(&mut self, length: usize) -> bool {
        let had = self.payload.capacity();
        let ample = (had * 2).max(LEAST).min(self.expected).max(length);
        let found = [ample, length]
            .into_iter()
            .find(|wanted| self.room.take(wanted - had));
        if let Some(wanted) = found {
            self.payload.reserve_exact(wanted - self.payload.len());
        }
        found.is_some()
    }

    /// The whole body, which gives its room back with the last of its clones.
    pub(super) fn into_bytes(self) -> Bytes {
        Bytes::from_owner(self)
    }
}

impl AsRef<[u8]> for Gathered {
    fn as_ref(&self) -> &[u8] {
        &self.payload
    }
}

/// Why a body could not be buffered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unbuffered {
    /// The body is longer than allowed.
    TooLarge,
    /// So much is kept of other requests that there is no room for it.
    Full,
    /// The body is malformed.
    Malformed,
    /// The client ended within it, and still reads.
    Incomplete,
    /// The client paused too long.
    TimedOut,
    /// The time of the exchange was over.
    Late,
    /// The client went away.
    Gone,
}

impl From<Excess> for Unbuffered {
    fn from(excess: Excess) -> Self {
        match excess {
            Excess::TooLarge => Self::TooLarge,
            Excess::Full => Self::Full,
        }
    }
}

impl From<Option<AbortReason>> for Unbuffered {
    fn from(fault: Option<AbortReason>) -> Self {
        match fault {
            Some(AbortReason::Framing) => Self::Malformed,
            Some(AbortReason::TooLarge) => Self::TooLarge,
            Some(AbortReason::Deadline) => Self::Late,
            Some(AbortReason::Incomplete) => Self::Incomplete,
            Some(_) => Self::TimedOut,
            None => Self::Gone,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_as_much_as_there_is_room_for_and_gives_it_back() {
        let buffer = Arc::new(AuthBuffer::default());
        let mut first = Gathered::new(10_000, 20_000, buffer.room(20_000));
        let mut second = Gathered::new(20_000, 20_000, buffer.room(20_000));
        assert_eq!(first.add(&[1; 10_000]), Ok(()));
        assert_eq!(buffer.kept(), 10_000, "no more than was announced");
        assert_eq!(second.add(&[2; 9_000]), Ok(()));
        assert_eq!(second.add(&[2; 1_000]), Ok(()), "exactly full");
        assert_eq!(second.add(&[2; 1]), Err(Excess::Full));
        assert_eq!((buffer.kept(), buffer.refused()), (20_000, 1));
        drop(second);
        let whole = first.into_bytes();
        let clone = whole.slice(1..3);
        drop(whole);
        assert_eq!(buffer.kept(), 10_000, "somebody has it still");
        drop(clone);
        assert_eq!(buffer.kept(), 0);
    }

    #[test]
    fn a_body_as_long_as_its_route_takes_fits_into_as_much() {
        let buffer = Arc::new(AuthBuffer::default());
        let mut body = Gathered::new(100_000, 100_000, buffer.room(100_000));
        for _ in 0..100 {
            assert_eq!(body.add(&[0; 1_000]), Ok(()));
        }
        assert_eq!(body.add(&[0]), Err(Excess::TooLarge));
        assert_eq!(buffer.kept(), 100_000);
        assert_eq!(body.into_bytes().len(), 100_000);
    }

    #[test]
    fn what_is_announced_takes_no_room() {
        let buffer = Arc::new(AuthBuffer::default());
        let body = Gathered::new(1 << 30, 1 << 30, buffer.room(1 << 20));
        assert_eq!(buffer.kept(), 0);
        drop(body);
    }
}
