//! Heads and ends of answers as bytes (RFC 9112).

use std::fmt::Write;

use bytes::{BufMut, BytesMut};
use http::{HeaderMap, Version};

use crate::gateway::message::{
    AnswerHead, BodyFraming, GatewayHeaders, each_final, each_informational,
};

/// Writes the line before a chunk of `length` bytes.
pub(crate) fn put_chunk_size(out: &mut BytesMut, length: usize) {
    // At most 16 digits and the line's end: no allocation.
    let _ = write!(out, "{length:X}\r\n");
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
    framing: BodyFraming,
    ours: &GatewayHeaders,
    persistent: bool,
    version: Version,
    out: &mut BytesMut,
) {
    out.reserve(1024);
    write_status(answer, out);
    let shown = each_final(answer, framing, ours, |name, value| {
        write_field(out, name, value);
    });
    match framing {
        BodyFraming::Chunked => out.put_slice(b"Transfer-Encoding: chunked\r\n"),
        BodyFraming::Length(length) if !shown.0 => {
            out.put_slice(b"Content-Length: ");
            out.put_slice(itoa::Buffer::new().format(length).as_bytes());
            out.put_slice(b"\r\n");
        }
        _ => {}
    }
    if answer.status() != 101 {
        if !persistent {
            out.put_slice(b"Connection: close\r\n");
        } else {
            out.put_slice(b"Connection: keep-alive\r\n");
            if let Some(seconds) = ours.keep_alive.filter(|_| version == Version::HTTP_11) {
                out.put_slice(b"Keep-Alive: timeout=");
                out.put_slice(itoa::Buffer::new().format(seconds).as_bytes());
                out.put_slice(b"\r\n");
            }
        }
    }
    out.put_slice(b"\r\n");
}

/// Writes the end of a body in chunks, and what follows it.
pub(crate) fn write_last_chunk(trailers: Option<&HeaderMap>, out: &mut BytesMut) {
    out.put_slice(b"0\r\n");
    if let Some(trailers) = trailers {
        for (name, value) in trailers {
            write_field(out, name.as_str().as_bytes(), value.as_bytes());
        }
    }
    out.put_slice(b"\r\n");
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use pingora::http::ResponseHeader;

    use super::*;
    use crate::filter::Quota;
    use crate::primitives::trace::TraceId;

    fn answer(status: u16, fields: &[(&'static str, &str)]) -> ResponseHeader {
        let mut head = ResponseHeader::build(status, None).expect("head");
        for (name, value) in fields {
            head.append_header(*name, *value).expect("field");
        }
        head
    }

    fn written(
        head: &ResponseHeader,
        framing: BodyFraming,
        ours: &GatewayHeaders,
        persistent: bool,
    ) -> String {
        let mut out = BytesMut::new();
        write(head, framing, ours, persistent, Version::HTTP_11, &mut out);
        String::from_utf8(out.to_vec()).expect("text")
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
        let extra = GatewayHeaders {
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
        let text = written(&head, BodyFraming::Chunked, &extra, true);
        let (before, after) = text.split_once("Date: ").expect("a date");
        let (date, after) = after.split_once("\r\n").expect("its end");
        assert!(date.ends_with(" GMT") && date.len() == 29, "{date}");
        assert_eq!(
            format!("{before}{after}"),
            "HTTP/1.1 200 OK\r\nX-CamelCase: a\r\nX-Trace-ID: ours\r\nX-RateLimit-Limit: 5\r\nX-RateLimit-Remaining: 4\r\n\
             X-RateLimit-Reset: 2\r\nTransfer-Encoding: chunked\r\nConnection: keep-alive\r\nKeep-Alive: timeout=75\r\n\r\n"
        );
        let head = answer(200, &[("X-Trace-ID", "theirs"), ("date", "then")]);
        let text = written(
            &head,
            BodyFraming::Absent,
            &GatewayHeaders::default(),
            false,
        );
        assert!(text.contains("\r\ndate: then\r\n") && !text.contains("Date"));
        assert!(
            text.contains("X-Trace-ID: theirs\r\n") && text.ends_with("Connection: close\r\n\r\n")
        );
        assert!(!text.contains("Transfer-Encoding"));
    }

    #[test]
    fn an_upgrade_keeps_what_it_agrees_upon() {
        let head = answer(101, &[("Upgrade", "websocket"), ("Connection", "Upgrade")]);
        let text = written(&head, BodyFraming::Close, &GatewayHeaders::default(), false);
        assert!(
            text.contains("Upgrade: websocket\r\nConnection: Upgrade\r\n"),
            "{text}"
        );
        assert!(!text.contains("close"), "{text}");
    }

    #[test]
    fn the_length_told_is_the_length_sent() {
        let ours = GatewayHeaders::default();
        let text = |head: &ResponseHeader, framing| written(head, framing, &ours, true);
        let head = answer(200, &[("content-LENGTH", "9"), ("Content-Length", "8")]);
        let told = text(&head, BodyFraming::Length(7));
        assert!(told.contains("\r\ncontent-LENGTH: 7\r\n"), "{told}");
        assert_eq!(
            told.to_ascii_lowercase().matches("content-length").count(),
            1
        );
        let told = text(&answer(200, &[]), BodyFraming::Length(0));
        assert!(told.contains("\r\nContent-Length: 0\r\n"), "{told}");
        let told = text(
            &answer(304, &[("Content-Length", "9")]),
            BodyFraming::Absent,
        );
        assert!(told.contains("\r\nContent-Length: 9\r\n"), "{told}");
        for (status, framing) in [(200, BodyFraming::Chunked), (204, BodyFraming::Absent)] {
            let told = text(&answer(status, &[("Content-Length", "9")]), framing);
            assert!(!told.contains("Content-Length"), "{told}");
        }
    }

    #[test]
    fn trailers_follow_the_last_chunk() {
        let mut trailers = HeaderMap::new();
        trailers.append("x-sum", "1".parse().expect("value"));
        trailers.append("x-sum", "2".parse().expect("value"));
        let mut out = BytesMut::new();
        write_last_chunk(Some(&trailers), &mut out);
        assert_eq!(&out[..], b"0\r\nx-sum: 1\r\nx-sum: 2\r\n\r\n");
        out.clear();
        write_last_chunk(None, &mut out);
        assert_eq!(&out[..], b"0\r\n\r\n");
    }
}
