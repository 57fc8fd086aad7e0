//! The request head as raw bytes: is it one message that every parser reads alike? What passes becomes a request.

use bytes::Bytes;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, Version, header};
use pingora::http::RequestHeader;

use crate::config::ClientLimits;
use crate::filter::{Reason, Refusal};

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
/// Longest method.
const LONGEST_METHOD: usize = 32;
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

pub(crate) fn uri_too_long(limits: &ClientLimits) -> Refusal {
    Refusal::new(
        Reason::UriTooLong,
        format!("the request target may have {} bytes", limits.max_uri),
    )
}

pub(crate) fn headers_too_large(limits: &ClientLimits) -> Refusal {
    let (bytes, fields) = (limits.max_header_bytes, limits.max_headers);
    Refusal::new(
        Reason::HeadersTooLarge,
        format!("the header may have {bytes} bytes in {fields} fields"),
    )
}

pub(crate) fn bad(detail: &'static str) -> Refusal {
    Refusal::new(Reason::BadRequest, detail)
}

pub(crate) fn host_invalid(detail: &'static str) -> Refusal {
    Refusal::new(Reason::HostInvalid, detail)
}

pub(crate) fn two_hosts() -> Refusal {
    host_invalid("Host and the request target name different hosts")
}

pub(crate) fn only_continue() -> Refusal {
    Refusal::new(
        Reason::ExpectationFailed,
        "only 100-continue can be expected",
    )
}

/// The refusal of CONNECT and TRACE.
pub(crate) fn never_served() -> Refusal {
    let mut refusal = Refusal::new(Reason::MethodNotAllowed, "this method is never served");
    refusal.allow = Some("GET, HEAD, POST, PUT, DELETE, PATCH, OPTIONS".to_owned());
    refusal
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
    };
    let (mut parts, ()) = Request::new(()).into_parts();
    parts.method = Method::from_bytes(line.method).map_err(|_| bad("the method is malformed"))?;
    parts.uri = line.uri(bytes)?;
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

struct RequestLine<'b> {
    method: &'b [u8],
    /// As received.
    target: &'b [u8],
    /// Authority of an absolute-form target.
    authority: Option<&'b [u8]>,
    version: Version,
    /// CONNECT or TRACE.
    tunnels: bool,
}

impl<'b> RequestLine<'b> {
    fn parse(line: &'b [u8], limits: &ClientLimits) -> Result<Self, Refusal> {
        let mut parts = line.split(|byte| *byte == b' ');
        let (Some(method), Some(target), Some(version), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(bad("the request line is malformed"));
        };
        if method.is_empty()
            || method.len() > LONGEST_METHOD
            || !method.iter().all(|byte| is_token(*byte))
        {
            return Err(bad("the method is malformed"));
        }
        let version = match version {
            b"HTTP/1.1" => Version::HTTP_11,
            b"HTTP/1.0" => Version::HTTP_10,
            [b'H', b'T', b'T', b'P', b'/', major, b'.', minor]
                if major.is_ascii_digit() && minor.is_ascii_digit() =>
            {
                return Err(Refusal::new(
                    Reason::VersionNotSupported,
                    "HTTP/1.1 and HTTP/1.0 are spoken here",
                ));
            }
            _ => return Err(bad("the protocol version is malformed")),
        };
        if target.len() > limits.max_uri {
            return Err(uri_too_long(limits));
        }
        let tunnels = matches!(method, b"CONNECT" | b"TRACE");
        let authority = if tunnels {
            None
        } else {
            check_target(method, target)?
        };
        Ok(Self {
            method,
            target,
            authority,
            version,
            tunnels,
        })
    }

    /// Path and query.
    fn uri(&self, bytes: &Bytes) -> Result<Uri, Refusal> {
        let wrong = |_| bad("the request target holds a character it may not");
        let parsed = match self.authority {
            None => PathAndQuery::from_maybe_shared(bytes.slice_ref(self.target)),
            Some(authority) => {
                let skip = memchr::memmem::find(self.target, b"://").map_or(0, |at| at + 3);
                match &self.target[skip + authority.len()..] {
                    rest @ [b'/', ..] => PathAndQuery::from_maybe_shared(bytes.slice_ref(rest)),
                    query => PathAndQuery::from_maybe_shared(Bytes::from([b"/", query].concat())),
                }
            }
        };
        Ok(Uri::from(parsed.map_err(wrong)?))
    }
}

/// Origin-form, absolute-form, or `*` for OPTIONS; returns the authority of the absolute form.
pub(crate) fn check_target<'b>(
    method: &[u8],
    target: &'b [u8],
) -> Result<Option<&'b [u8]>, Refusal> {
    // A backslash passes here: the path normalisation refuses it with its own reason.
    let plain = |byte: &u8| matches!(byte, 0x21..=0x7e) && !matches!(byte, b'#' | b'<' | b'>');
    if !target.iter().all(plain) {
        return Err(bad("the request target holds a character it may not"));
    }
    if target.starts_with(b"/") || (target == b"*" && method == b"OPTIONS") {
        return Ok(None);
    }
    let lower = target
        .get(..8.min(target.len()))
        .unwrap_or_default()
        .to_ascii_lowercase();
    let skip = if lower.starts_with(b"http://") {
        7
    } else if lower.starts_with(b"https://") {
        8
    } else {
        return Err(bad("the request target must begin with a slash"));
    };
    let rest = &target[skip..];
    let end = rest
        .iter()
        .position(|byte| matches!(byte, b'/' | b'?'))
        .unwrap_or(rest.len());
    if end == 0 {
        return Err(Refusal::new(
            Reason::HostInvalid,
            "the request target names no host",
        ));
    }
    Ok(Some(&rest[..end]))
}

/// What the fields say about framing and the connection, gathered in one pass.
#[derive(Default)]
struct Fields<'b> {
    host: Option<&'b [u8]>,
    hosts: u32,
    length: Option<&'b [u8]>,
    lengths: u32,
    coding: Option<&'b [u8]>,
    codings: u32,
    expects_continue: bool,
    underscores: bool,
    close: bool,
    keep_alive: bool,
    hop_by_hop: bool,
}

impl<'b> Fields<'b> {
    /// Judges one field and adds it to `map`.
    fn take(&mut self, line: &'b [u8], bytes: &Bytes, map: &mut HeaderMap) -> Result<(), Refusal> {
        let colon = memchr::memchr(b':', line).ok_or_else(|| bad("a header field has no colon"))?;
        let (name, value) = (&line[..colon], trim(&line[colon + 1..]));
        if name.is_empty() || !name.iter().all(|byte| is_token(*byte)) {
            return Err(bad("a header field name is malformed"));
        }
        let field = HeaderValue::from_maybe_shared(bytes.slice_ref(value))
            .map_err(|_| bad("a header field value holds a control character"))?;
        self.underscores |= memchr::memchr(b'_', name).is_some();
        match name.len() {
            2 | 7 | 14 | 16 | 18 | 19 if is_hop_by_hop(name) => self.hop_by_hop = true,
            4 if name.eq_ignore_ascii_case(b"host") => {
                self.hosts += 1;
                self.host = Some(value);
            }
            6 if name.eq_ignore_ascii_case(b"expect") => {
                if !value.eq_ignore_ascii_case(b"100-continue") {
                    return Err(only_continue());
                }
                self.expects_continue = true;
            }
            10 if name.eq_ignore_ascii_case(b"keep-alive") => return Ok(()),
            10 if name.eq_ignore_ascii_case(b"connection") => {
                let mut only_ours = true;
                for token in value.split(|byte| *byte == b',').map(trim) {
                    if token.eq_ignore_ascii_case(b"close") {
                        self.close = true;
                    } else if token.eq_ignore_ascii_case(b"keep-alive") {
                        self.keep_alive = true;
                    } else {
                        only_ours = false;
                    }
                }
                // What it says about this connection is known now; the rest is for whoever forwards the request.
                if only_ours {
                    return Ok(());
                }
                self.hop_by_hop = true;
            }
            14 if name.eq_ignore_ascii_case(b"content-length") => {
                self.lengths += 1;
                self.length = Some(value);
            }
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => {
                self.codings += 1;
                self.coding = Some(value);
            }
            // An origin that takes `_` for `-` would read another framing than we do.
            14 if name.eq_ignore_ascii_case(b"content_length") => {
                return Err(bad("a header field name is ambiguous"));
            }
            17 if name.eq_ignore_ascii_case(b"transfer_encoding") => {
                return Err(bad("a header field name is ambiguous"));
            }
            _ => {}
        }
        let name =
            HeaderName::from_bytes(name).map_err(|_| bad("a header field name is malformed"))?;
        map.try_append(name, field)
            .map_err(|_| bad("the header has too many fields"))?;
        Ok(())
    }

    fn framing(&self, version: Version) -> Result<Framing, Refusal> {
        match (self.length, self.coding) {
            (Some(_), Some(_)) => Err(bad(
                "Content-Length and Transfer-Encoding exclude each other",
            )),
            (None, Some(coding)) => {
                if version == Version::HTTP_10 {
                    return Err(bad("HTTP/1.0 has no transfer codings"));
                }
                if self.codings > 1 {
                    return Err(bad("Transfer-Encoding stands twice"));
                }
                check_coding(coding).map(|()| Framing::Chunked)
            }
            (Some(_), None) if self.lengths > 1 => Err(bad("Content-Length stands twice")),
            (Some(length), None) => match content_length(length) {
                None => Err(bad("Content-Length is malformed")),
                Some(0) => Ok(Framing::None),
                Some(length) => Ok(Framing::Length(length)),
            },
            (None, None) => Ok(Framing::None),
        }
    }

    fn check_host(&self, line: &RequestLine<'_>) -> Result<(), Refusal> {
        let invalid = |detail: &'static str| Err(host_invalid(detail));
        match self.host {
            _ if self.hosts > 1 => invalid("Host stands twice"),
            None if line.version == Version::HTTP_10 => Ok(()),
            None => invalid("Host is missing"),
            Some(host) if !is_authority(host) => invalid("Host is malformed"),
            Some(host) => match line.authority {
                Some(authority) if !is_authority(authority) => {
                    invalid("the request target's host is malformed")
                }
                Some(authority) if !authority.eq_ignore_ascii_case(host) => Err(two_hosts()),
                _ => Ok(()),
            },
        }
    }
}

/// A length as every parser reads it.
pub(crate) fn content_length(text: &[u8]) -> Option<u64> {
    let digits = !text.is_empty()
        && text.iter().all(u8::is_ascii_digit)
        && (text.len() == 1 || text[0] != b'0');
    let number = std::str::from_utf8(text)
        .ok()
        .filter(|_| digits)
        .and_then(|text| text.parse::<u64>().ok());
    number.filter(|length| *length <= i64::MAX as u64)
}

/// Fields that concern one connection, besides `Connection` itself (RFC 9110 §7.6.1).
fn is_hop_by_hop(name: &[u8]) -> bool {
    [
        header::TE,
        header::TRAILER,
        header::UPGRADE,
        header::PROXY_AUTHENTICATE,
        header::PROXY_AUTHORIZATION,
    ]
    .iter()
    .map(HeaderName::as_str)
    .chain(["proxy-connection", "http2-settings"])
    .any(|known| name.eq_ignore_ascii_case(known.as_bytes()))
}

/// `chunked`, and nothing else. A coding we merely do not know is another matter than a malformed list.
fn check_coding(text: &[u8]) -> Result<(), Refusal> {
    if text.eq_ignore_ascii_case(b"chunked") {
        return Ok(());
    }
    let codings: Vec<&[u8]> = text.split(|byte| *byte == b',').map(trim).collect();
    let well_formed = codings
        .iter()
        .all(|coding| !coding.is_empty() && coding.iter().all(|byte| is_token(*byte)));
    let chunked = |coding: &&&[u8]| coding.eq_ignore_ascii_case(b"chunked");
    let early_chunked = codings.iter().rev().skip(1).filter(chunked).count() > 0;
    if well_formed && !early_chunked {
        Err(Refusal::new(
            Reason::NotImplemented,
            "the transfer coding is not known here",
        ))
    } else {
        Err(bad("Transfer-Encoding is malformed"))
    }
}

/// Host and optional port: no user, no path, no list (RFC 9110 §7.2).
pub(crate) fn is_authority(text: &[u8]) -> bool {
    let (host, port) = if text.starts_with(b"[") {
        let Some(end) = text.iter().position(|byte| *byte == b']') else {
            return false;
        };
        if !text[1..end]
            .iter()
            .all(|byte| byte.is_ascii_hexdigit() || matches!(byte, b':' | b'.'))
            || end < 3
        {
            return false;
        }
        (&text[..=end], &text[end + 1..])
    } else {
        let end = text
            .iter()
            .position(|byte| *byte == b':')
            .unwrap_or(text.len());
        (&text[..end], &text[end..])
    };
    let name =
        |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~');
    let host_fine = !host.is_empty() && (host[0] == b'[' || host.iter().all(name));
    let port_fine = match port {
        [] => true,
        [b':', digits @ ..] => {
            let number = |sum: u32, digit: &u8| sum * 10 + u32::from(digit - b'0');
            (1..=5).contains(&digits.len())
                && digits.iter().all(u8::is_ascii_digit)
                && digits.iter().fold(0, number) <= u32::from(u16::MAX)
        }
        _ => false,
    };
    host_fine && port_fine
}

/// RFC 9110 §5.6.2 `tchar`.
pub(super) fn is_token(byte: u8) -> bool {
    const TOKEN: [bool; 256] = {
        let mut table = [false; 256];
        let mut byte = 0;
        while byte < 256 {
            table[byte] = matches!(
                byte as u8,
                b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' | b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+'
                    | b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~'
            );
            byte += 1;
        }
        table
    };
    TOKEN[usize::from(byte)]
}

fn trim(mut text: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] = text {
        text = rest;
    }
    while let [rest @ .., b' ' | b'\t'] = text {
        text = rest;
    }
    text
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const LIMITS: ClientLimits = ClientLimits {
        header_timeout: Duration::from_secs(1),
        body_timeout: Duration::from_secs(1),
        write_timeout: Duration::from_secs(1),
        longest_byte: Duration::ZERO,
        keepalive_timeout: Duration::from_secs(1),
        keepalive_requests: 1,
        max_header_bytes: 256,
        max_headers: 5,
        max_uri: 64,
        max_body: 0,
        max_connections: 1,
        max_connections_per_ip: 1,
    };

    fn read(text: &[u8]) -> Result<(Box<RequestHeader>, Head), Refusal> {
        parse(&Bytes::copy_from_slice(text), &LIMITS)
    }

    fn code(text: &[u8]) -> &'static str {
        match scan(text, 0, &LIMITS) {
            Scan::Whole(length) => {
                read(&text[..length]).map_or_else(|refusal| refusal.reason.code(), |_| "ok")
            }
            Scan::Partial => "partial",
            Scan::TooLong(refusal) => refusal.reason.code(),
        }
    }

    fn request(fields: &str) -> Vec<u8> {
        format!("POST /a HTTP/1.1\r\nHost: a\r\n{fields}\r\n").into_bytes()
    }

    #[test]
    fn takes_what_every_parser_reads_alike() {
        let framing = |text: &[u8]| read(text).expect("head").1.framing;
        assert_eq!(framing(&request("")), Framing::None);
        assert_eq!(
            framing(&request("Content-Length: 3\r\n")),
            Framing::Length(3)
        );
        assert_eq!(framing(&request("Content-Length:\t 0 \r\n")), Framing::None);
        assert_eq!(
            framing(&request("Transfer-Encoding: Chunked\r\n")),
            Framing::Chunked
        );
        assert_eq!(
            framing(b"GET http://a:80/x HTTP/1.1\r\nHost: A:80\r\n\r\n"),
            Framing::None
        );
        assert_eq!(framing(b"GET / HTTP/1.0\r\n\r\n"), Framing::None);
        assert_eq!(
            framing(b"OPTIONS * HTTP/1.1\r\nHost: [::1]:80\r\n\r\n"),
            Framing::None
        );
    }

    #[test]
    fn refuses_every_doubtful_framing() {
        for fields in [
            "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n",
            "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n",
            "Content-Length: 3\r\nContent-Length: 3\r\n",
            "Content-Length: 3, 3\r\n",
            "Content-Length: +3\r\n",
            "Content-Length: -3\r\n",
            "Content-Length: 0x3\r\n",
            "Content-Length: 3.0\r\n",
            "Content-Length: 03\r\n",
            "Content-Length: \"3\"\r\n",
            "Content-Length:\r\n",
            "Content-Length: 99999999999999999999\r\n",
            "Content-Length : 3\r\n",
            " Content-Length: 3\r\n",
            "Content_Length: 3\r\n",
            "Transfer-Encoding: chunked, chunked\r\n",
            "Transfer-Encoding: chunked, gzip\r\n",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
            "Transfer-Encoding:\r\n",
            "Transfer-Encoding: \"chunked\"\r\n",
            "Transfer-Encoding: chunked;a=b\r\n",
            "Transfer-Encoding: \u{b}chunked\r\n",
            "Transfer-Encoding\t: chunked\r\n",
            "Transfer Encoding: chunked\r\n",
            "Transfer_Encoding: chunked\r\n",
            "X: a\r\n b\r\n",
            "X: a\u{0}b\r\n",
            "X: a\rb\r\n",
            "X: a\n",
            "X\r\n",
            ": a\r\n",
        ] {
            assert_eq!(code(&request(fields)), "bad_request", "{fields:?}");
        }
        for fields in [
            "Transfer-Encoding: gzip\r\n",
            "Transfer-Encoding: identity, chunked\r\n",
        ] {
            assert_eq!(code(&request(fields)), "not_implemented", "{fields:?}");
        }
        assert_eq!(
            code(b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n"),
            "bad_request"
        );
    }

    #[test]
    fn refuses_a_malformed_request_line() {
        for (line, expected) in [
            ("GET  / HTTP/1.1", "bad_request"),
            ("GET / HTTP/1.1 ", "bad_request"),
            (" GET / HTTP/1.1", "bad_request"),
            ("GET /a b HTTP/1.1", "bad_request"),
            ("GET /", "bad_request"),
            ("GET a HTTP/1.1", "bad_request"),
            ("GET /#f HTTP/1.1", "bad_request"),
            ("GET /\u{1} HTTP/1.1", "bad_request"),
            ("GET /\u{e9} HTTP/1.1", "bad_request"),
            ("G(T / HTTP/1.1", "bad_request"),
            ("GET * HTTP/1.1", "bad_request"),
            ("GET / http/1.1", "bad_request"),
            ("GET / HTTP/1.1x", "bad_request"),
            ("GET / HTTP/2.0", "version_not_supported"),
            ("PRI * HTTP/2.0", "version_not_supported"),
            ("GET / HTTP/0.9", "version_not_supported"),
            ("CONNECT a:443 HTTP/1.1", "method_not_allowed"),
            ("TRACE / HTTP/1.1", "method_not_allowed"),
        ] {
            assert_eq!(
                code(format!("{line}\r\nHost: a\r\n\r\n").as_bytes()),
                expected,
                "{line:?}"
            );
        }
    }

    #[test]
    fn refuses_a_doubtful_host() {
        for head in [
            "GET / HTTP/1.1\r\n\r\n",
            "GET / HTTP/1.1\r\nHost:\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: u@a\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a, b\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a:x\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a:65536\r\n\r\n",
            "GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET http:/// HTTP/1.1\r\nHost: a\r\n\r\n",
        ] {
            assert_eq!(code(head.as_bytes()), "host_invalid", "{head:?}");
        }
    }

    #[test]
    fn bounds_target_header_bytes_and_fields() {
        let target = |n: usize| format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(n));
        assert_eq!(code(target(63).as_bytes()), "ok");
        assert_eq!(code(target(64).as_bytes()), "uri_too_long");
        assert_eq!(code(&[b'x'; 64 + LINE_REST + 1]), "uri_too_long");
        assert_eq!(code(&request("A: 1\r\nB: 2\r\nC: 3\r\nD: 4\r\n")), "ok");
        assert_eq!(
            code(&request("A: 1\r\nB: 2\r\nC: 3\r\nD: 4\r\nE: 5\r\n")),
            "headers_too_large"
        );
        assert_eq!(
            code(&request(&format!("A: {}\r\n", "x".repeat(300)))),
            "headers_too_large"
        );
        let unfinished = format!("GET / HTTP/1.1\r\nA: {}", "x".repeat(300));
        assert_eq!(code(unfinished.as_bytes()), "headers_too_large");
        assert_eq!(code(b"GET / HTTP/1.1\r\nHost: a\r\n"), "partial");
    }

    #[test]
    fn knows_expectations() {
        assert_eq!(code(&request("Expect: 100-continue\r\n")), "ok");
        assert_eq!(
            code(&request("Expect: 200-maybe\r\n")),
            "expectation_failed"
        );
    }

    #[test]
    fn makes_a_request_of_it() {
        let text = b"GET http://A:80/x?y HTTP/1.1\r\nHost: a:80\r\nX-One: 1\r\nx-one:  2 \r\nConnection: Keep-Alive\r\n\r\n";
        let (request, head) = read(text).expect("head");
        assert_eq!(request.method, Method::GET);
        assert_eq!(
            (request.raw_path(), request.uri.query()),
            (&b"/x?y"[..], Some("y"))
        );
        let values: Vec<_> = request.headers.get_all("x-one").iter().collect();
        assert_eq!(values, ["1", "2"]);
        // What concerns this connection is not forwarded.
        assert!(!request.headers.contains_key("connection"));
        assert!(head.persistent && head.end_to_end);
        let (request, _) = read(b"GET http://a HTTP/1.1\r\nHost: a\r\n\r\n").expect("head");
        assert_eq!(request.raw_path(), b"/");
    }

    #[test]
    fn knows_what_concerns_the_connection() {
        let facts = |version: &str, fields: &str| {
            let text = format!("GET / HTTP/{version}\r\nHost: a\r\n{fields}\r\n");
            let (_, head) = read(text.as_bytes()).expect("head");
            (head.persistent, head.end_to_end)
        };
        assert_eq!(facts("1.1", ""), (true, true));
        assert_eq!(facts("1.0", ""), (false, true));
        assert_eq!(facts("1.0", "Connection: keep-alive\r\n"), (true, true));
        assert_eq!(facts("1.1", "Connection: close\r\n"), (false, true));
        assert_eq!(facts("1.1", "Connection: x-a, CLOSE\r\n"), (false, false));
        assert_eq!(
            facts("1.1", "Connection: Upgrade\r\nUpgrade: websocket\r\n"),
            (true, false)
        );
        assert_eq!(facts("1.1", "TE: trailers\r\n"), (true, false));
    }
}
