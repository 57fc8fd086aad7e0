//! Where in a request the token is.

use std::borrow::Cow;

use http::header::{AUTHORIZATION, COOKIE};
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::config::TokenSource;
use crate::filter::RequestView;
use crate::primitives::query;

/// What was found.
pub(super) enum Found<'e> {
    /// No source has one.
    Nothing,
    /// A header that must be single is there several times: which one counts is anybody's guess, so none does.
    Several,
    /// The token, unchecked.
    Token(Cow<'e, [u8]>),
}

/// Looks into the sources in order; the first that has something decides. Empty text is no token.
pub(super) fn find<'e>(sources: &[TokenSource], request: &RequestView<'e>) -> Found<'e> {
    let head = request.head;
    let query = request.query;
    for source in sources {
        let found =
            match source {
                TokenSource::Header(name) => in_header(&head.headers, name),
                TokenSource::Cookie(name) => in_cookies(&head.headers, name),
                TokenSource::Query(name) => query
                    .and_then(|query| query::first(query, name))
                    .map_or(Found::Nothing, |token| match token {
                        Cow::Borrowed(text) => Found::Token(Cow::Borrowed(text.as_bytes())),
                        Cow::Owned(text) => Found::Token(Cow::Owned(text.into_bytes())),
                    }),
            };
        match found {
            Found::Nothing => {}
            Found::Token(token) if token.is_empty() => {}
            found => return found,
        }
    }
    Found::Nothing
}

fn in_header<'e>(headers: &'e HeaderMap, name: &HeaderName) -> Found<'e> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else {
        return Found::Nothing;
    };
    if values.next().is_some() {
        return Found::Several;
    }
    let text = if *name == AUTHORIZATION {
        bearer(value)
    } else {
        Some(value.as_bytes())
    };
    text.map_or(Found::Nothing, |token| {
        Found::Token(Cow::Borrowed(token.trim_ascii()))
    })
}

/// What follows the scheme, which has no case; `None` for another scheme.
fn bearer(value: &HeaderValue) -> Option<&[u8]> {
    const SCHEME: &[u8] = b"bearer";
    let (scheme, rest) = value.as_bytes().split_at_checked(SCHEME.len())?;
    let ends = matches!(rest.first(), None | Some(b' ' | b'\t'));
    (ends && scheme.eq_ignore_ascii_case(SCHEME)).then_some(rest)
}

/// HTTP/2 may split cookies over several fields, so all are read.
fn in_cookies<'e>(headers: &'e HeaderMap, name: &str) -> Found<'e> {
    headers
        .get_all(COOKIE)
        .iter()
        .filter_map(|value| std::str::from_utf8(value.as_bytes()).ok())
        .find_map(|text| query::cookie(text, name))
        .map_or(Found::Nothing, |token| {
            Found::Token(Cow::Borrowed(token.as_bytes()))
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::testing::Call;

    fn found(sources: &[TokenSource], call: &Call) -> String {
        match find(sources, &call.context().request) {
            Found::Nothing => "-".to_owned(),
            Found::Several => "several".to_owned(),
            Found::Token(token) => String::from_utf8(token.into_owned()).unwrap(),
        }
    }

    #[test]
    fn reads_the_bearer_scheme_in_any_case_and_no_other() {
        let sources = [TokenSource::Header(AUTHORIZATION)];
        for (value, expected) in [
            ("Bearer a.b.c", "a.b.c"),
            ("bEARER  a.b.c ", "a.b.c"),
            ("Basic a.b.c", "-"),
            ("Bearera.b.c", "-"),
            ("Bearer", "-"),
            ("Bearer  ", "-"),
            ("a.b.c", "-"),
            ("Bearer a, Bearer b", "a, Bearer b"),
        ] {
            let call = Call::get("/").header("authorization", value);
            assert_eq!(found(&sources, &call), expected, "{value}");
        }
        let twice = Call::get("/")
            .header("authorization", "Basic x")
            .header("authorization", "Bearer a.b.c");
        assert_eq!(found(&sources, &twice), "several");
    }

    #[test]
    fn tries_the_sources_in_order() {
        let sources = [
            TokenSource::Header(HeaderName::from_static("x-token")),
            TokenSource::Cookie("t".to_owned()),
            TokenSource::Query("access".to_owned()),
        ];
        let call = Call::get("/x?a=1&access=q%2Eq").header("cookie", "a=b");
        assert_eq!(found(&sources, &call), "q.q");
        let call = call.header("cookie", "c=d; t=k");
        assert_eq!(found(&sources, &call), "k");
        let call = call.header("x-token", "h");
        assert_eq!(found(&sources, &call), "h");
        assert_eq!(found(&sources[..1], &Call::get("/x?access=q")), "-");
    }
}
