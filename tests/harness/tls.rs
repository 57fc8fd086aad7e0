//! A TLS client that asks for whatever name it is told to, after whatever bytes it is told to send first.

use std::io::{self, Read, Write};
use std::sync::Arc;

use rustls::crypto::aws_lc_rs;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
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
        let mut roots = RootCertStore::empty();
        let ca = CertificateDer::from_pem_slice(ca.as_bytes()).unwrap();
        roots.add(ca).unwrap();
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
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
