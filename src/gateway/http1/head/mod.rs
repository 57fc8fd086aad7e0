//! The request head as raw bytes: is it one message that every parser reads alike? What passes becomes a request.

mod fields;
mod refusals;
mod request_line;
#[cfg(test)]
mod tests;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Version};
use pingora::http::RequestHeader;

use self::fields::Fields;
pub(super) use self::fields::is_token;
pub(crate) use self::fields::{content_length, is_grpc};
pub(crate) use self::refusals::{
    bad, headers_too_large, host_invalid, never_served, only_continue, two_hosts, uri_too_long,
};
use self::request_line::RequestLine;
pub(crate) use self::request_line::{
    AsReceived, check_method, check_target, escape_target, is_authority,
};
use crate::config::ClientLimits;
use crate::filter::Refusal;

/// How the body is delimited (RFC 9112 §6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    /// No body.
    None,
    /// So many bytes.
    Length(u64),
    /// Chunks.
    Chunked,
}

impl Framing {
    /// How long the body is, where that is said beforehand.
    pub(crate) fn length(self) -> Option<u64> {
        match self {
            Self::Length(length) => Some(length),
            Self::None | Self::Chunked => None,
        }
    }
}

/// What is known about a head that passed, besides its fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    /// How its body is delimited.
    pub(crate) framing: Framing,
    /// The client waits for `100 Continue`.
    pub(crate) expects_continue: bool,
    /// Some field name has an underscore: it may be the twin of an identity header.
    pub(crate) underscores: bool,
    /// What the client speaks.
    pub(crate) version: Version,
    /// The client wants the connection to go on (RFC 9112 §9.3).
    pub(crate) persistent: bool,
    /// No field is left that concerns this connection only (RFC 9110 §7.6.1).
    pub(crate) end_to_end: bool,
    /// The client says by when it wants its answer.
    pub(crate) deadline: bool,
    /// The client speaks gRPC.
    pub(crate) grpc: bool,
}

impl Head {
    /// What is known about a head that did not pass.
    pub(crate) fn unfit(version: Version, grpc: bool) -> Self {
        Self {
            framing: Framing::None,
            expects_continue: false,
            underscores: false,
            version,
            persistent: false,
            end_to_end: true,
            deadline: false,
            grpc,
        }
    }
}

/// What the bytes so far amount to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Scan {
    /// More bytes are needed.
    Partial,
    /// A head of so many bytes, the empty line included.
    Whole(usize),
    /// Longer than a head may be.
    TooLong(Refusal),
}

/// Bytes of a method and a version with their spaces: what a request line has besides its target.
const LINE_REST: usize = 64;
/// Fields that most requests have, with those we add: room for them spares a later move.
const USUAL: usize = 12;

/// Looks at the bytes read so far; `seen` of them were looked at before without finding the end.
pub(crate) fn scan(bytes: &[u8], seen: usize, limits: &ClientLimits) -> Scan {
    match find_end(bytes, seen) {
        Some(length) => Scan::Whole(length),
        None => too_long(bytes, limits).map_or(Scan::Partial, Scan::TooLong),
    }
}

/// Where the head ends: behind an empty line, however its line ends are written. Judging them comes after.
fn find_end(bytes: &[u8], seen: usize) -> Option<usize> {
    let from = seen.saturating_sub(3);
    memchr::memchr_iter(b'\n', &bytes[from..])
        .map(|at| from + at)
        .find_map(|at| match &bytes[at + 1..] {
            [b'\n', ..] => Some(at + 2),
            [b'\r', b'\n', ..] => Some(at + 3),
            _ => None,
        })
}

/// A head that is too long already, though its end has not come.
fn too_long(bytes: &[u8], limits: &ClientLimits) -> Option<Refusal> {
    match memchr::memchr(b'\n', bytes) {
        None if bytes.len() > limits.max_uri + LINE_REST => Some(uri_too_long(limits)),
        Some(line) if bytes.len() - line > limits.max_header_bytes + 4 => {
            Some(headers_too_large(limits))
        }
        _ => None,
    }
}

/// Reads a whole head. Values share its bytes; a target in absolute form becomes one in origin form, its host being
/// that of `Host`.
pub(crate) fn parse(
    bytes: &Bytes,
    limits: &ClientLimits,
) -> Result<(Box<RequestHeader>, Head), Refusal> {
    let mut lines = Lines { bytes, at: 0 };
    let request_line = lines
        .next()
        .ok_or_else(|| bad("the request line is missing"))??;
    let line = RequestLine::parse(request_line, limits)?;
    if bytes.len() - lines.at > limits.max_header_bytes + 2 {
        return Err(headers_too_large(limits));
    }
    let mut fields = Fields::default();
    let mut map = HeaderMap::with_capacity(USUAL);
    let mut count = 0;
    loop {
        let field = lines
            .next()
            .ok_or_else(|| bad("the header does not end"))??;
        if field.is_empty() {
            break;
        }
        count += 1;
        if count > limits.max_headers {
            return Err(headers_too_large(limits));
        }
        fields.take(field, bytes, &mut map)?;
    }
    let framing = fields.framing(line.version)?;
    fields.check_host(&line)?;
    if line.tunnels {
        return Err(never_served());
    }
    let head = Head {
        framing,
        // HTTP/1.0 knows no interim answers (RFC 9110 §10.1.1).
        expects_continue: fields.expects_continue
            && framing != Framing::None
            && line.version == Version::HTTP_11,
        underscores: fields.underscores,
        version: line.version,
        persistent: !fields.close && (line.version == Version::HTTP_11 || fields.keep_alive),
        end_to_end: !fields.hop_by_hop,
        deadline: fields.deadline,
        grpc: fields.grpc,
    };
    let (mut parts, ()) = Request::new(()).into_parts();
    parts.method = Method::from_bytes(line.method).map_err(|_| bad("the method is malformed"))?;
    let (uri, received) = line.uri(bytes)?;
    parts.uri = uri;
    if let Some(received) = received {
        parts.extensions.insert(received);
    }
    parts.version = line.version;
    parts.headers = map;
    Ok((Box::new(RequestHeader::from(parts)), head))
}

/// Lines that end with CR LF and hold neither alone.
struct Lines<'b> {
    bytes: &'b [u8],
    at: usize,
}

impl<'b> Iterator for Lines<'b> {
    type Item = Result<&'b [u8], Refusal>;

    fn next(&mut self) -> Option<Self::Item> {
        let rest = &self.bytes[self.at..];
        let end = memchr::memchr(b'\n', rest)?;
        self.at += end + 1;
        Some(match rest[..end].strip_suffix(b"\r") {
            Some(line) => Ok(line),
            None => Err(bad("a line must end with CR LF")),
        })
    }
}
