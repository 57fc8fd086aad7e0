//! Answers of our own: the one place where a refusal becomes status, headers and body.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderValue, Method, StatusCode, Version, header};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use pingora::http::{RequestHeader, ResponseHeader};
use serde::Serialize;

use super::affinity;
use super::ctx::Ctx;
use super::http1::answer::{Delimited, Extra, whole_seconds};
use super::http1::head::Head;
use super::session::write_error;
use crate::config::ErrorFormat;
use crate::filter::{Reason, Refusal, Reply};
use crate::primitives::trace::TraceId;

/// Sends the refusal and remembers it for the record.
pub(super) async fn refuse(
    request: &RequestHeader,
    ctx: &mut Ctx,
    refusal: Refusal,
) -> pingora::Result<()> {
    let format = ctx.start.as_ref().map_or(ErrorFormat::Problem, |start| {
        start.snapshot.config.server.error_format
    });
    let caller = ctx.start.as_ref().map(|start| Caller::of(&start.head));
    let caller = caller.unwrap_or_default();
    let (head, body) = self::refusal(&refusal, format, ctx.uri.path(), &ctx.trace, caller)?;
    ctx.refusal = Some(refusal);
    send(request, ctx, head, body, true).await
}

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

/// Sends an answer that the configuration asks for. With `filtered` the route's response filters see it; a filter's own
/// answer is complete as it is.
pub(super) async fn answer(
    request: &RequestHeader,
    ctx: &mut Ctx,
    reply: &Reply,
    filtered: bool,
) -> pingora::Result<()> {
    let mut head = ResponseHeader::build(reply.status, Some(reply.headers.len() + 6))?;
    for (name, value) in &reply.headers {
        head.append_header(name.clone(), value.clone())?;
    }
    if !is_bodiless(head.status) {
        head.set_content_length(reply.body.len())?;
    }
    send(request, ctx, head, reply.body.clone(), filtered).await
}

fn is_bodiless(status: StatusCode) -> bool {
    matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
}

async fn send(
    request: &RequestHeader,
    ctx: &mut Ctx,
    mut head: ResponseHeader,
    body: Bytes,
    filtered: bool,
) -> pingora::Result<()> {
    let Some(start) = &ctx.start else {
        return Ok(());
    };
    let (client, version) = (Arc::clone(&start.client), start.head.version);
    // A body that is here already is dropped, so that the connection can go on.
    client.drop_body_here().await;
    if filtered {
        filter(request, ctx, &mut head);
    }
    announce(ctx);
    let delimited = Delimited::of(&head, version, request.method == Method::HEAD);
    client.begin_answer(&head, delimited, version);
    ctx.relayed = Some(head.status);
    let sending = async {
        if delimited != Delimited::Absent && !body.is_empty() {
            ctx.bytes_out += body.len() as u64;
            client.send(body).await?;
        }
        client.end_answer(None);
        client.flush_last().await
    };
    sending.await.map_err(|error| write_error(&error))
}

/// Whether the answer is changed on its way.
pub(super) fn has_filters(ctx: &Ctx) -> bool {
    let route = ctx.route.as_ref();
    route.is_some_and(|route| !route.response_filters.is_empty()) || affinity::has_cookie(ctx)
}

/// Applies the route's changes to an answer, and gives its client the cookie by which it stays.
pub(super) fn filter(request: &RequestHeader, ctx: &Ctx, head: &mut ResponseHeader) {
    if let Some(cookie) = affinity::cookie(ctx) {
        // Only memory could run out.
        let _ = head.append_header(header::SET_COOKIE, cookie);
    }
    if let Some(route) = &ctx.route
        && !route.response_filters.is_empty()
    {
        let origin = request.headers.get(header::ORIGIN);
        for filter in &route.response_filters {
            filter.apply(origin, head);
        }
    }
}

/// What every answer carries, whoever made it.
pub(super) fn announce(ctx: &Ctx) {
    let Some(start) = &ctx.start else { return };
    if ctx.state.draining() {
        start.client.end_after();
    }
    let keep_alive = start.snapshot.config.server.client.keepalive_timeout;
    start.client.set_extra(Extra {
        trace: Some(ctx.trace),
        quota: ctx.quota.clone(),
        fallback: ctx.policy.fell.as_ref().map(|fell| fell.kind.as_str()),
        keep_alive: Some(keep_alive.as_secs().max(1)),
    });
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
            ("application/problem+json", serde_json::to_string(&problem))
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
            ("application/json", serde_json::to_string(&envelope))
        }
    };
    // Text and numbers are always written.
    (kind, body.unwrap_or_default())
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
