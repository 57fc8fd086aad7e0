//! Latencies since the limit changed last: counts in buckets, each an atomic, summed up once a window.

use std::sync::atomic::{AtomicU32, Ordering};

/// Buckets an octave: a sixteenth is a third of what the limit's tolerance has to tell apart.
const STEPS: usize = 16;
const STEP_BITS: u32 = STEPS.trailing_zeros();
/// From a microsecond to a minute.
const FIRST_OCTAVE: u32 = 10;
const LAST_OCTAVE: u32 = 35;
const BUCKETS: usize = (LAST_OCTAVE - FIRST_OCTAVE + 1) as usize * STEPS;

/// Counts of latencies.
pub(super) struct Latencies(Box<[AtomicU32; BUCKETS]>);

/// What they have in common.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Summary {
    /// What answers take typically, nanoseconds; 0 = there were none.
    ///
    /// It is the square of the mean root. Waiting shows in it as in a mean; a median would not see that a third waits twice
    /// as long, which is how it looks when pieces of work of one length come in waves. But one answer that takes a hundred
    /// times as long as the others weighs like ten of them and not like a hundred: of a mean, that would leave little else
    /// to see.
    pub(super) typical: f64,
    /// By what part of it a single one differs, a standard deviation.
    pub(super) varies: f64,
    /// How long one that is being worked on takes, of those that are at some moment: the long ones are there for longer.
    pub(super) lasting: f64,
}

impl Latencies {
    pub(super) fn new() -> Self {
        Self(Box::new(std::array::from_fn(|_| AtomicU32::new(0))))
    }

    /// Counts one, nanoseconds.
    pub(super) fn count(&self, took: u64) {
        self.0[bucket(took)].fetch_add(1, Ordering::Relaxed);
    }

    /// Sums up, and begins anew.
    pub(super) fn take(&self) -> Summary {
        let counts = self.0.iter().enumerate();
        let counts = counts.map(|(at, count)| match count.load(Ordering::Relaxed) {
            0 => (at, 0),
            _ => (at, count.swap(0, Ordering::Relaxed)),
        });
        summary(counts)
    }
}

fn summary(counts: impl Iterator<Item = (usize, u32)>) -> Summary {
    let (mut total, mut roots, mut sum, mut squares) = (0.0, 0.0, 0.0, 0.0);
    for (at, count) in counts.filter(|(_, count)| *count > 0) {
        let (count, took) = (f64::from(count), f64::midpoint(least(at), least(at + 1)));
        total += count;
        roots += count * took.sqrt();
        sum += count * took;
        squares += count * took * took;
    }
    if total == 0.0 {
        return Summary::default();
    }
    let (root, mean) = (roots / total, sum / total);
    let variance = (mean - root * root).max(0.0);
    Summary {
        typical: root * root,
        // A square differs by twice the part by which its root does.
        varies: 2.0 * variance.sqrt() / root,
        lasting: squares / sum,
    }
}

fn bucket(nanos: u64) -> usize {
    let nanos = nanos.clamp(1 << FIRST_OCTAVE, (1 << (LAST_OCTAVE + 1)) - 1);
    let octave = nanos.ilog2();
    let step = (nanos >> (octave - STEP_BITS)) as usize % STEPS;
    (octave - FIRST_OCTAVE) as usize * STEPS + step
}

/// Where a bucket begins.
fn least(bucket: usize) -> f64 {
    let octave = FIRST_OCTAVE + (bucket / STEPS) as u32;
    ((STEPS + bucket % STEPS) as u64) as f64 * (1_u64 << (octave - STEP_BITS)) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_latency_lies_within_its_bucket() {
        for nanos in [1_024_u64, 1_500, 999_999, 50_000_000, 68_000_000_000] {
            let at = bucket(nanos);
            let value = nanos as f64;
            assert!(least(at) <= value && value < least(at + 1), "{nanos}");
            assert!(least(at + 1) / least(at) < 1.07, "{nanos}");
        }
        assert_eq!(bucket(0), 0);
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn a_few_that_are_slow_for_reasons_of_their_own_do_not_make_everything_slow() {
        let latencies = Latencies::new();
        for _ in 0..199 {
            latencies.count(50_000_000);
        }
        let before = latencies.take();
        assert!((before.typical / 50e6 - 1.0).abs() < 0.04, "{before:?}");
        assert!(before.varies < 0.01, "{before:?}");
        for _ in 0..199 {
            latencies.count(50_000_000);
        }
        latencies.count(5_000_000_000);
        let after = latencies.take();
        let times = after.typical / before.typical;
        assert!((1.05..1.15).contains(&times), "a mean says 1.5: {times}");
        assert_eq!(latencies.take().typical, 0.0);
    }

    #[test]
    fn everything_waiting_shows_in_full_and_what_varies_is_said_to() {
        let latencies = Latencies::new();
        for ms in 1..=100_u64 {
            latencies.count(ms * 1_000_000);
        }
        let one = latencies.take();
        // Of a uniform distribution: four ninths of the largest, and the root of a half.
        assert!((one.typical / 1e6 - 44.8).abs() < 1.5, "{one:?}");
        assert!((one.varies - 0.7).abs() < 0.05, "{one:?}");
        assert!((one.lasting / 1e6 - 67.0).abs() < 1.5, "{one:?}");
        for ms in 1..=100_u64 {
            latencies.count(ms * 2_000_000);
        }
        let two = latencies.take();
        assert!((two.typical / one.typical - 2.0).abs() < 0.05, "{two:?}");
    }
}
