//! An origin seen over every transport: behind TLS, behind a Unix socket, and, where it speaks HTTP/1, through a translator
//! that speaks HTTP/2 in its place. What breaks off behind a face breaks off before it: as a stream that is reset in HTTP/2.

use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::tcp::OwnedWriteHalf;
use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use super::gateway::{Gateway, Setup};
use super::incoming::{Incoming, Left};
use super::peer::Peer;
use super::wait::seconds;
use super::ways::{FACE, LATE, Over, Speaks, Way};
use super::wire::{Head, Headers};

/// Where all faces live.
static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
});

static CERTIFICATES: LazyLock<Value> = LazyLock::new(|| Peer::certificates(FACE));

/// The addresses under which an origin is reached. They are gone when this is.
pub(crate) struct Faces {
    /// HTTP/1 as it is, behind TLS; HTTP/2 as it is, behind TLS.
    tcp: [[SocketAddr; 2]; 2],
    dir: TempDir,
    tasks: Vec<JoinHandle<()>>,
}

impl Drop for Faces {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

impl Faces {
    /// Of an origin of HTTP/1, which is seen as one of HTTP/2 as well.
    pub(crate) fn of(origin: SocketAddr) -> Self {
        Self::new(origin, Speaks::Http1)
    }

    /// Of an origin of HTTP/2: it has ways of HTTP/2 alone.
    pub(crate) fn of_streams(origin: SocketAddr) -> Self {
        Self::new(origin, Speaks::Http2)
    }

    fn new(origin: SocketAddr, native: Speaks) -> Self {
        let dir = tempfile::Builder::new().prefix("tgf").tempdir().unwrap();
        let mut faces = Self {
            tcp: [[origin; 2]; 2],
            dir,
            tasks: Vec::new(),
        };
        let _entered = RUNTIME.enter();
        for (version, speaks) in [Speaks::Http1, Speaks::Http2].into_iter().enumerate() {
            if speaks < native {
                continue;
            }
            let translates = speaks != native;
            let path = faces.socket(speaks);
            let listener = UnixListener::bind(path).unwrap();
            faces.tasks.push(RUNTIME.spawn(async move {
                while let Ok((near, _)) = listener.accept().await {
                    tokio::spawn(serve(translates, near, origin));
                }
            }));
            for (index, over) in [Over::Tcp, Over::Tls].into_iter().enumerate() {
                if over == Over::Tcp && !translates {
                    continue;
                }
                let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
                listener.set_nonblocking(true).unwrap();
                faces.tcp[version][index] = listener.local_addr().unwrap();
                let listener = TcpListener::from_std(listener).unwrap();
                let tls = (over == Over::Tls).then(|| acceptor(speaks));
                faces
                    .tasks
                    .push(RUNTIME.spawn(accept(listener, translates, tls, origin)));
            }
        }
        faces
    }

    fn socket(&self, speaks: Speaks) -> std::path::PathBuf {
        self.dir.path().join(format!("{speaks:?}.sock"))
    }

    /// The address of an endpoint over this way.
    pub(crate) fn over(&self, way: Way) -> String {
        match way.over {
            Over::Unix => format!("unix:{}", self.socket(way.speaks).display()),
            over => self.tcp[usize::from(way.speaks == Speaks::Http2)]
                [usize::from(over == Over::Tls)]
            .to_string(),
        }
    }

    /// A gateway with one upstream and one route, of its name, for each of these ways: what follows the name in a path is
    /// the origin's. Second tries come late. `more` is said of each upstream, before its tables.
    pub(crate) fn behind(&self, ways: &[Way], more: &str) -> Setup {
        let mut text = String::new();
        for way in ways {
            let keys =
                format!("passive = {{ max_fails = 0 }}\nretry = {{ attempts = 0 }}\n{more}\n");
            text += &way.upstream(way.name(), &[self.over(*way)], LATE, &keys);
            text += &format!(
                "[[route]]\nid = \"{way}\"\npath = \"/{way}/**\"\nstrip_prefix = 1\nupstream = \"{way}\"\n"
            );
        }
        Gateway::with(&text).file("face.pem", Self::ca())
    }

    /// The certificates of all faces, with their keys.
    pub(crate) fn certificates() -> &'static Value {
        &CERTIFICATES
    }

    /// Who signed the certificates of all faces.
    pub(crate) fn ca() -> &'static str {
        CERTIFICATES["ca"].as_str().unwrap()
    }
}

fn acceptor(speaks: Speaks) -> TlsAcceptor {
    let pem = |name: &str| CERTIFICATES[name].as_str().unwrap().as_bytes();
    let chain = CertificateDer::pem_slice_iter(pem("server"));
    let chain = chain.collect::<Result<Vec<_>, _>>().unwrap();
    let key = PrivateKeyDer::from_pem_slice(pem("server_key")).unwrap();
    let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    if speaks == Speaks::Http2 {
        config.alpn_protocols = vec![b"h2".to_vec()];
    }
    TlsAcceptor::from(Arc::new(config))
}

async fn accept(
    listener: TcpListener,
    translates: bool,
    tls: Option<TlsAcceptor>,
    origin: SocketAddr,
) {
    while let Ok((near, _)) = listener.accept().await {
        let _ = near.set_nodelay(true);
        match tls.clone() {
            None => drop(tokio::spawn(serve(translates, near, origin))),
            Some(tls) => drop(tokio::spawn(async move {
                if let Ok(near) = tls.accept(near).await {
                    serve(translates, near, origin).await;
                }
            })),
        }
    }
}

async fn serve<S>(translates: bool, near: S, origin: SocketAddr)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    match translates {
        false => pump(near, origin).await,
        true => translate(near, origin).await,
    }
}

// ---- byte for byte ---------------------------------------------------------------------

/// Passes bytes on both ways. The origin's end is passed on as such, its reset as an end without a word.
async fn pump<S: AsyncRead + AsyncWrite + Unpin>(near: S, origin: SocketAddr) {
    let Ok(far) = TcpStream::connect(origin).await else {
        return;
    };
    let _ = far.set_nodelay(true);
    let (mut from, mut to) = far.into_split();
    let (mut read, mut write) = tokio::io::split(near);
    let up = async {
        let mut piece = vec![0; 16 * 1024];
        while let Ok(n @ 1..) = read.read(&mut piece).await {
            if to.write_all(&piece[..n]).await.is_err() {
                // The answer may still be on its way.
                std::future::pending::<()>().await;
            }
        }
    };
    let down = async {
        let mut piece = vec![0; 16 * 1024];
        loop {
            match from.read(&mut piece).await {
                Ok(0) => break drop(write.shutdown().await),
                Ok(n) => {
                    let written = write.write_all(&piece[..n]).await;
                    if written.is_err() || write.flush().await.is_err() {
                        break;
                    }
                }
                Err(_) => break,
            }
        }
    };
    tokio::select! {
        () = up => {},
        () = down => {},
    }
}

// ---- HTTP/2 in place of HTTP/1 ------------------------------------------------------------------------------------

async fn translate<S: AsyncRead + AsyncWrite + Unpin>(near: S, origin: SocketAddr) {
    let mut settings = h2::server::Builder::new();
    settings
        .initial_window_size(1 << 18)
        .initial_connection_window_size(1 << 22)
        .max_header_list_size(1 << 20);
    let Ok(mut connection) = settings.handshake::<_, Bytes>(near).await else {
        return;
    };
    while let Some(Ok((request, respond))) = connection.accept().await {
        tokio::spawn(stream(request, respond, origin));
    }
}

/// One request: sent on while its answer comes back.
async fn stream(
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
    origin: SocketAddr,
) {
    let Ok(far) = TcpStream::connect(origin).await else {
        return respond.send_reset(Reason::INTERNAL_ERROR);
    };
    let _ = far.set_nodelay(true);
    let (from, to) = far.into_split();
    let method = request.method().as_str().to_owned();
    let mut upload = tokio::spawn(upload(request, to));
    let answered = answer(Incoming::new(from), &mut respond, &method).await;
    if let Err(reason) = answered {
        respond.send_reset(reason);
        return upload.abort();
    }
    // What was answered early may go on being sent.
    if tokio::time::timeout(seconds(5), &mut upload).await.is_err() {
        upload.abort();
    }
}

async fn upload(
    request: Request<RecvStream>,
    mut to: OwnedWriteHalf,
) -> io::Result<OwnedWriteHalf> {
    let (parts, mut body) = request.into_parts();
    let target = parts
        .uri
        .path_and_query()
        .map_or("/", |target| target.as_str());
    let host = parts.uri.authority().map_or("", |host| host.as_str());
    let mut head = format!("{} {target} HTTP/1.1\r\nHost: {host}\r\n", parts.method);
    for (name, value) in &parts.headers {
        head += &format!("{name}: {}\r\n", String::from_utf8_lossy(value.as_bytes()));
    }
    let chunked = !body.is_end_stream() && !parts.headers.contains_key("content-length");
    if chunked {
        head += "Transfer-Encoding: chunked\r\n";
    }
    to.write_all((head + "\r\n").as_bytes()).await?;
    while let Some(piece) = body.data().await {
        // A reset: the connection ends with this.
        let piece = piece.map_err(io::Error::other)?;
        if chunked && !piece.is_empty() {
            to.write_all(format!("{:x}\r\n", piece.len()).as_bytes())
                .await?;
        }
        to.write_all(&piece).await?;
        if chunked && !piece.is_empty() {
            to.write_all(b"\r\n").await?;
        }
        let _ = body.flow_control().release_capacity(piece.len());
    }
    if chunked {
        let trailers = body.trailers().await.map_err(io::Error::other)?;
        let mut end = "0\r\n".to_owned();
        for (name, value) in trailers.iter().flatten() {
            end += &format!("{name}: {}\r\n", String::from_utf8_lossy(value.as_bytes()));
        }
        to.write_all((end + "\r\n").as_bytes()).await?;
    }
    Ok(to)
}

/// What `read` gives, unless the stream is reset before.
async fn unless_reset<T>(
    read: impl Future<Output = io::Result<T>>,
    reset: impl Future<Output = Result<Reason, h2::Error>>,
) -> Result<T, Reason> {
    tokio::select! {
        read = read => read.map_err(|_| Reason::INTERNAL_ERROR),
        _ = reset => Err(Reason::CANCEL),
    }
}

async fn answer(
    mut incoming: Incoming<impl AsyncRead + Unpin>,
    respond: &mut SendResponse<Bytes>,
    method: &str,
) -> Result<(), Reason> {
    let head = loop {
        let reset = poll_fn(|cx| respond.poll_reset(cx));
        let head = unless_reset(incoming.head(), reset).await?;
        let head = head.ok_or(Reason::INTERNAL_ERROR)?;
        if !is_interim(&head) {
            break head;
        }
        let interim = response(&head)?;
        if respond.send_informational(interim).is_err() {
            return Err(Reason::INTERNAL_ERROR);
        }
    };
    let mut left = Left::of_answer(&head, method);
    let empty = matches!(left, Left::Nothing | Left::Bytes(0));
    let sent = respond.send_response(response(&head)?, empty);
    let mut stream = sent.map_err(|_| Reason::INTERNAL_ERROR)?;
    if empty {
        return Ok(());
    }
    loop {
        let reset = poll_fn(|cx| stream.poll_reset(cx));
        let piece = unless_reset(incoming.piece(&mut left), reset).await;
        match piece? {
            Some(piece) => send(&mut stream, piece).await?,
            None => break,
        }
    }
    let sent = match incoming.trailers.is_empty() {
        true => stream.send_data(Bytes::new(), true),
        false => stream.send_trailers(fields(&incoming.trailers)?),
    };
    sent.map_err(|_| Reason::INTERNAL_ERROR)
}

fn is_interim(head: &Head) -> bool {
    head.line
        .split(' ')
        .nth(1)
        .is_some_and(|status| status.starts_with('1'))
}

/// Sends a piece as far as the windows are open for it, and then the rest.
async fn send(stream: &mut SendStream<Bytes>, mut piece: Bytes) -> Result<(), Reason> {
    while !piece.is_empty() {
        stream.reserve_capacity(piece.len());
        let room = poll_fn(|cx| stream.poll_capacity(cx)).await;
        let Some(Ok(room)) = room else {
            return Err(Reason::CANCEL);
        };
        let sent = stream.send_data(piece.split_to(room.min(piece.len())), false);
        sent.map_err(|_| Reason::CANCEL)?;
    }
    Ok(())
}

/// A head as HTTP/2 has it: without what belongs to a connection.
fn response(head: &Head) -> Result<Response<()>, Reason> {
    let status = head.line.split(' ').nth(1).unwrap_or_default();
    let status: u16 = status.parse().map_err(|_| Reason::PROTOCOL_ERROR)?;
    let of_connection = |name: &str| {
        let names = ["connection", "keep-alive", "transfer-encoding", "upgrade"];
        names.iter().any(|known| name.eq_ignore_ascii_case(known))
    };
    let kept = head.headers.iter().filter(|(name, _)| !of_connection(name));
    let kept: Headers = kept.cloned().collect();
    let mut response = Response::builder()
        .status(status)
        .body(())
        .map_err(|_| Reason::PROTOCOL_ERROR)?;
    *response.headers_mut() = fields(&kept)?;
    Ok(response)
}

fn fields(lines: &Headers) -> Result<HeaderMap, Reason> {
    let mut fields = HeaderMap::new();
    for (name, value) in lines {
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| Reason::PROTOCOL_ERROR)?;
        let value =
            HeaderValue::from_bytes(value.as_bytes()).map_err(|_| Reason::PROTOCOL_ERROR)?;
        fields.append(name, value);
    }
    Ok(fields)
}
