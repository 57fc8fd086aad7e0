//! The first line of a request: what is asked of whom.

use bytes::Bytes;
use http::uri::PathAndQuery;
use http::{Uri, Version};

use super::fields::is_token;
use super::refusals::{bad, uri_too_long};
use crate::config::ClientLimits;
use crate::filter::{Reason, Refusal};

/// Longest method.
const LONGEST_METHOD: usize = 32;

/// Method, target and version.
pub(super) struct RequestLine<'b> {
    pub(super) method: &'b [u8],
    /// As received.
    pub(super) target: &'b [u8],
    /// Authority of an absolute-form target.
    pub(super) authority: Option<&'b [u8]>,
    pub(super) version: Version,
    /// CONNECT or TRACE.
    pub(super) tunnels: bool,
}

impl<'b> RequestLine<'b> {
    pub(super) fn parse(line: &'b [u8], limits: &ClientLimits) -> Result<Self, Refusal> {
        let mut parts = line.split(|byte| *byte == b' ');
        let (Some(method), Some(target), Some(version), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(bad("the request line is malformed"));
        };
        check_method(method)?;
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
    pub(super) fn uri(&self, bytes: &Bytes) -> Result<Uri, Refusal> {
        let wrong = |_| bad("the request target holds a character it may not");
        let parsed = match self.authority {
            None => PathAndQuery::from_maybe_shared(bytes.slice_ref(self.target)),
            Some(authority) => {
                let skip = memchr::memmem::find(self.target, b"://").map_or(0, |at| at + 3);
                match &self.target[skip + authority.len()..] {
                    rest @ [b'/', ..] => PathAndQuery::from_maybe_shared(bytes.slice_ref(rest)),
                    // Without a path it is the server that is asked (RFC 9112 §3.2.4).
                    [] if self.method == b"OPTIONS" => Ok(PathAndQuery::from_static("*")),
                    query => PathAndQuery::from_maybe_shared(Bytes::from([b"/", query].concat())),
                }
            }
        };
        Ok(Uri::from(parsed.map_err(wrong)?))
    }
}

/// A token that is not too long: nobody has such a method.
pub(crate) fn check_method(method: &[u8]) -> Result<(), Refusal> {
    let fits = (1..=LONGEST_METHOD).contains(&method.len());
    if fits && method.iter().all(|byte| is_token(*byte)) {
        Ok(())
    } else {
        Err(bad("the method is malformed"))
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

/// Host and optional port: no user, no path, no list (RFC 9110 §7.2).
pub(crate) fn is_authority(text: &[u8]) -> bool {
    /// What names and IPv4 addresses are made of.
    const NAME: [bool; 256] = {
        let mut table = [false; 256];
        let mut byte = 0;
        while byte < 256 {
            table[byte] = (byte as u8).is_ascii_alphanumeric()
                || matches!(byte as u8, b'-' | b'.' | b'_' | b'~');
            byte += 1;
        }
        table
    };
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
        let is_name = |byte: &u8| NAME[usize::from(*byte)];
        let end = text.iter().position(|byte| !is_name(byte));
        text.split_at(end.unwrap_or(text.len()))
    };
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
    !host.is_empty() && port_fine
}
