//! An HTTP/1 connection as bytes: what was read and not handed on, and what is to be written.

use std::io;
use std::mem::MaybeUninit;
use std::task::{Context, Poll};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use http::{HeaderMap, Version};
use tokio::io::ReadBuf;

use super::answer::{self, put_chunk_size};
use super::body::BodyDecoder;
use crate::gateway::exchange::trailers;
use crate::gateway::message::{AnswerHead, BodyFraming, GatewayHeaders};
use crate::gateway::socket::Socket;
use crate::gateway::timers::ExchangeTimers;

/// The socket, and what was read from it but not handed on.
pub(crate) struct Http1Wire {
    pub(crate) socket: Socket,
    /// Read, not yet looked at.
    pub(crate) ahead: BytesMut,
    pub(crate) guard: BodyDecoder,
    /// What stood behind the chunks of the request's body: its lines, and once it is read its fields.
    section: Vec<u8>,
    trailers: Option<Box<HeaderMap>>,
    /// A client that says it sends no more still gets its answer.
    pub(crate) half_close: bool,
    /// The client said so.
    pub(crate) ended: bool,
    /// Answer bytes not yet written.
    outgoing: BytesMut,
    /// How the body of the answer is delimited.
    framing: BodyFraming,
    /// No more is written.
    closed: bool,
}

/// Answer bytes gathered before they are written: a head, and what was read of the body with it, so that both go with
/// what is read next.
const GATHER: usize = 8192;
const GATHER_CHUNKS: usize = 64 << 10;
/// Bytes read at a time: of a head, and of a body.
const READ: usize = 4096;
const READ_BODY: usize = 32 << 10;

impl Http1Wire {
    pub(crate) fn new(socket: Socket) -> Self {
        Self {
            socket,
            ahead: BytesMut::new(),
            guard: BodyDecoder::Done,
            section: Vec::new(),
            trailers: None,
            half_close: false,
            ended: false,
            outgoing: BytesMut::new(),
            framing: BodyFraming::Absent,
            closed: false,
        }
    }

    /// A request begins whose body `guard` follows.
    pub(crate) fn begin(&mut self, guard: BodyDecoder) {
        self.guard = guard;
        self.section = Vec::new();
        self.trailers = None;
    }

    /// What stood behind the request's body, once all of it was handed on.
    pub(crate) fn take_trailers(&mut self) -> Option<HeaderMap> {
        self.trailers.take().map(|trailers| *trailers)
    }

    /// Takes the first `length` bytes read, which are a head; `skip` bytes before it are dropped.
    pub(crate) fn take_head(&mut self, skip: usize, length: usize) -> Bytes {
        let ahead = &mut self.ahead;
        ahead.advance(skip);
        // Taken whole where it can be: an idle connection holds no buffer.
        if ahead.len() == length {
            std::mem::take(ahead).freeze()
        } else {
            ahead.split_to(length).freeze()
        }
    }

    /// Whether all of an answer was written and nothing of the request is left.
    pub(crate) fn is_clean(&self) -> bool {
        !self.closed && self.outgoing.is_empty() && self.guard == BodyDecoder::Done
    }

    /// Drops what is here of the body already, without reading; says whether that is all of it.
    pub(crate) fn drop_body(&mut self) -> bool {
        if self.guard != BodyDecoder::Raw {
            let _ = self.admit(|_| {});
        }
        self.guard == BodyDecoder::Done
    }

    /// Reads more of the body and drops it: so many bytes, 0 at the end. What is behind it stays.
    pub(crate) fn poll_drop_body(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.guard == BodyDecoder::Raw {
            return Poll::Ready(Ok(0));
        }
        let read = std::task::ready!(self.fill_body(cx))?;
        self.drop_body();
        Poll::Ready(Ok(read))
    }

    /// Drops what was read ahead, and reads and drops more: so many bytes, which `see` is shown; 0 at the end. The end of
    /// the body is noticed on the way; what is behind it is dropped, too.
    pub(crate) fn poll_discard(
        &mut self,
        cx: &mut Context<'_>,
        mut see: impl FnMut(&[u8]),
    ) -> Poll<io::Result<usize>> {
        if !self.ahead.is_empty() {
            let here = std::mem::take(&mut self.ahead);
            see(&here);
            self.follow(&here);
            return Poll::Ready(Ok(here.len()));
        }
        let mut spare = [const { MaybeUninit::uninit() }; READ_BODY];
        let mut buf = ReadBuf::uninit(&mut spare);
        std::task::ready!(self.socket.poll_read(cx, &mut buf))?;
        see(buf.filled());
        self.follow(buf.filled());
        Poll::Ready(Ok(buf.filled().len()))
    }

    /// Follows bytes that are dropped. Of a body that is malformed nobody knows the end.
    fn follow(&mut self, bytes: &[u8]) {
        let _ = self.guard.admit(bytes, |_| {});
    }

    /// Reads the fields behind the body, once their lines are here.
    fn read_section(&mut self) -> io::Result<()> {
        if self.section.is_empty() || self.guard != BodyDecoder::Done {
            return Ok(());
        }
        let mut section = std::mem::take(&mut self.section);
        section.extend_from_slice(b"\r\n");
        match trailers::read(&section) {
            Ok(read) => self.trailers = read.map(Box::new),
            Err(trailers::Malformed) => {
                self.guard = BodyDecoder::Broken;
                return Err(io::ErrorKind::InvalidData.into());
            }
        }
        Ok(())
    }

    /// Takes what belongs to this body from `ahead` and shows its payload.
    fn admit(&mut self, data: impl FnMut(&[u8])) -> io::Result<()> {
        self.admit_section(data, |_| {})
    }

    /// Takes what belongs to this body from `ahead`, and shows its payload and the lines behind it.
    fn admit_section(&mut self, data: impl FnMut(&[u8]), line: impl FnMut(u8)) -> io::Result<()> {
        match self.guard.admit_section(&self.ahead, data, line) {
            Ok(taken) => {
                self.ahead.advance(taken);
                if self.ahead.is_empty() {
                    // Idle connections hold no buffer.
                    self.ahead = BytesMut::new();
                }
                Ok(())
            }
            Err(_) => {
                self.ahead = BytesMut::new();
                Err(io::ErrorKind::InvalidData.into())
            }
        }
    }

    /// The payload in `ahead`, without a copy where its bytes are nothing else.
    fn take_payload(&mut self) -> io::Result<Bytes> {
        if matches!(self.guard, BodyDecoder::Chunked(_)) {
            let (mut payload, mut section) = (BytesMut::new(), std::mem::take(&mut self.section));
            let (data, line) = (
                |data: &[u8]| payload.extend_from_slice(data),
                |byte| section.push(byte),
            );
            self.admit_section(data, line)?;
            self.section = section;
            self.read_section()?;
            return Ok(payload.freeze());
        }
        let taken = self.guard.admit(&self.ahead, |_| {});
        let taken = taken.map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
        if taken == self.ahead.len() {
            return Ok(std::mem::take(&mut self.ahead).freeze());
        }
        Ok(self.ahead.split_to(taken).freeze())
    }

    /// Reads what comes ahead of its turn.
    pub(crate) fn fill_ahead(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut spare = [const { MaybeUninit::uninit() }; READ];
        let mut buf = ReadBuf::uninit(&mut spare);
        std::task::ready!(self.socket.poll_read(cx, &mut buf))?;
        // Copied: what a request keeps of its head, it keeps until it is over, and the copy is as long as the head.
        self.ahead.extend_from_slice(buf.filled());
        Poll::Ready(Ok(buf.filled().len()))
    }

    /// Reads a body: more at a time than [ahead](Self::fill_ahead) of it, and to where it stays.
    fn fill_body(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let most = match self.guard {
            BodyDecoder::Length(left) => usize::try_from(left).unwrap_or(READ_BODY).min(READ_BODY),
            _ => READ_BODY,
        };
        self.ahead.reserve(most);
        let read = self.socket.poll_read_buf(cx, &mut self.ahead);
        if read.is_pending() && self.ahead.is_empty() {
            self.ahead = BytesMut::new();
        }
        read
    }

    /// The next piece of the body's payload; `None` behind the last. Invalid data: the chunks are malformed.
    pub(crate) fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Option<Bytes>>> {
        if self.guard == BodyDecoder::Broken {
            return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
        }
        loop {
            if !self.ahead.is_empty() && self.guard != BodyDecoder::Done {
                let payload = self.take_payload()?;
                if !payload.is_empty() {
                    return Poll::Ready(Ok(Some(payload)));
                }
            }
            if self.guard == BodyDecoder::Done {
                return Poll::Ready(Ok(None));
            }
            match std::task::ready!(self.fill_body(cx))? {
                0 if self.guard == BodyDecoder::Raw => return Poll::Ready(Ok(None)),
                0 => {
                    self.ended = true;
                    return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
                }
                _ => {}
            }
        }
    }

    /// Waits for the client to go away. What it sends ahead stays here, and no more of it is read until its turn. Where it
    /// may close its side alone, the end of what it sends says nothing of whether it still reads.
    pub(crate) fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        if self.ended && !self.half_close {
            return Poll::Ready(io::ErrorKind::UnexpectedEof.into());
        }
        if self.ahead.is_empty() && !self.ended {
            match self.fill_ahead(cx) {
                Poll::Ready(Ok(0)) if self.half_close => self.ended = true,
                Poll::Ready(Ok(0)) => return Poll::Ready(io::ErrorKind::UnexpectedEof.into()),
                Poll::Ready(Err(error)) => return Poll::Ready(error),
                Poll::Ready(Ok(_)) | Poll::Pending => {}
            }
        }
        Poll::Pending
    }

    /// Queues an informational head. HTTP/1.0 does not know them (RFC 9110 §15.2).
    pub(crate) fn inform(&mut self, head: &impl AnswerHead, version: Version) {
        if version == Version::HTTP_11 {
            answer::write_informational(head, &mut self.outgoing);
        }
    }

    /// Queues the head of the final answer.
    pub(crate) fn begin_answer(
        &mut self,
        head: &impl AnswerHead,
        framing: BodyFraming,
        ours: &GatewayHeaders,
        persistent: bool,
        version: Version,
    ) {
        self.framing = framing;
        let out = &mut self.outgoing;
        answer::write(head, framing, ours, persistent, version, out);
    }

    /// Queues a piece of the answer's body. A chunk of nothing would end it.
    pub(crate) fn queue(&mut self, piece: &[u8]) {
        if piece.is_empty() {
            return;
        }
        if self.framing == BodyFraming::Chunked {
            put_chunk_size(&mut self.outgoing, piece.len());
        }
        self.outgoing.extend_from_slice(piece);
        if self.framing == BodyFraming::Chunked {
            self.outgoing.put_slice(b"\r\n");
        }
    }

    /// Writes what is queued and some of `piece`; little is only queued. Says how much of it.
    pub(crate) fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        piece: &[u8],
        waits: &mut ExchangeTimers,
    ) -> Poll<io::Result<usize>> {
        if self.outgoing.len() + piece.len() <= GATHER {
            self.queue(piece);
            return Poll::Ready(Ok(piece.len()));
        }
        if self.framing == BodyFraming::Chunked {
            // Framed anew they are copied anyway, and many go out at once.
            if self.outgoing.len() >= GATHER_CHUNKS {
                std::task::ready!(self.poll_flush(cx, waits))?;
            }
            self.queue(piece);
            return Poll::Ready(Ok(piece.len()));
        }
        loop {
            let slices = [io::IoSlice::new(&self.outgoing), io::IoSlice::new(piece)];
            let gathered = self.outgoing.len();
            let written = match self.socket.poll_write_vectored(cx, &slices) {
                Poll::Ready(written) => written?,
                Poll::Pending => return waits.stalled(cx),
            };
            waits.unstalled(written);
            self.outgoing.advance(written.min(gathered));
            if written > gathered {
                return Poll::Ready(Ok(written - gathered));
            }
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
        }
    }

    /// Queues the end of the answer, and trailers where the body's delimiter leaves room for them.
    pub(crate) fn end_answer(&mut self, trailers: Option<&HeaderMap>) {
        if self.framing == BodyFraming::Chunked {
            answer::write_last_chunk(trailers, &mut self.outgoing);
        }
    }

    /// Writes what is queued.
    pub(crate) fn poll_flush(
        &mut self,
        cx: &mut Context<'_>,
        waits: &mut ExchangeTimers,
    ) -> Poll<io::Result<()>> {
        if self.outgoing.is_empty() {
            return Poll::Ready(Ok(()));
        }
        while !self.outgoing.is_empty() {
            let written = match self.socket.poll_write(cx, &self.outgoing) {
                Poll::Ready(written) => written?,
                Poll::Pending => return waits.stalled(cx),
            };
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            waits.unstalled(written);
            self.outgoing.advance(written);
        }
        // Idle connections hold no buffer.
        self.outgoing = BytesMut::new();
        Poll::Ready(Ok(()))
    }

    /// Queues the word that the body may come (RFC 9110 §10.1.1).
    pub(crate) fn send_continue(&mut self) {
        self.outgoing.put_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
    }

    /// Ends the connection so that the client sees that something is missing.
    pub(crate) fn break_off(&mut self) {
        self.closed = true;
        self.socket.break_off();
    }

    /// Closes the writing side, after what is queued.
    pub(crate) fn poll_shutdown(
        &mut self,
        cx: &mut Context<'_>,
        waits: &mut ExchangeTimers,
    ) -> Poll<io::Result<()>> {
        if self.closed {
            return Poll::Ready(Ok(()));
        }
        std::task::ready!(self.poll_flush(cx, waits))?;
        std::task::ready!(self.socket.poll_shutdown(cx))?;
        self.closed = true;
        Poll::Ready(Ok(()))
    }
}
