//! The head of an answer as a stream carries it: no reason phrase, nothing that concerns a connection.

use http::header::{HeaderName, HeaderValue};
use http::{HeaderMap, Response, StatusCode};

use crate::gateway::http1::answer::{self, AnswerHead, Delimited, Extra};

/// Fields of most answers, with those we add: room for them spares a later move.
const USUAL: usize = 16;

/// An informational head. None of ours is in it.
pub(super) fn informational(head: &impl AnswerHead) -> Option<Response<()>> {
    let mut headers = HeaderMap::new();
    answer::each_informational(head, |name, value| add(&mut headers, name, value));
    response_with(head.status(), headers)
}

/// A final head, with what an answer carries besides its own fields.
pub(in crate::gateway) fn response(
    head: &impl AnswerHead,
    delimited: Delimited,
    extra: &Extra,
) -> Option<Response<()>> {
    let mut headers = HeaderMap::with_capacity(USUAL);
    answer::each_final(head, delimited, extra, |name, value| {
        add(&mut headers, name, value);
    });
    response_with(head.status(), headers)
}

fn response_with(status: u16, headers: HeaderMap) -> Option<Response<()>> {
    let mut response = Response::new(());
    *response.status_mut() = StatusCode::from_u16(status).ok()?;
    *response.headers_mut() = headers;
    Some(response)
}

fn add(headers: &mut HeaderMap, name: &[u8], value: &[u8]) {
    if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value)) {
        // More fields than a map can hold were refused where the answer was read.
        let _ = headers.try_append(name, value);
    }
}
