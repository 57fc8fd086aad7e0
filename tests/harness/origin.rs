//! A programmable HTTP/1.1 origin: it answers by script, counts, writes down what it saw, dies and comes back.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::{Value, json};

use super::ports;
use super::wait::seconds;
use super::wire::{Body, Head, Headers, Wire, chunks, values};

/// A request as it reached an origin.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    pub(crate) origin: String,
    pub(crate) connection: usize,
    pub(crate) method: String,
    /// Exactly as on the wire.
    pub(crate) target: String,
    pub(crate) version: String,
    pub(crate) headers: Headers,
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: Headers,
    /// The head, byte by byte. Empty in an echo.
    pub(crate) raw: Vec<u8>,
}

impl Seen {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        values(&self.headers, name).first().copied()
    }

    pub(crate) fn values(&self, name: &str) -> Vec<&str> {
        values(&self.headers, name)
    }

    fn new(origin: &str, connection: usize, head: Head, body: Body) -> Self {
        let mut parts = head.line.splitn(3, ' ').map(str::to_owned);
        Self {
            origin: origin.to_owned(),
            connection,
            method: parts.next().unwrap_or_default(),
            target: parts.next().unwrap_or_default(),
            version: parts.next().unwrap_or_default(),
            headers: head.headers,
            body: body.bytes,
            trailers: body.trailers,
            raw: head.raw,
        }
    }

    fn to_echo(&self) -> Value {
        json!({
            "origin": self.origin,
            "connection": self.connection,
            "method": self.method,
            "target": self.target,
            "version": self.version,
            "headers": self.headers,
            "body": String::from_utf8_lossy(&self.body),
            "trailers": self.trailers,
        })
    }

    #[track_caller]
    pub(crate) fn from_echo(echo: &Value) -> Self {
        let text = |name: &str| {
            echo[name]
                .as_str()
                .unwrap_or_else(|| panic!("no echo: {echo}"))
                .to_owned()
        };
        let pairs = |name: &str| serde_json::from_value(echo[name].clone()).unwrap();
        Self {
            origin: text("origin"),
            connection: echo["connection"].as_u64().unwrap() as usize,
            method: text("method"),
            target: text("target"),
            version: text("version"),
            headers: pairs("headers"),
            body: text("body").into_bytes(),
            trailers: pairs("trailers"),
            raw: Vec::new(),
        }
    }
}

/// One step of an answer.
#[derive(Clone, Debug)]
enum Step {
    Write(Vec<u8>),
    Wait(Duration),
    /// Until the peer goes away.
    Hold,
    /// Sends back whatever comes, until the peer goes away.
    Echo,
    Close,
    Reset,
}

/// What an origin does with a request.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    status: u16,
    headers: Headers,
    before: Vec<Step>,
    body: Framing,
    after: Vec<Step>,
}

#[derive(Clone, Debug)]
enum Framing {
    Echo,
    Sized(Vec<u8>),
    Chunked(Vec<Vec<u8>>),
    /// `(claimed length, pieces, pause before each)`
    Trickle(usize, Vec<Vec<u8>>, Duration),
    /// No head, no body: the steps are all there is.
    Nothing,
}

impl Answer {
    /// 200 and what was seen, as JSON.
    pub(crate) fn echo() -> Self {
        Self {
            status: 200,
            headers: Vec::new(),
            before: Vec::new(),
            body: Framing::Echo,
            after: Vec::new(),
        }
    }

    pub(crate) fn status(status: u16) -> Self {
        Self {
            status,
            body: Framing::Sized(Vec::new()),
            ..Self::echo()
        }
    }

    pub(crate) fn text(body: impl AsRef<[u8]>) -> Self {
        Self {
            body: Framing::Sized(body.as_ref().to_vec()),
            ..Self::echo()
        }
    }

    pub(crate) fn chunked(pieces: &[&str]) -> Self {
        Self {
            body: Framing::Chunked(pieces.iter().map(|p| p.as_bytes().to_vec()).collect()),
            ..Self::echo()
        }
    }

    /// `count` pieces of ten bytes, with a pause before each.
    pub(crate) fn trickle(count: usize, pause: Duration) -> Self {
        Self {
            body: Framing::Trickle(count * 10, vec![vec![b'.'; 10]; count], pause),
            ..Self::echo()
        }
    }

    /// These bytes and nothing else, then the end of the connection.
    pub(crate) fn raw(bytes: impl AsRef<[u8]>) -> Self {
        Self::steps(vec![Step::Write(bytes.as_ref().to_vec()), Step::Close])
    }

    /// These bytes; the connection stays open and silent.
    pub(crate) fn raw_then_silence(bytes: impl AsRef<[u8]>) -> Self {
        Self::steps(vec![Step::Write(bytes.as_ref().to_vec()), Step::Hold])
    }

    pub(crate) fn silence() -> Self {
        Self::steps(vec![Step::Hold])
    }

    pub(crate) fn close() -> Self {
        Self::steps(vec![Step::Close])
    }

    pub(crate) fn reset() -> Self {
        Self::steps(vec![Step::Reset])
    }

    /// Half of the promised body, then a reset.
    pub(crate) fn broken_off() -> Self {
        let head = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n".to_vec();
        Self::steps(vec![
            Step::Write(head),
            Step::Write(vec![b'x'; 50]),
            Step::Wait(Duration::from_millis(50)),
            Step::Reset,
        ])
    }

    /// 101, then every byte comes back.
    pub(crate) fn switch_and_echo(extra: &str) -> Self {
        let head = format!(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n{extra}\r\n"
        );
        Self::steps(vec![Step::Write(head.into_bytes()), Step::Echo])
    }

    fn steps(steps: Vec<Step>) -> Self {
        Self {
            before: steps,
            body: Framing::Nothing,
            ..Self::echo()
        }
    }

    pub(crate) fn but_status(mut self, status: u16) -> Self {
        self.status = status;
        self
    }

    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(crate) fn after(mut self, delay: Duration) -> Self {
        self.before.insert(0, Step::Wait(delay));
        self
    }

    pub(crate) fn then_close(mut self) -> Self {
        self.after.push(Step::Close);
        self
    }

    fn into_steps(self, seen: &Seen) -> Vec<Step> {
        let mut steps = self.before;
        let (framing, pieces, pause) = match self.body {
            Framing::Nothing => return steps,
            Framing::Echo => {
                let body = seen.to_echo().to_string().into_bytes();
                (format!("Content-Length: {}", body.len()), vec![body], None)
            }
            Framing::Sized(body) => (format!("Content-Length: {}", body.len()), vec![body], None),
            Framing::Chunked(pieces) => (
                "Transfer-Encoding: chunked".to_owned(),
                vec![chunks(&pieces)],
                None,
            ),
            Framing::Trickle(length, pieces, pause) => {
                (format!("Content-Length: {length}"), pieces, Some(pause))
            }
        };
        let mut head = format!(
            "HTTP/1.1 {} Whatever\r\nX-Origin: {}\r\n",
            self.status, seen.origin
        );
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        if self.status != 204 && self.status != 304 {
            head.push_str(&framing);
            head.push_str("\r\n");
        }
        head.push_str("\r\n");
        let mut head = head.into_bytes();
        let pieces = if seen.method == "HEAD" {
            Vec::new()
        } else {
            pieces
        };
        if pause.is_none() {
            // In one piece: an origin that is killed has answered or it has not.
            head.extend(pieces.concat());
            steps.push(Step::Write(head));
        } else {
            steps.push(Step::Write(head));
            for piece in pieces {
                steps.extend(pause.map(Step::Wait));
                steps.push(Step::Write(piece));
            }
        }
        steps.extend(self.after);
        steps
    }
}

type Script = Box<dyn Fn(&Seen) -> Answer + Send + Sync>;

struct Shared {
    name: String,
    script: Script,
    seen: Mutex<Vec<Seen>>,
    bytes: Arc<Mutex<Vec<u8>>>,
    /// Nothing of what comes is kept.
    forgets: bool,
    accepted: AtomicUsize,
    open: AtomicUsize,
    up: AtomicBool,
    streams: Mutex<Vec<Weak<TcpStream>>>,
}

/// A running origin.
pub(crate) struct Origin {
    address: SocketAddr,
    shared: Arc<Shared>,
    acceptor: Mutex<Option<JoinHandle<()>>>,
}

impl Origin {
    /// An origin called `origin` that echoes.
    pub(crate) fn start() -> Self {
        Self::named("origin")
    }

    /// An origin that echoes and says `X-Origin: name`.
    pub(crate) fn named(name: &str) -> Self {
        Self::scripted(name, |_| Answer::echo())
    }

    pub(crate) fn answering(script: impl Fn(&Seen) -> Answer + Send + Sync + 'static) -> Self {
        Self::scripted("origin", script)
    }

    pub(crate) fn scripted(
        name: &str,
        script: impl Fn(&Seen) -> Answer + Send + Sync + 'static,
    ) -> Self {
        Self::new(name, script, false)
    }

    /// One that answers and keeps nothing of what it saw, for more than fits into memory.
    pub(crate) fn forgetful(script: impl Fn(&Seen) -> Answer + Send + Sync + 'static) -> Self {
        Self::new("origin", script, true)
    }

    fn new(
        name: &str,
        script: impl Fn(&Seen) -> Answer + Send + Sync + 'static,
        forgets: bool,
    ) -> Self {
        let shared = Shared {
            name: name.to_owned(),
            script: Box::new(script),
            seen: Mutex::default(),
            bytes: Arc::default(),
            forgets,
            accepted: AtomicUsize::new(0),
            open: AtomicUsize::new(0),
            up: AtomicBool::new(false),
            streams: Mutex::default(),
        };
        let origin = Self {
            address: ports::reserve(),
            shared: Arc::new(shared),
            acceptor: Mutex::new(None),
        };
        origin.revive();
        origin
    }

    pub(crate) fn name(&self) -> &str {
        &self.shared.name
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.shared.seen.lock().unwrap().clone()
    }

    pub(crate) fn last(&self) -> Seen {
        self.shared
            .seen
            .lock()
            .unwrap()
            .last()
            .expect("the origin saw a request")
            .clone()
    }

    /// Requests seen so far.
    pub(crate) fn count(&self) -> usize {
        self.shared.seen.lock().unwrap().len()
    }

    pub(crate) fn count_of(&self, wanted: impl Fn(&Seen) -> bool) -> usize {
        self.shared
            .seen
            .lock()
            .unwrap()
            .iter()
            .filter(|s| wanted(s))
            .count()
    }

    /// Every byte that ever arrived, over all connections.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.shared.bytes.lock().unwrap().clone()
    }

    /// Connections accepted so far.
    pub(crate) fn connections(&self) -> usize {
        self.shared.accepted.load(Ordering::SeqCst)
    }

    /// Connections open now.
    pub(crate) fn open(&self) -> usize {
        self.shared.open.load(Ordering::SeqCst)
    }

    /// Stops listening and breaks every connection: the process is gone.
    pub(crate) fn kill(&self) {
        // A panic while the lock was held has been told already; one more, in a drop, would end every test.
        let mut acceptor = self.acceptor.lock().unwrap_or_else(|e| e.into_inner());
        let Some(acceptor) = acceptor.take() else {
            return;
        };
        self.shared.up.store(false, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
        acceptor.join().unwrap();
        for stream in self
            .shared
            .streams
            .lock()
            .unwrap()
            .drain(..)
            .filter_map(|s| s.upgrade())
        {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// Listens again, on the same port.
    pub(crate) fn revive(&self) {
        let mut acceptor = self.acceptor.lock().unwrap();
        if acceptor.is_some() {
            return;
        }
        let listener = ports::listen(self.address);
        self.shared.up.store(true, Ordering::SeqCst);
        let shared = Arc::clone(&self.shared);
        *acceptor = Some(std::thread::spawn(move || shared.accept(&listener)));
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Shared {
    fn accept(self: Arc<Self>, listener: &TcpListener) {
        for stream in listener.incoming() {
            if !self.up.load(Ordering::SeqCst) {
                return;
            }
            let Ok(stream) = stream else { continue };
            let _ = stream.set_nodelay(true);
            let stream = Arc::new(stream);
            {
                let mut streams = self.streams.lock().unwrap();
                streams.retain(|s| s.strong_count() > 0);
                streams.push(Arc::downgrade(&stream));
            }
            let id = self.accepted.fetch_add(1, Ordering::SeqCst);
            let shared = Arc::clone(&self);
            shared.open.fetch_add(1, Ordering::SeqCst);
            std::thread::spawn(move || {
                shared.serve(id, &stream);
                shared.open.fetch_sub(1, Ordering::SeqCst);
            });
        }
    }

    fn serve(&self, id: usize, stream: &Arc<TcpStream>) {
        let mut wire = Wire::new(Arc::clone(stream));
        if !self.forgets {
            wire = wire.recorded(Arc::clone(&self.bytes));
        }
        while let Ok(Some(head)) = wire.head() {
            if head.has_token("expect", "100-continue") {
                let _ = (&**stream).write_all(b"HTTP/1.1 100 Continue\r\n\r\n");
            }
            let body = match head.has_token("transfer-encoding", "chunked") {
                true => wire.chunked(),
                false => wire.sized(head.content_length().unwrap_or(0)),
            };
            let Ok(body) = body else { return };
            if !body.complete {
                return;
            }
            let seen = Seen::new(&self.name, id, head, body);
            if !self.forgets {
                self.seen.lock().unwrap().push(seen.clone());
            }
            for step in (self.script)(&seen).into_steps(&seen) {
                if !perform(step, stream, &self.bytes) {
                    return;
                }
            }
        }
    }
}

/// Does one step; `false` when it was the connection's last. What is echoed is written down in `seen`.
fn perform(step: Step, mut stream: &TcpStream, seen: &Mutex<Vec<u8>>) -> bool {
    match step {
        Step::Write(bytes) => stream.write_all(&bytes).is_ok(),
        Step::Wait(span) => {
            std::thread::sleep(span);
            true
        }
        Step::Hold => {
            let _ = stream.set_read_timeout(Some(seconds(60)));
            let mut piece = [0; 1024];
            while matches!(stream.read(&mut piece), Ok(n) if n > 0) {}
            false
        }
        Step::Echo => {
            let mut piece = [0; 16 * 1024];
            while let Ok(n @ 1..) = stream.read(&mut piece) {
                seen.lock().unwrap().extend_from_slice(&piece[..n]);
                if stream.write_all(&piece[..n]).is_err() {
                    break;
                }
            }
            false
        }
        Step::Close => {
            let _ = stream.shutdown(Shutdown::Both);
            false
        }
        Step::Reset => {
            let _ = socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO));
            false
        }
    }
}
