//! The two clocks: monotonic for durations, wall for tokens and stamps.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Monotonic time as nanoseconds since a start shortly before the process began to serve. Never zero, so that zero can
/// mean "never".
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: Instant,
}

impl Clock {
    /// Starts the clock.
    pub fn start() -> Self {
        let now = Instant::now();
        Self {
            start: now.checked_sub(Duration::from_secs(1)).unwrap_or(now),
        }
    }

    /// Nanoseconds since the start.
    pub fn now(&self) -> u64 {
        self.at(Instant::now())
    }

    /// The same for a moment read before.
    pub fn at(&self, moment: Instant) -> u64 {
        let nanos = moment.saturating_duration_since(self.start).as_nanos();
        u64::try_from(nanos).unwrap_or(u64::MAX).max(1)
    }
}

/// Wall-clock time since 1970.
pub fn unix_now() -> Duration {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
}

/// A duration in nanoseconds, as the clock counts.
pub fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
