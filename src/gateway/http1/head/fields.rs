//! The fields of a request: which concern its framing and its connection, and whether they are unambiguous.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Version, header};

use super::Framing;
use super::refusals::{bad, host_invalid, only_continue, two_hosts};
use super::request_line::{RequestLine, is_authority};
use crate::filter::{Reason, Refusal};

/// What the fields say about framing and the connection, gathered in one pass.
#[derive(Default)]
pub(super) struct Fields<'b> {
    pub(super) host: Option<&'b [u8]>,
    hosts: u32,
    length: Option<&'b [u8]>,
    lengths: u32,
    coding: Option<&'b [u8]>,
    codings: u32,
    pub(super) expects_continue: bool,
    pub(super) underscores: bool,
    pub(super) close: bool,
    pub(super) keep_alive: bool,
    pub(super) hop_by_hop: bool,
    pub(super) deadline: bool,
    pub(super) grpc: bool,
}

impl<'b> Fields<'b> {
    /// Judges one field and adds it to `map`.
    pub(super) fn take(
        &mut self,
        line: &'b [u8],
        bytes: &Bytes,
        map: &mut HeaderMap,
    ) -> Result<(), Refusal> {
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
            12 if name.eq_ignore_ascii_case(b"content-type") => self.grpc |= is_grpc(value),
            14 if name.eq_ignore_ascii_case(b"content-length") => {
                self.lengths += 1;
                self.length = Some(value);
            }
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => {
                self.codings += 1;
                self.coding = Some(value);
            }
            18 if name.eq_ignore_ascii_case(b"x-request-deadline") => self.deadline = true,
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

    pub(super) fn framing(&self, version: Version) -> Result<Framing, Refusal> {
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

    pub(super) fn check_host(&self, line: &RequestLine<'_>) -> Result<(), Refusal> {
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

/// Whether a `Content-Type` is one of gRPC, its kin for browsers included.
pub(crate) fn is_grpc(kind: &[u8]) -> bool {
    kind.starts_with(b"application/grpc")
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

/// RFC 9110 §5.6.2 `tchar`.
pub(in crate::gateway::http1) fn is_token(byte: u8) -> bool {
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
