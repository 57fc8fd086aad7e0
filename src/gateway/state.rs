//! The snapshot in force, and the facts that it and all others stand on.

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::Instant;

use arc_swap::ArcSwapOption;
use parking_lot::Mutex;
use tokio::sync::watch;

use super::facts::Facts;
use super::snapshot::Snapshot;
use crate::observe::{LogHandle, Metrics};

/// Where the process stands between its start and its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Phase {
    /// Not every listener has answered yet.
    Starting,
    /// New clients are welcome.
    Serving,
    /// Told to stop; clients that come all the same are served.
    Leaving,
    /// What is in flight is finished, nothing new begins.
    Draining,
}

/// The snapshot in force with the [`Facts`] below it, which are reached through it.
pub struct State {
    facts: Facts,
    snapshot: ArcSwapOption<Snapshot>,
    /// What is in force again unless the snapshot in force, which is on trial, is confirmed.
    fallback: ArcSwapOption<Snapshot>,
    /// One snapshot comes into force at a time.
    publishing: Mutex<()>,
    /// When what never ends by itself is ended, once the process is to end.
    last_moment: watch::Sender<Option<Instant>>,
    phase: AtomicU8,
    in_flight: AtomicU64,
}

impl State {
    /// A state without a snapshot, which knows nothing yet.
    pub fn new(metrics: Arc<Metrics>, log: Option<LogHandle>) -> Self {
        Self {
            facts: Facts::new(metrics, log),
            snapshot: ArcSwapOption::empty(),
            fallback: ArcSwapOption::empty(),
            publishing: Mutex::default(),
            last_moment: watch::Sender::new(None),
            phase: AtomicU8::new(Phase::Starting as u8),
            in_flight: AtomicU64::new(0),
        }
    }

    /// The snapshot in force; `None` before the first good configuration.
    pub fn snapshot(&self) -> Option<Arc<Snapshot>> {
        self.snapshot.load_full()
    }

    /// The snapshot in force, and the one that may be in force again: what another one is built beside.
    pub fn earlier(&self) -> Vec<Arc<Snapshot>> {
        let both = [&self.snapshot, &self.fallback];
        both.into_iter()
            .filter_map(ArcSwapOption::load_full)
            .collect()
    }

    /// What is in force again unless the snapshot in force is confirmed; `None` when nothing is on trial.
    pub fn fallback(&self) -> Option<Arc<Snapshot>> {
        self.fallback.load_full()
    }

    /// Puts a snapshot in force. Requests under way keep theirs.
    pub fn publish(&self, snapshot: &Arc<Snapshot>) {
        self.publish_beside(snapshot, None);
    }

    /// Puts `snapshot` in force, on trial where there is a `fallback`, which may be in force again soon. Nothing is
    /// forgotten that the fallback counts or knows, and where facts are bounded the larger of both bounds holds.
    ///
    /// This is where settings reach facts, and nowhere else. Before a request is served by `snapshot` there is room for
    /// what it and those still under way need, and only after that less.
    pub fn publish_beside(&self, snapshot: &Arc<Snapshot>, fallback: Option<&Arc<Snapshot>>) {
        let _one_at_a_time = self.publishing.lock();
        let now = self.clock.now();
        let earlier = self.earlier();
        let old = self.snapshot();
        snapshot.register(&self.facts);
        self.apply(&[old.as_ref(), Some(snapshot), fallback]);
        self.metrics
            .applied(snapshot.routes.len(), &snapshot.config.hash);
        self.metrics
            .certificates(snapshot.tls.iter().map(|(name, tls)| {
                let shown = tls.shown.iter();
                let shown = shown.map(|shown| (shown.name.clone(), shown.not_after));
                (name, shown.collect())
            }));
        snapshot.begin(&earlier, now);
        snapshot.tick_breakers(now);
        self.connections.prepare(&snapshot.needs());
        self.snapshot.store(Some(Arc::clone(snapshot)));
        self.fallback.store(fallback.map(Arc::clone));
        self.apply(&[Some(snapshot), fallback]);
        if let Some(old) = &old {
            old.end(snapshot);
        }
        drop((earlier, old));
        self.prune();
    }

    /// The snapshot in force is no longer on trial.
    pub fn confirm(&self) {
        let _one_at_a_time = self.publishing.lock();
        self.fallback.store(None);
        self.apply(&[self.snapshot().as_ref()]);
        self.prune();
    }

    /// What these snapshots want of facts holds: of each bound the largest.
    fn apply(&self, snapshots: &[Option<&Arc<Snapshot>>]) {
        let known = snapshots.iter().flatten();
        let configs: Vec<_> = known.map(|snapshot| &snapshot.config).collect();
        self.facts.apply(&configs);
    }

    /// Forgets facts that nobody holds, which no configuration counts or knows any more. Called whenever a configuration
    /// comes or does not, and again later: requests still under way hold what they began with, and names change their
    /// addresses without any of it.
    pub fn prune(&self) {
        let known = self.earlier();
        let configs: Vec<_> = known.iter().map(|snapshot| &snapshot.config).collect();
        self.facts.prune(&configs);
    }

    /// Whether new clients should come.
    pub fn ready(&self) -> bool {
        self.not_ready().is_none()
    }

    /// Why no new clients should come; `None` when they should.
    pub fn not_ready(&self) -> Option<&'static str> {
        match self.phase.load(Ordering::Acquire) {
            phase if phase == Phase::Starting as u8 => Some("starting"),
            _ if self.snapshot.load().is_none() => Some("no configuration"),
            phase if phase == Phase::Serving as u8 => None,
            phase if phase == Phase::Leaving as u8 => Some("about to stop, still accepting"),
            _ => Some("draining"),
        }
    }

    /// The process is now in this phase.
    pub fn enter(&self, phase: Phase) {
        self.phase.store(phase as u8, Ordering::Release);
    }

    /// Whether no request should be waited for any more: answers announce the end of their connections.
    pub fn draining(&self) -> bool {
        self.phase.load(Ordering::Acquire) == Phase::Draining as u8
    }

    /// What never ends by itself has to end at `moment`: the process does soon after.
    pub fn end_at(&self, moment: Instant) {
        self.last_moment.send_replace(Some(moment));
    }

    /// Waits until what never ends by itself has to end.
    pub(super) fn last_moment(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut told = self.last_moment.subscribe();
        async move {
            let moment = told.wait_for(Option::is_some).await.map(|moment| *moment);
            match moment.ok().flatten() {
                Some(moment) => tokio::time::sleep_until(moment.into()).await,
                None => std::future::pending().await,
            }
        }
    }

    /// Requests being served now.
    pub fn in_flight(&self) -> u64 {
        self.in_flight.load(Ordering::Acquire)
    }

    pub(super) fn request_began(&self) {
        self.in_flight.fetch_add(1, Ordering::AcqRel);
    }

    pub(super) fn request_ended(&self) {
        self.in_flight.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Deref for State {
    type Target = Facts;

    fn deref(&self) -> &Facts {
        &self.facts
    }
}

#[cfg(test)]
mod tests;
