//! Following a request body: where it ends, and whether its chunks are written as every parser reads them.

use super::head::{Framing, is_token};

/// What is left of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BodyDecoder {
    /// Nothing: what follows belongs to the next request.
    Done,
    /// So many bytes.
    Length(u64),
    /// Chunks.
    Chunked(Chunks),
    /// No HTTP any more: the connection was upgraded.
    Raw,
    /// The coding was malformed: where the body ends is not known any more, and nothing that follows is a request.
    Broken,
}

/// The chunked coding is malformed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

/// State within chunks (RFC 9112 §7.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Chunks {
    at: At,
    /// Bytes of extensions and trailers so far.
    extra: u32,
    /// Blanks may stand behind a size.
    blanks: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    /// Digits of a size: how many, and their value.
    Size { digits: u8, value: u64 },
    /// Blanks behind a size.
    Blanks { size: u64, seen: u8 },
    /// Behind a size, up to CR.
    Extension { size: u64 },
    /// LF of a size line.
    SizeEnd { size: u64 },
    /// Data.
    Data { left: u64 },
    /// CR behind data.
    DataCr,
    /// LF behind data.
    DataLf,
    /// First byte of a trailer line.
    TrailerStart,
    /// Within the name of a trailer.
    TrailerName,
    /// Behind its colon.
    Trailer,
    /// LF of a trailer line.
    TrailerLf,
    /// LF of the empty line.
    LastLf,
}

/// Most bytes of chunk extensions and trailers in one body.
const MOST_EXTRA: u32 = 16 << 10;
/// Most blanks behind a size: whoever pads it pads it to the width of a number.
const MOST_BLANKS: u8 = 32;

impl BodyDecoder {
    /// The guard for a body framed so.
    pub(crate) fn new(framing: Framing) -> Self {
        match framing {
            Framing::None => Self::Done,
            Framing::Length(length) => Self::Length(length),
            Framing::Chunked => Self::Chunked(Chunks {
                at: At::Size {
                    digits: 0,
                    value: 0,
                },
                extra: 0,
                blanks: false,
            }),
        }
    }

    /// A guard of an answer's body: some origins pad the sizes of their chunks to one width. That has one meaning, and is
    /// not passed on; in a request nobody needs it.
    pub(crate) fn of_answer(framing: Framing) -> Self {
        match Self::new(framing) {
            Self::Chunked(chunks) => Self::Chunked(Chunks {
                blanks: true,
                ..chunks
            }),
            other => other,
        }
    }

    /// Follows `bytes`: how many of them belong to this body. `data` is shown the payload in them.
    pub(crate) fn admit(
        &mut self,
        bytes: &[u8],
        data: impl FnMut(&[u8]),
    ) -> Result<usize, Malformed> {
        self.admit_section(bytes, data, |_| {})
    }

    /// Follows `bytes` like [`Self::admit`]; `section` is shown the lines of a trailer section as well, but for the empty one
    /// that ends it.
    pub(crate) fn admit_section(
        &mut self,
        bytes: &[u8],
        mut data: impl FnMut(&[u8]),
        section: impl FnMut(u8),
    ) -> Result<usize, Malformed> {
        match self {
            Self::Done => Ok(0),
            Self::Raw => Ok(bytes.len()),
            Self::Broken => Err(Malformed),
            Self::Length(left) => {
                let taken = bytes
                    .len()
                    .min(usize::try_from(*left).unwrap_or(usize::MAX));
                data(&bytes[..taken]);
                *left -= taken as u64;
                if *left == 0 {
                    *self = Self::Done;
                }
                Ok(taken)
            }
            Self::Chunked(chunks) => match chunks.follow(bytes, data, section) {
                Ok((taken, done)) => {
                    if done {
                        *self = Self::Done;
                    }
                    Ok(taken)
                }
                Err(malformed) => {
                    *self = Self::Broken;
                    Err(malformed)
                }
            },
        }
    }
}

/// Bodies whose payload is taken where it lies, piece by piece.
impl BodyDecoder {
    /// Follows what frames the payload at the front of `bytes`: how many of them. Ends before payload, before a trailer
    /// section, and behind the body.
    pub(crate) fn skip_frame(&mut self, bytes: &[u8]) -> Result<usize, Malformed> {
        match self {
            Self::Chunked(chunks) => {
                let skipped = chunks.skip_frame(bytes);
                if skipped.is_err() {
                    *self = Self::Broken;
                }
                skipped
            }
            Self::Broken => Err(Malformed),
            Self::Done | Self::Length(_) | Self::Raw => Ok(0),
        }
    }

    /// How many bytes of payload come next, as far as it is known.
    pub(crate) fn payload(&self) -> u64 {
        match self {
            Self::Length(left) => *left,
            Self::Raw => u64::MAX,
            Self::Chunked(Chunks {
                at: At::Data { left },
                ..
            }) => *left,
            Self::Done | Self::Chunked(_) | Self::Broken => 0,
        }
    }

    /// Whether all of the payload went past: nothing but a trailer section may follow.
    pub(crate) fn payload_ended(&self) -> bool {
        match self {
            Self::Done => true,
            Self::Chunked(chunks) => chunks.at == At::TrailerStart,
            Self::Length(_) | Self::Raw | Self::Broken => false,
        }
    }

    /// So many bytes of [payload](Self::payload) went past.
    pub(crate) fn passed(&mut self, bytes: usize) {
        match self {
            Self::Length(left) => {
                *left = left.saturating_sub(bytes as u64);
                if *left == 0 {
                    *self = Self::Done;
                }
            }
            Self::Chunked(chunks) => chunks.passed(bytes),
            Self::Done | Self::Raw | Self::Broken => {}
        }
    }
}

impl Chunks {
    fn skip_frame(&mut self, bytes: &[u8]) -> Result<usize, Malformed> {
        for (index, byte) in bytes.iter().enumerate() {
            if let At::Data { .. } | At::TrailerStart = self.at {
                return Ok(index);
            }
            // The end is behind the trailer section.
            self.step(*byte)?;
        }
        Ok(bytes.len())
    }

    fn passed(&mut self, bytes: usize) {
        if let At::Data { left } = self.at {
            self.at = match left.saturating_sub(bytes as u64) {
                0 => At::DataCr,
                left => At::Data { left },
            };
        }
    }

    fn follow(
        &mut self,
        bytes: &[u8],
        mut data: impl FnMut(&[u8]),
        mut section: impl FnMut(u8),
    ) -> Result<(usize, bool), Malformed> {
        let mut index = 0;
        while index < bytes.len() {
            if let At::Data { left } = self.at {
                let taken = (bytes.len() - index).min(usize::try_from(left).unwrap_or(usize::MAX));
                data(&bytes[index..index + taken]);
                index += taken;
                let left = left - taken as u64;
                self.at = if left == 0 {
                    At::DataCr
                } else {
                    At::Data { left }
                };
                continue;
            }
            let ends_line = self.at == At::TrailerLf;
            let done = self.step(bytes[index])?;
            if ends_line || matches!(self.at, At::TrailerName | At::Trailer | At::TrailerLf) {
                section(bytes[index]);
            }
            index += 1;
            if done {
                return Ok((index, true));
            }
        }
        Ok((index, false))
    }

    /// One byte outside data; `true` behind the last.
    fn step(&mut self, byte: u8) -> Result<bool, Malformed> {
        self.at = match (self.at, byte) {
            (At::Size { digits, value }, _) if byte.is_ascii_hexdigit() => {
                let digit = u64::from(char::from(byte).to_digit(16).unwrap_or(0));
                // Sixteen digits would reach the sign bit of whoever counts in 64 bits.
                if digits >= 15 {
                    return Err(Malformed);
                }
                At::Size {
                    digits: digits + 1,
                    value: value * 16 + digit,
                }
            }
            (At::Size { digits: 0, .. }, _) => return Err(Malformed),
            (At::Size { value, .. }, b'\r') => At::SizeEnd { size: value },
            (At::Size { value, .. }, b';') => At::Extension { size: value },
            (At::Size { value: size, .. }, b' ' | b'\t') if self.blanks => {
                At::Blanks { size, seen: 1 }
            }
            (At::Blanks { size, seen }, b' ' | b'\t') if seen < MOST_BLANKS => {
                let seen = seen + 1;
                At::Blanks { size, seen }
            }
            (At::Blanks { size, .. }, b'\r') => At::SizeEnd { size },
            (At::Blanks { size, .. }, b';') => At::Extension { size },
            (At::Extension { size }, b'\r') => At::SizeEnd { size },
            (At::Extension { .. } | At::Trailer, b'\t' | 0x20..=0x7e | 0x80..) => {
                self.count()?;
                self.at
            }
            (At::SizeEnd { size: 0 }, b'\n') => At::TrailerStart,
            (At::SizeEnd { size }, b'\n') => At::Data { left: size },
            (At::DataCr, b'\r') => At::DataLf,
            (At::DataLf, b'\n') => At::Size {
                digits: 0,
                value: 0,
            },
            (At::TrailerStart, b'\r') => At::LastLf,
            // Neither a fold nor an empty name.
            (At::TrailerStart | At::TrailerName, _) if is_token(byte) => {
                self.count()?;
                At::TrailerName
            }
            (At::TrailerName, b':') => At::Trailer,
            (At::Trailer, b'\r') => At::TrailerLf,
            (At::TrailerLf, b'\n') => At::TrailerStart,
            (At::LastLf, b'\n') => return Ok(true),
            _ => return Err(Malformed),
        };
        Ok(false)
    }

    fn count(&mut self) -> Result<(), Malformed> {
        self.extra += 1;
        if self.extra > MOST_EXTRA {
            Err(Malformed)
        } else {
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(bytes: &[u8], step: usize) -> Result<(usize, Vec<u8>, bool), Malformed> {
        let mut guard = BodyDecoder::new(Framing::Chunked);
        let (mut taken, mut payload) = (0, Vec::new());
        for piece in bytes.chunks(step) {
            taken += guard.admit(piece, |data| payload.extend_from_slice(data))?;
        }
        Ok((taken, payload, guard == BodyDecoder::Done))
    }

    #[test]
    fn ends_exactly_where_the_body_ends() {
        let body = b"4\r\nWiki\r\n5;x=\"y\"\r\npedia\r\n0\r\nTrailer: v\r\n\r\nGET /";
        for step in 1..body.len() {
            let (taken, payload, done) = read(body, step).expect("well formed");
            assert_eq!(
                (taken, payload.as_slice(), done),
                (body.len() - 5, &b"Wikipedia"[..], true)
            );
        }
        let mut guard = BodyDecoder::new(Framing::Length(3));
        assert_eq!(guard.admit(b"abcdef", |_| {}), Ok(3));
        assert_eq!(guard, BodyDecoder::Done);
    }

    #[test]
    fn refuses_chunks_that_two_parsers_read_differently() {
        for body in [
            &b"\r\n"[..],
            b"+4\r\nWiki\r\n",
            b"0x4\r\nWiki\r\n",
            b" 4\r\nWiki\r\n",
            b"4 \r\nWiki\r\n",
            b"4_0\r\n",
            b"4\nWiki\r\n",
            b"4\r\nWikiX",
            b"4\r\nWiki\n",
            b"4\r\nWiki\rX",
            b"g\r\n",
            b"ffffffffffffffff\r\n",
            b"4;a\nb\r\n",
            b"4;a\x00\r\n",
            b"0\r\n\n",
            b"0\r\n fold\r\n\r\n",
            b"0\r\n: v\r\n\r\n",
            b"0\r\nno colon\r\n\r\n",
            b"0\r\nname\r\n\r\n",
            b"0\r\na b: v\r\n\r\n",
        ] {
            assert_eq!(read(body, 1), Err(Malformed), "{body:?}");
            assert_eq!(read(body, 64), Err(Malformed), "{body:?}");
        }
        let long = [b"1;".to_vec(), vec![b'x'; MOST_EXTRA as usize + 1]].concat();
        assert_eq!(read(&long, 4096), Err(Malformed));
    }

    #[test]
    fn payload_is_taken_where_it_lies_and_the_trailer_section_is_left() {
        let body = b"4\r\nWiki\r\n5;x=\"y\"\r\npedia\r\n0\r\nTrailer: v\r\n\r\nHTTP/";
        for step in 1..body.len() {
            let mut guard = BodyDecoder::new(Framing::Chunked);
            let (mut payload, mut front, mut end) = (Vec::new(), 0, step);
            while !guard.payload_ended() {
                front += guard.skip_frame(&body[front..end]).expect("well formed");
                let here = (end - front).min(guard.payload() as usize);
                payload.extend_from_slice(&body[front..front + here]);
                guard.passed(here);
                front += here;
                end = (end + step).min(body.len());
            }
            assert_eq!((payload.as_slice(), front), (&b"Wikipedia"[..], 28));
            assert_eq!(guard.admit(&body[front..], |_| {}), Ok(14));
            assert_eq!(guard, BodyDecoder::Done);
        }
        let mut guard = BodyDecoder::new(Framing::Chunked);
        assert_eq!(guard.skip_frame(b"1\nx"), Err(Malformed));
        assert_eq!(guard, BodyDecoder::Broken);
        assert!(!guard.payload_ended() && guard.payload() == 0);
    }

    #[test]
    fn blanks_behind_a_size_are_read_in_an_answer() {
        let read = |body: &[u8]| {
            let mut guard = BodyDecoder::of_answer(Framing::Chunked);
            let mut payload = Vec::new();
            let taken = guard.admit(body, |data| payload.extend_from_slice(data));
            taken.map(|_| (payload, guard == BodyDecoder::Done))
        };
        for body in [
            &b"4 \r\nWiki\r\n0\r\n\r\n"[..],
            b"4   \t\r\nWiki\r\n0  \r\n\r\n",
            b"4 ;a=b\r\nWiki\r\n0\r\n\r\n",
        ] {
            assert_eq!(read(body), Ok((b"Wiki".to_vec(), true)), "{body:?}");
        }
        for body in [
            &b" 4\r\nWiki\r\n"[..],
            b"\t4\r\nWiki\r\n",
            b"4 0\r\nWiki\r\n",
            b" \r\n",
            b"4 \n",
        ] {
            assert_eq!(read(body), Err(Malformed), "{body:?}");
        }
        let padded = [b"1".to_vec(), vec![b' '; usize::from(MOST_BLANKS) + 1]].concat();
        assert_eq!(read(&padded), Err(Malformed), "and bounded");
    }

    #[test]
    fn what_follows_a_malformed_chunk_is_never_the_end() {
        let mut guard = BodyDecoder::new(Framing::Chunked);
        assert_eq!(guard.admit(b"1\r\nx?", |_| {}), Err(Malformed));
        assert_eq!(guard.admit(b"\r\n0\r\n\r\n", |_| {}), Err(Malformed));
        assert_eq!(guard, BodyDecoder::Broken);
    }

    proptest! {
        #[test]
        fn any_chunking_of_any_payload_is_read_back(
            chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..50), 0..8),
            step in 1usize..40,
        ) {
            let mut body = Vec::new();
            for chunk in &chunks {
                body.extend(format!("{:x}\r\n", chunk.len()).bytes());
                body.extend(chunk);
                body.extend(b"\r\n");
            }
            body.extend(b"0\r\n\r\n");
            let (taken, payload, done) = read(&body, step).expect("well formed");
            prop_assert_eq!((taken, payload, done), (body.len(), chunks.concat(), true));
        }

        #[test]
        fn never_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = read(&bytes, 7);
        }
    }
}
