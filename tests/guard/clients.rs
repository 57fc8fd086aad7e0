//! Clients that ask again and again on one connection.

use std::cell::RefCell;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::client::SendRequest;
use http::Request;
use rustls::crypto::aws_lc_rs;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::runtime::Runtime;
use tokio_rustls::TlsConnector;

/// How long the gateway may take to start, and to answer.
const PATIENCE: Duration = Duration::from_secs(120);

/// A request of HTTP/1.1, with a token or without.
pub(crate) fn request(path: &str, token: Option<&str>) -> String {
    let token = token.map_or_else(String::new, |token| {
        format!("Authorization: Bearer {token}\r\n")
    });
    format!(
        "GET {path} HTTP/1.1\r\nHost: gateway.test\r\nUser-Agent: guard\r\nAccept: */*\r\n{token}\r\n"
    )
}

fn connected(address: SocketAddr) -> TcpStream {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match TcpStream::connect(address) {
            Ok(stream) => {
                stream.set_nodelay(true).expect("no delay");
                stream.set_read_timeout(Some(PATIENCE)).expect("a limit");
                return stream;
            }
            Err(error) => assert!(Instant::now() < deadline, "no gateway: {error}"),
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// A connection of HTTP/1.1.
pub(crate) struct Http1(RefCell<TcpStream>);

impl Http1 {
    pub(crate) fn connect(address: SocketAddr) -> Self {
        Self(RefCell::new(connected(address)))
    }

    pub(crate) fn send(&self, request: &str) {
        let sent = self.0.borrow_mut().write_all(request.as_bytes());
        sent.expect("sent");
    }

    /// Asks, and reads the whole answer, which has this status.
    pub(crate) fn ask(&self, request: &str, status: u16) {
        let answer = self.answer(request);
        assert_eq!(answer.0, status, "{}", answer.1);
    }

    /// Asks until an answer has this status.
    pub(crate) fn ask_until(&self, request: &str, status: u16) {
        let deadline = Instant::now() + PATIENCE;
        while self.answer(request).0 != status {
            assert!(Instant::now() < deadline, "no answer has status {status}");
        }
    }

    fn answer(&self, request: &str) -> (u16, String) {
        self.send(request);
        let mut stream = self.0.borrow_mut();
        let mut answer = Vec::new();
        let mut piece = [0; 64 << 10];
        loop {
            let read = stream.read(&mut piece).expect("an answer");
            assert!(read > 0, "closed: {}", String::from_utf8_lossy(&answer));
            answer.extend_from_slice(&piece[..read]);
            let Some(end) = answer.windows(4).position(|four| four == b"\r\n\r\n") else {
                continue;
            };
            let head = String::from_utf8_lossy(&answer[..end]).to_ascii_lowercase();
            let length = head
                .lines()
                .find_map(|line| line.strip_prefix("content-length: "));
            let length: usize = length.expect("a length").parse().expect("a number");
            if answer.len() == end + 4 + length {
                let status = head[9..12].parse().expect("a status");
                return (status, String::from_utf8_lossy(&answer).into_owned());
            }
        }
    }
}

/// A connection of HTTP/2 over TLS. It is driven while something is asked.
pub(crate) struct Http2 {
    runtime: Runtime,
    requests: SendRequest<Bytes>,
}

impl Http2 {
    /// Connects to `localhost`, whose certificate is `authority`'s (PEM).
    pub(crate) fn connect(address: SocketAddr, authority: &str) -> Self {
        let mut roots = RootCertStore::empty();
        let authority = CertificateDer::from_pem_slice(authority.as_bytes()).expect("PEM");
        roots.add(authority).expect("an authority");
        let provider = Arc::new(aws_lc_rs::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"h2".to_vec()];
        let name = ServerName::try_from("localhost").expect("a name");
        let socket = connected(address);
        socket.set_nonblocking(true).expect("not blocking");
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        let requests = runtime.block_on(async {
            let socket = tokio::net::TcpStream::from_std(socket).expect("a socket");
            let connector = TlsConnector::from(Arc::new(config));
            let stream = connector.connect(name, socket).await.expect("a handshake");
            let (requests, connection) = h2::client::handshake(stream).await.expect("HTTP/2");
            tokio::spawn(connection);
            requests
        });
        Self { runtime, requests }
    }

    /// Asks, and reads the whole answer, which is a good one.
    pub(crate) fn ask(&self, path: &str, token: &str) {
        let request = Request::get(format!("https://gateway.test{path}"))
            .header("user-agent", "guard")
            .header("accept", "*/*")
            .header("authorization", format!("Bearer {token}"))
            .body(())
            .expect("a request");
        let requests = self.requests.clone();
        self.runtime.block_on(async {
            let mut requests = requests.ready().await.expect("a connection");
            let (answer, _) = requests.send_request(request, true).expect("sent");
            let answer = answer.await.expect("an answer");
            assert_eq!(answer.status(), 200);
            let mut body = answer.into_body();
            while let Some(piece) = body.data().await {
                let piece = piece.expect("a body");
                let _ = body.flow_control().release_capacity(piece.len());
            }
        });
    }
}
