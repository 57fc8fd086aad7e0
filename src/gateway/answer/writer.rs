//! The writer of one answer.

use std::io;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Buf;
use http::{HeaderMap, Version};

use super::pacing::Pacing;
use super::plan::{AnswerPlan, Objected};
use super::stage::Stages;
use super::unfinished::Unfinished;
use crate::filter::Refusal;
use crate::gateway::client::ClientIo;
use crate::gateway::message::{
    AnswerHead, BodyFraming, BodySize, GatewayHeaders, InvalidHead, strip_trailers,
};

/// The one way of an answer to its client: `begin`, then `poll_write` for each piece, `end`, and `poll_finish`. Made when a
/// request is known and owned by it; whoever gives the answer borrows it.
///
/// The source says how long the body is ([`BodySize`]) and the writer decides how the client is told ([`BodyFraming`]),
/// after filters and stages. More than the source said is dropped; less is an answer that was cut short, and does not end.
/// What went is counted where it goes, in [`ClientIo`], which knows status and bytes also when the writer is gone.
pub(in crate::gateway) struct ResponseWriter {
    client: Arc<ClientIo>,
    version: Version,
    /// Only the head is asked for.
    head_only: bool,
    /// The client takes trailers.
    takes_trailers: bool,
    phase: Phase,
    framing: BodyFraming,
    /// Bytes that the source said and did not give yet; `None`: nobody said.
    promised: Option<u64>,
    /// Bytes that the client was told of and that did not go yet.
    announced: Option<u64>,
    pacing: Option<Box<Pacing>>,
    stages: Stages,
    trailers: Option<HeaderMap>,
    /// What a filter said against the head.
    refusal: Option<Box<Refusal>>,
}

/// Where the answer stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// The head was not queued.
    Unbegun,
    /// The body is under way.
    Body,
    /// The body is whole, and may be held by the writer.
    Ending,
    /// The end of the answer is queued.
    Flushing,
    /// The client has it.
    Done,
}

impl ResponseWriter {
    /// A writer for the request that `client` carries: what it speaks, and whether it asks for the head only. Trailers are
    /// for clients of HTTP/2, and others that [say so](Self::with_trailers).
    pub(in crate::gateway) fn new(
        client: Arc<ClientIo>,
        version: Version,
        head_only: bool,
    ) -> Self {
        Self {
            client,
            version,
            head_only,
            takes_trailers: version == Version::HTTP_2,
            phase: Phase::Unbegun,
            framing: BodyFraming::Absent,
            promised: None,
            announced: None,
            pacing: None,
            stages: Stages::default(),
            trailers: None,
            refusal: None,
        }
    }

    /// The client said that it takes trailers (`TE: trailers`, RFC 9110 §10.1.4), or did not.
    pub(in crate::gateway) fn with_trailers(mut self, takes: bool) -> Self {
        self.takes_trailers |= takes && self.version == Version::HTTP_11;
        self
    }

    /// Queues an informational head. Clients of HTTP/1.0 do not know them (RFC 9110 §15.2).
    pub(in crate::gateway) fn inform(&mut self, head: &impl AnswerHead) {
        if self.phase == Phase::Unbegun {
            self.client.inform(head, self.version);
        }
    }

    /// Queues the head of the answer, changed as `plan` says. An error: the head is malformed and nothing was queued, or
    /// an answer had begun.
    pub(in crate::gateway) fn begin<H: AnswerHead>(
        &mut self,
        head: H,
        size: BodySize,
        mut plan: AnswerPlan<'_>,
    ) -> Result<(), InvalidHead> {
        if self.has_begun() {
            return Err(InvalidHead("an answer has begun already"));
        }
        let ours = std::mem::take(&mut plan.ours);
        self.pacing = plan.pacing.take();
        if plan.last {
            self.client.end_after();
        }
        if plan.needs_map() {
            let mut head = head.into_header()?;
            let length = self.length(head.status.as_u16(), size);
            self.stages = plan
                .apply(&mut head, length)
                .map_err(|objected| self.object(objected))?;
            self.queue_head(&head, size, &ours);
        } else {
            self.queue_head(&head, size, &ours);
        }
        Ok(())
    }

    /// How long the body of an answer is that is sent, as far as it is known.
    fn length(&self, status: u16, size: BodySize) -> Option<u64> {
        match (
            BodyFraming::of(status, size, self.version, self.head_only),
            size,
        ) {
            (BodyFraming::Absent, _) | (_, BodySize::Absent) => Some(0),
            (_, BodySize::Exactly(length)) => Some(length),
            _ => None,
        }
    }

    fn object(&mut self, objected: Objected) -> InvalidHead {
        match objected {
            Objected::Invalid(invalid) => invalid,
            Objected::Refused(refusal) => {
                self.refusal = Some(refusal);
                InvalidHead("a filter refuses the answer")
            }
        }
    }

    /// What a filter said against the answer, when something of it failed: before its head was queued, or on its way.
    pub(in crate::gateway) fn take_refusal(&mut self) -> Option<Refusal> {
        let refusal = self.refusal.take().map(|refusal| *refusal);
        refusal.or_else(|| self.stages.take_refusal())
    }

    fn queue_head(&mut self, head: &impl AnswerHead, size: BodySize, ours: &GatewayHeaders) {
        self.phase = Phase::Body;
        self.frame(head.status(), size);
        self.client
            .begin_answer(head, self.framing, ours, self.version);
    }

    /// Decides how the end of the body is told.
    fn frame(&mut self, status: u16, size: BodySize) {
        let told = if self.stages.is_empty() {
            size
        } else {
            self.stages.size(size)
        };
        self.framing = BodyFraming::of(status, told, self.version, self.head_only);
        self.promised = match size {
            // What follows is no body.
            _ if status == 101 => None,
            BodySize::Exactly(length) if self.framing != BodyFraming::Absent => Some(length),
            BodySize::Absent => Some(0),
            _ => None,
        };
        self.announced = match self.framing {
            BodyFraming::Length(length) => Some(length),
            _ => None,
        };
    }

    /// Takes `piece` of the body, which is left with what was not taken yet. Little is only queued, and written by the next
    /// [`Self::poll_flush`]. More than the source said, a body where none belongs, and what comes behind a stage that ended
    /// it are taken and dropped.
    pub(in crate::gateway) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        piece: &mut impl Buf,
    ) -> Poll<io::Result<()>> {
        while piece.has_remaining() {
            let wanted = self.wanted(piece.remaining());
            if wanted == 0 {
                piece.advance(piece.remaining());
            } else if self.stages.changing() {
                ready!(self.poll_drain(cx))?;
                let front = &piece.chunk()[..piece.chunk().len().min(wanted)];
                self.stages.push(front);
                let taken = front.len();
                piece.advance(taken);
                take_off(&mut self.promised, taken);
                self.check_refusal()?;
                self.drain_now(cx)?;
            } else {
                let room = ready!(self.poll_room(cx, wanted))?;
                if !self.stages.is_empty() {
                    self.stages
                        .look(&piece.chunk()[..piece.chunk().len().min(room)]);
                    self.check_refusal()?;
                }
                let sent = ready!(self.client.poll_send(cx, &mut piece.take(room)))?;
                self.passed(sent);
                take_off(&mut self.promised, sent);
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Queues a few bytes behind what is queued, whether or not the client takes them: the farewell of a tunnel.
    pub(in crate::gateway) fn queue(&mut self, bytes: &[u8]) {
        self.client.queue_pieces(|put| put(bytes));
    }

    /// Writes what is queued, and what stages need not hold back: nothing more comes at the moment. Costs a look when
    /// nothing came since the last time.
    pub(in crate::gateway) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.stages.changing() {
            self.stages.flush();
            ready!(self.poll_drain(cx))?;
        }
        self.client.poll_flush(cx)
    }

    /// The body is whole. Trailers go to a client that takes them, where the body's delimiter leaves room for them. An error:
    /// the body is shorter than was said, or a filter refuses it, and the answer does not end.
    pub(in crate::gateway) fn end(
        &mut self,
        trailers: Option<HeaderMap>,
    ) -> Result<(), Unfinished> {
        if self.phase != Phase::Body {
            return Ok(());
        }
        let ended = self.stages.ended();
        if self.promised.is_some_and(|left| left > 0) && !ended {
            return Err(Unfinished::CutShort);
        }
        if !self.stages.is_empty() {
            self.stages.finish();
            if self.stages.is_refused() {
                return Err(Unfinished::CutShort);
            }
        }
        self.trailers = trailers.filter(|_| self.takes_trailers && !ended);
        if let Some(trailers) = &mut self.trailers {
            strip_trailers(trailers);
        }
        self.trailers.take_if(|trailers| trailers.is_empty());
        self.phase = Phase::Ending;
        Ok(())
    }

    /// Ready when the client has all of an answer that was [ended](Self::end).
    pub(in crate::gateway) fn poll_finish(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Unfinished>> {
        loop {
            match self.phase {
                Phase::Unbegun | Phase::Body => return Poll::Ready(Err(Unfinished::CutShort)),
                Phase::Ending => {
                    ready!(self.poll_drain(cx))?;
                    if self.announced.is_some_and(|left| left > 0) {
                        return Poll::Ready(Err(Unfinished::CutShort));
                    }
                    self.client.end_answer(self.trailers.take());
                    self.phase = Phase::Flushing;
                }
                Phase::Flushing => {
                    ready!(self.client.poll_flush_last(cx))?;
                    self.phase = Phase::Done;
                }
                Phase::Done => return Poll::Ready(Ok(())),
            }
        }
    }

    /// Gives up an answer that had begun. What came of it belongs to the client; that it is not all must show, and where
    /// nothing else shows it the connection is broken off.
    pub(in crate::gateway) async fn abort(&mut self) {
        if !self.has_begun() || self.phase == Phase::Done {
            return;
        }
        let _ = std::future::poll_fn(|cx| self.poll_flush(cx)).await;
        if self.framing == BodyFraming::Close || self.version == Version::HTTP_2 {
            self.client.break_off();
        }
    }

    /// Whether the head of an answer was queued, by this writer or by another one of the same request.
    pub(in crate::gateway) fn has_begun(&self) -> bool {
        self.phase != Phase::Unbegun || self.client.status().is_some()
    }

    /// Whether all of a body came whose length was said, or there is none.
    pub(in crate::gateway) fn owes_nothing(&self) -> bool {
        let all = self.framing == BodyFraming::Absent || self.promised == Some(0);
        self.phase == Phase::Body && all
    }

    /// Whether trailers behind this body would be told to the client.
    pub(in crate::gateway) fn may_tell_trailers(&self) -> bool {
        self.takes_trailers
            && match self.framing {
                BodyFraming::Length(_) => self.version == Version::HTTP_2,
                BodyFraming::Chunked => true,
                BodyFraming::Absent | BodyFraming::Close => false,
            }
    }

    /// Whether nothing more of the body is wanted: a stage ended it.
    pub(in crate::gateway) fn wants_no_more(&self) -> bool {
        self.stages.ended()
    }

    /// An error once a filter said something against the answer.
    fn check_refusal(&self) -> io::Result<()> {
        match self.stages.is_refused() {
            true => Err(io::ErrorKind::Other.into()),
            false => Ok(()),
        }
    }

    /// How many of so many bytes are sent on; the rest is dropped.
    fn wanted(&self, bytes: usize) -> usize {
        if self.framing == BodyFraming::Absent || self.stages.ended() {
            return 0;
        }
        let most = self.promised.unwrap_or(u64::MAX);
        bytes.min(usize::try_from(most).unwrap_or(usize::MAX))
    }

    /// So many bytes of the body went.
    fn passed(&mut self, bytes: usize) {
        take_off(&mut self.announced, bytes);
        if let Some(pacing) = &mut self.pacing {
            pacing.spent(bytes);
        }
        if !self.stages.is_empty() {
            self.stages.sent(bytes);
        }
    }

    /// How many of `wanted` bytes may go now.
    fn poll_room(&mut self, cx: &mut Context<'_>, wanted: usize) -> Poll<io::Result<usize>> {
        let Some(pacing) = &mut self.pacing else {
            return Poll::Ready(Ok(wanted));
        };
        if let Poll::Ready(room) = pacing.poll(cx, wanted) {
            self.client.listens_again();
            return Poll::Ready(Ok(room));
        }
        self.client.poll_paced(cx).map(Err)
    }

    /// Sends what came out of stages as far as the client takes it; the rest goes before the next piece.
    fn drain_now(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        match self.poll_drain(cx) {
            Poll::Ready(drained) => drained,
            Poll::Pending => Ok(()),
        }
    }

    /// Sends what came out of stages.
    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.stages.out.is_empty() {
            let room = ready!(self.poll_room(cx, self.stages.out.len()))?;
            let most = self.announced.unwrap_or(u64::MAX);
            let room = room.min(usize::try_from(most).unwrap_or(usize::MAX));
            if room == 0 || self.framing == BodyFraming::Absent {
                self.stages.out.clear();
                break;
            }
            let piece = &mut Buf::take(&mut self.stages.out, room);
            let sent = ready!(self.client.poll_send(cx, piece))?;
            take_off(&mut self.announced, sent);
            if let Some(pacing) = &mut self.pacing {
                pacing.spent(sent);
            }
        }
        Poll::Ready(Ok(()))
    }
}

/// Takes so many bytes off what is left, where that is known.
fn take_off(left: &mut Option<u64>, bytes: usize) {
    if let Some(left) = left {
        *left = left.saturating_sub(bytes as u64);
    }
}
