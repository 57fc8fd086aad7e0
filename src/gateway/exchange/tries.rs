//! The one loop over the tries of a request.

use std::sync::Arc;
use std::time::Instant;

use pingora::http::RequestHeader;
use pingora::{Error, ErrorSource};

use super::choose::choose;
use super::outcome::{self, AttemptError};
use super::race::Race;
use super::stages::{Exchange, Failed};
use super::transport::{Dial, Transport};
use super::upload::Upload;
use crate::gateway::answer::ResponseWriter;
use crate::gateway::client::ClientIo;
use crate::gateway::ctx::Ctx;
use crate::gateway::http1::head::Framing;
use crate::gateway::outgoing_head::Destination;
use crate::gateway::session::read_error;
use crate::gateway::timers::AbortReason;
use crate::gateway::worker_local::WorkerLocal;
use crate::gateway::{failure, reply};
use crate::observe::stats::RetryCause;
use crate::upstream::{Endpoint, Pool};

/// Forwards the request and answers the client. An error is for the client, see [`failure::refusal`].
pub(in crate::gateway) async fn forward(
    request: &RequestHeader,
    ctx: &mut Ctx,
    lane: &Arc<WorkerLocal>,
    writer: &mut ResponseWriter,
) -> Result<(), Box<Error>> {
    let Some(start) = &ctx.start else {
        return Err(failure::refused(ctx, reply::internal()));
    };
    let client = Arc::clone(&start.client);
    let upload = Upload::new(start.head.framing != Framing::None);
    let mut tries = Tries {
        request,
        ctx,
        lane,
        client: &client,
        writer,
        upload,
    };
    loop {
        match tries.once().await {
            Ok(()) => return Ok(()),
            Err(Ended::Whole(error)) => return Err(error),
            Err(Ended::Again(error)) => tries.tell(&error),
        }
    }
}

/// The tries of one request.
struct Tries<'t> {
    request: &'t RequestHeader,
    ctx: &'t mut Ctx,
    lane: &'t Arc<WorkerLocal>,
    client: &'t ClientIo,
    writer: &'t mut ResponseWriter,
    upload: Upload,
}

/// Whom a try asks.
struct Asked {
    pool: Arc<Pool>,
    endpoint: Arc<Endpoint>,
}

/// How a try ended that brought no whole answer.
enum Ended {
    /// The request ends with it.
    Whole(Box<Error>),
    /// Another is made.
    Again(Box<Error>),
}

impl Tries<'_> {
    /// One try.
    async fn once(&mut self) -> Result<(), Ended> {
        let endpoint = choose(self.ctx).await.map_err(Ended::Whole)?;
        let Some(pool) = self.ctx.forward.pool.clone() else {
            let error = failure::refused(self.ctx, reply::internal());
            return Err(Ended::Whole(error));
        };
        let asked = Asked { pool, endpoint };
        let transport = match self.kept(&asked) {
            Some(kept) => kept,
            None => self.open(&asked).await?,
        };
        self.exchange(&asked, transport).await
    }

    /// A connection that was kept. They grow old together: after one that was found closed only a new one tells what the
    /// endpoint is like.
    fn kept(&self, asked: &Asked) -> Option<Transport> {
        let forward = &self.ctx.forward;
        let now = forward.attempts.sent().filter(|_| !forward.stale)?;
        Transport::kept(self.lane, &asked.pool, &asked.endpoint.address, now)
    }

    /// A new connection, or a place on one that is there. Whoever leaves meanwhile needs none.
    async fn open(&mut self, asked: &Asked) -> Result<Transport, Ended> {
        let opening = Transport::open(Dial {
            state: Arc::clone(&self.ctx.state),
            lane: Arc::clone(self.lane),
            pool: Arc::clone(&asked.pool),
            endpoint: Arc::clone(&asked.endpoint),
            left: outcome::remaining(self.ctx, Instant::now()),
        });
        let opened = self.client.unless_gone(opening).await;
        match opened.map_err(|gone| Ended::Whole(read_error(&gone)))? {
            Ok(transport) => {
                if !transport.reused() {
                    outcome::connected(self.ctx);
                }
                Ok(transport)
            }
            Err(error) => {
                let cause = failure::cause(&error).unwrap_or(RetryCause::Connect);
                let again = !failure::out_of_descriptors(&error)
                    && outcome::connect_failed(self.ctx, cause);
                Err(Ended::of(error, again))
            }
        }
    }

    /// Sends the request over what is open, and its answer to the client.
    async fn exchange(&mut self, asked: &Asked, mut transport: Transport) -> Result<(), Ended> {
        match self.begin(asked, &mut transport) {
            Ok(()) => {}
            // The request has no form in the endpoint's protocol, and would have none in another try.
            Err(error) if *error.esource() != ErrorSource::Upstream => {
                return Err(Ended::Whole(error));
            }
            Err(error) => {
                let failed = Failed {
                    error,
                    began: false,
                };
                return self.failed(asked, transport, failed).await;
            }
        }
        let race = Race::of(self.ctx, self.lane);
        let (client, writer, upload) = (self.client, &mut *self.writer, &mut self.upload);
        let mut exchange = Exchange::new(
            self.request,
            self.ctx,
            client,
            writer,
            transport,
            upload,
            race,
        );
        let outcome = std::future::poll_fn(|cx| exchange.poll(cx)).await;
        if outcome.is_ok() && exchange.is_tunnel() {
            // Boxed: few become one, and it would be a part of every request.
            Box::pin(exchange.part()).await;
            return Ok(());
        }
        let transport = exchange.into_transport();
        match outcome {
            Ok(()) => {
                self.answered(asked, transport);
                Ok(())
            }
            Err(failed) => self.failed(asked, transport, failed).await,
        }
    }

    fn begin(&mut self, asked: &Asked, transport: &mut Transport) -> Result<(), Box<Error>> {
        let ctx = &*self.ctx;
        let to = Destination {
            pool: &asked.pool,
            endpoint: &asked.endpoint,
            sent: ctx.forward.attempts.sent(),
            number: ctx.forward.attempts.count(),
        };
        let patience = asked.pool.settings().timeout.write;
        let ends = self.upload.begin(ctx, patience, outcome::may_repeat(ctx));
        transport.begin(self.request, ctx, &to, ends)
    }

    /// The client has all of the answer: what another request can use is kept for it.
    fn answered(&mut self, asked: &Asked, transport: Transport) {
        let now = Instant::now();
        self.ctx.ended = Some(now);
        let forward = &mut self.ctx.forward;
        forward.attempts.count_current(transport.traffic());
        // Another endpoint may have answered first.
        let current = forward.current.as_ref();
        if let Some(current) = current.filter(|_| self.upload.is_sent()) {
            transport.reuse(self.lane, &asked.pool, &current.address, now);
        }
    }

    /// The try failed: what came of the answer belongs to the client, and where nothing came another may be made.
    async fn failed(
        &mut self,
        asked: &Asked,
        transport: Transport,
        Failed { error, began }: Failed,
    ) -> Result<(), Ended> {
        let attempts = &mut self.ctx.forward.attempts;
        attempts.count_current(transport.traffic());
        let broken = AttemptError {
            cause: failure::cause(&error),
            downstream: *error.esource() == ErrorSource::Downstream,
            replayable: !began && self.upload.replayable(),
            refused: transport.is_refused(),
            stale: transport.is_stale(),
        };
        if broken.stale {
            let address = &asked.endpoint.address;
            self.lane.kept.forget(&asked.pool, address);
        }
        if self.client.fault() == Some(AbortReason::Silence) {
            transport.retire();
        }
        drop(transport);
        self.writer.abort().await;
        let again = outcome::try_failed(self.ctx, &broken);
        Err(Ended::of(error, again))
    }

    /// Says in the log that another try is made.
    fn tell(&self, error: &Error) {
        let traffic = self.ctx.forward.attempts.traffic();
        let (sent, received) = (traffic.sent, traffic.received);
        let trace = self.ctx.trace.as_str();
        log::debug!(trace_id = trace, sent = sent, received = received; "tried again: {error}");
    }
}

impl Ended {
    fn of(error: Box<Error>, again: bool) -> Self {
        match again {
            true => Self::Again(error),
            false => Self::Whole(error),
        }
    }
}
