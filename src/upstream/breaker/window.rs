//! What calls came to lately: of the last while, or of the last so many.

use super::Call;
use crate::config::{Breaker as Rule, BreakerWindow};
use crate::primitives::clock::nanos;
use crate::primitives::sync::atomic::{AtomicI64, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use crate::upstream::ring::Ring;

/// Calls, and how many of them failed or were slow. A call may be both.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// All of them.
    pub calls: u64,
    /// Calls that failed.
    pub failed: u64,
    /// Calls that were slow.
    pub slow: u64,
}

impl Figures {
    pub(super) fn add(&mut self, call: Call) {
        self.calls += 1;
        self.failed += u64::from(call.failed);
        self.slow += u64::from(call.slow);
    }

    /// Whether they are bad enough to send nothing more.
    pub(super) fn reach(&self, rule: &Rule) -> bool {
        self.calls > 0
            && (rule.failure_rate.reached(self.failed, self.calls)
                || rule.slow_rate.reached(self.slow, self.calls))
    }
}

/// The calls that are looked at.
pub(super) enum Window {
    Time(Timed),
    Calls(Counted),
}

impl Window {
    pub(super) fn new(rule: BreakerWindow) -> Self {
        match rule {
            BreakerWindow::Time(span) => Self::Time(Timed::new(nanos(span))),
            BreakerWindow::Calls(calls) => Self::Calls(Counted::new(calls as usize)),
        }
    }

    /// Counts a call; says whether some call in the window failed or was slow, so that rates are worth computing.
    pub(super) fn add(&self, call: Call, now: u64) -> bool {
        match self {
            Self::Time(timed) => timed.add(call, now),
            Self::Calls(counted) => counted.add(call),
        }
    }

    /// What the calls came to, cheaply; a call that is being counted at this moment may be missing or be there twice.
    pub(super) fn estimate(&self, now: u64) -> Figures {
        match self {
            Self::Time(timed) => timed.figures(now),
            Self::Calls(counted) => counted.estimate(),
        }
    }

    /// Figures of the window, looking at each call.
    pub(super) fn figures(&self, now: u64) -> Figures {
        match self {
            Self::Time(timed) => timed.figures(now),
            Self::Calls(counted) => counted.figures(),
        }
    }

    /// Forgets all calls.
    pub(super) fn clear(&self) {
        match self {
            Self::Time(timed) => timed.clear(),
            Self::Calls(counted) => counted.clear(),
        }
    }
}

/// Most pieces that a span is counted in; of spans under a minute each is a second.
const MOST_PIECES: u64 = 60;
const SECOND: u64 = 1_000_000_000;

/// Calls of the last while, the present second being part of it.
pub(super) struct Timed {
    piece: u64,
    pieces: u64,
    calls: Ring,
    failed: Ring,
    slow: Ring,
    /// One more than the latest piece with a failed or slow call.
    bad: AtomicU64,
}

impl Timed {
    fn new(span: u64) -> Self {
        let pieces = span.div_ceil(SECOND).clamp(1, MOST_PIECES);
        let ring = || Ring::new(pieces as usize);
        Self {
            piece: span.div_ceil(pieces).max(1),
            pieces,
            calls: ring(),
            failed: ring(),
            slow: ring(),
            bad: AtomicU64::new(0),
        }
    }

    fn add(&self, call: Call, now: u64) -> bool {
        let piece = now / self.piece;
        self.calls.up(piece);
        if call.failed {
            self.failed.up(piece);
        }
        if call.slow {
            self.slow.up(piece);
        }
        if call.failed || call.slow {
            self.bad.fetch_max(piece + 1, Ordering::Relaxed);
            return true;
        }
        let bad = self.bad.load(Ordering::Relaxed);
        bad > 0 && bad + self.pieces > piece + 1
    }

    fn figures(&self, now: u64) -> Figures {
        let piece = now / self.piece;
        // A call is counted before it is counted as failed: read the other way round, none failed that was not made.
        let (failed, slow) = (self.failed.sum(piece), self.slow.sum(piece));
        let calls = self.calls.sum(piece).max(failed).max(slow);
        Figures {
            calls,
            failed,
            slow,
        }
    }

    fn clear(&self) {
        for ring in [&self.calls, &self.failed, &self.slow] {
            ring.clear();
        }
        self.bad.store(0, Ordering::Relaxed);
    }
}

/// The last so many calls. Each takes the place of the oldest and takes that one's part off the sums, whoever else is
/// at it: what is in the places and what was taken out of them always makes up the sums.
pub(super) struct Counted {
    places: Box<[AtomicU8]>,
    next: AtomicUsize,
    calls: AtomicI64,
    failed: AtomicI64,
    slow: AtomicI64,
}

/// What a place says of its call; nothing was there yet when none is set.
const MADE: u8 = 1;
const FAILED: u8 = 2;
const SLOW: u8 = 4;

impl Counted {
    fn new(calls: usize) -> Self {
        Self {
            places: (0..calls.max(1)).map(|_| AtomicU8::new(0)).collect(),
            next: AtomicUsize::new(0),
            calls: AtomicI64::new(0),
            failed: AtomicI64::new(0),
            slow: AtomicI64::new(0),
        }
    }

    fn add(&self, call: Call) -> bool {
        let mark = MADE | if call.failed { FAILED } else { 0 } | if call.slow { SLOW } else { 0 };
        let place = self.next.fetch_add(1, Ordering::Relaxed) % self.places.len();
        self.put(place, mark);
        self.failed.load(Ordering::Relaxed) > 0 || self.slow.load(Ordering::Relaxed) > 0
    }

    fn put(&self, place: usize, mark: u8) {
        let before = self.places[place].swap(mark, Ordering::AcqRel);
        for (bit, sum) in [
            (MADE, &self.calls),
            (FAILED, &self.failed),
            (SLOW, &self.slow),
        ] {
            match (before & bit != 0, mark & bit != 0) {
                (false, true) => sum.fetch_add(1, Ordering::AcqRel),
                (true, false) => sum.fetch_sub(1, Ordering::AcqRel),
                _ => continue,
            };
        }
    }

    fn estimate(&self) -> Figures {
        let value = |sum: &AtomicI64| u64::try_from(sum.load(Ordering::Acquire)).unwrap_or(0);
        // The other way round than they are counted: who failed is among the calls that are seen.
        let (slow, failed) = (value(&self.slow), value(&self.failed));
        Figures {
            calls: value(&self.calls),
            failed,
            slow,
        }
    }

    fn figures(&self) -> Figures {
        let mut figures = Figures::default();
        let marks = self.places.iter();
        for mark in marks.map(|place| place.load(Ordering::Acquire)) {
            if mark != 0 {
                figures.add(Call {
                    failed: mark & FAILED != 0,
                    slow: mark & SLOW != 0,
                });
            }
        }
        figures
    }

    fn clear(&self) {
        (0..self.places.len()).for_each(|place| self.put(place, 0));
    }
}
