//! The client of the corpus: it asks as the case says, over HTTP/1.1 or HTTP/2, and keeps all that it is told.

use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;

use bytes::Bytes;
use h2::client::ResponseFuture;
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, Request, Response};
use rustls::crypto::aws_lc_rs;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio_rustls::TlsConnector;

use super::case::{Ask, Framed, Leaves};
use crate::harness::{Caller, Faces, Incoming, Left, Speaks, millis, seconds};

/// Fields by name, the values of each in order.
pub(super) type Fields = BTreeMap<String, Vec<String>>;

/// All that a client is told.
#[derive(Debug, Default)]
pub(super) struct Told {
    pub(super) interim: Vec<(u16, Fields)>,
    /// 0: nothing came.
    pub(super) status: u16,
    pub(super) fields: Fields,
    pub(super) body: Vec<u8>,
    pub(super) trailers: Vec<(String, String)>,
    /// The answer came to its end, as its framing has it.
    pub(super) whole: bool,
}

/// Where the gateway listens.
pub(super) struct Door {
    plain: SocketAddr,
    secure: SocketAddr,
    /// For HTTP/1.1, and for HTTP/2.
    tls: [TlsConnector; 2],
}

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// How long a client stays that leaves: until everybody else has what it sent.
const BEFORE_IT_LEAVES: std::time::Duration = millis(200);

/// How long a client of HTTP/1.1 stays when it has the whole length: until the gateway has the end that a stream says behind
/// it. One that closes before counts as one that left.
const BEHIND_THE_LENGTH: std::time::Duration = millis(100);

const PATIENCE: std::time::Duration = seconds(20);

impl Door {
    pub(super) fn new(plain: SocketAddr, secure: SocketAddr) -> Self {
        let connector = |protocol: &[u8]| {
            let mut roots = RootCertStore::empty();
            let ca = CertificateDer::from_pem_slice(Faces::ca().as_bytes()).unwrap();
            roots.add(ca).unwrap();
            let provider = Arc::new(aws_lc_rs::default_provider());
            let mut config = ClientConfig::builder_with_provider(provider)
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_root_certificates(roots)
                .with_no_client_auth();
            config.alpn_protocols = vec![protocol.to_vec()];
            TlsConnector::from(Arc::new(config))
        };
        Self {
            plain,
            secure,
            tls: [connector(b"http/1.1"), connector(b"h2")],
        }
    }

    async fn connect(&self, caller: Caller) -> io::Result<Box<dyn Stream>> {
        if !caller.tls {
            let stream = TcpStream::connect(self.plain).await?;
            stream.set_nodelay(true)?;
            return Ok(Box::new(stream));
        }
        let stream = TcpStream::connect(self.secure).await?;
        stream.set_nodelay(true)?;
        let name = ServerName::try_from("face.internal").unwrap();
        let tls = &self.tls[usize::from(caller.speaks == Speaks::Http2)];
        Ok(Box::new(tls.connect(name, stream).await?))
    }

    /// Asks once for this path.
    pub(super) async fn ask(&self, caller: Caller, ask: &Ask, path: &str, trace: &str) -> Told {
        let Ok(stream) = self.connect(caller).await else {
            return Told::default();
        };
        let target = format!("{path}{}", ask.query);
        let mut told = Told::default();
        let asked = async {
            match caller.speaks {
                Speaks::Http1 => over_http1(stream, ask, &target, trace, &mut told).await,
                Speaks::Http2 => over_http2(stream, ask, &target, trace, &mut told).await,
            }
        };
        let in_time = tokio::time::timeout(PATIENCE, asked).await;
        assert!(in_time.is_ok(), "{path}: no end in {PATIENCE:?}");
        told
    }
}

/// Reads an answer while the request is sent. The client may leave in either.
async fn both<W, R>(send: W, read: R)
where
    W: Future<Output = bool>,
    R: Future<Output = ()>,
{
    let mut read = pin!(read);
    tokio::select! {
        biased;
        () = &mut read => {}
        stays = send => if stays { read.await },
    }
}

/// The pieces that a body is sent in.
fn pieces(ask: &Ask) -> impl Iterator<Item = (usize, &[u8])> {
    ask.body.chunks(ask.piece.min(1 << 20)).enumerate()
}

/// What a client does before it sends its body; `false` when it leaves.
async fn before_body(ask: &Ask, asked: &Notify) -> bool {
    if ask.leaves == Leaves::BeforeBody {
        tokio::time::sleep(BEFORE_IT_LEAVES).await;
        return false;
    }
    if ask.expects {
        let _ = tokio::time::timeout(seconds(3), asked.notified()).await;
    }
    true
}

async fn before_piece(ask: &Ask, index: usize) -> bool {
    if ask.pauses[0] > 0 && index > 0 {
        tokio::time::sleep(millis(ask.pauses[0])).await;
    }
    if ask.leaves == Leaves::WithinBody && index >= 3 {
        tokio::time::sleep(BEFORE_IT_LEAVES).await;
        return false;
    }
    true
}

async fn behind_body(ask: &Ask) -> bool {
    if ask.leaves == Leaves::BeforeAnswer {
        tokio::time::sleep(BEFORE_IT_LEAVES).await;
        return false;
    }
    true
}

// ---- HTTP/1.1 ----------------------------------------------------------------------------------

async fn over_http1(
    stream: Box<dyn Stream>,
    ask: &Ask,
    target: &str,
    trace: &str,
    told: &mut Told,
) {
    let (from, mut to) = tokio::io::split(stream);
    let asked = Notify::new();
    let send = async { send_http1(&mut to, ask, target, trace, &asked).await };
    let read = async { drop(read_http1(Incoming::new(from), ask, told, &asked).await) };
    both(send, read).await;
    if told.whole && ask.leaves == Leaves::Never {
        tokio::time::sleep(BEHIND_THE_LENGTH).await;
    }
}

/// Sends the request; `false` when the client leaves. What cannot be sent may have been answered.
async fn send_http1(
    to: &mut (impl AsyncWrite + Unpin),
    ask: &Ask,
    target: &str,
    trace: &str,
    asked: &Notify,
) -> bool {
    let mut head = format!("{} {target} HTTP/1.1\r\nHost: gateway.test\r\n", ask.method);
    head += &format!("X-Trace-ID: {trace}\r\n");
    for (name, value) in &ask.fields {
        head += &format!("{name}: {value}\r\n");
    }
    match ask.framed {
        Framed::Without => {}
        Framed::Length => head += &format!("Content-Length: {}\r\n", ask.body.len()),
        Framed::Chunked => head += "Transfer-Encoding: chunked\r\n",
    }
    if !put(to, (head + "\r\n").as_bytes()).await || ask.framed == Framed::Without {
        return behind_body(ask).await;
    }
    if !before_body(ask, asked).await {
        return false;
    }
    for (index, piece) in pieces(ask) {
        if !before_piece(ask, index).await {
            return false;
        }
        let framed = match ask.framed {
            Framed::Chunked => {
                let size = format!("{:x}\r\n", piece.len());
                [size.as_bytes(), piece, b"\r\n"].concat()
            }
            _ => piece.to_vec(),
        };
        if !put(to, &framed).await {
            return true;
        }
    }
    if ask.framed == Framed::Chunked {
        let trailer = if ask.trailer { "x-sum: 7\r\n" } else { "" };
        put(to, format!("0\r\n{trailer}\r\n").as_bytes()).await;
    }
    behind_body(ask).await
}

async fn put(to: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) -> bool {
    to.write_all(bytes).await.is_ok() && to.flush().await.is_ok()
}

async fn read_http1(
    mut incoming: Incoming<impl AsyncRead + Unpin>,
    ask: &Ask,
    told: &mut Told,
    asked: &Notify,
) -> io::Result<()> {
    let head = loop {
        let Some(head) = incoming.head().await? else {
            return Ok(());
        };
        let status = head.line.split(' ').nth(1);
        let status: u16 = status.and_then(|text| text.parse().ok()).unwrap_or(0);
        let mut fields = Fields::new();
        for (name, value) in &head.headers {
            let name = name.to_ascii_lowercase();
            fields.entry(name).or_default().push(value.clone());
        }
        if !(100..200).contains(&status) {
            (told.status, told.fields) = (status, fields);
            break head;
        }
        if status == 100 {
            asked.notify_one();
        }
        told.interim.push((status, fields));
    };
    let mut left = Left::of_answer(&head, ask.method);
    while let Some(piece) = incoming.piece(&mut left).await? {
        told.body.extend_from_slice(&piece);
        if ask.leaves == Leaves::WithinAnswer {
            return Ok(());
        }
        if ask.pauses[1] > 0 {
            tokio::time::sleep(millis(ask.pauses[1])).await;
        }
    }
    told.trailers = std::mem::take(&mut incoming.trailers);
    told.whole = true;
    Ok(())
}

// ---- HTTP/2 ------------------------------------------------------------------------------------

async fn over_http2(
    stream: Box<dyn Stream>,
    ask: &Ask,
    target: &str,
    trace: &str,
    told: &mut Told,
) {
    let mut settings = h2::client::Builder::new();
    settings
        .initial_window_size(1 << 17)
        .data_frame_budget(1 << 20)
        .max_header_list_size(1 << 20);
    let Ok((requests, connection)) = settings.handshake::<_, Bytes>(stream).await else {
        return;
    };
    let connection = tokio::spawn(connection);
    let mut request = Request::builder()
        .method(ask.method)
        .uri(format!("http://gateway.test{target}"))
        .header("x-trace-id", trace);
    for (name, value) in &ask.fields {
        request = request.header(*name, value);
    }
    if ask.framed == Framed::Length {
        request = request.header("content-length", ask.body.len());
    }
    let ended = ask.framed == Framed::Without;
    let Ok(mut requests) = requests.ready().await else {
        return;
    };
    let begun = requests.send_request(request.body(()).unwrap(), ended);
    if let Ok((answer, mut body)) = begun {
        let asked = Notify::new();
        let send = async {
            let stays = send_http2(&mut body, ask, ended, &asked).await;
            if !stays {
                body.send_reset(Reason::CANCEL);
            }
            stays
        };
        both(send, async {
            drop(read_http2(answer, ask, told, &asked).await);
        })
        .await;
    }
    drop(requests);
    // What was said last is to reach the gateway.
    if ask.leaves != Leaves::Never {
        tokio::time::sleep(millis(50)).await;
    }
    connection.abort();
}

async fn send_http2(body: &mut SendStream<Bytes>, ask: &Ask, ended: bool, asked: &Notify) -> bool {
    if ended {
        return behind_body(ask).await;
    }
    if !before_body(ask, asked).await {
        return false;
    }
    for (index, piece) in pieces(ask) {
        if !before_piece(ask, index).await {
            return false;
        }
        let mut piece = Bytes::copy_from_slice(piece);
        while !piece.is_empty() {
            body.reserve_capacity(piece.len());
            let Some(Ok(room)) = poll_fn(|cx| body.poll_capacity(cx)).await else {
                return true;
            };
            let next = piece.split_to(room.min(piece.len()));
            if body.send_data(next, false).is_err() {
                return true;
            }
        }
    }
    let _ = match ask.trailer {
        false => body.send_data(Bytes::new(), true),
        true => {
            let mut trailers = HeaderMap::new();
            trailers.insert("x-sum", "7".parse().unwrap());
            body.send_trailers(trailers)
        }
    };
    behind_body(ask).await
}

/// The next head: interim ones before the last.
async fn next_head(answer: &mut ResponseFuture) -> Result<Response<Option<RecvStream>>, h2::Error> {
    poll_fn(|cx| {
        if let Poll::Ready(Some(interim)) = answer.poll_informational(cx) {
            return Poll::Ready(interim.map(|head| head.map(|()| None)));
        }
        let last = Pin::new(&mut *answer).poll(cx);
        last.map_ok(|head| head.map(Some))
    })
    .await
}

async fn read_http2(
    mut answer: ResponseFuture,
    ask: &Ask,
    told: &mut Told,
    asked: &Notify,
) -> Result<(), h2::Error> {
    let mut body = loop {
        let (head, body) = next_head(&mut answer).await?.into_parts();
        let mut fields = Fields::new();
        for (name, value) in &head.headers {
            let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
            fields
                .entry(name.as_str().to_owned())
                .or_default()
                .push(value);
        }
        let status = head.status.as_u16();
        match body {
            Some(body) => {
                (told.status, told.fields) = (status, fields);
                break body;
            }
            None => {
                if status == 100 {
                    asked.notify_one();
                }
                told.interim.push((status, fields));
            }
        }
    };
    while let Some(piece) = body.data().await {
        let piece = piece?;
        let _ = body.flow_control().release_capacity(piece.len());
        told.body.extend_from_slice(&piece);
        if ask.leaves == Leaves::WithinAnswer {
            return Ok(());
        }
        if ask.pauses[1] > 0 {
            tokio::time::sleep(millis(ask.pauses[1])).await;
        }
    }
    for (name, value) in body.trailers().await?.iter().flatten() {
        let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
        told.trailers.push((name.as_str().to_owned(), value));
    }
    told.whole = true;
    Ok(())
}
