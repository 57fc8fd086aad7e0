//! A stage that does all that stages may do, for tests.

use bytes::BytesMut;
use pingora::http::ResponseHeader;

use super::event::{Event, Flow};
use crate::gateway::message::BodySize;

/// Says each line in capitals with a `!` behind it. Holds back what is no line yet, until it is flushed; says `.` behind
/// the last. A NUL ends the body.
#[derive(Default)]
pub(in crate::gateway) struct Shout {
    held: BytesMut,
    /// The stage says beforehand how much it will say.
    exactly: Option<u64>,
}

impl Shout {
    /// One that says that it will say so many bytes.
    pub(super) fn exactly(bytes: u64) -> Self {
        Self {
            exactly: Some(bytes),
            ..Self::default()
        }
    }

    pub(super) fn size(&self, size: BodySize) -> BodySize {
        match (size, self.exactly) {
            (BodySize::Absent, _) => BodySize::Absent,
            (_, Some(bytes)) => BodySize::Exactly(bytes),
            (_, None) => BodySize::Unknown,
        }
    }

    pub(super) fn change_head(&self, head: &mut ResponseHeader) {
        let _ = head.insert_header("x-shouted", "1");
    }

    pub(super) fn take(
        &mut self,
        event: Event<'_>,
        next: &mut dyn FnMut(Event<'_>) -> Flow,
    ) -> Flow {
        let piece = match event {
            Event::Piece(piece) => piece,
            Event::Flush => {
                self.say(next);
                return next(Event::Flush);
            }
            Event::Finish => {
                self.say(next);
                next(Event::Piece(b"."));
                return next(Event::Finish);
            }
        };
        for byte in piece {
            match byte {
                b'\n' => {
                    self.held.extend_from_slice(b"!\n");
                    self.say(next);
                }
                0 => {
                    self.say(next);
                    return Flow::Ended;
                }
                byte => self.held.extend_from_slice(&[byte.to_ascii_uppercase()]),
            }
        }
        Flow::On
    }

    fn say(&mut self, next: &mut dyn FnMut(Event<'_>) -> Flow) {
        if !self.held.is_empty() {
            next(Event::Piece(&self.held.split()));
        }
    }
}
