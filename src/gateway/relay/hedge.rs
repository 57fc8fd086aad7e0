//! A second try beside the first: when an answer is awaited for longer than most take, another endpoint is asked too.
//! The first answer wins, and the connection of the other is closed.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Buf;
use pingora::http::RequestHeader;
use pingora::{Error, ErrorSource, ErrorType};
use smallvec::SmallVec;
use tokio::time::Sleep;

use super::Opening;
use super::answer::{self, Answer};
use super::origin::Origin;
use super::upload::{Stopped, Upload};
use crate::gateway::client::ClientIo;
use crate::gateway::contest::Contender;
use crate::gateway::ctx::{Ctx, Lane};
use crate::gateway::http1::answer::AnswerHead;
use crate::gateway::{failure, forward};
use crate::observe::stats::RetryCause;
use crate::upstream::Pool;
use crate::upstream::breaker::Ending;

/// Further tries of one request.
pub(super) struct Hedge<'e> {
    pool: Arc<Pool>,
    lane: &'e Lane,
    after: Duration,
    timer: Pin<Box<Sleep>>,
    /// Further tries that may still begin.
    left: u32,
    rivals: SmallVec<[Rival; 1]>,
    /// How the first try failed, while others are under way.
    pub(super) failed: Option<Box<Error>>,
}

/// A further try under way.
struct Rival {
    contender: Contender,
    upload: Upload,
    way: Way,
    informational: u32,
}

enum Way {
    Connecting(Opening),
    Open(Origin),
}

/// A try that answered first.
pub(super) struct Winner {
    pub(super) origin: Origin,
    pub(super) upload: Upload,
    contender: Contender,
}

/// Informational answers of a further try; they are dropped.
const MOST_INFORMATIONAL: u32 = 100;

impl<'e> Hedge<'e> {
    /// For the first try of a request, where the upstream asks for it.
    pub(super) fn of(ctx: &Ctx, lane: &'e Lane) -> Option<Box<Self>> {
        let pool = ctx.forward.pool.as_ref()?;
        let pace = pool.pace()?;
        let (rule, after) = (pace.rule(), pace.after()?);
        if ctx.lean() || ctx.forward.attempts > 1 || !forward::hedged(ctx) {
            return None;
        }
        let sent = ctx.forward.sent.unwrap_or_else(Instant::now);
        let timer = tokio::time::sleep_until((sent + after).into());
        Some(Box::new(Self {
            pool: Arc::clone(pool),
            lane,
            after,
            timer: Box::pin(timer),
            left: rule.max,
            rivals: SmallVec::new(),
            failed: None,
        }))
    }

    /// Whether another try is under way.
    pub(super) fn is_on(&self) -> bool {
        !self.rivals.is_empty()
    }

    /// Begins a further try when it is time, once the endpoint asked first has the whole request.
    pub(super) fn poll_begin(
        &mut self,
        cx: &mut Context<'_>,
        request: &RequestHeader,
        upload: &Upload,
        ctx: &mut Ctx,
    ) {
        while self.left > 0 && self.failed.is_none() && upload.sent() {
            if self.timer.as_mut().poll(cx).is_pending() {
                return;
            }
            let begun = upload.again().and_then(|again| {
                let contender = Contender::begin(ctx)?;
                Rival::begin(contender, again, self, request, ctx)
            });
            let Some(rival) = begun else {
                self.left = 0;
                return;
            };
            self.rivals.push(rival);
            self.left -= 1;
            let next = Instant::now() + self.after;
            self.timer.as_mut().reset(next.into());
        }
    }

    /// Goes on with the further tries; the first that has an answer is taken out.
    pub(super) fn poll_rivals(
        &mut self,
        cx: &mut Context<'_>,
        client: &ClientIo,
        ctx: &mut Ctx,
    ) -> Option<Winner> {
        let mut index = 0;
        while index < self.rivals.len() {
            let Poll::Ready(outcome) = self.rivals[index].poll(cx, client, ctx) else {
                index += 1;
                continue;
            };
            let Rival {
                contender,
                upload,
                way,
                ..
            } = self.rivals.remove(index);
            match (outcome, way) {
                (Ok(status), Way::Open(origin)) => {
                    let alone = self.failed.is_some() && self.rivals.is_empty();
                    if alone || !contender.would_rather_wait(status) {
                        return Some(Winner {
                            origin,
                            upload,
                            contender,
                        });
                    }
                    contender.failed(Ending::Answered(status), ctx);
                }
                (Err(_), Way::Open(origin)) if origin.stale() => contender.in_vain(),
                (Err(error), _) if failure::out_of_descriptors(&error) => contender.in_vain(),
                (Err(error), _) => {
                    let cause = failure::cause(&error).unwrap_or(RetryCause::Reset);
                    contender.failed(Ending::Broken(cause), ctx);
                }
                (Ok(_), Way::Connecting(_)) => contender.in_vain(),
            }
        }
        None
    }

    /// The winner is the request's try from now on; the others are given up.
    pub(super) fn won(self, winner: Winner, ctx: &mut Ctx) -> (Origin, Upload) {
        let failed = self.failed.map(|error| {
            let cause = failure::cause(&error);
            cause.unwrap_or(RetryCause::Reset)
        });
        winner.contender.take_over(failed, ctx);
        (winner.origin, winner.upload)
    }
}

/// Whether another try may still save a request whose first failed so: not when it is the client's fault, or when another
/// upstream took it over.
pub(super) fn may_go_on(error: &Error, client: &ClientIo, ctx: &Ctx) -> bool {
    let clients = *error.esource() == ErrorSource::Downstream;
    !clients && ctx.refusal.is_none() && ctx.policy.fell.is_none() && client.fault().is_none()
}

impl Rival {
    fn begin(
        contender: Contender,
        mut upload: Upload,
        hedge: &Hedge<'_>,
        request: &RequestHeader,
        ctx: &mut Ctx,
    ) -> Option<Self> {
        let endpoint = Arc::clone(contender.endpoint());
        let address = endpoint.address.inet()?;
        // The head is that of its own try: host, span and time left.
        let sent = ctx.forward.sent.replace(contender.sent);
        let current = ctx.forward.current.replace(endpoint);
        upload.begin(request, ctx);
        (ctx.forward.sent, ctx.forward.current) = (sent, current);
        let keeping = hedge.lane.kept.keeping(&hedge.pool);
        let sent = contender.sent;
        let kept = keeping.and_then(|keeping| hedge.lane.kept.take(&keeping, address, sent));
        let way = match kept {
            Some(socket) => Way::Open(Origin::kept(socket)),
            None => match super::secure(contender.endpoint(), &hedge.pool, ctx) {
                Some(opening) => Way::Connecting(opening),
                None => {
                    let within = forward::connect_within(ctx, &hedge.pool);
                    Way::Connecting(Box::pin(Origin::connect(address, within)))
                }
            },
        };
        Some(Self {
            contender,
            upload,
            way,
            informational: 0,
        })
    }

    /// Ready with the status of its answer once the head is here.
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        client: &ClientIo,
        ctx: &mut Ctx,
    ) -> Poll<Result<u16, Box<Error>>> {
        if let Way::Connecting(connecting) = &mut self.way {
            let origin = std::task::ready!(connecting.as_mut().poll(cx))?;
            self.contender.sent = Instant::now();
            self.way = Way::Open(origin);
        }
        let Way::Open(origin) = &mut self.way else {
            return Poll::Pending;
        };
        if !self.upload.sent() {
            // What the first try sent of the body is what was received of it.
            let received = ctx.body_in;
            let sent = self.upload.poll(cx, origin, client, ctx);
            ctx.body_in = received;
            if let Poll::Ready(Err(Stopped::Origin(error))) = sent {
                let why = "sending to the upstream";
                return Poll::Ready(Err(
                    Error::because(ErrorType::WriteError, why, error).into_up()
                ));
            }
        }
        loop {
            match self.status() {
                Ok(None) => {}
                Ok(Some(status)) => return Poll::Ready(Ok(status)),
                Err(error) => return Poll::Ready(Err(error)),
            }
            let Way::Open(origin) = &mut self.way else {
                return Poll::Pending;
            };
            let failed = match std::task::ready!(origin.poll_read(cx, 0)) {
                Ok(1..) => continue,
                Ok(0) => Error::explain(ErrorType::ConnectionClosed, "the upstream broke off"),
                Err(error) => {
                    Error::because(ErrorType::ReadError, "reading from the upstream", error)
                }
            };
            return Poll::Ready(Err(failed.into_up()));
        }
    }

    /// The status of the final head that is here, if it is whole.
    fn status(&mut self) -> Result<Option<u16>, Box<Error>> {
        let Way::Open(origin) = &mut self.way else {
            return Ok(None);
        };
        loop {
            let (status, length) = {
                let mut room = answer::room();
                let parsed = Answer::parse(&origin.incoming, &mut room);
                match parsed.map_err(|why| forward::invalid(why.0))? {
                    Some((answer, length)) => (answer.status(), length),
                    None => return Ok(None),
                }
            };
            if status >= 200 {
                return Ok(Some(status));
            }
            self.informational += 1;
            if self.informational > MOST_INFORMATIONAL {
                return Err(forward::invalid("too many informational answers"));
            }
            origin.incoming.advance(length);
        }
    }
}
