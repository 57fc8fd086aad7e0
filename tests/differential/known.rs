//! Differences that are known: `known.txt` beside this file, read when the test runs.

use std::fs;

use super::case::Case;
use super::{Mismatch, Run};

/// Why a row stands in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// The difference stays, for its reason.
    Stays,
    /// A matter of moments: it need not show.
    Moments,
    /// A fault of the gateway: the row goes with it.
    ToMend,
}

/// A row of the table: in which cases, in what, over which ways and from which clients something differs, and why. Each of
/// the four is a list of patterns with commas between them; a pattern may begin or end with `*`.
struct Known {
    kind: Kind,
    cases: String,
    aspect: String,
    ways: String,
    clients: String,
    line: String,
}

fn rows() -> Vec<Known> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/differential/known.txt");
    let text = fs::read_to_string(path).unwrap();
    let (mut rows, mut kind) = (Vec::new(), Kind::Stays);
    for line in text.lines().map(str::trim) {
        match line {
            "[stays]" => kind = Kind::Stays,
            "[moments]" => kind = Kind::Moments,
            "[to mend]" => kind = Kind::ToMend,
            _ if line.is_empty() || line.starts_with('#') => {}
            _ => rows.push(row(line, kind)),
        }
    }
    rows
}

fn row(line: &str, kind: Kind) -> Known {
    let cells: Vec<String> = line.split('|').map(|cell| cell.trim().to_owned()).collect();
    let [cases, aspect, ways, clients, reason] = <[String; 5]>::try_from(cells)
        .unwrap_or_else(|cells| panic!("{} cells, not 5: {line}", cells.len()));
    assert!(reason.len() > 10, "a row gives its reason: {line}");
    Known {
        kind,
        cases,
        aspect,
        ways,
        clients,
        line: line.to_owned(),
    }
}

fn matches(patterns: &str, text: &str) -> bool {
    patterns.split(',').map(str::trim).any(|pattern| {
        match (pattern.strip_prefix('*'), pattern.strip_suffix('*')) {
            _ if pattern == "*" => true,
            (Some(end), None) => text.ends_with(end),
            (None, Some(start)) => text.starts_with(start),
            (Some(_), Some(_)) => text.contains(pattern.trim_matches('*')),
            (None, None) => pattern == text,
        }
    })
}

impl Known {
    fn covers(&self, case: &Case, run: &Run, aspect: &str) -> bool {
        matches(&self.cases, &case.name)
            && matches(&self.aspect, aspect)
            && matches(&self.ways, run.way.name())
            && matches(&self.clients, run.caller.name())
    }
}

/// What is left of differences once the known ones are taken out.
pub(super) struct Verdict<'m, 'r> {
    pub(super) unknown: Vec<&'m Mismatch<'r>>,
    /// Rows that no difference showed.
    pub(super) gone: Vec<String>,
    pub(super) table: String,
}

pub(super) fn judge<'m, 'r>(cases: &[Case], all: &'m [Mismatch<'r>]) -> Verdict<'m, 'r> {
    let rows = rows();
    let mut shown = vec![false; rows.len()];
    let mut unknown = Vec::new();
    for mismatch in all {
        let case = &cases[mismatch.run.case];
        let mut known = false;
        for (row, shown) in rows.iter().zip(&mut shown) {
            if row.covers(case, mismatch.run, &mismatch.aspect) {
                (*shown, known) = (true, true);
            }
        }
        if !known {
            unknown.push(mismatch);
        }
    }
    let gone = rows.iter().zip(shown);
    let gone = gone.filter(|(row, shown)| !shown && row.kind != Kind::Moments);
    let gone = gone.map(|(row, _)| row.line.clone()).collect();
    let table = rows
        .iter()
        .map(|row| format!("{:?}: {}\n", row.kind, row.line));
    Verdict {
        unknown,
        gone,
        table: table.collect(),
    }
}
