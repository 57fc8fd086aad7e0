//! The head of an answer that came as fields, over HTTP/2: is it one, and what of it is passed on? Heads that came as bytes
//! are judged where they are [read](super::exchange::h1), by the same rules.

use http::{HeaderMap, HeaderName, header};
use pingora::http::ResponseHeader;
use smallvec::SmallVec;

use super::failure::invalid;
use super::http1::head::content_length;
use super::message::{is_ours, is_status};
use crate::config::HeadLimits;

/// What a line of HTTP/1 has besides name and value: a head is as long on either way.
const LINE_REST: usize = 4;

/// Whether a head is one: not, when two parsers could read it differently (RFC 9112 §6.3), when its status is none (RFC 9110
/// §15), or when it is larger than the upstream's heads may be. A length that is said twice is said once from here on.
pub(super) fn check(head: &mut ResponseHeader, limits: HeadLimits) -> pingora::Result<()> {
    if !is_status(head.status.as_u16()) {
        return Err(invalid("the answer's status is none"));
    }
    if head.headers.len() > limits.fields {
        return Err(invalid("the answer's head has too many fields"));
    }
    if bytes(&head.headers) > limits.bytes {
        return Err(invalid("the answer's head is too long"));
    }
    check_length(head)
}

/// How many bytes fields have as lines of HTTP/1.
pub(super) fn bytes(fields: &HeaderMap) -> usize {
    let lines = fields.iter();
    lines
        .map(|(name, value)| name.as_str().len() + value.len() + LINE_REST)
        .sum()
}

fn check_length(head: &mut ResponseHeader) -> pingora::Result<()> {
    let mut lengths = head.headers.get_all(header::CONTENT_LENGTH).iter();
    let Some(first) = lengths.next() else {
        return match head.headers.contains_key(header::TRANSFER_ENCODING) {
            true => Err(ambiguous()),
            false => Ok(()),
        };
    };
    let (same, again) = lengths.fold((true, false), |(same, _), next| {
        (same && next == first, true)
    });
    let coded = head.headers.contains_key(header::TRANSFER_ENCODING);
    if !same || coded || content_length(first.as_bytes()).is_none() {
        return Err(ambiguous());
    }
    if again {
        let once = first.clone();
        head.insert_header(header::CONTENT_LENGTH, once)?;
    }
    Ok(())
}

fn ambiguous() -> Box<pingora::Error> {
    invalid("the answer's length is ambiguous")
}

/// Removes what is not passed on: the fields that `Connection` names, since they concern the endpoint's connection, and those
/// by which only the gateway speaks of itself. The fields that every connection may have are left out where the head is
/// written.
pub(super) fn strip(head: &mut ResponseHeader) {
    let known = |token: &[u8]| {
        [
            &b""[..],
            b"close",
            b"keep-alive",
            b"upgrade",
            b"transfer-encoding",
            b"content-length",
        ]
        .iter()
        .any(|known| token.eq_ignore_ascii_case(known))
    };
    let nominated = head
        .headers
        .get_all(header::CONNECTION)
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .map(<[u8]>::trim_ascii)
        .filter(|token| !known(token))
        .filter_map(|token| HeaderName::from_bytes(token).ok());
    let ours = head
        .headers
        .keys()
        .filter(|name| is_ours(name.as_str().as_bytes()));
    let removed: SmallVec<[HeaderName; 4]> = nominated.chain(ours.cloned()).collect();
    for name in &removed {
        head.remove_header(name);
    }
}
