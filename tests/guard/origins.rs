//! Origins that answer every request alike, over each transport, until the test ends.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use bytes::Bytes;
use http::Response;
use http::header::CONTENT_LENGTH;
use rustls::crypto::aws_lc_rs;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

/// Bytes of an answer, and of a large one.
const USUAL: usize = 128;
const LARGE: usize = 64 << 10;

/// One for each transport.
pub(crate) struct Origins {
    identity: Identity,
    /// HTTP/1.1.
    pub(crate) plain: SocketAddr,
    /// HTTP/1.1 over TLS.
    pub(crate) secure: SocketAddr,
    /// HTTP/2 without TLS.
    pub(crate) streams: SocketAddr,
}

/// A certificate for `localhost` and its key, in PEM.
pub(crate) struct Identity {
    pub(crate) cert: String,
    pub(crate) key: String,
}

impl Origins {
    pub(crate) fn start() -> Self {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a key");
        let identity = Identity {
            cert: made.cert.pem(),
            key: made.signing_key.serialize_pem(),
        };
        Self {
            plain: plain(),
            secure: secure(&identity),
            streams: streams(),
            identity,
        }
    }

    /// What the gateway and the origin behind TLS show.
    pub(crate) fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Whom a client of the gateway trusts.
    pub(crate) fn authority(&self) -> &str {
        &self.identity.cert
    }
}

fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("its address");
    (listener, address)
}

fn plain() -> SocketAddr {
    let (listener, address) = listen();
    std::thread::spawn(move || {
        for connection in listener.incoming().flatten() {
            std::thread::spawn(move || answer_all(connection));
        }
    });
    address
}

fn secure(identity: &Identity) -> SocketAddr {
    let (listener, address) = listen();
    let chain = CertificateDer::from_pem_slice(identity.cert.as_bytes()).expect("a certificate");
    let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes()).expect("a key");
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![chain], key)
        .expect("an identity");
    let config = Arc::new(config);
    std::thread::spawn(move || {
        for connection in listener.incoming().flatten() {
            let session = ServerConnection::new(Arc::clone(&config)).expect("a session");
            std::thread::spawn(move || answer_all(StreamOwned::new(session, connection)));
        }
    });
    address
}

/// Answers what comes on a connection of HTTP/1; what is asked of `/never` has no answer.
fn answer_all(mut connection: impl Read + Write) {
    let mut seen = Vec::new();
    let mut piece = [0; 4096];
    while let Ok(read @ 1..) = connection.read(&mut piece) {
        seen.extend_from_slice(&piece[..read]);
        while let Some(end) = seen.windows(4).position(|four| four == b"\r\n\r\n") {
            let head: Vec<u8> = seen.drain(..end + 4).collect();
            if head.starts_with(b"GET /never ") {
                continue;
            }
            let large = head.starts_with(b"GET /large ");
            let length = if large { LARGE } else { USUAL };
            let answer = format!(
                "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{}",
                "x".repeat(length)
            );
            if connection.write_all(answer.as_bytes()).is_err() {
                return;
            }
        }
    }
}

fn streams() -> SocketAddr {
    let (listener, address) = listen();
    listener.set_nonblocking(true).expect("not blocking");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    std::thread::spawn(move || {
        runtime.block_on(async move {
            let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
            while let Ok((socket, _)) = listener.accept().await {
                let _ = socket.set_nodelay(true);
                tokio::spawn(answer_streams(socket));
            }
        });
    });
    address
}

async fn answer_streams(socket: tokio::net::TcpStream) {
    let Ok(mut connection) = h2::server::handshake(socket).await else {
        return;
    };
    while let Some(Ok((_, mut respond))) = connection.accept().await {
        let mut head = Response::new(());
        head.headers_mut().insert(CONTENT_LENGTH, USUAL.into());
        if let Ok(mut body) = respond.send_response(head, false) {
            let _ = body.send_data(Bytes::from(vec![b'x'; USUAL]), true);
        }
    }
}
