//! Keeping an answer on its way: the stage behind `last_good` of a fallback.

use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::degrade::{Asked, LastGood, LastGoodWriter};
use crate::primitives::clock::Clock;

/// An answer that may be kept, while its head is not known.
pub(in crate::gateway) struct KeepPlan<'a> {
    /// Where the answers of its route are kept.
    pub(in crate::gateway) store: &'a Arc<LastGood>,
    /// What the answer depends on.
    pub(in crate::gateway) asked: Asked<'a>,
    /// The clock that ages are counted by.
    pub(in crate::gateway) clock: Clock,
}

/// An answer being kept. Dropped before its end it is forgotten.
pub(in crate::gateway) struct Keep {
    store: Arc<LastGood>,
    keeping: LastGoodWriter,
    clock: Clock,
}

impl KeepPlan<'_> {
    /// Begins with the fields as the upstream gave them; `None` when the answer may not be kept, see [`LastGood::begin`].
    pub(super) fn begin(&self, fields: &HeaderMap) -> Option<Keep> {
        let fields = fields.iter();
        let fields: Vec<(HeaderName, HeaderValue)> = fields
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        let keeping = self.store.begin(&self.asked, &fields, self.clock.now())?;
        Some(Keep {
            store: Arc::clone(self.store),
            keeping,
            clock: self.clock,
        })
    }
}

impl Keep {
    /// Takes a piece.
    pub(super) fn add(&mut self, piece: &[u8]) {
        self.keeping.add(piece);
    }

    /// Takes what is about to be sent, but for what of it was taken before: not all of it need go at once.
    pub(super) fn look(&mut self, front: &[u8]) {
        self.keeping.look(front);
    }

    /// So many bytes of what was looked at went.
    pub(super) fn sent(&mut self, bytes: usize) {
        self.keeping.sent(bytes);
    }

    /// The answer came whole.
    pub(super) fn finish(self) {
        self.store.keep(self.keeping, self.clock.now());
    }
}
