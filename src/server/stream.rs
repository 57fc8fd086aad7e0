//! Sockets that listen and sockets that were accepted, over IP or in the file system, used alike.

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;

use nix::sys::socket::{MsgFlags, recv};
use tokio::io::Interest;
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

use super::listeners::BoundSocket;
use crate::gateway::Socket;

/// A socket that listens.
pub(super) enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// An accepted socket.
pub(super) enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Listener {
    /// Takes a bound socket into the runtime of this thread.
    pub(super) fn new(socket: BoundSocket) -> io::Result<Self> {
        Ok(match socket {
            BoundSocket::Tcp(socket) => Self::Tcp(TcpListener::from_std(socket)?),
            BoundSocket::Unix(socket) => Self::Unix(UnixListener::from_std(socket)?),
        })
    }

    /// The next connection, and its address where it has one. Abandoning the wait loses nothing.
    pub(super) async fn accept(&self) -> io::Result<(Stream, Option<SocketAddr>)> {
        Ok(match self {
            Self::Tcp(listener) => {
                let (stream, address) = listener.accept().await?;
                (Stream::Tcp(stream), Some(address))
            }
            Self::Unix(listener) => (Stream::Unix(listener.accept().await?.0), None),
        })
    }
}

impl Stream {
    /// Answers are written in pieces of our own choice.
    pub(super) fn set_nodelay(&self) {
        if let Self::Tcp(stream) = self {
            let _ = stream.set_nodelay(true);
        }
    }

    /// Waits for bytes and looks at them without taking them; 0 at the end of the stream.
    pub(super) async fn peek(&self, into: &mut [u8]) -> io::Result<usize> {
        self.receive(into, MsgFlags::MSG_PEEK).await
    }

    /// Takes bytes that were seen.
    pub(super) async fn take(&self, into: &mut [u8]) -> io::Result<usize> {
        self.receive(into, MsgFlags::empty()).await
    }

    async fn receive(&self, into: &mut [u8], flags: MsgFlags) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => {
                let mut receive = || Ok(recv(stream.as_raw_fd(), into, flags)?);
                stream.async_io(Interest::READABLE, &mut receive).await
            }
            Self::Unix(stream) => {
                let mut receive = || Ok(recv(stream.as_raw_fd(), into, flags)?);
                stream.async_io(Interest::READABLE, &mut receive).await
            }
        }
    }
}

impl From<Stream> for Socket {
    fn from(stream: Stream) -> Self {
        match stream {
            Stream::Tcp(stream) => Self::Tcp(stream),
            Stream::Unix(stream) => Self::Unix(stream),
        }
    }
}
