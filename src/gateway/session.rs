//! One exchange as an application of the framework sees it: the request, its body, and somewhere to answer.
//!
//! The gateway's own application needs the head of it alone: it answers over [`ClientIo`]. The admin listener's reads a body
//! and writes an answer. The framework forwards nothing, so of what it would ask for that there is nothing here.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::Stream;
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
use super::http1::head::Head;
use super::message::{BodySize, InvalidHead};

/// Request and answer of one exchange with a client.
pub(super) struct ClientSession {
    request: Box<RequestHeader>,
    head: Head,
    client: Arc<ClientIo>,
    answer: Option<Box<ResponseHeader>>,
    /// The answer, while it is under way. Made when an application answers here, which the gateway's own never does.
    sending: Option<ResponseWriter>,
}

impl ClientSession {
    pub(super) fn new(request: Box<RequestHeader>, head: Head, client: Arc<ClientIo>) -> Self {
        Self {
            request,
            head,
            client,
            answer: None,
            sending: None,
        }
    }

    /// Queues the head of the answer, which is all there is when it `ends`.
    fn begin(&mut self, head: Box<ResponseHeader>, ends: bool) -> Result<()> {
        let head_only = self.request.method == Method::HEAD;
        let client = Arc::clone(&self.client);
        let mut writer = ResponseWriter::new(client, self.head.version, head_only);
        let size = match ends {
            true => BodySize::Absent,
            false => BodySize::of(&head),
        };
        let begun = writer.begin(&*head, size, AnswerPlan::default());
        begun.map_err(|invalid| unfinished(invalid.into()))?;
        self.answer = Some(head);
        self.sending = Some(writer);
        Ok(())
    }

    /// Ends the answer, if it is one.
    async fn end(&mut self) -> Result<()> {
        let Some(mut writer) = self.sending.take() else {
            return Ok(());
        };
        writer.finish(None).await.map_err(unfinished)
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
        let piece = self.client.read_body().await;
        piece.map_err(|error| read_error(&error))
    }

    async fn drain_request_body(&mut self) -> Result<()> {
        while self.read_body_bytes().await?.is_some() {}
        Ok(())
    }

    async fn write_response_header(&mut self, resp: Box<ResponseHeader>, end: bool) -> Result<()> {
        self.begin(resp, end)
    }

    async fn write_response_header_ref(&mut self, resp: &ResponseHeader, end: bool) -> Result<()> {
        self.begin(Box::new(resp.clone()), end)
    }

    /// A body where none belongs is dropped.
    async fn write_body(&mut self, data: Bytes, end: bool) -> Result<()> {
        if let Some(writer) = &mut self.sending {
            let sent = writer.write(data).await;
            sent.map_err(|error| write_error(&error))?;
        }
        if end { self.end().await } else { Ok(()) }
    }

    async fn write_trailers(&mut self, _trailers: HeaderMap) -> Result<()> {
        self.end().await
    }

    async fn response_duplex_vec(&mut self, _tasks: Vec<HttpTask>) -> Result<bool> {
        Err(Error::new(ErrorType::InternalError))
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

    fn set_total_drain_timeout(&mut self, _timeout: Option<Duration>) {}

    fn get_total_drain_timeout(&self) -> Option<Duration> {
        None
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
        self.client.body_done()
    }

    /// By hand: the gateway's answers have ended when the framework asks, and a future of no size is not allocated.
    fn finish<'s, 'f>(&'s mut self) -> Pin<Box<dyn Future<Output = Result<()>> + Send + 'f>>
    where
        's: 'f,
        Self: 'f,
    {
        match self.sending {
            Some(_) => Box::pin(self.end()),
            None => Box::pin(poll_fn(|_| Poll::Ready(Ok(())))),
        }
    }

    fn is_body_empty(&mut self) -> bool {
        self.client.body_done()
    }

    async fn read_body_or_idle(&mut self, _no_body_expected: bool) -> Result<Option<Bytes>> {
        self.read_body_bytes().await
    }

    fn body_bytes_sent(&self) -> usize {
        0
    }

    fn body_bytes_read(&self) -> usize {
        0
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

    fn enable_retry_buffering(&mut self) {}

    fn retry_buffer_truncated(&self) -> bool {
        true
    }

    fn get_retry_buffer(&self) -> Option<Bytes> {
        None
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
}
