//! What a connection holds that waits for its next request: few have something to ask, and many wait.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use rustls::crypto::aws_lc_rs;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use serde_json::Value;

use crate::harness::{
    END_HEADERS, END_STREAM, Gateway, Origin, Peer, block, frame, get, kind, reserve,
};

const NAME: &str = "api.example.com";
const CONNECTIONS: usize = 500;

/// A gateway with a listener for each kind, and the authority of its certificate.
fn gateway(origin: &Origin, secure: SocketAddr) -> (Gateway, Arc<RootCertStore>) {
    let certificates = Peer::certificates(NAME);
    let pem = |name: &str| Value::as_str(&certificates[name]).unwrap().to_owned();
    let toml = format!(
        "[server]\nthreads = 1\n[[listener]]\nname = \"public\"\naddress = \"{{listen}}\"\n\
         [[listener]]\nname = \"secure\"\naddress = \"{secure}\"\n\
         tls = {{ certificates = [{{ cert = \"{{dir}}/server.pem\", key = \"{{dir}}/server.key\" }}] }}\n\
         [upstream.api]\nendpoints = [{{ address = \"{}\" }}]\n\
         [[route]]\nid = \"all\"\npath = \"/**\"\nupstream = \"api\"\n",
        origin.address()
    );
    let mut roots = RootCertStore::empty();
    let authority = CertificateDer::from_pem_slice(pem("ca").as_bytes()).unwrap();
    roots.add(authority).unwrap();
    let gateway = Gateway::with(&toml)
        .file("server.pem", &pem("server"))
        .file("server.key", &pem("server_key"))
        .start();
    (gateway, Arc::new(roots))
}

/// Bytes that each of many idle connections adds to the gateway, once it has begun to serve such.
fn bytes_each<C>(gateway: &Gateway, open: impl Fn() -> C) -> u64 {
    drop((0..10).map(|_| open()).collect::<Vec<_>>());
    let before = gateway.rss();
    let held: Vec<_> = (0..CONNECTIONS).map(|_| open()).collect();
    (gateway.rss() - before) * 1024 / held.len() as u64
}

/// Asks over HTTP/1.1, and reads the whole answer.
fn asked<S: Read + Write>(mut stream: S) -> S {
    let request = format!("GET / HTTP/1.1\r\nHost: {NAME}\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let (mut answer, mut piece) = (Vec::new(), [0; 1024]);
    loop {
        let read = stream.read(&mut piece).unwrap();
        assert!(read > 0, "closed: {}", String::from_utf8_lossy(&answer));
        answer.extend_from_slice(&piece[..read]);
        let text = String::from_utf8_lossy(&answer).to_ascii_lowercase();
        let Some((head, body)) = text.split_once("\r\n\r\n") else {
            continue;
        };
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "));
        if body.len() == length.unwrap().parse::<usize>().unwrap() {
            return stream;
        }
    }
}

/// The same over HTTP/2.
fn asked_http2<S: Read + Write>(mut stream: S) -> S {
    let mut sent = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    sent.extend(frame(kind::SETTINGS, 0, 0, &[]));
    let ends = END_HEADERS | END_STREAM;
    sent.extend(frame(kind::HEADERS, ends, 1, &block(&get("/"))));
    stream.write_all(&sent).unwrap();
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head).unwrap();
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; length as usize];
        stream.read_exact(&mut payload).unwrap();
        let answers = [kind::DATA, kind::HEADERS].contains(&head[3]);
        if answers && head[4] & END_STREAM != 0 {
            return stream;
        }
    }
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

/// Connects over TLS, with this protocol.
fn secured(
    address: SocketAddr,
    roots: &Arc<RootCertStore>,
    protocol: &str,
) -> StreamOwned<ClientConnection, TcpStream> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(Arc::clone(roots))
        .with_no_client_auth();
    config.alpn_protocols = vec![protocol.into()];
    let name = ServerName::try_from(NAME).unwrap();
    let session = ClientConnection::new(Arc::new(config), name).unwrap();
    StreamOwned::new(session, connect(address))
}

#[test]
fn an_idle_connection_holds_little() {
    let (origin, secure) = (Origin::start(), reserve());
    // A process for each: what one kind gave back would serve the next.
    let (plain, _) = gateway(&origin, reserve());
    let each = bytes_each(&plain, || asked(connect(plain.listen())));
    assert!(each < PLAIN, "{each} bytes for each of HTTP/1");
    let (tls, roots) = gateway(&origin, secure);
    let each = bytes_each(&tls, || asked(secured(secure, &roots, "http/1.1")));
    assert!(each < TLS, "{each} bytes for each over TLS");
    drop(tls);
    let (http2, roots) = gateway(&origin, secure);
    let each = bytes_each(&http2, || asked_http2(secured(secure, &roots, "h2")));
    assert!(each < HTTP2, "{each} bytes for each of HTTP/2 over TLS");
}

/// Bounds, a tenth above what is. Of the codec's buffers for HTTP/2, 28 KiB, most are never touched; TLS keeps 4 KiB to
/// read into.
const PLAIN: u64 = 3800;
const TLS: u64 = 12_700;
const HTTP2: u64 = 31_500;
