//! The two clocks: monotonic for durations, wall for tokens and stamps.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Monotonic time as nanoseconds since a start shortly before the process began to serve. Never zero, so that zero can
/// mean "never".
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: Instant,
}

/// Wall-clock time for moments read from the monotonic clock: one reading does for both.
#[derive(Debug)]
pub struct WallClock {
    clock: Clock,
    /// Nanoseconds since 1970 when the monotonic clock started, by the latest comparison.
    start: AtomicU64,
}

impl WallClock {
    /// Compares the clocks for the first time.
    pub fn new(clock: Clock) -> Self {
        let wall = Self {
            clock,
            start: AtomicU64::new(0),
        };
        wall.compare();
        wall
    }

    /// Compares the clocks. Done once a second, so that a wall clock that was set is followed.
    pub fn compare(&self) {
        let start = nanos(unix_now()).saturating_sub(self.clock.now());
        self.start.store(start, Ordering::Relaxed);
    }

    /// Time since 1970 at `moment`.
    pub fn at(&self, moment: Instant) -> Duration {
        Duration::from_nanos(self.start.load(Ordering::Relaxed) + self.clock.at(moment))
    }
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

    /// The process clock at a moment read before.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wall_clock_follows_the_monotonic_one() {
        let wall = WallClock::new(Clock::start());
        let (before, moment, after) = (unix_now(), Instant::now(), unix_now());
        let slack = Duration::from_millis(50);
        assert!(wall.at(moment) + slack >= before && wall.at(moment) <= after + slack);
        let later = moment + Duration::from_secs(7);
        assert_eq!(wall.at(later) - wall.at(moment), Duration::from_secs(7));
    }
}
