//! From a request head to its route: who asks, for which host, for which path. The same for serving and explaining.

use std::borrow::Cow;
use std::net::IpAddr;
use std::time::Duration;

use http::{HeaderName, HeaderValue, Version, header};
use pingora::http::RequestHeader;

use super::http1::head::AsReceived;
use super::slashes;
use crate::config::RedirectTemplate;
use crate::filter::{Reason, Refusal, Scheme};
use crate::primitives::path;
use crate::primitives::ranges::AddressRanges;
use crate::primitives::trace::{TraceId, TraceParent};
use crate::route::{Asked, Found, Miss, Outgoing, RouteTable};

/// A request target taken apart.
pub(super) struct Target<'t> {
    /// As received, without scheme and authority.
    pub(super) raw: &'t str,
    /// Normal path.
    pub(super) path: Cow<'t, str>,
    /// Query without `?`.
    pub(super) query: Option<&'t str>,
}

impl<'t> Target<'t> {
    /// The target of a head, its path in normal form.
    pub(super) fn of(head: &'t RequestHeader) -> Result<Self, Refusal> {
        let mut target = Self::parse(sent(head)?)?;
        target.raw = received(head).unwrap_or(target.raw);
        Ok(target)
    }

    /// Reads a request target in origin, absolute or asterisk form.
    pub(super) fn parse(target: &'t str) -> Result<Self, Refusal> {
        let target = Self::split(target);
        let path = match target.path {
            Cow::Borrowed(path) => path::normalize(path).map_err(ambiguous)?,
            normal => normal,
        };
        Ok(Self { path, ..target })
    }

    /// Splits a target, with its path as it stands.
    fn split(target: &'t str) -> Self {
        let scheme = if target.starts_with('/') {
            None
        } else {
            target.find("://")
        };
        let raw = match scheme {
            Some(scheme) => {
                let rest = &target[scheme + 3..];
                rest.find(['/', '?']).map_or("/", |at| &rest[at..])
            }
            None => target,
        };
        let (path, query) = match memchr::memchr(b'?', raw.as_bytes()) {
            Some(at) => (&raw[..at], Some(&raw[at + 1..])),
            None => (raw, None),
        };
        let path = if path == "*" || path.is_empty() {
            "/"
        } else {
            path
        };
        Self {
            raw,
            path: Cow::Borrowed(path),
            query,
        }
    }
}

/// The refusal of a path that has no single meaning.
pub(super) fn ambiguous(why: path::Ambiguous) -> Refusal {
    Refusal::new(Reason::PathAmbiguous, why.to_string())
}

/// The target as it goes on, everything escaped.
pub(super) fn sent(head: &RequestHeader) -> Result<&str, Refusal> {
    std::str::from_utf8(head.raw_path())
        .map_err(|_| Refusal::new(Reason::BadRequest, "the request target is not text"))
}

/// The target as it was received, where that is something else.
fn received(head: &RequestHeader) -> Option<&str> {
    let received = head.extensions.get::<AsReceived>()?;
    std::str::from_utf8(&received.0).ok()
}

/// The target of a head, and the route that takes it. Of what is `asked` path and query are found here.
pub(super) fn place<'t>(
    head: &'t RequestHeader,
    table: &RouteTable,
    asked: &Asked<'_>,
) -> Result<(Target<'t>, Found), Refusal> {
    if table.keeps_slashes() {
        let target = Target::split(sent(head)?);
        if slashes::are_doubtful(&target.path) {
            let raw = received(head).unwrap_or(target.raw);
            let asked = Asked {
                query: target.query,
                ..*asked
            };
            let (path, found) = slashes::place(&target.path, table, &asked)?;
            let path = Cow::Owned(path);
            return Ok((
                Target {
                    raw,
                    path,
                    ..target
                },
                found,
            ));
        }
    }
    let target = Target::of(head)?;
    let asked = Asked {
        path: &target.path,
        query: target.query,
        ..*asked
    };
    let found = route(table, &asked)?;
    Ok((target, found))
}

/// The path as the upstream gets it. A request about the server itself (`*`) stays one, whatever a route does with paths.
pub(super) fn outgoing<'p>(
    outgoing: &Outgoing,
    target: &'p Target<'_>,
    found: &Found,
) -> Cow<'p, str> {
    match target.raw {
        "*" => Cow::Borrowed("*"),
        _ => outgoing.path(&target.path, found),
    }
}

/// The authority as received, and the host in it: lower case, without port or trailing dot.
pub(super) fn host(head: &RequestHeader) -> (&str, Cow<'_, str>) {
    let named = head
        .headers
        .get(header::HOST)
        .and_then(|value| std::str::from_utf8(value.as_bytes()).ok());
    let authority = named
        .or_else(|| head.uri.authority().map(|a| a.as_str()))
        .unwrap_or_default();
    let bytes = authority.as_bytes();
    let host = match memchr::memrchr2(b':', b']', bytes) {
        Some(colon) if bytes[colon] == b':' => &authority[..colon],
        _ => authority,
    };
    let host = host.trim_end_matches('.');
    if host.bytes().any(|byte| byte.is_ascii_uppercase()) {
        (authority, Cow::Owned(host.to_ascii_lowercase()))
    } else {
        (authority, Cow::Borrowed(host))
    }
}

/// The host that a request asks for: lower case, without port or trailing dot; empty when it names none.
pub fn asked_host(head: &RequestHeader) -> Cow<'_, str> {
    host(head).1
}

/// How the client reached us, or the trusted proxy in front that says so.
pub(super) fn scheme(
    own: Scheme,
    peer: IpAddr,
    trusted: &AddressRanges,
    head: &RequestHeader,
) -> Scheme {
    if trusted.is_empty() || !trusted.contains(peer.to_canonical()) {
        return own;
    }
    let said = head.headers.get("x-forwarded-proto");
    match said.map(HeaderValue::as_bytes) {
        Some(b"http") => Scheme::Http,
        Some(b"https") => Scheme::Https,
        _ => own,
    }
}

/// Finds the route, or the refusal that a miss means.
pub(super) fn route(table: &RouteTable, asked: &Asked<'_>) -> Result<Found, Refusal> {
    table.find(asked).map_err(missed)
}

/// The refusal that a miss means.
pub(super) fn missed(miss: Miss) -> Refusal {
    match miss {
        Miss::NotFound => Refusal::new(Reason::RouteNotFound, "no route takes this path"),
        Miss::MethodNotAllowed(allow) => {
            let mut refusal = Refusal::new(
                Reason::MethodNotAllowed,
                "the route does not take this method",
            );
            refusal.allow = Some(allow);
            refusal
        }
    }
}

/// Where a redirect leads that is made of the request.
pub(super) fn redirect(
    template: &RedirectTemplate,
    host: &str,
    target: &Target<'_>,
) -> Result<HeaderValue, Refusal> {
    if host.is_empty() {
        return Err(Refusal::new(
            Reason::HostInvalid,
            "the request names no host",
        ));
    }
    let location = template.fill(host, &target.path, target.query);
    HeaderValue::from_str(&location)
        .map_err(|_| Refusal::new(Reason::BadRequest, "the request target is not text"))
}

/// The client's address: the peer's, or behind trusted proxies the first address from the right of `X-Forwarded-For`
/// that is none of theirs.
pub(super) fn client_ip(peer: IpAddr, trusted: &AddressRanges, head: &RequestHeader) -> IpAddr {
    let mut client = peer.to_canonical();
    if trusted.is_empty() || !trusted.contains(client) {
        return client;
    }
    let fields = head.headers.get_all("x-forwarded-for");
    let mut hops: Vec<&str> = Vec::new();
    for field in fields {
        hops.extend(field.to_str().unwrap_or_default().split(',').map(str::trim));
    }
    for hop in hops.into_iter().rev() {
        // What is no address was not written by a proxy of ours: the last good one stands.
        let Some(address) = forwarded_address(hop) else {
            return client;
        };
        client = address;
        if !trusted.contains(client) {
            return client;
        }
    }
    client
}

/// An address as proxies write it, perhaps with a port.
fn forwarded_address(text: &str) -> Option<IpAddr> {
    let bare = text
        .strip_prefix('[')
        .and_then(|rest| rest.split_once(']'))
        .map_or(text, |(address, _)| address);
    let parsed: Option<IpAddr> = bare.parse().ok();
    let parsed = parsed.or_else(|| {
        text.parse::<std::net::SocketAddr>()
            .ok()
            .map(|address| address.ip())
    });
    parsed.map(|address| address.to_canonical())
}

pub(super) static X_REQUEST_DEADLINE: HeaderName = HeaderName::from_static("x-request-deadline");
pub(super) static GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");

/// How long the exchange may take: as configured, or less if the client wants its answer sooner.
pub(super) fn deadline(head: &RequestHeader, configured: Duration) -> Duration {
    let asked = |name: &HeaderName, read: fn(&[u8]) -> Option<Duration>| {
        let value = head.headers.get(name)?;
        read(value.as_bytes())
    };
    let mut deadline = configured;
    if head.version == Version::HTTP_2
        && let Some(asked) = asked(&GRPC_TIMEOUT, grpc_timeout)
    {
        deadline = deadline.min(asked);
    }
    if let Some(asked) = asked(&X_REQUEST_DEADLINE, request_deadline) {
        deadline = deadline.min(asked);
    }
    deadline
}

/// Reads `X-Request-Deadline`: whole milliseconds that are left. A time that is left is understood alike by hosts whose
/// clocks differ.
fn request_deadline(text: &[u8]) -> Option<Duration> {
    if !(1..=15).contains(&text.len()) || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let count = std::str::from_utf8(text).ok()?.parse().ok()?;
    Some(Duration::from_millis(count))
}

/// Reads `grpc-timeout`: up to eight digits and a unit (gRPC over HTTP/2, "Requests").
fn grpc_timeout(text: &[u8]) -> Option<Duration> {
    let (unit, digits) = text.split_last()?;
    if !(1..=8).contains(&digits.len()) || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let count: u64 = std::str::from_utf8(digits).ok()?.parse().ok()?;
    match unit {
        b'H' => Some(Duration::from_secs(count * 3600)),
        b'M' => Some(Duration::from_secs(count * 60)),
        b'S' => Some(Duration::from_secs(count)),
        b'm' => Some(Duration::from_millis(count)),
        b'u' => Some(Duration::from_micros(count)),
        b'n' => Some(Duration::from_nanos(count)),
        _ => None,
    }
}

pub(super) static X_TRACE_ID: HeaderName = HeaderName::from_static("x-trace-id");
pub(super) static TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// The request's identifier (`X-Trace-ID`) and trace (`traceparent`); `fresh` is the identifier of one that brings none.
pub(super) fn trace(head: &RequestHeader, fresh: TraceId) -> (TraceId, TraceParent) {
    let mut given = head.headers.get_all(&X_TRACE_ID).iter();
    let id = given
        .next()
        .filter(|_| given.next().is_none())
        .and_then(|value| TraceId::parse(value.as_bytes()));
    let mut parents = head.headers.get_all(&TRACEPARENT).iter();
    let parent = parents
        .next()
        .filter(|_| parents.next().is_none())
        .and_then(|v| TraceParent::parse(v.as_bytes()));
    match (id, parent) {
        (Some(id), Some(parent)) => (id, parent),
        (Some(id), None) => (id, TraceParent::start(&id)),
        (None, Some(parent)) => (parent.trace_id(), parent),
        (None, None) => (fresh, TraceParent::of_random(&fresh)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(fields: &[(&'static str, &str)]) -> RequestHeader {
        let mut head = RequestHeader::build("GET", b"/", None).expect("head");
        for (name, value) in fields {
            head.append_header(*name, *value).expect("field");
        }
        head
    }

    #[test]
    fn takes_targets_apart() {
        let parse = |text| {
            Target::parse(text).map(|t| {
                (
                    t.raw.to_owned(),
                    t.path.into_owned(),
                    t.query.map(str::to_owned),
                )
            })
        };
        assert_eq!(
            parse("/a//b?x=1?y"),
            Ok(("/a//b?x=1?y".into(), "/a/b".into(), Some("x=1?y".into())))
        );
        assert_eq!(
            parse("http://h/a?b=://c"),
            Ok(("/a?b=://c".into(), "/a".into(), Some("b=://c".into())))
        );
        assert_eq!(parse("http://h"), Ok(("/".into(), "/".into(), None)));
        assert_eq!(
            parse("/a?u=http://x"),
            Ok((
                "/a?u=http://x".into(),
                "/a".into(),
                Some("u=http://x".into())
            ))
        );
        assert!(parse("/a%2fb").is_err());
    }

    #[test]
    fn reads_the_patience_of_grpc() {
        let read = |text: &str| grpc_timeout(text.as_bytes());
        assert_eq!(read("250m"), Some(Duration::from_millis(250)));
        assert_eq!(read("1S"), Some(Duration::from_secs(1)));
        assert_eq!(
            read("99999999H"),
            Some(Duration::from_secs(99_999_999 * 3600))
        );
        for wrong in ["", "S", "1", "1s", "-1S", "1.5S", "123456789S", "1 S"] {
            assert_eq!(read(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn a_client_may_want_its_answer_sooner_and_not_later() {
        let configured = Duration::from_secs(20);
        for (text, wanted) in [
            ("0", Duration::ZERO),
            ("800", Duration::from_millis(800)),
            ("20001", configured),
            ("999999999999999", configured),
            ("9999999999999999", configured),
            ("", configured),
            ("-1", configured),
            ("1.5", configured),
            ("800ms", configured),
        ] {
            let head = head(&[("x-request-deadline", text)]);
            assert_eq!(deadline(&head, configured), wanted, "{text:?}");
        }
    }

    #[test]
    fn reads_hosts() {
        for (given, authority, wanted) in [
            (
                "API.example.com:80",
                "API.example.com:80",
                "api.example.com",
            ),
            ("[::1]:8080", "[::1]:8080", "[::1]"),
            ("a.", "a.", "a"),
        ] {
            let head = head(&[("host", given)]);
            let (seen, name) = host(&head);
            assert_eq!((seen, &*name), (authority, wanted));
        }
    }

    #[test]
    fn believes_only_trusted_proxies() {
        let trusted =
            AddressRanges::new(vec![AddressRanges::parse_one("10.0.0.0/8").expect("range")]);
        let ip = |text: &str| -> IpAddr { text.parse().expect("address") };
        let spoofed = head(&[("x-forwarded-for", "1.1.1.1")]);
        assert_eq!(client_ip(ip("9.9.9.9"), &trusted, &spoofed), ip("9.9.9.9"));
        assert_eq!(client_ip(ip("10.0.0.1"), &trusted, &spoofed), ip("1.1.1.1"));
        let chain = head(&[
            ("x-forwarded-for", "6.6.6.6, 2.2.2.2"),
            ("x-forwarded-for", "10.0.0.9"),
        ]);
        assert_eq!(client_ip(ip("10.0.0.1"), &trusted, &chain), ip("2.2.2.2"));
        let garbage = head(&[("x-forwarded-for", "6.6.6.6, what, 10.0.0.9")]);
        assert_eq!(
            client_ip(ip("10.0.0.1"), &trusted, &garbage),
            ip("10.0.0.9")
        );
        assert_eq!(
            client_ip(ip("::ffff:10.0.0.1"), &trusted, &spoofed),
            ip("1.1.1.1")
        );
    }

    #[test]
    fn believes_of_the_scheme_what_trusted_proxies_say() {
        let trusted =
            AddressRanges::new(vec![AddressRanges::parse_one("10.0.0.0/8").expect("range")]);
        let seen = |peer: &str, said: &str| {
            let head = head(&[("x-forwarded-proto", said)]);
            let peer = peer.parse().expect("address");
            scheme(Scheme::Http, peer, &trusted, &head)
        };
        assert_eq!(seen("10.0.0.1", "https"), Scheme::Https);
        assert_eq!(seen("9.9.9.9", "https"), Scheme::Http);
        assert_eq!(seen("10.0.0.1", "gopher"), Scheme::Http);
    }

    #[test]
    fn one_identifier_per_request() {
        const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let id = |fields: &[(&'static str, &str)]| {
            trace(&head(fields), TraceId::random(&mut rand::rng()))
                .0
                .to_string()
        };
        assert_eq!(id(&[("x-trace-id", "abc")]), "abc");
        assert_eq!(id(&[("x-trace-id", "abc"), ("traceparent", PARENT)]), "abc");
        assert_eq!(
            id(&[("traceparent", PARENT)]),
            "4bf92f3577b34da6a3ce929d0e0e4736"
        );
        assert_eq!(
            id(&[("x-trace-id", "bad id"), ("traceparent", "bad")]).len(),
            32
        );
    }
}
