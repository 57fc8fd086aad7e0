//! The request head that goes out: what the client may not say is left out, what we know is added.
//!
//! What we add is found once ([`Own`]) and applied in one of two ways: to the header map of the framework, or straight
//! into the bytes of a request of [HTTP/1.1](super::exchange::h1).

use std::time::Instant;

use bytes::{BufMut, Bytes, BytesMut};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Version, header};
use pingora::http::RequestHeader;
use pingora::{Error, ErrorType};
use smallvec::SmallVec;

use super::ctx::Ctx;
use super::decide::{GRPC_TIMEOUT, TRACEPARENT, X_REQUEST_DEADLINE, X_TRACE_ID};
use super::exchange::trailers;
use super::http1::head::Framing;
use super::protected_names::length_bit;
use super::request_seed::RequestSeed;
use super::{hop_by_hop, http1};
use crate::upstream::{Endpoint, Pool};

static HOST: HeaderName = header::HOST;
static EXPECT: HeaderName = header::EXPECT;
static TRANSFER_ENCODING: HeaderName = header::TRANSFER_ENCODING;
static X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
static X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
static X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
static X_CONSUMER: HeaderName = HeaderName::from_static("x-consumer");
static X_CONSUMER_AUTH: HeaderName = HeaderName::from_static("x-consumer-auth");
static X_CONSUMER_CLAIM: HeaderName = HeaderName::from_static("x-consumer-claim");
static X_CLIENT_CERT_SUBJECT: HeaderName = HeaderName::from_static("x-client-cert-subject");
static X_CLIENT_CERT_FINGERPRINT: HeaderName = HeaderName::from_static("x-client-cert-fingerprint");

/// The try that a head is for.
#[derive(Clone, Copy)]
pub(super) struct Destination<'t> {
    pub(super) pool: &'t Pool,
    pub(super) endpoint: &'t Endpoint,
    /// When it begins; `None` where nobody says how much time is left.
    pub(super) sent: Option<Instant>,
    /// Number among the tries of its request: each has a span of its own.
    pub(super) number: u32,
}

/// Changes the framework's head for this try.
pub(super) fn prepare(
    head: &mut RequestHeader,
    ctx: &Ctx,
    to: &Destination<'_>,
) -> pingora::Result<()> {
    let Some(start) = &ctx.start else {
        return Ok(());
    };
    if let Some(target) = &ctx.outgoing {
        head.set_raw_path(target.as_bytes())?;
    }
    let client = Client::of(start);
    filter(head, ctx, &client);
    let http2 = head.version == Version::HTTP_2;
    let mut parts = take_parts(head);
    let own: Vec<_> = {
        let made = Made::of(ctx, to, &client, &parts.headers);
        let own = Own::of(ctx, to, &client, &parts.headers, &made);
        let fields = own.fields.iter();
        fields
            .map(|(name, value)| ((*name).clone(), value.map(HeaderValue::from_bytes)))
            .collect()
    };
    for (name, value) in own {
        let value = value.transpose().map_err(own_field)?;
        match value {
            Some(value) => parts.headers.insert(name, value),
            None => parts.headers.remove(name),
        };
    }
    let left = remaining(ctx, to);
    if let Some(left) = left {
        parts.headers.insert(&X_REQUEST_DEADLINE, left.into());
    }
    if http2 {
        // Frames end the body there; what a server of gRPC wants to hear is that trailers are read.
        parts.headers.remove(&TRANSFER_ENCODING);
        if is_grpc(&parts.headers) {
            let trailers = HeaderValue::from_static("trailers");
            parts.headers.insert(header::TE, trailers);
            if let Some(left) = left {
                let left = HeaderValue::from_maybe_shared(grpc_timeout(left));
                parts
                    .headers
                    .insert(&GRPC_TIMEOUT, left.map_err(own_field)?);
            }
            // A call is a conversation, in which nobody has to speak at any rate.
            start.client.body_at_any_rate();
        }
    }
    *head = RequestHeader::from(parts);
    Ok(())
}

fn own_field<E>(_: E) -> Box<Error> {
    Error::explain(ErrorType::InvalidHTTPHeader, "a field of the gateway's own")
}

/// Milliseconds that are left of the exchange as the try begins; at least one, since it does begin.
fn remaining(ctx: &Ctx, to: &Destination<'_>) -> Option<u64> {
    let left = ctx.forward.deadline?.checked_duration_since(to.sent?);
    let left = u64::try_from(left.unwrap_or_default().as_millis()).unwrap_or(u64::MAX);
    Some(left.max(1))
}

/// Time left as gRPC writes it: at most eight digits and a unit.
fn grpc_timeout(millis: u64) -> Bytes {
    match millis {
        0..=99_999_999 => format!("{millis}m"),
        _ => format!("{}S", (millis / 1000).min(99_999_999)),
    }
    .into()
}

/// Whether a request is one of gRPC.
pub(super) fn is_grpc(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE);
    kind.is_some_and(|kind| http1::head::is_grpc(kind.as_bytes()))
}

/// Writes the head of this try as bytes. `request` is as the client sent it.
pub(super) fn write(request: &RequestHeader, ctx: &Ctx, to: &Destination<'_>, out: &mut BytesMut) {
    let (Some(start), Some(route)) = (&ctx.start, &ctx.route) else {
        return;
    };
    out.put_slice(request.method.as_str().as_bytes());
    out.put_u8(b' ');
    match &ctx.outgoing {
        Some(target) => out.put_slice(target.as_bytes()),
        None => out.put_slice(request.raw_path()),
    }
    out.put_slice(b" HTTP/1.1\r\n");
    let client = Client::of(start);
    let changes = !route.upstream_filters.is_empty() || !start.head.end_to_end;
    let changed = changes.then(|| {
        let mut head = request.clone();
        filter(&mut head, ctx, &client);
        head
    });
    let headers = &changed.as_ref().unwrap_or(request).headers;
    let made = Made::of(ctx, to, &client, headers);
    let own = Own::of(ctx, to, &client, headers, &made);
    for (name, value) in headers {
        if !own.names(name) && (changed.is_some() || !client.may_not_say(name)) {
            write_field(out, name, value.as_bytes());
        }
    }
    for (name, value) in &own.fields {
        if let Some(value) = value {
            write_field(out, name, value);
        }
    }
    if hop_by_hop::asks_for_websocket(request, &start.head) {
        out.put_slice(b"Connection: Upgrade\r\nUpgrade: websocket\r\n");
    }
    if let Some(left) = remaining(ctx, to) {
        out.put_slice(b"X-Request-Deadline: ");
        put_number(out, left);
        out.put_slice(b"\r\n");
    }
    out.put_slice(b"\r\n");
}

fn put_number(out: &mut BytesMut, mut number: u64) {
    let mut digits = [0; 20];
    let mut first = digits.len();
    loop {
        first -= 1;
        digits[first] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.put_slice(&digits[first..]);
}

/// What of the client's trailers goes out: nothing that it may not say before the body either, none of ours, and nothing
/// that the route's own changes decide about.
pub(super) fn trailers(sent: HeaderMap, ctx: &Ctx) -> Option<HeaderMap> {
    let client = Client::of(ctx.start.as_ref()?);
    let route = ctx.route.as_ref();
    let filters = route.map_or(&[][..], |route| &route.upstream_filters);
    let ours = [
        &X_CONSUMER,
        &X_CONSUMER_AUTH,
        &X_CONSUMER_CLAIM,
        &X_CLIENT_CERT_SUBJECT,
        &X_CLIENT_CERT_FINGERPRINT,
        &X_REQUEST_DEADLINE,
        &X_TRACE_ID,
        &TRACEPARENT,
        &GRPC_TIMEOUT,
    ];
    trailers::checked(sent, |name| {
        let text = name.as_str();
        // Some origins read `_` and `-` alike.
        let twin = text.contains('_');
        twin || ours.contains(&name)
            || client.may_not_say(name)
            || is_of_proxies(text)
            || filters.iter().any(|filter| filter.decides(name))
    })
}

/// Takes out what the client may not say, then applies the route's own changes.
fn filter(head: &mut RequestHeader, ctx: &Ctx, client: &Client<'_>) {
    let mut parts = take_parts(head);
    let headers = &mut parts.headers;
    // Most requests have none.
    while let Some(name) = headers.keys().find(|name| client.may_not_say(name)) {
        let name = name.clone();
        headers.remove(name);
    }
    if !client.start.head.end_to_end {
        hop_by_hop::strip(headers);
    }
    *head = RequestHeader::from(parts);
    if let Some(route) = &ctx.route {
        for filter in &route.upstream_filters {
            filter.apply(head);
        }
    }
}

/// Takes the head apart: the framework's own methods would parse each name again. Its target is in origin form by now,
/// so its type holds nothing beyond these parts.
fn take_parts(head: &mut RequestHeader) -> Parts {
    let (nothing, ()) = http::Request::new(()).into_parts();
    std::mem::replace(head, RequestHeader::from(nothing)).into()
}

/// Names are written as most programs write them: each word begins with a capital.
fn write_field(out: &mut BytesMut, name: &HeaderName, value: &[u8]) {
    let name = name.as_str().as_bytes();
    let (start, colon) = (out.len(), name.len());
    let end = colon + 2 + value.len();
    // Room is made once for the whole field: each piece put by itself would ask for it anew.
    out.resize(start + end + 2, 0);
    let field = &mut out[start..];
    field[..colon].copy_from_slice(name);
    field[..1].make_ascii_uppercase();
    for dash in memchr::memchr_iter(b'-', name) {
        field[dash + 1..(dash + 2).min(colon)].make_ascii_uppercase();
    }
    field[colon..colon + 2].copy_from_slice(b": ");
    field[colon + 2..end].copy_from_slice(value);
    field[end..].copy_from_slice(b"\r\n");
}

/// Who sent the request, and whether it is believed what it says about others.
struct Client<'a> {
    start: &'a RequestSeed,
    believed: bool,
}

impl<'a> Client<'a> {
    fn of(start: &'a RequestSeed) -> Self {
        let trusted = &start.snapshot.config.server.trusted_proxies;
        Self {
            start,
            believed: start.peer.is_believed(trusted),
        }
    }

    /// Whether a field is one that only we may set, or that a client that is no trusted proxy may not claim, or the twin
    /// of such a one with `_` for `-`, which some origins read alike.
    fn may_not_say(&self, name: &HeaderName) -> bool {
        let identity = &self.start.snapshot.identity_headers;
        if identity.contains(name) {
            return true;
        }
        if !self.believed && is_of_proxies(name.as_str()) {
            return true;
        }
        self.start.head.underscores && name.as_str().contains('_') && {
            let twin = name.as_str().replace('_', "-");
            let mut known = identity.names().iter();
            is_of_proxies(&twin) || known.any(|known| known.as_str() == twin)
        }
    }
}

/// Whether only a proxy has reason to say this: who asks from where and for what (RFC 7239, and what was used before it),
/// which makes some origins serve another path or method than the one that was authorised, and the mark
/// of a copy.
fn is_of_proxies(name: &str) -> bool {
    let Some(name) = name.strip_prefix("x-") else {
        return name == "forwarded";
    };
    match name.as_bytes().first() {
        Some(b'f') => name.starts_with("forwarded"),
        Some(b'h') => matches!(name, "http-method-override" | "http-method"),
        Some(b'm') => name == "method-override",
        Some(b'o') => name.starts_with("original-"),
        Some(b'r') => name == "real-ip" || name.starts_with("rewrite-"),
        Some(b's') => name == "shadow",
        _ => false,
    }
}

/// Values that are made for one try.
struct Made {
    traceparent: Option<[u8; 55]>,
    /// `X-Forwarded-For` behind a trusted proxy: what it said, and its own address.
    chain: Option<String>,
}

impl Made {
    fn of(ctx: &Ctx, to: &Destination<'_>, client: &Client<'_>, headers: &HeaderMap) -> Self {
        let span = ctx.span.wrapping_add(to.number.into());
        Self {
            traceparent: ctx.parent.as_ref().map(|parent| parent.child(span)),
            chain: client.believed.then(|| {
                let mut chain = String::new();
                for field in headers.get_all(&X_FORWARDED_FOR) {
                    if let Ok(text) = field.to_str() {
                        chain.push_str(text);
                        chain.push_str(", ");
                    }
                }
                chain.push_str(client.start.peer.text.to_str().unwrap_or_default());
                chain
            }),
        }
    }
}

type Field<'a> = (&'a HeaderName, Option<&'a [u8]>);

/// The fields that are ours. One without a value is removed.
struct Own<'a> {
    fields: SmallVec<[Field<'a>; 14]>,
    /// Bit n: one of their names has n bytes; the last bit stands for all longer ones.
    lengths: u64,
}

impl<'a> Own<'a> {
    fn of(
        ctx: &'a Ctx,
        to: &Destination<'a>,
        client: &Client<'a>,
        headers: &'a HeaderMap,
        made: &'a Made,
    ) -> Self {
        let mut own = Self {
            fields: SmallVec::new(),
            lengths: 0,
        };
        let named = headers.get(&HOST);
        own.host(to, named.is_some());
        own.forwarded(ctx, client, headers, made, named);
        if ctx.buffered {
            own.add(&EXPECT, None);
        }
        if client.start.head.framing == Framing::Chunked {
            own.add(&TRANSFER_ENCODING, Some(b"chunked"));
        }
        own.add(&X_TRACE_ID, Some(ctx.trace.as_bytes()));
        if client.start.head.deadline {
            // What is left is added where the head is written.
            own.add(&X_REQUEST_DEADLINE, None);
        }
        if let Some(parent) = &made.traceparent {
            own.add(&TRACEPARENT, Some(parent));
        }
        if let Some(certified) = &client.start.peer.certified {
            let shown = &certified.certificate;
            if let Some(subject) = &shown.subject {
                own.add(&X_CLIENT_CERT_SUBJECT, Some(subject.as_bytes()));
            }
            let fingerprint = shown.fingerprint.as_bytes();
            own.add(&X_CLIENT_CERT_FINGERPRINT, Some(fingerprint));
        }
        if let Some(principal) = &ctx.principal {
            if let Some(value) = &principal.consumer_header {
                own.add(&X_CONSUMER, Some(value.as_bytes()));
                if let Some(claim) = principal.named_by.stand_in() {
                    own.add(&X_CONSUMER_CLAIM, Some(claim.as_bytes()));
                }
            }
            if let Some(value) = &principal.auth_header {
                own.add(&X_CONSUMER_AUTH, Some(value.as_bytes()));
            }
            for (name, value) in &principal.forward {
                own.add(name, Some(value.as_bytes()));
            }
        }
        own
    }

    /// Adds a field in place of an earlier one of that name.
    fn add(&mut self, name: &'a HeaderName, value: Option<&'a [u8]>) {
        if self.names(name) {
            self.fields.retain(|(own, _)| *own != name);
        }
        self.lengths |= length_bit(name);
        self.fields.push((name, value));
    }

    /// Whether `name` is one of them.
    fn names(&self, name: &HeaderName) -> bool {
        self.lengths & length_bit(name) != 0 && self.fields.iter().any(|(own, _)| *own == name)
    }

    /// `Host`: the upstream's when configured, else the client's; the endpoint's for a client that named none.
    fn host(&mut self, to: &Destination<'a>, named: bool) {
        let (pool, endpoint) = (to.pool, to.endpoint);
        match &pool.settings().host {
            Some(host) => self.add(&HOST, Some(host.as_bytes())),
            None if named => {}
            // The path of a socket is no host.
            None if endpoint.address.inet().is_none() => self.add(&HOST, Some(b"localhost")),
            None => self.add(&HOST, Some(endpoint.label.as_bytes())),
        }
    }

    /// `X-Forwarded-*`: behind a trusted proxy its values are kept and the address is added.
    fn forwarded(
        &mut self,
        ctx: &'a Ctx,
        client: &Client<'a>,
        headers: &'a HeaderMap,
        made: &'a Made,
        named: Option<&'a HeaderValue>,
    ) {
        let start = client.start;
        let chain = made.chain.as_ref().map(String::as_bytes);
        self.add(&X_FORWARDED_FOR, chain.or(Some(start.peer.text.as_bytes())));
        if !client.believed || !headers.contains_key(&X_FORWARDED_PROTO) {
            self.add(
                &X_FORWARDED_PROTO,
                Some(start.peer.scheme.as_str().as_bytes()),
            );
        }
        if !client.believed || !headers.contains_key(&X_FORWARDED_HOST) {
            let named = named.map(HeaderValue::as_bytes);
            let authority = || ctx.uri.authority().map(|host| host.as_str().as_bytes());
            self.add(&X_FORWARDED_HOST, named.or_else(authority));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_what_only_proxies_say() {
        for name in [
            "forwarded",
            "x-forwarded",
            "x-forwarded-for",
            "x-forwarded-prefix",
            "x-real-ip",
            "x-original-url",
            "x-original-host",
            "x-rewrite-url",
            "x-http-method-override",
            "x-http-method",
            "x-method-override",
            "x-shadow",
        ] {
            assert!(is_of_proxies(name), "{name}");
        }
        for name in [
            "x-",
            "host",
            "x-original",
            "x-shadows",
            "x-request-id",
            "x-real-ips",
        ] {
            assert!(!is_of_proxies(name), "{name}");
        }
    }

    #[test]
    fn numbers_are_written_in_full() {
        for number in [0, 9, 10, 20_000, u64::MAX] {
            let mut out = BytesMut::new();
            put_number(&mut out, number);
            assert_eq!(out, number.to_string());
        }
    }

    #[test]
    fn grpc_has_eight_digits_and_a_unit() {
        for (millis, text) in [
            (1, "1m"),
            (99_999_999, "99999999m"),
            (100_000_000, "100000S"),
            (u64::MAX, "99999999S"),
        ] {
            assert_eq!(grpc_timeout(millis), text);
        }
    }

    #[test]
    fn each_word_of_a_name_begins_with_a_capital() {
        for (name, expected) in [
            ("x-request-id", "X-Request-Id: v\r\n"),
            ("host", "Host: v\r\n"),
            ("x--a-", "X--A-: v\r\n"),
            ("-", "-: v\r\n"),
            ("1_a-b", "1_a-B: v\r\n"),
        ] {
            let mut out = BytesMut::new();
            let name = name.parse::<HeaderName>().expect("name");
            write_field(&mut out, &name, b"v");
            assert_eq!(out, expected.as_bytes());
        }
    }
}
