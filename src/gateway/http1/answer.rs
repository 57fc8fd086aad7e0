//! The head of an answer as bytes, and how its body is delimited.

use std::fmt::Write;

use bytes::{BufMut, BytesMut};
use http::{HeaderMap, Version, header};
use pingora::http::{HeaderNameVariant, ResponseHeader};
use pingora::protocols::http::date::get_cached_date;

use crate::filter::{Policy, Quota};
use crate::primitives::trace::TraceId;

/// What an answer carries besides its own fields. Written straight to the client: fields that every answer has are not
/// worth an entry in a map.
#[derive(Clone, Debug, Default)]
pub(crate) struct Extra {
    /// `X-Trace-ID`.
    pub(crate) trace: Option<TraceId>,
    /// `X-RateLimit-*`, and what the draft has instead.
    pub(crate) quota: Option<Quota>,
    /// `X-Fallback`.
    pub(crate) fallback: Option<&'static str>,
    /// Seconds of `Keep-Alive`, if the connection goes on.
    pub(crate) keep_alive: Option<u64>,
}

/// How the body of an answer is delimited (RFC 9112 §6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Delimited {
    /// No body.
    Absent,
    /// So many bytes.
    Length(u64),
    /// Chunks; over HTTP/2 frames, which need no more.
    Chunked,
    /// By the end of the connection.
    Close,
}

/// The head of an answer, whoever parsed it.
pub(crate) trait AnswerHead {
    /// Its status.
    fn status(&self) -> u16;
    /// Its reason phrase.
    fn reason(&self) -> &str;
    /// Shows each field in turn.
    fn each(&self, show: impl FnMut(&[u8], &[u8]));
}

impl AnswerHead for ResponseHeader {
    fn status(&self) -> u16 {
        self.status.as_u16()
    }

    fn reason(&self) -> &str {
        self.get_reason_phrase().unwrap_or_default()
    }

    fn each(&self, mut show: impl FnMut(&[u8], &[u8])) {
        let _ = self.map(|name, value| {
            match name {
                HeaderNameVariant::Case(name) => show(name.as_slice(), value.as_bytes()),
                HeaderNameVariant::Titled(name) => show(name.as_bytes(), value.as_bytes()),
            }
            Ok(())
        });
    }
}

impl Delimited {
    /// How the body of this answer is sent to a client that speaks `version`, and asked for the head only or not.
    pub(crate) fn of(answer: &ResponseHeader, version: Version, head_only: bool) -> Self {
        if answer.status == 101 {
            return Self::Close;
        }
        if has_no_body(answer.status.as_u16(), head_only) {
            return Self::Absent;
        }
        let (mut length, mut coded) = (None, false);
        for (name, value) in &answer.headers {
            if *name == header::CONTENT_LENGTH {
                length = value.to_str().ok().and_then(|text| text.parse().ok());
            } else if *name == header::TRANSFER_ENCODING {
                coded = true;
            }
        }
        Self::with(length.filter(|_| !coded), version)
    }

    /// How a body is sent whose length is known or not.
    pub(crate) fn with(length: Option<u64>, version: Version) -> Self {
        match length {
            Some(length) => Self::Length(length),
            None if version == Version::HTTP_10 => Self::Close,
            None => Self::Chunked,
        }
    }
}

/// Whether an answer has no body whatever its fields say (RFC 9112 §6.3).
pub(crate) fn has_no_body(status: u16, head_only: bool) -> bool {
    head_only || status < 200 || matches!(status, 204 | 304)
}

/// Whether an answer may have this status (RFC 9110 §15).
pub(crate) fn is_status(status: u16) -> bool {
    (100..600).contains(&status)
}

/// Whether a field is one by which the gateway speaks of itself: what an upstream says there is left out.
pub(crate) fn is_ours(name: &[u8]) -> bool {
    name.len() == 10 && name.eq_ignore_ascii_case(b"x-fallback")
}

/// Writes the line before a chunk of `length` bytes.
pub(crate) fn put_chunk_size(out: &mut BytesMut, length: usize) {
    // At most 16 digits and the line's end: no allocation.
    let _ = write!(out, "{length:X}\r\n");
}

/// Shows the fields of an informational head: nothing of ours is in it.
pub(crate) fn each_informational(answer: &impl AnswerHead, mut show: impl FnMut(&[u8], &[u8])) {
    answer.each(|name, value| {
        // It has no body, and may not speak of one (RFC 9110 §8.6).
        if !is_of_connection(name, false) && !name.eq_ignore_ascii_case(b"content-length") {
            show(name, value);
        }
    });
}

/// Shows the fields of a final head, but for those of the connection: the answer's own, then ours.
pub(crate) fn each_final(
    answer: &impl AnswerHead,
    delimited: Delimited,
    extra: &Extra,
    mut show: impl FnMut(&[u8], &[u8]),
) {
    let status = answer.status();
    let upgraded = status == 101;
    let with_length = !matches!(delimited, Delimited::Chunked | Delimited::Close) && status != 204;
    let (legacy, draft) = limits_told(extra);
    let mut dated = false;
    answer.each(|name, value| {
        let ours = match name.len() {
            4 if name.eq_ignore_ascii_case(b"date") => {
                dated = true;
                false
            }
            10 if extra.trace.is_some() && name.eq_ignore_ascii_case(b"x-trace-id") => true,
            10 if extra.fallback.is_some() && name.eq_ignore_ascii_case(b"x-fallback") => true,
            14 if name.eq_ignore_ascii_case(b"content-length") => !with_length,
            9 | 16 if draft.is_some() => {
                name.eq_ignore_ascii_case(b"ratelimit")
                    || name.eq_ignore_ascii_case(b"ratelimit-policy")
            }
            17 | 21 if legacy.is_some() => [
                &b"x-ratelimit-limit"[..],
                b"x-ratelimit-reset",
                b"x-ratelimit-remaining",
            ]
            .iter()
            .any(|known| name.eq_ignore_ascii_case(known)),
            _ => false,
        };
        if !ours && !is_of_connection(name, upgraded) {
            show(name, value);
        }
    });
    if !dated {
        show(b"Date", get_cached_date().as_bytes());
    }
    if let Some(trace) = &extra.trace {
        show(b"X-Trace-ID", trace.as_bytes());
    }
    if let Some(kind) = extra.fallback {
        show(b"X-Fallback", kind.as_bytes());
    }
    if let Some(quota) = legacy {
        for (name, number) in [
            (&b"X-RateLimit-Limit"[..], quota.limit),
            (b"X-RateLimit-Remaining", quota.remaining),
            (b"X-RateLimit-Reset", whole_seconds(quota.reset)),
        ] {
            show(name, itoa::Buffer::new().format(number).as_bytes());
        }
    }
    if let Some((quota, policy)) = draft {
        let (left, reset) = (quota.remaining, whole_seconds(quota.reset));
        show(b"RateLimit-Policy", policy.policy.as_bytes());
        let item = format!("{};r={left};t={reset}", policy.name);
        show(b"RateLimit", item.as_bytes());
    }
}

/// What is told of limits, in the old headers and in those of the draft.
fn limits_told(extra: &Extra) -> (Option<&Quota>, Option<(&Quota, &Policy)>) {
    let Some(quota) = &extra.quota else {
        return (None, None);
    };
    let policy = quota.policy.as_deref();
    let legacy = policy.is_none_or(|policy| policy.legacy);
    (
        legacy.then_some(quota),
        policy.map(|policy| (quota, policy)),
    )
}

/// Writes an informational head.
pub(crate) fn write_informational(answer: &impl AnswerHead, out: &mut BytesMut) {
    write_status(answer, out);
    each_informational(answer, |name, value| write_field(out, name, value));
    out.put_slice(b"\r\n");
}

/// Writes a final head.
pub(crate) fn write(
    answer: &impl AnswerHead,
    delimited: Delimited,
    extra: &Extra,
    persistent: bool,
    version: Version,
    out: &mut BytesMut,
) {
    out.reserve(1024);
    write_status(answer, out);
    each_final(answer, delimited, extra, |name, value| {
        write_field(out, name, value);
    });
    if delimited == Delimited::Chunked {
        out.put_slice(b"Transfer-Encoding: chunked\r\n");
    }
    if answer.status() != 101 {
        if !persistent {
            out.put_slice(b"Connection: close\r\n");
        } else {
            out.put_slice(b"Connection: keep-alive\r\n");
            if let Some(seconds) = extra.keep_alive.filter(|_| version == Version::HTTP_11) {
                out.put_slice(b"Keep-Alive: timeout=");
                out.put_slice(itoa::Buffer::new().format(seconds).as_bytes());
                out.put_slice(b"\r\n");
            }
        }
    }
    out.put_slice(b"\r\n");
}

/// Whole seconds, rounded up.
pub(crate) fn whole_seconds(duration: std::time::Duration) -> u64 {
    duration.as_secs() + u64::from(duration.subsec_nanos() > 0)
}

fn write_status(answer: &impl AnswerHead, out: &mut BytesMut) {
    out.put_slice(b"HTTP/1.1 ");
    out.put_slice(itoa::Buffer::new().format(answer.status()).as_bytes());
    out.put_u8(b' ');
    out.put_slice(answer.reason().as_bytes());
    out.put_slice(b"\r\n");
}

fn write_field(out: &mut BytesMut, name: &[u8], value: &[u8]) {
    out.reserve(name.len() + value.len() + 4);
    out.put_slice(name);
    out.put_slice(b": ");
    out.put_slice(value);
    out.put_slice(b"\r\n");
}

/// Writes fields, one a line.
pub(crate) fn put_fields(out: &mut BytesMut, fields: &HeaderMap) {
    for (name, value) in fields {
        write_field(out, name.as_str().as_bytes(), value.as_bytes());
    }
}

/// Fields between us and one neighbour (RFC 9110 §7.6.1). An upgrade is agreed upon in two of them.
fn is_of_connection(name: &[u8], upgraded: bool) -> bool {
    let known: &[&[u8]] = match name.len() {
        2 => &[b"te"],
        7 if upgraded => &[b"trailer"],
        7 => &[b"trailer", b"upgrade"],
        10 if upgraded => &[b"keep-alive"],
        10 => &[b"connection", b"keep-alive"],
        16 => &[b"proxy-connection"],
        17 => &[b"transfer-encoding"],
        _ => return false,
    };
    known.iter().any(|known| name.eq_ignore_ascii_case(known))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn answer(status: u16, fields: &[(&'static str, &str)]) -> ResponseHeader {
        let mut head = ResponseHeader::build(status, None).expect("head");
        for (name, value) in fields {
            head.append_header(*name, *value).expect("field");
        }
        head
    }

    fn written(
        head: &ResponseHeader,
        delimited: Delimited,
        extra: &Extra,
        persistent: bool,
    ) -> String {
        let mut out = BytesMut::new();
        write(
            head,
            delimited,
            extra,
            persistent,
            Version::HTTP_11,
            &mut out,
        );
        String::from_utf8(out.to_vec()).expect("text")
    }

    #[test]
    fn delimits_as_the_client_understands() {
        let of = |status, fields: &[(&'static str, &str)], version, head_only| {
            Delimited::of(&answer(status, fields), version, head_only)
        };
        let length = [("Content-Length", "7")];
        assert_eq!(
            of(200, &length, Version::HTTP_11, false),
            Delimited::Length(7)
        );
        assert_eq!(of(200, &length, Version::HTTP_11, true), Delimited::Absent);
        assert_eq!(of(304, &length, Version::HTTP_11, false), Delimited::Absent);
        assert_eq!(of(200, &[], Version::HTTP_11, false), Delimited::Chunked);
        assert_eq!(of(200, &[], Version::HTTP_10, false), Delimited::Close);
        assert_eq!(of(101, &[], Version::HTTP_11, false), Delimited::Close);
    }

    #[test]
    fn keeps_the_origins_fields_and_adds_ours() {
        let head = answer(
            200,
            &[
                ("X-CamelCase", "a"),
                ("X-Trace-ID", "theirs"),
                ("Connection", "keep-alive"),
                ("Keep-Alive", "timeout=1"),
                ("Transfer-Encoding", "chunked"),
                ("X-RateLimit-Limit", "theirs"),
            ],
        );
        let extra = Extra {
            trace: TraceId::parse(b"ours"),
            quota: Some(Quota {
                limit: 5,
                remaining: 4,
                reset: Duration::from_millis(1500),
                policy: None,
            }),
            fallback: None,
            keep_alive: Some(75),
        };
        let text = written(&head, Delimited::Chunked, &extra, true);
        let (before, after) = text.split_once("Date: ").expect("a date");
        let (date, after) = after.split_once("\r\n").expect("its end");
        assert!(date.ends_with(" GMT") && date.len() == 29, "{date}");
        assert_eq!(
            format!("{before}{after}"),
            "HTTP/1.1 200 OK\r\nX-CamelCase: a\r\nX-Trace-ID: ours\r\nX-RateLimit-Limit: 5\r\nX-RateLimit-Remaining: 4\r\n\
             X-RateLimit-Reset: 2\r\nTransfer-Encoding: chunked\r\nConnection: keep-alive\r\nKeep-Alive: timeout=75\r\n\r\n"
        );
        let head = answer(200, &[("X-Trace-ID", "theirs"), ("date", "then")]);
        let text = written(&head, Delimited::Absent, &Extra::default(), false);
        assert!(text.contains("\r\ndate: then\r\n") && !text.contains("Date"));
        assert!(
            text.contains("X-Trace-ID: theirs\r\n") && text.ends_with("Connection: close\r\n\r\n")
        );
        assert!(!text.contains("Transfer-Encoding"));
    }

    #[test]
    fn an_upgrade_keeps_what_it_agrees_upon() {
        let head = answer(101, &[("Upgrade", "websocket"), ("Connection", "Upgrade")]);
        let text = written(&head, Delimited::Close, &Extra::default(), false);
        assert!(
            text.contains("Upgrade: websocket\r\nConnection: Upgrade\r\n"),
            "{text}"
        );
        assert!(!text.contains("close"), "{text}");
    }
}
