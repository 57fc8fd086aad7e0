//! An HTTP/1.1 client that sends exactly what it is told to, also what no client should.

use std::fmt;
use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use socket2::{Domain, Socket, Type};

use super::origin::Seen;
use super::wait::seconds;
use super::wire::{Body, Head, Headers, Wire, chunks, values};

/// Longer than any timeout a test sets up: who runs into this waits for something that never comes.
const PATIENCE: Duration = seconds(20);

/// Where to send, and as whom.
#[derive(Clone)]
pub(crate) struct Client {
    to: SocketAddr,
    from: Option<IpAddr>,
    host: String,
}

impl Client {
    pub(crate) fn to(address: SocketAddr) -> Self {
        Self {
            to: address,
            from: None,
            host: "gateway.test".to_owned(),
        }
    }

    /// Asks an admin listener, which wants to be asked by its address.
    pub(crate) fn to_admin(address: SocketAddr) -> Self {
        Self::to(address).host(&address.to_string())
    }

    /// Connects from 127.0.0.`last`, another client as far as the gateway can tell.
    pub(crate) fn from(mut self, last: u8) -> Self {
        self.from = Some(IpAddr::V4(Ipv4Addr::new(127, 0, 0, last)));
        self
    }

    pub(crate) fn host(mut self, host: &str) -> Self {
        host.clone_into(&mut self.host);
        self
    }

    pub(crate) fn connect(&self) -> Connection {
        self.try_connect()
            .expect("the gateway accepts a connection")
    }

    pub(crate) fn try_connect(&self) -> io::Result<Connection> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        if let Some(from) = self.from {
            socket.bind(&SocketAddr::new(from, 0).into())?;
        }
        socket.connect_timeout(&self.to.into(), seconds(5))?;
        let stream = TcpStream::from(socket);
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Connection {
            wire: Wire::new(Arc::new(stream)),
            host: self.host.clone(),
        })
    }

    pub(crate) fn request(&self, method: &str, target: &str) -> Request<'_> {
        Request::new(Via::Client(self), method, target, &self.host)
    }

    pub(crate) fn get(&self, target: &str) -> Request<'_> {
        self.request("GET", target)
    }

    pub(crate) fn post(&self, target: &str) -> Request<'_> {
        self.request("POST", target)
    }

    /// Sends these bytes on a connection of their own, and nothing after them.
    pub(crate) fn raw(&self, bytes: impl AsRef<[u8]>) -> Outcome {
        let mut connection = self.connect();
        let _ = connection.write(bytes.as_ref());
        connection.outcome("GET")
    }
}

/// One connection, for as many requests as the gateway allows.
pub(crate) struct Connection {
    wire: Wire,
    host: String,
}

impl Connection {
    pub(crate) fn request(&mut self, method: &str, target: &str) -> Request<'_> {
        let host = self.host.clone();
        Request::new(Via::Connection(self), method, target, &host)
    }

    pub(crate) fn get(&mut self, target: &str) -> Request<'_> {
        self.request("GET", target)
    }

    pub(crate) fn post(&mut self, target: &str) -> Request<'_> {
        self.request("POST", target)
    }

    pub(crate) fn local_port(&self) -> u16 {
        self.wire.stream.local_addr().unwrap().port()
    }

    pub(crate) fn patience(&self, span: Duration) {
        self.wire.stream.set_read_timeout(Some(span)).unwrap();
    }

    pub(crate) fn write(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        (&*self.wire.stream).write_all(bytes.as_ref())
    }

    /// Ends with a reset instead of a farewell.
    pub(crate) fn abort(self) {
        let _ = socket2::SockRef::from(&*self.wire.stream).set_linger(Some(Duration::ZERO));
    }

    /// A second handle, for a thread that writes while this one reads.
    pub(crate) fn writer(&self) -> Arc<TcpStream> {
        Arc::clone(&self.wire.stream)
    }

    /// The next answer to a request of `method`.
    pub(crate) fn response(&mut self, method: &str) -> io::Result<Response> {
        let mut interim = Vec::new();
        loop {
            let head = self
                .wire
                .head()?
                .ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))?;
            let (version, status) = status_line(&head.line)?;
            if (100..200).contains(&status) && status != 101 {
                interim.push(status);
                continue;
            }
            let body = self.body(method, status, &head)?;
            return Ok(Response {
                version,
                status,
                headers: head.headers,
                body,
                interim,
            });
        }
    }

    fn body(&mut self, method: &str, status: u16, head: &Head) -> io::Result<Body> {
        if method == "HEAD" || status == 101 || status == 204 || status == 304 {
            return Ok(Body {
                complete: true,
                ..Body::default()
            });
        }
        if head.has_token("transfer-encoding", "chunked") {
            return self.wire.chunked();
        }
        match head.content_length() {
            Some(length) => self.wire.sized(length),
            None => self.wire.rest(),
        }
    }

    pub(crate) fn outcome(&mut self, method: &str) -> Outcome {
        match self.response(method) {
            Ok(response) => Outcome::Answered(response),
            Err(error) if is_timeout(&error) => Outcome::Silent,
            Err(_) => Outcome::Closed,
        }
    }

    /// Bytes as they come, for protocols beyond HTTP.
    pub(crate) fn bytes(&mut self, length: usize) -> io::Result<Vec<u8>> {
        Ok(self.wire.sized(length)?.bytes)
    }

    /// Whether the gateway closes this connection within `span`, sending nothing more.
    pub(crate) fn closes_within(&mut self, span: Duration) -> bool {
        self.patience(span);
        match self.wire.some() {
            Ok(bytes) => bytes.is_empty(),
            Err(error) => !is_timeout(&error),
        }
    }

    /// Whether it is open and silent right now.
    pub(crate) fn is_open(&mut self) -> bool {
        !self.closes_within(Duration::from_millis(1)) && self.wire.is_drained()
    }
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
    )
}

fn status_line(line: &str) -> io::Result<(String, u16)> {
    let mut parts = line.splitn(3, ' ');
    match (parts.next(), parts.next().and_then(|s| s.parse().ok())) {
        (Some(version), Some(status)) => Ok((version.to_owned(), status)),
        _ => Err(io::Error::other(format!("status line {line:?}"))),
    }
}

enum Via<'a> {
    Client(&'a Client),
    Connection(&'a mut Connection),
}

/// A request in the making.
pub(crate) struct Request<'a> {
    via: Via<'a>,
    method: String,
    target: String,
    version: &'static str,
    headers: Headers,
    body: Vec<u8>,
    patience: Option<Duration>,
}

impl<'a> Request<'a> {
    fn new(via: Via<'a>, method: &str, target: &str, host: &str) -> Self {
        Self {
            via,
            method: method.to_owned(),
            target: target.to_owned(),
            version: "HTTP/1.1",
            headers: vec![("Host".to_owned(), host.to_owned())],
            body: Vec::new(),
            patience: None,
        }
    }

    pub(crate) fn header(mut self, name: &str, value: impl fmt::Display) -> Self {
        self.headers.push((name.to_owned(), value.to_string()));
        self
    }

    pub(crate) fn headers(mut self, headers: &[(String, String)]) -> Self {
        self.headers.extend(headers.iter().cloned());
        self
    }

    /// Replaces the `Host` of the client.
    pub(crate) fn host(mut self, host: &str) -> Self {
        host.clone_into(&mut self.headers[0].1);
        self
    }

    pub(crate) fn http_1_0(mut self) -> Self {
        self.version = "HTTP/1.0";
        self
    }

    pub(crate) fn bearer(self, token: impl fmt::Display) -> Self {
        self.header("Authorization", format!("Bearer {token}"))
    }

    pub(crate) fn body(mut self, body: impl AsRef<[u8]>) -> Self {
        self.body = body.as_ref().to_vec();
        let length = self.body.len();
        self.header("Content-Length", length)
    }

    pub(crate) fn chunked<P: AsRef<[u8]>>(mut self, pieces: &[P]) -> Self {
        self.body = chunks(pieces);
        self.header("Transfer-Encoding", "chunked")
    }

    pub(crate) fn patience(mut self, span: Duration) -> Self {
        self.patience = Some(span);
        self
    }

    fn head(&self) -> Vec<u8> {
        let mut head = format!("{} {} {}\r\n", self.method, self.target, self.version);
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        head.into_bytes()
    }

    #[track_caller]
    pub(crate) fn send(self) -> Response {
        let what = format!("{} {}", self.method, self.target);
        match self.try_send() {
            Ok(response) => response,
            Err(error) => panic!("{what}: {error}"),
        }
    }

    pub(crate) fn try_send(self) -> io::Result<Response> {
        let mut bytes = self.head();
        bytes.extend(&self.body);
        let mut own;
        let connection = match self.via {
            Via::Connection(connection) => connection,
            Via::Client(client) => {
                own = client.try_connect()?;
                &mut own
            }
        };
        if let Some(span) = self.patience {
            connection.patience(span);
        }
        // A refusal may arrive while the body is still on its way; the answer counts, not the failed write.
        let written = connection.write(bytes);
        connection
            .response(&self.method)
            .map_err(|error| written.err().unwrap_or(error))
    }

    /// Writes the request on a connection of its own and leaves the answer for later.
    pub(crate) fn begin(self) -> Connection {
        let Via::Client(client) = &self.via else {
            panic!("begin needs a connection of its own")
        };
        let mut connection = client.connect();
        let mut bytes = self.head();
        bytes.extend(&self.body);
        connection.write(bytes).unwrap();
        connection
    }
}

/// What came of bytes that may not even be a request.
#[derive(Debug)]
pub(crate) enum Outcome {
    Answered(Response),
    Closed,
    /// Neither answered nor closed.
    Silent,
}

impl Outcome {
    /// The status, 0 for a connection closed without one.
    #[track_caller]
    pub(crate) fn status(&self) -> u16 {
        match self {
            Self::Answered(response) => response.status,
            Self::Closed => 0,
            Self::Silent => panic!("neither an answer nor the end of the connection"),
        }
    }
}

/// An answer, as it came.
#[derive(Clone)]
pub(crate) struct Response {
    pub(crate) version: String,
    pub(crate) status: u16,
    pub(crate) headers: Headers,
    pub(crate) body: Body,
    pub(crate) interim: Vec<u16>,
}

impl Response {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        values(&self.headers, name).first().copied()
    }

    #[track_caller]
    pub(crate) fn number(&self, name: &str) -> u64 {
        let value = self
            .header(name)
            .unwrap_or_else(|| panic!("no {name} in {self:?}"));
        value
            .parse()
            .unwrap_or_else(|_| panic!("{name}: {value} is no whole number"))
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body.bytes).into_owned()
    }

    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body.bytes)
            .unwrap_or_else(|error| panic!("{error} in {self:?}"))
    }

    /// The `code` of a problem, if this is one.
    pub(crate) fn code(&self) -> Option<String> {
        serde_json::from_slice::<Value>(&self.body.bytes)
            .ok()?
            .get("code")?
            .as_str()
            .map(str::to_owned)
    }

    /// A complete answer of this status.
    #[track_caller]
    pub(crate) fn expect(self, status: u16) -> Self {
        assert!(
            self.status == status && self.body.complete,
            "expected {status}, got {self:?}"
        );
        self
    }

    /// 200, and what an echoing origin saw of the request.
    #[track_caller]
    pub(crate) fn seen(self) -> Seen {
        Seen::from_echo(&self.expect(200).json())
    }

    /// Refused in the words of the error table.
    #[track_caller]
    pub(crate) fn refused(self, status: u16, code: &str) -> Self {
        assert!(
            self.status == status && self.code().as_deref() == Some(code),
            "expected {status} {code}, got {self:?}"
        );
        self
    }
}

impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} {}", self.version, self.status)?;
        for (name, value) in &self.headers {
            writeln!(f, "  {name}: {value}")?;
        }
        let text = self.text();
        let shown: String = text.chars().take(600).collect();
        write!(
            f,
            "  {shown}{}",
            if self.body.complete { "" } else { " (cut off)" }
        )
    }
}
