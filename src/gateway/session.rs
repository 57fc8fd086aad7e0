//! One exchange as the framework sees it: the request, its body, and somewhere to answer.
//!
//! The framework has sessions of its own. This one takes their place because the head was read already (parsing it twice
//! costs a microsecond), because every byte of the body is followed anyway, because one timer does for all waits, and
//! because HTTP/1 and HTTP/2 are served alike.

use std::future::{poll_fn, ready};
use std::io;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::Stream;
use futures_util::future::BoxFuture;
use http::{HeaderMap, Method};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::protocols::Digest;
use pingora::protocols::http::HttpTask;
use pingora::protocols::http::custom::CustomMessageWrite;
use pingora::protocols::http::custom::server::Session;
use pingora::protocols::l4::socket::SocketAddr;
use pingora::{Error, ErrorType, Result};

use super::answer::{AnswerPlan, ResponseWriter, Unfinished};
use super::client::ClientIo;
use super::http1::head::{Framing, Head};
use super::http1::replay::Replay;
use super::message::{BodySize, InvalidHead};

/// Request and answer of one exchange with a client.
pub(super) struct ClientSession {
    request: Box<RequestHeader>,
    head: Head,
    client: Arc<ClientIo>,
    answer: Option<Box<ResponseHeader>>,
    /// Made when the framework answers, which is rare.
    writer: Option<ResponseWriter>,
    replay: Option<Replay>,
    /// Payload bytes.
    sent: usize,
    read: usize,
    drain_limit: Option<Duration>,
}

impl ClientSession {
    pub(super) fn new(request: Box<RequestHeader>, head: Head, client: Arc<ClientIo>) -> Self {
        Self {
            request,
            head,
            client,
            answer: None,
            writer: None,
            replay: None,
            sent: 0,
            read: 0,
            drain_limit: None,
        }
    }

    /// Writes an informational answer at once, and queues the head of the final one, which is all there is when it `ends`.
    async fn write_head(&mut self, head: Box<ResponseHeader>, ends: bool) -> Result<()> {
        if self.answer.is_some() {
            return Ok(());
        }
        let (request, client) = (&self.request, &self.client);
        let writer = self.writer.get_or_insert_with(|| {
            let head_only = request.method == Method::HEAD;
            ResponseWriter::new(Arc::clone(client), self.head.version, head_only)
        });
        if head.status.is_informational() {
            writer.inform(&*head);
            return self.flush().await;
        }
        let size = match ends {
            true => BodySize::Absent,
            false => BodySize::of(&head),
        };
        let begun = writer.begin(&*head, size, AnswerPlan::default());
        begun.map_err(|invalid| unfinished(invalid.into()))?;
        self.answer = Some(head);
        Ok(())
    }

    /// Writes a piece of the body.
    async fn write_piece(&mut self, data: Bytes) -> Result<()> {
        let Some(writer) = self.writer.as_mut().filter(|_| self.answer.is_some()) else {
            return Ok(());
        };
        self.sent += data.len();
        let sent = writer.write(data).await;
        sent.map_err(|error| write_error(&error))
    }

    async fn flush(&mut self) -> Result<()> {
        let Some(writer) = &mut self.writer else {
            return Ok(());
        };
        let flushed = writer.flush().await;
        flushed.map_err(|error| write_error(&error))
    }

    /// Ends the answer, if it is one.
    async fn end(&mut self, trailers: Option<HeaderMap>) -> Result<()> {
        let Some(writer) = self.writer.as_mut().filter(|_| self.answer.is_some()) else {
            return Ok(());
        };
        writer.finish(trailers).await.map_err(unfinished)
    }

    /// Whether all of the answer that was announced is written.
    fn ended(&self) -> bool {
        let writer = self.writer.as_ref();
        writer.is_some_and(ResponseWriter::owes_nothing)
    }

    /// Whether nothing more is to be read of the request.
    fn read_all(&self) -> bool {
        self.head.framing == Framing::None || self.client.body_done()
    }

    async fn read_piece(&mut self) -> Result<Option<Bytes>> {
        let replay = self.replay.is_some();
        let buffered = replay.then(|| self.client.buffered()).flatten();
        let piece = self.client.read_body().await;
        let piece = piece.map_err(|error| read_error(&error))?;
        if let Some(piece) = &piece {
            self.read += piece.len();
            if let Some(replay) = self.replay.as_mut() {
                replay.add(piece, buffered);
            }
        }
        Ok(piece)
    }
}

pub(super) fn read_error(error: &io::Error) -> Box<Error> {
    let kind = match error.kind() {
        io::ErrorKind::TimedOut => ErrorType::ReadTimedout,
        io::ErrorKind::InvalidData => ErrorType::InvalidHTTPHeader,
        io::ErrorKind::UnexpectedEof => ErrorType::ConnectionClosed,
        _ => ErrorType::ReadError,
    };
    Error::explain(kind, "reading from the client").into_down()
}

pub(super) fn write_error(error: &io::Error) -> Box<Error> {
    let kind = match error.kind() {
        io::ErrorKind::TimedOut => ErrorType::WriteTimedout,
        _ => ErrorType::WriteError,
    };
    Error::explain(kind, "writing to the client").into_down()
}

/// Why an answer is not whole, as the framework says it.
pub(super) fn unfinished(why: Unfinished) -> Box<Error> {
    match why {
        Unfinished::Client(error) => write_error(&error),
        Unfinished::CutShort => {
            let why = "the answer is shorter than it said";
            Error::explain(ErrorType::ConnectionClosed, why).into_up()
        }
        Unfinished::Head(InvalidHead(why)) => {
            Error::explain(ErrorType::InvalidHTTPHeader, why).into_up()
        }
    }
}

#[async_trait]
impl Session for ClientSession {
    fn req_header(&self) -> &RequestHeader {
        &self.request
    }

    fn req_header_mut(&mut self) -> &mut RequestHeader {
        &mut self.request
    }

    async fn read_body_bytes(&mut self) -> Result<Option<Bytes>> {
        self.read_piece().await
    }

    async fn drain_request_body(&mut self) -> Result<()> {
        let limit = self.drain_limit.unwrap_or(Duration::MAX);
        let drain = async {
            while self.client.read_body().await?.is_some() {}
            Ok(())
        };
        match tokio::time::timeout(limit, drain).await {
            Ok(drained) => drained.map_err(|error: io::Error| read_error(&error)),
            Err(_) => Err(read_error(&io::ErrorKind::TimedOut.into())),
        }
    }

    async fn write_response_header(&mut self, resp: Box<ResponseHeader>, end: bool) -> Result<()> {
        self.write_head(resp, end).await
    }

    async fn write_response_header_ref(&mut self, resp: &ResponseHeader, end: bool) -> Result<()> {
        self.write_head(Box::new(resp.clone()), end).await
    }

    async fn write_body(&mut self, data: Bytes, end: bool) -> Result<()> {
        self.write_piece(data).await?;
        if end {
            self.end(None).await
        } else {
            self.flush().await
        }
    }

    async fn write_trailers(&mut self, trailers: HeaderMap) -> Result<()> {
        self.end(Some(trailers)).await
    }

    async fn response_duplex_vec(&mut self, tasks: Vec<HttpTask>) -> Result<bool> {
        let mut end = false;
        let mut failed = None;
        for task in tasks {
            end = match task {
                HttpTask::Header(head, end) => {
                    self.write_head(head, end).await?;
                    end
                }
                HttpTask::Body(data, end) | HttpTask::UpgradedBody(data, end) => {
                    if let Some(data) = data {
                        self.write_piece(data).await?;
                    }
                    end
                }
                HttpTask::Trailer(trailers) => {
                    self.end(trailers.map(|trailers| *trailers)).await?;
                    true
                }
                HttpTask::Done => true,
                HttpTask::Failed(error) => {
                    failed = Some(error);
                    break;
                }
            };
        }
        if let Some(error) = failed {
            self.flush().await?;
            return Err(error);
        }
        if end {
            self.end(None).await?;
        } else {
            self.flush().await?;
        }
        Ok(end || self.ended())
    }

    // The client's limits are those of the connection, see [`ClientIo::begin`].
    fn set_read_timeout(&mut self, _timeout: Option<Duration>) {}

    fn get_read_timeout(&self) -> Option<Duration> {
        None
    }

    fn set_write_timeout(&mut self, _timeout: Option<Duration>) {}

    fn get_write_timeout(&self) -> Option<Duration> {
        None
    }

    fn set_total_drain_timeout(&mut self, timeout: Option<Duration>) {
        self.drain_limit = timeout;
    }

    fn get_total_drain_timeout(&self) -> Option<Duration> {
        self.drain_limit
    }

    fn request_summary(&self) -> String {
        format!("{} {}", self.request.method, self.request.uri.path())
    }

    fn response_written(&self) -> Option<&ResponseHeader> {
        self.answer.as_deref()
    }

    async fn shutdown(&mut self, _code: u32, _context: &str) {
        self.client.shutdown().await;
    }

    fn is_body_done(&mut self) -> bool {
        self.read_all()
    }

    /// By hand, as the next: most answers have ended when the framework asks, twice, and a future that says so is small.
    fn finish<'s, 'f>(&'s mut self) -> BoxFuture<'f, Result<()>>
    where
        's: 'f,
        Self: 'f,
    {
        match self.answer {
            Some(_) => Box::pin(self.end(None)),
            None => Box::pin(ready(Ok(()))),
        }
    }

    fn is_body_empty(&mut self) -> bool {
        // Chunks may turn out to hold nothing; a second try must know, or it would wait for a body that never comes.
        self.head.framing == Framing::None || (self.read == 0 && self.client.body_done())
    }

    fn read_body_or_idle<'s, 'f>(
        &'s mut self,
        no_body_expected: bool,
    ) -> BoxFuture<'f, Result<Option<Bytes>>>
    where
        's: 'f,
        Self: 'f,
    {
        if no_body_expected || self.read_all() {
            let client = &self.client;
            return Box::pin(poll_fn(|cx| {
                client.poll_idle(cx).map(|error| Err(read_error(&error)))
            }));
        }
        Box::pin(self.read_piece())
    }

    fn body_bytes_sent(&self) -> usize {
        self.sent
    }

    fn body_bytes_read(&self) -> usize {
        self.read
    }

    fn digest(&self) -> Option<&Digest> {
        None
    }

    fn digest_mut(&mut self) -> Option<&mut Digest> {
        None
    }

    fn client_addr(&self) -> Option<&SocketAddr> {
        None
    }

    fn server_addr(&self) -> Option<&SocketAddr> {
        None
    }

    fn pseudo_raw_h1_request_header(&self) -> Bytes {
        Bytes::new()
    }

    fn enable_retry_buffering(&mut self) {
        if self.head.framing != Framing::None {
            self.replay.get_or_insert_with(|| Replay::new(true));
        }
    }

    fn retry_buffer_truncated(&self) -> bool {
        self.replay.as_ref().is_some_and(|replay| !replay.whole())
    }

    fn get_retry_buffer(&self) -> Option<Bytes> {
        self.replay.as_ref().and_then(Replay::bytes)
    }

    async fn finish_custom(&mut self) -> Result<()> {
        Ok(())
    }

    fn take_custom_message_reader(
        &mut self,
    ) -> Option<Box<dyn Stream<Item = Result<Bytes>> + Unpin + Send + Sync + 'static>> {
        None
    }

    fn restore_custom_message_reader(
        &mut self,
        _reader: Box<dyn Stream<Item = Result<Bytes>> + Unpin + Send + Sync + 'static>,
    ) -> Result<()> {
        Ok(())
    }

    fn take_custom_message_writer(&mut self) -> Option<Box<dyn CustomMessageWrite>> {
        None
    }

    fn restore_custom_message_writer(
        &mut self,
        _writer: Box<dyn CustomMessageWrite>,
    ) -> Result<()> {
        Ok(())
    }

    // What is upgraded goes another way, see [`super::exchange::h1::tunnel`].
    fn is_upgrade_req(&self) -> bool {
        false
    }

    fn was_upgraded(&self) -> bool {
        false
    }
}
