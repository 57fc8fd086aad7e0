//! Sections of any bytes, see `src/fuzzing.rs`.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{CHECKSUM, Kept, MAGIC, Section, Sections, sha256};

/// A section with a list, texts and numbers: what sections are made of.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct FuzzedSection(Vec<(String, u64, Option<[u64; 2]>, Duration)>);

impl Section for FuzzedSection {
    const NAME: &'static str = "sample";
    const VERSION: u16 = 1;
    const LARGEST: usize = 1 << 16;
}

/// What is whole of the sections in these bytes, if any directory is.
pub(crate) fn whole(bytes: &[u8]) -> Option<Sections> {
    let mut read = Sections::decode(bytes).ok()?;
    read.kept.retain(|kept| kept.bytes.is_some());
    Some(read)
}

/// Sections are read again as they were; so are those of a directory whose checksum is right whatever it says, and what is
/// in a section, whatever its bytes are.
pub fn sections(bytes: &[u8]) {
    again(bytes);
    let (list, rest) = bytes.split_at(bytes.len().min(CHECKSUM * 4));
    again(&sealed(list, rest));
    let mut read = Sections::at(Duration::ZERO);
    read.kept.push(Kept {
        name: FuzzedSection::NAME.to_owned(),
        version: FuzzedSection::VERSION,
        bytes: Some(bytes.to_vec()),
    });
    let Ok(Some(sample)) = read.get::<FuzzedSection>() else {
        return;
    };
    let mut written = Sections::at(Duration::ZERO);
    // What is longer than its shortest form was written by nobody.
    if written.put(&sample).is_ok() {
        assert_eq!(written.get(), Ok(Some(sample)));
    }
}

fn again(bytes: &[u8]) {
    let Some(read) = whole(bytes) else { return };
    let kept = read.kept.iter().filter_map(|kept| kept.bytes.as_ref());
    let most = bytes.len();
    assert!(kept.clone().all(|kept| kept.len() <= most), "made up");
    // More than this program writes is read, and not written again.
    if let Ok(written) = read.encode() {
        assert_eq!(whole(&written), Some(read));
    }
}

/// A directory of this list, with the right checksum, around `rest`.
fn sealed(list: &[u8], rest: &[u8]) -> Vec<u8> {
    let length = (list.len() as u32).to_be_bytes();
    let sum = sha256(list);
    let front = [&MAGIC[..], &length, list, &sum].concat();
    let back = [&sum[..], list, &length, &MAGIC].concat();
    [&front, rest, &back].concat()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::primitives::corpus::{changed, replay};

    #[test]
    fn sections_of_the_corpus() {
        let there = |bytes: &[u8]| whole(bytes).is_some_and(|read| read != Sections::at(read.at));
        replay("sections", there);
    }

    proptest! {
        #[test]
        fn sections_are_read_again_as_they_were(bytes in changed("sections")) {
            sections(&bytes);
        }
    }
}
