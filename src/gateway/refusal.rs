//! Refusals as answers: status, fields and body, in the form that their callers read.

use bytes::Bytes;
use http::{HeaderValue, StatusCode, Version, header};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use pingora::http::ResponseHeader;
use serde::Serialize;

use super::http1::head::Head;
use super::message::whole_seconds;
use crate::config::ErrorFormat;
use crate::filter::{Reason, Refusal};
use crate::primitives::trace::TraceId;

/// What a refusal has to fit: what its caller speaks.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Caller {
    pub(super) version: Version,
    /// gRPC, which looks for fields of its own.
    pub(super) grpc: bool,
}

impl Caller {
    /// Whoever sent this head.
    pub(super) fn of(head: &Head) -> Self {
        Self {
            version: head.version,
            grpc: head.grpc,
        }
    }

    /// Whether a body would be in the way: gRPC takes the fields of a head for trailers only where the stream ends with it
    /// ("Trailers-Only"), and a body for messages of its own. Over HTTP/1 it has no such form.
    pub(super) fn reads_head_alone(self) -> bool {
        self.grpc && self.version == Version::HTTP_2
    }
}

/// Type of an answer to a caller of gRPC that is no more than its head.
pub(super) const GRPC: &str = "application/grpc";

/// A refusal as an answer.
pub(super) fn refusal(
    refusal: &Refusal,
    format: ErrorFormat,
    path: &str,
    trace: &TraceId,
    caller: Caller,
) -> pingora::Result<(ResponseHeader, Bytes)> {
    let status =
        StatusCode::from_u16(refusal.reason.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut head = ResponseHeader::build(status, Some(10))?;
    let body = match &refusal.answer {
        _ if caller.reads_head_alone() => {
            head.insert_header(header::CONTENT_TYPE, GRPC)?;
            Bytes::new()
        }
        Some(answer) => {
            for (name, value) in &answer.headers {
                head.append_header(name.clone(), value.clone())?;
            }
            answer.body.clone()
        }
        None => {
            let (content_type, body) = body(refusal, format, path, trace);
            head.insert_header(header::CONTENT_TYPE, content_type)?;
            body.into()
        }
    };
    for (name, value) in extra(refusal) {
        head.insert_header(name, value)?;
    }
    if caller.grpc {
        let [status, message] = grpc_fields(refusal);
        head.insert_header("grpc-status", status)?;
        head.insert_header("grpc-message", message)?;
    }
    // A length of nothing lets the stream end with its head.
    head.set_content_length(body.len())?;
    Ok((head, body))
}

/// `grpc-status` and `grpc-message`. What is not printable ASCII is percent-encoded in the message (gRPC over HTTP/2,
/// "Responses").
pub(super) fn grpc_fields(refusal: &Refusal) -> [String; 2] {
    const ESCAPED: &AsciiSet = &CONTROLS.add(b'%');
    let message = match &*refusal.detail {
        "" => refusal.reason.title(),
        detail => detail,
    };
    [
        refusal.reason.grpc_status().to_string(),
        utf8_percent_encode(message, ESCAPED).to_string(),
    ]
}

/// Headers that go with the reason.
fn extra(refusal: &Refusal) -> Vec<(&'static str, HeaderValue)> {
    let mut headers = Vec::new();
    let text = |text: &str| HeaderValue::from_str(text).ok();
    let wait = match refusal.reason.status() {
        429 | 503 => Some(refusal.retry_after.unwrap_or_default()),
        _ => refusal.retry_after,
    };
    headers.extend(wait.map(|wait| ("Retry-After", HeaderValue::from(whole_seconds(wait).max(1)))));
    headers.extend(
        refusal
            .challenge
            .and_then(text)
            .map(|value| ("WWW-Authenticate", value)),
    );
    headers.extend(
        refusal
            .allow
            .as_deref()
            .and_then(text)
            .map(|value| ("Allow", value)),
    );
    headers
}

/// The body of an RFC 9457 problem.
#[derive(Serialize)]
struct Problem<'a> {
    code: &'static str,
    detail: &'a str,
    instance: &'a str,
    status: u16,
    title: &'static str,
    trace_id: &'a str,
    r#type: &'static str,
}

/// The body of an error in the form of `error_format = "envelope"`.
#[derive(Serialize)]
struct Envelope<'a> {
    code: &'static str,
    data: (),
    msg: &'a str,
    trace_id: &'a str,
}

/// Room for names, code, title and trace of a body.
const ROOM: usize = 256;

/// Type and text of a refusal's body.
pub(super) fn body(
    refusal: &Refusal,
    format: ErrorFormat,
    path: &str,
    trace: &TraceId,
) -> (&'static str, String) {
    let Refusal { reason, detail, .. } = refusal;
    let (kind, body) = match format {
        ErrorFormat::Problem => {
            let problem = Problem {
                code: reason.code(),
                detail,
                instance: path,
                status: reason.status(),
                title: reason.title(),
                trace_id: trace.as_str(),
                r#type: "about:blank",
            };
            (
                "application/problem+json",
                text(&problem, path.len() + detail.len()),
            )
        }
        ErrorFormat::Envelope => {
            let msg = if detail.is_empty() {
                reason.title()
            } else {
                detail
            };
            let envelope = Envelope {
                code: reason.code(),
                data: (),
                msg,
                trace_id: trace.as_str(),
            };
            ("application/json", text(&envelope, detail.len()))
        }
    };
    (kind, body)
}

/// What is written of `body`, whose variable parts have so many bytes: into room for all of it, not grown on the way.
fn text(body: &impl Serialize, variable: usize) -> String {
    let mut text = Vec::with_capacity(ROOM + variable);
    // Text and numbers are always written.
    let _ = serde_json::to_writer(&mut text, body);
    String::from_utf8(text).unwrap_or_default()
}

/// The refusal of something that is our own fault: says nothing about it.
pub(super) fn internal() -> Refusal {
    Refusal::new(Reason::Internal, "the request could not be served")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::*;

    #[test]
    fn becomes_a_whole_answer() {
        let refusal =
            Refusal::new(Reason::RateLimited, "later").retry_after(Duration::from_millis(1200));
        let trace = TraceId::parse(b"t").expect("id");
        let (head, body) = super::refusal(
            &refusal,
            ErrorFormat::Problem,
            "/a",
            &trace,
            Caller::default(),
        )
        .expect("an answer");
        let field = |name: &str| head.headers.get(name).and_then(|value| value.to_str().ok());
        assert_eq!(head.status, 429);
        assert_eq!(field("retry-after"), Some("2"));
        assert_eq!(field("content-type"), Some("application/problem+json"));
        assert_eq!(
            field("content-length"),
            Some(body.len().to_string().as_str())
        );
        let body: serde_json::Value = serde_json::from_slice(&body).expect("json");
        assert_eq!(
            (&body["code"], &body["instance"], &body["status"]),
            (&"rate_limited".into(), &"/a".into(), &429.into())
        );
    }

    #[test]
    fn a_message_of_grpc_is_printable() {
        let refusal = Refusal::new(Reason::TokenMissing, "100 % caf\u{e9}\n");
        let [status, message] = grpc_fields(&refusal);
        assert_eq!((&*status, &*message), ("16", "100 %25 caf%C3%A9%0A"));
        let refusal = Refusal::new(Reason::Maintenance, "");
        assert_eq!(grpc_fields(&refusal)[1], "Under maintenance");
    }

    #[test]
    fn the_envelope_is_another_form_of_the_same() {
        let refusal = Refusal::new(Reason::TokenMissing, "no token");
        let (kind, text) = body(
            &refusal,
            ErrorFormat::Envelope,
            "/a",
            &TraceId::parse(b"t").expect("id"),
        );
        let body: serde_json::Value = serde_json::from_str(&text).expect("json");
        assert_eq!(kind, "application/json");
        assert_eq!(
            body,
            json!({ "code": "token_missing", "msg": "no token", "data": null, "trace_id": "t" })
        );
    }
}
