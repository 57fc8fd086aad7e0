//! The one normalisation of request paths, used for matching, authorisation and forwarding alike.
//!
//! RFC 3986 §6.2.2: percent-escapes of unreserved characters are decoded, the other escapes get upper-case digits, dot
//! segments are resolved and duplicate slashes merged. What stands raw and every reader escapes alike is escaped. What has
//! no single meaning is refused rather than repaired: `%2F`, `%5C`, `\`, encoded controls, `%25` before
//! two hex digits, escapes that are no UTF-8, `..` above the root, and a segment that turns into `.` or `..` once its
//! `;parameters` are cut off.
//!
//! Some applications cannot do without `%2F` or `//`. [`read`] leaves them as they are, and tells how a path would be read
//! by those who decode or merge them.

use std::borrow::Cow;

use thiserror::Error;

/// Why a path has no single meaning. The text names the construct, never the path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Ambiguous {
    /// The path does not begin with a slash.
    #[error("the path does not begin with a slash")]
    NotAbsolute,
    /// A `%` without two hex digits.
    #[error("a percent-escape is malformed")]
    BadEscape,
    /// `%2F`, `%5C`, `%00` or another encoded control character.
    #[error("a percent-escape hides a separator or a control character")]
    HiddenSeparator,
    /// `%25` followed by two hex digits.
    #[error("a percent-escape is escaped twice")]
    DoubleEscape,
    /// Escaped bytes that are no UTF-8.
    #[error("percent-escapes are not UTF-8")]
    NotUtf8,
    /// A backslash.
    #[error("a backslash stands in the path")]
    Backslash,
    /// A byte that no path may contain.
    #[error("a character may not stand in a path")]
    IllegalCharacter,
    /// A segment `..` that would leave the root.
    #[error("the path leaves the root")]
    AboveRoot,
    /// `/..;x/` and the like.
    #[error("a segment is a dot segment once its parameters are cut off")]
    HiddenDots,
    /// A dot segment beside slashes that some decode or merge, and others do not: it means another path to each.
    #[error("a dot segment stands beside slashes that are read in more than one way")]
    DotsBesideSlashes,
    /// Decoded or merged, the slashes lead to another route.
    #[error("its slashes, decoded or merged, lead to another route")]
    OtherRoute,
}

/// How `%2F` is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoded {
    /// An encoded slash is refused.
    Refuse,
    /// An encoded slash is no slash, and stays.
    Keep,
    /// An encoded slash is a slash.
    Decode,
}

/// How slashes are read that some read as others do not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slashes {
    /// `%2F`.
    pub encoded: Encoded,
    /// Whether `//` is one slash.
    pub merge: bool,
}

/// Whether a path holds `%2F`.
pub fn has_encoded_slash(raw: &str) -> bool {
    let mut escapes = raw.as_bytes().windows(3);
    escapes.any(|escape| escape.eq_ignore_ascii_case(b"%2f"))
}

/// Whether a path holds `//`.
pub fn has_double_slash(raw: &str) -> bool {
    raw.contains("//")
}

/// Whether a byte stands raw in targets of some clients, and is escaped by all who escape it (the URL standard's percent-encode
/// sets): brackets, braces, quotes, and what is not ASCII.
pub const fn stands_raw(byte: u8) -> bool {
    matches!(
        byte,
        b'[' | b']' | b'|' | b'^' | b'{' | b'}' | b'"' | b'<' | b'>' | b'`' | 0x80..
    )
}

/// A target in which everything that [`stands_raw`] is escaped.
pub fn escape_raw(target: &str) -> String {
    let mut out = String::with_capacity(target.len() + 16);
    for byte in target.bytes() {
        if stands_raw(byte) {
            push_escaped(byte, &mut out);
        } else {
            out.push(char::from(byte));
        }
    }
    out
}

/// The normal form of `raw` (a path without query). Borrowed when it is normal already, which is the rule.
pub fn normalize(raw: &str) -> Result<Cow<'_, str>, Ambiguous> {
    let slashes = Slashes {
        encoded: Encoded::Refuse,
        merge: true,
    };
    read(raw, slashes)
}

/// The form of `raw` for those who read slashes so. Where `%2F` or `//` stays or is decoded, dot segments are refused: what
/// they take back depends on it.
pub fn read(raw: &str, slashes: Slashes) -> Result<Cow<'_, str>, Ambiguous> {
    if !raw.starts_with('/') {
        return Err(Ambiguous::NotAbsolute);
    }
    if is_plain(raw.as_bytes()) {
        return Ok(Cow::Borrowed(raw));
    }
    let decoded = decode_unreserved(raw.as_bytes(), slashes.encoded)?;
    if is_escaped_twice(&decoded) {
        return Err(Ambiguous::DoubleEscape);
    }
    let kept = !slashes.merge && has_double_slash(&decoded);
    if kept || (slashes.encoded != Encoded::Refuse && has_encoded_slash(raw)) {
        if decoded.split('/').any(is_dots) {
            return Err(Ambiguous::DotsBesideSlashes);
        }
        if kept {
            return Ok(Cow::Owned(decoded));
        }
    }
    let resolved = resolve_dots(&decoded)?;
    Ok(if resolved == raw {
        Cow::Borrowed(raw)
    } else {
        Cow::Owned(resolved)
    })
}

/// Nothing to decode, to merge or to resolve: letters, digits and harmless marks, no `//`, no segment with a leading dot.
fn is_plain(bytes: &[u8]) -> bool {
    let mut previous = 0;
    bytes.iter().all(|&byte| {
        let ok = match byte {
            b'/' | b'.' => previous != b'/',
            _ => {
                byte.is_ascii_alphanumeric()
                    || matches!(byte, b'-' | b'_' | b'~' | b'@' | b':' | b',' | b'+' | b'=')
            }
        };
        previous = byte;
        ok
    })
}

fn decode_unreserved(raw: &[u8], slash: Encoded) -> Result<String, Ambiguous> {
    let mut out = String::with_capacity(raw.len());
    let mut high = Vec::new();
    let mut at = 0;
    while at < raw.len() {
        if raw[at] != b'%' {
            check_utf8(&mut high)?;
            if stands_raw(raw[at]) {
                push_escaped(raw[at], &mut out);
            } else {
                out.push(char::from(literal(raw[at])?));
            }
            at += 1;
            continue;
        }
        let byte = escape(raw, at)?;
        at += 3;
        if byte >= 0x80 {
            high.push(byte);
        } else {
            check_utf8(&mut high)?;
        }
        match byte {
            b'/' if slash == Encoded::Keep => push_escaped(byte, &mut out),
            b'/' if slash == Encoded::Decode => out.push('/'),
            b'/' | b'\\' | 0..=0x1f | 0x7f => return Err(Ambiguous::HiddenSeparator),
            b'-' | b'.' | b'_' | b'~' => out.push(char::from(byte)),
            _ if byte.is_ascii_alphanumeric() => out.push(char::from(byte)),
            _ => push_escaped(byte, &mut out),
        }
    }
    check_utf8(&mut high)?;
    Ok(out)
}

fn push_escaped(byte: u8, out: &mut String) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    out.push('%');
    out.push(char::from(HEX[usize::from(byte >> 4)]));
    out.push(char::from(HEX[usize::from(byte & 15)]));
}

/// RFC 3986 `pchar` or a slash, as it stands.
fn literal(byte: u8) -> Result<u8, Ambiguous> {
    match byte {
        b'\\' => Err(Ambiguous::Backslash),
        b'/' | b'-' | b'.' | b'_' | b'~' | b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*'
        | b'+' | b',' | b';' | b'=' | b':' | b'@' => Ok(byte),
        _ if byte.is_ascii_alphanumeric() => Ok(byte),
        _ => Err(Ambiguous::IllegalCharacter),
    }
}

/// Whether decoding once more would find an escape: judged on the decoded form, where the digits may have been escaped
/// themselves.
fn is_escaped_twice(decoded: &str) -> bool {
    let bytes = decoded.as_bytes();
    decoded
        .match_indices("%25")
        .any(|(at, _)| escape_digits(bytes, at + 3).is_some())
}

fn escape(raw: &[u8], at: usize) -> Result<u8, Ambiguous> {
    escape_digits(raw, at + 1).ok_or(Ambiguous::BadEscape)
}

fn escape_digits(raw: &[u8], at: usize) -> Option<u8> {
    let digit = |i: usize| raw.get(i).and_then(|b| char::from(*b).to_digit(16));
    Some((digit(at)? * 16 + digit(at + 1)?) as u8)
}

/// A run of escaped high bytes must be whole UTF-8 characters: overlong forms and halves are refused.
fn check_utf8(run: &mut Vec<u8>) -> Result<(), Ambiguous> {
    if !run.is_empty() {
        std::str::from_utf8(run).map_err(|_| Ambiguous::NotUtf8)?;
        run.clear();
    }
    Ok(())
}

/// Whether a segment is `.` or `..`, its parameters left aside.
fn is_dots(segment: &str) -> bool {
    matches!(segment.split(';').next(), Some("." | ".."))
}

fn resolve_dots(path: &str) -> Result<String, Ambiguous> {
    let mut kept: Vec<&str> = Vec::new();
    let mut open = false;
    for segment in path[1..].split('/') {
        open = false;
        match segment {
            "" | "." => open = true,
            ".." => {
                kept.pop().ok_or(Ambiguous::AboveRoot)?;
                open = true;
            }
            _ => {
                if is_dots(segment) {
                    return Err(Ambiguous::HiddenDots);
                }
                kept.push(segment);
            }
        }
    }
    let mut out = String::with_capacity(path.len());
    for segment in &kept {
        out.push('/');
        out.push_str(segment);
    }
    if open || kept.is_empty() {
        out.push('/');
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn has_one_form_for_one_meaning() {
        for (raw, normal) in [
            ("/", "/"),
            ("/a/b", "/a/b"),
            ("/a//b", "/a/b"),
            ("//", "/"),
            ("/a/./b", "/a/b"),
            ("/a/../b", "/b"),
            ("/a/b/..", "/a/"),
            ("/a/b/.", "/a/b/"),
            ("/%61/%7e", "/a/~"),
            ("/a%2e/b", "/a./b"),
            ("/a/%2e%2e/b", "/b"),
            ("/caf%c3%a9", "/caf%C3%A9"),
            ("/a%20b", "/a%20b"),
            ("/a%3bb", "/a%3Bb"),
            ("/.well-known/x", "/.well-known/x"),
            ("/a;v=1/b", "/a;v=1/b"),
            ("/100%25", "/100%25"),
            ("/a[1]|^{}", "/a%5B1%5D%7C%5E%7B%7D"),
            ("/\"<a>`", "/%22%3Ca%3E%60"),
            ("/caf\u{e9}", "/caf%C3%A9"),
            ("/a%5b1%5d", "/a%5B1%5D"),
        ] {
            assert_eq!(normalize(raw).as_deref(), Ok(normal), "{raw}");
        }
    }

    #[test]
    fn refuses_what_has_no_single_meaning() {
        for (raw, why) in [
            ("a", Ambiguous::NotAbsolute),
            ("", Ambiguous::NotAbsolute),
            ("/%", Ambiguous::BadEscape),
            ("/%4", Ambiguous::BadEscape),
            ("/%zz", Ambiguous::BadEscape),
            ("/a%2fb", Ambiguous::HiddenSeparator),
            ("/a%5Cb", Ambiguous::HiddenSeparator),
            ("/a%00", Ambiguous::HiddenSeparator),
            ("/a%0d%0a", Ambiguous::HiddenSeparator),
            ("/a\\b", Ambiguous::Backslash),
            ("/%252e", Ambiguous::DoubleEscape),
            ("/%25%41a", Ambiguous::DoubleEscape),
            ("/%c0%af", Ambiguous::NotUtf8),
            ("/%e2%82", Ambiguous::NotUtf8),
            ("/..", Ambiguous::AboveRoot),
            ("/a/../../b", Ambiguous::AboveRoot),
            ("/a/..;x/b", Ambiguous::HiddenDots),
            ("/.;/b", Ambiguous::HiddenDots),
            ("/a b", Ambiguous::IllegalCharacter),
            ("/a#b", Ambiguous::IllegalCharacter),
        ] {
            assert_eq!(normalize(raw), Err(why), "{raw}");
        }
    }

    #[test]
    fn slashes_are_read_in_several_ways() {
        let read = |raw: &'static str, encoded, merge| read(raw, Slashes { encoded, merge });
        for (raw, kept, decoded, merged) in [
            ("/a%2fb", "/a%2Fb", "/a/b", "/a/b"),
            ("/a//b", "/a//b", "/a//b", "/a/b"),
            ("/a/%2F/b", "/a/%2F/b", "/a///b", "/a/b"),
            ("//a%2F", "//a%2F", "//a/", "/a/"),
            ("/%61%2f[", "/a%2F%5B", "/a/%5B", "/a/%5B"),
        ] {
            assert_eq!(
                read(raw, Encoded::Keep, false).as_deref(),
                Ok(kept),
                "{raw}"
            );
            assert_eq!(
                read(raw, Encoded::Decode, false).as_deref(),
                Ok(decoded),
                "{raw}"
            );
            assert_eq!(
                read(raw, Encoded::Decode, true).as_deref(),
                Ok(merged),
                "{raw}"
            );
        }
        for raw in [
            "/a%2f..",
            "/..%2fa",
            "/a/../b%2fc",
            "/a%2f.;x",
            "/a%2f%2e%2e/b",
        ] {
            let decoded = read(raw, Encoded::Decode, true);
            assert_eq!(decoded, Err(Ambiguous::DotsBesideSlashes), "{raw}");
        }
        let dots = read("/a/../b%2fc", Encoded::Keep, true);
        assert_eq!(dots, Err(Ambiguous::DotsBesideSlashes));
        let dots = read("/a//../b", Encoded::Keep, false);
        assert_eq!(dots, Err(Ambiguous::DotsBesideSlashes));
        assert_eq!(read("/a//../b", Encoded::Keep, true).as_deref(), Ok("/b"));
        assert_eq!(
            read("/a%5c%2fb", Encoded::Keep, false),
            Err(Ambiguous::HiddenSeparator)
        );
        assert_eq!(
            read("/a%252fb", Encoded::Decode, false),
            Err(Ambiguous::DoubleEscape)
        );
    }

    #[test]
    fn what_stands_raw_is_escaped_once() {
        let raw = "/a[]?q={\"caf\u{e9}\"}%5B";
        let escaped = escape_raw(raw);
        assert_eq!(escaped, "/a%5B%5D?q=%7B%22caf%C3%A9%22%7D%5B");
        assert_eq!(escape_raw(&escaped), escaped);
    }

    proptest! {
        #[test]
        fn is_idempotent(raw in "/([a-c./;%]|%2e|%41|%20|%c3%a9|%25){0,24}") {
            if let Ok(once) = normalize(&raw) {
                let twice = normalize(&once);
            prop_assert_eq!(twice.as_deref(), Ok(&*once));
            }
        }

        #[test]
        fn never_leaves_dots_or_doubles(raw in "/[a-b./%2e]{0,24}") {
            if let Ok(normal) = normalize(&raw) {
                prop_assert!(!normal.contains("//"));
                prop_assert!(normal.split('/').all(|segment| segment != "." && segment != ".."));
            }
        }
    }
}
