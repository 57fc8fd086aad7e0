//! A copy of a request, from when it is wanted until its answer was read.

use std::sync::Arc;

use bytes::BytesMut;
use pingora::http::RequestHeader;

use crate::gateway::route_mirror::Mirror;
use crate::gateway::state::State;
use crate::observe::rollouts::Mirrored;
use crate::upstream::{Endpoint, Outcome};

/// A copy that is not sent yet.
pub(in crate::gateway) struct Shadow {
    pub(in crate::gateway) head: RequestHeader,
    /// What was seen of the body.
    pub(in crate::gateway) body: BytesMut,
    pub(in crate::gateway) under_way: UnderWay,
    pub(in crate::gateway) state: Arc<State>,
    /// The worker that sends it.
    pub(in crate::gateway) lane: usize,
}

/// A copy that counts as under way until this is dropped.
pub(in crate::gateway) struct UnderWay {
    pub(in crate::gateway) mirror: Arc<Mirror>,
    pub(in crate::gateway) endpoint: Arc<Endpoint>,
}

impl Shadow {
    /// Counts a copy that is not sent: its body was too long, or did not come whole.
    pub(in crate::gateway) fn left_out(&self) {
        self.under_way.mirror.stats.count(Mirrored::Body);
    }
}

impl UnderWay {
    /// Counts a copy that begins.
    pub(in crate::gateway) fn new(mirror: &Arc<Mirror>, endpoint: Arc<Endpoint>) -> Self {
        mirror.stats.in_flight.up();
        endpoint.in_flight.up();
        Self {
            mirror: Arc::clone(mirror),
            endpoint,
        }
    }

    /// Tells its upstream how a copy ended: with which status, if any.
    pub(in crate::gateway) fn ended(&self, status: Option<u16>, state: &State) {
        let (stats, counts) = (&self.mirror.stats, &self.endpoint.counts.stats);
        let outcome = match status {
            Some(status) => {
                counts.statuses.up(status);
                stats.count(if status >= 500 {
                    Mirrored::ServerError
                } else {
                    Mirrored::Answered
                });
                Outcome::Good
            }
            None => {
                counts.errors.up();
                stats.count(Mirrored::Failed);
                Outcome::Bad
            }
        };
        self.mirror
            .pool
            .report(&self.endpoint, outcome, state.clock.now());
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.mirror.stats.in_flight.down();
        self.endpoint.in_flight.down();
    }
}
