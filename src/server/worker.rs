//! A worker: one thread with its own sockets, its own upstream connections, and nothing shared but the state.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use pingora::apps::HttpServerApp;
use pingora::proxy::http_proxy;
use pingora::server::configuration::ServerConf;
use pingora::server::{ListenFds, ShutdownWatch};
use pingora::services::Service;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

use super::listeners::Listening;
use super::usage::Pulse;
use crate::gateway::{Admission, Door, Gateway, Lane, Socket, Speaks, State, serve};
use crate::observe::ListenerStats;
use crate::primitives::ListenerName;
use crate::tls::HTTP2;

/// Pause after an accept that failed for want of descriptors: the loop must neither spin nor die.
const AFTER_FAILURE: Duration = Duration::from_millis(50);

/// One worker.
pub(super) struct Worker {
    index: usize,
    workers: usize,
    name: String,
    listeners: Vec<Listening>,
    pulse: Arc<Pulse>,
    state: Arc<State>,
    conf: Arc<ServerConf>,
    closing: watch::Receiver<bool>,
}

impl Worker {
    /// Worker number `index` of so many, with its sockets.
    pub(super) fn new(
        (index, workers): (usize, usize),
        listeners: Vec<Listening>,
        pulse: Arc<Pulse>,
        state: Arc<State>,
        conf: Arc<ServerConf>,
        closing: watch::Receiver<bool>,
    ) -> Self {
        Self {
            index,
            workers,
            name: format!("worker {index}"),
            listeners,
            pulse,
            state,
            conf,
            closing,
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
        let lane = Arc::new(Lane::new(self.index, self.workers));
        let tidying = Arc::clone(&lane);
        let tidying = tokio::spawn(async move { tidying.tidy().await });
        // Ends with this thread, whose work it watches.
        tokio::spawn(Arc::clone(&self.pulse).beat(self.state.clock));
        let app = Arc::new(http_proxy(
            &self.conf,
            Gateway::new(Arc::clone(&self.state), Arc::clone(&lane)),
        ));
        let door = Door {
            lane,
            app: Arc::clone(&app),
            state: Arc::clone(&self.state),
            shutdown,
            closing: self.closing.clone(),
            public: true,
        };
        let mut loops = Vec::new();
        for Listening { name, socket, tls } in self.listeners.drain(..) {
            let stats = self.state.metrics.listener(&name);
            let front = Some(Front {
                name: name.clone(),
                tls,
            });
            match TcpListener::from_std(socket) {
                Ok(listener) => {
                    let admission = Arc::clone(&self.state.admission);
                    loops.push(tokio::spawn(accept(
                        listener,
                        door.clone(),
                        admission,
                        stats,
                        front,
                    )));
                }
                Err(error) => {
                    log::error!("listener {name} cannot be served: {error}");
                    std::process::exit(1);
                }
            }
        }
        for ended in futures_util::future::join_all(loops).await {
            if ended.is_err() && !*self.closing.borrow() {
                // A worker that went deaf in silence would lose its share of connections for good.
                log::error!("an accept loop ended; the process cannot go on");
                std::process::exit(1);
            }
        }
        tidying.abort();
        app.http_cleanup().await;
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

/// A configured listener.
pub(super) struct Front {
    name: ListenerName,
    /// Connections begin with a TLS handshake.
    tls: bool,
}

/// Accepts until closing; then takes what already waits, so that nobody who was let in is turned away. The admin listener
/// has no `front`: HTTP/1 is spoken there, without TLS.
pub(super) async fn accept<A>(
    listener: TcpListener,
    mut door: Door<A>,
    admission: Arc<Admission>,
    stats: Arc<ListenerStats>,
    front: Option<Front>,
) where
    A: HttpServerApp + Send + Sync + 'static,
{
    let mut closing = door.closing.clone();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = closing.wait_for(|closing| *closing) => break,
        };
        match accepted {
            Ok((stream, address)) => {
                welcome(
                    stream,
                    address,
                    &mut door,
                    &admission,
                    &stats,
                    front.as_ref(),
                );
            }
            Err(error) => after_failure(&error).await,
        }
    }
    while let Some(Ok((stream, address))) = futures_util::FutureExt::now_or_never(listener.accept())
    {
        welcome(
            stream,
            address,
            &mut door,
            &admission,
            &stats,
            front.as_ref(),
        );
    }
}

fn welcome<A>(
    stream: TcpStream,
    address: std::net::SocketAddr,
    door: &mut Door<A>,
    admission: &Arc<Admission>,
    stats: &Arc<ListenerStats>,
    front: Option<&Front>,
) where
    A: HttpServerApp + Send + Sync + 'static,
{
    let Some(snapshot) = door.state.snapshot() else {
        return;
    };
    let ip = address.ip().to_canonical();
    // Over the cap the connection is closed at once: nothing is spent on it.
    let Some(place) = admission.enter(Some(ip), &snapshot.config.server.client, stats) else {
        return;
    };
    let _ = stream.set_nodelay(true);
    let ip = Some(ip);
    let Some(front) = front else {
        let socket = Socket::Tcp(stream);
        tokio::spawn(serve(socket, ip, Speaks::Http1, door.clone(), place));
        return;
    };
    if !front.tls {
        let listeners = &snapshot.config.listeners;
        let listener = listeners.iter().find(|known| known.name == front.name);
        let speaks = if listener.is_some_and(|listener| listener.http2) {
            Speaks::Either
        } else {
            Speaks::Http1
        };
        let socket = Socket::Tcp(stream);
        tokio::spawn(serve(socket, ip, speaks, door.clone(), place));
        return;
    }
    let Some(config) = snapshot.tls.get(&front.name) else {
        return;
    };
    let acceptor = TlsAcceptor::from(Arc::clone(&config.server));
    let within = snapshot.config.server.client.header_timeout;
    let door = door.clone();
    tokio::spawn(async move {
        match tokio::time::timeout(within, acceptor.accept(stream)).await {
            Ok(Ok(stream)) => {
                let speaks = match stream.get_ref().1.alpn_protocol() {
                    Some(HTTP2) => Speaks::Http2,
                    _ => Speaks::Http1,
                };
                let socket = Socket::Tls(Box::new(stream));
                serve(socket, ip, speaks, door, place).await;
            }
            Ok(Err(error)) => log::debug!("TLS handshake with {address}: {error}"),
            Err(_) => log::debug!("TLS handshake with {address} took too long"),
        }
    });
}

pub(super) async fn after_failure(error: &io::Error) {
    const EMFILE: i32 = 24;
    const ENFILE: i32 = 23;
    if matches!(error.raw_os_error(), Some(EMFILE | ENFILE)) {
        log::error!("no descriptor left for a connection: {error}");
        tokio::time::sleep(AFTER_FAILURE).await;
    } else {
        log::debug!("accept: {error}");
    }
}
