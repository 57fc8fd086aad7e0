//! Simulated upstreams in simulated time: so many slots, a line before them, the gate before the line, and clients that do
//! not care how much is served.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::gradient::Bounds;
use super::sampler::{Limiter, Sample};

pub(super) const MS: u64 = 1_000_000;
pub(super) const SECOND: u64 = 1_000 * MS;
pub(super) const BOUNDS: Bounds = Bounds {
    least: 3,
    most: 1000,
};

/// How long one piece of work takes, given the mean.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Work {
    Steady,
    /// Between half and one and a half.
    Uniform,
    Exponential,
    /// Work whose logarithm varies by so much; with 1 one in a hundred takes ten times as long as the median, with 1.5
    /// thirty times.
    LogNormal(f64),
    /// A cache before something slow: one takes twenty times as long as the other, and so many are the fast ones.
    Cache(f64),
}

impl Work {
    fn takes(self, mean: f64, numbers: &mut SmallRng) -> f64 {
        let mut uniform = || numbers.random_range(f64::EPSILON..1.0);
        match self {
            Self::Steady => mean,
            Self::Uniform => mean * (0.5 + uniform()),
            Self::Exponential => -uniform().ln() * mean,
            Self::LogNormal(by) => {
                // Box and Muller's normal number.
                let (radius, turn) = ((-2.0 * uniform().ln()).sqrt(), uniform());
                let normal = radius * (turn * std::f64::consts::TAU).cos();
                mean * (by * normal - by * by / 2.0).exp()
            }
            Self::Cache(hits) => {
                let hit = mean / (hits + 20.0 * (1.0 - hits));
                if uniform() < hits { hit } else { 20.0 * hit }
            }
        }
    }
}

/// The kinds that are tried.
pub(super) const WORKS: [Work; 8] = [
    Work::Steady,
    Work::Uniform,
    Work::Exponential,
    Work::LogNormal(1.0),
    Work::LogNormal(1.5),
    Work::Cache(0.5),
    Work::Cache(0.8),
    Work::Cache(0.95),
];

pub(super) struct Simulation {
    now: u64,
    events: BinaryHeap<Reverse<(u64, u64, Event)>>,
    numbers: SmallRng,
    order: u64,
    slots: usize,
    /// Mean, nanoseconds.
    pub(super) service: u64,
    work: Work,
    /// Between two requests that come in, on average.
    interval: f64,
    busy: usize,
    line: VecDeque<u64>,
    /// Finds the limit; or one who knows has said it.
    limiter: Option<Limiter>,
    pub(super) limit: u32,
    in_flight: u32,
    waiting: VecDeque<u64>,
    span: Span,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Arrival,
    /// Of what was sent then.
    Done(u64),
}

/// What happened in a span.
#[derive(Clone, Debug, Default)]
pub(super) struct Span {
    /// Asked for a second.
    pub(super) asked: f64,
    /// Served a second.
    pub(super) rate: f64,
    /// Mean latency at the upstream, in mean service times.
    pub(super) slowness: f64,
    pub(super) refused: u64,
    /// Least and most that the limit was.
    pub(super) limits: (u32, u32),
}

/// As where nothing else is configured.
const QUEUE: usize = 100;
const QUEUE_TIMEOUT: u64 = 200 * MS;

impl Simulation {
    /// An upstream of which nothing is known.
    pub(super) fn new(slots: usize, service: u64, work: Work, seed: u64) -> Self {
        let limiter = Limiter::new();
        let limit = limiter.limit(BOUNDS);
        Self {
            limiter: Some(limiter),
            ..Self::known(slots, service, work, seed, limit)
        }
    }

    /// The upstream of a simulation, behind a fixed limit.
    pub(super) fn known(slots: usize, service: u64, work: Work, seed: u64, limit: u32) -> Self {
        let mut simulation = Self {
            now: SECOND,
            events: BinaryHeap::new(),
            numbers: SmallRng::seed_from_u64(seed),
            order: 0,
            slots,
            service,
            work,
            interval: SECOND as f64,
            busy: 0,
            line: VecDeque::new(),
            limiter: None,
            limit,
            in_flight: 0,
            waiting: VecDeque::new(),
            span: Span::default(),
        };
        simulation.at(0, Event::Arrival);
        simulation
    }

    /// So many times its capacity comes in from now on.
    pub(super) fn load(&mut self, load: f64) -> &mut Self {
        self.interval = SECOND as f64 / (self.capacity() * load);
        self
    }

    /// What it can serve a second.
    pub(super) fn capacity(&self) -> f64 {
        self.slots as f64 * SECOND as f64 / self.service as f64
    }

    /// So many slots from now on.
    pub(super) fn resize(&mut self, slots: usize) {
        self.slots = slots;
        self.work_on();
    }

    /// Until what it does is what it will do: some seconds, some tens of latencies, and so many answers as it takes where
    /// they vary.
    pub(super) fn settle(&mut self) -> &mut Self {
        let served = self.capacity().min(SECOND as f64 / self.interval);
        let latencies = 40.0 * self.service as f64 / SECOND as f64;
        self.run((10.0 + latencies + 1500.0 / served).min(150.0));
        self
    }

    fn at(&mut self, after: u64, event: Event) {
        self.order += 1;
        self.events
            .push(Reverse((self.now + after, self.order, event)));
    }

    pub(super) fn run(&mut self, seconds: f64) -> Span {
        let end = self.now + (seconds * SECOND as f64) as u64;
        self.span = Span {
            limits: (self.limit, self.limit),
            ..Span::default()
        };
        while let Some(Reverse((at, order, event))) = self.events.pop() {
            if at > end {
                self.events.push(Reverse((at, order, event)));
                break;
            }
            self.now = at;
            match event {
                Event::Arrival => {
                    self.arrive();
                    let next = Work::Exponential.takes(self.interval, &mut self.numbers);
                    self.at(next as u64, Event::Arrival);
                }
                Event::Done(sent) => self.done(sent),
            }
        }
        self.now = end;
        let mut span = self.span.clone();
        span.slowness /= span.rate.max(1.0) * self.service as f64;
        span.rate /= seconds;
        span.asked /= seconds;
        span
    }

    fn arrive(&mut self) {
        self.span.asked += 1.0;
        if self.in_flight < self.limit && self.waiting.is_empty() {
            self.send();
            return;
        }
        self.hand_out();
        if self.waiting.len() < QUEUE {
            self.waiting.push_back(self.now);
        } else {
            self.span.refused += 1;
        }
    }

    fn send(&mut self) {
        self.in_flight += 1;
        if let Some(limiter) = &self.limiter {
            limiter.saw(self.in_flight);
        }
        let now = self.now;
        if self.busy < self.slots {
            self.begin(now);
        } else {
            self.line.push_back(now);
        }
    }

    fn begin(&mut self, sent: u64) {
        self.busy += 1;
        let took = self.work.takes(self.service as f64, &mut self.numbers);
        self.at(took as u64, Event::Done(sent));
    }

    fn work_on(&mut self) {
        while self.busy < self.slots
            && let Some(next) = self.line.pop_front()
        {
            self.begin(next);
        }
    }

    fn done(&mut self, sent: u64) {
        self.busy -= 1;
        self.work_on();
        let took = self.now - sent;
        self.span.rate += 1.0;
        self.span.slowness += took as f64;
        let sample = Sample {
            took,
            dropped: false,
        };
        if let Some(limiter) = &self.limiter
            && let Some(limit) = limiter.record(sample, self.in_flight, BOUNDS, self.now)
        {
            self.limit = limit;
            let (least, most) = self.span.limits;
            self.span.limits = (least.min(limit), most.max(limit));
        }
        self.in_flight -= 1;
        self.hand_out();
    }

    /// Gives free places to those who wait, and sends away who waited too long.
    fn hand_out(&mut self) {
        while let Some(since) = self.waiting.front() {
            if self.now - since > QUEUE_TIMEOUT {
                self.waiting.pop_front();
                self.span.refused += 1;
            } else if self.in_flight < self.limit {
                self.waiting.pop_front();
                self.send();
            } else {
                break;
            }
        }
    }
}
