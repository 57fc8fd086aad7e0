//! What is known of overload: how many requests are served, how late workers are, how much memory is used, and what of
//! that is refused.

use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64};
use std::time::Duration;

use parking_lot::Mutex;

use super::budget::{Budget, ByClass, Seen};
use super::shed_permit::ShedPermit;
use crate::api::{ClassCounts, OverloadStatus};
use crate::config::{self, Class};
use crate::observe::overload::{OverloadStats, ShedCause, ShedCounts};
use crate::primitives::clock::nanos;

/// How much of what is allowed a class may use, in percent: the last tenths are kept for what matters more.
const SHARES: ByClass<u64> = [100, 80, 60];
/// Shares of memory, as [`SHARES`]. They begin later: what is taken once is seldom given back to the system soon.
const MEMORY_SHARES: ByClass<u64> = [100, 95, 90];
/// With fewer requests than that in flight, memory is not filled by requests, and to refuse them frees none.
const FEW: u64 = 64;
/// A share of one, of what a worker lets in.
const WHOLE: u32 = 1 << 24;

/// What is known of overload; outlives every configuration.
pub struct Overload {
    pub(super) stats: Arc<OverloadStats>,
    workers: OnceLock<Box<[Worker]>>,
    /// Refused when it was told last, and whether that has begun.
    told: Mutex<ByClass<u64>>,
    shedding: AtomicBool,
}

/// One worker's door.
#[derive(Default)]
struct Worker {
    asked: ByClass<AtomicU32>,
    let_in: AtomicU32,
    /// Withheld of each class, so that nothing is the beginning.
    withheld: ByClass<AtomicU32>,
    turn: AtomicU32,
    lag: AtomicU64,
    budget: Mutex<Budget>,
}

/// How much is refused at present.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ShedLevel {
    /// Nothing.
    Nothing,
    /// Sheddable requests, at least some of them.
    Sheddable,
    /// Normal ones as well.
    Normal,
    /// Critical ones as well.
    Critical,
}

impl ShedLevel {
    const ALL: [Self; 4] = [Self::Nothing, Self::Sheddable, Self::Normal, Self::Critical];

    /// A word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::Sheddable => "sheddable",
            Self::Normal => "normal",
            Self::Critical => "critical",
        }
    }
}

impl Overload {
    /// Nothing known yet.
    pub(in crate::gateway) fn new(stats: Arc<OverloadStats>) -> Self {
        Self {
            stats,
            workers: OnceLock::new(),
            told: Mutex::default(),
            shedding: AtomicBool::new(false),
        }
    }

    /// There are so many workers.
    pub fn begin(&self, workers: usize) {
        let _ = self.workers.set(
            std::iter::repeat_with(Worker::default)
                .take(workers)
                .collect(),
        );
    }

    /// How much is refused at present.
    pub fn level(&self) -> ShedLevel {
        let level = self.stats.level.load(Relaxed) as usize;
        ShedLevel::ALL[level.min(ShedLevel::ALL.len() - 1)]
    }

    /// What was seen of a worker for a while: called by each about itself, ten times a second, while lateness is watched.
    pub fn beat(&self, worker: usize, lag: Duration, during: Duration, most: Option<Duration>) {
        let Some(worker) = self.workers.get().and_then(|workers| workers.get(worker)) else {
            return;
        };
        worker.lag.store(nanos(lag), Relaxed);
        let seen = Seen {
            lateness: most.map_or(0.0, |most| lag.as_secs_f64() / most.as_secs_f64()),
            asked: std::array::from_fn(|class| worker.asked[class].swap(0, Relaxed)),
            let_in: worker.let_in.swap(0, Relaxed),
            during,
        };
        let shares = worker.budget.lock().update(&seen);
        for (withheld, share) in worker.withheld.iter().zip(shares) {
            withheld.store(WHOLE - (share * f64::from(WHOLE)) as u32, Relaxed);
        }
    }

    /// The memory of the process now.
    pub fn uses_memory(&self, bytes: u64) {
        self.stats.memory.store(bytes, Relaxed);
    }

    /// Sums up the last second: the level, and a line in the log when refusing begins and when it ends.
    pub fn tell(&self) {
        let stats = &*self.stats;
        let lag = self.workers().map(|worker| worker.lag.load(Relaxed)).max();
        stats.lag.store(lag.unwrap_or_default(), Relaxed);
        let shed = Class::ALL.map(|class| stats.shed.of(class));
        let before = std::mem::replace(&mut *self.told.lock(), shed);
        let worst = (0..Class::ALL.len()).find(|class| shed[*class] > before[*class]);
        let level = worst.map_or(0, |class| Class::ALL.len() - class);
        stats.level.store(level as u32, Relaxed);
        let more: u64 = shed.iter().zip(before).map(|(now, then)| now - then).sum();
        let (in_flight, lag_ms) = (stats.in_flight.load(Relaxed), lag.unwrap_or(0) / 1_000_000);
        match (self.shedding.swap(more > 0, Relaxed), more > 0) {
            (false, true) => {
                log::warn!(in_flight = in_flight, lag_ms = lag_ms; "overloaded: {more} requests were refused within a second");
            }
            (true, false) => {
                let [critical, normal, sheddable] = shed;
                log::info!(in_flight = in_flight;
                    "no longer overloaded; refused since the start: {critical} critical, {normal} normal, {sheddable} sheddable");
            }
            _ => {}
        }
    }

    /// For people and programs who ask.
    pub fn describe(&self) -> OverloadStatus {
        OverloadStatus {
            refused_now: self.level().as_str().into(),
            in_flight: self.stats.in_flight.load(Relaxed),
            lag_ms: self.stats.lag.load(Relaxed) as f64 / 1e6,
            refused: by_class(&self.stats.shed),
        }
    }

    fn workers(&self) -> impl Iterator<Item = &Worker> {
        self.workers.get().into_iter().flatten()
    }

    /// Whether some request would be refused by this worker now.
    pub(super) fn refuses_some(&self, lane: usize, watched: &config::Overload) -> bool {
        let worker = self.workers.get().and_then(|workers| workers.get(lane));
        let withholds = |worker: &Worker| worker.withheld.iter().any(|n| n.load(Relaxed) > 0);
        let in_flight = u64::from(self.stats.in_flight.load(Relaxed));
        watched.max_lag.is_some() && worker.is_some_and(withholds)
            || self.against(Class::Sheddable, in_flight, watched).is_some()
    }

    /// Lets a request in, or not.
    pub(super) fn enter(
        &self,
        class: Class,
        lane: usize,
        watched: &config::Overload,
    ) -> Result<ShedPermit, ShedCause> {
        if watched.max_lag.is_some()
            && let Some(worker) = self.workers.get().and_then(|workers| workers.get(lane))
            && !worker.lets_in(class)
        {
            return Err(ShedCause::Lag);
        }
        let (entered, before) = ShedPermit::count(&self.stats);
        self.against(class, before, watched)
            .map_or(Ok(entered), Err)
    }

    /// What speaks against one more of `class` beside so many.
    fn against(
        &self,
        class: Class,
        in_flight: u64,
        watched: &config::Overload,
    ) -> Option<ShedCause> {
        let class = class as usize;
        if let Some(most) = watched.max_in_flight {
            let share = (u64::from(most) * SHARES[class]).div_ceil(100);
            if in_flight >= share {
                return Some(ShedCause::InFlight);
            }
        }
        let most = watched.max_memory?;
        let share = most / 100 * MEMORY_SHARES[class];
        let full = in_flight >= FEW && self.stats.memory.load(Relaxed) >= share;
        full.then_some(ShedCause::Memory)
    }

    /// The verdict that a request of `class` would meet now, in words.
    pub(super) fn foretell(
        &self,
        class: Class,
        watched: &config::Overload,
    ) -> (String, Option<ShedCause>) {
        let in_flight = self.stats.in_flight.load(Relaxed);
        let withheld = self
            .workers()
            .map(|worker| worker.withheld[class as usize].load(Relaxed));
        let withheld = withheld.max().unwrap_or_default();
        if let Some(cause) = self.against(class, u64::from(in_flight), watched) {
            let words = format!("{}: refused now, by {}", class.as_str(), cause.label());
            return (words, Some(cause));
        }
        if watched.max_lag.is_some() && withheld > 0 {
            let share = f64::from(withheld) / f64::from(WHOLE) * 100.0;
            let words = format!(
                "{}: {share:.0} % are refused now, by max_lag",
                class.as_str()
            );
            return (words, (withheld == WHOLE).then_some(ShedCause::Lag));
        }
        (
            format!("{}: let in, {in_flight} in flight", class.as_str()),
            None,
        )
    }
}

impl Worker {
    /// Every so many of a class are let in, evenly spread: the turn times the golden ratio fills the circle so.
    fn lets_in(&self, class: Class) -> bool {
        const GOLDEN: u32 = 0x9E37_79B9;
        self.asked[class as usize].fetch_add(1, Relaxed);
        let withheld = self.withheld[class as usize].load(Relaxed);
        let turn = || self.turn.fetch_add(1, Relaxed).wrapping_mul(GOLDEN) >> 8;
        let let_in = withheld == 0 || turn() >= withheld;
        if let_in {
            self.let_in.fetch_add(1, Relaxed);
        }
        let_in
    }
}

/// What was refused, by class.
pub(super) fn by_class(counts: &ShedCounts) -> ClassCounts {
    ClassCounts {
        critical: counts.of(Class::Critical),
        normal: counts.of(Class::Normal),
        sheddable: counts.of(Class::Sheddable),
    }
}
