//! What the workers use, read once a second for `tollgate status --headroom`.

use std::sync::Arc;
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::headroom::{Reading, Readings};
use super::processors::{self, kernel};
use crate::api::Headroom;
use crate::gateway::State;
use crate::primitives::clock::{Clock, nanos};

/// Between two beats of a worker: enough of them that one meets a stall that lasts.
const BEAT: Duration = Duration::from_millis(250);

/// Pulses of all workers and what was read of them.
pub(super) struct Usage {
    pulses: Vec<Arc<Pulse>>,
    readings: Mutex<Readings>,
}

/// A worker's sign of life: who it is, and how late it is with what it wants to do.
#[derive(Debug, Default)]
pub(super) struct Pulse {
    thread: AtomicI32,
    /// When it beat last, nanoseconds of the process clock; 0 before the first time.
    beaten: AtomicU64,
    /// By how much it was late at worst since somebody asked, nanoseconds.
    late: AtomicU64,
}

impl Usage {
    /// Nothing read yet of this many workers.
    pub(super) fn new(workers: usize) -> Self {
        Self {
            pulses: std::iter::repeat_with(Arc::default).take(workers).collect(),
            readings: Mutex::default(),
        }
    }

    /// The pulse of worker number `index`.
    pub(super) fn pulse(&self, index: usize) -> Arc<Pulse> {
        self.pulses.get(index).map(Arc::clone).unwrap_or_default()
    }

    /// Reads what was used up to now. Called once a second.
    pub(super) fn read(&self, state: &State) {
        let now = state.clock.now();
        let of_worker = |pulse: &Arc<Pulse>| match pulse.thread.load(Ordering::Relaxed) {
            0 => Duration::ZERO,
            thread => processors::of_thread(thread, &kernel),
        };
        let reading = Reading {
            at: Duration::from_nanos(now),
            workers: self.pulses.iter().map(of_worker).collect(),
            process: processors::of_process(&kernel),
            idle: processors::idle(&kernel),
            lags: self.pulses.iter().map(|pulse| pulse.lag(now)).collect(),
            served: state.windows.served(),
        };
        self.readings.lock().push(reading);
    }

    /// The workers that made no progress for longer than `patience`. Those that have not begun are looked at from
    /// `since` on.
    pub(super) fn stuck(&self, since: u64, now: u64, patience: Duration) -> Vec<usize> {
        let stuck = |pulse: &Pulse| pulse.silent(since, now) > patience.max(2 * BEAT);
        (0..self.pulses.len())
            .filter(|index| stuck(&self.pulses[*index]))
            .collect()
    }

    /// How much more this process could serve.
    pub(super) fn headroom(&self) -> Headroom {
        let on = processors::usable(&kernel);
        self.readings.lock().headroom(on)
    }
}

impl Pulse {
    /// Beats on the thread that calls it, until dropped.
    pub(super) async fn beat(self: Arc<Self>, clock: Clock) {
        let thread = nix::unistd::gettid().as_raw();
        self.thread.store(thread, Ordering::Relaxed);
        let mut beats = interval(BEAT);
        beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let due = beats.tick().await;
            let now = Instant::now();
            let late = nanos(now.saturating_duration_since(due));
            self.late.fetch_max(late, Ordering::Relaxed);
            self.beaten
                .store(clock.at(now.into_std()), Ordering::Relaxed);
        }
    }

    /// How long ago it beat last, `since` at the earliest.
    fn silent(&self, since: u64, now: u64) -> Duration {
        let last = self.beaten.load(Ordering::Relaxed).max(since);
        Duration::from_nanos(now.saturating_sub(last))
    }

    /// By how much it was late since the last question, a beat that is overdue at `now` included.
    fn lag(&self, now: u64) -> Duration {
        let late = self.late.swap(0, Ordering::Relaxed);
        let overdue = match self.beaten.load(Ordering::Relaxed) {
            0 => 0,
            beaten => now.saturating_sub(beaten).saturating_sub(nanos(BEAT)),
        };
        Duration::from_nanos(late.max(overdue))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_that_does_not_beat_is_stuck() {
        let usage = Usage::new(2);
        let beats = |at| {
            let pulse = usage.pulse(1);
            pulse.beaten.store(at, Ordering::Relaxed);
        };
        usage
            .pulse(0)
            .beaten
            .store(9_500_000_000, Ordering::Relaxed);
        let since = |since| usage.stuck(since, 10_000_000_000, Duration::from_secs(1));
        let stuck = || since(1_000_000_000);
        assert_eq!(stuck(), [1], "never begun");
        assert!(since(9_500_000_000).is_empty(), "not yet");
        beats(9_100_000_000);
        assert!(stuck().is_empty());
        beats(8_900_000_000);
        assert_eq!(stuck(), [1]);
    }

    #[test]
    fn a_worker_that_is_stuck_is_late() {
        let pulse = Pulse::default();
        assert_eq!(pulse.lag(9_000_000_000), Duration::ZERO, "not begun");
        pulse.beaten.store(1_000_000_000, Ordering::Relaxed);
        pulse.late.store(3_000_000, Ordering::Relaxed);
        assert_eq!(pulse.lag(1_100_000_000), Duration::from_millis(3));
        assert_eq!(pulse.lag(1_200_000_000), Duration::ZERO, "asked before");
        assert_eq!(pulse.lag(4_250_000_000), Duration::from_secs(3));
    }
}
