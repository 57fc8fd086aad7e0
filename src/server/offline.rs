//! A snapshot for commands that serve nothing: `check`, `explain`, `routes`.

use std::path::Path;
use std::sync::Arc;

use super::load::{Host, Loaded, load};
use super::version::{COMMIT, VERSION};
use crate::gateway::{Snapshot, State};
use crate::observe::Metrics;

/// A snapshot that is built as `run` builds it, but bound to nothing.
pub struct Offline {
    /// The snapshot.
    pub snapshot: Arc<Snapshot>,
    /// Facts of a process that has served nothing yet.
    pub state: Arc<State>,
}

impl Offline {
    /// Loads the file at `path` and opens what it points to.
    pub fn open(path: &Path) -> anyhow::Result<Self> {
        crate::auth::install_crypto();
        crate::tls::install();
        let Loaded { config, sources } = load(path)?;
        let state = Arc::new(State::new(Arc::new(Metrics::new(VERSION, COMMIT)?), None));
        let snapshot = Arc::new(Snapshot::build(config, sources, &state, &[], &Host)?);
        Ok(Self { snapshot, state })
    }
}
