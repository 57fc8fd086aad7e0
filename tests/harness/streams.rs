//! An origin that speaks HTTP/2 alone: it answers late or never, and counts what is given up.

use std::future::Future;
use std::net::{SocketAddr, TcpListener};
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream};
use http::{HeaderMap, Request, Response};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::runtime::Runtime;
use tokio_rustls::TlsAcceptor;

/// What it does with a request, once it has all of it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Does {
    /// Answers after so long.
    Answers(Duration),
    /// Resets the stream after so long.
    Resets(Duration),
    /// Answers at once with this status.
    Says(u16),
    /// Says what this says, at once.
    Speaks(Speech),
}

type Script = Arc<dyn Fn(&str) -> Does + Send + Sync>;

/// Something to say in a stream, by hand.
pub(crate) type Speech = fn(SendResponse<Bytes>) -> Pin<Box<dyn Future<Output = ()> + Send>>;

#[derive(Default)]
struct Counts {
    begun: AtomicUsize,
    requests: AtomicUsize,
    given_up: AtomicUsize,
    connections: AtomicUsize,
    open: AtomicUsize,
    /// Path and body of each request that came whole.
    bodies: Mutex<Vec<(String, Vec<u8>)>>,
    /// What stood behind each of these bodies.
    trailers: Mutex<Vec<HeaderMap>>,
}

/// A running origin.
pub(crate) struct StreamOrigin {
    address: SocketAddr,
    counts: Arc<Counts>,
    _runtime: Runtime,
}

impl StreamOrigin {
    /// One that answers with its name and the length of the request's body, and has `x-trailer` behind that.
    pub(crate) fn start(name: &'static str, does: Does) -> Self {
        Self::scripted(name, move |_| does)
    }

    /// The same for one that does with a request what its path is for.
    pub(crate) fn scripted(
        name: &'static str,
        script: impl Fn(&str) -> Does + Send + Sync + 'static,
    ) -> Self {
        Self::behind(name, None, script)
    }

    /// One over TLS, with a certificate chain and its key.
    pub(crate) fn secure(
        name: &'static str,
        (cert, key): (&str, &str),
        script: impl Fn(&str) -> Does + Send + Sync + 'static,
    ) -> Self {
        let chain = CertificateDer::pem_slice_iter(cert.as_bytes());
        let chain = chain.collect::<Result<Vec<_>, _>>().unwrap();
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut settings = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .unwrap();
        settings.alpn_protocols = vec![b"h2".to_vec()];
        Self::behind(name, Some(Arc::new(settings).into()), script)
    }

    fn behind(
        name: &'static str,
        tls: Option<TlsAcceptor>,
        script: impl Fn(&str) -> Does + Send + Sync + 'static,
    ) -> Self {
        let script: Script = Arc::new(script);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let counts = Arc::new(Counts::default());
        let shared = Arc::clone(&counts);
        runtime.spawn(async move {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            while let Ok((socket, _)) = listener.accept().await {
                let (counts, script) = (Arc::clone(&shared), Arc::clone(&script));
                let tls = tls.clone();
                tokio::spawn(async move {
                    counts.connections.fetch_add(1, Ordering::SeqCst);
                    counts.open.fetch_add(1, Ordering::SeqCst);
                    match tls {
                        None => accept(name, socket, &script, &counts).await,
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(socket).await {
                                accept(name, stream, &script, &counts).await;
                            }
                        }
                    }
                    counts.open.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        Self {
            address,
            counts,
            _runtime: runtime,
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Requests that began.
    pub(crate) fn begun(&self) -> usize {
        self.counts.begun.load(Ordering::SeqCst)
    }

    /// Requests that came whole.
    pub(crate) fn count(&self) -> usize {
        self.counts.requests.load(Ordering::SeqCst)
    }

    /// Path and body of each of them.
    pub(crate) fn bodies(&self) -> Vec<(String, Vec<u8>)> {
        self.counts.bodies.lock().unwrap().clone()
    }

    /// What stood behind each of these bodies.
    pub(crate) fn trailers(&self) -> Vec<HeaderMap> {
        self.counts.trailers.lock().unwrap().clone()
    }

    /// Streams that were reset before they were answered.
    pub(crate) fn given_up(&self) -> usize {
        self.counts.given_up.load(Ordering::SeqCst)
    }

    /// Connections that came, and those that are open.
    pub(crate) fn connections(&self) -> (usize, usize) {
        let counts = &self.counts;
        (
            counts.connections.load(Ordering::SeqCst),
            counts.open.load(Ordering::SeqCst),
        )
    }
}

async fn accept(
    name: &'static str,
    socket: impl AsyncRead + AsyncWrite + Unpin,
    script: &Script,
    counts: &Arc<Counts>,
) {
    if let Ok(mut connection) = h2::server::handshake(socket).await {
        while let Some(Ok((request, respond))) = connection.accept().await {
            let does = script(request.uri().path());
            tokio::spawn(serve(name, does, request, respond, Arc::clone(counts)));
        }
    }
}

async fn serve(
    name: &str,
    does: Does,
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
    counts: Arc<Counts>,
) {
    counts.begun.fetch_add(1, Ordering::SeqCst);
    let path = request.uri().path().to_owned();
    let mut body = request.into_body();
    if let Does::Speaks(speech) = does {
        let said = tokio::spawn(speech(respond));
        while let Some(Ok(piece)) = body.data().await {
            let _ = body.flow_control().release_capacity(piece.len());
        }
        counts.requests.fetch_add(1, Ordering::SeqCst);
        let _ = said.await;
        return;
    }
    let mut bytes = Vec::new();
    while let Some(piece) = body.data().await {
        let Ok(piece) = piece else { return };
        bytes.extend_from_slice(&piece);
        let _ = body.flow_control().release_capacity(piece.len());
    }
    let length = bytes.len();
    let trailers = body.trailers().await.ok().flatten();
    counts
        .trailers
        .lock()
        .unwrap()
        .push(trailers.unwrap_or_default());
    counts.bodies.lock().unwrap().push((path, bytes));
    counts.requests.fetch_add(1, Ordering::SeqCst);
    let pause = match does {
        Does::Answers(pause) | Does::Resets(pause) => pause,
        Does::Says(_) | Does::Speaks(_) => Duration::ZERO,
    };
    let reset = std::future::poll_fn(|cx| respond.poll_reset(cx));
    if tokio::time::timeout(pause, reset).await.is_ok() {
        counts.given_up.fetch_add(1, Ordering::SeqCst);
        return;
    }
    if let Does::Resets(_) = does {
        respond.send_reset(Reason::INTERNAL_ERROR);
        return;
    }
    let status = match does {
        Does::Says(status) => status,
        _ => 200,
    };
    let head = Response::builder().status(status).header("x-origin", name);
    let Ok(mut answer) = respond.send_response(head.body(()).unwrap(), false) else {
        return;
    };
    let text = format!("{name} {length}");
    if answer.send_data(text.into(), false).is_ok() {
        let mut trailers = HeaderMap::new();
        trailers.insert("x-trailer", "seen".parse().unwrap());
        let _ = answer.send_trailers(trailers);
    }
}
