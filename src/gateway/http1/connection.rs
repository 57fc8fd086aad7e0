//! A connection of HTTP/1: heads are read and examined here, each message is handed on, and the end is clean.

use std::future::poll_fn;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use http::{Method, Version};
use pingora::http::RequestHeader;

use super::body::BodyDecoder;
use super::head::{self, Head, Scan};
use crate::config::ClientLimits;
use crate::filter::{Reason, Refusal};
use crate::gateway::application::Application;
use crate::gateway::client::{ClientIo, NoHead, Rest};
use crate::gateway::http2;
use crate::gateway::overload::ShedDecision;
use crate::gateway::peer::Peer;
use crate::gateway::serve_context::{DrainSignal, ServeContext};
use crate::gateway::snapshot::Snapshot;
use crate::gateway::socket::Socket;
use crate::gateway::supervise::{Outcome, RefusedHead, at_the_door, exchange, refuse};

/// How a connection ended.
pub(crate) enum Ended {
    /// There is nothing more to do.
    Over,
    /// The connection goes on in HTTP/2; with what was read of it.
    Preface(Box<(Socket, Bytes)>),
}

/// Serves a connection to its end. With `either` it may turn out to speak HTTP/2.
pub(crate) async fn serve<A>(
    client: Arc<ClientIo>,
    peer: &Arc<Peer>,
    either: bool,
    door: &ServeContext<A>,
    closing: &mut DrainSignal<'_, impl Future<Output = ()>>,
) -> Ended
where
    A: Application,
{
    let mut served = 0;
    let Some(first) = door.state.snapshot() else {
        return Ended::Over;
    };
    let mut limits = first.config.server.client;
    drop(first);
    loop {
        let next = next_head(&client, &limits, closing).await;
        // Taken when the head is here: a connection may wait long, and what is in force by then decides.
        let Some(snapshot) = door.state.snapshot() else {
            break;
        };
        limits = snapshot.config.server.client;
        let after = match next {
            Next::Request(request, head) => {
                served += 1;
                let last = served >= limits.keepalive_requests;
                one_request(&client, peer, snapshot, (request, head), last, door).await
            }
            Next::Refused(_, bytes, _) if either && served == 0 && http2::is_preface(&bytes) => {
                let socket = client.into_socket();
                return socket.map_or(Ended::Over, |(socket, rest)| {
                    Ended::Preface(Box::new((socket, [bytes, rest].concat().into())))
                });
            }
            Next::Refused(refusal, bytes, rest) => {
                let refused_head = refused_head(&bytes);
                Box::pin(refuse(
                    &client,
                    peer,
                    &snapshot,
                    refusal,
                    refused_head,
                    door,
                ))
                .await;
                After::Lingers(rest)
            }
            Next::Idle => {
                Box::pin(client.part()).await;
                After::Ends
            }
            Next::Closed => break,
        };
        match after {
            After::GoesOn => {}
            After::Lingers(rest) => {
                // Boxed: few connections come to that, and each would hold room for it.
                Box::pin(client.linger(rest, &limits, &door.state.admission)).await;
                break;
            }
            After::Ends => break,
        }
    }
    Ended::Over
}

/// How long the first byte of a request may take that lies in the kernel already.
const LATE: Duration = Duration::from_secs(1);

enum Next {
    Request(Box<RequestHeader>, Head),
    /// With what there was of the head, and what may still come.
    Refused(Refusal, Bytes, Rest),
    /// No request came in its time.
    Idle,
    /// The client is gone.
    Closed,
}

/// Waits for the next head. Idle time is bounded until its first byte, and from there its total time.
async fn next_head(
    client: &ClientIo,
    limits: &ClientLimits,
    closing: &mut DrainSignal<'_, impl Future<Output = ()>>,
) -> Next {
    let mut looking = Looking {
        seen: 0,
        found: None,
    };
    match first_bytes(client, limits, &mut looking, closing).await {
        Ok(()) => {}
        Err(NoHead::TimedOut) => return Next::Idle,
        Err(NoHead::Gone) => return Next::Closed,
    }
    if looking.found.is_none() {
        let begun = Some(Instant::now());
        let whole = client.read_head(begun, limits.header_timeout, |bytes| {
            looking.at(bytes, limits)
        });
        match whole.await {
            Ok(()) => {}
            Err(NoHead::Gone) => return Next::Closed,
            Err(NoHead::TimedOut) => {
                let refusal =
                    Refusal::new(Reason::RequestTimeout, "the request head took too long");
                return Next::Refused(refusal, client.peek(), Rest::Nothing);
            }
        }
    }
    match looking.found {
        Some((start, Scan::Whole(length))) => {
            let bytes = client.take_head(start, length);
            match head::parse(&bytes, limits) {
                Ok((request, head)) => Next::Request(request, head),
                Err(refusal) => Next::Refused(refusal, bytes, Rest::Unknown),
            }
        }
        Some((_, Scan::TooLong(refusal))) => Next::Refused(refusal, client.peek(), Rest::Head),
        Some((_, Scan::Partial)) | None => Next::Closed,
    }
}

/// Waits for the next request to begin: for as long as a connection may be idle, or until no further request should begin.
/// What came at that very moment is a request like any other.
async fn first_bytes(
    client: &ClientIo,
    limits: &ClientLimits,
    looking: &mut Looking,
    closing: &mut DrainSignal<'_, impl Future<Output = ()>>,
) -> Result<(), NoHead> {
    let mut look = |bytes: &BytesMut| {
        looking.at(bytes, limits);
        true
    };
    let begun = tokio::select! {
        biased;
        begun = client.read_head(None, limits.keepalive_timeout, &mut look) => Some(begun),
        () = poll_fn(|cx| closing.poll(cx)) => None,
    };
    let begun = match begun {
        Some(begun) => begun,
        None => {
            let last = client.read_head(None, limits.keepalive_timeout, &mut look);
            let last = tokio::time::timeout_at(closing.parting().into(), last);
            // Boxed: it comes once in the life of a process, and every idle connection would hold room for it.
            Box::pin(last).await.unwrap_or(Err(NoHead::TimedOut))
        }
    };
    if begun == Err(NoHead::TimedOut) && client.something_waits() {
        let now = Some(Instant::now());
        return Box::pin(client.read_head(now, LATE, &mut look)).await;
    }
    begun
}

/// What the bytes of a head amount to so far.
struct Looking {
    /// Bytes looked at without finding the end.
    seen: usize,
    /// Where the head begins, and what it is.
    found: Option<(usize, Scan)>,
}

impl Looking {
    /// Looks at all bytes read so far; `true` when it is known what they are. An empty line before a request line is
    /// skipped when the head is taken (RFC 9112 §2.2).
    fn at(&mut self, bytes: &BytesMut, limits: &ClientLimits) -> bool {
        let start = leading_empty_line(bytes);
        if bytes.len() <= start {
            return false;
        }
        match head::scan(&bytes[start..], self.seen, limits) {
            Scan::Partial => self.seen = bytes.len() - start,
            found => self.found = Some((start, found)),
        }
        self.found.is_some()
    }
}

fn leading_empty_line(bytes: &[u8]) -> usize {
    if bytes.starts_with(b"\r\n") { 2 } else { 0 }
}

/// What becomes of a connection after a message.
enum After {
    /// Another request may follow.
    GoesOn,
    /// The connection ends, and what its client still sends is in the way of the answer.
    Lingers(Rest),
    /// The connection ends.
    Ends,
}

/// Serves one message.
async fn one_request<A>(
    client: &Arc<ClientIo>,
    peer: &Arc<Peer>,
    snapshot: Arc<Snapshot>,
    (request, head): (Box<RequestHeader>, Head),
    last: bool,
    door: &ServeContext<A>,
) -> After
where
    A: Application,
{
    let persistent = head.persistent && !last;
    let limits = &snapshot.config.server.client;
    client.begin(BodyDecoder::new(head.framing), persistent, limits);
    let met = at_the_door(client, peer, &snapshot, (&request, &head), door).await;
    let outcome = match met {
        ShedDecision::Refusal => Outcome::Served,
        ShedDecision::In(entered) => {
            let served = exchange(client, peer, snapshot, (request, head), entered, door);
            // Boxed: every idle connection would hold room for it.
            Box::pin(served).await
        }
    };
    if outcome == Outcome::Abandoned {
        return After::Lingers(Rest::Body);
    }
    // A client that was not told of the end is not left in the middle: its next answer tells it.
    if client.can_keep_alive() {
        return After::GoesOn;
    }
    let whole = client.drop_body();
    if !client.upgraded() && (!whole || client.has_ahead()) {
        return After::Lingers(Rest::Body);
    }
    After::Ends
}

/// As much of a refused request line as can be told.
fn refused_head(bytes: &[u8]) -> RefusedHead {
    let line = bytes
        .split(|byte| matches!(byte, b'\r' | b'\n'))
        .next()
        .unwrap_or_default();
    let mut parts = line.split(|byte| *byte == b' ');
    let method = parts
        .next()
        .and_then(|method| Method::from_bytes(method).ok())
        .unwrap_or_default();
    let target = parts
        .next()
        .and_then(|target| std::str::from_utf8(target).ok())
        .unwrap_or("/");
    let target = if target.starts_with('/') { target } else { "/" };
    let target: String = target.chars().take(1024).collect();
    RefusedHead {
        method,
        uri: target.parse().unwrap_or_default(),
        version: if parts.next() == Some(b"HTTP/1.0") {
            Version::HTTP_10
        } else {
            Version::HTTP_11
        },
        grpc: speaks_grpc(bytes),
    }
}

/// Whether the `Content-Type` of a head that is not fit to be forwarded is that of gRPC.
fn speaks_grpc(bytes: &[u8]) -> bool {
    const NAME: &[u8] = b"content-type:";
    bytes.split(|byte| *byte == b'\n').skip(1).any(|line| {
        let named = line.get(..NAME.len());
        named.is_some_and(|name| name.eq_ignore_ascii_case(NAME))
            && head::is_grpc(line[NAME.len()..].trim_ascii())
    })
}
