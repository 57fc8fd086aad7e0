//! What happens to the body of an answer on its way out.
//!
//! A stage takes pieces and gives pieces: it may hold back, change or end them. [`Stage`] is a closed enum and its list is
//! empty for most answers, which then cost one look. A new stage is a variant here, with its code in a file beside
//! [`keep`](super::keep), and is put into the list by whoever makes the [`AnswerPlan`](super::AnswerPlan).

use bytes::BytesMut;
use http::header;
use pingora::http::ResponseHeader;

use super::event::{Event, Flow};
use super::hook::Hook;
use super::keep::Keep;
#[cfg(test)]
use super::shout::Shout;
use crate::filter::Refusal;
use crate::gateway::message::{BodySize, has_no_body};

/// One thing that happens to a body.
pub(in crate::gateway) enum Stage {
    /// A last good answer is kept. Boxed: a small part of all answers is.
    Keep(Box<Keep>),
    /// A filter looks at the body, or changes it.
    Hook(Hook),
    /// Changes length, holds back and flushes, as a test wants it.
    #[cfg(test)]
    Shout(Shout),
}

/// The stages of one answer, in the order in which a piece meets them.
#[derive(Default)]
pub(super) struct Stages {
    list: Vec<Stage>,
    /// Some stage gives other bytes than it takes.
    changing: bool,
    /// Something came since the last flush.
    dirty: bool,
    ended: bool,
    /// What a filter said against the answer.
    refusal: Option<Box<Refusal>>,
    /// What came out of them and did not go yet; filled by changing ones only.
    pub(super) out: BytesMut,
}

impl Stage {
    /// A stage that keeps the answer.
    pub(super) fn keep(keep: Keep) -> Self {
        Self::Keep(Box::new(keep))
    }

    /// Whether it gives other bytes than it takes.
    fn changes(&self) -> bool {
        match self {
            Self::Keep(_) => false,
            Self::Hook(hook) => hook.changes(),
            #[cfg(test)]
            Self::Shout(_) => true,
        }
    }

    /// What the size of the body becomes.
    fn size(&self, size: BodySize) -> BodySize {
        match self {
            Self::Keep(_) => size,
            Self::Hook(hook) => match (hook.changes(), size) {
                (true, BodySize::Exactly(_)) => BodySize::Unknown,
                _ => size,
            },
            #[cfg(test)]
            Self::Shout(shout) => shout.size(size),
        }
    }

    /// Says in the head what becomes of the body; its length is taken care of.
    #[cfg_attr(
        not(test),
        expect(unused_variables, reason = "no stage has a word to say yet")
    )]
    fn change_head(&self, head: &mut ResponseHeader) {
        match self {
            Self::Keep(_) | Self::Hook(_) => {}
            #[cfg(test)]
            Self::Shout(shout) => shout.change_head(head),
        }
    }

    /// Takes what comes and gives `next` what goes on.
    fn take(&mut self, event: Event<'_>, next: &mut dyn FnMut(Event<'_>) -> Flow) -> Flow {
        match self {
            Self::Keep(keep) => {
                if let Event::Piece(piece) = event {
                    keep.add(piece);
                }
                next(event)
            }
            Self::Hook(hook) => hook.take(event, next),
            #[cfg(test)]
            Self::Shout(shout) => shout.take(event, next),
        }
    }
}

impl Stages {
    /// The stages of an answer with this status. A body is not changed where there is none, where a range was cut out
    /// of it (RFC 9110 §14.2: ranges are of what the upstream has), or behind an upgrade.
    pub(super) fn new(kept: Option<Stage>, mut changes: Vec<Stage>, status: u16) -> Self {
        if has_no_body(status, false) || status == 206 {
            changes.retain(|stage| !stage.changes());
        }
        let mut list = changes;
        if let Some(kept) = kept {
            list.insert(0, kept);
        }
        Self {
            changing: list.iter().any(Stage::changes),
            list,
            ..Self::default()
        }
    }

    /// Whether nothing happens to the body.
    pub(super) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Whether other bytes go out than come in.
    pub(super) fn changing(&self) -> bool {
        self.changing
    }

    /// Whether the body was ended by a stage: what follows is dropped.
    pub(super) fn ended(&self) -> bool {
        self.ended
    }

    /// What the size of the body becomes.
    pub(super) fn size(&self, size: BodySize) -> BodySize {
        let each = self.list.iter();
        each.fold(size, |size, stage| stage.size(size))
    }

    /// Says in the head what becomes of the body. A length is not told where it is another one.
    pub(super) fn change_head(&self, head: &mut ResponseHeader) {
        if self.changing {
            head.remove_header(&header::CONTENT_LENGTH);
        }
        for stage in &self.list {
            stage.change_head(head);
        }
    }

    /// Shows stages that change nothing what is about to be sent, though not all of it need go at once.
    pub(super) fn look(&mut self, front: &[u8]) {
        for stage in &mut self.list {
            match stage {
                Stage::Keep(keep) => keep.look(front),
                Stage::Hook(hook) => hook.look(front),
                #[cfg(test)]
                Stage::Shout(_) => {}
            }
        }
        self.note_refusal();
    }

    /// So many bytes of what was looked at went.
    pub(super) fn sent(&mut self, bytes: usize) {
        for stage in &mut self.list {
            match stage {
                Stage::Keep(keep) => keep.sent(bytes),
                Stage::Hook(hook) => hook.sent(bytes),
                #[cfg(test)]
                Stage::Shout(_) => {}
            }
        }
    }

    /// Puts a piece through.
    pub(super) fn push(&mut self, piece: &[u8]) {
        self.dirty = true;
        if !self.ended {
            self.run(Event::Piece(piece));
        }
    }

    /// Gets out what need not be held back.
    pub(super) fn flush(&mut self) {
        if std::mem::take(&mut self.dirty) && !self.ended {
            self.run(Event::Flush);
        }
    }

    /// The body is whole: gets out all that is held back, and keeps what is kept, unless a filter says something against it.
    pub(super) fn finish(&mut self) {
        self.run(Event::Finish);
        if self.is_refused() {
            return;
        }
        for stage in self.list.drain(..) {
            match stage {
                Stage::Keep(keep) => keep.finish(),
                Stage::Hook(_) => {}
                #[cfg(test)]
                Stage::Shout(_) => {}
            }
        }
    }

    /// Whether a filter said something against the answer: nothing more of it goes.
    pub(super) fn is_refused(&self) -> bool {
        self.refusal.is_some()
    }

    /// What a filter said against the answer.
    pub(super) fn take_refusal(&mut self) -> Option<Refusal> {
        self.refusal.take().map(|refusal| *refusal)
    }

    /// Looks whether a filter has just said something against the answer.
    fn note_refusal(&mut self) {
        let mut said = self.list.iter_mut().filter_map(|stage| match stage {
            Stage::Hook(hook) => hook.take_refusal(),
            _ => None,
        });
        if let Some(refusal) = said.next() {
            self.refusal.get_or_insert(refusal);
            self.ended = true;
        }
    }

    fn run(&mut self, event: Event<'_>) {
        let flow = pass(&mut self.list, event, &mut self.out);
        self.ended |= flow == Flow::Ended;
        self.note_refusal();
    }
}

/// Gives the first stage what comes, and the rest what it gives.
fn pass(stages: &mut [Stage], event: Event<'_>, out: &mut BytesMut) -> Flow {
    match (stages.split_first_mut(), event) {
        (Some((first, rest)), event) => first.take(event, &mut |event| pass(rest, event, out)),
        (None, Event::Piece(piece)) => {
            out.extend_from_slice(piece);
            Flow::On
        }
        (None, Event::Flush | Event::Finish) => Flow::On,
    }
}
