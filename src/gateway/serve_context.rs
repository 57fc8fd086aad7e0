//! What all connections of a worker share, and the word that ends them.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use pingora::server::ShutdownWatch;
use tokio::sync::watch;

use super::state::State;
use super::worker_local::WorkerLocal;
use crate::primitives::ListenerName;

/// What all connections of a worker share: the application that answers, the state, and the word to stop.
pub struct ServeContext<A> {
    /// Answers requests.
    pub app: Arc<A>,
    /// Facts, and the snapshot in force.
    pub state: Arc<State>,
    /// The framework's word to stop.
    pub shutdown: ShutdownWatch,
    /// Says from when on no further request should begin, once that is known.
    pub closing: watch::Receiver<CloseSchedule>,
    /// What the worker has for itself.
    pub lane: Arc<WorkerLocal>,
    /// Requests are counted and logged as the gateway's own; not so on the admin listener.
    pub public: bool,
    /// Where the connection came in; the admin listener has no name.
    pub listener: Option<ListenerName>,
}

/// From when on connections that wait for a request end; `None` while they need not. Those of HTTP/2 are told at once,
/// and lose nothing by it.
pub type CloseSchedule = Option<Instant>;

impl<A> Clone for ServeContext<A> {
    fn clone(&self) -> Self {
        Self {
            app: Arc::clone(&self.app),
            state: Arc::clone(&self.state),
            shutdown: self.shutdown.clone(),
            closing: self.closing.clone(),
            lane: Arc::clone(&self.lane),
            public: self.public,
            listener: self.listener.clone(),
        }
    }
}

/// Which protocols a connection may speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocols {
    /// HTTP/1 alone.
    Http1,
    /// HTTP/2: agreed upon in the TLS handshake.
    Http2,
    /// HTTP/1, or HTTP/2 from a client that begins with its preface (RFC 9113 §3.3).
    Either,
}

/// The word that no further request should begin. It comes once in the life of a process and is waited for before each
/// request, so while it would wake the same task it is only looked at.
pub(super) struct DrainSignal<'c, F> {
    changed: watch::Receiver<CloseSchedule>,
    waiting: Pin<&'c mut F>,
    waker: Waker,
}

impl<'c, F: Future<Output = ()>> DrainSignal<'c, F> {
    /// The word that comes over `changed`; `waiting` is ready once it does.
    pub(super) fn new(changed: watch::Receiver<CloseSchedule>, waiting: Pin<&'c mut F>) -> Self {
        Self {
            changed,
            waiting,
            waker: Waker::noop().clone(),
        }
    }

    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.waker.will_wake(cx.waker()) {
            self.waker.clone_from(cx.waker());
            // Unconstrained: a task that used up its turn would be told "not yet" without its waker being taken.
            return Pin::new(&mut tokio::task::unconstrained(self.waiting.as_mut())).poll(cx);
        }
        match self.changed.has_changed() {
            Ok(false) => Poll::Pending,
            Ok(true) | Err(_) => Poll::Ready(()),
        }
    }

    /// From when on connections end that cannot be told; at once if nobody says.
    pub(super) fn parting(&self) -> Instant {
        self.changed.borrow().unwrap_or_else(Instant::now)
    }
}
