//! An accepted socket of either kind, polled alike.

use std::future::Future;
use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::BytesMut;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::server::TlsStream;

use super::peer::Certified;
use crate::filter::Scheme;
use crate::tls;

/// An accepted socket.
#[derive(Debug)]
pub enum Socket {
    /// TCP.
    Tcp(TcpStream),
    /// A Unix socket.
    Unix(UnixStream),
    /// TLS over TCP.
    Tls(Box<TlsStream<TcpStream>>),
}

impl Socket {
    /// How the client would name what it speaks.
    pub(super) fn scheme(&self) -> Scheme {
        match self {
            Self::Tls(_) => Scheme::Https,
            Self::Tcp(_) | Self::Unix(_) => Scheme::Http,
        }
    }

    /// What the client showed in the handshake, where a certificate is asked for.
    pub(super) fn certified(&self) -> Option<Arc<Certified>> {
        let Self::Tls(stream) = self else { return None };
        let session = stream.get_ref().1;
        let shown = session.peer_certificates()?.first()?;
        Some(Arc::new(Certified {
            certificate: tls::client_certificate(shown)?,
            server_name: session
                .server_name()
                .map(|name| name.trim_end_matches('.').to_ascii_lowercase().into()),
        }))
    }

    /// Lets closing tell the other side that something is missing: a reset, and over TLS no word of an end.
    pub(super) fn break_off(&self) {
        let tcp = match self {
            Self::Tcp(stream) => stream,
            Self::Tls(stream) => stream.get_ref().0,
            Self::Unix(_) => return,
        };
        let _ = SockRef::from(tcp).set_linger(Some(Duration::ZERO));
    }

    /// Whether bytes lie in the kernel at this moment, whether or not the runtime has heard of them.
    pub(super) fn something_waits(&self) -> bool {
        let mut byte = [MaybeUninit::uninit()];
        let came = match self {
            Self::Tcp(stream) => SockRef::from(stream).peek(&mut byte),
            Self::Tls(stream) => SockRef::from(stream.get_ref().0).peek(&mut byte),
            Self::Unix(stream) => SockRef::from(stream).peek(&mut byte),
        };
        came.is_ok_and(|bytes| bytes > 0)
    }

    pub(super) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Unix(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }

    /// Reads into the spare room of `buf`, of which there must be some. Abandoning the wait loses nothing.
    pub(super) fn poll_read_buf(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut BytesMut,
    ) -> Poll<io::Result<usize>> {
        match self {
            Self::Tcp(stream) => std::pin::pin!(stream.read_buf(buf)).poll(cx),
            Self::Unix(stream) => std::pin::pin!(stream.read_buf(buf)).poll(cx),
            Self::Tls(stream) => std::pin::pin!(stream.read_buf(buf)).poll(cx),
        }
    }

    pub(super) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self {
            Self::Tcp(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Unix(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    pub(super) fn poll_write_vectored(
        &mut self,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self {
            Self::Tcp(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
            Self::Unix(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
            Self::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
        }
    }

    /// Sends what TLS holds back.
    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(_) | Self::Unix(_) => Poll::Ready(Ok(())),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    pub(super) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
