//! Answers that go out no faster than they may.
//!
//! [`ResponseWriter`](super::ResponseWriter) asks for room before a piece goes. While there is none, what was queued before
//! goes out, the deadline of the exchange holds, and nothing is read from the upstream: an answer waits where it is made,
//! not here.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::time::Sleep;

use crate::filter::Pace;
use crate::primitives::clock::Clock;

/// The paces of one answer.
pub(in crate::gateway) struct Pacing {
    paces: Vec<Box<dyn Pace>>,
    clock: Clock,
    /// Bytes that may go once the wait is over.
    granted: usize,
    wait: Option<Pin<Box<Sleep>>>,
}

impl Pacing {
    /// An answer that keeps all of these.
    pub(in crate::gateway) fn new(paces: Vec<Box<dyn Pace>>, clock: Clock) -> Self {
        Self {
            paces,
            clock,
            granted: 0,
            wait: None,
        }
    }

    /// How many of `wanted` bytes may go now; at least one.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, wanted: usize) -> Poll<usize> {
        if self.granted == 0 && wanted > 0 {
            self.reserve(wanted);
        }
        if let Some(wait) = &mut self.wait {
            std::task::ready!(wait.as_mut().poll(cx));
            self.wait = None;
        }
        Poll::Ready(self.granted)
    }

    /// So many bytes went.
    pub(super) fn spent(&mut self, bytes: usize) {
        self.granted = self.granted.saturating_sub(bytes);
    }

    fn reserve(&mut self, wanted: usize) {
        let smallest = self.paces.iter().map(|pace| pace.piece()).min();
        let piece = wanted.min(smallest.unwrap_or(usize::MAX));
        let now = self.clock.now();
        let waits = self.paces.iter_mut();
        let wait = waits.map(|pace| pace.reserve(piece, now)).max();
        let wait = wait.unwrap_or(Duration::ZERO);
        self.granted = piece;
        // A moment beyond all bounds is one that never comes; the exchange's deadline does.
        let due = Instant::now() + wait.min(Duration::from_secs(86_400));
        self.wait = (!wait.is_zero()).then(|| Box::pin(tokio::time::sleep_until(due.into())));
    }
}
