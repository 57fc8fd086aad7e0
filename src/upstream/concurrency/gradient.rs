//! How many requests an upstream bears at once, found from how its latency answers to the limit.
//!
//! The form is that of Envoy's gradient: the limit follows `unloaded latency × tolerance / latency`. Netflix's Gradient2
//! compares with a long average instead; under an overload that lasts, the average becomes what the overload made of it and
//! the limit drifts away upwards (their issues 137 and 134). So the latency without load is held here, as in Envoy. What
//! differs from Envoy is how it is kept true. Envoy pins the limit to its minimum for a while now and then, and refuses what
//! comes meanwhile (its issues 8337 and 18152, and 46532 on what the minimum has to serve for); no client should pay for a measurement. Here:
//!
//! - A latency below the one that is held is believed, by and by.
//! - When the limit was halved, and the latency stayed where it was, the requests were not what made it slow: that is its
//!   latency now. Had they been waiting for each other, half of them would have waited half as long.
//! - After ten seconds at the limit without a break, it is halved for one window to look below, and then restored. Half
//!   costs one latency in ten seconds, and those who wait are let in by class.
//! - While the limit is not reached nothing is decided: latency has other causes then, and it is followed slowly.
//!
//! There is no square root of headroom as Envoy adds: the tolerance alone says how much slower the upstream may become, so
//! that a small limit is not held to half as much again.

/// What was seen while one limit was in force.
#[derive(Clone, Copy, Debug)]
pub(super) struct Window {
    /// How long answers took typically, nanoseconds.
    pub(super) latency: u64,
    /// So many.
    pub(super) answers: u32,
    /// Most requests at once.
    pub(super) peak: u32,
    /// So many were given up, or refused by the upstream as too many, that nothing else matters.
    pub(super) dropping: bool,
}

/// Where a limit may lie.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    pub(super) least: u32,
    pub(super) most: u32,
}

/// The limit of one upstream and what it was found from.
#[derive(Debug)]
pub(super) struct Gradient {
    limit: f64,
    /// Latency without load; 0 = unknown.
    floor: f64,
    /// Latency of late, smoothed.
    recent: f64,
    /// It has been slow since it had so many requests, and that latency.
    slow: Option<(u32, f64)>,
    /// Nothing was too much so far.
    starting: bool,
    /// Windows that were slow since it is at the least limit.
    at_least: u32,
    /// The limit that was halved to look below.
    probing: Option<f64>,
    /// At the limit without a break since, or since the last look.
    bound_since: Option<u64>,
    /// The limit at the last look.
    looked_at: f64,
}

/// Where a limit begins (Netflix's).
const BEGIN: f64 = 20.0;
/// How much slower than without load the upstream may be: where the limit settles. Less than Envoy's buffer of a quarter, so
/// that the slowest answers stay well below twice as slow; more than the chance that is in a window.
const TOLERATED: f64 = 1.15;
/// There is clearly room.
const CLEARLY: f64 = 1.05;
/// Most that one window adds, and while nothing was ever too much.
const GROWTH: f64 = 1.25;
const FIRST_GROWTH: f64 = 1.5;
/// Most that one window takes away (Envoy's).
const SHRINKING: f64 = 0.5;
/// What is left when the upstream drops requests (between the 0.5 and 0.9 of additive-increase schemes).
const BACKOFF: f64 = 0.7;
/// With half the requests: if this much of the latency is left, they were not waiting for each other. Pure waiting leaves
/// half; the tolerance leaves seven eighths.
const SAME: f64 = 0.75;
/// How far one window moves what is held about the latency without load: down, and up while the limit is not reached.
const DOWN: f64 = 0.3;
/// Weight of a window in the smoothed latency.
const RECENT: f64 = 0.3;
/// What is faster by less than that is so by chance; believed, chance would have the last word.
const CHANCE: f64 = 0.9;
const UP: f64 = 0.05;
/// In the beginning, when the first answers to come were the fast ones.
const FIRST_UP: f64 = 0.3;
/// Slow windows at the least limit that make its measure doubtful (Envoy's).
const ENOUGH_AT_LEAST: u32 = 5;
/// At the limit for so long, it is time to look below (BBR's interval for the same question).
const LOOK_AFTER: u64 = 10_000_000_000;
/// The first time sooner: it may have begun in the middle of an overload.
const FIRST_LOOK: u64 = 1_000_000_000;

impl Gradient {
    pub(super) fn new() -> Self {
        Self {
            limit: BEGIN,
            floor: 0.0,
            recent: 0.0,
            slow: None,
            starting: true,
            at_least: 0,
            probing: None,
            bound_since: None,
            looked_at: f64::INFINITY,
        }
    }

    /// The latency without load, nanoseconds; 0 = unknown.
    pub(super) fn floor(&self) -> u64 {
        self.floor as u64
    }

    /// The limit now.
    pub(super) fn limit(&self, bounds: Bounds) -> u32 {
        (self.limit as u32).clamp(bounds.least, bounds.most)
    }

    /// Learns from a window, which ended `now`.
    pub(super) fn update(&mut self, window: Window, bounds: Bounds, now: u64) -> u32 {
        // A limit that other bounds allowed, or none, is none here.
        self.limit = self
            .limit
            .clamp(f64::from(bounds.least), f64::from(bounds.most));
        // More than the limit are those that were there before it.
        let peak = window.peak.min(self.limit(bounds));
        let window = Window { peak, ..window };
        let bound = f64::from(window.peak) * 2.0 >= self.limit;
        if !bound {
            self.bound_since = None;
        }
        if window.dropping {
            self.limit = self.probing.take().unwrap_or(self.limit) * BACKOFF;
            self.starting = false;
        } else if let Some(before) = self.probing.take() {
            self.learn(window);
            self.limit = before;
            if self.floor * CHANCE > window.latency as f64 {
                self.floor = window.latency as f64;
                self.limit = before.min(f64::from(window.peak) * 2.0);
                // There may be more below.
                self.looked_at = f64::INFINITY;
            }
            self.recent = self.floor;
            self.slow = None;
        } else if window.latency > 0 {
            self.follow(window, bound);
            self.look(window, bound, now);
            self.doubt(window, bounds);
        }
        self.limit = self
            .limit
            .clamp(f64::from(bounds.least), f64::from(bounds.most));
        self.limit(bounds)
    }

    /// The gradient's step.
    fn follow(&mut self, window: Window, bound: bool) {
        let latency = window.latency as f64;
        self.learn(window);
        // Slow is what is slow twice, or very slow once.
        let ratio = latency.min(self.recent) / self.floor;
        if ratio <= tolerated(window.answers) {
            self.slow = None;
            let ratio = latency / self.floor;
            if bound {
                self.limit = match TOLERATED / ratio {
                    room if room < 1.0 => self.limit,
                    room if room > CLEARLY && self.starting => self.limit * FIRST_GROWTH,
                    room if room > CLEARLY => (self.limit * room.min(GROWTH)).max(self.limit + 1.0),
                    room => self.limit * room,
                };
            }
            if !bound || self.starting {
                let up = if self.starting { FIRST_UP } else { UP };
                self.floor += (latency - self.floor).max(0.0) * up;
            }
            return;
        }
        if !bound {
            self.floor += (latency - self.floor) * UP;
            return;
        }
        self.starting = false;
        let larger = |known: &(u32, f64)| known.0 < window.peak || window.peak * 2 <= known.0;
        if self.slow.as_ref().is_none_or(larger) {
            self.slow = Some((window.peak, latency));
        }
        self.limit = self.limit.min(f64::from(window.peak).max(1.0));
        self.limit *= (TOLERATED / ratio).max(SHRINKING);
    }

    /// What a window says about the latency without load.
    fn learn(&mut self, window: Window) {
        let latency = window.latency as f64;
        self.recent += (latency - self.recent) * RECENT;
        if self.floor == 0.0 {
            (self.floor, self.recent) = (latency, latency);
        } else if self.recent < self.floor * CHANCE {
            self.floor += (self.recent - self.floor) * DOWN;
        } else if let Some((peak, before)) = self.slow
            && window.peak * 2 <= peak
            && latency > before * SAME
        {
            (self.floor, self.recent) = (latency, latency);
            self.slow = None;
        }
    }

    /// Slow for long at the least limit: there is nothing left to take, so it must be what it is (Envoy measures anew
    /// then).
    fn doubt(&mut self, window: Window, bounds: Bounds) {
        let slow = window.latency as f64 > self.floor * TOLERATED;
        if self.limit > f64::from(bounds.least) {
            self.at_least = 0;
        } else if slow {
            self.at_least += 1;
        }
        if self.at_least >= ENOUGH_AT_LEAST {
            self.floor = window.latency as f64;
            self.at_least = 0;
        }
    }

    /// Halves the limit for a window, when it is time to.
    fn look(&mut self, window: Window, bound: bool, now: u64) {
        if !bound {
            return;
        }
        let since = *self.bound_since.get_or_insert(now);
        let grown = self.limit > self.looked_at * 2.0;
        let never = self.looked_at.is_infinite();
        if !never {
            self.looked_at = self.looked_at.min(self.limit);
        }
        let wait = if never { FIRST_LOOK } else { LOOK_AFTER };
        if now.saturating_sub(since) < wait && !grown {
            return;
        }
        self.looked_at = self.limit;
        self.bound_since = Some(now);
        self.probing = Some(self.limit);
        self.slow = Some((window.peak, window.latency as f64));
        self.limit = self.limit.min(f64::from(window.peak)) / 2.0;
    }
}

/// What is slower than that is so by more than chance: of few answers the typical one varies, by about one part in the root
/// of their number.
fn tolerated(answers: u32) -> f64 {
    TOLERATED + 1.0 / f64::from(answers.max(1)).sqrt()
}
