//! Latencies since the limit changed last: counts in buckets, each an atomic, of which a typical one is made once a window.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use parking_lot::Mutex;

use super::gradient::{Bounds, Gradient, Window};

/// Buckets an octave: a sixteenth is a third of what the limit's tolerance has to tell apart.
const STEPS: usize = 16;
const STEP_BITS: u32 = STEPS.trailing_zeros();
/// From a microsecond to a minute.
const FIRST_OCTAVE: u32 = 10;
const LAST_OCTAVE: u32 = 35;
const BUCKETS: usize = (LAST_OCTAVE - FIRST_OCTAVE + 1) as usize * STEPS;

/// A window has at least so many answers in so much time; or after a second these few.
const ENOUGH: u32 = 50;
const WINDOW: u64 = 100_000_000;
/// It begins so many latencies after the limit was set: what comes before tells about the limit before (Envoy's change
/// 11579). Then every answer counts, whenever it was asked for: those asked for since would be the fast ones alone.
const SETTLING: u64 = 2;
const LONGEST: u64 = 2_000_000_000;
const FEW: u32 = 8;
const LONG_WINDOW: u64 = 1_000_000_000;

/// Finds the limit of one upstream.
pub(super) struct Limiter {
    buckets: Box<[AtomicU32; BUCKETS]>,
    answers: AtomicU32,
    drops: AtomicU32,
    peak: AtomicU32,
    /// When the window begins.
    since: AtomicU64,
    gradient: Mutex<Gradient>,
}

/// One request that came to an end, or at least to the head of its answer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sample {
    /// How long its answer took, nanoseconds.
    pub(super) took: u64,
    /// It was given up, or the upstream said that it has too much to do.
    pub(super) dropped: bool,
}

impl Limiter {
    pub(super) fn new() -> Self {
        Self {
            buckets: Box::new(std::array::from_fn(|_| AtomicU32::new(0))),
            answers: AtomicU32::new(0),
            drops: AtomicU32::new(0),
            peak: AtomicU32::new(0),
            since: AtomicU64::new(0),
            gradient: Mutex::new(Gradient::new()),
        }
    }

    /// So many are in flight.
    pub(super) fn saw(&self, in_flight: u32) {
        if in_flight > self.peak.load(Ordering::Relaxed) {
            self.peak.fetch_max(in_flight, Ordering::Relaxed);
        }
    }

    /// The limit to begin with.
    pub(super) fn limit(&self, bounds: Bounds) -> u32 {
        self.gradient.lock().limit(bounds)
    }

    /// The latency without load, nanoseconds; 0 = unknown.
    pub(super) fn floor(&self) -> u64 {
        self.gradient.lock().floor()
    }

    /// Takes a sample; says the new limit when a window is complete.
    pub(super) fn record(
        &self,
        sample: Sample,
        in_flight: u32,
        bounds: Bounds,
        now: u64,
    ) -> Option<u32> {
        let since = self.since.load(Ordering::Relaxed);
        if since == 0 {
            // The first answers to come are the fast ones.
            let begin = now.saturating_add(sample.took.saturating_mul(SETTLING).min(LONGEST));
            self.since.store(begin, Ordering::Relaxed);
        }
        if now < since || since == 0 {
            return None;
        }
        if sample.dropped {
            self.drops.fetch_add(1, Ordering::Relaxed);
        } else {
            self.buckets[bucket(sample.took)].fetch_add(1, Ordering::Relaxed);
        }
        let answers = self.answers.fetch_add(1, Ordering::Relaxed) + 1;
        let open = now.saturating_sub(since);
        let complete =
            (open >= WINDOW && answers >= ENOUGH) || (open >= LONG_WINDOW && answers >= FEW);
        if !complete {
            return None;
        }
        // One of those who find it complete closes it.
        let mut gradient = self.gradient.try_lock()?;
        if self.since.load(Ordering::Relaxed) != since {
            return None;
        }
        let window = self.close(in_flight);
        let limit = gradient.update(window, bounds, now);
        let settled = now.saturating_add(window.latency.saturating_mul(SETTLING).min(LONGEST));
        self.since.store(settled, Ordering::Relaxed);
        Some(limit)
    }

    fn close(&self, in_flight: u32) -> Window {
        let answers = self.answers.swap(0, Ordering::Relaxed);
        let drops = self.drops.swap(0, Ordering::Relaxed);
        let counts = self
            .buckets
            .iter()
            .map(|count| match count.load(Ordering::Relaxed) {
                0 => 0,
                _ => count.swap(0, Ordering::Relaxed),
            });
        let counts: Vec<u32> = counts.collect();
        Window {
            latency: typical(&counts),
            answers,
            peak: self.peak.swap(in_flight, Ordering::Relaxed).max(in_flight),
            dropping: drops * 10 > answers,
        }
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
    ((STEPS + bucket % STEPS) as u64) as f64 * f64::from(1_u32 << (octave - STEP_BITS))
}

/// The mean of the nine tenths that were fastest; 0 when there is nothing. A median would not see that a third waits twice as
/// long, which is how it looks when pieces of work of one length come in waves; a mean of all would see little else than the
/// few that are slow for reasons of their own.
fn typical(counts: &[u32]) -> u64 {
    let total: u32 = counts.iter().sum();
    let wanted = f64::from(total) * 0.9;
    let (mut taken, mut sum) = (0.0, 0.0);
    for (bucket, count) in counts.iter().enumerate().filter(|(_, count)| **count > 0) {
        let taking = f64::from(*count).min(wanted - taken);
        sum += taking * f64::midpoint(least(bucket), least(bucket + 1));
        taken += taking;
        if taken >= wanted {
            break;
        }
    }
    if taken > 0.0 { (sum / taken) as u64 } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_latency_lies_within_its_bucket() {
        for nanos in [1_024_u64, 1_500, 999_999, 50_000_000, 30_000_000_000] {
            let at = bucket(nanos);
            let value = nanos as f64;
            assert!(least(at) <= value && value < least(at + 1), "{nanos}");
            assert!(least(at + 1) / least(at) < 1.07, "{nanos}");
        }
        assert_eq!(bucket(0), 0);
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn what_is_typical_leaves_the_slowest_out() {
        let mut counts = vec![0; BUCKETS];
        for ms in 1..=100_u64 {
            counts[bucket(ms * 1_000_000)] += 1;
        }
        let found = typical(&counts) as f64 / 1e6;
        assert!((found - 45.5).abs() < 1.5, "{found}");
        counts[bucket(95_000_000)] = 0;
        counts[BUCKETS - 1] = 5;
        let same = typical(&counts) as f64 / 1e6;
        assert!((same - found).abs() < 2.0, "{same}");
        assert_eq!(typical(&[0; BUCKETS]), 0);
    }
}
