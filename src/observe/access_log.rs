//! One record per request: what the access log says about it.

use std::borrow::Cow;
use std::io::Write;
use std::net::IpAddr;
use std::time::Duration;

use http::{HeaderValue, Method, Uri, Version};

use super::internal::Internal;
use super::rollouts::FallbackCalled;
use crate::filter::Reason;
use crate::primitives::query;
use crate::primitives::trace::TraceId;

/// What is known about a finished request.
#[derive(Debug)]
pub struct Record<'r> {
    /// Wall-clock time of the request since 1970.
    pub at: Duration,
    /// Identifier of the request.
    pub trace_id: &'r TraceId,
    /// Matched route.
    pub route: Option<&'r str>,
    /// Method.
    pub method: &'r Method,
    /// Target as received.
    pub target: &'r Uri,
    /// Status answered, or that of a client that left before; 0 when neither is known.
    pub status: u16,
    /// Time to the end of the answer.
    pub took: Duration,
    /// Upstream chosen.
    pub upstream: Option<&'r str>,
    /// Endpoint of the last try.
    pub endpoint: Option<&'r str>,
    /// Time from sending the last try to the head of its answer.
    pub upstream_took: Option<Duration>,
    /// Tries sent.
    pub attempts: u32,
    /// Each of them, where there was more than one.
    pub tries: &'r [Try<'r>],
    /// The client, seen through trusted proxies.
    pub client_ip: IpAddr,
    /// Who called.
    pub consumer: Option<&'r str>,
    /// Who authenticated the caller.
    pub consumer_auth: Option<&'r str>,
    /// Body bytes received.
    pub bytes_in: u64,
    /// Body bytes sent.
    pub bytes_out: u64,
    /// Protocol version.
    pub version: Version,
    /// `User-Agent`.
    pub user_agent: Option<&'r HeaderValue>,
    /// `Referer`, for the combined format.
    pub referer: Option<&'r HeaderValue>,
    /// Why it was refused.
    pub reason: Option<Reason>,
    /// More of that, where there is more to say than a client may know.
    pub cause: Option<&'static str>,
    /// Who answered in place of the upstream, and why.
    pub fallback: Option<(&'static str, FallbackCalled)>,
    /// How a tunnel ended.
    pub tunnel_end: Option<TunnelEnd>,
    /// What it was made for, if it was made inside the process.
    pub internal: Option<Internal>,
}

/// One of several tries of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Try<'r> {
    /// The endpoint that was asked.
    pub endpoint: &'r str,
    /// How long it lasted, connecting included.
    pub took: Duration,
    /// Why it ended.
    pub end: TryEnd,
}

/// Why a try ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TryEnd {
    /// The client has the answer of this try.
    Answered,
    /// The endpoint answered with a status that another try, or a fallback, may better.
    Status,
    /// No connection.
    Connect,
    /// The connection broke.
    Reset,
    /// The answer took too long.
    Timeout,
    /// The answer made no sense.
    Invalid,
    /// A connection that was kept had been closed: it is sent again at once, and does not count.
    Stale,
    /// Another try beside it was answered first.
    Lost,
    /// The client left, or the time of the request was over.
    GivenUp,
}

impl TryEnd {
    /// The word of the access log.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::Status => "status",
            Self::Connect => "connect",
            Self::Reset => "reset",
            Self::Timeout => "timeout",
            Self::Invalid => "invalid",
            Self::Stale => "stale",
            Self::Lost => "lost",
            Self::GivenUp => "given_up",
        }
    }
}

/// How a tunnel ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TunnelEnd {
    /// The client closed it.
    Client,
    /// The endpoint closed it.
    Upstream,
    /// Neither side said anything for too long.
    Timeout,
    /// The client took nothing for too long.
    ClientStalled,
    /// The endpoint took nothing for too long.
    UpstreamStalled,
    /// The process came to its end.
    Draining,
}

impl TunnelEnd {
    /// As the access log has it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Upstream => "upstream",
            Self::Timeout => "timeout",
            Self::ClientStalled => "client_stalled",
            Self::UpstreamStalled => "upstream_stalled",
            Self::Draining => "draining",
        }
    }
}

/// Longest text taken from a client into one field.
const LONGEST: usize = 2048;

impl Record<'_> {
    /// Writes the line as JSON. By hand, for it is a tenth of what a request costs when a serializer does it.
    pub fn write_json(&self, timestamp: &Timestamp, mask: &[String], out: &mut Vec<u8>) {
        out.reserve(512);
        out.extend_from_slice(b"{\"timestamp\":\"");
        timestamp.write(out);
        out.extend_from_slice(b"\",\"level\":\"info\",\"msg\":\"request\",\"trace_id\":\"");
        // Neither this nor a number nor an address holds anything to escape.
        out.extend_from_slice(self.trace_id.as_bytes());
        out.push(b'"');
        put_some(out, b",\"route\":", self.route);
        put_plain(out, b",\"method\":\"", self.method.as_str());
        let path = masked_target(self.target, mask);
        put_text(out, b",\"path\":", cut(&path));
        if self.status > 0 {
            put_number(out, b",\"status\":", self.status.into());
        }
        put_millis(out, b",\"duration_ms\":", self.took);
        put_some(out, b",\"upstream\":", self.upstream);
        put_some(out, b",\"endpoint\":", self.endpoint);
        if let Some(took) = self.upstream_took {
            put_millis(out, b",\"upstream_ms\":", took);
        }
        if self.attempts > 0 {
            put_number(out, b",\"attempts\":", self.attempts.into());
        }
        put_tries(out, self.tries);
        put_address(out, b",\"client_ip\":\"", self.client_ip);
        let consumer = self.consumer.filter(|name| !name.is_empty());
        put_some(out, b",\"consumer\":", consumer);
        put_some(out, b",\"consumer_auth\":", self.consumer_auth);
        put_number(out, b",\"bytes_in\":", self.bytes_in);
        put_number(out, b",\"bytes_out\":", self.bytes_out);
        put_plain(out, b",\"protocol\":\"", protocol(self.version));
        let user_agent = self.user_agent.map(text);
        put_some(out, b",\"user_agent\":", user_agent.as_deref().map(cut));
        if let Some(reason) = self.reason {
            put_plain(out, b",\"reason\":\"", reason.code());
        }
        put_some(out, b",\"cause\":", self.cause);
        if let Some((kind, called)) = self.fallback {
            put_plain(out, b",\"fallback\":\"", kind);
            put_plain(out, b",\"fallback_cause\":\"", called.as_str());
            if let FallbackCalled::Status(status) = called {
                put_number(out, b",\"upstream_status\":", status.into());
            }
        }
        if let Some(end) = self.tunnel_end {
            put_plain(out, b",\"tunnel_end\":\"", end.as_str());
        }
        if let Some(internal) = self.internal {
            // The trace is that of the request which made it.
            out.extend_from_slice(b",\"");
            out.extend_from_slice(internal.label().as_bytes());
            put_plain(out, b"\":\"", self.trace_id.as_str());
        }
        out.extend_from_slice(b"}\n");
    }

    /// Writes the line in Apache's combined format.
    pub(super) fn write_combined(&self, mask: &[String], out: &mut Vec<u8>) {
        let time = jiff::Timestamp::from_second(self.at.as_secs() as i64).unwrap_or_default();
        let time = time.strftime("%d/%b/%Y:%H:%M:%S +0000");
        let consumer = self.consumer.filter(|c| !c.is_empty()).unwrap_or("-");
        let path = masked_target(self.target, mask);
        let referer = self.referer.map(text);
        let referer = masked(referer.as_deref().unwrap_or("-"), mask);
        // Writing to memory cannot fail.
        let _ = writeln!(
            out,
            "{} - {} [{time}] \"{} {} {}\" {} {} \"{}\" \"{}\"",
            self.client_ip,
            one_word(cut(consumer)),
            self.method,
            quoted(cut(&path)),
            protocol(self.version),
            self.status,
            self.bytes_out,
            quoted(cut(&referer)),
            quoted(cut(self.user_agent.map(text).as_deref().unwrap_or("-"))),
        );
    }
}

// Each writes a field: `name` is the text before its value.

fn put_text(out: &mut Vec<u8>, name: &[u8], text: &str) {
    out.extend_from_slice(name);
    let plain =
        |plain: bool, byte: &u8| plain & (*byte >= 0x20) & (*byte != b'"') & (*byte != b'\\');
    if text.as_bytes().iter().fold(true, plain) {
        out.push(b'"');
        out.extend_from_slice(text.as_bytes());
        out.push(b'"');
    } else {
        // Writing text to memory cannot fail.
        let _ = serde_json::to_writer(out, text);
    }
}

/// Text that holds nothing to escape: a method is a token, a protocol and a code are ours.
fn put_plain(out: &mut Vec<u8>, name: &[u8], text: &str) {
    out.extend_from_slice(name);
    out.extend_from_slice(text.as_bytes());
    out.push(b'"');
}

fn put_some(out: &mut Vec<u8>, name: &[u8], text: Option<&str>) {
    if let Some(text) = text {
        put_text(out, name, text);
    }
}

fn put_number(out: &mut Vec<u8>, name: &[u8], number: u64) {
    out.extend_from_slice(name);
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

fn put_tries(out: &mut Vec<u8>, tries: &[Try<'_>]) {
    let mut before: &[u8] = b",\"tries\":[{\"endpoint\":";
    for attempt in tries {
        put_text(out, before, attempt.endpoint);
        put_millis(out, b",\"ms\":", attempt.took);
        put_plain(out, b",\"end\":\"", attempt.end.as_str());
        before = b"},{\"endpoint\":";
    }
    if !tries.is_empty() {
        out.extend_from_slice(b"}]");
    }
}

/// Milliseconds with three decimals.
fn put_millis(out: &mut Vec<u8>, name: &[u8], took: Duration) {
    let micros = took.as_secs() * 1_000_000 + u64::from((took.subsec_nanos() + 500) / 1000);
    put_number(out, name, micros / 1000);
    out.push(b'.');
    put_three(out, (micros % 1000) as u16);
}

fn put_address(out: &mut Vec<u8>, name: &[u8], address: IpAddr) {
    out.extend_from_slice(name);
    match address {
        IpAddr::V4(address) => {
            for (index, octet) in address.octets().into_iter().enumerate() {
                if index > 0 {
                    out.push(b'.');
                }
                out.extend_from_slice(itoa::Buffer::new().format(octet).as_bytes());
            }
        }
        IpAddr::V6(address) => {
            let _ = write!(out, "{address}");
        }
    }
    out.push(b'"');
}

/// Three digits.
fn put_three(out: &mut Vec<u8>, number: u16) {
    let digit = |number: u16| b'0' + (number % 10) as u8;
    out.extend_from_slice(&[digit(number / 100), digit(number / 10), digit(number)]);
}

/// A moment as RFC 3339 with milliseconds, UTC. The part up to the second is formatted once a second.
#[derive(Debug)]
pub struct Timestamp {
    second: u64,
    text: String,
    millis: u16,
}

impl Default for Timestamp {
    fn default() -> Self {
        Self::new()
    }
}

impl Timestamp {
    /// No moment yet.
    pub fn new() -> Self {
        Self {
            second: u64::MAX,
            text: String::new(),
            millis: 0,
        }
    }

    /// Moves to this time since 1970.
    pub fn set(&mut self, at: Duration) {
        if self.second != at.as_secs() {
            let moment = jiff::Timestamp::from_second(at.as_secs() as i64).unwrap_or_default();
            self.second = at.as_secs();
            self.text = moment.strftime("%Y-%m-%dT%H:%M:%S").to_string();
        }
        self.millis = at.subsec_millis() as u16;
    }

    /// Writes it.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.text.as_bytes());
        out.push(b'.');
        put_three(out, self.millis);
        out.push(b'Z');
    }
}

fn protocol(version: Version) -> &'static str {
    match version {
        Version::HTTP_10 => "HTTP/1.0",
        Version::HTTP_2 => "HTTP/2",
        _ => "HTTP/1.1",
    }
}

fn text(value: &HeaderValue) -> Cow<'_, str> {
    String::from_utf8_lossy(value.as_bytes())
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
pub(super) fn quoted(text: &str) -> String {
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

/// Text as [`quoted`], and no blank in it either: what stands outside of quotes in a combined line is one word, else it
/// could pass for the fields after it.
fn one_word(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in quoted(text).chars() {
        match c {
            ' ' => out.push_str("\\x20"),
            '[' => out.push_str("\\x5b"),
            c if c.is_whitespace() => out.extend(c.escape_unicode()),
            c => out.push(c),
        }
    }
    out
}

/// The target with the values of masked query parameters replaced.
fn masked_target<'t>(target: &'t Uri, mask: &[String]) -> Cow<'t, str> {
    let path = target.path();
    let Some(query) = target.query() else {
        return Cow::Borrowed(path);
    };
    let mut out = String::with_capacity(path.len() + query.len() + 1);
    out.push_str(path);
    out.push('?');
    put_pairs(&mut out, query, mask);
    Cow::Owned(out)
}

/// A reference as a client wrote it, the values of masked parameters in its query and its fragment replaced, and the user
/// before its host.
fn masked<'t>(url: &'t str, mask: &[String]) -> Cow<'t, str> {
    let at = url.find(['?', '#']).unwrap_or(url.len());
    let (before, after) = url.split_at(at);
    let user = user_of(before);
    if after.is_empty() && user.is_none() {
        return Cow::Borrowed(url);
    }
    let (start, end) = user.unwrap_or((0, 0));
    let mut out = String::with_capacity(url.len());
    out.push_str(&before[..start]);
    out.push_str(if user.is_some() { "***" } else { "" });
    out.push_str(&before[end..]);
    let (query, fragment) = match after.split_once('#') {
        Some((query, fragment)) => (query, Some(fragment)),
        None => (after, None),
    };
    if let Some(query) = query.strip_prefix('?') {
        out.push('?');
        put_pairs(&mut out, query, mask);
    }
    if let Some(fragment) = fragment {
        out.push('#');
        // Some tokens travel as parameters of a fragment (RFC 6749 §4.2.2).
        put_pairs(&mut out, fragment, mask);
    }
    Cow::Owned(out)
}

/// Where name and password stand in what a URL has before its query, if they do (RFC 3986 §3.2.1).
fn user_of(before: &str) -> Option<(usize, usize)> {
    let start = before.find("//")? + 2;
    let end = before[start..]
        .find('/')
        .map_or(before.len(), |end| start + end);
    Some((start, start + before[start..end].rfind('@')?))
}

/// Parameters, the values of masked ones replaced.
fn put_pairs(out: &mut String, query: &str, mask: &[String]) {
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
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Writes a line about `target` after `change`.
    fn line(
        target: &str,
        change: impl FnOnce(&mut Record<'_>),
        write: impl FnOnce(&Record<'_>, &mut Vec<u8>),
    ) -> String {
        let target = target.parse().expect("uri");
        let user_agent = HeaderValue::from_bytes(b"a\"\xffb").expect("value");
        let mut record = Record {
            at: Duration::from_secs(1_700_000_000),
            trace_id: &TraceId::parse(b"t1").expect("id"),
            route: None,
            method: &Method::GET,
            target: &target,
            status: 401,
            took: Duration::from_micros(1234),
            upstream: None,
            endpoint: None,
            upstream_took: None,
            attempts: 0,
            tries: &[],
            client_ip: IpAddr::from([127, 0, 0, 1]),
            consumer: None,
            consumer_auth: None,
            bytes_in: 0,
            bytes_out: 5,
            version: Version::HTTP_11,
            user_agent: Some(&user_agent),
            referer: None,
            reason: Some(Reason::TokenMissing),
            cause: None,
            fallback: None,
            tunnel_end: None,
            internal: None,
        };
        change(&mut record);
        let mut out = Vec::new();
        write(&record, &mut out);
        String::from_utf8(out).expect("utf8")
    }

    fn json(
        target: &str,
        mask: &[String],
        change: impl FnOnce(&mut Record<'_>),
    ) -> serde_json::Value {
        let text = line(target, change, |record, out| {
            let mut timestamp = Timestamp::new();
            timestamp.set(record.at + Duration::from_millis(7));
            record.write_json(&timestamp, mask, out);
        });
        serde_json::from_str(&text).expect("json")
    }

    #[test]
    fn leaves_out_what_is_unknown_and_masks_what_is_secret() {
        let mask = ["code".to_owned()];
        let line = json("/a?code=s3cret&x=1&C%6Fde=other", &mask, |_| {});
        assert_eq!(line["path"], "/a?code=***&x=1&C%6Fde=***");
        assert_eq!(line["reason"], "token_missing");
        assert_eq!(line["duration_ms"], 1.234);
        assert!(line.get("route").is_none() && line.get("upstream").is_none());
    }

    #[test]
    fn a_json_line_is_json_whatever_is_in_it() {
        let line = json("/a?b=%22", &[], |record| {
            record.route = Some("a \"quoted\"\nroute \u{e9}");
            record.client_ip = "2001:db8::1".parse().expect("address");
            record.upstream_took = Some(Duration::from_nanos(12_000_600));
        });
        assert_eq!(line["timestamp"], "2023-11-14T22:13:20.007Z");
        assert_eq!(line["route"], "a \"quoted\"\nroute \u{e9}");
        assert_eq!(line["client_ip"], "2001:db8::1");
        assert_eq!(line["upstream_ms"], 12.001);
        assert_eq!(
            (&line["status"], &line["bytes_out"]),
            (&401.into(), &5.into())
        );
        assert_eq!(line["user_agent"], "a\"\u{fffd}b");
    }

    #[test]
    fn a_reference_is_masked_like_a_target() {
        let mask = ["code".to_owned()];
        for (referer, written) in [
            (
                "https://a/b?x=1&Code=s3cret&y",
                "https://a/b?x=1&Code=***&y",
            ),
            (
                "https://a/b?code=s3cret#code=s3cret&z",
                "https://a/b?code=***#code=***&z",
            ),
            ("https://me:pass@a/b@c", "https://***@a/b@c"),
            ("/b?c%6Fde=s3cret", "/b?c%6Fde=***"),
            ("https://a/b", "https://a/b"),
            ("android-app://a", "android-app://a"),
            ("?", "?"),
        ] {
            let value = HeaderValue::from_str(referer).expect("value");
            let text = line(
                "/a",
                |_| {},
                |record, out| {
                    let record = Record {
                        referer: Some(&value),
                        ..*record
                    };
                    record.write_combined(&mask, out);
                },
            );
            assert_eq!(text.split('"').nth(3), Some(written), "{referer}");
        }
    }

    #[test]
    fn a_consumer_is_one_word_of_a_combined_line() {
        let consumer = "alice [1] \"x\"\u{a0}- y";
        let text = line(
            "/a",
            |record| record.consumer = Some(consumer),
            |record, out| record.write_combined(&[], out),
        );
        let words: Vec<&str> = text.split(' ').collect();
        assert_eq!(words[2], r#"alice\x20\x5b1]\x20\"x\"\u{a0}-\x20y"#);
        assert!(words[3].starts_with('['), "{text}");
    }

    #[test]
    fn a_combined_line_stays_one_line() {
        let text = line("/a", |_| {}, |record, out| record.write_combined(&[], out));
        assert_eq!(text.lines().count(), 1);
        assert!(
            text.starts_with(
                "127.0.0.1 - - [14/Nov/2023:22:13:20 +0000] \"GET /a HTTP/1.1\" 401 5 \"-\" \"a\\\""
            ),
            "{text}"
        );
    }
}
