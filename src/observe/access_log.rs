//! One record per request: what the access log says about it (contract §10).

use std::io::Write;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderValue, Method, Uri, Version};
use serde::Serialize;

use crate::filter::Reason;
use crate::primitives::query;
use crate::primitives::trace::TraceId;

/// What is known about a finished request. Filled on the request path with clones that only count references; turned
/// into text by the log writer.
#[derive(Debug)]
pub struct Record {
    /// Wall-clock time of the request since 1970.
    pub at: Duration,
    /// Its identifier.
    pub trace_id: TraceId,
    /// Matched route.
    pub route: Option<Arc<str>>,
    /// Method.
    pub method: Method,
    /// Target as received.
    pub target: Uri,
    /// Status answered; 0 when the client left before one was sent.
    pub status: u16,
    /// Time to the end of the answer.
    pub took: Duration,
    /// Upstream chosen.
    pub upstream: Option<Arc<str>>,
    /// Endpoint of the last try.
    pub endpoint: Option<Arc<str>>,
    /// Time from sending the last try to the head of its answer.
    pub upstream_took: Option<Duration>,
    /// Tries sent.
    pub attempts: u32,
    /// The client, seen through trusted proxies.
    pub client_ip: IpAddr,
    /// Who called.
    pub consumer: Option<Arc<str>>,
    /// Body bytes received.
    pub bytes_in: u64,
    /// Body bytes sent.
    pub bytes_out: u64,
    /// Protocol version.
    pub version: Version,
    /// `User-Agent`.
    pub user_agent: Option<HeaderValue>,
    /// `Referer`, for the combined format.
    pub referer: Option<HeaderValue>,
    /// Why it was refused.
    pub reason: Option<Reason>,
}

/// Longest text taken from a client into one field.
const LONGEST: usize = 2048;

#[derive(Serialize)]
struct Line<'l> {
    timestamp: &'l str,
    level: &'l str,
    msg: &'l str,
    trace_id: &'l str,
    #[serde(skip_serializing_if = "Option::is_none")]
    route: Option<&'l str>,
    method: &'l str,
    path: &'l str,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
    duration_ms: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    upstream: Option<&'l str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    endpoint: Option<&'l str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    upstream_ms: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    attempts: Option<u32>,
    client_ip: IpAddr,
    #[serde(skip_serializing_if = "Option::is_none")]
    consumer: Option<&'l str>,
    bytes_in: u64,
    bytes_out: u64,
    protocol: &'l str,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_agent: Option<&'l str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'l str>,
}

impl Record {
    /// Writes the line as JSON.
    pub(super) fn write_json(
        &self,
        timestamp: &str,
        mask: &[String],
        out: &mut Vec<u8>,
    ) -> std::io::Result<()> {
        let path = masked_target(&self.target, mask);
        let user_agent = self.user_agent.as_ref().map(text);
        let line = Line {
            timestamp,
            level: "info",
            msg: "request",
            trace_id: self.trace_id.as_str(),
            route: self.route.as_deref(),
            method: self.method.as_str(),
            path: cut(&path),
            status: (self.status > 0).then_some(self.status),
            duration_ms: millis(self.took),
            upstream: self.upstream.as_deref(),
            endpoint: self.endpoint.as_deref(),
            upstream_ms: self.upstream_took.map(millis),
            attempts: (self.attempts > 0).then_some(self.attempts),
            client_ip: self.client_ip,
            consumer: self
                .consumer
                .as_deref()
                .filter(|consumer| !consumer.is_empty()),
            bytes_in: self.bytes_in,
            bytes_out: self.bytes_out,
            protocol: protocol(self.version),
            user_agent: user_agent.as_deref().map(cut),
            reason: self.reason.map(Reason::code),
        };
        serde_json::to_writer(&mut *out, &line)?;
        out.push(b'\n');
        Ok(())
    }

    /// Writes the line in Apache's combined format.
    pub(super) fn write_combined(&self, mask: &[String], out: &mut Vec<u8>) -> std::io::Result<()> {
        let time = jiff::Timestamp::from_second(self.at.as_secs() as i64).unwrap_or_default();
        let time = time.strftime("%d/%b/%Y:%H:%M:%S +0000");
        let consumer = self
            .consumer
            .as_deref()
            .filter(|c| !c.is_empty())
            .unwrap_or("-");
        let path = masked_target(&self.target, mask);
        writeln!(
            out,
            "{} - {} [{time}] \"{} {} {}\" {} {} \"{}\" \"{}\"",
            self.client_ip,
            quoted(consumer),
            self.method,
            quoted(cut(&path)),
            protocol(self.version),
            self.status,
            self.bytes_out,
            quoted(cut(self
                .referer
                .as_ref()
                .map(text)
                .as_deref()
                .unwrap_or("-"))),
            quoted(cut(self
                .user_agent
                .as_ref()
                .map(text)
                .as_deref()
                .unwrap_or("-"))),
        )
    }
}

fn millis(took: Duration) -> f64 {
    (took.as_secs_f64() * 1e6).round() / 1e3
}

fn protocol(version: Version) -> &'static str {
    match version {
        Version::HTTP_10 => "HTTP/1.0",
        Version::HTTP_2 => "HTTP/2",
        _ => "HTTP/1.1",
    }
}

fn text(value: &HeaderValue) -> String {
    String::from_utf8_lossy(value.as_bytes()).into_owned()
}

fn cut(text: &str) -> &str {
    if text.len() <= LONGEST {
        return text;
    }
    let mut end = LONGEST;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// Quotes, backslashes and control characters escaped: one request stays one line.
fn quoted(text: &str) -> String {
    text.chars()
        .flat_map(|c| {
            if c.is_control() || c == '"' || c == '\\' {
                c.escape_default().collect()
            } else {
                vec![c]
            }
        })
        .collect()
}

/// The target with the values of masked query parameters replaced.
fn masked_target(target: &Uri, mask: &[String]) -> String {
    let path = target.path();
    let Some(query) = target.query() else {
        return path.to_owned();
    };
    let mut out = String::with_capacity(path.len() + query.len() + 1);
    out.push_str(path);
    out.push('?');
    for (index, pair) in query.split('&').enumerate() {
        if index > 0 {
            out.push('&');
        }
        match pair.split_once('=') {
            Some((name, _))
                if mask
                    .iter()
                    .any(|masked| query::decode(name).eq_ignore_ascii_case(masked)) =>
            {
                out.push_str(name);
                out.push_str("=***");
            }
            _ => out.push_str(pair),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(target: &str) -> Record {
        Record {
            at: Duration::from_secs(1_700_000_000),
            trace_id: TraceId::parse(b"t1").expect("id"),
            route: None,
            method: Method::GET,
            target: target.parse().expect("uri"),
            status: 401,
            took: Duration::from_micros(1234),
            upstream: None,
            endpoint: None,
            upstream_took: None,
            attempts: 0,
            client_ip: IpAddr::from([127, 0, 0, 1]),
            consumer: None,
            bytes_in: 0,
            bytes_out: 5,
            version: Version::HTTP_11,
            user_agent: Some(HeaderValue::from_bytes(b"a\"\xffb").expect("value")),
            referer: None,
            reason: Some(Reason::TokenMissing),
        }
    }

    #[test]
    fn leaves_out_what_is_unknown_and_masks_what_is_secret() {
        let mut out = Vec::new();
        let mask = ["code".to_owned()];
        record("/a?code=s3cret&x=1&C%6Fde=other")
            .write_json("T", &mask, &mut out)
            .expect("line");
        let line: serde_json::Value = serde_json::from_slice(&out).expect("json");
        assert_eq!(line["path"], "/a?code=***&x=1&C%6Fde=***");
        assert_eq!(line["reason"], "token_missing");
        assert_eq!(line["duration_ms"], 1.234);
        assert!(line.get("route").is_none() && line.get("upstream").is_none());
    }

    #[test]
    fn a_combined_line_stays_one_line() {
        let mut out = Vec::new();
        record("/a").write_combined(&[], &mut out).expect("line");
        let text = String::from_utf8(out).expect("utf8");
        assert_eq!(text.lines().count(), 1);
        assert!(
            text.starts_with(
                "127.0.0.1 - - [14/Nov/2023:22:13:20 +0000] \"GET /a HTTP/1.1\" 401 5 \"-\" \"a\\\""
            ),
            "{text}"
        );
    }
}
