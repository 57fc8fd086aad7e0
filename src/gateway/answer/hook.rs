//! What filters see of an answer on its way: the stage of one hook.

use super::event::{Event, Flow};
use crate::filter::{Refusal, ResponseBodyHook};

/// A hook, and what it said against the answer.
pub(in crate::gateway) struct Hook {
    hook: Box<dyn ResponseBodyHook>,
    /// Bytes that it saw and that did not go yet.
    ahead: usize,
    refusal: Option<Box<Refusal>>,
}

impl Hook {
    /// A stage for a hook that has seen the head.
    pub(super) fn new(hook: Box<dyn ResponseBodyHook>) -> Self {
        Self {
            hook,
            ahead: 0,
            refusal: None,
        }
    }

    /// Whether it gives other bytes than it takes.
    pub(super) fn changes(&self) -> bool {
        self.hook.changes()
    }

    /// What it said against the answer.
    pub(super) fn take_refusal(&mut self) -> Option<Box<Refusal>> {
        self.refusal.take()
    }

    /// Takes what comes and gives `next` what goes on. What follows a refusal goes nowhere.
    pub(super) fn take(
        &mut self,
        event: Event<'_>,
        next: &mut dyn FnMut(Event<'_>) -> Flow,
    ) -> Flow {
        let (piece, end) = match event {
            Event::Piece(piece) => (piece, false),
            Event::Finish => (&[][..], true),
            Event::Flush => return next(Event::Flush),
        };
        if self.refusal.is_some() {
            return Flow::Ended;
        }
        let (mut flow, changes) = (Flow::On, self.changes());
        let said = self.hook.on_body(piece, end, &mut |given| {
            if changes && flow == Flow::On {
                flow = next(Event::Piece(given));
            }
        });
        if let Err(refusal) = said {
            self.refusal = Some(Box::new(refusal));
            return Flow::Ended;
        }
        match event {
            Event::Finish => next(Event::Finish),
            _ if changes => flow,
            event => next(event),
        }
    }

    /// Shows what is about to be sent, but for what of it was shown before: not all of it need go at once.
    pub(super) fn look(&mut self, front: &[u8]) {
        let unseen = front.get(self.ahead..).unwrap_or_default();
        if unseen.is_empty() || self.refusal.is_some() {
            return;
        }
        self.ahead = front.len();
        let said = self.hook.on_body(unseen, false, &mut |_| {});
        self.refusal = said.err().map(Box::new);
    }

    /// So many bytes of what was looked at went.
    pub(super) fn sent(&mut self, bytes: usize) {
        self.ahead = self.ahead.saturating_sub(bytes);
    }
}
