//! A connection to an endpoint.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::BytesMut;
use pingora::connectors::TransportConnector;
use pingora::protocols::Stream;
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorType};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

use crate::gateway::exchange::attempts::Traffic;
use crate::primitives::address::Address;

/// What leads to an endpoint.
pub(in crate::gateway) enum Socket {
    /// TCP.
    Tcp(TcpStream),
    /// A socket in the file system.
    Unix(UnixStream),
    /// TLS, as the framework opens it.
    Tls(Stream),
}

/// A connection to an endpoint, and what was read from it but not passed on.
pub(in crate::gateway) struct Connection {
    socket: Socket,
    pub(in crate::gateway) incoming: BytesMut,
    reused: bool,
    /// Something came from it during this exchange.
    heard: bool,
    traffic: Traffic,
}

/// Bytes read at a time: of a head with a short body, and of a long body.
const READ: usize = 4096;
const READ_BODY: usize = 64 << 10;

impl Connection {
    /// One that was kept.
    pub(in crate::gateway) fn kept(socket: Socket) -> Self {
        Self::new(socket, true)
    }

    /// Opens a new one.
    pub(in crate::gateway) async fn connect(
        address: &Address,
        within: Duration,
    ) -> Result<Self, Box<Error>> {
        let connecting = async {
            Ok(match address {
                Address::Inet(address) => {
                    let socket = TcpStream::connect(address).await?;
                    let _ = socket.set_nodelay(true);
                    Socket::Tcp(socket)
                }
                Address::Unix(path) => Socket::Unix(UnixStream::connect(path).await?),
            })
        };
        let failed = |kind, why| Err(Error::explain(kind, why).into_up());
        match tokio::time::timeout(within, connecting).await {
            Ok(Ok(socket)) => Ok(Self::new(socket, false)),
            Ok(Err(error)) => {
                let error: io::Error = error;
                match error.kind() {
                    io::ErrorKind::ConnectionRefused => {
                        failed(ErrorType::ConnectRefused, "the connection was refused")
                    }
                    io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => {
                        failed(ErrorType::ConnectNoRoute, "there is no way to the endpoint")
                    }
                    _ => {
                        Err(Error::because(ErrorType::ConnectError, "connecting", error).into_up())
                    }
                }
            }
            Err(_) => failed(ErrorType::ConnectTimedout, "connecting took too long"),
        }
    }

    /// Opens a new one over TLS.
    pub(in crate::gateway) async fn connect_secure(
        connector: &TransportConnector,
        peer: &HttpPeer,
    ) -> Result<Self, Box<Error>> {
        let stream = connector.new_stream(peer).await;
        let stream = stream.map_err(Error::into_up)?;
        Ok(Self::new(Socket::Tls(stream), false))
    }

    fn new(socket: Socket, reused: bool) -> Self {
        Self {
            socket,
            incoming: BytesMut::new(),
            reused,
            heard: false,
            traffic: Traffic::default(),
        }
    }

    /// Bytes that went each way for this request, without those of TLS.
    pub(in crate::gateway) fn traffic(&self) -> Traffic {
        self.traffic
    }

    /// Whether it served a request before.
    pub(in crate::gateway) fn reused(&self) -> bool {
        self.reused
    }

    /// Whether it was kept from before and nothing came from it: closing then tells nothing about the endpoint.
    pub(in crate::gateway) fn stale(&self) -> bool {
        self.reused && !self.heard
    }

    /// Gives the connection back to be kept, unless bytes are left that nobody asked for.
    pub(in crate::gateway) fn into_socket(self) -> Option<Socket> {
        self.incoming.is_empty().then_some(self.socket)
    }

    /// Reads more; `expected` is how much there is to come, as far as it is known.
    pub(in crate::gateway) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        expected: u64,
    ) -> Poll<io::Result<usize>> {
        let expected = usize::try_from(expected).unwrap_or(READ_BODY);
        // With room to spare: a read that fills what it is given leaves the runtime to believe that more is there, and asking
        // the kernel is a call.
        let room = expected.saturating_add(1).clamp(READ, READ_BODY);
        self.incoming.reserve(room);
        let incoming = &mut self.incoming;
        let read = match &mut self.socket {
            Socket::Tcp(socket) => std::pin::pin!(socket.read_buf(incoming)).poll(cx),
            Socket::Unix(socket) => std::pin::pin!(socket.read_buf(incoming)).poll(cx),
            Socket::Tls(stream) => std::pin::pin!(stream.read_buf(incoming)).poll(cx),
        };
        if let Poll::Ready(Ok(count @ 1..)) = read {
            self.heard = true;
            self.traffic.received += count as u64;
        }
        read
    }

    /// Writes from pieces that follow each other.
    pub(in crate::gateway) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        pieces: [&[u8]; 3],
    ) -> Poll<io::Result<usize>> {
        let written = match &mut self.socket {
            Socket::Tcp(socket) => write_pieces(Pin::new(socket), cx, pieces),
            Socket::Unix(socket) => write_pieces(Pin::new(socket), cx, pieces),
            Socket::Tls(stream) => {
                // One after the other: what is encrypted is copied anyway.
                let piece = pieces.into_iter().find(|piece| !piece.is_empty());
                Pin::new(stream).poll_write(cx, piece.unwrap_or_default())
            }
        };
        if let Poll::Ready(Ok(count)) = written {
            self.traffic.sent += count as u64;
        }
        written
    }

    /// Whether what was written may be held back until it is flushed.
    pub(in crate::gateway) fn holds_back(&self) -> bool {
        matches!(self.socket, Socket::Tls(_))
    }

    /// Sends what was written and is held back.
    pub(in crate::gateway) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.socket {
            Socket::Tcp(_) | Socket::Unix(_) => Poll::Ready(Ok(())),
            Socket::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    /// Says that no more will be sent, then reads and drops what still comes until the endpoint ends, too: closing at once
    /// may take from it what it was sent last. Whoever calls bounds the time.
    pub(in crate::gateway) async fn part(&mut self) {
        let ended = match &mut self.socket {
            Socket::Tcp(socket) => socket.shutdown().await,
            Socket::Unix(socket) => socket.shutdown().await,
            Socket::Tls(stream) => stream.shutdown().await,
        };
        if ended.is_err() {
            return;
        }
        loop {
            self.incoming.clear();
            match std::future::poll_fn(|cx| self.poll_read(cx, 0)).await {
                Ok(0) | Err(_) => return,
                Ok(_) => {}
            }
        }
    }
}

fn write_pieces(
    socket: Pin<&mut impl AsyncWrite>,
    cx: &mut Context<'_>,
    pieces: [&[u8]; 3],
) -> Poll<io::Result<usize>> {
    match pieces {
        [only, [], []] => socket.poll_write(cx, only),
        pieces => socket.poll_write_vectored(cx, &pieces.map(io::IoSlice::new)),
    }
}

impl Socket {
    /// Whether nothing came: neither an end nor bytes nobody asked for. Costs no system call while the runtime has seen no
    /// event of the socket.
    pub(in crate::gateway) fn is_open(&mut self) -> bool {
        let mut byte = [0];
        match self {
            Self::Tcp(socket) => is_silent(socket.try_read(&mut byte)),
            Self::Unix(socket) => is_silent(socket.try_read(&mut byte)),
            Self::Tls(stream) => {
                // Whoever keeps it is not to be woken; what is for TLS itself is read on the way.
                let mut cx = Context::from_waker(Waker::noop());
                let mut room = ReadBuf::new(&mut byte);
                Pin::new(stream).poll_read(&mut cx, &mut room).is_pending()
            }
        }
    }
}

fn is_silent(read: io::Result<usize>) -> bool {
    matches!(read, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
}
