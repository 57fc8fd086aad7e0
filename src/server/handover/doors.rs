//! Whether the accept loops let anybody in.

use tokio::sync::watch;
use tokio::time::Instant;

use crate::gateway::CloseSchedule;
use crate::server::worker::Accepting;

/// The ends of the accept loops.
pub(in crate::server) struct Doors {
    /// Says from when on connections end that wait for a request.
    pub closing: watch::Sender<CloseSchedule>,
    /// Whether clients are accepted.
    pub public: watch::Sender<Accepting>,
    /// How the admin listener accepts, which is served to the end: a drain is watched through it.
    pub admin: watch::Sender<Accepting>,
}

impl Doors {
    /// Lets nobody in for the moment.
    pub(in crate::server) fn hold(&self) {
        self.public.send_replace(Accepting::Held);
        self.admin.send_replace(Accepting::Held);
    }

    /// Lets everybody in.
    pub(in crate::server) fn open(&self) {
        self.public.send_replace(Accepting::Open);
        self.admin.send_replace(Accepting::Open);
    }

    /// Lets nobody in any more who comes to the public listeners.
    pub(in crate::server) fn close(&self) {
        self.public.send_replace(Accepting::Closing);
        self.end_idle(Instant::now());
    }

    /// Ends connections that wait for a request, those that can be told of it at once, the others at `moment`.
    pub(in crate::server) fn end_idle(&self, moment: Instant) {
        self.closing.send_replace(Some(moment.into_std()));
    }

    /// Leaves everybody who comes to another process.
    pub(in crate::server) fn give_away(&self) {
        self.public.send_replace(Accepting::Over);
        self.admin.send_replace(Accepting::Over);
    }
}
