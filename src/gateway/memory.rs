//! The wire of a request that was made inside the process: nothing is written as bytes and read again.
//!
//! Whoever made the request drives it (see [`internal`](super::internal)): one task polls both ends, so neither end has to
//! wake the other. The writing end waits only while the pipe is full, and then there is something to read.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use http::{HeaderMap, Response};
use parking_lot::Mutex;

use super::http2;
use super::message::{AnswerHead, BodyFraming, GatewayHeaders};
use super::timers::ExchangeTimers;

/// Bytes of an answer's body that wait for whoever asked.
const ROOM: usize = 64 << 10;
/// Bytes of a request's body that are handed on at a time, as many as are read from a socket.
const PIECE: usize = 32 << 10;

/// One request's end of a [`Pipe`], and its body.
pub(crate) struct MemoryWire {
    /// The body, while something of it is left.
    incoming: Option<Bytes>,
    pipe: Arc<Pipe>,
    /// Bytes of the answer's body that were announced and not sent yet; `None`: nobody knows.
    left: Option<u64>,
    /// Of the body, not in the pipe yet.
    pending: Bytes,
    /// The answer ends behind `pending`, perhaps with trailers; boxed, since few have any.
    ending: Option<Option<Box<HeaderMap>>>,
}

/// An answer on its way from the request to whoever made it.
#[derive(Default)]
pub(super) struct Pipe(Mutex<Passing>);

#[derive(Default)]
struct Passing {
    head: Option<Response<()>>,
    pieces: VecDeque<Bytes>,
    /// Bytes of `pieces`.
    held: usize,
    end: Option<End>,
}

/// How an answer ended.
#[derive(Debug)]
pub(super) enum End {
    /// Whole, perhaps with trailers.
    Whole(Option<HeaderMap>),
    /// Something is missing.
    Cut,
}

impl Pipe {
    /// The head, once it is here.
    pub(super) fn take_head(&self) -> Option<Response<()>> {
        self.0.lock().head.take()
    }

    /// The next piece of the body, if one is here.
    pub(super) fn take_piece(&self) -> Option<Bytes> {
        let mut passing = self.0.lock();
        let piece = passing.pieces.pop_front()?;
        passing.held -= piece.len();
        Some(piece)
    }

    /// How it ended, if it did and all pieces were taken.
    pub(super) fn take_end(&self) -> Option<End> {
        let mut passing = self.0.lock();
        let all = passing.pieces.is_empty();
        all.then(|| passing.end.take()).flatten()
    }

    /// Puts in what there is room for, and says how much.
    fn put(&self, piece: &mut impl Buf) -> usize {
        let mut passing = self.0.lock();
        let length = piece.remaining().min(ROOM - passing.held);
        if length > 0 {
            passing.held += length;
            passing.pieces.push_back(piece.copy_to_bytes(length));
        }
        length
    }

    /// The answer is whole; trailers may be told later than that.
    fn whole(&self, trailers: Option<HeaderMap>) {
        let end = &mut self.0.lock().end;
        if matches!(end, None | Some(End::Whole(None))) {
            *end = Some(End::Whole(trailers));
        }
    }

    /// Something is missing, unless it was whole before.
    fn cut(&self) {
        self.0.lock().end.get_or_insert(End::Cut);
    }
}

impl MemoryWire {
    /// A request with this body, whose answer goes into `pipe`.
    pub(super) fn new(body: Bytes, pipe: Arc<Pipe>) -> Self {
        Self {
            incoming: Some(body).filter(|body| !body.is_empty()),
            pipe,
            left: None,
            pending: Bytes::new(),
            ending: None,
        }
    }

    /// Whether all of the request's body was handed on.
    pub(super) fn body_done(&self) -> bool {
        self.incoming.is_none()
    }

    /// The next piece of the body; `None` behind the last.
    pub(super) fn piece(&mut self) -> Option<Bytes> {
        let incoming = self.incoming.as_mut()?;
        if incoming.len() <= PIECE {
            return self.incoming.take();
        }
        Some(incoming.split_to(PIECE))
    }

    /// Nobody reads the body.
    pub(super) fn drop_body(&mut self) {
        self.incoming = None;
    }

    /// Hands over the head of the final answer.
    pub(super) fn begin_answer(
        &mut self,
        head: &impl AnswerHead,
        delimited: BodyFraming,
        extra: &GatewayHeaders,
    ) {
        self.left = match delimited {
            BodyFraming::Absent => Some(0),
            BodyFraming::Length(length) => Some(length),
            BodyFraming::Chunked | BodyFraming::Close => None,
        };
        match http2::answer::response(head, delimited, extra) {
            Some(head) => self.pipe.0.lock().head = Some(head),
            None => self.break_off(),
        }
        self.look_for_end();
    }

    /// What has all that was announced is whole, whatever becomes of its upstream: so it is on a socket.
    fn look_for_end(&self) {
        if self.left == Some(0) {
            self.pipe.whole(None);
        }
    }

    /// Adds a piece of the answer's body to what is to be sent, of which nothing may be left.
    pub(super) fn queue(&mut self, piece: Bytes) {
        self.pending = piece;
    }

    /// Sends as much of `piece` as there is room for; says how much.
    pub(super) fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        piece: &mut impl Buf,
        waits: &mut ExchangeTimers,
    ) -> Poll<io::Result<usize>> {
        std::task::ready!(self.poll_flush(cx, waits))?;
        self.poll_put(cx, piece, waits)
    }

    /// Sends what is queued, as far as there is room.
    pub(super) fn poll_flush(
        &mut self,
        cx: &mut Context<'_>,
        waits: &mut ExchangeTimers,
    ) -> Poll<io::Result<()>> {
        while !self.pending.is_empty() {
            let mut pending = std::mem::take(&mut self.pending);
            let sent = self.poll_put(cx, &mut pending, waits);
            self.pending = pending;
            std::task::ready!(sent)?;
        }
        if let Some(trailers) = self.ending.take() {
            self.pipe.whole(trailers.map(|trailers| *trailers));
        }
        Poll::Ready(Ok(()))
    }

    fn poll_put(
        &mut self,
        cx: &mut Context<'_>,
        piece: &mut impl Buf,
        waits: &mut ExchangeTimers,
    ) -> Poll<io::Result<usize>> {
        if !piece.has_remaining() {
            return Poll::Ready(Ok(0));
        }
        let sent = self.pipe.put(piece);
        if sent == 0 {
            return waits.stalled(cx);
        }
        waits.unstalled(sent);
        self.left = self.left.map(|left| left.saturating_sub(sent as u64));
        self.look_for_end();
        Poll::Ready(Ok(sent))
    }

    /// The answer ends behind what is queued. One that is shorter than was said does not end.
    pub(super) fn end_answer(&mut self, trailers: Option<HeaderMap>) {
        let queued = self.pending.len() as u64;
        if self.left.is_none_or(|left| left <= queued) {
            self.ending = Some(trailers.map(Box::new));
        }
    }

    /// Ends the answer so that whoever asked sees that something is missing.
    pub(super) fn break_off(&mut self) {
        self.pipe.cut();
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;
    use std::time::Duration;

    use pingora::http::ResponseHeader;

    use super::*;

    fn wire() -> (MemoryWire, Arc<Pipe>, ExchangeTimers) {
        let pipe = Arc::new(Pipe::default());
        let wire = MemoryWire::new(Bytes::new(), Arc::clone(&pipe));
        (wire, pipe, ExchangeTimers::new(Duration::from_secs(60)))
    }

    #[tokio::test]
    async fn no_more_than_the_room_waits_and_what_is_taken_makes_room() {
        let (mut wire, pipe, mut waits) = wire();
        let cx = &mut Context::from_waker(Waker::noop());
        let head = ResponseHeader::build(200, None).expect("a head");
        wire.begin_answer(&head, BodyFraming::Chunked, &GatewayHeaders::default());
        assert_eq!(pipe.take_head().expect("the head").status(), 200);
        let mut body = Bytes::from(vec![7; ROOM + 9]);
        let sent = wire.poll_send(cx, &mut body, &mut waits);
        assert!(matches!(sent, Poll::Ready(Ok(ROOM))), "{sent:?}");
        assert!(wire.poll_send(cx, &mut body, &mut waits).is_pending());
        assert_eq!(pipe.take_piece().expect("a piece").len(), ROOM);
        assert!(matches!(
            wire.poll_send(cx, &mut body, &mut waits),
            Poll::Ready(Ok(9))
        ));
        wire.end_answer(None);
        assert!(
            pipe.take_end().is_none(),
            "nothing ends before it is flushed"
        );
        assert!(wire.poll_flush(cx, &mut waits).is_ready());
        assert!(pipe.take_end().is_none(), "a piece was not taken yet");
        assert_eq!(pipe.take_piece().expect("the rest").len(), 9);
        assert!(matches!(pipe.take_end(), Some(End::Whole(None))));
    }

    #[test]
    fn an_answer_that_is_shorter_than_it_said_does_not_end() {
        let (mut wire, pipe, mut waits) = wire();
        let cx = &mut Context::from_waker(Waker::noop());
        let mut head = ResponseHeader::build(200, None).expect("a head");
        head.set_content_length(3).expect("a length");
        wire.begin_answer(&head, BodyFraming::Length(3), &GatewayHeaders::default());
        let sent = wire.poll_send(cx, &mut Bytes::from_static(b"ab"), &mut waits);
        assert!(matches!(sent, Poll::Ready(Ok(2))));
        wire.end_answer(None);
        assert!(wire.poll_flush(cx, &mut waits).is_ready());
        assert!(pipe.take_piece().is_some() && pipe.take_end().is_none());
        wire.break_off();
        assert!(matches!(pipe.take_end(), Some(End::Cut)));
    }

    #[test]
    fn an_answer_that_has_all_it_announced_is_whole_and_may_have_trailers_yet() {
        for trailers in [None, Some(HeaderMap::new())] {
            let (mut wire, pipe, mut waits) = wire();
            let cx = &mut Context::from_waker(Waker::noop());
            let mut head = ResponseHeader::build(200, None).expect("a head");
            head.set_content_length(2).expect("a length");
            wire.begin_answer(&head, BodyFraming::Length(2), &GatewayHeaders::default());
            let sent = wire.poll_send(cx, &mut Bytes::from_static(b"ab"), &mut waits);
            assert!(matches!(sent, Poll::Ready(Ok(2))));
            let told = trailers.is_some();
            match trailers {
                None => wire.break_off(),
                trailers => wire.end_answer(trailers),
            }
            assert!(wire.poll_flush(cx, &mut waits).is_ready());
            assert!(pipe.take_piece().is_some());
            let end = pipe.take_end();
            assert!(matches!(end, Some(End::Whole(trailers)) if trailers.is_some() == told));
        }
    }

    #[test]
    fn a_body_comes_in_pieces_of_what_is_read_at_a_time() {
        let body = Bytes::from(vec![1; 2 * PIECE + 1]);
        let mut wire = MemoryWire::new(body, Arc::default());
        let mut pieces = Vec::new();
        while let Some(piece) = wire.piece() {
            pieces.push(piece.len());
        }
        assert_eq!(pieces, [PIECE, PIECE, 1]);
        assert!(wire.body_done());
    }
}
