//! The head of an answer as a stream carries it: no reason phrase, nothing that concerns a connection.

use http::header::{HeaderName, HeaderValue};
use http::{HeaderMap, Response, StatusCode};

use crate::gateway::message::{self, AnswerHead, BodyFraming, GatewayHeaders};

/// Fields of most answers, with those we add: room for them spares a later move.
const USUAL: usize = 16;

/// An informational head. None of ours is in it.
pub(super) fn informational(head: &impl AnswerHead) -> Option<Response<()>> {
    let mut headers = HeaderMap::new();
    message::each_informational(head, |name, value| add(&mut headers, name, value));
    response_with(head.status(), headers)
}

/// A final head, with what an answer carries besides its own fields.
pub(in crate::gateway) fn response(
    head: &impl AnswerHead,
    framing: BodyFraming,
    ours: &GatewayHeaders,
) -> Option<Response<()>> {
    let mut headers = HeaderMap::with_capacity(USUAL);
    message::each_final(head, framing, ours, |name, value| {
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

/// Whether a field has another value in each answer. Kept for later answers to refer to (RFC 7541 §6.2), such values would
/// fill the codec's table, drive out those that come again, and each be compared with all of them before.
fn is_told_once(name: &HeaderName) -> bool {
    matches!(
        name.as_str(),
        "x-trace-id" | "x-ratelimit-remaining" | "x-ratelimit-reset" | "ratelimit"
    )
}

fn add(headers: &mut HeaderMap, name: &[u8], value: &[u8]) {
    if let (Ok(name), Ok(mut value)) =
        (HeaderName::from_bytes(name), HeaderValue::from_bytes(value))
    {
        value.set_sensitive(is_told_once(&name));
        // More fields than a map can hold were refused where the answer was read.
        let _ = headers.try_append(name, value);
    }
}
