//! Sections: what a process leaves to the next one, each kind of it with a name, a version and a checksum of its own.
//!
//! Rooms write and read their own sections and know nothing of each other's. A section that nobody asks for is skipped. One
//! that was damaged, or written by a later version, is refused alone.
//!
//! Layout: [`MAGIC`], a directory, the sections behind each other, the directory again, [`MAGIC`]. A directory is the length
//! of a list in four bytes (big endian), the list (`postcard`), and SHA-256 of the list; at the end the parts of it stand in
//! the opposite order, so that it is read backwards. The list names every section with its version, length and SHA-256. It
//! stands twice because whoever loses it loses all: no single damage takes more than one section, and what is cut off takes
//! what was in it. Nothing is ever searched for: bytes that clients sent cannot pass for a section.

use std::ops::Range;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::digest::sha256;

/// First and last bytes of what is laid out as above.
pub const MAGIC: [u8; 8] = *b"tollsec1";
/// Most bytes of all of it: some forty million nonces.
pub const LARGEST: usize = 1 << 30;
/// Most sections.
const MOST_SECTIONS: usize = 64;
/// Most bytes of a directory's list: names are short.
const LARGEST_LIST: usize = 16 << 10;
/// Bytes of SHA-256.
const CHECKSUM: usize = 32;

/// A value that makes one section. Its fields are the format: whoever changes them raises the version, and reads the one
/// before in [`earlier`](Self::earlier).
pub trait Section: Serialize + DeserializeOwned {
    /// Name of the section. Never given to another.
    const NAME: &'static str;
    /// Version of the format, from 1 on.
    const VERSION: u16;
    /// Most bytes that are read. Every item of a list takes at least one, so this bounds lists too.
    const LARGEST: usize;

    /// Reads what an earlier version wrote; `None` when it cannot.
    fn earlier(_version: u16, _bytes: &[u8]) -> Option<Self> {
        None
    }
}

/// Sections, to be written or as they were read.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Sections {
    /// When they were written, since 1970; to the millisecond.
    pub at: Duration,
    kept: Vec<Kept>,
}

#[derive(Debug, PartialEq, Eq)]
struct Kept {
    name: String,
    version: u16,
    /// `None` when it was damaged.
    bytes: Option<Vec<u8>>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct List {
    at_unix_ms: u64,
    sections: Vec<Listed>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Listed {
    name: String,
    version: u16,
    length: u64,
    checksum: [u8; CHECKSUM],
}

/// Why one section is not used.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum SectionError {
    /// The checksum is another, or part of the section is missing.
    #[error("damaged")]
    Damaged,
    /// A later version of this program wrote it.
    #[error("of version {found}, and this program knows versions up to {known}")]
    Later {
        /// Version of the section.
        found: u16,
        /// The version of this program.
        known: u16,
    },
    /// The section is longer than it may be.
    #[error("{0} bytes are too many")]
    Large(usize),
    /// The bytes are not what the version says.
    #[error("its bytes make no sense")]
    Senseless,
}

/// Why nothing is used.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum SectionsError {
    /// Neither its beginning nor its end is known.
    #[error("damaged, or of another version")]
    Unknown,
    /// All of it is longer than it may be.
    #[error("{0} bytes are more than can be carried")]
    Large(usize),
}

impl Sections {
    /// No sections yet, written at this time since 1970.
    pub fn at(at: Duration) -> Self {
        Self {
            at,
            kept: Vec::new(),
        }
    }

    /// Adds a section.
    ///
    /// # Errors
    ///
    /// When it is larger than what is read again.
    pub fn put<S: Section>(&mut self, value: &S) -> Result<(), SectionError> {
        let bytes = postcard::to_allocvec(value).map_err(|_| SectionError::Senseless)?;
        if bytes.len() > S::LARGEST {
            return Err(SectionError::Large(bytes.len()));
        }
        self.kept.push(Kept {
            name: S::NAME.to_owned(),
            version: S::VERSION,
            bytes: Some(bytes),
        });
        Ok(())
    }

    /// Reads a section; `None` when it was not written.
    ///
    /// # Errors
    ///
    /// When it is there and cannot be used. The others can be, all the same.
    pub fn get<S: Section>(&self) -> Result<Option<S>, SectionError> {
        let Some(kept) = self.kept.iter().find(|kept| kept.name == S::NAME) else {
            return Ok(None);
        };
        if kept.version > S::VERSION {
            return Err(SectionError::Later {
                found: kept.version,
                known: S::VERSION,
            });
        }
        let bytes = kept.bytes.as_deref().ok_or(SectionError::Damaged)?;
        if bytes.len() > S::LARGEST {
            return Err(SectionError::Large(bytes.len()));
        }
        if kept.version < S::VERSION {
            let read = S::earlier(kept.version, bytes);
            return read.map(Some).ok_or(SectionError::Senseless);
        }
        match postcard::take_from_bytes(bytes) {
            Ok((read, [])) => Ok(Some(read)),
            _ => Err(SectionError::Senseless),
        }
    }

    /// All sections as bytes.
    ///
    /// # Errors
    ///
    /// When they are more than is read again.
    pub fn encode(&self) -> Result<Vec<u8>, SectionsError> {
        let there = || {
            let each = self.kept.iter();
            each.filter_map(|kept| Some((kept, kept.bytes.as_deref()?)))
        };
        let list = List {
            at_unix_ms: u64::try_from(self.at.as_millis()).unwrap_or(u64::MAX),
            sections: there().map(|(kept, bytes)| kept.listed(bytes)).collect(),
        };
        let list = postcard::to_allocvec(&list).map_err(|_| SectionsError::Unknown)?;
        let length = u32::try_from(list.len()).map_err(|_| SectionsError::Large(list.len()))?;
        let [length, sum] = [&length.to_be_bytes()[..], &sha256(&list)];
        let directories = 2 * (MAGIC.len() + length.len() + list.len() + sum.len());
        let sections: usize = there().map(|(_, bytes)| bytes.len()).sum();
        let all = sections.saturating_add(directories);
        if all > LARGEST || list.len() > LARGEST_LIST || self.kept.len() > MOST_SECTIONS {
            return Err(SectionsError::Large(all));
        }
        let mut out = Vec::with_capacity(all);
        out.extend([&MAGIC[..], length, &list, sum].concat());
        there().for_each(|(_, bytes)| out.extend_from_slice(bytes));
        out.extend([sum, &list, length, &MAGIC].concat());
        Ok(out)
    }

    /// Reads what [`encode`](Self::encode) wrote, as far as it is whole.
    ///
    /// # Errors
    ///
    /// When neither directory is whole.
    pub fn decode(bytes: &[u8]) -> Result<Self, SectionsError> {
        let (list, place) = first_list(bytes)
            .or_else(|| last_list(bytes))
            .ok_or(SectionsError::Unknown)?;
        let mut from = place;
        let kept = list.sections.into_iter().map(|listed| {
            let range = from.and_then(|from| range(from, listed.length));
            from = range.as_ref().map(|range| range.end);
            let found = range.and_then(|range| bytes.get(range));
            let found = found.filter(|found| sha256(found) == listed.checksum);
            Kept {
                name: listed.name,
                version: listed.version,
                bytes: found.map(<[u8]>::to_vec),
            }
        });
        Ok(Self {
            kept: kept.collect(),
            at: Duration::from_millis(list.at_unix_ms),
        })
    }
}

impl Kept {
    fn listed(&self, bytes: &[u8]) -> Listed {
        Listed {
            name: self.name.clone(),
            version: self.version,
            length: bytes.len() as u64,
            checksum: sha256(bytes),
        }
    }
}

fn range(from: usize, length: u64) -> Option<Range<usize>> {
    let end = from.checked_add(usize::try_from(length).ok()?)?;
    Some(from..end)
}

/// The directory in front, and where the sections begin.
fn first_list(bytes: &[u8]) -> Option<(List, Option<usize>)> {
    let rest = bytes.strip_prefix(&MAGIC)?;
    let (length, rest) = rest.split_first_chunk()?;
    let length = u32::from_be_bytes(*length) as usize;
    let (list, rest) = rest.split_at_checked(length)?;
    let (sum, rest) = rest.split_first_chunk()?;
    let list = checked(list, sum)?;
    Some((list, Some(bytes.len() - rest.len())))
}

/// The directory at the end, and where the sections begin.
fn last_list(bytes: &[u8]) -> Option<(List, Option<usize>)> {
    let rest = bytes.strip_suffix(&MAGIC)?;
    let (rest, length) = rest.split_last_chunk()?;
    let length = u32::from_be_bytes(*length) as usize;
    let (rest, list) = rest.split_at_checked(rest.len().checked_sub(length)?)?;
    let (rest, sum) = rest.split_last_chunk()?;
    let list = checked(list, sum)?;
    let lengths = list.sections.iter().map(|listed| listed.length);
    let all = lengths.fold(0_u64, u64::saturating_add);
    let from = usize::try_from(all).ok();
    let from = from.and_then(|all| rest.len().checked_sub(all));
    Some((list, from))
}

fn checked(list: &[u8], sum: &[u8; CHECKSUM]) -> Option<List> {
    if list.len() > LARGEST_LIST || sha256(list) != *sum {
        return None;
    }
    let (list, rest) = postcard::take_from_bytes::<List>(list).ok()?;
    (rest.is_empty() && list.sections.len() <= MOST_SECTIONS).then_some(list)
}

#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
#[cfg(test)]
mod tests;
