//! A try beside the first, on its way to the head of an answer.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use pingora::http::RequestHeader;
use pingora::{Error, ErrorType};

use super::holding::Holding;
use super::outcome;
use super::transport::{Dial, Transport};
use super::upload::{Stopped, Upload};
use crate::gateway::client::ClientIo;
use crate::gateway::ctx::Ctx;
use crate::gateway::failure;
use crate::gateway::message::AnswerHead;
use crate::gateway::outgoing_head::Destination;
use crate::gateway::worker_local::WorkerLocal;

/// A try beside the first.
pub(super) struct HedgedAttempt {
    pub(super) holding: Holding,
    upload: Upload,
    way: Way,
    /// Number of this try among those of its request.
    number: u32,
    informational: u32,
}

enum Way {
    Opening(Opening),
    Open(Box<Transport>),
}

type Opening = Pin<Box<dyn Future<Output = Result<Transport, Box<Error>>> + Send>>;

/// Informational answers of such a try; they are dropped.
const MOST_INFORMATIONAL: u32 = 100;

impl HedgedAttempt {
    /// Begins a try that sends again what was sent of a request, if it may begin.
    pub(super) fn begin(
        request: &RequestHeader,
        first: &Upload,
        ctx: &mut Ctx,
        lane: &Arc<WorkerLocal>,
    ) -> Option<Self> {
        let upload = first.again()?;
        let holding = Holding::begin(ctx)?;
        let number = ctx.forward.attempts.count();
        let (pool, endpoint) = (&holding.pool, &holding.endpoint);
        let kept = Transport::kept(lane, pool, &endpoint.address, holding.sent);
        let opening = kept.is_none().then(|| {
            let opening: Opening = Box::pin(Transport::open(Dial {
                state: Arc::clone(&ctx.state),
                lane: Arc::clone(lane),
                pool: Arc::clone(pool),
                endpoint: Arc::clone(endpoint),
                left: outcome::remaining(ctx, Instant::now()),
            }));
            Way::Opening(opening)
        });
        let way = kept.map(Box::new).map(Way::Open).or(opening)?;
        let mut attempt = Self {
            holding,
            upload,
            way,
            number,
            informational: 0,
        };
        if let Way::Open(_) = attempt.way {
            attempt.send(request, ctx).ok()?;
        }
        Some(attempt)
    }

    /// Sends the head over what is open.
    fn send(&mut self, request: &RequestHeader, ctx: &mut Ctx) -> Result<(), Box<Error>> {
        let Way::Open(transport) = &mut self.way else {
            return Ok(());
        };
        let pool = &self.holding.pool;
        // The head is that of its own try: host, span and time left.
        let to = Destination {
            pool,
            endpoint: &self.holding.endpoint,
            sent: Some(self.holding.sent),
            number: self.number,
        };
        let ends = self.upload.begin(ctx, pool.settings().timeout.write, true);
        transport.begin(request, ctx, &to, ends)
    }

    /// Goes on; ready with the status once the head of its answer is here.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        request: &RequestHeader,
        client: &ClientIo,
        ctx: &mut Ctx,
    ) -> Poll<Result<u16, Box<Error>>> {
        if let Way::Opening(opening) = &mut self.way {
            let transport = std::task::ready!(opening.as_mut().poll(cx))?;
            if !transport.reused() {
                self.holding.connected(ctx);
            }
            self.way = Way::Open(Box::new(transport));
            self.send(request, ctx)?;
        }
        let Way::Open(transport) = &mut self.way else {
            return Poll::Pending;
        };
        if !self.upload.is_sent()
            && let Poll::Ready(Err(Stopped::Client(error))) =
                self.upload.poll(cx, transport, client, ctx)
        {
            // All of the body is here, so it is the endpoint that takes nothing.
            client.forgive_silence();
            let why = "sending to the upstream";
            let error = Error::because(ErrorType::WriteTimedout, why, error);
            return Poll::Ready(Err(error.into_up()));
        }
        loop {
            let status = std::task::ready!(transport.poll_head(cx, |head| head.status()))?;
            if status >= 200 {
                return Poll::Ready(Ok(status));
            }
            transport.pass_head();
            self.informational += 1;
            if self.informational > MOST_INFORMATIONAL {
                return Poll::Ready(Err(failure::invalid("too many informational answers")));
            }
        }
    }

    /// Whether its failure tells nothing about the endpoint.
    pub(super) fn is_stale(&self) -> bool {
        matches!(&self.way, Way::Open(transport) if transport.is_stale())
    }

    /// Notes what it sent and received.
    pub(super) fn count(&self, ctx: &mut Ctx) {
        if let Way::Open(transport) = &self.way {
            let traffic = transport.traffic();
            let attempts = &mut ctx.forward.attempts;
            attempts.count_traffic(self.holding.index, traffic);
        }
    }

    /// What it holds, and what carries it, if that stands.
    pub(super) fn into_parts(self) -> (Holding, Option<(Transport, Upload)>) {
        let carried = match self.way {
            Way::Open(transport) => Some((*transport, self.upload)),
            Way::Opening(_) => None,
        };
        (self.holding, carried)
    }
}
