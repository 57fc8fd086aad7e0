//! Heads and addresses of the corpus, see [`crate::primitives::corpus`].

use proptest::prelude::*;

use super::fuzzing::{forwarded_for, head, read};
use crate::primitives::corpus::{changed, entries, replay};

#[test]
fn heads_of_the_corpus() {
    replay("head", |bytes| read(bytes).is_some());
}

#[test]
fn addresses_of_the_corpus() {
    for (_, field) in entries("forwarded-for") {
        forwarded_for(&field);
    }
}

proptest! {
    #[test]
    fn a_head_means_what_its_lines_say_and_ends_at_the_same_byte(bytes in changed("head")) {
        head(&bytes);
    }

    #[test]
    fn nobody_names_a_client_that_is_not_there(field in changed("forwarded-for")) {
        forwarded_for(&field);
    }
}
