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
use crate::gateway::{Admission, Door, Gateway, Lane, Socket, State, serve};
use crate::observe::ListenerStats;
use crate::primitives::ListenerName;

/// Pause after an accept that failed for want of descriptors: the loop must neither spin nor die.
const AFTER_FAILURE: Duration = Duration::from_millis(50);

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
    conf: Arc<ServerConf>,
    closing: watch::Receiver<bool>,
    accepting: watch::Receiver<Accepting>,
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
        accepting: watch::Receiver<Accepting>,
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
            let tls = tls.then_some(name.clone());
            match TcpListener::from_std(socket) {
                Ok(listener) => {
                    let admission = Arc::clone(&self.state.admission);
                    loops.push(tokio::spawn(accept(
                        listener,
                        door.clone(),
                        admission,
                        stats,
                        tls,
                        self.accepting.clone(),
                    )));
                }
                Err(error) => {
                    log::error!("listener {name} cannot be served: {error}");
                    std::process::exit(1);
                }
            }
        }
        for ended in futures_util::future::join_all(loops).await {
            if ended.is_err() && *self.accepting.borrow() == Accepting::Open {
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

/// Accepts while it may. At the end takes what already waits, so that nobody who was let in is turned away. `tls` names
/// the listener whose certificates are shown.
pub(super) async fn accept<A>(
    listener: TcpListener,
    mut door: Door<A>,
    admission: Arc<Admission>,
    stats: Arc<ListenerStats>,
    tls: Option<ListenerName>,
    mut accepting: watch::Receiver<Accepting>,
) where
    A: HttpServerApp + Send + Sync + 'static,
{
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
            Ok((_, address)) if door.state.own.accepted(address) => {}
            Ok((stream, address)) => {
                welcome(stream, address, &mut door, &admission, &stats, tls.as_ref());
            }
            Err(error) => after_failure(&error).await,
        }
    }
    if now == Accepting::Over {
        return;
    }
    while let Some(Ok((stream, address))) = futures_util::FutureExt::now_or_never(listener.accept())
    {
        welcome(stream, address, &mut door, &admission, &stats, tls.as_ref());
    }
}

fn welcome<A>(
    stream: TcpStream,
    address: std::net::SocketAddr,
    door: &mut Door<A>,
    admission: &Arc<Admission>,
    stats: &Arc<ListenerStats>,
    tls: Option<&ListenerName>,
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
    let Some(listener) = tls else {
        tokio::spawn(serve(Socket::Tcp(stream), Some(ip), door.clone(), place));
        return;
    };
    let Some(config) = snapshot.tls.get(listener) else {
        return;
    };
    let acceptor = TlsAcceptor::from(Arc::clone(&config.server));
    let within = snapshot.config.server.client.header_timeout;
    let door = door.clone();
    tokio::spawn(async move {
        match tokio::time::timeout(within, acceptor.accept(stream)).await {
            Ok(Ok(stream)) => serve(Socket::Tls(Box::new(stream)), Some(ip), door, place).await,
            Ok(Err(error)) => log::debug!("TLS handshake with {ip}: {error}"),
            Err(_) => log::debug!("TLS handshake with {ip} took too long"),
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
