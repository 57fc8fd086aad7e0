//! What a preflight tells of the request that it announces (Fetch standard, CORS-preflight request).
//!
//! It has the target of that request, names its method and its headers, and carries neither their values nor any cookie.
//! So a route that wants headers or cookies cannot be told for certain; what is told decides as far as it goes.

use http::{HeaderMap, HeaderName, Method, header};

use super::predicate::{Asked, admits, holds_beside_fields};
use crate::config::Route;

/// How well a route fits the request that a preflight announces.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Fit {
    /// A header that it wants was not announced. It answers when nobody else does, which is clearer than no answer.
    Poor,
    /// Whether it takes the request hangs on what browsers do not announce.
    Open,
    /// The route takes the request if the values are right.
    Good,
}

/// Headers that a browser sends unannounced: those any script may set, and those the browser sets itself (Fetch standard,
/// CORS-safelisted and forbidden request-headers).
const UNANNOUNCED: [&str; 16] = [
    "accept",
    "accept-charset",
    "accept-encoding",
    "accept-language",
    "connection",
    "content-language",
    "content-length",
    "content-type",
    "cookie",
    "date",
    "dnt",
    "keep-alive",
    "range",
    "referer",
    "te",
    "via",
];

/// How well `route` fits the request that a preflight announces; `None`: not at all, or this is no preflight.
pub(super) fn fit(route: &Route, asked: &Asked<'_>) -> Option<Fit> {
    if !is_for(route, asked) || !holds_beside_fields(route, asked) {
        return None;
    }
    let open = (!route.matching.cookies.is_empty()).then_some(Fit::Open);
    let headers = route.matching.headers.iter().map(|(name, wanted)| {
        let mut given = asked.headers.get_all(name).iter();
        let holds = given.any(|value| value.to_str().is_ok_and(|value| wanted.matches(value)));
        if holds || announces(asked.headers, name) {
            Fit::Good
        } else if UNANNOUNCED.contains(&name.as_str()) || name.as_str().starts_with("sec-") {
            Fit::Open
        } else {
            Fit::Poor
        }
    });
    Some(headers.chain(open).min().unwrap_or(Fit::Good))
}

/// A browser asks with OPTIONS before it sends the method it means; a route with CORS rules answers for its own methods.
pub(super) fn is_for(route: &Route, asked: &Asked<'_>) -> bool {
    if route.transform.cors.is_none()
        || *asked.method != Method::OPTIONS
        || !asked.headers.contains_key(header::ORIGIN)
    {
        return false;
    }
    let meant = asked.headers.get(header::ACCESS_CONTROL_REQUEST_METHOD);
    meant
        .and_then(|method| Method::from_bytes(method.as_bytes()).ok())
        .is_some_and(|meant| admits(&route.matching.methods, &meant))
}

fn announces(headers: &HeaderMap, name: &HeaderName) -> bool {
    let lists = headers.get_all(header::ACCESS_CONTROL_REQUEST_HEADERS);
    let lists = lists.iter().filter_map(|list| list.to_str().ok());
    let mut names = lists.flat_map(|list| list.split(','));
    names.any(|announced| announced.trim().eq_ignore_ascii_case(name.as_str()))
}
