//! Reading on behind an answer, so that its client gets it.
//!
//! Closing while bytes are on their way makes the kernel reset the connection, and the client lose an answer that it has
//! not read yet. A client that sends a long body reads only then, so the rest of what was refused is read and dropped for as
//! long as it comes, within bounds of time, speed, size and number.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use super::io::{ClientIo, LINGER, State};
use super::wire::Wire;
use crate::config::ClientLimits;
use crate::gateway::admission::Admission;
use crate::gateway::http1::body::BodyDecoder;
use crate::gateway::timers::StallTimer;

/// What may still come of a request whose connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::gateway) enum Rest {
    /// What is left of its body, if anything is.
    Body,
    /// More of its head, then a body that nobody knows.
    Head,
    /// A body that nobody knows.
    Unknown,
    /// Nothing: its client is slow already.
    Nothing,
}

/// How much is read and dropped, and for how long.
struct Bounds {
    bytes: u64,
    /// Between two pieces.
    pause: Duration,
    /// Longest that a byte may take on average.
    per_byte: Duration,
    span: Duration,
}

/// Where nothing is known to come, the answer is cut short anyway, or too many are waited for already.
const SHORT: Bounds = Bounds {
    bytes: 64 << 10,
    pause: LINGER,
    per_byte: Duration::ZERO,
    span: LINGER,
};
/// Most that is dropped of a head, which is no longer than that wherever a head is served.
const MOST_OF_HEAD: u64 = 512 << 10;
/// For a client that still sends: between two pieces, and in all.
const PAUSE: Duration = Duration::from_secs(5);
const SPAN: Duration = Duration::from_secs(30);
/// How long a client of which nothing came may take to close: a request that crossed our word on its way cannot be
/// answered any more, but a reset would take answers from the client that it has not read yet.
const PARTING: Bounds = Bounds {
    span: Duration::from_millis(250),
    ..SHORT
};

impl Bounds {
    fn patient(limits: &ClientLimits) -> Self {
        Self {
            bytes: limits.linger_body,
            pause: PAUSE,
            per_byte: limits.longest_byte,
            span: SPAN,
        }
    }
}

impl ClientIo {
    /// Says that no more will be sent, then reads and drops what the client still sends. At most a tenth of all connections
    /// are waited for long.
    pub(in crate::gateway) async fn linger(
        &self,
        rest: Rest,
        limits: &ClientLimits,
        admission: &Arc<Admission>,
    ) {
        if let Some(_place) = self
            .awaits(rest)
            .then(|| admission.linger(limits))
            .flatten()
        {
            let head = (rest == Rest::Head).then(HeadEnd::default);
            self.drop_rest(Bounds::patient(limits), head).await;
        }
        self.drop_rest(SHORT, None).await;
    }

    /// Says that no more will be sent, and drops what still comes for a moment: who left its request behind sends no body.
    pub(in crate::gateway) async fn drop_what_comes(&self) {
        self.drop_rest(SHORT, None).await;
    }

    /// [`drop_what_comes`](Self::drop_what_comes) of a client that asked nothing, for a shorter moment.
    pub(in crate::gateway) async fn part(&self) {
        self.drop_rest(PARTING, None).await;
    }

    /// Drops what is here of the body already; says whether that is all of it. What lies in the kernel counts as here: a
    /// client that wrote head and body one after the other has sent both.
    pub(in crate::gateway) async fn drop_body_here(&self) -> bool {
        if self.drop_body() {
            return true;
        }
        poll_fn(|cx| {
            let mut state = self.state.lock();
            let Wire::Http1(wire) = &mut state.wire else {
                return Poll::Ready(true);
            };
            let mut left = SHORT.bytes;
            while left > 0 && wire.guard != BodyDecoder::Done {
                match wire.poll_drop_body(cx) {
                    Poll::Ready(Ok(bytes)) if bytes > 0 => {
                        left = left.saturating_sub(bytes as u64);
                    }
                    _ => break,
                }
            }
            Poll::Ready(wire.guard == BodyDecoder::Done)
        })
        .await
    }

    /// Whether there is an answer worth waiting for, and something may come in its way.
    fn awaits(&self, rest: Rest) -> bool {
        let state = self.state.lock();
        let Wire::Http1(wire) = &state.wire else {
            return false;
        };
        state.complete
            && match rest {
                Rest::Body => wire.guard != BodyDecoder::Done,
                Rest::Head | Rest::Unknown => true,
                Rest::Nothing => false,
            }
    }

    /// Ends when the client does, when all of its body came, or at a bound.
    async fn drop_rest(&self, bounds: Bounds, head: Option<HeadEnd>) {
        let drain = async {
            poll_fn(|cx| match &mut self.state.lock().wire {
                Wire::Http1(_) => Poll::Ready(()),
                Wire::Http2(wire) => wire.poll_drain(cx),
                Wire::Memory(_) => Poll::Ready(()),
            })
            .await;
            self.shutdown().await;
            let mut dropping = Dropping {
                patience: StallTimer::new(bounds.pause, bounds.per_byte),
                left: bounds.bytes,
                head,
            };
            poll_fn(|cx| self.state.lock().poll_rest(cx, &mut dropping)).await;
        };
        let _ = tokio::time::timeout(bounds.span, drain).await;
    }
}

/// What is being dropped.
struct Dropping {
    patience: StallTimer,
    left: u64,
    /// While a head is, its end is looked for.
    head: Option<HeadEnd>,
}

/// The end of a head that is not kept.
#[derive(Default)]
struct HeadEnd {
    seen: u64,
    /// The line has nothing in it so far.
    empty: bool,
    whole: bool,
}

impl HeadEnd {
    fn follow(&mut self, bytes: &[u8]) {
        self.seen += bytes.len() as u64;
        for byte in bytes {
            match byte {
                b'\n' if self.empty => self.whole = true,
                b'\n' => self.empty = true,
                b'\r' => {}
                _ => self.empty = false,
            }
        }
    }

    /// Whether it is one that does not end.
    fn is_endless(&self) -> bool {
        !self.whole && self.seen > MOST_OF_HEAD
    }
}

impl Dropping {
    /// Books bytes that were dropped; says whether there may be more.
    fn dropped(&mut self, bytes: &[u8]) -> bool {
        self.patience.moved(bytes.len());
        self.left = self.left.saturating_sub(bytes.len() as u64);
        if let Some(head) = &mut self.head {
            head.follow(bytes);
        }
        self.left > 0 && !self.head.as_ref().is_some_and(HeadEnd::is_endless)
    }
}

impl State {
    /// Reads and drops. What follows a body is dropped with it.
    fn poll_rest(&mut self, cx: &mut Context<'_>, dropping: &mut Dropping) -> Poll<()> {
        let Self { wire, waits, .. } = self;
        let Wire::Http1(wire) = wire else {
            return Poll::Ready(());
        };
        let unfinished = wire.guard != BodyDecoder::Done;
        loop {
            let mut more = true;
            match wire.poll_discard(cx, |bytes| more = dropping.dropped(bytes)) {
                Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(()),
                Poll::Ready(Ok(_)) => {}
                Poll::Pending => {
                    let Some(due) = dropping.patience.waits() else {
                        return Poll::Pending;
                    };
                    return waits.poll_until(cx, due);
                }
            }
            if !more || (unfinished && wire.guard == BodyDecoder::Done) {
                return Poll::Ready(());
            }
        }
    }
}
