//! Figures that may only fall, and the record of them.
//!
//! `HOUSE=record` lowers the record to what is true; where a figure has to grow, the line of `tests/house.record` is
//! edited by hand and the commit says why. `HOUSE=circles`, `twins`, `pronouns` and `tuples` list what is counted.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use crate::circles::Imports;
use crate::tree::Tree;

/// How far `gateway` may be below its recorded lines before the record is to be lowered: lines come and go.
const LINES_BELOW: usize = 300;

/// With what a comment begins whose noun stands elsewhere.
const PRONOUNS: [&str; 12] = [
    "it", "its", "it's", "they", "their", "them", "this", "these", "that", "those", "he", "his",
];

/// Beginnings of two words that say as little.
const BEGINNINGS: [&str; 6] = [
    "the same",
    "the other",
    "the others",
    "the former",
    "the latter",
    "as above",
];

/// Figures by name.
pub(crate) type Figures = BTreeMap<String, usize>;

const LINES: &str = "lines_of_gateway";

/// Every figure of `tree`.
pub(crate) fn figures(tree: &Tree) -> Figures {
    let mut figures = Figures::from(
        [
            (
                LINES,
                tree.files
                    .iter()
                    .filter(|file| file.room == "gateway")
                    .map(|file| file.lines)
                    .sum(),
            ),
            ("type_names_used_twice", twins(tree).len()),
            ("comments_that_begin_with_a_pronoun", pronouns(tree).len()),
            ("parameters_that_are_tuples", tuples(tree).len()),
        ]
        .map(|(name, figure)| (name.to_owned(), figure)),
    );
    for room in rooms(tree) {
        let largest = Imports::within(tree, room).largest();
        figures.insert(format!("largest_circle.{room}"), largest);
    }
    figures
}

/// What stands between the figures and their record.
pub(crate) fn judged(figures: &Figures, record: &Figures) -> Vec<String> {
    let mut wrong = Vec::new();
    for name in figures.keys().chain(record.keys()).collect::<BTreeSet<_>>() {
        let now = figures.get(name).copied().unwrap_or_default();
        let known = record.get(name).copied().unwrap_or_default();
        let below = if name == LINES { LINES_BELOW } else { 0 };
        if now > known {
            wrong.push(format!("{name} = {now}, recorded {known}: may only fall"));
        } else if now + below < known || (!figures.contains_key(name) && known == 0) {
            wrong.push(format!(
                "{name} = {now}, recorded {known}: lower the record with HOUSE=record cargo test --test house"
            ));
        }
    }
    wrong
}

/// The record after it was lowered to `figures`; what it does not know yet is taken as it is.
pub(crate) fn lowered(figures: &Figures, record: &Figures) -> Figures {
    let lower = |(name, now): (&String, &usize)| {
        let known = record.get(name).copied().unwrap_or(*now);
        (name.clone(), known.min(*now))
    };
    figures.iter().map(lower).collect()
}

/// The record as it is written, one figure a line.
pub(crate) fn written(record: &Figures) -> String {
    let mut text = String::new();
    for (name, figure) in record {
        let _ = writeln!(text, "{name} = {figure}");
    }
    text
}

/// The record read back.
pub(crate) fn read(text: &str) -> Figures {
    let pairs = text.lines().filter_map(|line| line.split_once('='));
    pairs
        .map(|(name, figure)| {
            let figure = figure.trim().parse().expect("a number in the record");
            (name.trim().to_owned(), figure)
        })
        .collect()
}

/// What one of the figures counts, listed for people.
pub(crate) fn listed(tree: &Tree, which: &str) -> String {
    match which {
        "circles" => {
            let rooms = rooms(tree).into_iter();
            rooms
                .map(|room| format!("{room}:\n{}", Imports::within(tree, room).described(tree)))
                .collect()
        }
        "twins" => twins(tree).join("\n"),
        "pronouns" => pronouns(tree).join("\n"),
        "tuples" => tuples(tree).join("\n"),
        other => format!("HOUSE={other}: circles, twins, pronouns, tuples or record"),
    }
}

fn rooms(tree: &Tree) -> BTreeSet<&str> {
    let rooms = tree.files.iter().map(|file| file.room.as_str());
    rooms.filter(|room| *room != "lib").collect()
}

/// Names that more than one type has.
fn twins(tree: &Tree) -> Vec<String> {
    let mut places: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for file in &tree.files {
        for defined in &file.facts.types {
            let place = format!("src/{}:{}", file.path, defined.line);
            places.entry(&defined.what).or_default().push(place);
        }
    }
    let twins = places.iter().filter(|(_, places)| places.len() > 1);
    twins
        .map(|(name, places)| format!("{name}: {}", places.join(", ")))
        .collect()
}

/// Comments that begin with a pronoun whose noun stands elsewhere.
fn pronouns(tree: &Tree) -> Vec<String> {
    let files = tree.files.iter();
    files
        .flat_map(|file| {
            let docs = file.facts.docs.iter();
            docs.filter(|doc| begins_with_a_pronoun(&doc.what))
                .map(|doc| format!("src/{}:{}: {}", file.path, doc.line, doc.what))
        })
        .collect()
}

fn begins_with_a_pronoun(doc: &str) -> bool {
    let mut words = doc
        .split(|c: char| !(c.is_alphanumeric() || c == '\''))
        .filter(|word| !word.is_empty())
        .map(str::to_lowercase);
    let (Some(first), second) = (words.next(), words.next().unwrap_or_default()) else {
        return false;
    };
    // Who says of what it is the same gives a link to it.
    let linked = doc.starts_with("The same as [`");
    PRONOUNS.contains(&first.as_str())
        || (!linked && BEGINNINGS.contains(&format!("{first} {second}").as_str()))
}

/// Parameters that are tuples.
fn tuples(tree: &Tree) -> Vec<String> {
    let files = tree.files.iter();
    files
        .flat_map(|file| {
            let tuples = file.facts.tuples.iter();
            tuples.map(|tuple| format!("src/{}:{}: fn {}", file.path, tuple.line, tuple.what))
        })
        .collect()
}

#[test]
fn a_figure_may_only_fall() {
    let figures = |figure: usize| Figures::from([("largest_circle.auth".to_owned(), figure)]);
    assert!(judged(&figures(3), &figures(3)).is_empty());
    assert!(judged(&figures(4), &figures(3))[0].contains("may only fall"));
    assert!(judged(&figures(2), &figures(3))[0].contains("HOUSE=record"));
    assert_eq!(lowered(&figures(2), &figures(3)), figures(2));
    assert_eq!(lowered(&figures(4), &figures(3)), figures(3));
    assert_eq!(read(&written(&figures(3))), figures(3));
}

#[test]
fn a_room_that_is_gone_leaves_the_record() {
    let gone = Figures::from([("largest_circle.gone".to_owned(), 0)]);
    assert_eq!(judged(&Figures::new(), &gone).len(), 1);
    assert!(lowered(&Figures::new(), &gone).is_empty());
}

#[test]
fn lines_come_and_go_below_their_record() {
    let lines = |figure: usize| Figures::from([(LINES.to_owned(), figure)]);
    assert!(judged(&lines(1000 - LINES_BELOW), &lines(1000)).is_empty());
    assert_eq!(judged(&lines(999 - LINES_BELOW), &lines(1000)).len(), 1);
    assert_eq!(judged(&lines(1001), &lines(1000)).len(), 1);
}

#[test]
fn only_code_of_gateway_counts_as_its_lines() {
    let tree = Tree::of([
        ("gateway/mod.rs", "mod a;\n#[cfg(test)]\nmod tests;\n"),
        ("gateway/a.rs", "fn f() {}\n"),
        ("gateway/tests.rs", "\n\n\n\n"),
        ("auth/mod.rs", "\n\n\n\n"),
    ]);
    assert_eq!(figures(&tree)[LINES], 4);
}

#[test]
fn two_types_of_one_name_are_twins() {
    let tree = Tree::of([
        ("auth/mod.rs", "struct Held; struct Alone; fn held() {}"),
        (
            "limit/mod.rs",
            "mod held { enum Held {} }\n#[cfg(test)] struct Alone;",
        ),
    ]);
    assert_eq!(
        twins(&tree),
        ["Held: src/auth/mod.rs:1, src/limit/mod.rs:1"]
    );
}

#[test]
fn a_comment_names_what_it_is_about() {
    let tree = Tree::of([(
        "auth/mod.rs",
        "//! The room.\n\n/// It waits.\nstruct A {\n    /// The same, later.\n    b: u8,\n}\nimpl A {\n    /// The same as [`A`], but\n    /// this.\n    fn f() {}\n    /// Item of it.\n    fn g() {}\n}\n#[cfg(test)]\n/// It is a test.\nfn t() {}\n",
    )]);
    assert_eq!(
        pronouns(&tree),
        [
            "src/auth/mod.rs:3: It waits.",
            "src/auth/mod.rs:5: The same, later."
        ]
    );
}

#[test]
fn a_parameter_wants_a_name() {
    let tree = Tree::of([(
        "auth/mod.rs",
        "fn f((a, b): (u8, u8), c: &mut (u8, u8), d: [(u8, u8); 2], e: ()) {}\ntrait T {\n    fn g(&self, of: (u8, u8)) -> (u8, u8);\n}\nfn h() { let _ = |a: (u8, u8)| a; }",
    )]);
    assert_eq!(
        tuples(&tree),
        [
            "src/auth/mod.rs:1: fn f",
            "src/auth/mod.rs:1: fn f",
            "src/auth/mod.rs:3: fn g"
        ]
    );
}
