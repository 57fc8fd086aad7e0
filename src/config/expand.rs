//! `${NAME}` and `${NAME:-default}` inside values, and what was put in their place: text of the environment may be secret,
//! so no message quotes it, and what is shown of the configuration leaves it as it was written.

use std::borrow::Cow;
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Reads the environment: the one thing a configuration may ask for while it is read. An error says why a variable that is
/// there cannot be used.
pub type Env<'e> = &'e dyn Fn(&str) -> Result<Option<String>, String>;

/// A value that holds text of the environment.
pub(super) struct Expanded {
    /// Where it stands in the file.
    pub(super) span: Range<usize>,
    /// The value as it is written there.
    written: String,
    /// What the environment put into it.
    parts: Vec<String>,
}

/// Shortest piece of a part that is struck out of what a message about its value quotes; a shorter part is struck out
/// whole.
const PIECE: usize = 4;
/// Shortest part that is struck out of every message. Shorter ones are words that messages are made of.
const PART: usize = 8;
/// Keys whose values are the operator's own text and may be secret: what is shown of them is what was written.
const FREE_TEXT: [&str; 11] = [
    "headers", "query", "cookies", "claims", "require", "text", "html", "json", "redirect",
    "rewrite", "health",
];
/// What `${` is written as where it is meant literally.
const LITERAL: &str = "$${";

/// Expands every text value below `table`; what cannot be expanded goes to `unknown` with its place.
pub(super) fn table(
    table: &mut DeTable<'_>,
    env: Env<'_>,
    unknown: &mut Vec<(Range<usize>, String)>,
) -> Vec<Expanded> {
    let mut expanded = Vec::new();
    each_text(table, false, &mut |text, span, _| {
        if !text.contains("${") {
            return;
        }
        match expand(text, env) {
            Ok((value, parts)) => {
                let written = std::mem::replace(text, Cow::Owned(value)).into_owned();
                expanded.push(Expanded {
                    span,
                    written,
                    parts,
                });
            }
            Err(message) => unknown.push((span, message)),
        }
    });
    expanded
}

/// Puts back what was written where it may be secret, and writes every other `${` so that it can be read again.
pub(super) fn put_back(table: &mut DeTable<'_>, expanded: &[Expanded]) {
    each_text(table, false, &mut |text, span, free| {
        let known = expanded.iter().find(|one| one.span == span);
        match known.filter(|one| free && !one.parts.is_empty()) {
            Some(known) => *text = Cow::Owned(known.written.clone()),
            None if text.contains("${") => *text = Cow::Owned(text.replace("${", LITERAL)),
            None => {}
        }
    });
}

/// Calls `visit` for each text value with its place, and whether it is free text.
fn each_text<'t>(
    table: &mut DeTable<'t>,
    free: bool,
    visit: &mut impl FnMut(&mut Cow<'t, str>, Range<usize>, bool),
) {
    for (key, value) in table.iter_mut() {
        let free = free || FREE_TEXT.contains(&&**key.get_ref());
        each_of(value, free, visit);
    }
}

fn each_of<'t>(
    value: &mut Spanned<DeValue<'t>>,
    free: bool,
    visit: &mut impl FnMut(&mut Cow<'t, str>, Range<usize>, bool),
) {
    let span = value.span();
    match value.get_mut() {
        DeValue::String(text) => visit(text, span, free),
        DeValue::Array(items) => items.iter_mut().for_each(|item| each_of(item, free, visit)),
        DeValue::Table(table) => each_text(table, free, visit),
        _ => {}
    }
}

/// The value of a text, and what of it the environment brought. `$${` stands for `${`.
pub(super) fn expand(text: &str, env: Env<'_>) -> Result<(String, Vec<String>), String> {
    let mut out = String::with_capacity(text.len());
    let mut parts = Vec::new();
    let mut rest = text;
    while let Some(open) = rest.find("${") {
        let after = &rest[open + 2..];
        if let Some(before) = rest[..open].strip_suffix('$') {
            out.push_str(before);
            out.push_str("${");
            rest = after;
            continue;
        }
        out.push_str(&rest[..open]);
        let close = after.find('}').ok_or_else(|| {
            format!("\"${{\" without \"}}\"; write \"{LITERAL}\" where it is meant literally")
        })?;
        let (name, default) = match after[..close].split_once(":-") {
            Some((name, default)) => (name, Some(default)),
            None => (&after[..close], None),
        };
        match (env(name)?, default) {
            (Some(value), _) => {
                out.push_str(&value);
                parts.push(value);
            }
            (None, Some(default)) => out.push_str(default),
            (None, None) => {
                return Err(format!(
                    "the environment has no {name}; set it, or give a default: \"${{{name}:-value}}\""
                ));
            }
        }
        rest = &after[close + 1..];
    }
    out.push_str(rest);
    Ok((out, parts))
}

impl Expanded {
    /// Strikes what the environment brought out of a message about this very value.
    pub(super) fn veil_here(&self, message: String) -> String {
        self.parts.iter().fold(message, |message, part| {
            let mut out = String::with_capacity(message.len());
            for (piece, quoted) in pieces(&message) {
                // Outside of quotes stand our own words.
                let least = if quoted { PIECE } else { PART };
                out.push_str(&strike(piece, part, least.min(part.len()).max(1)));
            }
            out
        })
    }

    /// Strikes what the environment brought out of a message about something else.
    pub(super) fn veil(&self, message: &mut String) {
        for part in self.parts.iter().filter(|part| part.len() >= PART) {
            if message.contains(part.as_str()) {
                *message = message.replace(part.as_str(), "***");
            }
        }
    }

    /// What the environment put into it, but for words that everything is made of.
    pub(super) fn long_parts(&self) -> impl Iterator<Item = &str> {
        let long = self.parts.iter().filter(|part| part.len() >= PART);
        long.map(String::as_str)
    }

    /// Whether anything came from the environment.
    pub(super) fn holds_any(&self) -> bool {
        self.parts.iter().any(|part| !part.is_empty())
    }
}

/// What stands in quotes and what does not, in turn, the quotes with the latter.
fn pieces(message: &str) -> Vec<(&str, bool)> {
    let mut pieces = Vec::new();
    let (mut start, mut quoted, mut escaped) = (0, false, false);
    for (at, c) in message.char_indices() {
        match c {
            '\\' if quoted => escaped = !escaped,
            '"' if !escaped => {
                let end = if quoted { at } else { at + 1 };
                pieces.push((&message[start..end], quoted));
                (start, quoted) = (end, !quoted);
            }
            _ => escaped = false,
        }
    }
    pieces.push((&message[start..], quoted));
    pieces
}

/// `message` with every run of at least `least` bytes that `part` holds as well struck out.
fn strike(message: &str, part: &str, least: usize) -> String {
    let mut out = String::with_capacity(message.len());
    let mut rest = message;
    while let Some(first) = rest.chars().next() {
        let common = longest_common(rest, part);
        if common >= least {
            out.push_str("***");
            rest = &rest[common..];
        } else {
            out.push(first);
            rest = &rest[first.len_utf8()..];
        }
    }
    out
}

/// Bytes of the longest beginning of `text` that stands somewhere in `part`.
fn longest_common(text: &str, part: &str) -> usize {
    let mut longest = 0;
    let ends = text.char_indices().map(|(at, c)| at + c.len_utf8());
    for end in ends {
        if !part.contains(&text[..end]) {
            break;
        }
        longest = end;
    }
    longest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(name: &str) -> Result<Option<String>, String> {
        Ok((name == "A").then(|| "some-secret".to_owned()))
    }

    #[test]
    fn a_doubled_dollar_is_a_literal_one() {
        for (text, value) in [
            ("$${A}", "${A}"),
            ("x$${A}y${A}", "x${A}ysome-secret"),
            ("$$${A}", "$${A}"),
            ("$A $$ {A}", "$A $$ {A}"),
            ("${A:-x}", "some-secret"),
            ("${B:-x}", "x"),
            ("$${", "${"),
        ] {
            assert_eq!(
                expand(text, &env).map(|(value, _)| value).as_deref(),
                Ok(value),
                "{text}"
            );
        }
        assert!(expand("${A", &env).is_err() && expand("${B}", &env).is_err());
    }

    #[test]
    fn no_piece_of_a_value_stays_in_a_message_about_it() {
        let (_, parts) = expand("${A}", &env).expect("expanded");
        let one = Expanded {
            span: 0..1,
            written: "${A}".into(),
            parts,
        };
        let said = one.veil_here("\"some-secret\" is none; \"secret\" neither; sec".into());
        assert_eq!(said, "\"***\" is none; \"***\" neither; sec");
        let said = one.veil_here("no secret, some-secret \"a\\\"secret\" b".into());
        assert_eq!(said, "no secret, *** \"a\\\"***\" b");
        let mut other = "\"some-secret\" stands twice in some places".to_owned();
        one.veil(&mut other);
        assert_eq!(other, "\"***\" stands twice in some places");
    }
}
