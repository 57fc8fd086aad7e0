//! What goes on beside serving: windows of metrics and what the workers use once a second, and the keepers of every pool's knowledge.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use pingora::server::ShutdownWatch;
use pingora::services::background::BackgroundService;
use tokio::sync::watch;
use tokio::task::AbortHandle;

use super::admin::policies;
use super::handover::quota_file::QuotaFile;
use super::reload::Reloader;
use super::usage::Usage;
use crate::gateway::State;
use crate::upstream::{self, Names, Pool};

/// Seconds between two looks for facts that nobody holds any more.
const PRUNED: u64 = 10;

/// The background service that owns aggregation and keeps pools fresh.
pub(super) struct Housekeeping {
    state: Arc<State>,
    names: Arc<Names>,
    published: watch::Receiver<u64>,
    usage: Arc<Usage>,
    quotas: Arc<QuotaFile>,
    keepers: Mutex<HashMap<usize, (Arc<Pool>, AbortHandle)>>,
}

impl Housekeeping {
    /// Follows what `reloader` publishes.
    pub(super) fn new(
        state: Arc<State>,
        names: Arc<Names>,
        reloader: &Reloader,
        usage: Arc<Usage>,
        quotas: Arc<QuotaFile>,
    ) -> Self {
        Self {
            state,
            names,
            published: reloader.published(),
            usage,
            quotas,
            keepers: Mutex::default(),
        }
    }

    /// One keeper a pool: new pools get one, pools that are gone lose theirs.
    fn follow(&self) {
        let Some(snapshot) = self.state.snapshot() else {
            return;
        };
        let mut keepers = self.keepers.lock();
        let live: Vec<usize> = snapshot.pools.values().map(identity).collect();
        keepers.retain(|id, (_, keeper)| {
            let keep = live.contains(id);
            if !keep {
                keeper.abort();
            }
            keep
        });
        for pool in snapshot.pools.values() {
            keepers.entry(identity(pool)).or_insert_with(|| {
                let keeping =
                    upstream::keep(Arc::clone(pool), Arc::clone(&self.names), self.state.clock);
                (Arc::clone(pool), tokio::spawn(keeping).abort_handle())
            });
        }
    }

    fn tick(&self, second: u64) {
        if second.is_multiple_of(PRUNED) {
            self.state.prune();
        }
        self.state.windows.tick(&self.state.metrics);
        self.usage.read(&self.state);
        self.state.wall.compare();
        let now = self.state.clock.now();
        if let Some((by, fence)) = self.state.auth.compare_clocks(now) {
            let fence = Duration::from_millis(fence).as_secs();
            log::warn!(
                "the clock was set back by {by:?}: signed requests stamped before {fence} (seconds since 1970) are refused, \
                 since they may have been used"
            );
        }
        self.state.overload.tell();
        let snapshot = self.state.snapshot();
        policies::tick(&self.state, snapshot.as_deref());
        if let Some(snapshot) = snapshot {
            for pool in snapshot.pools.values() {
                pool.watch(now);
                pool.tell();
            }
            snapshot.tick_breakers(now);
            let paces = snapshot.pools.values().filter_map(|pool| pool.pace());
            paces.for_each(|pace| pace.tick());
        }
    }
}

/// A pool carried over into the next snapshot is the same object; a keeper holds it, so its address stays its own.
fn identity(pool: &Arc<Pool>) -> usize {
    Arc::as_ptr(pool).addr()
}

#[async_trait]
impl BackgroundService for Housekeeping {
    async fn start(&self, mut shutdown: ShutdownWatch) {
        let mut published = self.published.clone();
        let mut second = tokio::time::interval(Duration::from_secs(1));
        second.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        self.follow();
        let mut seconds = 0;
        loop {
            tokio::select! {
                _ = shutdown.changed() => return,
                changed = published.changed() => match changed {
                    Ok(()) => self.follow(),
                    Err(_) => return,
                },
                _ = second.tick() => {
                    seconds += 1;
                    self.tick(seconds);
                    self.quotas.tick(&self.state);
                }
            }
        }
    }
}
