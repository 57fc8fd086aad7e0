//! What validation carries along: the document for places, the list of problems, and readers of quantities.

use std::time::Duration;

use super::document::{At, Document};
use super::error::{Location, Problem, did_you_mean};
use super::raw::Later;
use crate::primitives::matcher::ValueMatch;
use crate::primitives::ranges::AddressRanges;
use crate::primitives::secret::Secret;
use crate::primitives::units;

/// Validation of one file.
pub(super) struct Scope<'s> {
    pub(super) document: &'s Document<'s>,
    pub(super) problems: &'s mut Vec<Problem>,
}

impl Scope<'_> {
    /// A scope of another file, with the list of problems of this one.
    pub(super) fn of<'o>(&'o mut self, document: &'o Document<'o>) -> Scope<'o> {
        Scope {
            document,
            problems: self.problems,
        }
    }

    /// Records a problem and goes on.
    pub(super) fn problem(&mut self, at: &At<'_>, message: impl Into<String>) {
        self.problems
            .push(self.document.problem_at(at, message.into()));
    }

    /// Reads `text`; a problem leaves `None`.
    pub(super) fn read<T>(
        &mut self,
        at: &At<'_>,
        text: &str,
        reader: impl Fn(&str) -> Result<T, String>,
    ) -> Option<T> {
        reader(text)
            .map_err(|message| self.problem(at, message))
            .ok()
    }

    /// Reads what a header, a query parameter or a cookie must be. What the environment has a part in is not shown.
    pub(super) fn wanted(&mut self, at: &At<'_>, text: &str) -> Option<ValueMatch> {
        let wanted = self.read(at, text, ValueMatch::parse)?;
        Some(match self.document.is_of_environment(at) {
            true => ValueMatch::Veiled(Box::new(wanted)),
            false => wanted,
        })
    }

    /// Reads a duration.
    pub(super) fn duration(&mut self, at: &At<'_>, text: &str) -> Duration {
        self.read(at, text, units::duration).unwrap_or_default()
    }

    /// Reads a duration that must not be zero.
    pub(super) fn positive(&mut self, at: &At<'_>, text: &str) -> Duration {
        let value = self.read(at, text, units::duration);
        if value == Some(Duration::ZERO) {
            self.problem(at, "must be more than zero");
        }
        value.unwrap_or(Duration::from_secs(1))
    }

    /// Reads a size.
    pub(super) fn size(&mut self, at: &At<'_>, text: &str) -> u64 {
        self.read(at, text, units::size).unwrap_or_default()
    }

    /// Reads address ranges.
    pub(super) fn ranges(&mut self, at: &At<'_>, texts: &[String]) -> AddressRanges {
        let networks = texts.iter().enumerate();
        AddressRanges::new(
            networks
                .filter_map(|(i, text)| self.read(&at.index(i), text, AddressRanges::parse_one))
                .collect(),
        )
    }

    /// Refuses a key whose feature is not there yet: accepting it would promise what is not done.
    pub(super) fn later(&mut self, at: &At<'_>, value: Option<&Later>) {
        if value.is_some() {
            self.problem(at, "not supported yet");
        }
    }

    /// Refuses a name that no table of the configuration has.
    pub(super) fn unknown_name<'k>(
        &mut self,
        at: &At<'_>,
        kind: &str,
        name: &str,
        known: impl IntoIterator<Item = &'k str>,
    ) {
        let hint = did_you_mean(name, known).map(|meant| format!("; did you mean \"{meant}\"?"));
        let bare = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
        let shown = match name.chars().all(bare) {
            true => name.to_owned(),
            false => format!("{name:?}"),
        };
        self.problem(
            at,
            format!("there is no [{kind}.{shown}]{}", hint.unwrap_or_default()),
        );
    }

    /// What the environment brought into the value at `at`.
    pub(super) fn brought(&self, at: &At<'_>) -> Vec<Secret> {
        self.document.brought_by_environment(at)
    }

    /// Where `at` is written.
    pub(super) fn locate(&self, at: &At<'_>) -> Location {
        self.document.locate(at)
    }
}
