//! A TLS client that asks for whatever name it is told to, after whatever bytes it is told to send first.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::server::Acceptor;
use rustls::{
    ClientConfig, ClientConnection, NamedGroup, RootCertStore, ServerConfig, StreamOwned,
};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};

use super::client::Client;

/// Whom to trust and what to show.
pub(crate) struct TlsClient {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
    first: Vec<u8>,
}

impl TlsClient {
    /// Asks for `name` and trusts what `ca` (PEM) signed; shows `identity` (certificate and key, PEM), if any.
    pub(crate) fn new(name: &str, ca: &str, identity: Option<(&str, &str)>) -> Self {
        Self::with(aws_lc_rs::default_provider(), name, ca, identity)
    }

    /// The same, agreeing to one key exchange and no other.
    pub(crate) fn wanting(group: NamedGroup, name: &str, ca: &str) -> Self {
        Self::with(agreeing_to(group), name, ca, None)
    }

    fn with(
        provider: CryptoProvider,
        name: &str,
        ca: &str,
        identity: Option<(&str, &str)>,
    ) -> Self {
        let mut roots = RootCertStore::empty();
        let ca = CertificateDer::from_pem_slice(ca.as_bytes()).unwrap();
        roots.add(ca).unwrap();
        let builder = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let config = match identity {
            None => builder.with_no_client_auth(),
            Some((cert, key)) => {
                let chain = CertificateDer::pem_slice_iter(cert.as_bytes());
                let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
                let chain = chain.collect::<Result<_, _>>().unwrap();
                builder.with_client_auth_cert(chain, key).unwrap()
            }
        };
        Self {
            config: Arc::new(config),
            name: ServerName::try_from(name.to_owned()).unwrap(),
            first: Vec::new(),
        }
    }

    /// Sends these bytes before the handshake.
    pub(crate) fn after(mut self, first: impl AsRef<[u8]>) -> Self {
        self.first = first.as_ref().to_vec();
        self
    }

    /// Sends `request`, which should end the connection, and reads to its end.
    pub(crate) fn ask(&self, client: &Client, request: &str) -> io::Result<String> {
        let mut connection = client.try_connect()?;
        connection.write(&self.first)?;
        let socket = connection.writer().try_clone()?;
        let session = ClientConnection::new(Arc::clone(&self.config), self.name.clone())
            .map_err(io::Error::other)?;
        let mut stream = StreamOwned::new(session, socket);
        stream.write_all(request.as_bytes())?;
        let mut answer = Vec::new();
        match stream.read_to_end(&mut answer) {
            Err(error) if answer.is_empty() => Err(error),
            _ if answer.is_empty() => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(String::from_utf8_lossy(&answer).into_owned()),
        }
    }

    /// `GET target` for `host`.
    pub(crate) fn get(&self, client: &Client, host: &str, target: &str) -> io::Result<String> {
        let request = format!("GET {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        self.ask(client, &request)
    }
}

/// An origin that speaks TLS, agrees to one key exchange and no other, and notes what it was offered.
pub(crate) struct TlsOrigin {
    address: SocketAddr,
    offered: Arc<Mutex<Vec<Vec<NamedGroup>>>>,
}

impl TlsOrigin {
    /// Shows `identity` (certificate and key, PEM) and agrees to `group`.
    pub(crate) fn start((cert, key): (&str, &str), group: NamedGroup) -> Self {
        let chain = CertificateDer::pem_slice_iter(cert.as_bytes());
        let chain = chain.collect::<Result<_, _>>().unwrap();
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(agreeing_to(group)))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .unwrap();
        let config = Arc::new(config);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let origin = Self {
            address: listener.local_addr().unwrap(),
            offered: Arc::default(),
        };
        let offered = Arc::clone(&origin.offered);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (config, offered) = (Arc::clone(&config), Arc::clone(&offered));
                std::thread::spawn(move || serve_tls(stream, config, &offered));
            }
        });
        origin
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The key exchanges that each connection offered, in its order.
    pub(crate) fn offered(&self) -> Vec<Vec<NamedGroup>> {
        self.offered.lock().unwrap().clone()
    }
}

/// Answers every request with the name of the key exchange that was agreed upon. `None`: the peer is gone.
fn serve_tls(
    mut stream: TcpStream,
    config: Arc<ServerConfig>,
    offered: &Mutex<Vec<Vec<NamedGroup>>>,
) -> Option<()> {
    stream
        .set_read_timeout(Some(Duration::from_secs(10)))
        .ok()?;
    let mut acceptor = Acceptor::default();
    let accepted = loop {
        acceptor
            .read_tls(&mut stream)
            .ok()
            .filter(|read| *read > 0)?;
        match acceptor.accept() {
            Ok(Some(accepted)) => break accepted,
            Ok(None) => {}
            Err(_) => return None,
        }
    };
    let groups = accepted
        .client_hello()
        .named_groups()
        .unwrap_or_default()
        .to_vec();
    offered.lock().unwrap().push(groups);
    let session = match accepted.into_connection(config) {
        Ok(session) => session,
        Err((_, mut alert)) => {
            let _ = alert.write_all(&mut stream);
            return None;
        }
    };
    let mut stream = StreamOwned::new(session, stream);
    let (mut read, mut piece) = (Vec::new(), [0; 4096]);
    loop {
        let length = stream.read(&mut piece).ok().filter(|read| *read > 0)?;
        read.extend_from_slice(&piece[..length]);
        if read.ends_with(b"\r\n\r\n") {
            read.clear();
            let agreed = stream.conn.negotiated_key_exchange_group()?.name();
            let body = format!("{agreed:?}");
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
            stream.write_all((head + &body).as_bytes()).ok()?;
        }
    }
}

/// Cryptography with one key exchange.
fn agreeing_to(group: NamedGroup) -> CryptoProvider {
    let mut provider = aws_lc_rs::default_provider();
    provider.kx_groups.retain(|known| known.name() == group);
    assert_eq!(provider.kx_groups.len(), 1, "{group:?} is known");
    provider
}
