//! How many requests an upstream gets at once. A fixed limit, or one that is found from its latency; when it is reached
//! a bounded number waits for a bounded time, those that matter most are served first, and the rest is refused.
//!
//! A request that is let in holds a [`GatePermit`]; dropping it gives the place to who is next, so it comes back however the
//! request ends. Taking a place is one compare-and-swap while nobody waits; a lock is taken by those only who wait, and by
//! those who leave while somebody does.
//!
//! The places outlive a reload: they are the upstream's, not a configuration's.

mod estimate;
mod gradient;
mod latencies;
mod look;
mod queue;
mod reserve;
mod sampler;
#[cfg(test)]
mod simulated;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::sync::oneshot::error::TryRecvError;
use tokio::time::timeout;

use self::gradient::Bounds;
use self::queue::{Number, Pushed, Queue};
use self::reserve::Demand;
use self::sampler::{Limiter, Sample};
use crate::config::{Class, Concurrency, ConcurrencyLimit};
use crate::observe::overload::{ConcurrencyStats, ShedCause};
use crate::primitives::clock::{Clock, nanos};

/// The way into one upstream, by the settings of one configuration.
pub struct Gate {
    settings: Concurrency,
    places: Arc<Places>,
    limiter: Arc<Limiter>,
}

/// What outlives a configuration.
pub struct Places {
    counts: Arc<ConcurrencyStats>,
    queue: Mutex<Queue<oneshot::Sender<GatePermit>>>,
    demand: Demand,
    clock: Clock,
    /// Refused when it was told last, and whether that has begun.
    told: AtomicU64,
    shedding: AtomicBool,
}

/// A place at an upstream.
pub struct GatePermit {
    gate: Arc<Gate>,
    class: Class,
    /// Whether the place was given back already.
    void: bool,
}

impl Places {
    /// All free.
    pub fn new(counts: Arc<ConcurrencyStats>) -> Self {
        Self {
            counts,
            queue: Mutex::new(Queue::new()),
            demand: Demand::default(),
            clock: Clock::start(),
            told: AtomicU64::new(0),
            shedding: AtomicBool::new(false),
        }
    }
}

impl Gate {
    /// The way to these places.
    pub fn new(settings: Concurrency, places: Arc<Places>) -> Self {
        Self {
            settings,
            places,
            limiter: Arc::new(Limiter::new()),
        }
    }

    /// A gate with the limit that an earlier configuration found: one and the same where that searches within the same
    /// bounds, else a search of its own that begins there, so that it takes nothing from the other.
    #[must_use]
    pub fn following(&self, earlier: Option<&Self>) -> Self {
        let limiter = earlier.map(|earlier| {
            if earlier.settings.limit == self.settings.limit {
                Arc::clone(&earlier.limiter)
            } else {
                Arc::new(earlier.limiter.branched())
            }
        });
        Self {
            settings: self.settings,
            places: Arc::clone(&self.places),
            limiter: limiter.unwrap_or_else(|| Arc::clone(&self.limiter)),
        }
    }

    /// Takes a place if one is free for `class` and nobody waits for it.
    pub fn enter(self: &Arc<Self>, class: Class) -> Option<GatePermit> {
        let free = self.places.counts.queued.load(SeqCst) == 0 && self.take(class);
        free.then(|| self.place(class))
    }

    /// Waits for a place.
    pub async fn wait(self: &Arc<Self>, class: Class) -> Result<GatePermit, ShedCause> {
        let (sender, receiver) = oneshot::channel();
        let Some(number) = self.line_up(class, sender) else {
            return Err(self.shed(class, ShedCause::QueueFull));
        };
        let mut waiting = Waiting {
            gate: self,
            class,
            number,
            receiver,
        };
        let granted = timeout(self.settings.queue_timeout, &mut waiting.receiver).await;
        let granted = granted
            .map_err(|_| TryRecvError::Empty)
            .and_then(|granted| granted.map_err(|_| TryRecvError::Closed));
        // It may have come at the last moment.
        let granted = granted.or_else(|_| waiting.receiver.try_recv());
        granted.map_err(|why| match why {
            // Who took its turn counted it.
            TryRecvError::Closed => ShedCause::Displaced,
            TryRecvError::Empty => self.shed(class, ShedCause::QueueTimeout),
        })
    }

    /// Settings of the gate.
    pub fn settings(&self) -> &Concurrency {
        &self.settings
    }

    /// What is counted.
    pub fn counts(&self) -> &ConcurrencyStats {
        &self.places.counts
    }

    /// Requests that may be there at once.
    pub fn limit(&self) -> u32 {
        match self.settings.limit {
            ConcurrencyLimit::Fixed(limit) => limit,
            ConcurrencyLimit::Adaptive { min, max } => {
                let limit = match self.limiter.found() {
                    0 => self.limiter.limit(Bounds {
                        least: min,
                        most: max,
                    }),
                    found => found,
                };
                limit.clamp(min, max)
            }
        }
    }

    /// Places that are kept from `class` now, for what matters more.
    pub fn kept_from(&self, class: Class) -> u32 {
        self.places.demand.kept_from(class, self.limit())
    }

    /// Places that a request of `class` may take: some are kept for what matters more.
    pub fn limit_of(&self, class: Class) -> u32 {
        let limit = self.limit();
        limit - self.places.demand.kept_from(class, limit)
    }

    /// The latency without load that an adaptive limit goes by.
    pub fn unloaded(&self) -> Option<Duration> {
        let floor = self.limiter.floor();
        (floor > 0).then(|| Duration::from_nanos(floor))
    }

    /// Whether requests were refused within the last second or two.
    pub fn is_shedding(&self) -> bool {
        self.places.shedding.load(Relaxed)
    }

    /// Says in the log when refusing begins and ends. Called once a second.
    pub fn tell(self: &Arc<Self>, upstream: &str) {
        let places = &*self.places;
        places.demand.turn();
        if places.counts.queued.load(SeqCst) > 0 {
            // Less may be kept than before.
            self.hand_out(&mut places.queue.lock());
        }
        places.counts.limit.store(self.limit(), Relaxed);
        let total = places.counts.shed.total();
        let more = total - places.told.swap(total, Relaxed).min(total);
        let was = places.shedding.swap(more > 0, Relaxed);
        let [limit, in_flight, queued] = places.counts.now();
        match (was, more > 0) {
            (false, true) => {
                log::warn!(upstream = upstream, limit = limit, in_flight = in_flight, queued = queued;
                "overloaded: {more} requests were refused a place within a second");
            }
            (true, false) => {
                let [critical, normal, sheddable] =
                    Class::ALL.map(|class| places.counts.shed.of(class));
                log::info!(upstream = upstream, limit = limit, in_flight = in_flight;
                    "no longer overloaded; refused since the start: {critical} critical, {normal} normal, {sheddable} sheddable");
            }
            _ => {}
        }
    }

    fn place(self: &Arc<Self>, class: Class) -> GatePermit {
        GatePermit {
            gate: Arc::clone(self),
            class,
            void: false,
        }
    }

    /// Takes a place if one is free for `class`.
    fn take(&self, class: Class) -> bool {
        let limit = self.limit_of(class);
        let in_flight = &self.places.counts.in_flight;
        let taken = in_flight.fetch_update(SeqCst, Relaxed, |n| (n < limit).then_some(n + 1));
        if matches!(self.settings.limit, ConcurrencyLimit::Adaptive { .. }) {
            // Who finds none wants more than there are: what is not taken is kept.
            let wanted = taken.map_or_else(|_| self.limit(), |before| before + 1);
            self.limiter.saw(wanted);
        }
        if taken.is_ok() {
            self.places.demand.came(class);
        }
        taken.is_ok()
    }

    /// Lines up, and looks whether it is its turn already. `None`: there is no room.
    fn line_up(
        self: &Arc<Self>,
        class: Class,
        sender: oneshot::Sender<GatePermit>,
    ) -> Option<Number> {
        let (counts, now) = (&self.places.counts, self.now());
        let (room, patience) = (self.settings.queue as usize, self.patience());
        let mut queue = self.places.queue.lock();
        // Counted before it is looked whether a place is free: whoever gives one back looks the other way round, so one of
        // the two sees the other.
        counts.queued.fetch_add(1, SeqCst);
        let number = match queue.push(class, sender, room, now, patience) {
            Pushed::Waiting(number) => number,
            Pushed::InPlaceOf(number, _, of) => {
                counts.queued.fetch_sub(1, SeqCst);
                counts.shed.up(of, ShedCause::Displaced);
                number
            }
            Pushed::Full(_) => {
                counts.queued.fetch_sub(1, SeqCst);
                return None;
            }
        };
        self.hand_out(&mut queue);
        Some(number)
    }

    /// Gives free places to those who wait.
    fn hand_out(self: &Arc<Self>, queue: &mut Queue<oneshot::Sender<GatePermit>>) {
        let (counts, now) = (&self.places.counts, self.now());
        while let Some(class) = queue.next_class().filter(|class| self.take(*class)) {
            let mut place = self.place(class);
            if let Some(next) = queue.pop(now, self.patience()) {
                counts.queued.fetch_sub(1, SeqCst);
                match next.send(place) {
                    Ok(()) => continue,
                    // Who waits no longer does not take it.
                    Err(returned) => place = returned,
                }
            }
            // Not given back the usual way: that would look for somebody, under this lock.
            place.void = true;
            self.places.demand.went(class);
            counts.in_flight.fetch_sub(1, SeqCst);
        }
    }

    fn patience(&self) -> u64 {
        nanos(self.settings.queue_timeout)
    }

    fn now(&self) -> u64 {
        self.places.clock.now()
    }

    fn shed(&self, class: Class, cause: ShedCause) -> ShedCause {
        self.places.counts.shed.up(class, cause);
        cause
    }

    fn record(self: &Arc<Self>, took: Duration, dropped: bool, now: Instant) {
        let ConcurrencyLimit::Adaptive { min, max } = self.settings.limit else {
            return;
        };
        let (counts, now, took) = (&self.places.counts, self.places.clock.at(now), nanos(took));
        let sample = Sample { took, dropped };
        let in_flight = counts.in_flight.load(Relaxed);
        let bounds = Bounds {
            least: min,
            most: max,
        };
        let Some(limit) = self.limiter.record(sample, in_flight, bounds, now) else {
            return;
        };
        counts.limit.store(limit, SeqCst);
        if counts.queued.load(SeqCst) > 0 {
            self.hand_out(&mut self.places.queue.lock());
        }
    }
}

impl GatePermit {
    /// Whether it is one at this upstream.
    pub fn is_of(&self, gate: &Gate) -> bool {
        Arc::ptr_eq(&self.gate.places, &gate.places)
    }

    /// The head of an answer came. An upstream that says it has too much to do is believed, however fast it says so.
    pub fn answered(&self, status: u16, took: Duration, now: Instant) {
        self.gate.record(took, matches!(status, 503 | 504), now);
    }

    /// No answer came in time.
    pub fn gave_up(&self, took: Duration, now: Instant) {
        self.gate.record(took, true, now);
    }
}

impl Drop for GatePermit {
    fn drop(&mut self) {
        if self.void {
            return;
        }
        let counts = &self.gate.places.counts;
        self.gate.places.demand.went(self.class);
        counts.in_flight.fetch_sub(1, SeqCst);
        if counts.queued.load(SeqCst) > 0 {
            self.gate.hand_out(&mut self.gate.places.queue.lock());
        }
    }
}

/// One who waits; it may leave before its turn.
struct Waiting<'g> {
    gate: &'g Arc<Gate>,
    class: Class,
    number: Number,
    receiver: oneshot::Receiver<GatePermit>,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let places = &self.gate.places;
        if places.queue.lock().leave(self.class, self.number) {
            places.counts.queued.fetch_sub(1, SeqCst);
        }
    }
}
