//! A worker: one thread with its own sockets, its own upstream connections, and nothing shared but the state.

use std::fs::File;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::FutureExt;
use pingora::server::{ListenFds, ShutdownWatch};
use pingora::services::Service;
use thiserror::Error;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsAcceptor;

use super::listeners::Listening;
use super::logging::LAST_LINES;
use super::pressure;
use super::proxy_protocol::{NoHeader, announced};
use super::stream::{Listener, Stream};
use super::usage::Pulse;
use crate::auth::IpRules;
use crate::config::ClientLimits;
use crate::gateway::{
    Admission, AdmissionPermit, Application, CloseSchedule, Gateway, Hooks, Protocols,
    ServeContext, Socket, State, WorkerLocal, serve,
};
use crate::observe::ListenerStats;
use crate::observe::stats::TurnedAway;
use crate::primitives::ListenerName;
use crate::tls::HTTP2;

/// Whether connections are accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Accepting {
    /// Not at the moment: they wait in the kernel's queue.
    Held,
    /// Yes.
    Open,
    /// No more, but who already waits is served: nobody else would.
    Closing,
    /// No more: who waits in the queue is another process' client.
    Over,
}

/// One worker.
pub(super) struct Worker {
    index: usize,
    workers: usize,
    name: String,
    listeners: Vec<Listening>,
    pulse: Arc<Pulse>,
    state: Arc<State>,
    closing: watch::Receiver<CloseSchedule>,
    accepting: watch::Receiver<Accepting>,
}

impl Worker {
    /// Worker number `index` of so many, with its sockets.
    pub(super) fn new(
        (index, workers): (usize, usize),
        listeners: Vec<Listening>,
        pulse: Arc<Pulse>,
        state: Arc<State>,
        closing: watch::Receiver<CloseSchedule>,
        accepting: watch::Receiver<Accepting>,
    ) -> Self {
        Self {
            index,
            workers,
            name: format!("worker {index}"),
            listeners,
            pulse,
            state,
            closing,
            accepting,
        }
    }
}

#[async_trait]
impl Service for Worker {
    async fn start_service(
        &mut self,
        _fds: Option<ListenFds>,
        shutdown: ShutdownWatch,
        _per_fd: usize,
    ) {
        let lane = Arc::new(WorkerLocal::new(self.index, self.workers));
        let tidying = Arc::clone(&lane);
        let tidying = tokio::spawn(async move { tidying.tidy().await });
        // Ends with this thread, whose work it watches.
        tokio::spawn(Arc::clone(&self.pulse).beat(self.state.clock));
        tokio::spawn(pressure::watch(Arc::clone(&self.state), self.index));
        let app = Arc::new(Hooks::new(Gateway::new(Arc::clone(&lane))));
        let door = ServeContext {
            lane,
            app,
            state: Arc::clone(&self.state),
            shutdown,
            closing: self.closing.clone(),
            public: true,
            listener: None,
        };
        let mut loops = Vec::new();
        for Listening { name, socket, tls } in self.listeners.drain(..) {
            match Listener::new(socket) {
                Ok(listener) => {
                    let gate = Gate {
                        admission: Arc::clone(&self.state.admission),
                        stats: self.state.metrics.listener(&name),
                        listener: Some(name),
                        tls,
                    };
                    let accepting = self.accepting.clone();
                    loops.push(tokio::spawn(accept(
                        listener,
                        door.clone(),
                        gate,
                        accepting,
                    )));
                }
                Err(error) => {
                    log::error!("listener {name} cannot be served: {error}");
                    end_early(&self.state);
                }
            }
        }
        for ended in futures_util::future::join_all(loops).await {
            if ended.is_err() && *self.accepting.borrow() == Accepting::Open {
                // A worker that went deaf in silence would lose its share of connections for good.
                log::error!("an accept loop ended; the process cannot go on");
                end_early(&self.state);
            }
        }
        tidying.abort();
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn threads(&self) -> Option<usize> {
        Some(1)
    }

    fn listen_addresses(&self) -> Option<Vec<String>> {
        Some(Vec::new())
    }
}

/// What every connection of a listener passes before it is served.
pub(super) struct Gate {
    /// Who may connect.
    pub admission: Arc<Admission>,
    /// Counts.
    pub stats: Arc<ListenerStats>,
    /// Name of the listener in the configuration; the admin listener has none.
    pub listener: Option<ListenerName>,
    /// Connections begin with a TLS handshake.
    pub tls: bool,
}

/// Accepts while it may. At the end takes what already waits, so that nobody who was let in is turned away.
pub(super) async fn accept<A>(
    listener: Listener,
    door: ServeContext<A>,
    gate: Gate,
    mut accepting: watch::Receiver<Accepting>,
) where
    A: Application,
{
    let mut reserve = Reserve::new();
    let mut now = *accepting.borrow_and_update();
    while matches!(now, Accepting::Held | Accepting::Open) {
        let accepted = tokio::select! {
            accepted = listener.accept(), if now == Accepting::Open => accepted,
            changed = accepting.changed() => {
                now = match changed {
                    Ok(()) => *accepting.borrow_and_update(),
                    Err(_) => Accepting::Closing,
                };
                continue;
            }
        };
        match accepted {
            Ok((_, Some(address))) if door.state.own.accepted(address) => {}
            Ok((stream, address)) => gate.welcome(stream, address, &door),
            Err(error) => reserve.after_failure(&error, &listener, &gate).await,
        }
    }
    if now == Accepting::Over {
        return;
    }
    while let Some(Ok((stream, address))) = listener.accept().now_or_never() {
        gate.welcome(stream, address, &door);
    }
}

/// Ends the process, once what the log holds is written.
fn end_early(state: &State) -> ! {
    if let Some(log) = &state.log {
        log.finish(LAST_LINES);
    }
    std::process::exit(1)
}

/// Why a connection is not served.
#[derive(Debug, Error)]
enum Failed {
    #[error(transparent)]
    Proxy(#[from] NoHeader),
    #[error("a TLS handshake failed: {0}")]
    Tls(io::Error),
    #[error("the PROXY header took too long")]
    ProxyTimeout,
    #[error("the TLS handshake took too long")]
    TlsTimeout,
    #[error("too many connections of this client")]
    Full(TurnedAway),
    #[error("its address may not connect")]
    Denied,
}

impl Failed {
    fn reason(&self) -> TurnedAway {
        match self {
            Self::Proxy(_) => TurnedAway::ProxyHeader,
            Self::Tls(_) => TurnedAway::TlsHandshake,
            Self::ProxyTimeout => TurnedAway::ProxyTimeout,
            Self::TlsTimeout => TurnedAway::TlsTimeout,
            Self::Full(reason) => *reason,
            Self::Denied => TurnedAway::IpDenied,
        }
    }
}

impl Gate {
    /// Lets a connection in, or closes it at once: over the cap nothing is spent on it.
    fn welcome<A>(&self, stream: Stream, address: Option<SocketAddr>, door: &ServeContext<A>)
    where
        A: Application,
    {
        let Some(snapshot) = door.state.snapshot() else {
            return;
        };
        let address = address.map(|address| address.ip().to_canonical());
        let server = &snapshot.config.server;
        let mut configured = snapshot.config.listeners.iter();
        let configured = configured.find(|known| Some(&known.name) == self.listener.as_ref());
        let proxied = configured.is_some_and(|listener| listener.proxy_protocol);
        let plain = if configured.is_some_and(|listener| listener.http2) {
            Protocols::Either
        } else {
            Protocols::Http1
        };
        // Who may open a Unix socket is said by its file's mode.
        if let Some(address) = address
            && proxied
            && !server.trusted_proxies.contains(address)
        {
            log::debug!("{address} is not trusted to send a PROXY header");
            self.stats.turned_away(TurnedAway::ProxyUntrusted);
            return;
        }
        // The address that counts is the announced one.
        let known = address.filter(|_| !proxied);
        let rules = self.listener.as_ref();
        let rules = rules.and_then(|listener| snapshot.listener_rules.get(listener));
        // Whom a trusted proxy speaks for is known with each request only.
        if let (Some(rules), Some(address)) = (rules, known)
            && !rules.admits(address)
            && !server.trusted_proxies.contains(address)
        {
            self.stats.turned_away(TurnedAway::IpDenied);
            return;
        }
        let place = match self.admission.enter(known, &server.client, &self.stats) {
            Ok(place) => place,
            Err(reason) => return self.stats.turned_away(reason),
        };
        stream.set_nodelay();
        let tls = self.listener.as_ref().filter(|_| self.tls);
        let tls = match tls.map(|listener| snapshot.tls.get(listener)) {
            None => None,
            Some(Some(config)) => Some(TlsAcceptor::from(Arc::clone(&config.server))),
            Some(None) => return,
        };
        let mut door = door.clone();
        door.listener.clone_from(&self.listener);
        if !proxied && tls.is_none() {
            tokio::spawn(serve(stream.into(), address, plain, door, place));
            return;
        }
        let limits = server.client;
        let (stats, rules) = (Arc::clone(&self.stats), rules.cloned());
        // Boxed with all that it needs: an idle connection would hold room for it.
        let opening = Box::pin(async move {
            let mut place = place;
            let entry = (&mut place, &limits, rules.as_deref());
            match open(stream, address, proxied, tls, entry).await {
                Ok((socket, address)) => Some((socket, address, place)),
                Err(failed) => {
                    log::debug!("connection of {} closed: {failed}", from(address));
                    stats.turned_away(failed.reason());
                    None
                }
            }
        });
        tokio::spawn(async move {
            let Some((socket, address, place)) = opening.await else {
                return;
            };
            let protocols = spoken(&socket, plain);
            serve(socket, address, protocols, door, place).await;
        });
    }
}

/// What a connection speaks: as the handshake agreed upon, or as its listener takes it without TLS.
fn spoken(socket: &Socket, plain: Protocols) -> Protocols {
    match socket {
        Socket::Tls(stream) => match stream.get_ref().1.alpn_protocol() {
            Some(HTTP2) => Protocols::Http2,
            _ => Protocols::Http1,
        },
        Socket::Tcp(_) | Socket::Unix(_) => plain,
    }
}

/// Where a connection comes from, for the log.
fn from(address: Option<IpAddr>) -> String {
    address.map_or_else(|| "a Unix socket".to_owned(), |address| address.to_string())
}

/// Reads what comes before HTTP, all of it within the time that a head may take.
async fn open(
    stream: Stream,
    address: Option<IpAddr>,
    proxied: bool,
    tls: Option<TlsAcceptor>,
    (place, limits, rules): (&mut AdmissionPermit, &ClientLimits, Option<&IpRules>),
) -> Result<(Socket, Option<IpAddr>), Failed> {
    let deadline = Instant::now() + limits.header_timeout;
    let mut client = address;
    if proxied {
        let announced = timeout_at(deadline, announced(&stream)).await;
        client = announced.map_err(|_| Failed::ProxyTimeout)??.or(address);
        if let Some(client) = client {
            if rules.is_some_and(|rules| !rules.admits(client)) {
                return Err(Failed::Denied);
            }
            place.count_for(client, limits).map_err(Failed::Full)?;
        }
    }
    let socket = match (tls, stream) {
        (Some(acceptor), Stream::Tcp(stream)) => {
            let handshake = timeout_at(deadline, acceptor.accept(stream)).await;
            let stream = handshake.map_err(|_| Failed::TlsTimeout)?;
            Socket::Tls(Box::new(stream.map_err(Failed::Tls)?))
        }
        (_, stream) => stream.into(),
    };
    Ok((socket, client))
}

/// A descriptor kept for the moment when there is no other: it is given up to accept one connection and close it, so that
/// those who wait learn it at once, and the loop neither spins nor goes deaf.
struct Reserve {
    kept: Option<File>,
    said: Option<Instant>,
}

/// Pause after an accept that failed where even the reserve was of no use.
const AFTER_FAILURE: Duration = Duration::from_millis(50);
/// Between two words about it in the log.
const SAID_AGAIN: Duration = Duration::from_secs(1);

impl Reserve {
    fn new() -> Self {
        Self {
            kept: File::open("/dev/null").ok(),
            said: None,
        }
    }

    async fn after_failure(&mut self, error: &io::Error, listener: &Listener, gate: &Gate) {
        const EMFILE: i32 = 24;
        const ENFILE: i32 = 23;
        if !matches!(error.raw_os_error(), Some(EMFILE | ENFILE)) {
            log::debug!("accept: {error}");
            return;
        }
        if self.said.is_none_or(|said| said.elapsed() > SAID_AGAIN) {
            self.said = Some(Instant::now());
            log::error!("no descriptor left for a connection, it is turned away: {error}");
        }
        let had = self.kept.take().is_some();
        let accepted = listener.accept().now_or_never();
        let relieved = had && !matches!(accepted, Some(Err(_)));
        if matches!(accepted, Some(Ok(_))) {
            gate.stats.turned_away(TurnedAway::Descriptors);
        }
        drop(accepted);
        self.kept = File::open("/dev/null").ok();
        if !relieved || self.kept.is_none() {
            tokio::time::sleep(AFTER_FAILURE).await;
        }
    }
}
