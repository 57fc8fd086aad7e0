//! An origin that says exactly these bytes, over TCP, TLS or a Unix socket, one answer for each head that comes.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use rustls::crypto::aws_lc_rs;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::Value;
use tempfile::TempDir;

use super::peer::Peer;

/// What it does after a head.
#[derive(Clone, Debug)]
pub(crate) enum Says {
    /// These bytes, in one piece.
    Bytes(Vec<u8>),
    /// Nothing for so long.
    Pause(Duration),
    /// No more.
    End,
}

impl Says {
    pub(crate) fn text(text: &str) -> Vec<Self> {
        vec![Self::Bytes(text.as_bytes().to_vec())]
    }

    /// The same, and then the connection ends.
    pub(crate) fn last(text: &str) -> Vec<Self> {
        vec![Self::Bytes(text.as_bytes().to_vec()), Self::End]
    }
}

type Script = Arc<dyn Fn(&str) -> Vec<Says> + Send + Sync>;

/// The same origin behind each kind of connection. It runs as long as the test's process.
pub(crate) struct RawOrigin {
    tcp: std::net::SocketAddr,
    tls: std::net::SocketAddr,
    dir: TempDir,
    certificates: Value,
}

const NAME: &str = "raw.internal";

/// Ways to an origin of HTTP/1; each is a route's first segment.
pub(crate) const WAYS: [&str; 5] = ["tcp", "hedged", "unix", "tls", "tls-hedged"];

impl RawOrigin {
    /// Answers each head as `script` says for its target, without the first segment.
    pub(crate) fn saying(script: impl Fn(&str) -> Vec<Says> + Send + Sync + 'static) -> Self {
        let script: Script = Arc::new(script);
        let dir = tempfile::Builder::new().prefix("tgr").tempdir().unwrap();
        let certificates = Peer::certificates(NAME);
        let (tcp, tls) = (
            TcpListener::bind("127.0.0.1:0").unwrap(),
            TcpListener::bind("127.0.0.1:0").unwrap(),
        );
        let unix = UnixListener::bind(dir.path().join("raw.sock")).unwrap();
        let secure = server(&certificates);
        let origin = Self {
            tcp: tcp.local_addr().unwrap(),
            tls: tls.local_addr().unwrap(),
            dir,
            certificates,
        };
        let own = Arc::clone(&script);
        thread::spawn(move || {
            for stream in tcp.incoming().flatten() {
                let _ = stream.set_nodelay(true);
                let own = Arc::clone(&own);
                thread::spawn(move || serve(stream, &own));
            }
        });
        let own = Arc::clone(&script);
        thread::spawn(move || {
            for stream in unix.incoming().flatten() {
                let own = Arc::clone(&own);
                thread::spawn(move || serve(stream, &own));
            }
        });
        thread::spawn(move || {
            for stream in tls.incoming().flatten() {
                let _ = stream.set_nodelay(true);
                let (own, secure) = (Arc::clone(&script), Arc::clone(&secure));
                thread::spawn(move || {
                    let session = ServerConnection::new(secure).unwrap();
                    serve(StreamOwned::new(session, stream), &own);
                });
            }
        });
        origin
    }

    /// One upstream and one route for each of [`WAYS`]; `more` is said of each upstream, before its tables. The file
    /// `ca.pem` is [`Self::ca`].
    pub(crate) fn config(&self, more: &str) -> String {
        let unix = format!("unix:{}/raw.sock", self.dir.path().display());
        let (tcp, tls) = (self.tcp.to_string(), self.tls.to_string());
        let secure = format!("tls = {{ sni = \"{NAME}\", ca = \"{{dir}}/ca.pem\" }}\n");
        let hedge = "hedge = { after = \"10s\", methods = [\"GET\", \"HEAD\", \"PUT\"] }\n";
        WAYS.map(|way| {
            let (address, keys) = match way {
                "unix" => (&unix, String::new()),
                "tls" => (&tls, secure.clone()),
                "tls-hedged" => (&tls, format!("{secure}{hedge}")),
                "hedged" => (&tcp, hedge.to_owned()),
                _ => (&tcp, String::new()),
            };
            let endpoints = match way.ends_with("hedged") {
                // One that is never asked: it is a backup.
                true => format!("{{ address = \"{address}\" }}, {{ address = \"127.0.0.1:9\", backup = true }}"),
                false => format!("{{ address = \"{address}\" }}"),
            };
            format!(
                "[upstream.{way}]\nendpoints = [{endpoints}]\npassive = {{ max_fails = 0 }}\nretry = {{ attempts = 0 }}\n{keys}{more}\n\
                 [[route]]\nid = \"{way}\"\npath = \"/{way}/**\"\nstrip_prefix = 1\nupstream = \"{way}\"\n"
            )
        })
        .concat()
    }

    /// Who signed its certificate.
    pub(crate) fn ca(&self) -> &str {
        self.certificates["ca"].as_str().unwrap()
    }
}

fn server(certificates: &Value) -> Arc<ServerConfig> {
    let pem = |name: &str| certificates[name].as_str().unwrap().as_bytes();
    let chain = CertificateDer::pem_slice_iter(pem("server"));
    let chain = chain.collect::<Result<Vec<_>, _>>().unwrap();
    let key = PrivateKeyDer::from_pem_slice(pem("server_key")).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    Arc::new(config)
}

fn serve(mut stream: impl Read + Write, script: &Script) {
    let mut seen = Vec::new();
    let mut piece = [0; 4096];
    loop {
        while let Some(end) = seen.windows(4).position(|four| four == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&seen[..end]).into_owned();
            seen.drain(..end + 4);
            let target = head.split(' ').nth(1).unwrap_or_default();
            for says in script(target) {
                match says {
                    Says::Bytes(bytes) => {
                        if stream
                            .write_all(&bytes)
                            .and_then(|()| stream.flush())
                            .is_err()
                        {
                            return;
                        }
                    }
                    Says::Pause(span) => thread::sleep(span),
                    Says::End => return,
                }
            }
        }
        match stream.read(&mut piece) {
            Ok(0) | Err(_) => return,
            Ok(read) => seen.extend_from_slice(&piece[..read]),
        }
    }
}
