//! The head of a request as a stream carries it. What the codec lets through is judged like the head of HTTP/1: a field
//! that two parsers could read differently never reaches an origin.

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::request::Parts;
use http::uri::Scheme;
use http::{Method, Uri, Version};
use pingora::http::RequestHeader;

use crate::config::ClientLimits;
use crate::filter::Refusal;
use crate::gateway::decide::{GRPC_TIMEOUT, X_REQUEST_DEADLINE};
use crate::gateway::http1::head::{
    Framing, Head, bad, check_method, check_target, content_length, escape_target,
    headers_too_large, host_invalid, is_authority, never_served, only_continue, two_hosts,
    uri_too_long,
};

/// Judges a head; `bodiless`: the stream ended with it; `grpc`: its client speaks that. The codec has refused what RFC 9113 §8.2 and §8.3 call malformed:
/// fields of a connection, pseudo-fields that are missing, unknown or out of place, names in upper case.
pub(in crate::gateway) fn judge(
    parts: Parts,
    (bodiless, grpc): (bool, bool),
    limits: &ClientLimits,
) -> Result<(Box<RequestHeader>, Head), Refusal> {
    let mut headers = parts.headers;
    let size: usize = headers
        .iter()
        .map(|(name, value)| name.as_str().len() + value.len() + 4)
        .sum();
    join_cookies(&mut headers);
    if headers.len() > limits.max_headers || size > limits.max_header_bytes {
        return Err(headers_too_large(limits));
    }
    let (mut blank_ends, mut underscores) = (false, false);
    for (name, value) in &headers {
        blank_ends |= has_blank_ends(value);
        underscores |= name.as_str().contains('_');
    }
    // RFC 9113 §8.2.1; over HTTP/1 they are no part of a value.
    if blank_ends {
        return Err(bad("a header field value begins or ends with a blank"));
    }
    check_method(parts.method.as_str().as_bytes())?;
    let scheme = parts.uri.scheme();
    if scheme.is_some_and(|scheme| *scheme != Scheme::HTTP && *scheme != Scheme::HTTPS) {
        return Err(bad(
            "the request target's scheme is none that is served here",
        ));
    }
    if matches!(parts.method, Method::CONNECT | Method::TRACE) {
        return Err(never_served());
    }
    let target = parts.uri.path_and_query().map_or("/", |path| path.as_str());
    if target.len() > limits.max_uri {
        return Err(uri_too_long(limits));
    }
    let checked = check_target(parts.method.as_str().as_bytes(), target.as_bytes())?;
    if checked.authority.is_some() {
        return Err(bad("the request target must begin with a slash"));
    }
    let raw = checked
        .raw
        .then(|| Bytes::copy_from_slice(target.as_bytes()));
    let framing = framing(&headers, bodiless)?;
    let expects_continue = expects_continue(&headers)?;
    let ambiguous = ["content_length", "transfer_encoding"];
    if underscores && ambiguous.iter().any(|name| headers.contains_key(*name)) {
        return Err(bad("a header field name is ambiguous"));
    }
    host(&parts.uri, &mut headers)?;
    for name in [
        header::TE,
        header::TRAILER,
        header::PROXY_AUTHORIZATION,
        header::PROXY_AUTHENTICATE,
    ] {
        headers.remove(name);
    }
    headers.remove(&HTTP2_SETTINGS);
    let head = Head {
        framing,
        expects_continue: expects_continue && framing != Framing::None,
        underscores,
        version: Version::HTTP_2,
        persistent: true,
        end_to_end: true,
        deadline: headers.contains_key(&X_REQUEST_DEADLINE) || headers.contains_key(&GRPC_TIMEOUT),
        grpc,
    };
    let (mut request, ()) = http::Request::new(()).into_parts();
    request.method = parts.method;
    request.uri = parts
        .uri
        .into_parts()
        .path_and_query
        .map_or_else(Uri::default, Uri::from);
    if let Some(received) = raw {
        let (target, received) = escape_target(received)?;
        request.uri = Uri::from(target);
        request.extensions.insert(received);
    }
    request.version = Version::HTTP_2;
    request.headers = headers;
    Ok((Box::new(RequestHeader::from(request)), head))
}

fn has_blank_ends(value: &HeaderValue) -> bool {
    let value = value.as_bytes();
    let ends = [value.first(), value.last()];
    ends.iter().any(|end| matches!(end, Some(b' ' | b'\t')))
}

static HTTP2_SETTINGS: HeaderName = HeaderName::from_static("http2-settings");

/// A stream may split cookies over several fields; origins expect one (RFC 9113 §8.2.3).
fn join_cookies(headers: &mut HeaderMap) {
    let mut fields = headers.get_all(header::COOKIE).iter();
    if fields.next().is_none() || fields.next().is_none() {
        return;
    }
    let fields: Vec<&[u8]> = headers
        .get_all(header::COOKIE)
        .iter()
        .map(HeaderValue::as_bytes)
        .collect();
    if let Ok(joined) = HeaderValue::from_bytes(&fields.join(&b"; "[..])) {
        headers.insert(header::COOKIE, joined);
    }
}

/// How the body goes on to an origin of HTTP/1. That its bytes amount to the length that was said is the codec's to see.
fn framing(headers: &HeaderMap, bodiless: bool) -> Result<Framing, Refusal> {
    let mut lengths = headers.get_all(header::CONTENT_LENGTH).iter();
    let length = match (lengths.next(), lengths.next()) {
        (None, _) => None,
        (Some(_), Some(_)) => return Err(bad("Content-Length stands twice")),
        (Some(length), None) => Some(
            content_length(length.as_bytes()).ok_or_else(|| bad("Content-Length is malformed"))?,
        ),
    };
    match length {
        Some(0) => Ok(Framing::None),
        None if bodiless => Ok(Framing::None),
        Some(_) if bodiless => Err(bad("Content-Length speaks of a body that is not there")),
        Some(length) => Ok(Framing::Length(length)),
        None => Ok(Framing::Chunked),
    }
}

fn expects_continue(headers: &HeaderMap) -> Result<bool, Refusal> {
    let mut expected = headers.get_all(header::EXPECT).iter();
    if expected.all(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue")) {
        Ok(headers.contains_key(header::EXPECT))
    } else {
        Err(only_continue())
    }
}

/// One host: `:authority`, which becomes `Host`, and a `Host` beside it that says the same (RFC 9113 §8.3.1).
fn host(uri: &Uri, headers: &mut HeaderMap) -> Result<(), Refusal> {
    let mut hosts = headers.get_all(header::HOST).iter();
    let named = hosts.next();
    if hosts.next().is_some() {
        return Err(host_invalid("Host stands twice"));
    }
    let authority = uri.authority().map(|authority| authority.as_str());
    let value = match (authority, named) {
        (None, None) => return Err(host_invalid("Host is missing")),
        (None, Some(host)) if is_authority(host.as_bytes()) => return Ok(()),
        (None, Some(_)) => return Err(host_invalid("Host is malformed")),
        (Some(authority), _) if !is_authority(authority.as_bytes()) => {
            return Err(host_invalid("the request target's host is malformed"));
        }
        (Some(authority), Some(host))
            if !authority.as_bytes().eq_ignore_ascii_case(host.as_bytes()) =>
        {
            return Err(two_hosts());
        }
        (Some(_), Some(_)) => return Ok(()),
        (Some(authority), None) => HeaderValue::from_str(authority),
    };
    let value = value.map_err(|_| host_invalid("the request target's host is malformed"))?;
    headers.insert(header::HOST, value);
    Ok(())
}
