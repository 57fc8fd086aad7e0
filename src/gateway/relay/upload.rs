//! The request on its way to the endpoint: its head, and its body as the client sends it.

use std::io;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use pingora::http::RequestHeader;

use super::origin::Origin;
use crate::gateway::asking::Asking;
use crate::gateway::client::ClientIo;
use crate::gateway::ctx::Ctx;
use crate::gateway::http1::answer::put_chunk_size;
use crate::gateway::http1::head::Framing;
use crate::gateway::http1::replay::Replay;
use crate::gateway::{forward, mirror, outgoing_head};

/// What was not sent yet, and where the body stands.
pub(super) struct Upload {
    framing: Framing,
    /// Head, or what frames a piece of the body; goes before `piece`.
    framed: BytesMut,
    piece: Bytes,
    /// Behind the piece.
    tail: &'static [u8],
    /// The connection holds back some of what was written.
    unflushed: bool,
    body: Body,
    /// The client sent all of it: no try needs to ask for more.
    whole: bool,
    replay: Option<Replay>,
    /// Whether the client was asked for its body.
    pub(super) asking: Asking,
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
    /// All of it was read, and its end is to be sent.
    Ending,
    /// Nothing more is to be read or ended.
    Read,
}

/// Why nothing more is sent.
pub(super) enum Stopped {
    /// The endpoint takes nothing more; it may have answered all the same.
    Origin(io::Error),
    /// The client broke off, took too long, or sent more than the route takes; or the endpoint takes nothing.
    Client(io::Error),
}

impl Upload {
    /// An upload that did not begin.
    pub(super) fn new(framing: Framing) -> Self {
        Self {
            framing,
            framed: BytesMut::new(),
            piece: Bytes::new(),
            tail: b"",
            unflushed: false,
            body: Body::Coming,
            whole: framing == Framing::None,
            replay: None,
            asking: Asking::default(),
            blocked: None,
            patience: Duration::MAX,
        }
    }

    /// Begins a try.
    pub(super) fn begin(&mut self, request: &RequestHeader, ctx: &Ctx) {
        self.framed.clear();
        self.framed.reserve(1024);
        outgoing_head::write(request, ctx, &mut self.framed);
        self.piece = Bytes::new();
        self.tail = b"";
        self.unflushed = false;
        self.blocked = None;
        self.asking.begin(ctx);
        if let Some(pool) = &ctx.forward.pool {
            self.patience = pool.settings().timeout.write;
        }
        if self.framing == Framing::None {
            self.body = Body::Read;
            return;
        }
        self.body = if self.replay.is_some() {
            Body::Again
        } else {
            Body::Coming
        };
        self.replay
            .get_or_insert_with(|| Replay::new(forward::resendable(ctx) || forward::hedged(ctx)));
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
            ..Self::new(self.framing)
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
        self.body == Body::Read && self.unsent() == 0 && !self.unflushed
    }

    /// Gives up: nothing more is sent.
    pub(super) fn abandon(&mut self) {
        self.framed.clear();
        self.piece = Bytes::new();
        self.tail = b"";
        self.unflushed = false;
        self.body = Body::Read;
    }

    fn unsent(&self) -> usize {
        self.framed.len() + self.piece.len() + self.tail.len()
    }

    /// Sends what can be sent now.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        origin: &mut Origin,
        client: &ClientIo,
        ctx: &mut Ctx,
    ) -> Poll<Result<(), Stopped>> {
        loop {
            std::task::ready!(self.poll_send(cx, origin, client))?;
            let piece = match self.body {
                Body::Read => return Poll::Ready(Ok(())),
                Body::Ending => {
                    self.body = Body::Read;
                    if self.framing == Framing::Chunked {
                        self.framed.put_slice(b"0\r\n\r\n");
                    }
                    continue;
                }
                Body::Again => {
                    self.body = match self.whole {
                        true => Body::Ending,
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
                        self.body = Body::Ending;
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
            self.frame(piece);
        }
    }

    fn frame(&mut self, piece: Bytes) {
        if self.framing == Framing::Chunked {
            put_chunk_size(&mut self.framed, piece.len());
            self.tail = b"\r\n";
        }
        self.piece = piece;
    }

    fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        origin: &mut Origin,
        client: &ClientIo,
    ) -> Poll<Result<(), Stopped>> {
        while self.unsent() > 0 || self.unflushed {
            let sending = if self.unsent() > 0 {
                origin.poll_write(cx, [&self.framed, &self.piece, self.tail])
            } else {
                origin.poll_flush(cx).map_ok(|()| 0)
            };
            let written = match sending {
                Poll::Ready(written) => written.map_err(Stopped::Origin)?,
                // Nobody reads what the endpoint says while the client takes nothing: that is not the endpoint's to answer.
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
            };
            self.blocked = None;
            if self.unsent() == 0 {
                self.unflushed = false;
                break;
            }
            if written == 0 {
                let error = io::ErrorKind::WriteZero.into();
                return Poll::Ready(Err(Stopped::Origin(error)));
            }
            self.unflushed = origin.holds_back();
            let framed = written.min(self.framed.len());
            self.framed.advance(framed);
            let piece = (written - framed).min(self.piece.len());
            self.piece.advance(piece);
            self.tail = &self.tail[written - framed - piece..];
        }
        Poll::Ready(Ok(()))
    }
}
