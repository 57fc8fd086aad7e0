//! What the service manager is told while the gateway runs: its status in one line, and signs of life.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use pingora::server::ShutdownWatch;
use pingora::services::background::BackgroundService;
use tokio::time::{Instant, MissedTickBehavior, interval, interval_at};

use super::handover::notify::Manager;
use super::usage::Usage;
use crate::gateway::State;

/// Between two looks whether the status changed.
const SECOND: Duration = Duration::from_secs(1);
/// Endpoints that are out are named, but no more of them.
const NAMED: usize = 5;

/// The background service that keeps the manager informed.
pub(super) struct Supervision {
    state: Arc<State>,
    usage: Arc<Usage>,
    manager: Arc<Manager>,
}

impl Supervision {
    /// Tells `manager`.
    pub(super) fn new(state: Arc<State>, usage: Arc<Usage>, manager: Arc<Manager>) -> Self {
        Self {
            state,
            usage,
            manager,
        }
    }

    fn tell_status(&self) {
        if self.state.ready()
            && let Some(status) = status(&self.state)
        {
            self.manager.status(&status);
        }
    }

    /// Of a worker that is stuck the manager hears as of a dead process: from neither comes a word.
    fn tell_alive(&self, since: u64, patience: Duration, silent: &mut bool) {
        if self.state.draining() {
            // If the service goes on, it is another process that must show it lives.
            return;
        }
        let stuck = self.usage.stuck(since, self.state.clock.now(), patience);
        if stuck.is_empty() {
            *silent = false;
            self.manager.alive();
        } else if !std::mem::replace(silent, true) {
            log::error!(
                "worker {stuck:?} made no progress for {patience:?}: no sign of life goes to the watchdog"
            );
        }
    }
}

#[async_trait]
impl BackgroundService for Supervision {
    async fn start(&self, mut shutdown: ShutdownWatch) {
        let mut second = interval(SECOND);
        second.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let watchdog = self.manager.watchdog();
        // A third of the time, so that one late word is no catastrophe; a worker may be silent for half of it.
        let every = watchdog.map_or(Duration::MAX / 4, |within| within / 3);
        let mut sign = interval_at(Instant::now(), every.max(Duration::from_millis(1)));
        sign.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (since, mut silent) = (self.state.clock.now(), false);
        loop {
            tokio::select! {
                _ = shutdown.changed() => return,
                _ = second.tick() => self.tell_status(),
                _ = sign.tick(), if watchdog.is_some() => {
                    self.tell_alive(since, watchdog.unwrap_or(every) / 2, &mut silent);
                }
            }
        }
    }
}

/// Routes, upstreams and how many of their endpoints take requests.
fn status(state: &State) -> Option<String> {
    let snapshot = state.snapshot()?;
    let now = state.clock.now();
    let (mut up, mut all, mut out) = (0, 0, Vec::new());
    for pool in snapshot.pools.values() {
        for (endpoint, _, _) in pool.endpoints() {
            all += 1;
            match endpoint.state(now) {
                "up" => up += 1,
                other if out.len() < NAMED => {
                    let upstream = pool.settings().name.as_str();
                    out.push(format!("{upstream} {} {other}", endpoint.address));
                }
                _ => {}
            }
        }
    }
    let (routes, upstreams) = (snapshot.routes.len(), snapshot.pools.len());
    let mut text = format!("{routes} routes, {upstreams} upstreams, {up} of {all} endpoints up");
    if !out.is_empty() {
        text.push_str(&format!(" ({}", out.join(", ")));
        text.push_str(if all - up > out.len() { ", ...)" } else { ")" });
    }
    Some(text)
}
