//! One file as written: its text, its tree with spans, and the way from a key to a line and column.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::error::{Location, Problem};
use super::expand::{self, Env, Expanded};
use crate::primitives::secret::Secret;

/// A configuration file and its text.
#[derive(Clone, Debug)]
pub struct Source {
    /// Path as the operator named it; shown in every message.
    pub file: Arc<str>,
    /// Content.
    pub text: Arc<str>,
}

/// A parsed file.
pub(super) struct Document<'t> {
    pub(super) source: &'t Source,
    pub(super) tree: Spanned<DeTable<'t>>,
    lines: Vec<usize>,
    expanded: Vec<Expanded>,
}

/// The way to a key, built on the stack while walking: no allocation until something is wrong.
#[derive(Clone, Copy)]
pub(super) struct At<'a> {
    parent: Option<&'a At<'a>>,
    step: Step<'a>,
}

#[derive(Clone, Copy)]
enum Step<'a> {
    Root,
    Key(&'a str),
    Index(usize),
}

impl<'a> At<'a> {
    pub(super) const ROOT: At<'static> = At {
        parent: None,
        step: Step::Root,
    };

    pub(super) fn key(&'a self, key: &'a str) -> At<'a> {
        At {
            parent: Some(self),
            step: Step::Key(key),
        }
    }

    pub(super) fn index(&'a self, index: usize) -> At<'a> {
        At {
            parent: Some(self),
            step: Step::Index(index),
        }
    }

    fn steps(&self) -> Vec<Step<'a>> {
        let mut steps = self.parent.map(At::steps).unwrap_or_default();
        if !matches!(self.step, Step::Root) {
            steps.push(self.step);
        }
        steps
    }

    /// `upstream.users.endpoints[0].weight`
    pub(super) fn dotted(&self) -> String {
        let mut text = String::new();
        for step in self.steps() {
            match step {
                Step::Index(index) => text.push_str(&format!("[{index}]")),
                Step::Key(key) => {
                    if !text.is_empty() {
                        text.push('.');
                    }
                    let bare = key
                        .bytes()
                        .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
                    text.push_str(&if bare {
                        Cow::Borrowed(key)
                    } else {
                        Cow::Owned(format!("{key:?}"))
                    });
                }
                Step::Root => {}
            }
        }
        text
    }
}

impl<'t> Document<'t> {
    /// Parses, keeping what can be kept: syntax errors are reported all at once.
    pub(super) fn parse(source: &'t Source, problems: &mut Vec<Problem>) -> Self {
        let text: &str = &source.text;
        let lines = std::iter::once(0)
            .chain(text.match_indices('\n').map(|(at, _)| at + 1))
            .collect();
        let (tree, errors) = DeTable::parse_recoverable(text);
        let document = Self {
            source,
            tree,
            lines,
            expanded: Vec::new(),
        };
        for error in errors {
            let span = error.span().unwrap_or(0..0);
            let message = error.message().replace('\n', "; ");
            problems.push(document.problem(span, String::new(), format!("not TOML: {message}")));
        }
        document
    }

    /// Replaces `${NAME}` and `${NAME:-default}` in every string value.
    pub(super) fn expand(&mut self, env: Env<'_>, problems: &mut Vec<Problem>) {
        let mut unknown = Vec::new();
        self.expanded = expand::table(self.tree.get_mut(), env, &mut unknown);
        for (span, message) in unknown {
            problems.push(self.problem(span, String::new(), message));
        }
    }

    /// The tree as it may be shown: without what the environment put where a secret may stand.
    pub(super) fn shown(&self) -> Spanned<DeTable<'t>> {
        let mut tree = self.tree.clone();
        expand::put_back(tree.get_mut(), &self.expanded);
        tree
    }

    /// Whether the value at `at` holds text of the environment.
    pub(super) fn is_of_environment(&self, at: &At<'_>) -> bool {
        let holds = self.expanded.iter().filter(|one| one.holds_any());
        let mut holds = holds.peekable();
        holds.peek().is_some() && {
            let span = self.span(at);
            holds.any(|one| one.span == span)
        }
    }

    /// What the environment brought into the value at `at`, as far as it is long enough to be looked for.
    pub(super) fn brought_by_environment(&self, at: &At<'_>) -> Vec<Secret> {
        let span = self.span(at);
        let here = self.expanded.iter().filter(|one| one.span == span);
        here.flat_map(Expanded::long_parts)
            .map(Secret::new)
            .collect()
    }

    /// Strikes what the environment brought out of a message.
    pub(super) fn veil(&self, message: &mut String) {
        for expanded in &self.expanded {
            expanded.veil(message);
        }
    }

    pub(super) fn problem(&self, span: Range<usize>, key: String, message: String) -> Problem {
        let Location { line, column, .. } = self.location(span.start);
        let here = self.expanded.iter().filter(|one| one.span == span);
        let message = here.fold(message, |message, one| one.veil_here(message));
        Problem {
            file: self.source.file.to_string(),
            line,
            column,
            key,
            message,
        }
    }

    /// A problem with the value at `at`, or with the nearest table that holds it when the key is not there.
    pub(super) fn problem_at(&self, at: &At<'_>, message: String) -> Problem {
        self.problem(self.span(at), at.dotted(), message)
    }

    /// A problem with the key itself.
    pub(super) fn locate(&self, at: &At<'_>) -> Location {
        self.location(self.span(at).start)
    }

    /// How many of the steps lead somewhere in this file, and where they end.
    pub(super) fn nearest(&self, steps: &[&str]) -> (usize, Location) {
        let mut span = self.tree.span();
        let mut table = Some(self.tree.get_ref());
        for (depth, step) in steps.iter().enumerate() {
            let found = table.and_then(|table| table.iter().find(|(key, _)| key.get_ref() == step));
            let Some((key, value)) = found else {
                return (depth, self.location(span.start));
            };
            span = if value.get_ref().is_table() {
                key.span()
            } else {
                value.span()
            };
            table = value.get_ref().as_table();
        }
        (steps.len(), self.location(span.start))
    }

    fn location(&self, offset: usize) -> Location {
        let offset = offset.min(self.source.text.len());
        let line = self.lines.partition_point(|start| *start <= offset);
        let start = self.lines[line - 1];
        let column = self.source.text[start..offset].chars().count() + 1;
        Location {
            file: Arc::clone(&self.source.file),
            line,
            column,
        }
    }

    fn span(&self, at: &At<'_>) -> Range<usize> {
        let mut span = self.tree.span();
        let mut table = Some(self.tree.get_ref());
        let mut value: Option<&DeValue<'_>> = None;
        for step in at.steps() {
            let found = match step {
                Step::Key(key) => table
                    .or_else(|| value.and_then(DeValue::as_table))
                    .and_then(|t| {
                        t.iter()
                            .find(|(k, _)| k.get_ref() == key)
                            .map(|(k, v)| (k.span(), v))
                    }),
                Step::Index(index) => value
                    .and_then(DeValue::as_array)
                    .and_then(|array| array.get(index))
                    .map(|v| (v.span(), v)),
                Step::Root => None,
            };
            let Some((key_span, next)) = found else { break };
            span = if next.get_ref().is_table() || next.get_ref().is_array() {
                key_span
            } else {
                next.span()
            };
            table = None;
            value = Some(next.get_ref());
        }
        span
    }
}

/// What to do about a value that has no place in the shape, so that the rest of the file can still be validated.
pub(super) enum Patch {
    /// The key is unknown: leave it out.
    Remove,
    /// The value is missing or of another type: put an empty one of this type.
    Place(&'static str),
    /// The value is none of a few words: put one of them.
    Word(String),
}

/// A key that was reported already, and how to go on without it.
pub(super) struct Placeholder {
    path: Vec<OwnedStep>,
    /// The key as it is shown; problems found with the stand-in value are not shown again.
    key: String,
    patch: Patch,
}

#[derive(Clone)]
enum OwnedStep {
    Key(String),
    Index(usize),
}

impl Placeholder {
    pub(super) fn new(at: &At<'_>, patch: Patch) -> Self {
        let steps = at.steps().into_iter();
        let path = steps.filter_map(|step| match step {
            Step::Key(key) => Some(OwnedStep::Key(key.to_owned())),
            Step::Index(index) => Some(OwnedStep::Index(index)),
            Step::Root => None,
        });
        Self {
            path: path.collect(),
            key: at.dotted(),
            patch,
        }
    }
}

impl Placeholder {
    /// A choice that is missing or unknown. What depends on a `type` or an `algorithm` cannot be judged, so nothing more
    /// is said of its table.
    pub(super) fn of_choice(at: &At<'_>, word: String) -> Self {
        let mut placeholder = Self::new(at, Patch::Word(word));
        if matches!(at.step, Step::Key("type" | "algorithm")) {
            placeholder.key = at.parent.map(At::dotted).unwrap_or_default();
        }
        placeholder
    }

    /// Whether a problem with `key` comes from the stand-in.
    pub(super) fn covers(&self, key: &str) -> bool {
        key.strip_prefix(self.key.as_str())
            .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
    }
}

/// Puts stand-ins where the file has no usable value.
pub(super) fn patch(table: &mut DeTable<'_>, placeholders: &[Placeholder]) {
    for placeholder in placeholders {
        patch_table(table, &placeholder.path, &placeholder.patch);
    }
}

fn patch_table(table: &mut DeTable<'_>, path: &[OwnedStep], patch: &Patch) {
    let [OwnedStep::Key(key), rest @ ..] = path else {
        return;
    };
    if !rest.is_empty() {
        if let Some((_, value)) = table.iter_mut().find(|(known, _)| known.get_ref() == key) {
            patch_value(value.get_mut(), rest, patch);
        }
        return;
    }
    match stand_in(patch) {
        None => {
            table.remove(key.as_str());
        }
        Some(value) => {
            let name = Spanned::new(0..0, Cow::Owned(key.clone()));
            table.insert(name, Spanned::new(0..0, value));
        }
    }
}

fn patch_value(value: &mut DeValue<'_>, path: &[OwnedStep], patch: &Patch) {
    match (value, path) {
        (DeValue::Table(table), path) => patch_table(table, path, patch),
        (DeValue::Array(items), [OwnedStep::Index(index), rest @ ..]) => {
            let Some(item) = items.get_mut(*index) else {
                return;
            };
            match (rest, stand_in(patch)) {
                ([], Some(value)) => *item.get_mut() = value,
                ([], None) => {}
                (rest, _) => patch_value(item.get_mut(), rest, patch),
            }
        }
        _ => {}
    }
}

fn stand_in<'v>(patch: &Patch) -> Option<DeValue<'v>> {
    Some(match patch {
        Patch::Remove => return None,
        Patch::Word(word) => DeValue::String(Cow::Owned(word.clone())),
        Patch::Place("object") => DeValue::Table(DeTable::new()),
        Patch::Place("array") => DeValue::Array(toml::de::DeArray::new()),
        Patch::Place("boolean") => DeValue::Boolean(false),
        Patch::Place("integer") => DeValue::Integer(toml::de::DeInteger::default()),
        Patch::Place(_) => DeValue::String(Cow::Borrowed("")),
    })
}
