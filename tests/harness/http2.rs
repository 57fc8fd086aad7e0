//! Clients of HTTP/2: one that keeps the rules, and one that sends the frames it is told to.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use h2::client::SendRequest;
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, Request};
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

use super::wait::seconds;

/// Longer than any timeout a test sets up.
const PATIENCE: Duration = seconds(20);

/// A connection of a client that keeps the rules.
pub(crate) struct Http2 {
    runtime: Runtime,
    requests: SendRequest<Bytes>,
    connection: JoinHandle<Result<(), h2::Error>>,
}

/// An answer, as far as it came.
#[derive(Debug)]
pub(crate) struct Answered {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: Option<HeaderMap>,
    /// How the stream ended, if not well.
    pub(crate) reset: Option<Reason>,
}

impl Answered {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    #[track_caller]
    pub(crate) fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{self:?}");
        assert_eq!(self.reset, None, "{self:?}");
        self
    }

    #[track_caller]
    pub(crate) fn refused(self, status: u16, code: &str) {
        let answered = self.expect(status);
        let problem: serde_json::Value = serde_json::from_slice(&answered.body).unwrap();
        assert_eq!(problem["code"], code, "{problem}");
    }
}

/// A request under way.
pub(crate) struct Asked<'c> {
    runtime: &'c Runtime,
    answer: JoinHandle<Result<Answered, h2::Error>>,
    /// How long the client waits before it lets more of the answer come.
    pause: Arc<AtomicU64>,
    pub(crate) body: SendStream<Bytes>,
}

impl Asked<'_> {
    /// Waits for the answer; an error is the connection's, or a stream that was reset before its answer began.
    pub(crate) fn wait(self) -> Result<Answered, h2::Error> {
        let answer = self.answer;
        // The timer belongs to the runtime: made within it.
        self.runtime
            .block_on(async { tokio::time::timeout(PATIENCE, answer).await })
            .expect("an answer in time")
            .expect("no panic")
    }

    /// The same for a client that pauses after each piece of the answer; an error is the stream's.
    pub(crate) fn wait_slowly(self, pause: Duration) -> Answered {
        self.pause
            .store(pause.as_millis() as u64, Ordering::Relaxed);
        self.wait().expect("an answer")
    }

    /// Whether there is nothing more to wait for.
    pub(crate) fn is_over(&self) -> bool {
        self.answer.is_finished()
    }

    pub(crate) fn reset(mut self) {
        self.body.send_reset(Reason::CANCEL);
    }
}

impl Http2 {
    pub(crate) fn connect(address: SocketAddr) -> Self {
        Self::with(
            address,
            h2::client::Builder::new().initial_window_size(1 << 20),
        )
    }

    /// Connects with settings of its own.
    pub(crate) fn with(address: SocketAddr, settings: &h2::client::Builder) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let (requests, connection) = runtime.block_on(async {
            let socket = tokio::net::TcpStream::connect(address).await.unwrap();
            socket.set_nodelay(true).unwrap();
            let (requests, connection) = settings.handshake(socket).await.unwrap();
            (requests, tokio::spawn(connection))
        });
        Self {
            runtime,
            requests,
            connection,
        }
    }

    /// Begins a request; with `more` its body follows.
    pub(crate) fn begin(&self, request: Request<()>, more: bool) -> Asked<'_> {
        self.try_begin(request, more).expect("a connection")
    }

    /// The same on a connection that may take no more requests.
    fn try_begin(&self, request: Request<()>, more: bool) -> Result<Asked<'_>, h2::Error> {
        let mut requests = self.requests.clone();
        let (answer, body) = self.runtime.block_on(async {
            let ready = std::future::poll_fn(|cx| requests.poll_ready(cx));
            tokio::time::timeout(PATIENCE, ready)
                .await
                .expect("ready in time")?;
            requests.send_request(request, !more)
        })?;
        let pause = Arc::new(AtomicU64::new(0));
        let pausing = Arc::clone(&pause);
        let answer = self.runtime.spawn(async move {
            let (parts, body) = answer.await?.into_parts();
            let mut answered = Answered {
                status: parts.status.as_u16(),
                headers: parts.headers,
                body: Vec::new(),
                trailers: None,
                reset: None,
            };
            if let Err(error) = read(body, &mut answered, &pausing).await {
                answered.reset = Some(error.reason().unwrap_or(Reason::CONNECT_ERROR));
            }
            Ok(answered)
        });
        Ok(Asked {
            runtime: &self.runtime,
            answer,
            pause,
            body,
        })
    }

    /// Sends a request without a body and waits for its answer.
    pub(crate) fn get(&self, path: &str) -> Answered {
        self.send(asking("GET", path), None)
    }

    /// Sends a request and waits for its answer.
    pub(crate) fn send(&self, request: http::request::Builder, body: Option<&[u8]>) -> Answered {
        self.try_send(request, body).expect("an answer")
    }

    pub(crate) fn try_send(
        &self,
        request: http::request::Builder,
        body: Option<&[u8]>,
    ) -> Result<Answered, h2::Error> {
        let mut asked = self.try_begin(request.body(()).unwrap(), body.is_some())?;
        if let Some(body) = body {
            // The library holds back what the windows are not open for. A stream that was refused takes no more.
            let _ = asked.body.send_data(Bytes::copy_from_slice(body), true);
        }
        asked.wait()
    }

    /// Waits for the end of the connection.
    pub(crate) fn wait_closed(self, within: Duration) -> bool {
        let Self {
            runtime,
            requests,
            connection,
        } = self;
        drop(requests);
        runtime.block_on(async { tokio::time::timeout(within, connection).await.is_ok() })
    }

    /// Whether the connection is over.
    pub(crate) fn is_closed(&self) -> bool {
        self.connection.is_finished()
    }
}

async fn read(
    mut body: RecvStream,
    answered: &mut Answered,
    pause: &AtomicU64,
) -> Result<(), h2::Error> {
    while let Some(piece) = body.data().await {
        let piece = piece?;
        let pause = pause.load(Ordering::Relaxed);
        if pause > 0 {
            tokio::time::sleep(Duration::from_millis(pause)).await;
        }
        let _ = body.flow_control().release_capacity(piece.len());
        answered.body.extend_from_slice(&piece);
    }
    answered.trailers = body.trailers().await?;
    Ok(())
}

/// A request to the gateway.
pub(crate) fn asking(method: &str, path: &str) -> http::request::Builder {
    Request::builder()
        .method(method)
        .uri(format!("http://gateway.test{path}"))
}

/// Kinds of frames (RFC 9113 §6).
pub(crate) mod kind {
    pub(crate) const DATA: u8 = 0;
    pub(crate) const HEADERS: u8 = 1;
    pub(crate) const PRIORITY: u8 = 2;
    pub(crate) const RST_STREAM: u8 = 3;
    pub(crate) const SETTINGS: u8 = 4;
    pub(crate) const PUSH_PROMISE: u8 = 5;
    pub(crate) const PING: u8 = 6;
    pub(crate) const GOAWAY: u8 = 7;
    pub(crate) const WINDOW_UPDATE: u8 = 8;
    pub(crate) const CONTINUATION: u8 = 9;
}

pub(crate) const END_STREAM: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;

/// A frame that came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
    pub(crate) payload: Vec<u8>,
}

/// What became of a connection or a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// The connection ended, with this error if one was named.
    Connection(Option<u32>),
    /// The stream was reset.
    Stream(u32, u32),
    /// The stream was answered.
    Answer(u32),
    /// Nothing came.
    Nothing,
}

/// A connection that sends the frames it is told to.
pub(crate) struct Frames {
    stream: TcpStream,
}

impl Frames {
    /// Connects and says nothing.
    pub(crate) fn silent(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(seconds(5))).unwrap();
        stream.set_write_timeout(Some(seconds(5))).unwrap();
        Self { stream }
    }

    /// Connects and opens the connection.
    pub(crate) fn open(address: SocketAddr) -> Self {
        let mut frames = Self::silent(address);
        frames.raw(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
        frames.send(kind::SETTINGS, 0, 0, &[]);
        frames
    }

    /// Sends bytes; `false` when the other side takes no more.
    pub(crate) fn raw(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).is_ok()
    }

    pub(crate) fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> bool {
        self.raw(&frame(kind, flags, stream, payload))
    }

    /// Sends a head.
    pub(crate) fn head(&mut self, stream: u32, flags: u8, fields: &[(&str, &str)]) -> bool {
        self.send(kind::HEADERS, flags, stream, &block(fields))
    }

    /// Asks for `path` on a stream.
    pub(crate) fn get(&mut self, stream: u32, path: &str) -> bool {
        self.head(stream, END_HEADERS | END_STREAM, &get(path))
    }

    /// The next frame; `None` at the end, or when none comes in time.
    pub(crate) fn read(&mut self) -> Option<Frame> {
        let mut head = [0; 9];
        self.stream.read_exact(&mut head).ok()?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let mut payload = vec![0; length];
        self.stream.read_exact(&mut payload).ok()?;
        Some(Frame {
            kind: head[3],
            flags: head[4],
            stream: u32::from_be_bytes([head[5], head[6], head[7], head[8]]) & 0x7fff_ffff,
            payload,
        })
    }

    /// Reads on, confirming settings, until something is decided.
    pub(crate) fn fate(&mut self) -> Fate {
        loop {
            let mut head = [0; 1];
            match self.stream.peek(&mut head) {
                Ok(0) => return Fate::Connection(None),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Fate::Nothing,
                Err(_) => return Fate::Connection(None),
            }
            let Some(frame) = self.read() else {
                return Fate::Connection(None);
            };
            let code = |at: usize| {
                let bytes = frame.payload.get(at..at + 4)?;
                Some(u32::from_be_bytes(bytes.try_into().ok()?))
            };
            match frame.kind {
                kind::SETTINGS if frame.flags & 1 == 0 => {
                    self.send(kind::SETTINGS, 1, 0, &[]);
                }
                kind::GOAWAY => return Fate::Connection(code(4)),
                kind::RST_STREAM => return Fate::Stream(frame.stream, code(0).unwrap_or(u32::MAX)),
                kind::HEADERS => return Fate::Answer(frame.stream),
                _ => {}
            }
        }
    }

    /// The same, past answers and resets that came in between: whether the connection ended.
    pub(crate) fn fate_after_flood(&mut self) -> Fate {
        loop {
            match self.fate() {
                Fate::Answer(_) | Fate::Stream(..) => {}
                fate => return fate,
            }
        }
    }

    /// Whether the connection still answers a PING, whatever else comes before.
    pub(crate) fn answers_ping(&mut self) -> bool {
        if !self.send(kind::PING, 0, 0, b"are you?") {
            return false;
        }
        while let Some(frame) = self.read() {
            if frame.kind == kind::PING && frame.flags & 1 == 1 && frame.payload == b"are you?" {
                return true;
            }
        }
        false
    }
}

/// A frame as bytes.
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut bytes = vec![length[1], length[2], length[3], kind, flags];
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// Fields of a request for `path`.
pub(crate) fn get(path: &str) -> [(&str, &str); 4] {
    [
        (":method", "GET"),
        (":scheme", "http"),
        (":path", path),
        (":authority", "gateway.test"),
    ]
}

/// A header block without compression (RFC 7541 §6.2.2).
pub(crate) fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, value) in fields {
        bytes.push(0);
        for text in [name, value] {
            integer(&mut bytes, text.len());
            bytes.extend(text.as_bytes());
        }
    }
    bytes
}

/// A length with a prefix of seven bits (RFC 7541 §5.1).
fn integer(bytes: &mut Vec<u8>, value: usize) {
    if value < 127 {
        bytes.push(u8::try_from(value).unwrap());
        return;
    }
    bytes.push(127);
    let mut rest = value - 127;
    while rest >= 128 {
        bytes.push(u8::try_from(rest % 128).unwrap() | 128);
        rest /= 128;
    }
    bytes.push(u8::try_from(rest).unwrap());
}
