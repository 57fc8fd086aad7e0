//! The body of a request on its way to an endpoint, as the client sends it; kept meanwhile for another try, as far as it
//! may be sent again.

use std::io;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::HeaderMap;

use super::transport::Transport;
use crate::gateway::asking::Asking;
use crate::gateway::client::ClientIo;
use crate::gateway::ctx::Ctx;
use crate::gateway::http1::replay::Replay;
use crate::gateway::{mirror, outgoing_head};

/// Where the body of a request stands. One for all tries of a request, and one for each beside them.
pub(super) struct Upload {
    /// There is a body.
    bodied: bool,
    body: Body,
    /// The client sent all of it: no try needs to ask for more.
    whole: bool,
    replay: Option<Replay>,
    /// What stands behind it, once it is whole.
    trailers: Option<HeaderMap>,
    /// Whether the client was asked for its body.
    pub(super) asking: Asking,
    /// The endpoint takes nothing since then, and took so many bytes before.
    blocked: Option<(Instant, u64)>,
    patience: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Body {
    /// What an earlier try read of it comes first.
    Again,
    /// The client sends it.
    Coming,
    /// All of it was read, and its end is to be put.
    Ending,
    /// All of it was put.
    Put,
    /// All of it was sent, or nothing more will be.
    Sent,
}

/// Why nothing more is sent.
pub(super) enum Stopped {
    /// The endpoint takes nothing more; it may have answered all the same.
    Endpoint,
    /// The client broke off, took too long, or sent more than the route takes; or the endpoint took nothing in time.
    Client(io::Error),
}

impl Upload {
    /// An upload that did not begin.
    pub(super) fn new(bodied: bool) -> Self {
        Self {
            bodied,
            body: Body::Coming,
            whole: !bodied,
            replay: None,
            trailers: None,
            asking: Asking::default(),
            blocked: None,
            patience: Duration::MAX,
        }
    }

    /// Begins a try, whose body is kept for another if that is `wanted`. Says whether its head is all there is to send.
    pub(super) fn begin(&mut self, ctx: &Ctx, patience: Duration, wanted: bool) -> bool {
        self.blocked = None;
        self.patience = patience;
        self.asking.begin(ctx);
        if !self.bodied {
            self.body = Body::Put;
            return true;
        }
        self.body = match self.replay {
            Some(_) => Body::Again,
            None => Body::Coming,
        };
        self.replay.get_or_insert_with(|| Replay::new(wanted));
        false
    }

    /// An upload for a try beside this one, if all of the body is here to be sent again: the client is asked by one of
    /// them only.
    pub(super) fn again(&self) -> Option<Self> {
        let replay = match &self.replay {
            Some(replay) => Some(replay.again()?),
            None => None,
        };
        self.whole.then(|| Self {
            whole: true,
            replay,
            trailers: self.trailers.clone(),
            asking: self.asking.again(),
            ..Self::new(self.bodied)
        })
    }

    /// Whether another try could send the same again.
    pub(super) fn replayable(&self) -> bool {
        self.replay.as_ref().is_none_or(Replay::whole)
    }

    /// Whether a try beside this one could.
    pub(super) fn repeatable(&self) -> bool {
        self.whole && self.replayable()
    }

    /// Whether all was sent, or nothing more will be.
    pub(super) fn is_sent(&self) -> bool {
        self.body == Body::Sent
    }

    /// Sends what can be sent now. Not asked again once it [is sent](Self::is_sent).
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        transport: &mut Transport,
        client: &ClientIo,
        ctx: &mut Ctx,
    ) -> Poll<Result<(), Stopped>> {
        loop {
            std::task::ready!(self.poll_send(cx, transport, client))?;
            let piece = match self.body {
                Body::Put | Body::Sent => {
                    self.body = Body::Sent;
                    return Poll::Ready(Ok(()));
                }
                Body::Ending => {
                    self.body = Body::Put;
                    transport.end_body(self.trailers.as_ref());
                    continue;
                }
                Body::Again => {
                    self.body = match self.whole {
                        true => Body::Ending,
                        false => Body::Coming,
                    };
                    self.replay.as_ref().and_then(Replay::bytes)
                }
                Body::Coming => {
                    let read = std::task::ready!(self.poll_read(cx, client, ctx));
                    read.map_err(Stopped::Client)?
                }
            };
            if let Some(piece) = piece {
                transport.put_body(piece);
            }
        }
    }

    /// Reads on; `None` behind the last piece.
    fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        client: &ClientIo,
        ctx: &mut Ctx,
    ) -> Poll<io::Result<Option<Bytes>>> {
        let buffered = client.buffered();
        let Some(piece) = std::task::ready!(client.poll_body(cx))? else {
            self.body = Body::Ending;
            self.whole = true;
            let trailers = client.take_trailers();
            self.trailers = trailers.and_then(|trailers| outgoing_head::trailers(trailers, ctx));
            mirror::on_end(ctx);
            return Poll::Ready(Ok(None));
        };
        self.asking.settle();
        mirror::on_body(ctx, &piece);
        if let Some(replay) = &mut self.replay {
            replay.add(&piece, buffered);
        }
        Poll::Ready(Ok(Some(piece)))
    }

    fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        transport: &mut Transport,
        client: &ClientIo,
    ) -> Poll<Result<(), Stopped>> {
        match transport.poll_send_body(cx) {
            Poll::Ready(Ok(())) => {
                self.blocked = None;
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Err(())) => {
                self.body = Body::Sent;
                Poll::Ready(Err(Stopped::Endpoint))
            }
            // Nobody reads what the endpoint says while the client takes nothing: that is not the endpoint's to answer.
            Poll::Pending if client.stalled() => {
                self.blocked = None;
                Poll::Pending
            }
            Poll::Pending => {
                let taken = transport.traffic().sent;
                let known = self.blocked.filter(|(_, before)| *before == taken);
                let (since, _) = *self
                    .blocked
                    .insert(known.unwrap_or_else(|| (Instant::now(), taken)));
                let Some(due) = since.checked_add(self.patience) else {
                    return Poll::Pending;
                };
                let overdue = std::task::ready!(client.poll_silence(cx, due));
                Poll::Ready(Err(Stopped::Client(overdue)))
            }
        }
    }
}
