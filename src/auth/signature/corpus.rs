//! Signed requests of the corpus, see [`crate::primitives::corpus`].

use proptest::prelude::*;

use super::fuzzing::{signature, told};
use crate::primitives::corpus::{changed, entries};

#[test]
fn nothing_of_the_corpus_passes() {
    for (name, bytes) in entries("signature") {
        let told = told(&bytes).expect("a request");
        let refused = |reason: &&str| reason.starts_with("sig_") || *reason == "body_digest";
        assert!(told.iter().all(refused), "{name}: {told:?}");
    }
}

proptest! {
    #[test]
    fn no_change_of_it_does(bytes in changed("signature")) {
        signature(&bytes);
    }
}
