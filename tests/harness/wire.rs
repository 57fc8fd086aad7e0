//! HTTP/1.1 off the wire, as plain and strict as a reader can be. Client and origin share it, the gateway does not.

use std::io::{self, Read};
use std::net::TcpStream;
use std::sync::{Arc, Mutex};

/// Header lines in the order and spelling of the wire.
pub(crate) type Headers = Vec<(String, String)>;

/// The values of `name`, in any case, in order.
pub(crate) fn values<'h>(headers: &'h Headers, name: &str) -> Vec<&'h str> {
    headers
        .iter()
        .filter(|(n, _)| n.eq_ignore_ascii_case(name))
        .map(|(_, v)| v.as_str())
        .collect()
}

/// A start line with its header lines.
#[derive(Clone, Debug)]
pub(crate) struct Head {
    pub(crate) line: String,
    pub(crate) headers: Headers,
    pub(crate) raw: Vec<u8>,
}

impl Head {
    pub(crate) fn parse(raw: &[u8]) -> Self {
        let text = String::from_utf8_lossy(raw);
        let mut lines = text.split("\r\n");
        let line = lines.next().unwrap_or_default().to_owned();
        let headers = lines
            .filter(|line| !line.is_empty())
            .map(|line| line.split_once(':').unwrap_or((line, "")))
            .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
            .collect();
        Self {
            line,
            headers,
            raw: raw.to_vec(),
        }
    }

    pub(crate) fn has_token(&self, name: &str, token: &str) -> bool {
        let tokens = values(&self.headers, name);
        tokens
            .iter()
            .flat_map(|v| v.split(','))
            .any(|t| t.trim().eq_ignore_ascii_case(token))
    }

    pub(crate) fn content_length(&self) -> Option<usize> {
        values(&self.headers, "content-length")
            .first()
            .and_then(|v| v.parse().ok())
    }
}

/// A message body as it came.
#[derive(Clone, Debug, Default)]
pub(crate) struct Body {
    pub(crate) bytes: Vec<u8>,
    pub(crate) trailers: Headers,
    /// Whether the framing was carried through to its end.
    pub(crate) complete: bool,
}

/// One end of a connection, with what was read ahead.
pub(crate) struct Wire {
    pub(crate) stream: Arc<TcpStream>,
    ahead: Vec<u8>,
    /// Where every byte read is written down.
    record: Option<Arc<Mutex<Vec<u8>>>>,
}

impl Wire {
    pub(crate) fn new(stream: Arc<TcpStream>) -> Self {
        Self {
            stream,
            ahead: Vec::new(),
            record: None,
        }
    }

    pub(crate) fn recorded(mut self, record: Arc<Mutex<Vec<u8>>>) -> Self {
        self.record = Some(record);
        self
    }

    /// Reads some more; `false` at the end of the stream.
    fn fill(&mut self) -> io::Result<bool> {
        let mut piece = [0; 16 * 1024];
        let n = (&*self.stream).read(&mut piece)?;
        self.ahead.extend_from_slice(&piece[..n]);
        if let Some(record) = &self.record {
            record.lock().unwrap().extend_from_slice(&piece[..n]);
        }
        Ok(n > 0)
    }

    /// The next head, or `None` when the stream ends before one began.
    pub(crate) fn head(&mut self) -> io::Result<Option<Head>> {
        loop {
            if let Some(end) = self.ahead.windows(4).position(|w| w == b"\r\n\r\n") {
                let raw: Vec<u8> = self.ahead.drain(..end + 4).collect();
                return Ok(Some(Head::parse(&raw)));
            }
            if !self.fill()? {
                return match self.ahead.is_empty() {
                    true => Ok(None),
                    false => Err(io::Error::new(
                        io::ErrorKind::UnexpectedEof,
                        "the stream ended within a head",
                    )),
                };
            }
        }
    }

    pub(crate) fn sized(&mut self, length: usize) -> io::Result<Body> {
        while self.ahead.len() < length && self.fill()? {}
        let n = length.min(self.ahead.len());
        Ok(Body {
            bytes: self.ahead.drain(..n).collect(),
            trailers: Vec::new(),
            complete: n == length,
        })
    }

    pub(crate) fn rest(&mut self) -> io::Result<Body> {
        while self.fill()? {}
        Ok(Body {
            bytes: std::mem::take(&mut self.ahead),
            trailers: Vec::new(),
            complete: true,
        })
    }

    /// Whatever the peer sends up to `length` bytes: one read, unless something was read ahead.
    pub(crate) fn some(&mut self) -> io::Result<Vec<u8>> {
        if self.ahead.is_empty() {
            self.fill()?;
        }
        Ok(std::mem::take(&mut self.ahead))
    }

    fn line(&mut self) -> io::Result<Option<String>> {
        loop {
            if let Some(end) = self.ahead.windows(2).position(|w| w == b"\r\n") {
                let line: Vec<u8> = self.ahead.drain(..end + 2).collect();
                return Ok(Some(String::from_utf8_lossy(&line[..end]).into_owned()));
            }
            if !self.fill()? {
                return Ok(None);
            }
        }
    }

    pub(crate) fn chunked(&mut self) -> io::Result<Body> {
        let mut body = Body::default();
        loop {
            let Some(line) = self.line()? else {
                return Ok(body);
            };
            let size = line.split(';').next().unwrap_or_default();
            let size = usize::from_str_radix(size, 16)
                .map_err(|_| io::Error::other(format!("chunk size {line:?}")))?;
            if size == 0 {
                break;
            }
            let piece = self.sized(size)?;
            body.bytes.extend(piece.bytes);
            if !piece.complete || self.line()?.is_none() {
                return Ok(body);
            }
        }
        loop {
            match self.line()? {
                None => return Ok(body),
                Some(line) if line.is_empty() => break,
                Some(line) => {
                    let (name, value) = line.split_once(':').unwrap_or((&line, ""));
                    body.trailers
                        .push((name.to_owned(), value.trim().to_owned()));
                }
            }
        }
        body.complete = true;
        Ok(body)
    }

    /// Nothing read ahead: what follows belongs to nobody yet.
    pub(crate) fn is_drained(&self) -> bool {
        self.ahead.is_empty()
    }
}

/// `Transfer-Encoding: chunked` framing of `pieces`.
pub(crate) fn chunks<P: AsRef<[u8]>>(pieces: &[P]) -> Vec<u8> {
    let mut out = Vec::new();
    for piece in pieces.iter().map(AsRef::as_ref).filter(|p| !p.is_empty()) {
        out.extend(format!("{:x}\r\n", piece.len()).bytes());
        out.extend(piece);
        out.extend(b"\r\n");
    }
    out.extend(b"0\r\n\r\n");
    out
}
