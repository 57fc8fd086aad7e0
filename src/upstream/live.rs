//! What live traffic tells about one endpoint, where a policy reads it: written by workers, one relaxed operation each.
//!
//! Each cell is a figure of its own, so that none orders another; a policy that reads two of them at different moments
//! is off by a request, which none of them minds.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use crate::primitives::clock::nanos;

/// Figures of one endpoint. Outlives a reload.
#[derive(Debug, Default)]
pub(super) struct Live {
    /// How long it takes to answer.
    pub(super) cost: Ewma,
    answered: AtomicU64,
    failed: AtomicU64,
    first_byte: AtomicU64,
    load: AtomicU64,
    failed_in_a_row: AtomicU32,
    ejections: AtomicU32,
    factor: AtomicU32,
    was_out: AtomicBool,
    since: AtomicU64,
}

/// Sums since the endpoint is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sums {
    /// Answers, the failed ones included.
    pub(super) answered: u64,
    /// Failed ones, and tries without an answer.
    pub(super) failed: u64,
    /// Nanoseconds to the first byte.
    pub(super) first_byte: u64,
}

impl Sums {
    /// What came since `earlier`.
    pub(super) fn since(self, earlier: Self) -> Self {
        Self {
            answered: self.answered.saturating_sub(earlier.answered),
            failed: self.failed.saturating_sub(earlier.failed),
            first_byte: self.first_byte.saturating_sub(earlier.first_byte),
        }
    }
}

/// How long a load that an endpoint reported is believed.
const LOAD_HOLDS: u64 = 30_000_000_000;

impl Live {
    /// One try ended: after `took`, with an answer or not. Says how many failed in a row.
    pub(super) fn observe(&self, took: Duration, failed: bool) -> u32 {
        self.answered.fetch_add(1, Ordering::Relaxed);
        self.first_byte.fetch_add(nanos(took), Ordering::Relaxed);
        if failed {
            self.failed.fetch_add(1, Ordering::Relaxed);
            return self
                .failed_in_a_row
                .fetch_add(1, Ordering::Relaxed)
                .saturating_add(1);
        }
        if self.failed_in_a_row.load(Ordering::Relaxed) != 0 {
            self.failed_in_a_row.store(0, Ordering::Relaxed);
        }
        0
    }

    pub(super) fn sums(&self) -> Sums {
        Sums {
            answered: self.answered.load(Ordering::Relaxed),
            failed: self.failed.load(Ordering::Relaxed),
            first_byte: self.first_byte.load(Ordering::Relaxed),
        }
    }

    /// The endpoint says how loaded it is: 1 is all it can do.
    pub(super) fn report_load(&self, load: f32, now: u64) {
        let seconds = (now / 1_000_000_000) as u32;
        self.load
            .store(pack(load.clamp(0.0, 100.0), seconds), Ordering::Relaxed);
    }

    /// What it said last, if that was not long ago.
    pub(super) fn load(&self, now: u64) -> Option<f64> {
        match self.load.load(Ordering::Relaxed) {
            0 => None,
            packed => {
                let (load, seconds) = unpack(packed);
                let age = now.saturating_sub(u64::from(seconds) * 1_000_000_000);
                (age < LOAD_HOLDS).then_some(f64::from(load))
            }
        }
    }

    /// By what its weight is multiplied.
    pub(super) fn factor(&self) -> f64 {
        match self.factor.load(Ordering::Relaxed) {
            0 => 1.0,
            bits => f64::from(f32::from_bits(bits)),
        }
    }

    pub(super) fn set_factor(&self, factor: f64) {
        // As nothing is known about it.
        let bits = if factor == 1.0 {
            0
        } else {
            (factor as f32).to_bits()
        };
        self.factor.store(bits, Ordering::Relaxed);
    }

    /// Notes at `now` whether it is usable, and says since when it has been after it was not; 0 = always.
    pub(super) fn back_since(&self, usable: bool, now: u64) -> u64 {
        if !usable {
            self.was_out.store(true, Ordering::Relaxed);
        } else if self.was_out.swap(false, Ordering::Relaxed) {
            self.since.store(now, Ordering::Relaxed);
        }
        self.since.load(Ordering::Relaxed)
    }

    /// What [`back_since`](Self::back_since) would say, without noting anything.
    pub(super) fn would_be_back_since(&self, usable: bool, now: u64) -> u64 {
        if usable && self.was_out.load(Ordering::Relaxed) {
            return now;
        }
        self.since.load(Ordering::Relaxed)
    }

    /// Lets the endpoint join others that are serving: it has to warm up as one that comes back.
    pub(super) fn joins(&self) {
        self.was_out.store(true, Ordering::Relaxed);
    }

    /// Counts an outlier that is put aside: says for the how many-th time, as far as that is not forgiven.
    pub(super) fn ejected(&self) -> u32 {
        self.failed_in_a_row.store(0, Ordering::Relaxed);
        let times = self.ejections.load(Ordering::Relaxed).saturating_add(1);
        self.ejections.store(times, Ordering::Relaxed);
        times
    }

    /// An interval passed in which it was not aside.
    pub(super) fn forgive_one(&self) {
        let times = self.ejections.load(Ordering::Relaxed);
        self.ejections
            .store(times.saturating_sub(1), Ordering::Relaxed);
    }
}

/// A time that a request takes, as an exponentially weighted mean; in nanoseconds, with the moment it was written, in one
/// number, so that no two of them can be mixed.
#[derive(Debug, Default)]
pub(super) struct Ewma(AtomicU64);

/// How fast a mean follows and forgets.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Follow {
    /// At once when it gets worse, within ten seconds when it gets better.
    Peaks,
    /// Within a second either way.
    Mean,
}

/// Time after which a mean without further samples has lost about two thirds.
const FORGET: f32 = 10_000.0;
const MILLI: u64 = 1_000_000;
/// A failure never counts as less than this; linkerd's start value for an endpoint nobody knows.
const FAILURE: f32 = 30e6;
/// Nor does it drive the figure beyond this.
const WORST: f32 = 10e9;

impl Ewma {
    /// Adds a sample. A failure counts four times what the endpoint took so far: however soon it comes, it is never fast.
    pub(super) fn add(&self, took: Duration, failed: bool, follow: Follow, now: u64) {
        let stamp = (now / MILLI) as u32;
        let took = nanos(took) as f32;
        let _ = self
            .0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |packed| {
                let (cost, written) = unpack(packed);
                let passed = stamp.wrapping_sub(written) as f32;
                let sample = if failed {
                    took.max((cost * 4.0).clamp(FAILURE, WORST))
                } else {
                    took
                };
                let keep = match follow {
                    _ if packed == 0 => 0.0,
                    Follow::Peaks if sample > cost => 0.0,
                    Follow::Peaks => (-passed / FORGET).exp(),
                    // A sample counts at least a little, however many come in one millisecond.
                    Follow::Mean => (-passed.max(20.0) / 1000.0).exp(),
                };
                Some(pack(cost * keep + sample * (1.0 - keep), stamp).max(1))
            });
    }

    /// The figure at `now`: what was seen, less the longer ago that was; `None` when nothing was.
    pub(super) fn at(&self, now: u64) -> Option<f32> {
        let packed = self.0.load(Ordering::Relaxed);
        if packed == 0 {
            return None;
        }
        let (cost, written) = unpack(packed);
        let passed = ((now / MILLI) as u32).wrapping_sub(written);
        // Clocks of two workers may be read in another order than written.
        let passed = if passed > u32::MAX / 2 { 0 } else { passed };
        Some(if passed < 100 {
            cost
        } else {
            cost * (-(passed as f32) / FORGET).exp()
        })
    }
}

fn pack(value: f32, stamp: u32) -> u64 {
    u64::from(value.to_bits()) << 32 | u64::from(stamp)
}

fn unpack(packed: u64) -> (f32, u32) {
    (f32::from_bits((packed >> 32) as u32), packed as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn millis(cost: Option<f32>) -> f32 {
        cost.expect("known") / 1e6
    }

    fn add(ewma: &Ewma, ms: u64, failed: bool, follow: Follow, now: u64) {
        ewma.add(Duration::from_millis(ms), failed, follow, now);
    }

    #[test]
    fn a_peak_counts_at_once_and_is_forgotten_slowly() {
        let ewma = Ewma::default();
        assert_eq!(ewma.at(SECOND), None);
        add(&ewma, 5, false, Follow::Peaks, SECOND);
        add(&ewma, 50, false, Follow::Peaks, SECOND);
        assert_eq!(millis(ewma.at(SECOND)), 50.0);
        let later = millis(ewma.at(11 * SECOND));
        assert!((18.0..19.0).contains(&later), "50 / e: {later}");
        add(&ewma, 5, false, Follow::Peaks, 11 * SECOND);
        let better = millis(ewma.at(11 * SECOND));
        assert!(
            (21.0..22.0).contains(&better),
            "50/e + 5(1 - 1/e): {better}"
        );
    }

    #[test]
    fn a_mean_is_not_moved_far_by_one_sample() {
        let ewma = Ewma::default();
        add(&ewma, 5, false, Follow::Mean, SECOND);
        add(&ewma, 500, false, Follow::Mean, SECOND);
        assert!(millis(ewma.at(SECOND)) < 20.0);
        for step in 1..=30 {
            add(&ewma, 50, false, Follow::Mean, SECOND + step * SECOND / 10);
        }
        let mean = millis(ewma.at(4 * SECOND));
        assert!((45.0..51.0).contains(&mean), "{mean}");
    }

    #[test]
    fn a_failure_is_never_fast() {
        let ewma = Ewma::default();
        add(&ewma, 0, true, Follow::Peaks, SECOND);
        assert_eq!(millis(ewma.at(SECOND)), 30.0);
        for _ in 0..20 {
            add(&ewma, 0, true, Follow::Peaks, SECOND);
        }
        assert_eq!(millis(ewma.at(SECOND)), 10_000.0, "and bounded");
    }

    #[test]
    fn failures_are_counted_in_a_row() {
        let live = Live::default();
        let took = Duration::from_millis(2);
        assert_eq!(
            [true, true, false, true].map(|failed| live.observe(took, failed)),
            [1, 2, 0, 1]
        );
        let sums = live.sums();
        assert_eq!(
            (sums.answered, sums.failed, sums.first_byte),
            (4, 3, 8_000_000)
        );
    }

    #[test]
    fn a_reported_load_is_believed_for_a_while() {
        let live = Live::default();
        assert_eq!(live.load(SECOND), None);
        live.report_load(0.5, 100 * SECOND);
        assert_eq!(live.load(110 * SECOND), Some(0.5));
        assert_eq!(live.load(131 * SECOND), None);
    }
}
