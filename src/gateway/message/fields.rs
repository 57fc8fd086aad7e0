//! The fields of an answer as they are told: its own, but for those of a connection, and those that the gateway adds.

use http::{HeaderMap, HeaderName, header};
use pingora::protocols::http::date::get_cached_date;

use super::framing::BodyFraming;
use super::head::AnswerHead;
use crate::filter::{Policy, Quota};
use crate::primitives::trace::TraceId;

/// What an answer carries besides its own fields. Written straight to the client: fields that every answer has are not
/// worth an entry in a map.
#[derive(Clone, Debug, Default)]
pub(crate) struct GatewayHeaders {
    /// `X-Trace-ID`.
    pub(crate) trace: Option<TraceId>,
    /// `X-RateLimit-*`, and what the draft has instead.
    pub(crate) quota: Option<Quota>,
    /// `X-Fallback`.
    pub(crate) fallback: Option<&'static str>,
    /// Seconds of `Keep-Alive`, if the connection goes on.
    pub(crate) keep_alive: Option<u64>,
}

/// Shows the fields of an informational head: nothing of ours is in it.
pub(crate) fn each_informational(answer: &impl AnswerHead, mut show: impl FnMut(&[u8], &[u8])) {
    answer.each(|name, value| {
        // An informational answer has no body, and may not speak of one (RFC 9110 §8.6).
        if !is_of_connection(name, false) && !name.eq_ignore_ascii_case(b"content-length") {
            show(name, value);
        }
    });
}

/// Whether the fields that were shown told the length of the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LengthShown(pub(crate) bool);

/// Shows the fields of a final head, but for those of the connection: the answer's own, then ours. `Content-Length` says
/// what `framing` says, in the answer's own spelling and place, and is left out where another delimiter is used (RFC 9112
/// §6.2); the caller adds one that the answer did not have.
pub(crate) fn each_final(
    answer: &impl AnswerHead,
    framing: BodyFraming,
    ours: &GatewayHeaders,
    mut show: impl FnMut(&[u8], &[u8]),
) -> LengthShown {
    let status = answer.status();
    let upgraded = status == 101;
    let (legacy, draft) = limits_told(ours);
    let (mut dated, mut length_shown) = (false, LengthShown(false));
    answer.each(|name, value| {
        let replaced = match name.len() {
            4 if name.eq_ignore_ascii_case(b"date") => {
                dated = true;
                false
            }
            10 if ours.trace.is_some() && name.eq_ignore_ascii_case(b"x-trace-id") => true,
            10 if ours.fallback.is_some() && name.eq_ignore_ascii_case(b"x-fallback") => true,
            14 if name.eq_ignore_ascii_case(b"content-length") => {
                show_length(name, value, framing, status, &mut length_shown, &mut show);
                true
            }
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
        if !replaced && !is_of_connection(name, upgraded) {
            show(name, value);
        }
    });
    if !dated {
        show(b"Date", get_cached_date().as_bytes());
    }
    if let Some(trace) = &ours.trace {
        show(b"X-Trace-ID", trace.as_bytes());
    }
    if let Some(kind) = ours.fallback {
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
    length_shown
}

/// Shows a length once. Where there is no body it is the length of another answer, and passes as it is; a 204 has none
/// (RFC 9110 §8.6).
fn show_length(
    name: &[u8],
    value: &[u8],
    framing: BodyFraming,
    status: u16,
    shown: &mut LengthShown,
    show: &mut impl FnMut(&[u8], &[u8]),
) {
    match framing {
        BodyFraming::Length(length) if !shown.0 => {
            show(name, itoa::Buffer::new().format(length).as_bytes());
        }
        BodyFraming::Absent if status != 204 => show(name, value),
        _ => return,
    }
    shown.0 = true;
}

/// Fields that mean something before a body and must not be said behind it: how a message is delimited and routed, who sent
/// it, under which conditions, and how to read its content (RFC 9110 §6.5.1); and those that concern a connection.
static NOT_IN_TRAILERS: [HeaderName; 37] = [
    header::AGE,
    header::AUTHORIZATION,
    header::CACHE_CONTROL,
    header::CONNECTION,
    header::CONTENT_ENCODING,
    header::CONTENT_LENGTH,
    header::CONTENT_RANGE,
    header::CONTENT_TYPE,
    header::COOKIE,
    header::DATE,
    header::EXPECT,
    header::EXPIRES,
    header::FORWARDED,
    header::HOST,
    header::IF_MATCH,
    header::IF_MODIFIED_SINCE,
    header::IF_NONE_MATCH,
    header::IF_RANGE,
    header::IF_UNMODIFIED_SINCE,
    header::LOCATION,
    header::MAX_FORWARDS,
    header::PRAGMA,
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::RANGE,
    header::RETRY_AFTER,
    header::SET_COOKIE,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::VARY,
    header::WWW_AUTHENTICATE,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    HeaderName::from_static("http2-settings"),
    HeaderName::from_static("x-fallback"),
];

/// Removes from trailers what may not follow a body, and what only the gateway says of itself.
pub(crate) fn strip_trailers(trailers: &mut HeaderMap) {
    for name in &NOT_IN_TRAILERS {
        trailers.remove(name);
    }
}

/// What is told of limits, in the old headers and in those of the draft.
fn limits_told(ours: &GatewayHeaders) -> (Option<&Quota>, Option<(&Quota, &Policy)>) {
    let Some(quota) = &ours.quota else {
        return (None, None);
    };
    let policy = quota.policy.as_deref();
    let legacy = policy.is_none_or(|policy| policy.legacy);
    (
        legacy.then_some(quota),
        policy.map(|policy| (quota, policy)),
    )
}

/// Whole seconds, rounded up.
pub(crate) fn whole_seconds(duration: std::time::Duration) -> u64 {
    duration.as_secs() + u64::from(duration.subsec_nanos() > 0)
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
    use super::*;

    #[test]
    fn trailers_say_nothing_of_delimiters_and_connections() {
        let mut trailers = HeaderMap::new();
        for name in [
            "x-sum",
            "content-length",
            "transfer-encoding",
            "x-fallback",
            "te",
        ] {
            let name = HeaderName::from_static(name);
            trailers.append(name.clone(), header::HeaderValue::from_static("1"));
            trailers.append(name, header::HeaderValue::from_static("2"));
        }
        strip_trailers(&mut trailers);
        assert_eq!(trailers.keys_len(), 1);
        assert_eq!(trailers.get_all("x-sum").iter().count(), 2);
    }
}
