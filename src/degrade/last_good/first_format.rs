//! Kept answers as version 0.1.0 hands them to the process that replaces it: read, never written.
//!
//! Each entry is its key (16 bytes), a kind, and of answers the age in nanoseconds (8 bytes); then lists and pieces, each
//! behind its length in four bytes. All numbers are big endian.

use bytes::Bytes;

use super::carried::{CarriedAnswer, CarriedEntry, RouteAnswers};

/// Kinds of entries.
const VARIES: u8 = 0;
const ANSWER: u8 = 1;

impl RouteAnswers {
    /// Reads the entries of a route, up to where nothing makes sense any more.
    pub fn of_first_format(route: String, identity: String, mut bytes: &[u8]) -> Self {
        let entries = std::iter::from_fn(|| read(&mut bytes));
        Self {
            route,
            identity,
            entries: entries.collect(),
        }
    }
}

fn read(rest: &mut &[u8]) -> Option<(u128, CarriedEntry)> {
    let key = u128::from_be_bytes(take(rest)?);
    let entry = match take::<1>(rest)? {
        [VARIES] => {
            let names = (0..number(rest)?).map(|_| name(rest));
            CarriedEntry::Varies(names.collect::<Option<_>>()?)
        }
        [ANSWER] => {
            let age = u64::from_be_bytes(take(rest)?);
            let headers = (0..number(rest)?).map(|_| Some((name(rest)?, piece(rest)?)));
            CarriedEntry::Answer(CarriedAnswer {
                age,
                headers: headers.collect::<Option<_>>()?,
                body: piece(rest)?,
            })
        }
        _ => return None,
    };
    Some((key, entry))
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, left) = rest.split_first_chunk()?;
    *rest = left;
    Some(*taken)
}

fn number(rest: &mut &[u8]) -> Option<u32> {
    take(rest).map(u32::from_be_bytes)
}

fn piece(rest: &mut &[u8]) -> Option<Bytes> {
    let length = number(rest)? as usize;
    let (piece, left) = rest.split_at_checked(length)?;
    *rest = left;
    Some(Bytes::copy_from_slice(piece))
}

fn name(rest: &mut &[u8]) -> Option<String> {
    String::from_utf8(piece(rest)?.to_vec()).ok()
}
