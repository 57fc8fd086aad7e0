//! How often each key was counted in this window and the one before, in constant memory.
//!
//! Two count-min sketches of `pingora-limits` take turns. Its own `Rate` does the same, but reads the clock itself and
//! compares it with a start that another worker may have moved on meanwhile: then it clears both windows, or panics.
//! A limit that forgets is not one that never counts too little, so the turning is done here, with the request's time.
//!
//! Never less than there was: keys that share a counter in every row add up. With `ROWS` rows of `SLOTS` counters the
//! excess is at most `e / SLOTS` of all that was counted in the window, for 98 of 100 keys (1 - e^-ROWS): at 10 000
//! admitted requests in a window no more than 1.7, and mostly none. A limit of a few requests a day over a busy
//! gateway is therefore for `token_bucket`.

use std::time::Duration;

use pingora_limits::estimator::Estimator;

use crate::primitives::sync::Mutex;
use crate::primitives::sync::atomic::{AtomicU64, Ordering};

/// Rows of a sketch: a key is over-counted only when it shares a counter in each.
const ROWS: usize = 4;
/// Counters in a row. Two sketches of 4 × 16 384 × 8 bytes make 1 MiB a limit, and clearing one takes some 20 µs.
const SLOTS: usize = 16_384;

/// Counts of two windows.
pub(super) struct Sketch {
    sketches: [Estimator; 2],
    period: u64,
    /// When the current window began, its lowest bit replaced by the index of the current sketch, so that both change
    /// at once. Zero before the first count.
    window: AtomicU64,
    turning: Mutex<()>,
    /// Most that is counted at once.
    largest: AtomicU64,
}

/// What is known about a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Reading {
    /// Counted in the window before.
    pub(super) previous: u64,
    /// Counted in this window.
    pub(super) current: u64,
    /// Nanoseconds since this window began.
    pub(super) elapsed: u64,
}

impl Sketch {
    pub(super) fn new(period: Duration) -> Self {
        Self {
            sketches: [Estimator::new(ROWS, SLOTS), Estimator::new(ROWS, SLOTS)],
            period: u64::try_from(period.as_nanos()).unwrap_or(u64::MAX).max(1),
            window: AtomicU64::new(0),
            turning: Mutex::new(()),
            largest: AtomicU64::new(1),
        }
    }

    /// So many may be counted at once from now on, at most.
    pub(super) fn charge(&self, cost: u64) {
        self.largest.store(cost.max(1), Ordering::Relaxed);
    }

    /// Most that is counted at once.
    pub(super) fn largest(&self) -> u64 {
        self.largest.load(Ordering::Relaxed)
    }

    /// Nanoseconds a window lasts.
    pub(super) fn period(&self) -> u64 {
        self.period
    }

    /// What is known about `key` at `now`. Changes nothing.
    pub(super) fn read(&self, key: u64, now: u64) -> Reading {
        let (index, elapsed) = self.position(now);
        let [current, previous] = [index, 1 - index].map(|i| &self.sketches[i]);
        match elapsed / self.period {
            0 => Reading {
                previous: known(previous, key),
                current: known(current, key),
                elapsed,
            },
            1 => Reading {
                previous: known(current, key),
                current: 0,
                elapsed: elapsed - self.period,
            },
            _ => Reading {
                previous: 0,
                current: 0,
                elapsed: 0,
            },
        }
    }

    /// Counts `key` so many times; returns the window it was counted in, 0 when that is over already.
    pub(super) fn count(&self, key: u64, times: u64, now: u64) -> u64 {
        let (mut index, elapsed) = self.position(now);
        if elapsed >= self.period {
            index = self.turn(now);
        }
        let window = self.window.load(Ordering::Acquire);
        self.sketches[index].incr(key, times as isize);
        if (window & 1) as usize == index {
            window
        } else {
            0
        }
    }

    /// Takes back what was counted in `window`. When that is over it stays counted: the sketch may have been cleared, and
    /// less than nothing must not stand there.
    pub(super) fn uncount(&self, key: u64, times: u64, window: u64) {
        let _turning = self.turning.lock();
        if window != 0 && self.window.load(Ordering::Acquire) == window {
            self.sketches[(window & 1) as usize].decr(key, times as isize);
        }
    }

    /// Index of the current sketch and time since its window began; a request late to ask belongs to its beginning.
    fn position(&self, now: u64) -> (usize, u64) {
        let window = self.window.load(Ordering::Acquire);
        let index = (window & 1) as usize;
        if window == 0 {
            return (index, u64::MAX);
        }
        (index, now.saturating_sub(window & !1))
    }

    /// Opens the next window, unless another worker just did, and returns its index. Windows follow one another while
    /// requests come; after a pause of a whole window the first request begins a new one.
    fn turn(&self, now: u64) -> usize {
        let _turning = self.turning.lock();
        let (index, elapsed) = self.position(now);
        if elapsed < self.period {
            return index;
        }
        let next = 1 - index;
        self.sketches[next].reset();
        let begin = if elapsed / self.period == 1 {
            now - (elapsed - self.period)
        } else {
            self.sketches[index].reset();
            now
        };
        let window = begin.max(2) & !1 | next as u64;
        self.window.store(window, Ordering::Release);
        next
    }
}

/// A counter that ran over would read as negative; it stands for more than any limit.
fn known(sketch: &Estimator, key: u64) -> u64 {
    u64::try_from(sketch.get(key)).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn never_counts_less_than_there_was() {
        let sketch = Sketch::new(Duration::from_secs(1));
        let times = |key: u64| key % 7 + 1;
        for key in 1..=50_000 {
            sketch.count(key, times(key), SECOND);
        }
        let total: u64 = (1..=50_000).map(times).sum();
        let bound = (std::f64::consts::E / SLOTS as f64 * total as f64) as u64;
        let mut beyond = 0;
        for key in 1..=50_000 {
            let read = sketch.read(key, SECOND).current;
            assert!(read >= times(key));
            beyond += usize::from(read - times(key) > bound);
        }
        assert!(beyond < 1_000, "{beyond} of 50000 off by more than {bound}");
    }

    #[test]
    fn windows_follow_one_another_and_end_with_a_pause() {
        let sketch = Sketch::new(Duration::from_secs(1));
        let start = 10 * SECOND;
        let at = |now| {
            let Reading {
                previous,
                current,
                elapsed,
            } = sketch.read(7, now);
            (previous, current, elapsed)
        };
        sketch.count(7, 1, start);
        sketch.count(7, 1, start + SECOND / 2);
        assert_eq!(at(start + SECOND / 2), (0, 2, SECOND / 2));
        assert_eq!(at(start + SECOND * 5 / 4), (2, 0, SECOND / 4));
        sketch.count(7, 1, start + SECOND * 5 / 4);
        assert_eq!(at(start + SECOND * 5 / 4), (2, 1, SECOND / 4));
        assert_eq!(at(start + SECOND * 9 / 4), (1, 0, SECOND / 4));
        assert_eq!(at(start + 3 * SECOND), (0, 0, 0));
        sketch.count(7, 1, start + 5 * SECOND);
        assert_eq!(at(start + 5 * SECOND), (0, 1, 0));
    }

    #[test]
    fn a_request_with_an_old_clock_turns_nothing_back() {
        let sketch = Sketch::new(Duration::from_secs(1));
        sketch.count(7, 1, 10 * SECOND);
        sketch.count(7, 1, 9 * SECOND);
        assert_eq!(sketch.read(7, 9 * SECOND).current, 2);
        assert_eq!(sketch.read(7, 10 * SECOND).current, 2);
    }

    #[test]
    fn what_is_taken_back_counts_for_nothing_while_its_window_lasts() {
        let sketch = Sketch::new(Duration::from_secs(1));
        let first = sketch.count(7, 3, 10 * SECOND);
        let second = sketch.count(7, 2, 10 * SECOND);
        sketch.uncount(7, 3, first);
        assert_eq!(sketch.read(7, 10 * SECOND).current, 2);
        let next = sketch.count(7, 1, 11 * SECOND);
        sketch.uncount(7, 2, second);
        let Reading {
            previous, current, ..
        } = sketch.read(7, 11 * SECOND);
        assert_eq!((previous, current), (2, 1), "that window is over");
        sketch.uncount(7, 1, next);
        assert_eq!(sketch.read(7, 11 * SECOND).current, 0);
    }

    #[test]
    fn a_counter_that_ran_over_is_more_than_any_limit() {
        let sketch = Estimator::new(1, 1);
        sketch.incr(7u64, isize::MIN);
        assert_eq!(known(&sketch, 7), u64::MAX);
    }
}
