//! Windows: what was seen since the limit changed last, gathered on the path by atomics alone, and closed when enough is
//! known.

use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::atomic::{AtomicU32, AtomicU64};

use parking_lot::Mutex;

use super::gradient::{Bounds, Gradient, Window};
use super::latencies::{Latencies, Summary};

/// A window lasts at least so long and as long as an answer takes, and has at least so many answers; more of them where they
/// vary, so that what they have in common is known to `ACCURACY`. After a second more fewer must do, after four these few.
const SHORTEST: u64 = 100_000_000;
const ENOUGH: (f64, f64) = (50.0, 1000.0);
const ACCURACY: f64 = 0.06;
const LONG: u64 = 1_000_000_000;
const FEWER: u32 = 25;
const LONGER: u64 = 4_000_000_000;
const FEW: u32 = 8;
/// Latencies after which a window begins once the limit was set: what comes before tells about the limit before
/// (Envoy's change 11579), and those that are fast come first. By then, what was there has gone: as long as such ones
/// last, within so many latencies. Then every answer counts, whenever it was asked for: those asked for since would be
/// the fast ones alone.
const SETTLING: f64 = 1.25;
const SETTLED: (f64, f64) = (1.5, 6.0);
const LONGEST: u64 = 10_000_000_000;
/// When the first answer came, its like.
const FIRST: u64 = 2;

/// Finds the limit of one upstream.
pub(super) struct Limiter {
    latencies: Latencies,
    answers: AtomicU32,
    drops: AtomicU32,
    peak: AtomicU32,
    /// Sum of those in flight, over the answers.
    in_flight: AtomicU64,
    /// When the window begins; 0 = there was no answer yet.
    since: AtomicU64,
    /// How long it lasts at least, and answers it needs.
    shortest: AtomicU64,
    enough: AtomicU32,
    learned: Mutex<Learned>,
    /// The limit that was found last; 0 = none yet.
    found: AtomicU32,
}

/// What was learned from windows.
#[derive(Clone, Debug)]
struct Learned {
    gradient: Gradient,
    variation: Variation,
}

/// By how much answers differ. A few of them, all fast, say less about it than they seem to; so it is an average over many
/// windows, and begins as if many had been seen that vary as they do behind a cache.
#[derive(Clone, Debug)]
struct Variation {
    square: f64,
    answers: f64,
}

/// One request that came to an end, or at least to the head of its answer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sample {
    /// How long its answer took, nanoseconds.
    pub(super) took: u64,
    /// Whether the request was given up, or the upstream said that it has too much to do.
    pub(super) dropped: bool,
}

impl Limiter {
    pub(super) fn new() -> Self {
        Self {
            latencies: Latencies::new(),
            answers: AtomicU32::new(0),
            drops: AtomicU32::new(0),
            peak: AtomicU32::new(0),
            in_flight: AtomicU64::new(0),
            since: AtomicU64::new(0),
            shortest: AtomicU64::new(SHORTEST),
            enough: AtomicU32::new(ENOUGH.0 as u32),
            learned: Mutex::new(Learned {
                gradient: Gradient::new(),
                variation: Variation::new(),
            }),
            found: AtomicU32::new(0),
        }
    }

    /// Another that begins with what this one learned.
    pub(super) fn branched(&self) -> Self {
        Self {
            learned: Mutex::new(self.learned.lock().clone()),
            found: AtomicU32::new(self.found()),
            ..Self::new()
        }
    }

    /// The limit that was found last; 0 = none yet.
    pub(super) fn found(&self) -> u32 {
        self.found.load(SeqCst)
    }

    /// So many are in flight.
    pub(super) fn saw(&self, in_flight: u32) {
        if in_flight > self.peak.load(Relaxed) {
            self.peak.fetch_max(in_flight, Relaxed);
        }
    }

    /// The limit to begin with.
    pub(super) fn limit(&self, bounds: Bounds) -> u32 {
        self.learned.lock().gradient.limit(bounds)
    }

    /// The latency without load, nanoseconds; 0 = unknown.
    pub(super) fn floor(&self) -> u64 {
        self.learned.lock().gradient.floor()
    }

    /// Takes a sample; says the new limit when a window is complete.
    pub(super) fn record(
        &self,
        sample: Sample,
        in_flight: u32,
        bounds: Bounds,
        now: u64,
    ) -> Option<u32> {
        let since = self.since.load(Relaxed);
        if since == 0 {
            let settling = sample.took.saturating_mul(FIRST).min(LONGEST);
            self.since.store(now.saturating_add(settling), Relaxed);
        }
        if now < since || since == 0 {
            return None;
        }
        if sample.dropped {
            self.drops.fetch_add(1, Relaxed);
        } else {
            self.latencies.count(sample.took);
        }
        self.in_flight.fetch_add(u64::from(in_flight), Relaxed);
        let answers = self.answers.fetch_add(1, Relaxed) + 1;
        if !self.is_complete(now - since, answers) {
            return None;
        }
        // One of those who find it complete closes it.
        let mut learned = self.learned.try_lock()?;
        if self.since.load(Relaxed) != since {
            return None;
        }
        Some(self.close(&mut learned, in_flight, bounds, now))
    }

    fn is_complete(&self, open: u64, answers: u32) -> bool {
        let needed = match open.checked_sub(self.shortest.load(Relaxed)) {
            None => return false,
            Some(..LONG) => self.enough.load(Relaxed),
            Some(LONG..LONGER) => FEWER,
            Some(_) => FEW,
        };
        answers >= needed
    }

    fn close(&self, learned: &mut Learned, in_flight: u32, bounds: Bounds, now: u64) -> u32 {
        let answers = f64::from(self.answers.swap(0, Relaxed).max(1));
        let drops = f64::from(self.drops.swap(0, Relaxed));
        let sum = self.in_flight.swap(0, Relaxed) as f64;
        let summary = self.latencies.take();
        let varies = learned.variation.take(summary.varies, answers);
        let window = Window {
            latency: summary.typical,
            error: varies / answers.sqrt(),
            in_flight: sum / answers,
            peak: self.peak.swap(in_flight, Relaxed).max(in_flight),
            dropping: drops * 10.0 > answers,
        };
        let before = learned.gradient.limit(bounds);
        let limit = learned.gradient.update(window, bounds, now);
        // Whoever lines up looks at it after it has counted itself, see `Gate::line_up`.
        self.found.store(limit, SeqCst);
        let enough = (varies / ACCURACY).powi(2).clamp(ENOUGH.0, ENOUGH.1);
        self.enough.store(enough as u32, Relaxed);
        let shortest = (summary.typical as u64).clamp(SHORTEST, LONGEST);
        self.shortest.store(shortest, Relaxed);
        // A step by next to nothing changes nothing that was there.
        let little = limit.abs_diff(before) <= before / 16;
        let settling = if little { 0 } else { settling(summary) };
        self.since.store(now.saturating_add(settling), Relaxed);
        limit
    }
}

fn settling(summary: Summary) -> u64 {
    let (least, most) = (summary.typical * SETTLED.0, summary.typical * SETTLED.1);
    ((summary.lasting * SETTLING).clamp(least, most) as u64).min(LONGEST)
}

impl Variation {
    const BEGIN: f64 = 1.2;
    const ANSWERS: f64 = 100.0;
    const MEMORY: f64 = 1000.0;

    fn new() -> Self {
        Self {
            square: Self::BEGIN * Self::BEGIN,
            answers: Self::ANSWERS,
        }
    }

    /// Learns from a window; says by how much its answers may be taken to vary.
    fn take(&mut self, varies: f64, answers: f64) -> f64 {
        let part = answers / (answers + self.answers);
        self.square += (varies * varies - self.square) * part;
        self.answers = (self.answers + answers).min(Self::MEMORY);
        self.square.sqrt().max(varies)
    }
}
