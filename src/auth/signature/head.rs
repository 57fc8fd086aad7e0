//! Reading a head the way both schemes need it: strictly.

use http::{HeaderMap, Version, header};
use pingora::http::RequestHeader;

/// A header that must not be repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Single<'h> {
    /// Not there.
    Absent,
    /// There once: its value without surrounding white space.
    Value(&'h [u8]),
    /// There several times: which one was meant cannot be known.
    Repeated,
}

/// The only value of header `name`.
pub(super) fn single<'h>(headers: &'h HeaderMap, name: &str) -> Single<'h> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => Single::Absent,
        (Some(value), None) => Single::Value(trim(value.as_bytes())),
        (Some(_), Some(_)) => Single::Repeated,
    }
}

/// The only value of header `name` as text; `None` when absent, repeated or not ASCII.
pub(super) fn single_text<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    match single(headers, name) {
        Single::Value(value) if value.is_ascii() => std::str::from_utf8(value).ok(),
        _ => None,
    }
}

/// Cuts optional white space, which HTTP says is not part of a value.
pub(super) fn trim(value: &[u8]) -> &[u8] {
    value.trim_ascii()
}

/// Path and query of a request target in any of its forms, bytes untouched.
pub(super) fn path_and_query(target: &str) -> (&str, Option<&str>) {
    let origin = match target.split_once("://") {
        Some((scheme, rest)) if !scheme.is_empty() && !scheme.contains(['/', '?']) => {
            let end = rest.find(['/', '?']).unwrap_or(rest.len());
            &rest[end..]
        }
        _ => target,
    };
    let (path, query) = match origin.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (origin, None),
    };
    (if path.is_empty() { "/" } else { path }, query)
}

/// Whether a body may follow. HTTP/2 announces none in the head unless the client likes to.
pub(super) fn may_have_body(head: &RequestHeader) -> bool {
    if head.headers.contains_key(header::TRANSFER_ENCODING) {
        return true;
    }
    match single(&head.headers, "content-length") {
        Single::Value(length) => length != b"0",
        Single::Repeated => true,
        Single::Absent => head.version >= Version::HTTP_2,
    }
}

/// Whether `text` can be a nonce: 1 to 64 token characters (RFC 9110 §5.6.2) or others of `more`.
pub(super) fn is_nonce(text: &str, more: &[u8]) -> bool {
    let fits = |byte: u8| {
        byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte) || more.contains(&byte)
    };
    (1..=64).contains(&text.len()) && text.bytes().all(fits)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::testing::Call;

    #[test]
    fn finds_the_path_in_every_form_of_target() {
        for (target, expected) in [
            ("/a/b?c=d", ("/a/b", Some("c=d"))),
            ("/a?", ("/a", Some(""))),
            ("/a//b%2f?x?y", ("/a//b%2f", Some("x?y"))),
            ("http://host:80/a?b", ("/a", Some("b"))),
            ("http://host", ("/", None)),
            ("http://host?q", ("/", Some("q"))),
            ("/a?u=http://host/x", ("/a", Some("u=http://host/x"))),
            ("/a://b", ("/a://b", None)),
            ("*", ("*", None)),
            ("", ("/", None)),
        ] {
            assert_eq!(path_and_query(target), expected, "{target}");
        }
    }

    #[test]
    fn a_repeated_header_has_no_value() {
        let call = Call::get("/").header("x-a", " 1 ").header("x-b", "1");
        let call = call.header("x-b", "1");
        let headers = &call.head().headers;
        assert_eq!(single(headers, "x-a"), Single::Value(b"1"));
        assert_eq!(single(headers, "x-b"), Single::Repeated);
        assert_eq!(single(headers, "x-c"), Single::Absent);
        assert_eq!(single_text(headers, "x-b"), None);
    }

    #[test]
    fn knows_when_a_body_may_come() {
        let asked = |call: Call| may_have_body(call.head());
        assert!(!asked(Call::get("/")));
        assert!(!asked(Call::get("/").header("content-length", "0")));
        assert!(asked(Call::get("/").header("content-length", "1")));
        assert!(asked(Call::get("/").header("transfer-encoding", "chunked")));
        assert!(asked(Call::get("/").http2()));
        assert!(!asked(Call::get("/").http2().header("content-length", "0")));
    }
}
