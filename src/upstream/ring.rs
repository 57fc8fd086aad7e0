//! Counts of the last while, in pieces: what is older than the ring is long falls out by itself.

use std::cmp::Ordering::{Equal, Greater, Less};

use crate::primitives::sync::atomic::{AtomicU64, Ordering};

/// Counts per piece of time in a ring; a slot is taken over by the piece that needs it. Piece and count are one number,
/// so that of several who find a slot of the past none starts it again when another has counted.
#[derive(Debug)]
pub(super) struct Ring {
    slots: Box<[AtomicU64]>,
}

/// The upper half of a slot is its piece, the lower its count.
const COUNT_BITS: u32 = 32;

impl Ring {
    /// A ring of so many pieces, nothing counted.
    pub(super) fn new(pieces: usize) -> Self {
        let slots = (0..pieces.max(1)).map(|_| AtomicU64::new(0));
        Self {
            slots: slots.collect(),
        }
    }

    /// Counts one.
    pub(super) fn up(&self, piece: u64) {
        let slot = self.slot(piece);
        if split(slot.load(Ordering::Acquire)).0 == piece {
            slot.fetch_add(1, Ordering::AcqRel);
            return;
        }
        // Whoever comes so late that the slot has gone on to another piece is not counted.
        let _ = slot.fetch_update(Ordering::AcqRel, Ordering::Acquire, |value| {
            match split(value).0.cmp(&piece) {
                Less => Some(piece << COUNT_BITS | 1),
                Equal => Some(value + 1),
                Greater => None,
            }
        });
    }

    /// Counts one if `allowed` says so, which is told the count of this piece and that of the others. Exact however many
    /// ask at once: all of them change the same slot, and whoever comes second asks again.
    pub(super) fn up_if(&self, piece: u64, allowed: impl Fn(u64, u64) -> bool) -> bool {
        let slot = self.slot(piece);
        let mut value = slot.load(Ordering::Relaxed);
        loop {
            let (of, count) = split(value);
            let (of, count) = if of < piece { (piece, 0) } else { (of, count) };
            if !allowed(count, self.others(of)) {
                return false;
            }
            let next = of << COUNT_BITS | (count + 1);
            match slot.compare_exchange_weak(value, next, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return true,
                Err(now) => value = now,
            }
        }
    }

    /// What was counted up to and with `piece`, as far as the ring reaches.
    pub(super) fn sum(&self, piece: u64) -> u64 {
        let values = self.slots.iter().map(|slot| slot.load(Ordering::Acquire));
        self.live(values, piece)
    }

    /// Forgets everything.
    pub(super) fn clear(&self) {
        for slot in &self.slots {
            slot.store(0, Ordering::Relaxed);
        }
    }

    /// What was counted before `piece`, as far as the ring reaches.
    fn others(&self, piece: u64) -> u64 {
        let own = (piece % self.slots.len() as u64) as usize;
        let slots = self.slots.iter().enumerate();
        let others = slots.filter(|(index, _)| *index != own);
        self.live(others.map(|(_, slot)| slot.load(Ordering::Acquire)), piece)
    }

    fn live(&self, values: impl Iterator<Item = u64>, piece: u64) -> u64 {
        let live = values
            .map(split)
            .filter(|(of, _)| of + self.slots.len() as u64 > piece);
        live.map(|(_, count)| count).sum()
    }

    fn slot(&self, piece: u64) -> &AtomicU64 {
        &self.slots[(piece % self.slots.len() as u64) as usize]
    }
}

/// Piece and count of a slot.
fn split(value: u64) -> (u64, u64) {
    (value >> COUNT_BITS, value & ((1 << COUNT_BITS) - 1))
}
