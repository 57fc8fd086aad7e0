//! The end of the process: not ready, no longer accepting, draining, gone.
//!
//! The framework sleeps its whole grace period even when nothing is in flight, so the drain is done here, before it is
//! told anything; what it hears is only "stop now".

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use pingora::server::{ShutdownSignal, ShutdownSignalWatch};
use tokio::sync::watch;
use tokio::time::Instant;

use super::signals::{Signals, Stop};
use crate::gateway::State;

/// Between two looks at what is in flight.
const LOOK: Duration = Duration::from_millis(10);

/// Waits for the word to stop and drains.
pub(super) struct Life {
    state: Arc<State>,
    closing: watch::Sender<bool>,
    signals: Signals,
}

impl Life {
    /// `closing` turns true when accepting must end.
    pub(super) fn new(state: Arc<State>, closing: watch::Sender<bool>, signals: Signals) -> Self {
        Self {
            state,
            closing,
            signals,
        }
    }

    async fn drain(&self) {
        let Some(snapshot) = self.state.snapshot() else {
            return;
        };
        let (delay, grace) = (
            snapshot.config.server.drain_delay,
            snapshot.config.server.grace_period,
        );
        drop(snapshot);
        self.state.set_ready(false);
        log::info!(
            "stopping: not ready any more, accepting for {delay:?}, then draining for at most {grace:?}"
        );
        tokio::time::sleep(delay).await;
        self.state.drain();
        self.closing.send_replace(true);
        let deadline = Instant::now() + grace;
        while Instant::now() < deadline {
            if self.state.in_flight() == 0 && self.state.admission.open() == 0 {
                return;
            }
            tokio::time::sleep(LOOK).await;
        }
        log::warn!(
            "{} requests were still in flight after {grace:?} and are cut off",
            self.state.in_flight()
        );
    }
}

#[async_trait]
impl ShutdownSignalWatch for Life {
    async fn recv(&self) -> ShutdownSignal {
        let mut stop = self.signals.stop.clone();
        let asked = stop
            .wait_for(|stop| *stop > Stop::No)
            .await
            .map(|stop| *stop)
            .unwrap_or(Stop::Now);
        if asked == Stop::Drain {
            tokio::select! {
                () = self.drain() => {}
                _ = stop.wait_for(|stop| *stop == Stop::Now) => log::warn!("stopping now"),
            }
        }
        self.state.set_ready(false);
        self.closing.send_replace(true);
        ShutdownSignal::FastShutdown
    }
}
