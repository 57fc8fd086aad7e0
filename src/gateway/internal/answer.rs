//! The answer to a request made inside the process, driven by whoever holds it.

use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Response};

use crate::gateway::memory::{End, Pipe};

/// An answer on its way. Dropping it ends its request.
pub struct Answer {
    /// The request being served, until it is over.
    serving: Option<Serving>,
    pipe: Arc<Pipe>,
}

type Serving = Pin<Box<dyn Future<Output = ()> + Send>>;

/// An answer that is not whole: its upstream broke off, or its time was over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the answer is not whole")]
pub struct Cut;

/// A whole answer.
#[derive(Debug)]
pub struct Whole {
    /// Status and fields.
    pub head: Response<()>,
    /// Body.
    pub body: Bytes,
    /// What followed it.
    pub trailers: Option<HeaderMap>,
}

/// Why an answer was not gathered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotWhole {
    /// The answer broke off.
    #[error(transparent)]
    Cut(#[from] Cut),
    /// The body is longer than there is room for.
    #[error("the answer is longer than there is room for")]
    TooLong,
}

/// What comes behind an answer's head.
#[derive(Debug)]
pub enum Next {
    /// A piece of the body.
    Piece(Bytes),
    /// The end, perhaps with trailers. The request's record is written by now.
    End(Option<HeaderMap>),
}

impl Answer {
    /// The answer that `serving` puts into `pipe`.
    pub(super) fn new(serving: impl Future<Output = ()> + Send + 'static, pipe: Arc<Pipe>) -> Self {
        Self {
            serving: Some(Box::pin(serving)),
            pipe,
        }
    }

    /// The head of the answer. Asked once.
    pub fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<Response<()>, Cut>> {
        let over = self.drive(cx);
        match self.pipe.take_head() {
            Some(head) => Poll::Ready(Ok(head)),
            None if over => Poll::Ready(Err(Cut)),
            None => Poll::Pending,
        }
    }

    /// What comes next behind the head. What is here is taken first: that makes room for more.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Next, Cut>> {
        let taken = self.pipe.take_piece();
        let over = self.drive(cx);
        if let Some(piece) = taken.or_else(|| self.pipe.take_piece()) {
            return Poll::Ready(Ok(Next::Piece(piece)));
        }
        if !over {
            return Poll::Pending;
        }
        Poll::Ready(match self.pipe.take_end() {
            Some(End::Whole(trailers)) => Ok(Next::End(trailers)),
            Some(End::Cut) | None => Err(Cut),
        })
    }

    /// All of the answer, with a body of at most so many bytes.
    pub async fn whole(mut self, most: usize) -> Result<Whole, NotWhole> {
        let head = poll_fn(|cx| self.poll_head(cx)).await?;
        let mut body = BytesMut::new();
        loop {
            match poll_fn(|cx| self.poll_next(cx)).await? {
                Next::Piece(piece) if body.len() + piece.len() > most => {
                    return Err(NotWhole::TooLong);
                }
                Next::Piece(piece) => body.extend_from_slice(&piece),
                Next::End(trailers) => {
                    let body = body.freeze();
                    return Ok(Whole {
                        head,
                        body,
                        trailers,
                    });
                }
            }
        }
    }

    /// Goes on with the request as far as it can; says whether it is over.
    fn drive(&mut self, cx: &mut Context<'_>) -> bool {
        if let Some(serving) = &mut self.serving
            && serving.as_mut().poll(cx).is_ready()
        {
            self.serving = None;
        }
        self.serving.is_none()
    }
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answer")
            .field("over", &self.serving.is_none())
            .finish()
    }
}
