//! The log as the process uses it.

use std::time::Duration;

use crate::gateway::Snapshot;
use crate::observe::LogSettings;

/// How long the last lines of the log may take to be written.
pub(super) const LAST_LINES: Duration = Duration::from_secs(2);

/// Log settings with the snapshot's secrets in them.
pub(super) fn log_settings_of(snapshot: &Snapshot) -> LogSettings {
    LogSettings::new(
        snapshot.config.log.clone(),
        snapshot.token_parameters.iter().cloned(),
        &snapshot.secrets,
    )
}
