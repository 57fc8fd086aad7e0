//! Blocks of fields among the frames that a client sends (RFC 9113 §4.1, §6.2, §6.10).

use super::fields::{Found, Table};

/// Follows the frames of one connection.
pub(super) struct Blocks {
    /// Bytes of the preface that are still to come.
    preface: usize,
    at: At,
    /// What came of a frame's head or of a block that came in pieces.
    gathered: Vec<u8>,
    /// Where the frame begins that `gathered` ends with.
    begun: usize,
    table: Table,
    /// The newest stream that a client began.
    newest: u32,
    most: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    /// Within the head of a frame, of which so many bytes came.
    Head([u8; HEAD], usize),
    /// Within a frame that holds no fields: so many bytes are left.
    Other(usize),
    /// Within one that does.
    Fields(Frame, usize),
    /// Nothing that comes makes sense any more.
    Lost,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Frame {
    kind: u8,
    flags: u8,
    stream: u32,
}

/// What is wrong with a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flaw {
    /// The path of its request has a fragment.
    Fragment(u32),
    /// There are pseudo-fields in its trailers (RFC 9113 §8.1).
    Trailers(u32),
    /// With all of them: blocks cannot be followed any more.
    Lost,
}

const PREFACE: usize = 24;
const HEAD: usize = 9;
const HEADERS: u8 = 1;
const CONTINUATION: u8 = 9;
const END_HEADERS: u8 = 4;
const PADDED: u8 = 8;
const PRIORITY: u8 = 0x20;

impl Blocks {
    /// A connection of which nothing came yet; a block has so many bytes at most.
    pub(super) fn new(most: usize) -> Self {
        Self {
            preface: PREFACE,
            at: At::Head([0; HEAD], 0),
            gathered: Vec::new(),
            begun: 0,
            table: Table::default(),
            newest: 0,
            most,
        }
    }

    /// Follows bytes that came; `tell` hears what is wrong in them.
    pub(super) fn follow(&mut self, mut bytes: &[u8], mut tell: impl FnMut(Flaw)) {
        let skipped = self.preface.min(bytes.len());
        self.preface -= skipped;
        bytes = &bytes[skipped..];
        while !bytes.is_empty() {
            match &mut self.at {
                At::Lost => return,
                At::Other(left) => {
                    let passed = bytes.len().min(*left);
                    *left -= passed;
                    bytes = &bytes[passed..];
                    if *left == 0 {
                        self.at = At::Head([0; HEAD], 0);
                    }
                }
                At::Head(head, came) => {
                    let taken = bytes.len().min(HEAD - *came);
                    head[*came..*came + taken].copy_from_slice(&bytes[..taken]);
                    *came += taken;
                    bytes = &bytes[taken..];
                    if *came == HEAD {
                        let head = *head;
                        self.begin(&head, &mut tell);
                    }
                }
                At::Fields(frame, left) => {
                    let (frame, taken) = (*frame, bytes.len().min(*left));
                    *left -= taken;
                    let whole = *left == 0;
                    let (piece, rest) = bytes.split_at(taken);
                    bytes = rest;
                    self.piece(frame, piece, whole, &mut tell);
                }
            }
        }
    }

    fn begin(&mut self, head: &[u8; HEAD], tell: &mut impl FnMut(Flaw)) {
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let frame = Frame {
            kind: head[3],
            flags: head[4],
            stream: u32::from_be_bytes([head[5] & 0x7f, head[6], head[7], head[8]]),
        };
        self.at = match frame.kind {
            HEADERS | CONTINUATION => At::Fields(frame, length),
            _ if length == 0 => At::Head([0; HEAD], 0),
            _ => At::Other(length),
        };
        if matches!(self.at, At::Fields(_, 0)) {
            self.piece(frame, &[], true, tell);
        }
    }

    fn piece(&mut self, frame: Frame, piece: &[u8], whole: bool, tell: &mut impl FnMut(Flaw)) {
        if self.gathered.len() + piece.len() > self.most {
            return self.lose(tell);
        }
        let ends = whole && frame.flags & END_HEADERS != 0;
        // Most blocks come in one piece, and need not be gathered.
        if ends && self.gathered.is_empty() {
            self.at = At::Head([0; HEAD], 0);
            return match content(frame, piece) {
                Some(block) => self.block(frame, block, tell),
                None => self.lose(tell),
            };
        }
        self.gathered.extend_from_slice(piece);
        if !whole {
            return;
        }
        self.at = At::Head([0; HEAD], 0);
        let begun = self.begun;
        let Some(content) = content(frame, &self.gathered[begun..]).map(<[u8]>::len) else {
            return self.lose(tell);
        };
        // What stands before the fields and behind them goes.
        let start = before_fields(frame);
        self.gathered
            .copy_within(begun + start..begun + start + content, begun);
        self.gathered.truncate(begun + content);
        self.begun = self.gathered.len();
        if ends {
            let gathered = std::mem::take(&mut self.gathered);
            self.begun = 0;
            self.block(frame, &gathered, tell);
        }
    }

    fn block(&mut self, frame: Frame, block: &[u8], tell: &mut impl FnMut(Flaw)) {
        let Ok(Found { pseudo, fragment }) = self.table.read(block) else {
            return self.lose(tell);
        };
        let stream = frame.stream;
        if stream > self.newest {
            self.newest = stream;
            if fragment {
                tell(Flaw::Fragment(stream));
            }
        } else if pseudo {
            tell(Flaw::Trailers(stream));
        }
    }

    fn lose(&mut self, tell: &mut impl FnMut(Flaw)) {
        self.at = At::Lost;
        self.gathered = Vec::new();
        tell(Flaw::Lost);
    }
}

/// Bytes of a frame before its fields.
fn before_fields(Frame { kind, flags, .. }: Frame) -> usize {
    match kind {
        HEADERS => usize::from(flags & PADDED != 0) + if flags & PRIORITY != 0 { 5 } else { 0 },
        _ => 0,
    }
}

/// The fields of a frame; `None` when there is more padding than frame.
fn content(frame: Frame, payload: &[u8]) -> Option<&[u8]> {
    let padded = frame.kind == HEADERS && frame.flags & PADDED != 0;
    let padding = if padded { *payload.first()? } else { 0 };
    let end = payload.len().checked_sub(padding.into())?;
    payload.get(before_fields(frame)..end)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let length = (payload.len() as u32).to_be_bytes();
        let stream = stream.to_be_bytes();
        [&length[1..], &[kind, flags], &stream, payload].concat()
    }

    fn flaws(frames: &[Vec<u8>], step: usize) -> Vec<Flaw> {
        let bytes = [vec![0; PREFACE], frames.concat()].concat();
        let (mut blocks, mut flaws) = (Blocks::new(1000), Vec::new());
        for piece in bytes.chunks(step) {
            blocks.follow(piece, |flaw| flaws.push(flaw));
        }
        flaws
    }

    fn path(path: &str) -> Vec<u8> {
        [&[0x82, 0x04, path.len() as u8], path.as_bytes()].concat()
    }

    #[test]
    fn a_fragment_is_seen_and_pseudo_fields_in_trailers() {
        let trailers = [&[0x00, 3][..], b"x-t", &[1], b"v"].concat();
        let padded = [&[2][..], &[0, 0, 0, 0, 16], &path("/a#b"), &[0, 0]].concat();
        let frames = [
            frame(4, 0, 0, &[]),
            frame(HEADERS, END_HEADERS, 1, &path("/a")),
            frame(0, 0, 1, b"body"),
            frame(HEADERS, END_HEADERS, 1, &trailers),
            frame(HEADERS, END_HEADERS | PADDED | PRIORITY, 3, &padded),
            frame(HEADERS, 0, 5, &path("/a#b")[..3]),
            frame(CONTINUATION, 0, 5, &[]),
            frame(CONTINUATION, END_HEADERS, 5, &path("/a#b")[3..]),
            frame(HEADERS, END_HEADERS, 5, &[0x82]),
        ];
        for step in [1, 2, 7, 1000] {
            assert_eq!(
                flaws(&frames, step),
                [Flaw::Fragment(3), Flaw::Fragment(5), Flaw::Trailers(5)],
                "{step}"
            );
        }
    }

    #[test]
    fn what_cannot_be_followed_is_lost_once() {
        let long = vec![0x82; 600];
        for frames in [
            vec![frame(HEADERS, END_HEADERS, 1, &[0x80])],
            vec![frame(HEADERS, END_HEADERS | PADDED, 1, &[9, 0x82])],
            vec![
                frame(HEADERS, 0, 1, &long),
                frame(CONTINUATION, 0, 1, &long),
            ],
        ] {
            let frames = [frames, vec![frame(HEADERS, END_HEADERS, 3, &[0x82])]].concat();
            assert_eq!(flaws(&frames, 1), [Flaw::Lost], "{frames:?}");
            assert_eq!(flaws(&frames, 1000), [Flaw::Lost]);
        }
    }
}
