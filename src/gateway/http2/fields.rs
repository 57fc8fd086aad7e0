//! What a block of fields says that the codec does not hand on: whether pseudo-fields stand in trailers, and whether a path
//! has a fragment. Both are dropped where they are decoded, so they are looked for in the bytes.
//!
//! Fields refer to those of earlier blocks (RFC 7541), so every block of a connection is followed; of each field only its
//! kind and its length are kept. A block that makes no sense ends the connection in the codec.

use std::collections::VecDeque;

/// What stands in a block.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    /// A pseudo-field.
    pub(super) pseudo: bool,
    /// A path with a fragment.
    pub(super) fragment: bool,
}

/// The block makes no sense, or the next one would not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Lost;

/// Fields that later blocks may refer to, the newest first.
#[derive(Debug)]
pub(super) struct Table {
    fields: VecDeque<Kept>,
    size: usize,
    limit: usize,
}

/// A field as the table keeps it, small, since every connection may keep a hundred: lengths of what fits in there.
#[derive(Clone, Copy, Debug)]
struct Kept {
    kind: Kind,
    hash: bool,
    name: u16,
    value: u16,
}

#[derive(Clone, Copy, Debug)]
struct Field {
    name: Name,
    value: Value,
}

#[derive(Clone, Copy, Debug)]
struct Name {
    kind: Kind,
    length: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Path,
    /// Another pseudo-field.
    Pseudo,
    Plain,
}

#[derive(Clone, Copy, Debug, Default)]
struct Value {
    length: usize,
    hash: bool,
}

/// Most that fields to refer to may take (RFC 7541 §4.2): the default of the protocol, which the codec leaves as it is.
const MOST: usize = 4096;
/// What each of them takes besides its bytes (RFC 7541 §4.1).
const OVERHEAD: usize = 32;
/// `:path` as Huffman has it.
const PATH_CODED: [u8; 4] = [0xb9, 0x58, 0xd3, 0x3f];
/// Names of the static table (RFC 7541, appendix A): how long each is. The first fourteen are pseudo-fields.
const STATIC: [u8; 61] = [
    10, 7, 7, 5, 5, 7, 7, 7, 7, 7, 7, 7, 7, 7, 14, 15, 15, 13, 6, 27, 3, 5, 13, 13, 19, 16, 16, 14,
    16, 13, 12, 6, 4, 4, 6, 7, 4, 4, 8, 17, 13, 8, 19, 13, 4, 8, 12, 18, 19, 5, 7, 7, 11, 6, 10,
    25, 17, 10, 4, 3, 16,
];
/// How many codes of each length there are (RFC 7541, appendix B), from 5 bits to 30. The code is canonical: those of a
/// length follow each other, so that lengths alone tell where one ends.
const CODES: [u32; 26] = [
    10, 26, 32, 6, 0, 5, 3, 2, 6, 2, 3, 0, 0, 0, 3, 8, 13, 26, 29, 12, 4, 15, 19, 29, 0, 4,
];
const SHORTEST: usize = 5;
/// `#` is the first code of this length.
const HASH: usize = 12;

impl Default for Table {
    fn default() -> Self {
        Self {
            fields: VecDeque::new(),
            size: 0,
            limit: MOST,
        }
    }
}

impl Table {
    /// Follows a whole block.
    pub(super) fn read(&mut self, mut block: &[u8]) -> Result<Found, Lost> {
        let mut found = Found::default();
        while let Some(first) = block.first().copied() {
            if first & 0x80 != 0 {
                let index = number(&mut block, 7)?;
                self.find(index)?.note(&mut found);
            } else if first & 0xe0 == 0x20 {
                self.limit = number(&mut block, 5)?;
                if self.limit > MOST {
                    return Err(Lost);
                }
                self.make_room(0);
            } else {
                let kept = first & 0xc0 == 0x40;
                let index = number(&mut block, if kept { 6 } else { 4 })?;
                let name = match index {
                    0 => name(&mut block)?,
                    index => self.find(index)?.name,
                };
                let value = value(&mut block, kept || name.kind == Kind::Path)?;
                let field = Field { name, value };
                field.note(&mut found);
                if kept {
                    self.keep(field);
                }
            }
        }
        Ok(found)
    }

    fn find(&self, index: usize) -> Result<Field, Lost> {
        let index = index.checked_sub(1).ok_or(Lost)?;
        let Some(length) = STATIC.get(index) else {
            let field = self.fields.get(index - STATIC.len());
            return field.map(Kept::field).ok_or(Lost);
        };
        let kind = match index {
            3 | 4 => Kind::Path,
            0..14 => Kind::Pseudo,
            _ => Kind::Plain,
        };
        let length = usize::from(*length);
        Ok(Field {
            name: Name { kind, length },
            value: Value::default(),
        })
    }

    fn keep(&mut self, field: Field) {
        let size = field.size();
        self.make_room(size);
        if size <= self.limit
            && let Some(kept) = Kept::of(field)
        {
            self.size += size;
            self.fields.push_front(kept);
        }
    }

    fn make_room(&mut self, size: usize) {
        while self.size + size > self.limit {
            let Some(oldest) = self.fields.pop_back() else {
                return;
            };
            self.size -= oldest.field().size();
        }
    }
}

impl Kept {
    /// `None` for a field that is longer than any table.
    fn of(Field { name, value }: Field) -> Option<Self> {
        Some(Self {
            kind: name.kind,
            hash: value.hash,
            name: name.length.try_into().ok()?,
            value: value.length.try_into().ok()?,
        })
    }

    fn field(&self) -> Field {
        Field {
            name: Name {
                kind: self.kind,
                length: self.name.into(),
            },
            value: Value {
                length: self.value.into(),
                hash: self.hash,
            },
        }
    }
}

impl Field {
    fn size(&self) -> usize {
        self.name.length + self.value.length + OVERHEAD
    }

    fn note(&self, found: &mut Found) {
        found.pseudo |= self.name.kind != Kind::Plain;
        found.fragment |= self.name.kind == Kind::Path && self.value.hash;
    }
}

/// Reads a number whose first byte has so many bits for it (RFC 7541 §5.1).
fn number(block: &mut &[u8], bits: u32) -> Result<usize, Lost> {
    let (first, rest) = block.split_first().ok_or(Lost)?;
    *block = rest;
    let most = (1 << bits) - 1;
    let mut number = usize::from(*first) & most;
    if number < most {
        return Ok(number);
    }
    // No length beyond that is in a block that the codec would read.
    for shift in [0, 7, 14, 21] {
        let (next, rest) = block.split_first().ok_or(Lost)?;
        *block = rest;
        number += usize::from(next & 0x7f) << shift;
        if next & 0x80 == 0 {
            return Ok(number);
        }
    }
    Err(Lost)
}

/// Reads a string: its bytes, and whether they are Huffman's.
fn string<'b>(block: &mut &'b [u8]) -> Result<(&'b [u8], bool), Lost> {
    let coded = block.first().is_some_and(|first| first & 0x80 != 0);
    let length = number(block, 7)?;
    let (text, rest) = block.split_at_checked(length).ok_or(Lost)?;
    *block = rest;
    Ok((text, coded))
}

fn name(block: &mut &[u8]) -> Result<Name, Lost> {
    let (text, coded) = string(block)?;
    // The code of a colon has seven bits.
    let pseudo = match text.first() {
        Some(first) if coded => first >> 1 == 0x5c,
        first => first == Some(&b':'),
    };
    let is_path = match coded {
        true => text == PATH_CODED,
        false => text == b":path",
    };
    let length = if coded {
        decoded(text)?.length
    } else {
        text.len()
    };
    let kind = match (is_path, pseudo) {
        (true, _) => Kind::Path,
        (false, true) => Kind::Pseudo,
        (false, false) => Kind::Plain,
    };
    Ok(Name { kind, length })
}

/// Reads a value; what is in it matters only when it is `wanted`.
fn value(block: &mut &[u8], wanted: bool) -> Result<Value, Lost> {
    let (text, coded) = string(block)?;
    match (wanted, coded) {
        (false, _) => Ok(Value::default()),
        (true, true) => decoded(text),
        (true, false) => Ok(Value {
            length: text.len(),
            hash: memchr::memchr(b'#', text).is_some(),
        }),
    }
}

/// How long a text is that Huffman shortened.
fn decoded(text: &[u8]) -> Result<Value, Lost> {
    let mut value = Value::default();
    let (mut code, mut bits, mut first) = (0u32, 0, 0u32);
    for byte in text {
        for bit in (0..8).rev() {
            code = code << 1 | u32::from(byte >> bit & 1);
            first <<= 1;
            bits += 1;
            if bits < SHORTEST {
                continue;
            }
            let codes = *CODES.get(bits - SHORTEST).ok_or(Lost)?;
            if code - first < codes {
                value.length += 1;
                value.hash |= bits == HASH && code == first;
                (code, bits, first) = (0, 0, 0);
            } else {
                first += codes;
            }
        }
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn coded(text: &[u8]) -> Value {
        decoded(text).expect("a text")
    }

    #[test]
    fn lengths_of_coded_texts_are_known() {
        // RFC 7541, appendix C.4 and C.6.
        for (text, length) in [
            (
                &[
                    0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff,
                ][..],
                15,
            ),
            (&[0xa8, 0xeb, 0x10, 0x64, 0x9c, 0xbf], 8),
            (&[0x25, 0xa8, 0x49, 0xe9, 0x5b, 0xa9, 0x7d, 0x7f], 10),
            (&[0xae, 0xc3, 0x77, 0x1a, 0x4b], 7),
            (&PATH_CODED, 5),
            (&[], 0),
        ] {
            assert_eq!(coded(text).length, length, "{text:x?}");
            assert!(!coded(text).hash);
        }
        // "/x#": 011000 1111001 111111111010 and seven bits to the end.
        assert!(coded(&[0x63, 0xcf, 0xfd, 0x7f]).hash);
        // ">" follows "#" among the codes of twelve bits.
        assert!(!coded(&[0xff, 0xbf]).hash);
        assert_eq!(CODES.iter().sum::<u32>(), 257);
    }

    #[test]
    fn what_a_block_refers_to_is_known() {
        let mut table = Table::default();
        // ":path: /x#y" kept, then "x-a: b" kept; then both again by their numbers.
        let first = [&[0x44, 4][..], b"/x#y", &[0x40, 3], b"x-a", &[1], b"b"].concat();
        let found = table.read(&first).expect("a block");
        assert_eq!((found.pseudo, found.fragment), (true, true));
        let plain = table.read(&[0x80 | 62]).expect("a block");
        assert_eq!((plain.pseudo, plain.fragment), (false, false));
        let path = table.read(&[0x80 | 63]).expect("a block");
        assert_eq!((path.pseudo, path.fragment), (true, true));
        // The name alone, with a path that has none.
        let named = [&[0x0f, 63 - 15, 2][..], b"/x"].concat();
        let found = table.read(&named).expect("a block");
        assert_eq!((found.pseudo, found.fragment), (true, false));
        assert_eq!(table.read(&[0x80 | 64]), Err(Lost), "there is no third");
    }

    #[test]
    fn what_was_put_out_cannot_be_referred_to() {
        let mut table = Table::default();
        table
            .read(&[0x40, 3, b'x', b'-', b'a', 1, b'b'])
            .expect("a block");
        // Room for nothing, then for all again.
        table.read(&[0x20, 0x3f, 0xe1, 0x1f]).expect("a block");
        assert_eq!(table.read(&[0x80 | 62]), Err(Lost));
        for _ in 0..200 {
            table
                .read(&[0x40, 3, b'x', b'-', b'a', 1, b'b'])
                .expect("a block");
        }
        assert!(table.size <= MOST && table.fields.len() == MOST / 36);
        assert_eq!(
            table.read(&[0x3f, 0xe2, 0x1f]),
            Err(Lost),
            "more than was agreed upon"
        );
    }

    #[test]
    fn names_in_full_are_known() {
        for (name, pseudo, fragment) in [
            (&[&[5][..], b":path"].concat(), true, true),
            (&[&[0x84][..], &PATH_CODED].concat(), true, true),
            (&[&[7][..], b":method"].concat(), true, false),
            (&[&[3][..], b"x-p"].concat(), false, false),
        ] {
            let block = [&[0x00][..], name, &[2], b"/#"].concat();
            let found = Table::default().read(&block).expect("a block");
            assert_eq!(
                (found.pseudo, found.fragment),
                (pseudo, fragment),
                "{name:x?}"
            );
        }
    }

    #[test]
    fn a_block_that_is_cut_short_makes_no_sense() {
        let block = [&[0x44, 4][..], b"/x#y"].concat();
        for end in 1..block.len() {
            assert_eq!(Table::default().read(&block[..end]), Err(Lost));
        }
        assert_eq!(
            Table::default().read(&[0x80]),
            Err(Lost),
            "there is no field 0"
        );
    }
}
