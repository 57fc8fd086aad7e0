//! The first line of a request: what is asked of whom.

use bytes::Bytes;
use http::uri::PathAndQuery;
use http::{Uri, Version};

use super::fields::is_token;
use super::refusals::{bad, uri_too_long};
use crate::config::ClientLimits;
use crate::filter::{Reason, Refusal};
use crate::primitives::path;

/// Longest method.
const LONGEST_METHOD: usize = 32;

/// Method, target and version.
pub(super) struct RequestLine<'b> {
    pub(super) method: &'b [u8],
    /// As received.
    pub(super) target: &'b [u8],
    /// Authority of an absolute-form target.
    pub(super) authority: Option<&'b [u8]>,
    /// Some of it has to be escaped.
    pub(super) raw: bool,
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
        let checked = if tunnels {
            CheckedTarget::default()
        } else {
            check_target(method, target)?
        };
        Ok(Self {
            method,
            target,
            authority: checked.authority,
            raw: checked.raw,
            version,
            tunnels,
        })
    }

    /// Path and query, escaped; and as received, where that is something else.
    pub(super) fn uri(&self, bytes: &Bytes) -> Result<(Uri, Option<AsReceived>), Refusal> {
        let received = match self.authority {
            None => bytes.slice_ref(self.target),
            Some(authority) => {
                let skip = memchr::memmem::find(self.target, b"://").map_or(0, |at| at + 3);
                match &self.target[skip + authority.len()..] {
                    rest @ [b'/', ..] => bytes.slice_ref(rest),
                    // Without a path it is the server that is asked (RFC 9112 §3.2.4).
                    [] if self.method == b"OPTIONS" => Bytes::from_static(b"*"),
                    query => Bytes::from([b"/", query].concat()),
                }
            }
        };
        if self.raw {
            let (target, received) = escape_target(received)?;
            return Ok((Uri::from(target), Some(received)));
        }
        let parsed = PathAndQuery::from_maybe_shared(received);
        Ok((Uri::from(parsed.map_err(|_| unfit())?), None))
    }
}

/// Path and query as they were received, where the target holds something that had to be escaped: what signatures cover.
#[derive(Clone, Debug)]
pub(crate) struct AsReceived(pub(crate) Bytes);

/// Path and query with everything escaped that stands raw in it, and as they were received.
pub(crate) fn escape_target(received: Bytes) -> Result<(PathAndQuery, AsReceived), Refusal> {
    let text = std::str::from_utf8(&received).map_err(|_| unfit())?;
    let escaped = Bytes::from(path::escape_raw(text));
    let target = PathAndQuery::from_maybe_shared(escaped).map_err(|_| unfit())?;
    Ok((target, AsReceived(received)))
}

fn unfit() -> Refusal {
    bad("the request target holds a character it may not")
}

/// What a look at a target says.
#[derive(Default)]
pub(crate) struct CheckedTarget<'b> {
    /// Authority of the absolute form.
    pub(crate) authority: Option<&'b [u8]>,
    /// Some of it has to be escaped.
    pub(crate) raw: bool,
}

/// Bytes of a target that have to be escaped, and those that may not stand there. A backslash passes here: the path
/// normalisation refuses it with its own reason.
const RAW: u8 = 1;
const UNFIT: u8 = 2;
const TARGET: [u8; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = match byte as u8 {
            0..=0x20 | 0x7f | b'#' => UNFIT,
            other if path::stands_raw(other) => RAW,
            _ => 0,
        };
        byte += 1;
    }
    table
};

/// A token that is not too long: nobody has such a method.
pub(crate) fn check_method(method: &[u8]) -> Result<(), Refusal> {
    let fits = (1..=LONGEST_METHOD).contains(&method.len());
    if fits && method.iter().all(|byte| is_token(*byte)) {
        Ok(())
    } else {
        Err(bad("the method is malformed"))
    }
}

/// Origin-form, absolute-form, or `*` for OPTIONS.
pub(crate) fn check_target<'b>(
    method: &[u8],
    target: &'b [u8],
) -> Result<CheckedTarget<'b>, Refusal> {
    let seen = target
        .iter()
        .fold(0, |seen, byte| seen | TARGET[usize::from(*byte)]);
    let raw = seen & RAW != 0;
    if seen & UNFIT != 0 || (raw && std::str::from_utf8(target).is_err()) {
        return Err(unfit());
    }
    let authority = authority_of(method, target)?;
    Ok(CheckedTarget { authority, raw })
}

/// The authority of the absolute form.
fn authority_of<'b>(method: &[u8], target: &'b [u8]) -> Result<Option<&'b [u8]>, Refusal> {
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
