//! Copies of requests for an upstream whose answers nobody sees.
//!
//! The original never waits: its copy is sent by a task of its own, once the original's body has passed, if there is
//! one. What of a body passes is copied up to a bound; so many copies are under way at most, each takes a place that is free
//! where the upstream counts them, and each has its time. The answer is read and dropped. A copy says `X-Shadow: true`.

use std::sync::Arc;
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use http::uri::PathAndQuery;
use http::{HeaderName, HeaderValue, Uri, Version, header};
use pingora::connectors::http::Connector;
use pingora::http::RequestHeader;
use pingora::protocols::http::client::HttpSession;
use pingora::upstreams::peer::HttpPeer;

use super::ctx::{Ctx, Shadow, UnderWay};
use super::http1::head::Framing;
use super::message::is_status;
use super::outgoing_head::Destination;
use super::route_mirror::Mirror;
use super::{affinity, outgoing_head, overload};
use crate::config::Class;
use crate::observe::rollouts::Mirrored;
use crate::upstream::{Endpoint, PickHints};

static X_SHADOW: HeaderName = HeaderName::from_static("x-shadow");

/// Most that is read of an answer before the connection is given up.
const MOST_READ: usize = 1 << 20;

/// Copies the request, if chance and bounds will have it. Sent at once when it has no body.
pub(super) fn begin(mirror: &Arc<Mirror>, request: &RequestHeader, path: &str, ctx: &mut Ctx) {
    // Other bits than those that choose a side.
    if (ctx.span >> 32) >= mirror.below || !mirror.settings.methods.contains(&ctx.method) {
        return;
    }
    let Some(start) = &ctx.start else { return };
    let framing = start.head.framing;
    if !start.head.end_to_end {
        // It asks for something that concerns its connection, as an upgrade.
        return;
    }
    let too_long =
        matches!(framing, Framing::Length(length) if length > mirror.settings.max_body as u64);
    if too_long {
        return mirror.stats.count(Mirrored::Body);
    }
    if mirror.stats.in_flight.value() >= i64::from(mirror.settings.in_flight) {
        return mirror.stats.count(Mirrored::Full);
    }
    let hints = PickHints {
        key: affinity::key(&mirror.pool, ctx, request, path),
        chance: ctx.span.rotate_left(29),
        ..PickHints::default()
    };
    let Some(endpoint) = mirror.pool.choose(ctx.now(), &hints) else {
        return mirror.stats.count(Mirrored::Failed);
    };
    let Some(head) = head(mirror, &endpoint, request, ctx) else {
        return mirror.stats.count(Mirrored::Failed);
    };
    let shadow = Box::new(Shadow {
        head,
        body: BytesMut::new(),
        under_way: UnderWay::new(mirror, endpoint),
        state: Arc::clone(&ctx.state),
        lane: ctx.lane(),
    });
    if framing == Framing::None {
        send(shadow);
    } else {
        ctx.policy.shadow = Some(shadow);
    }
}

/// The head that goes out: what the upstream would get, and the mark.
fn head(
    mirror: &Mirror,
    endpoint: &Endpoint,
    request: &RequestHeader,
    ctx: &Ctx,
) -> Option<RequestHeader> {
    let mut head = request.clone();
    head.set_version(match mirror.pool.settings().http2 {
        true => Version::HTTP_2,
        false => Version::HTTP_11,
    });
    let to = Destination {
        pool: &mirror.pool,
        endpoint,
        sent: None,
        number: 0,
    };
    outgoing_head::prepare(&mut head, ctx, &to).ok()?;
    head.insert_header(X_SHADOW.clone(), HeaderValue::from_static("true"))
        .ok()?;
    Some(head)
}

/// A piece of the body passes, for the first time.
pub(super) fn on_body(ctx: &mut Ctx, piece: &[u8]) {
    let Some(shadow) = &mut ctx.policy.shadow else {
        return;
    };
    let most = shadow.under_way.mirror.settings.max_body;
    if shadow.body.len() + piece.len() <= most {
        shadow.body.extend_from_slice(piece);
    } else if let Some(shadow) = ctx.policy.shadow.take() {
        shadow.left_out();
    }
}

/// The body passed whole: the copy is sent.
pub(super) fn on_end(ctx: &mut Ctx) {
    if let Some(shadow) = ctx.policy.shadow.take() {
        send(shadow);
    }
}

/// Sends a copy, by a task of its own.
fn send(mut shadow: Box<Shadow>) {
    let mirror = Arc::clone(&shadow.under_way.mirror);
    // Nothing matters less than a copy.
    let Ok(place) = overload::free_place(&mirror.pool, Class::Sheddable) else {
        return mirror.stats.count(Mirrored::Full);
    };
    let body = std::mem::take(&mut shadow.body).freeze();
    if !body.is_empty() || shadow.head.headers.contains_key(header::TRANSFER_ENCODING) {
        shadow.head.remove_header(&header::TRANSFER_ENCODING);
        let _ = shadow
            .head
            .insert_header(header::CONTENT_LENGTH, body.len());
    }
    // Nobody waits for it on this side.
    shadow.head.remove_header(&header::EXPECT);
    tokio::spawn(async move {
        let Shadow {
            head,
            under_way,
            state,
            lane,
            ..
        } = *shadow;
        let sent = Instant::now();
        let asking = ask(head, body, &under_way, state.connections.mirrors(lane));
        let status = tokio::time::timeout(mirror.timeout, asking).await;
        let (ended, status) = (Instant::now(), status.map_err(|_| ()));
        match (&place, status) {
            (Some(place), Ok(Some(status))) => place.answered(status, ended - sent, ended),
            (Some(place), Err(())) => place.gave_up(ended - sent, ended),
            (_, Ok(None)) | (None, _) => {}
        }
        under_way.ended(status.ok().flatten(), &state);
    });
}

/// Sends a copy and reads its answer; says its status.
async fn ask(
    head: RequestHeader,
    body: Bytes,
    under_way: &UnderWay,
    connector: &Connector,
) -> Option<u16> {
    let UnderWay { mirror, endpoint } = under_way;
    let mut peer: HttpPeer = *mirror.pool.peer(endpoint)?;
    peer.options.read_timeout = Some(mirror.timeout);
    let sent = Instant::now();
    let (mut session, _) = connector.get_http_session(&peer).await.ok()?;
    let head = match &session {
        HttpSession::H2(_) => over_http2(head, peer.is_tls())?,
        _ => head,
    };
    session.write_request_header(Box::new(head)).await.ok()?;
    if !body.is_empty() {
        session.write_request_body(body, true).await.ok()?;
    }
    session.finish_request_body().await.ok()?;
    let status = loop {
        session.read_response_header().await.ok()?;
        let status = session.response_header()?.status;
        if !is_status(status.as_u16()) {
            return None;
        }
        if !status.is_informational() {
            break status.as_u16();
        }
    };
    mirror.stats.took(sent.elapsed());
    let mut read = 0;
    while read < MOST_READ {
        match session.read_response_body().await {
            Ok(Some(piece)) => read += piece.len(),
            Ok(None) => {
                let idle = peer.options.idle_timeout;
                connector.release_http_session(session, &peer, idle).await;
                return Some(status);
            }
            Err(_) => return None,
        }
    }
    session.shutdown().await;
    Some(status)
}

/// The head as HTTP/2 has it: nothing of a connection, and the host in the target (RFC 9113 §8.2.2, §8.3.1).
fn over_http2(mut head: RequestHeader, tls: bool) -> Option<RequestHeader> {
    head.set_version(Version::HTTP_2);
    for name in [
        "connection",
        "keep-alive",
        "proxy-connection",
        "upgrade",
        "transfer-encoding",
    ] {
        head.remove_header(name);
    }
    let target = head.uri.path_and_query().cloned();
    let host = head.remove_header(&header::HOST)?;
    let uri = Uri::builder()
        .scheme(if tls { "https" } else { "http" })
        .authority(host.as_bytes())
        .path_and_query(target.unwrap_or_else(|| PathAndQuery::from_static("/")));
    head.set_uri(uri.build().ok()?);
    Some(head)
}
