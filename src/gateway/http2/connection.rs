//! A connection of HTTP/2: streams are accepted here and served each by a task of its own, and the end is announced.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::Reason;
use h2::server::{Builder, Connection, SendResponse};
use http::Request;
use pingora::protocols::http::v2::server::default_h2_options;

use super::blocks::Flaw;
use super::head;
use super::traffic::{Traffic, Watched};
use super::wire::Http2Wire;
use crate::config::ClientLimits;
use crate::gateway::application::Application;
use crate::gateway::client::{ClientIo, Rest};
use crate::gateway::http1::body::BodyDecoder;
use crate::gateway::http1::head::bad;
use crate::gateway::outgoing_head::is_grpc;
use crate::gateway::overload::ShedDecision;
use crate::gateway::peer::Peer;
use crate::gateway::serve_context::{DrainSignal, ServeContext};
use crate::gateway::snapshot::Snapshot;
use crate::gateway::socket::Socket;
use crate::gateway::supervise::{RefusedHead, at_the_door, exchange, refuse};
use crate::gateway::timers::SharedTimer;

/// What a client may send of one body, and of all, before it is read.
const STREAM_WINDOW: u32 = 128 << 10;
const CONNECTION_WINDOW: u32 = 512 << 10;
/// What is kept for a stream whose client reads slowly.
const SEND_BUFFER: usize = 64 << 10;
/// Streams that may be in error before the connection is (CVE-2025-8671), or reset before they were looked at
/// (CVE-2023-44487).
const STREAM_ERRORS: usize = 128;
const EARLY_RESETS: usize = 20;
/// What the codec counts for each field besides its bytes (RFC 9113 §6.5.2).
const FIELD_OVERHEAD: usize = 32;
/// How many times what a head may have the codec decodes, before it ends the connection.
const BLOCK: usize = 4;
/// How long a client may take to close a connection that was ended.
const LINGER: Duration = Duration::from_secs(1);

/// Most that the fields of a request may amount to, as the codec counts.
fn largest_head(limits: &ClientLimits) -> usize {
    limits.max_header_bytes + limits.max_uri + limits.max_headers * FIELD_OVERHEAD
}

/// The framework's bounds, and ours.
fn options(limits: &ClientLimits) -> Builder {
    let head = largest_head(limits);
    let mut options = default_h2_options();
    options
        .max_header_list_size(u32::try_from(head).unwrap_or(u32::MAX))
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buffer_size(SEND_BUFFER)
        .max_local_error_reset_streams(Some(STREAM_ERRORS))
        .max_pending_accept_reset_streams(EARLY_RESETS);
    options
}

/// Serves a connection to its end; `read` was read from the socket already.
pub(crate) async fn serve<A>(
    socket: Socket,
    read: Bytes,
    peer: &Arc<Peer>,
    door: &ServeContext<A>,
    closing: &mut DrainSignal<'_, impl Future<Output = ()>>,
) where
    A: Application,
{
    let Some(snapshot) = door.state.snapshot() else {
        return;
    };
    let mut limits = snapshot.config.server.client;
    drop(snapshot);
    let traffic = Arc::new(Traffic::default());
    let longest_block = BLOCK * largest_head(&limits);
    let socket = Watched::new(socket, read, Arc::clone(&traffic), longest_block);
    let begun = options(&limits).handshake(socket);
    let Ok(Ok(connection)) = tokio::time::timeout(limits.header_timeout, begun).await else {
        return;
    };
    let mut served = Served {
        connection,
        traffic,
        alarm: SharedTimer::default(),
        idle: None,
        ending: false,
    };
    let door = Arc::new(door.clone());
    let mut requests = 0;
    loop {
        let next = poll_fn(|cx| {
            if !served.ending && closing.poll(cx).is_ready() {
                served.end();
            }
            served.poll_next(cx, &limits)
        });
        let Some((request, respond)) = next.await else {
            return;
        };
        // Taken when the request is here: what is in force by then decides.
        let Some(snapshot) = door.state.snapshot() else {
            return;
        };
        limits = snapshot.config.server.client;
        requests += 1;
        if !served.ending && (requests >= limits.keepalive_requests || door.state.draining()) {
            served.end();
        }
        served.traffic.accepted();
        let (parts, body) = request.into_parts();
        let bodiless = body.is_end_stream();
        let stream_id = respond.stream_id().as_u32();
        let has_fragment = served.traffic.has(Flaw::Fragment(stream_id));
        let client = ClientIo::stream(Http2Wire::new(body, respond, served.traffic.enter()));
        let request = Incoming {
            parts,
            bodiless,
            has_fragment,
        };
        let (peer, door) = (Arc::clone(peer), Arc::clone(&door));
        tokio::spawn(async move { stream(&client, &peer, snapshot, request, &door).await });
    }
}

struct Served {
    connection: Connection<Watched, Bytes>,
    traffic: Arc<Traffic>,
    alarm: SharedTimer,
    /// No stream is open since then.
    idle: Option<Instant>,
    /// The client was told that no more requests are taken.
    ending: bool,
}

/// A request and somewhere to answer.
type Accepted = (Request<h2::RecvStream>, SendResponse<Bytes>);

impl Served {
    /// Tells the client that this connection ends. What it asked before it knew is served (RFC 9113 §6.8).
    fn end(&mut self) {
        self.ending = true;
        // The connection's last moment counts from now, however long it was idle before.
        self.idle = None;
        self.connection.graceful_shutdown();
    }

    /// The next request; `None` when the connection is over.
    fn poll_next(&mut self, cx: &mut Context<'_>, limits: &ClientLimits) -> Poll<Option<Accepted>> {
        self.traffic.listen(cx);
        match self.connection.poll_accept(cx) {
            Poll::Ready(Some(Ok(accepted))) => {
                self.idle = None;
                return Poll::Ready(Some(accepted));
            }
            Poll::Ready(Some(Err(error))) => {
                log::debug!("a connection of HTTP/2 ended: {error}");
                return Poll::Ready(None);
            }
            Poll::Ready(None) => return Poll::Ready(None),
            Poll::Pending => {}
        }
        if self.traffic.is_flood() {
            // The codec closes the connection behind this word.
            self.connection.abrupt_shutdown(Reason::ENHANCE_YOUR_CALM);
            self.traffic.calm();
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let busy = self.traffic.is_busy();
        let idle = if busy {
            self.idle = None;
            None
        } else {
            let since = *self.idle.get_or_insert_with(Instant::now);
            let patience = if self.ending {
                LINGER
            } else {
                limits.keepalive_timeout
            };
            Some(since + patience)
        };
        let stalled = self.traffic.stalled().map(|at| at + limits.write_timeout);
        let Some(due) = idle.into_iter().chain(stalled).min() else {
            return Poll::Pending;
        };
        std::task::ready!(self.alarm.poll_until(cx, due));
        if self.ending || stalled == Some(due) {
            return Poll::Ready(None);
        }
        self.end();
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

/// What a stream began with.
struct Incoming {
    parts: http::request::Parts,
    bodiless: bool,
    /// The codec dropped a fragment from its path.
    has_fragment: bool,
}

/// Serves one stream.
async fn stream<A>(
    client: &Arc<ClientIo>,
    peer: &Arc<Peer>,
    snapshot: Arc<Snapshot>,
    Incoming {
        parts,
        bodiless,
        has_fragment,
    }: Incoming,
    door: &ServeContext<A>,
) where
    A: Application,
{
    let limits = snapshot.config.server.client;
    let refused_head = RefusedHead {
        method: parts.method.clone(),
        uri: parts.uri.clone(),
        version: parts.version,
        grpc: is_grpc(&parts.headers),
    };
    let judged = match has_fragment {
        true => Err(bad("the request target holds a character it may not")),
        false => head::judge(parts, (bodiless, refused_head.grpc), &limits),
    };
    match judged {
        Ok(request) => {
            client.begin(BodyDecoder::Done, true, &limits);
            let asked = (&*request.0, &request.1);
            if let ShedDecision::In(entered) =
                at_the_door(client, peer, &snapshot, asked, door).await
            {
                exchange(client, peer, snapshot, request, entered, door).await;
            }
            if client.answered() && !client.complete() {
                client.break_off();
            }
        }
        // Boxed, as is lingering: every stream would hold room for it.
        Err(refusal) => {
            Box::pin(refuse(client, peer, &snapshot, refusal, refused_head, door)).await;
        }
    }
    if client.complete() && !client.body_done() {
        Box::pin(client.linger(Rest::Body, &limits, &door.state.admission)).await;
    }
}
