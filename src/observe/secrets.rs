//! Configured secrets, struck out of what is logged wherever they appear and however they are written there.

use std::borrow::Cow;

use aho_corasick::AhoCorasick;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::access_log::quoted;
use crate::primitives::secret::Secret;

/// Shortest secret that is looked for: a shorter one is part of too many words.
const SHORTEST: usize = 4;
/// What a URL escapes: all but what RFC 3986 §2.3 leaves as it is.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// What is escaped by programs that leave slashes alone, and by those that leave all of Base64 but `+` alone.
const SLASHES_LEFT: &AsciiSet = &ESCAPED.remove(b'/');
const BASE64_LEFT: &AsciiSet = &SLASHES_LEFT.remove(b'=');

/// Finds secrets in lines.
#[derive(Clone)]
pub(super) struct Secrets(AhoCorasick);

impl Secrets {
    /// Takes those of `secrets` that are long enough; `None` when none is.
    pub(super) fn of(secrets: &[Secret]) -> Option<Self> {
        let long_enough = secrets.iter().map(Secret::expose);
        let long_enough = long_enough.filter(|secret| secret.len() >= SHORTEST);
        let mut forms: Vec<Vec<u8>> = long_enough.flat_map(forms).collect();
        forms.sort_unstable();
        forms.dedup();
        if forms.is_empty() {
            return None;
        }
        AhoCorasick::new(forms).ok().map(Self)
    }

    /// The lines with stars for every run of bytes that secrets cover: where they overlap, or begin alike, to the end of
    /// the last.
    pub(super) fn strike_out<'l>(&self, lines: &'l [u8]) -> Cow<'l, [u8]> {
        if !self.0.is_match(lines) {
            return Cow::Borrowed(lines);
        }
        let found = self.0.find_overlapping_iter(lines);
        let mut runs: Vec<(usize, usize)> = found.map(|one| (one.start(), one.end())).collect();
        runs.sort_unstable();
        let mut out = Vec::with_capacity(lines.len());
        let mut written = 0;
        let mut runs = runs.into_iter().peekable();
        while let Some((start, mut end)) = runs.next() {
            while let Some((_, further)) = runs.next_if(|(next, _)| *next < end) {
                end = end.max(further);
            }
            out.extend_from_slice(&lines[written..start]);
            out.extend_from_slice(b"***");
            written = end;
        }
        out.extend_from_slice(&lines[written..]);
        Cow::Owned(out)
    }
}

/// A secret as it is, as JSON and as a combined line write it, and as URLs do: some programs leave `/` and `=` alone, and
/// forms write a blank as `+`.
fn forms(secret: &[u8]) -> Vec<Vec<u8>> {
    let mut forms = vec![secret.to_vec()];
    if let Ok(text) = std::str::from_utf8(secret) {
        let json = serde_json::Value::from(text).to_string();
        forms.push(json.as_bytes()[1..json.len() - 1].into());
        forms.push(quoted(text).into());
        for set in [ESCAPED, SLASHES_LEFT, BASE64_LEFT] {
            let escaped = utf8_percent_encode(text, set).to_string();
            forms.push(escaped.replace("%20", "+").into());
            forms.push(with_lower_digits(&escaped).into());
            forms.push(escaped.into());
        }
    }
    forms
}

/// A percent-encoded text with the digits of its escapes in lower case.
fn with_lower_digits(escaped: &str) -> String {
    let mut digits = 0;
    let lower = escaped.chars().map(|c| {
        if c == '%' {
            digits = 2;
        } else if digits > 0 {
            digits -= 1;
            return c.to_ascii_lowercase();
        }
        c
    });
    lower.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn struck(secrets: &[&str], line: &str) -> String {
        let secrets: Vec<Secret> = secrets.iter().map(|text| Secret::new(*text)).collect();
        let secrets = Secrets::of(&secrets).expect("some");
        String::from_utf8(secrets.strike_out(line.as_bytes()).into_owned()).expect("text")
    }

    #[test]
    fn secrets_that_begin_alike_or_overlap_leave_nothing() {
        let both = ["canary", "canary-and-more"];
        assert_eq!(
            struck(&both, "a canary-and-more b canary c"),
            "a *** b *** c"
        );
        let both = ["canary-and-more", "canary"];
        assert_eq!(struck(&both, "a canary-and-more b"), "a *** b");
        assert_eq!(struck(&["abcdef", "defghi"], "xabcdefghiy"), "x***y");
        assert_eq!(struck(&["defg", "abcdefghi"], "xabcdefghiy"), "x***y");
        assert_eq!(struck(&["abcd"], "abcdabcd"), "******");
    }

    #[test]
    fn a_secret_is_found_however_it_is_written() {
        let secret = [r#"s3"c\r+t/="#];
        assert_eq!(struck(&secret, r#"{"a":"s3\"c\\r+t/="}"#), r#"{"a":"***"}"#);
        assert_eq!(struck(&secret, "/x?k=s3%22c%5Cr%2Bt%2F%3D&y"), "/x?k=***&y");
        assert_eq!(struck(&secret, "/x?k=s3%22c%5cr%2bt%2f%3d&y"), "/x?k=***&y");
    }

    #[test]
    fn a_secret_that_is_escaped_in_part_is_found() {
        let secret = ["aB3/xY+Zk9//qW oP=="];
        for form in [
            "aB3/xY%2BZk9//qW%20oP%3D%3D",
            "aB3/xY%2BZk9//qW+oP%3D%3D",
            "aB3/xY%2BZk9//qW%20oP==",
        ] {
            assert_eq!(struck(&secret, &format!("k={form}&")), "k=***&");
        }
    }

    #[test]
    fn short_ones_are_left() {
        assert!(Secrets::of(&[Secret::new("abc")]).is_none());
        assert!(Secrets::of(&[]).is_none());
    }
}
