//! HTTP/1.1 as it comes, read without blocking: by faces of origins, by the client and the origin of the differential corpus.

use std::io;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt};

use super::wire::{Head, Headers};

/// How much of a body is still to come.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Left {
    Nothing,
    Bytes(usize),
    /// So many of the chunk that began.
    Chunk(usize),
    UntilEnd,
}

impl Left {
    /// Of a request with this head.
    pub(crate) fn of_request(head: &Head) -> Self {
        match head.has_token("transfer-encoding", "chunked") {
            true => Self::Chunk(0),
            false => Self::Bytes(head.content_length().unwrap_or(0)),
        }
    }

    /// Of an answer with this head to a request with this method (RFC 9112 §6.3).
    pub(crate) fn of_answer(head: &Head, method: &str) -> Self {
        let status = head.line.split(' ').nth(1).unwrap_or_default();
        match head.content_length() {
            _ if method == "HEAD" || matches!(status, "204" | "304") => Self::Nothing,
            _ if head.has_token("transfer-encoding", "chunked") => Self::Chunk(0),
            Some(length) => Self::Bytes(length),
            None => Self::UntilEnd,
        }
    }
}

/// The reading side of a connection.
pub(crate) struct Incoming<R> {
    from: R,
    ahead: Vec<u8>,
    pub(crate) trailers: Headers,
}

fn cut() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "the stream ended too early")
}

impl<R: AsyncRead + Unpin> Incoming<R> {
    pub(crate) fn new(from: R) -> Self {
        Self {
            from,
            ahead: Vec::new(),
            trailers: Vec::new(),
        }
    }

    async fn fill(&mut self) -> io::Result<bool> {
        let mut piece = [0; 16 * 1024];
        let read = self.from.read(&mut piece).await?;
        self.ahead.extend_from_slice(&piece[..read]);
        Ok(read > 0)
    }

    /// The next head; `None` when the stream ends before one began.
    pub(crate) async fn head(&mut self) -> io::Result<Option<Head>> {
        loop {
            if let Some(end) = self.ahead.windows(4).position(|four| four == b"\r\n\r\n") {
                let raw: Vec<u8> = self.ahead.drain(..end + 4).collect();
                return Ok(Some(Head::parse(&raw)));
            }
            if !self.fill().await? {
                return match self.ahead.is_empty() {
                    true => Ok(None),
                    false => Err(cut()),
                };
            }
        }
    }

    async fn line(&mut self) -> io::Result<String> {
        loop {
            if let Some(end) = self.ahead.windows(2).position(|two| two == b"\r\n") {
                let line: Vec<u8> = self.ahead.drain(..end + 2).collect();
                return Ok(String::from_utf8_lossy(&line[..end]).into_owned());
            }
            if !self.fill().await? {
                return Err(cut());
            }
        }
    }

    async fn some(&mut self, most: usize) -> io::Result<Option<Bytes>> {
        if self.ahead.is_empty() && !self.fill().await? {
            return Ok(None);
        }
        let taken = most.min(self.ahead.len());
        Ok(Some(self.ahead.drain(..taken).collect::<Vec<_>>().into()))
    }

    /// The next piece of a body; `None` at its end, where [`Self::trailers`] are known.
    pub(crate) async fn piece(&mut self, left: &mut Left) -> io::Result<Option<Bytes>> {
        if let Left::Chunk(0) = left {
            let line = self.line().await?;
            let size = line.split(';').next().unwrap_or_default().trim();
            let size = usize::from_str_radix(size, 16).map_err(io::Error::other)?;
            *left = Left::Chunk(size);
            if size == 0 {
                self.read_trailers().await?;
                *left = Left::Nothing;
            }
        }
        match *left {
            Left::Nothing | Left::Bytes(0) => Ok(None),
            Left::UntilEnd => self.some(usize::MAX).await,
            Left::Bytes(most) => {
                let piece = self.some(most).await?.ok_or_else(cut)?;
                *left = Left::Bytes(most - piece.len());
                Ok(Some(piece))
            }
            Left::Chunk(most) => {
                let piece = self.some(most).await?.ok_or_else(cut)?;
                *left = Left::Chunk(most - piece.len());
                if most == piece.len() && !self.line().await?.is_empty() {
                    return Err(io::Error::other("a chunk is longer than it said"));
                }
                Ok(Some(piece))
            }
        }
    }

    async fn read_trailers(&mut self) -> io::Result<()> {
        loop {
            let line = self.line().await?;
            if line.is_empty() {
                return Ok(());
            }
            let (name, value) = line.split_once(':').unwrap_or((&line, ""));
            self.trailers
                .push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
    }

    /// Waits until the peer is gone.
    pub(crate) async fn gone(&mut self) {
        while let Ok(true) = self.fill().await {
            self.ahead.clear();
        }
    }
}
