//! Bytes that parsers met, or might: `tests/fixtures/corpus/`, one folder for each parser. Every file is replayed by an
//! ordinary test, and changed at random by a property (`PROPTEST_CASES=1000000 cargo test corpus` for a long look). A file
//! whose name ends in `.good` is taken, one in `.bad` is refused. What a crash was found with belongs here too; `found-…` is some of
//! what the targets of `fuzz/` came upon.

use std::path::Path;

use proptest::prelude::*;
use proptest::sample::{Index, select};

/// The files of a folder by name.
pub(crate) fn entries(folder: &str) -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures/corpus")
        .join(folder);
    let files = std::fs::read_dir(folder).expect("the corpus");
    let mut entries: Vec<_> = files
        .map(|file| {
            let file = file.expect("a file");
            let bytes = std::fs::read(file.path()).expect("readable");
            (file.file_name().to_string_lossy().into_owned(), bytes)
        })
        .collect();
    entries.sort();
    assert!(entries.len() > 10, "the corpus is missing");
    entries
}

/// Asserts that every file is taken or refused as its name says.
pub(crate) fn replay(folder: &str, takes: impl Fn(&[u8]) -> bool) {
    for (name, bytes) in entries(folder) {
        assert_eq!(takes(&bytes), name.ends_with(".good"), "{folder}/{name}");
    }
}

/// A file of the folder with a few changes: bytes replaced, put in, cut out, doubled, or the end cut off.
pub(crate) fn changed(folder: &str) -> impl Strategy<Value = Vec<u8>> {
    let files: Vec<Vec<u8>> = entries(folder)
        .into_iter()
        .map(|(_, bytes)| bytes)
        .collect();
    let other = select(files.clone());
    let change = (0..6u8, any::<Index>(), any::<Index>(), any::<u8>());
    let changes = proptest::collection::vec(change, 0..5);
    (select(files), other, changes).prop_map(|(mut bytes, other, changes)| {
        for (kind, at, to, byte) in changes {
            let (a, b) = (at.index(bytes.len() + 1), to.index(bytes.len() + 1));
            let span = a.min(b)..a.max(b);
            match kind {
                0 => bytes.insert(a, byte),
                1 if a < bytes.len() => bytes[a] = byte,
                2 => bytes.truncate(a),
                3 => drop(bytes.drain(span)),
                4 if bytes.len() < 4096 => {
                    let piece = bytes[span].to_vec();
                    bytes.splice(a..a, piece);
                }
                _ if bytes.len() < 4096 => drop(bytes.splice(span, other.iter().copied())),
                _ => {}
            }
        }
        bytes
    })
}

mod tests {
    use super::*;
    use crate::primitives::fuzzing::{announced, normal, path, proxy_header};

    #[test]
    fn paths_of_the_corpus() {
        replay("path", |bytes| normal(bytes).is_some());
    }

    #[test]
    fn proxy_headers_of_the_corpus() {
        replay("proxy", |bytes| announced(bytes) == Some(bytes.len()));
    }

    proptest! {
        #[test]
        fn a_normal_path_stays_as_it_is(bytes in changed("path")) {
            path(&bytes);
        }

        #[test]
        fn a_proxy_header_ends_where_it_ends(bytes in changed("proxy")) {
            proxy_header(&bytes);
        }
    }
}
