//! A further try over HTTP/1, on a connection of its own.

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Buf;
use pingora::http::RequestHeader;
use pingora::{Error, ErrorType};

use super::Opening;
use super::answer::{self, Answer};
use super::origin::Origin;
use super::upload::{Stopped, Upload};
use crate::config::HeadLimits;
use crate::gateway::client::ClientIo;
use crate::gateway::contest::Contender;
use crate::gateway::ctx::Ctx;
use crate::gateway::forward;
use crate::gateway::hedge::Attempt;
use crate::gateway::http1::answer::AnswerHead;
use crate::gateway::lane::Lane;

/// A further try under way.
pub(super) struct Rival {
    upload: Upload,
    way: Way,
    limits: HeadLimits,
    informational: u32,
}

enum Way {
    Connecting(Opening),
    Open(Origin),
}

/// Informational answers of a further try; they are dropped.
const MOST_INFORMATIONAL: u32 = 100;

impl Rival {
    /// Begins one with what was sent of a request.
    pub(super) fn begin(
        contender: &Contender,
        upload: &Upload,
        request: &RequestHeader,
        ctx: &Ctx,
        lane: &Lane,
    ) -> Option<Self> {
        let pool = Arc::clone(ctx.forward.pool.as_ref()?);
        let address = &contender.endpoint().address;
        let mut upload = upload.again()?;
        upload.begin(request, ctx);
        let keeping = lane.kept.keeping(&pool);
        let kept = keeping.and_then(|keeping| lane.kept.take(&keeping, address, contender.sent));
        let way = match kept {
            Some(socket) => Way::Open(Origin::kept(socket)),
            None => match super::secure(contender.endpoint(), &pool, ctx) {
                Some(opening) => Way::Connecting(opening),
                None => {
                    let within = forward::connect_within(ctx, &pool);
                    let address = address.clone();
                    Way::Connecting(Box::pin(
                        async move { Origin::connect(&address, within).await },
                    ))
                }
            },
        };
        Some(Self {
            upload,
            way,
            limits: pool.settings().answer_head,
            informational: 0,
        })
    }

    /// Its connection, if it stands, and what it sent.
    pub(super) fn open(self) -> Option<(Origin, Upload)> {
        match self.way {
            Way::Open(origin) => Some((origin, self.upload)),
            Way::Connecting(_) => None,
        }
    }

    /// The status of the final head that is here, if it is whole.
    fn status(&mut self) -> Result<Option<u16>, Box<Error>> {
        let Way::Open(origin) = &mut self.way else {
            return Ok(None);
        };
        loop {
            let (status, length) = {
                let (mut room, mut more) = (answer::room(), Vec::new());
                let parsed = Answer::parse(&origin.incoming, self.limits, (&mut room, &mut more));
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

impl Attempt for Rival {
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        client: &ClientIo,
        ctx: &mut Ctx,
        sent: &mut Instant,
    ) -> Poll<Result<u16, Box<Error>>> {
        if let Way::Connecting(connecting) = &mut self.way {
            let origin = std::task::ready!(connecting.as_mut().poll(cx))?;
            *sent = Instant::now();
            self.way = Way::Open(origin);
        }
        let Way::Open(origin) = &mut self.way else {
            return Poll::Pending;
        };
        if !self.upload.sent()
            && let Poll::Ready(Err(stopped)) = self.upload.poll(cx, origin, client, ctx)
        {
            let (kind, error) = match stopped {
                Stopped::Origin(error) => (ErrorType::WriteError, error),
                // All of the body is here, so it is the endpoint that takes nothing.
                Stopped::Client(error) => (ErrorType::WriteTimedout, error),
            };
            client.forgive_silence();
            let why = "sending to the upstream";
            return Poll::Ready(Err(Error::because(kind, why, error).into_up()));
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

    fn is_stale(&self) -> bool {
        matches!(&self.way, Way::Open(origin) if origin.stale())
    }
}
