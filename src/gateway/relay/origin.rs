//! A connection to an endpoint.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::BytesMut;
use pingora::{Error, ErrorType};
use tokio::io::{AsyncReadExt, AsyncWrite};
use tokio::net::TcpStream;

/// A connection to an endpoint, and what was read from it but not passed on.
pub(super) struct Origin {
    socket: TcpStream,
    pub(super) incoming: BytesMut,
    reused: bool,
    /// Something came from it during this exchange.
    heard: bool,
}

/// Bytes read at a time: of a head with a short body, and of a long body.
const READ: usize = 4096;
const READ_BODY: usize = 64 << 10;

impl Origin {
    /// One that was kept.
    pub(super) fn kept(socket: TcpStream) -> Self {
        Self::new(socket, true)
    }

    /// Opens a new one.
    pub(super) async fn connect(address: SocketAddr, within: Duration) -> Result<Self, Box<Error>> {
        let connecting = tokio::time::timeout(within, TcpStream::connect(address));
        let failed = |kind, why| Err(Error::explain(kind, why).into_up());
        match connecting.await {
            Ok(Ok(socket)) => {
                let _ = socket.set_nodelay(true);
                Ok(Self::new(socket, false))
            }
            Ok(Err(error)) => match error.kind() {
                io::ErrorKind::ConnectionRefused => {
                    failed(ErrorType::ConnectRefused, "the connection was refused")
                }
                io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => {
                    failed(ErrorType::ConnectNoRoute, "there is no way to the endpoint")
                }
                _ => Err(Error::because(ErrorType::ConnectError, "connecting", error).into_up()),
            },
            Err(_) => failed(ErrorType::ConnectTimedout, "connecting took too long"),
        }
    }

    fn new(socket: TcpStream, reused: bool) -> Self {
        Self {
            socket,
            incoming: BytesMut::new(),
            reused,
            heard: false,
        }
    }

    /// Whether it served a request before.
    pub(super) fn reused(&self) -> bool {
        self.reused
    }

    /// Whether it was kept from before and nothing came from it: closing then tells nothing about the endpoint.
    pub(super) fn stale(&self) -> bool {
        self.reused && !self.heard
    }

    /// Gives the connection back to be kept, unless bytes are left that nobody asked for.
    pub(super) fn into_socket(self) -> Option<TcpStream> {
        self.incoming.is_empty().then_some(self.socket)
    }

    /// Reads more; `expected` is how much there is to come, as far as it is known.
    pub(super) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        expected: u64,
    ) -> Poll<io::Result<usize>> {
        let expected = usize::try_from(expected).unwrap_or(READ_BODY);
        self.incoming.reserve(expected.clamp(READ, READ_BODY));
        let read = std::pin::pin!(self.socket.read_buf(&mut self.incoming)).poll(cx);
        self.heard |= matches!(read, Poll::Ready(Ok(1..)));
        read
    }

    /// Writes from pieces that follow each other.
    pub(super) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        pieces: [&[u8]; 3],
    ) -> Poll<io::Result<usize>> {
        let socket = Pin::new(&mut self.socket);
        match pieces {
            [only, [], []] => socket.poll_write(cx, only),
            pieces => socket.poll_write_vectored(cx, &pieces.map(io::IoSlice::new)),
        }
    }
}
