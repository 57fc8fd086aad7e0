//! The request's body on its way to the endpoint, in frames.

use std::io;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::stream::Stream;
use crate::gateway::asking::Asking;
use crate::gateway::client::ClientIo;
use crate::gateway::ctx::Ctx;
use crate::gateway::http1::replay::Replay;
use crate::gateway::mirror;

/// What was not sent yet, and where the body stands.
pub(super) struct Upload {
    /// There is a body.
    bodied: bool,
    piece: Bytes,
    body: Body,
    /// The client sent all of it: no try needs to ask for more.
    whole: bool,
    replay: Option<Replay>,
    /// Whether the client was asked for its body.
    pub(super) asking: Asking,
    /// The end was sent.
    ended: bool,
    /// The endpoint takes nothing since then.
    blocked: Option<Instant>,
    patience: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Body {
    /// What an earlier try read of it comes first.
    Again,
    /// The client sends it.
    Coming,
    /// All of it was read.
    Read,
}

/// Why nothing more is sent.
pub(super) enum Stopped {
    /// The endpoint takes nothing more; it may have answered all the same.
    Origin,
    /// The client broke off, took too long, or sent more than the route takes; or the endpoint takes nothing.
    Client(io::Error),
}

impl Upload {
    /// An upload that did not begin.
    pub(super) fn new(bodied: bool) -> Self {
        Self {
            bodied,
            piece: Bytes::new(),
            body: Body::Coming,
            whole: !bodied,
            replay: None,
            asking: Asking::default(),
            ended: false,
            blocked: None,
            patience: Duration::MAX,
        }
    }

    /// Begins a try; says whether its head is all there is to send.
    pub(super) fn begin(&mut self, ctx: &Ctx) -> bool {
        self.piece = Bytes::new();
        self.blocked = None;
        self.asking.begin(ctx);
        self.ended = !self.bodied;
        if let Some(pool) = &ctx.forward.pool {
            self.patience = pool.settings().timeout.write;
        }
        if !self.bodied {
            self.body = Body::Read;
            return true;
        }
        self.body = if self.replay.is_some() {
            Body::Again
        } else {
            Body::Coming
        };
        self.replay.get_or_insert_with(|| Replay::new(true));
        false
    }

    /// The same for a try beside the first, if all of the body is here to be sent again: the client is asked by one of them
    /// only.
    pub(super) fn again(&self) -> Option<Self> {
        let replay = match &self.replay {
            Some(replay) => Some(replay.again()?),
            None => None,
        };
        self.whole.then(|| Self {
            whole: true,
            replay,
            asking: self.asking.again(),
            ..Self::new(self.bodied)
        })
    }

    /// Gives back what was read of the body: the request goes on another way.
    pub(super) fn give_back(&self, client: &ClientIo) {
        if let Some(read) = self.replay.as_ref().and_then(Replay::bytes) {
            client.put_back(read);
        }
    }

    /// Whether another try could send the same again.
    pub(super) fn replayable(&self) -> bool {
        self.replay.as_ref().is_none_or(Replay::whole)
    }

    /// Whether one beside this could.
    pub(super) fn repeatable(&self) -> bool {
        self.whole && self.replayable()
    }

    /// Whether all was sent.
    pub(super) fn sent(&self) -> bool {
        self.body == Body::Read && self.piece.is_empty() && self.ended
    }

    /// Gives up: nothing more is sent.
    pub(super) fn abandon(&mut self) {
        self.piece = Bytes::new();
        self.body = Body::Read;
        self.ended = true;
    }

    /// Sends what can be sent now.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut Stream,
        client: &ClientIo,
        ctx: &mut Ctx,
    ) -> Poll<Result<(), Stopped>> {
        loop {
            std::task::ready!(self.poll_send(cx, stream, client))?;
            let piece = match self.body {
                Body::Read => return Poll::Ready(self.end(stream)),
                Body::Again => {
                    self.body = match self.whole {
                        true => Body::Read,
                        false => Body::Coming,
                    };
                    let kept = self.replay.as_ref().and_then(Replay::bytes);
                    let Some(kept) = kept else { continue };
                    kept
                }
                Body::Coming => {
                    let buffered = client.buffered();
                    let piece = std::task::ready!(client.poll_body(cx)).map_err(Stopped::Client)?;
                    let Some(piece) = piece else {
                        self.body = Body::Read;
                        self.whole = true;
                        mirror::ended(ctx);
                        continue;
                    };
                    self.asking.settle();
                    mirror::saw(ctx, &piece);
                    if let Some(replay) = &mut self.replay {
                        replay.add(&piece, buffered);
                    }
                    piece
                }
            };
            self.piece = piece;
        }
    }

    /// Hands to the codec what the endpoint's windows are open for.
    fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut Stream,
        client: &ClientIo,
    ) -> Poll<Result<(), Stopped>> {
        while !self.piece.is_empty() {
            let Some(body) = &mut stream.body else {
                return Poll::Ready(Err(Stopped::Origin));
            };
            body.reserve_capacity(self.piece.len());
            let open = match body.capacity() {
                0 => match body.poll_capacity(cx) {
                    Poll::Ready(Some(Ok(open))) => open,
                    Poll::Ready(Some(Err(_)) | None) => {
                        return Poll::Ready(Err(Stopped::Origin));
                    }
                    // Nobody reads what the endpoint says while the client takes nothing: that is not the endpoint's to
                    // answer.
                    Poll::Pending if client.stalled() => {
                        self.blocked = None;
                        return Poll::Pending;
                    }
                    Poll::Pending => {
                        let since = *self.blocked.get_or_insert_with(Instant::now);
                        let Some(due) = since.checked_add(self.patience) else {
                            return Poll::Pending;
                        };
                        let overdue = std::task::ready!(client.poll_silence(cx, due));
                        return Poll::Ready(Err(Stopped::Client(overdue)));
                    }
                },
                open => open,
            };
            self.blocked = None;
            let piece = self.piece.split_to(self.piece.len().min(open));
            if body.send_data(piece, false).is_err() {
                return Poll::Ready(Err(Stopped::Origin));
            }
        }
        Poll::Ready(Ok(()))
    }

    fn end(&mut self, stream: &mut Stream) -> Result<(), Stopped> {
        if std::mem::replace(&mut self.ended, true) {
            return Ok(());
        }
        let ended = stream.body.as_mut().map(|body| {
            // An endpoint that reset the stream was heard before.
            body.send_data(Bytes::new(), true)
                .map_err(|_| Stopped::Origin)
        });
        ended.unwrap_or(Ok(()))
    }
}
