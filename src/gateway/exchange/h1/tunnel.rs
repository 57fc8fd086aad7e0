//! A connection that was upgraded: what either side sends goes to the other, until one of them ends, or both have been
//! silent for too long.
//!
//! A tunnel that is ended here is a WebSocket that goes away: both sides are told so, where no frame is under way.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes, BytesMut};

use super::connection::Connection;
use super::websocket::{CLOSE_TO_CLIENT, CLOSE_TO_ENDPOINT, Frames};
use crate::filter::{Reason, Refusal};
use crate::gateway::answer::ResponseWriter;
use crate::gateway::client::{ClientIo, Rest};
use crate::gateway::ctx::Ctx;
use crate::gateway::timers::AbortReason;
use crate::observe::TunnelEnd;

/// An open tunnel.
pub(in crate::gateway) struct Tunnel {
    /// From the client, not yet taken by the endpoint.
    up: Bytes,
    /// The connection holds back some of what was written.
    unflushed: bool,
    /// The endpoint takes nothing since then.
    blocked: Option<Instant>,
    patience: Duration,
    to_endpoint: Frames,
    to_client: Frames,
    /// The process is about to end.
    draining: Pin<Box<dyn Future<Output = ()> + Send>>,
}

/// Bytes read at a time.
const READ: u64 = 16 << 10;
/// How long both sides may take to hear that it is over. The process may end a second after that began.
const FAREWELL: Duration = Duration::from_millis(500);
/// How long a client may take to read what is still on its way to it when the process goes on.
const LONGEST_FAREWELL: Duration = Duration::from_secs(30);

impl Tunnel {
    /// One that was just opened.
    pub(in crate::gateway) fn new(ctx: &Ctx) -> Self {
        let pool = ctx.forward.pool.as_ref();
        Self {
            up: Bytes::new(),
            unflushed: false,
            blocked: None,
            patience: pool.map_or(Duration::MAX, |pool| pool.settings().timeout.write),
            to_endpoint: Frames::default(),
            to_client: Frames::default(),
            draining: Box::pin(ctx.state.last_moment()),
        }
    }

    /// Carries what there is; ready when it is over.
    pub(in crate::gateway) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        connection: &mut Connection,
        client: &ClientIo,
        writer: &mut ResponseWriter,
    ) -> Poll<TunnelEnd> {
        if self.draining.as_mut().poll(cx).is_ready() {
            return Poll::Ready(TunnelEnd::Draining);
        }
        if let Poll::Ready(end) = self.poll_up(cx, connection, client) {
            return Poll::Ready(end);
        }
        self.poll_down(cx, connection, client, writer)
    }

    fn poll_up(
        &mut self,
        cx: &mut Context<'_>,
        connection: &mut Connection,
        client: &ClientIo,
    ) -> Poll<TunnelEnd> {
        loop {
            if let Err(end) = std::task::ready!(self.poll_write(cx, connection, client)) {
                return Poll::Ready(end);
            }
            match std::task::ready!(client.poll_body(cx)) {
                Ok(Some(piece)) => self.up = piece,
                Ok(None) => return Poll::Ready(TunnelEnd::Client),
                Err(_) => return Poll::Ready(clients_end(client)),
            }
        }
    }

    fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        connection: &mut Connection,
        client: &ClientIo,
    ) -> Poll<Result<(), TunnelEnd>> {
        while !self.up.is_empty() || self.unflushed {
            let sending = if self.up.is_empty() {
                connection.poll_flush(cx).map_ok(|()| 0)
            } else {
                connection.poll_write(cx, [&self.up, &[], &[]])
            };
            match sending {
                Poll::Ready(Ok(0)) if !self.up.is_empty() => {
                    return Poll::Ready(Err(TunnelEnd::Upstream));
                }
                Poll::Ready(Ok(written)) => {
                    self.blocked = None;
                    self.unflushed = written > 0 && connection.holds_back();
                    self.to_endpoint.passed(&self.up[..written]);
                    self.up.advance(written);
                }
                Poll::Ready(Err(_)) => return Poll::Ready(Err(TunnelEnd::Upstream)),
                Poll::Pending => {
                    let since = *self.blocked.get_or_insert_with(Instant::now);
                    let Some(due) = since.checked_add(self.patience) else {
                        return Poll::Pending;
                    };
                    std::task::ready!(client.poll_silence(cx, due));
                    return Poll::Ready(Err(TunnelEnd::UpstreamStalled));
                }
            }
        }
        Poll::Ready(Ok(()))
    }

    fn poll_down(
        &mut self,
        cx: &mut Context<'_>,
        connection: &mut Connection,
        client: &ClientIo,
        writer: &mut ResponseWriter,
    ) -> Poll<TunnelEnd> {
        loop {
            while !connection.incoming.is_empty() {
                let mut piece: &[u8] = &connection.incoming;
                let written = writer.poll_write(cx, &mut piece);
                let taken = connection.incoming.len() - piece.len();
                self.to_client.passed(&connection.incoming[..taken]);
                connection.incoming.advance(taken);
                if std::task::ready!(written).is_err() {
                    return Poll::Ready(clients_end(client));
                }
            }
            match connection.poll_read(cx, READ) {
                Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(TunnelEnd::Upstream),
                Poll::Ready(Ok(_)) => client.heard(Instant::now()),
                Poll::Pending => {
                    // Idle tunnels hold no buffer.
                    connection.incoming = BytesMut::new();
                    return match std::task::ready!(writer.poll_flush(cx)) {
                        Ok(()) => Poll::Pending,
                        Err(_) => Poll::Ready(clients_end(client)),
                    };
                }
            }
        }
    }

    /// Ends the tunnel: who is still there hears so.
    pub(in crate::gateway) async fn part(
        mut self,
        end: TunnelEnd,
        connection: &mut Connection,
        client: &ClientIo,
        writer: &mut ResponseWriter,
        ctx: &mut Ctx,
    ) {
        ctx.tunnel_end = Some(end);
        ctx.ended = Some(Instant::now());
        client.end_reading();
        if let Some(refusal) = ended_here(end) {
            ctx.refusal = Some(refusal);
            self.close_frames(connection, writer);
        }
        let leave_client = async {
            if end != TunnelEnd::Client && end != TunnelEnd::ClientStalled {
                let _ = writer.finish(None).await;
                match &ctx.start {
                    // Much may still be on its way to a client that sends meanwhile: closing before it has it would take it
                    // from the client.
                    Some(start) if end != TunnelEnd::Draining => {
                        let limits = &start.snapshot.config.server.client;
                        client
                            .linger(Rest::Unknown, limits, &ctx.state.admission)
                            .await;
                    }
                    _ => client.drop_what_comes().await,
                }
            }
        };
        let leave_endpoint = async {
            if end != TunnelEnd::Client && end != TunnelEnd::Upstream {
                connection.part().await;
            }
        };
        let longest = match end {
            TunnelEnd::Draining => FAREWELL,
            _ => LONGEST_FAREWELL,
        };
        let leave_client = tokio::time::timeout(longest, leave_client);
        let leave_endpoint = tokio::time::timeout(FAREWELL, leave_endpoint);
        let _ = tokio::join!(leave_client, leave_endpoint);
    }

    fn close_frames(&mut self, connection: &mut Connection, writer: &mut ResponseWriter) {
        if self.to_client.may_close() && connection.incoming.is_empty() {
            writer.queue(&CLOSE_TO_CLIENT);
        }
        if self.to_endpoint.may_close() && self.up.is_empty() {
            // A few bytes: they fit, or the endpoint takes nothing and would not hear them in time.
            let mut cx = Context::from_waker(std::task::Waker::noop());
            let _ = connection.poll_write(&mut cx, [&CLOSE_TO_ENDPOINT, &[], &[]]);
        }
    }
}

/// Why nothing more comes from the client, or goes to it.
fn clients_end(client: &ClientIo) -> TunnelEnd {
    match client.fault() {
        Some(AbortReason::Stalled) => TunnelEnd::ClientStalled,
        Some(_) => TunnelEnd::Timeout,
        None => TunnelEnd::Client,
    }
}

/// What is said of a tunnel that neither side ended.
fn ended_here(end: TunnelEnd) -> Option<Refusal> {
    let (reason, detail) = match end {
        TunnelEnd::Client | TunnelEnd::Upstream => return None,
        TunnelEnd::Draining => (Reason::Draining, "the gateway is about to stop"),
        TunnelEnd::Timeout | TunnelEnd::ClientStalled | TunnelEnd::UpstreamStalled => {
            (Reason::TunnelTimeout, "the tunnel was silent for too long")
        }
    };
    Some(Refusal::new(reason, detail))
}
