//! Who gets copies of a route's requests, built from its settings. How copies are made is in [`mirror`](super::mirror).

use std::sync::Arc;
use std::time::Duration;

use crate::config;
use crate::observe::rollouts::MirrorStats;
use crate::upstream::Pool;

/// Mirror of a route: who gets copies of its requests.
pub struct Mirror {
    pub(super) settings: config::Mirror,
    pub(super) pool: Arc<Pool>,
    pub(super) stats: Arc<MirrorStats>,
    pub(super) timeout: Duration,
    /// Numbers of 32 bits below this are copied.
    pub(super) below: u64,
}

impl Mirror {
    /// Copies to `pool`, as `settings` say.
    pub(super) fn new(
        settings: &config::Mirror,
        pool: &Arc<Pool>,
        stats: Arc<MirrorStats>,
    ) -> Self {
        let timeout = settings.timeout.unwrap_or(pool.settings().timeout.request);
        Self {
            below: (settings.share.fraction() * 4_294_967_296.0) as u64,
            settings: settings.clone(),
            pool: Arc::clone(pool),
            stats,
            timeout,
        }
    }

    /// Settings of the mirror.
    pub fn settings(&self) -> &config::Mirror {
        &self.settings
    }
}
