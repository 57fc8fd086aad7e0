//! How many requests an upstream bears at once, found from how its latency answers to the limit.
//!
//! The model: an upstream works on so many requests at once, its knee, each for as long as it takes, the floor; what is
//! beyond waits. With `n` in flight the latency is `floor × max(1, n / knee)`. So below the knee the latency does not depend
//! on the limit, above it grows with it (Little's law: throughput is what it is, and in flight = throughput × latency), and
//! `limit × floor / latency` is the knee from wherever above it one stands. The limit follows `tolerance × floor / latency`,
//! the gradient of Envoy and of Netflix. What matters is how the floor is known:
//!
//! - Not as the least that was ever seen. Where answers take differently long, a window is low by luck sooner or later; by
//!   that floor everything is slow, at each limit, and the limit sinks to its minimum (Netflix's issues 34 and 37 tell of
//!   it). A window says here how far it may be wrong by chance, and all it is compared with is weighed by that.
//! - Not as a long average either, as Gradient2 has it: an overload that lasts makes the average, and the limit drifts
//!   upwards (Netflix's issues 134 and 137; Uber's Cinnamon tells the same).
//! - But by looking below the limit now and then, as brpc does and BBR for the length of a path: the limit is taken down by
//!   a third for one window. If the latency stays, that is the floor, be it lower or higher than what was held. If it falls
//!   as the limit does, requests wait there as well, and it is looked further below at once: no throughput is lost by that.
//!   Envoy takes the limit to its minimum for this, and refuses what comes meanwhile (its issues 8337 and 18152); a third,
//!   for a ninth of the time at the very most and mostly for a fiftieth, is hardly felt.
//! - A latency that is clearly too high is a look too, since the limit comes down for it: an upstream that can do less is
//!   told from one that takes longer by whether the latency falls with the limit. To believe that it takes longer it is
//!   looked below once more. The same when the limit sank by small steps: then both levels have been seen already.
//!
//! What may be chance moves the limit little, and the doubt is in favour of more: too high a limit shows in the latency, too
//! low a one does not. Nothing is decided while the limit is not reached: latency has other causes then, and the floor
//! follows it slowly.
//! There is no square root of headroom as Envoy adds: the tolerance alone says how much slower the upstream may become, so
//! that a small limit is not held to half as much again.

use super::estimate::Estimate;
use super::look::{Level, Look, Verdict};

/// What was seen while one limit was in force.
#[derive(Clone, Copy, Debug)]
pub(super) struct Window {
    /// How long answers took typically, nanoseconds; 0 = there were none.
    pub(super) latency: f64,
    /// By what part of it that may be wrong, by chance.
    pub(super) error: f64,
    /// Requests at once, on average as the answers saw it.
    pub(super) in_flight: f64,
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
#[derive(Clone, Debug)]
pub(super) struct Gradient {
    limit: f64,
    /// Latency without load.
    floor: Estimate,
    /// Latency at the limit, of late.
    here: Estimate,
    /// The limit was lowered to look below.
    look: Option<Look>,
    /// Where the limit was before it sank by small steps.
    high: Option<Level>,
    /// The floor was looked for before.
    looked: bool,
    /// Requests seemed to wait below the limit, though the floor is what it was: one of the two is chance.
    suspected: bool,
    next_look: u64,
    /// How long it is waited between two.
    pause: u64,
    /// Windows in a row with room for more.
    room: u32,
    /// Nothing was too much so far.
    starting: bool,
    /// There was a window before.
    begun: bool,
}

/// Where a limit begins (Netflix's).
const BEGIN: f64 = 20.0;
/// How much slower than without load the upstream may be: where the limit settles. Less than Envoy's buffer of a quarter, so
/// that the slowest answers stay well below twice as slow; enough to keep every place busy.
const TOLERATED: f64 = 1.2;
/// And the benefit of the doubt, in standard deviations: too high a limit shows, as latency; too low a one does not.
const ALLOWED: f64 = 0.5;
/// Slower than tolerated by so much (a logarithm) is more than a step's business.
const CLEARLY: f64 = 0.1;
/// Most that one window adds, and takes away (Envoy's).
const GROWTH: f64 = 1.5;
const SHRINKING: f64 = 0.5;
/// What is left when the upstream drops requests (between the 0.5 and 0.9 of additive-increase schemes).
const BACKOFF: f64 = 0.7;
/// So much of the limit was reached; so much was used on average, and then it is used up, but for what is kept for those
/// that matter most; with so little it has no part in how long answers take.
const BOUND: f64 = 0.9;
const FULL: f64 = 0.7;
const IDLE: f64 = 0.5;
/// Where it is looked, in parts of the limit: at 1.2 of the knee that is well below the knee.
const BELOW: f64 = 0.7;
/// And next where they wait for each other there as well.
const FURTHER: f64 = 0.6;
/// A limit that sank so far by small steps has made a look of its own.
const SUNK: f64 = 0.8;
/// Nearer to the least limit nothing can be seen below.
const NEAR: f64 = 0.85;
/// How far one window moves what is held, at least: at the limit, and where the limit is not what makes the latency.
const HERE: f64 = 0.3;
const UP: f64 = 0.03;
const FIRST_UP: f64 = 0.1;
/// How far one window moves what is held, at least, in a look.
const LOOKED: f64 = 0.2;
/// Between two looks: a second when something was new, and twice as long each time when nothing was. And so many times as
/// long as one takes.
const FIRST_PAUSE: u64 = 1_000_000_000;
const LAST_PAUSE: u64 = 8_000_000_000;
const PARTS: u64 = 8;

impl Gradient {
    pub(super) fn new() -> Self {
        Self {
            limit: BEGIN,
            floor: Estimate::default(),
            here: Estimate::default(),
            look: None,
            high: None,
            looked: false,
            suspected: false,
            next_look: 0,
            pause: FIRST_PAUSE,
            room: 0,
            starting: true,
            begun: false,
        }
    }

    /// The latency without load, nanoseconds; 0 = unknown.
    pub(super) fn floor(&self) -> u64 {
        self.floor.value() as u64
    }

    /// The limit now.
    pub(super) fn limit(&self, bounds: Bounds) -> u32 {
        (self.limit.round() as u32).clamp(bounds.least, bounds.most)
    }

    /// Learns from a window, which ended `now`.
    pub(super) fn update(&mut self, window: Window, bounds: Bounds, now: u64) -> u32 {
        // A limit that other bounds allowed, or none, is none here.
        self.keep_within(bounds);
        if window.dropping {
            let top = self.look.take().map(|look| look.top.limit);
            self.limit = top.unwrap_or(self.limit) * BACKOFF;
            self.starting = false;
            self.forget();
        } else if window.latency > 0.0 {
            let seen = Level {
                limit: f64::from(self.limit(bounds)),
                latency: Estimate::new(window.latency, window.error),
            };
            match self.look.take() {
                Some(look) => self.compare(look, seen, bounds, now),
                None => self.follow(&window, seen, bounds, now),
            }
        }
        self.keep_within(bounds);
        self.limit(bounds)
    }

    fn keep_within(&mut self, bounds: Bounds) {
        let (least, most) = (f64::from(bounds.least), f64::from(bounds.most));
        self.limit = self.limit.clamp(least, most);
    }

    /// What was seen at the limit was seen at another.
    fn forget(&mut self) {
        self.here = Estimate::default();
        self.high = None;
    }

    /// The usual case: nobody looks below.
    fn follow(&mut self, window: &Window, seen: Level, bounds: Bounds, now: u64) {
        if !self.floor.is_known() {
            // The first answers to come are the fast ones, and the line is not long yet.
            if std::mem::replace(&mut self.begun, true) {
                self.floor = seen.latency;
            }
            return;
        }
        let full = window.in_flight >= seen.limit * FULL;
        let idle = window.in_flight < seen.limit * IDLE;
        let faster = self.learn(seen.latency, idle);
        if f64::from(window.peak) < seen.limit * BOUND {
            return;
        }
        self.here.take(seen.latency, HERE);
        if full && self.sank(seen.limit, bounds, now) {
            return;
        }
        let lowest = seen.limit * NEAR < f64::from(bounds.least);
        if full && lowest {
            // There is nothing to see below, so this must do (Envoy measures anew at its minimum).
            self.floor.take(seen.latency, HERE);
        } else if full && self.lower(seen, faster, bounds, now) {
            return;
        }
        self.step(seen.latency, full);
    }

    /// What a window says about the floor; whether the upstream has clearly become faster.
    fn learn(&mut self, seen: Estimate, idle: bool) -> bool {
        let (slower, unsure) = (seen.over(self.floor), seen.unsure(self.floor));
        if slower < -3.0 * unsure - 0.05 {
            self.floor.take(seen, HERE);
            return true;
        }
        if idle {
            let part = if self.starting { FIRST_UP } else { UP };
            self.floor.follow(seen, part);
        }
        false
    }

    /// Whether the limit sank so far by small steps that the levels tell by themselves what a look would.
    fn sank(&mut self, limit: f64, bounds: Bounds, now: u64) -> bool {
        let here = Level {
            limit,
            latency: self.here,
        };
        match self.high {
            Some(high) if limit <= high.limit * SUNK => {
                self.compare(Look::new(high, now), here, bounds, now);
                return true;
            }
            Some(high) if limit < high.limit * 0.95 => {}
            _ => self.high = Some(here),
        }
        false
    }

    /// Lowers the limit for a window: when it is time to, or when something has changed.
    fn lower(&mut self, seen: Level, faster: bool, bounds: Bounds, now: u64) -> bool {
        let slower = seen.latency.over(self.floor);
        let unsure = seen.latency.unsure(self.floor);
        let trouble = slower > TOLERATED.ln() + CLEARLY + 2.0 * unsure;
        let chance = if self.starting { unsure } else { 0.0 };
        let room = slower < TOLERATED.ln() / 2.0 + chance;
        let due = now >= self.next_look && !room;
        let new = faster && !self.starting;
        if !(trouble || due || new || !self.looked) {
            return false;
        }

        let part = match (trouble, self.looked) {
            (true, _) => (TOLERATED.ln() - slower).exp().clamp(SHRINKING, BELOW),
            (false, true) => BELOW,
            // Not much is known yet.
            (false, false) => SHRINKING,
        };
        let above = Level {
            limit: seen.limit,
            latency: self.here,
        };
        self.look = Some(Look::new(above, now));
        self.limit = (seen.limit * part).max(f64::from(bounds.least));
        true
    }

    /// The gradient's step; what may be chance counts for less.
    fn step(&mut self, seen: Estimate, full: bool) {
        let unsure = seen.unsure(self.floor);
        let wanted = TOLERATED.ln() + unsure * ALLOWED - seen.over(self.floor);
        self.starting &= wanted > -1.5 * unsure;
        if self.starting && full && wanted > TOLERATED.ln() / 2.0 - unsure {
            self.limit *= GROWTH;
            return;
        }
        self.room = if full && wanted > 0.1 {
            self.room + 1
        } else {
            0
        };
        // Twice in a row it is no chance, and there is a way to go.
        let gain = if self.room > 1 { 2.0 } else { 1.0 };
        let factor = (wanted * surely(wanted, unsure) * gain).exp();
        self.limit *= factor.clamp(SHRINKING, GROWTH);
    }

    /// What the latency below says about the one above.
    fn compare(&mut self, mut look: Look, seen: Level, bounds: Bounds, now: u64) {
        let verdict = look.judge(seen, self.floor, self.looked, self.suspected);
        let further = match verdict {
            Verdict::Waiting => Some(FURTHER),
            Verdict::Slower => Some(BELOW),
            Verdict::Floor { .. } => None,
        };
        self.forget();
        if let Some(part) = further
            && seen.limit * NEAR > f64::from(bounds.least)
        {
            self.starting = false;
            self.suspected = false;
            if matches!(verdict, Verdict::Waiting) && seen.latency.over(self.floor) < 0.0 {
                self.floor = seen.latency;
            }
            look.above = seen;
            if matches!(verdict, Verdict::Waiting) {
                look.top = seen;
            }
            look.again = matches!(verdict, Verdict::Slower);
            self.look = Some(look);
            self.limit = (seen.limit * part).max(f64::from(bounds.least));
            return;
        }
        self.suspected = matches!(verdict, Verdict::Floor { suspected: true });
        self.restore(look, seen, now);
    }

    /// The floor has been seen: back to where it says.
    fn restore(&mut self, look: Look, seen: Level, now: u64) {
        let new = self.floor.take(seen.latency, LOOKED);
        self.looked = true;
        let top = look.top;
        if self.starting {
            self.limit = top.limit * GROWTH;
            self.next_look = now + self.pause;
            return;
        }
        let unsure = top.latency.unsure(self.floor);
        let wanted = TOLERATED.ln() + unsure * ALLOWED - top.latency.over(self.floor);
        let wanted = wanted * surely(wanted, unsure);
        self.limit = (top.limit * wanted.exp()).clamp(seen.limit, top.limit * TOLERATED);
        let due = self.next_look <= look.since && now > look.since;
        if due || new {
            self.pause = if new || wanted.abs() > 0.2 {
                FIRST_PAUSE
            } else {
                (self.pause * 2).min(LAST_PAUSE)
            };
            self.next_look = now + self.pause.max((now - look.since) * PARTS);
        }
    }
}

/// How much of a step is taken that may be chance: all of it when it is large against what is unsure, next to nothing when
/// it is small.
fn surely(step: f64, unsure: f64) -> f64 {
    step * step / (step * step + unsure * unsure)
}
