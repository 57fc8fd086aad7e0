//! Connections of HTTP/2 to endpoints, each of which many requests share. One set per worker, which drives them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::client::{self, SendRequest};
use h2::{Ping, PingPong};
use parking_lot::Mutex;
use pingora::connectors::TransportConnector;
use pingora::protocols::{ALPN, Stream};
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorType};
use rustc_hash::FxHashMap;

use crate::primitives::address::Address;

/// Connections by endpoint.
#[derive(Default)]
pub(in crate::gateway) struct StreamConnections {
    known: Mutex<FxHashMap<Key, Vec<Arc<Connection>>>>,
}

/// Whose a connection is. Those that other settings opened, of TLS above all, are not shared.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    settings: u64,
    address: Address,
}

struct Connection {
    requests: SendRequest<Bytes>,
    /// Streams that are under way.
    streams: AtomicUsize,
    /// The connection takes no more streams.
    closed: Arc<AtomicBool>,
    /// When the last of them ended.
    idle: Mutex<Instant>,
    kept: Duration,
}

/// A place for one stream on a connection. Dropped it is free for another.
pub(in crate::gateway) struct StreamPermit {
    claim: Claim,
    /// Ready for a request.
    pub(in crate::gateway) requests: SendRequest<Bytes>,
    /// The connection served a request before.
    pub(in crate::gateway) reused: bool,
}

/// A stream that counts as under way.
struct Claim(Arc<Connection>);

/// Streams at once on a connection, as far as the endpoint allows.
const MOST_STREAMS: usize = 100;
/// Streams at once while the endpoint has not said how many it takes (RFC 9113 §6.5.2): what it had to refuse would be
/// taken for a failure. Further requests open connections meanwhile.
const UNTIL_TOLD: usize = 1;
/// What an endpoint may send of one body before it is read, and of all: as much as all together may, so that no client who
/// does not read holds up the answers of others.
const WINDOW: u32 = 512 << 10;
const ALL_WINDOWS: u32 = MOST_STREAMS as u32 * WINDOW;
/// The largest frames that are taken: fewer of them cost less.
const FRAME: u32 = 64 << 10;
/// What the codec lets frames of data that nobody has taken yet cost besides their payload, on one connection, before it
/// ends it: 256 bytes each, less its payload. Each stream takes what comes, so it is room for a burst that comes at once, of
/// the smallest frames a quarter of a million.
const FRAMING: usize = 64 << 20;
/// Fields of a head, as the codec counts: beyond what any upstream's may have, so that it is judged, and not cut off.
const FIELDS: u32 = 4 << 20;
/// How often a connection is asked whether it lives, and how long it may take to say so.
const PING: Duration = Duration::from_secs(30);
const PONG: Duration = Duration::from_secs(5);

impl StreamConnections {
    /// A place on a connection that is there, or on a new one.
    pub(in crate::gateway) async fn place(
        &self,
        transport: &TransportConnector,
        address: &Address,
        peer: &HttpPeer,
    ) -> Result<StreamPermit, Box<Error>> {
        let key = Key {
            settings: peer.group_key,
            address: address.clone(),
        };
        while let Some(claim) = self.claim(&key) {
            match claim.0.requests.clone().ready().await {
                Ok(requests) => {
                    return Ok(StreamPermit {
                        claim,
                        requests,
                        reused: true,
                    });
                }
                // The endpoint said goodbye.
                Err(_) => claim.0.closed.store(true, Ordering::Relaxed),
            }
        }
        let limit = peer.options.total_connection_timeout;
        let opening = open(transport, peer);
        let claim = match limit {
            Some(limit) => tokio::time::timeout(limit, opening).await.map_err(|_| {
                let why = "opening a connection took too long";
                Error::explain(ErrorType::ConnectTimedout, why).into_up()
            })??,
            None => opening.await?,
        };
        let requests = claim.0.requests.clone().ready().await;
        let requests = requests.map_err(|error| not_opened(error.into()))?;
        self.known
            .lock()
            .entry(key)
            .or_default()
            .push(Arc::clone(&claim.0));
        Ok(StreamPermit {
            claim,
            requests,
            reused: false,
        })
    }

    /// Takes a place on a connection that has one.
    fn claim(&self, key: &Key) -> Option<Claim> {
        let mut known = self.known.lock();
        let connections = known.get_mut(key)?;
        connections.retain(|connection| !connection.is_closed());
        let mut free = connections.iter().filter(|connection| connection.is_free());
        let free = free.next().map(Arc::clone)?;
        Some(Claim::on(free))
    }

    /// Closes what is too old, or was closed by the endpoint.
    pub(in crate::gateway) fn sweep(&self, now: Instant) {
        self.known.lock().retain(|_, connections| {
            connections.retain(|connection| !connection.is_over(now));
            !connections.is_empty()
        });
    }
}

impl Connection {
    fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }

    fn is_free(&self) -> bool {
        let most = self.requests.current_max_send_streams().min(MOST_STREAMS);
        self.streams.load(Ordering::Relaxed) < most
    }

    fn is_over(&self, now: Instant) -> bool {
        let unused = self.streams.load(Ordering::Relaxed) == 0;
        let idle = || now.saturating_duration_since(*self.idle.lock());
        self.is_closed() || (unused && idle() >= self.kept)
    }
}

impl StreamPermit {
    /// Set, it gets no further streams.
    pub(in crate::gateway) fn closed(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.claim.0.closed)
    }
}

impl Claim {
    fn on(connection: Arc<Connection>) -> Self {
        connection.streams.fetch_add(1, Ordering::Relaxed);
        Self(connection)
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        *self.0.idle.lock() = Instant::now();
        self.0.streams.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Opens a connection, on which a stream counts as under way.
async fn open(transport: &TransportConnector, peer: &HttpPeer) -> Result<Claim, Box<Error>> {
    let stream = transport.new_stream(peer).await.map_err(Error::into_up)?;
    // Over plain TCP it is known beforehand.
    if peer.is_tls() && !matches!(stream.selected_alpn_proto(), Some(ALPN::H2)) {
        let why = "the endpoint does not speak HTTP/2";
        return Err(Error::explain(ErrorType::H2Downgrade, why).into_up());
    }
    let mut builder = client::Builder::new();
    builder
        .enable_push(false)
        .initial_max_send_streams(UNTIL_TOLD)
        .max_concurrent_streams(1)
        .max_frame_size(FRAME)
        .max_header_list_size(FIELDS)
        .initial_window_size(WINDOW)
        .initial_connection_window_size(ALL_WINDOWS)
        .data_frame_budget(FRAMING);
    let begun = builder.handshake::<Stream, Bytes>(stream).await;
    let (requests, mut driven) = begun.map_err(|error| not_opened(error.into()))?;
    let closed = Arc::new(AtomicBool::new(false));
    let pings = driven.ping_pong();
    let over = Arc::clone(&closed);
    tokio::spawn(async move {
        let silent = async {
            match pings {
                Some(pings) => is_silent(pings).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            ended = driven => if let Err(error) = ended {
                log::debug!("a connection of HTTP/2 to an endpoint ended: {error}");
            },
            () = silent => log::debug!("a connection of HTTP/2 to an endpoint is silent"),
        }
        over.store(true, Ordering::Relaxed);
    });
    Ok(Claim::on(Arc::new(Connection {
        requests,
        streams: AtomicUsize::new(0),
        closed,
        idle: Mutex::new(Instant::now()),
        kept: peer.options.idle_timeout.unwrap_or_default(),
    })))
}

/// Waits until the endpoint does not answer any more.
async fn is_silent(mut pings: PingPong) {
    loop {
        tokio::time::sleep(PING).await;
        let answered = tokio::time::timeout(PONG, pings.ping(Ping::opaque())).await;
        if !matches!(answered, Ok(Ok(_))) {
            return;
        }
    }
}

fn not_opened(cause: Box<dyn std::error::Error + Send + Sync>) -> Box<Error> {
    let why = "beginning with HTTP/2";
    Error::because(ErrorType::HandshakeError, why, cause).into_up()
}
