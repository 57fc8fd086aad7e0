//! How much more this process could serve: an estimate from what it has used.
//!
//! Workers share nothing, so the busiest of them is the limit, not their sum. What a request costs is all CPU time of the
//! process over all answers; with more of the same requests, spread over the workers as now, every worker's share grows
//! in proportion. The estimate ends where the first of three is [`FULL`]: the busiest worker, the processors this process
//! may use, or the processors themselves with whatever else runs on them. Where too little was seen it says so.

use std::collections::VecDeque;
use std::time::Duration;

use crate::api::{ApiWord, Headroom, HeadroomEstimate, HeadroomLatency, WorkerLoad};
use crate::observe::{Sums, quantile};

/// Readings kept, one a second: a minute between the first and the last.
const KEPT: usize = 61;
/// A worker this busy still answers in good time; what is above is for bursts and for an estimate that was wrong.
const FULL: f64 = 0.8;
/// Below any of these an estimate would be noise.
const LEAST_SECONDS: f64 = 10.0;
const LEAST_REQUESTS: u64 = 1000;
const LEAST_BUSY: f64 = 0.02;

/// What is full first: the busiest worker, the processors this process may use, or the processors with what else runs on
/// them.
const WORKER: &str = "worker";
const PROCESSORS: &str = "processors";
const HOST: &str = "host";

const ASSUMES: &str =
    "more of the same requests, spread over the workers as now, and upstreams that keep up";

/// What was used up to one moment.
#[derive(Clone, Debug, Default)]
pub(super) struct Reading {
    /// The moment, on a monotonic clock.
    pub at: Duration,
    /// CPU time of each worker's thread.
    pub workers: Vec<Duration>,
    /// CPU time of the whole process.
    pub process: Duration,
    /// Idle time of the processors it may run on, added up.
    pub idle: Duration,
    /// By how much each worker was late at worst since the reading before.
    pub lags: Vec<Duration>,
    /// Answers of all routes.
    pub served: Sums,
}

/// The readings of the last minute.
#[derive(Debug, Default)]
pub(super) struct Readings(VecDeque<Reading>);

/// What this process may run on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Processors {
    /// Processors its affinity allows.
    pub allowed: usize,
    /// Of these, how many it may keep busy: its control group's quota, if there is one.
    pub usable: f64,
}

impl Readings {
    /// Adds one and forgets what is over a minute old.
    pub(super) fn push(&mut self, reading: Reading) {
        if self.0.len() == KEPT {
            self.0.pop_front();
        }
        self.0.push_back(reading);
    }

    /// The estimate for a process that may run on these.
    pub(super) fn headroom(&self, on: Processors) -> Headroom {
        let nothing = Reading::default();
        let first = self.0.front().unwrap_or(&nothing);
        let middle = self.0.get(self.0.len() / 2).unwrap_or(&nothing);
        let last = self.0.back().unwrap_or(&nothing);
        let seconds = last.at.saturating_sub(first.at).as_secs_f64();
        let share = |from: Duration, to: Duration| {
            if seconds > 0.0 {
                to.saturating_sub(from).as_secs_f64() / seconds
            } else {
                0.0
            }
        };
        let lag = |worker: usize| {
            let each = self.0.iter().filter_map(|reading| reading.lags.get(worker));
            each.max().copied().unwrap_or_default()
        };
        let workers: Vec<WorkerLoad> = (last.workers.iter().enumerate())
            .map(|(worker, cpu)| WorkerLoad {
                busy: share(first.workers.get(worker).copied().unwrap_or_default(), *cpu),
                lag_ms: lag(worker).as_secs_f64() * 1000.0,
            })
            .collect();
        let busiest = (0..workers.len())
            .max_by(|one, other| workers[*one].busy.total_cmp(&workers[*other].busy));
        let served = last.served.since(&first.served);
        let used = share(first.process, last.process);
        let rate = if seconds > 0.0 {
            served.total() as f64 / seconds
        } else {
            0.0
        };
        let mut headroom = Headroom {
            seconds,
            too_thin: Vec::new(),
            requests: served.total(),
            rate,
            cpu_us_per_request: if rate > 0.0 { used / rate * 1e6 } else { 0.0 },
            processors: on.usable,
            processors_used: used,
            processors_idle: share(first.idle, last.idle),
            workers,
            busiest,
            latency: [(first, middle), (middle, last)].map(|(from, to)| latency(from, to)),
            estimate: None,
        };
        headroom.too_thin = lacks(&headroom);
        if headroom.too_thin.is_empty() {
            headroom.estimate = estimate(&headroom, on);
        }
        headroom
    }
}

/// What would have to be more for an estimate.
fn lacks(seen: &Headroom) -> Vec<String> {
    let busy: f64 = seen.workers.iter().map(|worker| worker.busy).sum();
    let busy = busy / seen.workers.len().max(1) as f64;
    let mut lacks = Vec::new();
    if seen.seconds < LEAST_SECONDS {
        lacks.push(format!(
            "only {:.0} s were seen, {LEAST_SECONDS} are needed",
            seen.seconds
        ));
    }
    if seen.requests < LEAST_REQUESTS {
        lacks.push(format!(
            "only {} requests were answered, {LEAST_REQUESTS} are needed",
            seen.requests
        ));
    }
    if busy < LEAST_BUSY {
        lacks.push(format!(
            "the workers were busy for {:.1} % of the time, {:.0} % are needed",
            busy * 100.0,
            LEAST_BUSY * 100.0
        ));
    }
    lacks
}

/// By which factor the load may grow until something is full; the least counts.
fn estimate(seen: &Headroom, on: Processors) -> Option<HeadroomEstimate> {
    let busiest = seen.workers.get(seen.busiest?)?.busy;
    let even =
        seen.workers.iter().map(|worker| worker.busy).sum::<f64>() / seen.workers.len() as f64;
    let used = seen.processors_used;
    let free = seen.processors_idle - (1.0 - FULL) * on.allowed as f64;
    let shared = [
        (FULL * on.usable / used, PROCESSORS),
        ((used + free.max(0.0)) / used, HOST),
    ];
    let least = |worker: f64| {
        let own = (FULL / worker, WORKER);
        shared.iter().fold(
            own,
            |least, other| if other.0 < least.0 { *other } else { least },
        )
    };
    let (factor, limit) = least(busiest);
    let more = |factor: f64| (seen.rate * (factor - 1.0)).max(0.0);
    Some(HeadroomEstimate {
        more: more(factor),
        more_if_even: more(least(even).0),
        limit: ApiWord::from(limit),
        full: FULL,
        assumes: ASSUMES.into(),
    })
}

/// Quantiles of what was answered between two readings.
fn latency(from: &Reading, to: &Reading) -> HeadroomLatency {
    let sums = to.served.since(&from.served);
    HeadroomLatency {
        p50_ms: quantile(&sums, 0.5) * 1000.0,
        p99_ms: quantile(&sums, 0.99) * 1000.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::stats::RouteStats;

    const TWO: Processors = Processors {
        allowed: 2,
        usable: 2.0,
    };

    /// A minute in which `requests` were answered, and the workers and the others used these shares of a processor.
    fn minute(requests: u64, workers: &[f64], others: f64, idle: f64) -> Readings {
        let stats = RouteStats::default();
        let mut readings = Readings::default();
        for second in 0..=60u64 {
            let share = |busy: &f64| Duration::from_secs_f64(busy * second as f64);
            readings.push(Reading {
                at: Duration::from_secs(100 + second),
                workers: workers.iter().map(share).collect(),
                process: share(&(workers.iter().sum::<f64>() + others)),
                idle: share(&idle),
                lags: vec![Duration::from_millis(second % 7); workers.len()],
                served: Sums::of(&stats),
            });
            (0..requests / 60).for_each(|_| stats.served("GET", 200, Duration::from_millis(4)));
        }
        readings
    }

    fn close(value: f64, wanted: f64) {
        assert!(
            (value - wanted).abs() <= wanted * 1e-6,
            "{value}, not {wanted}"
        );
    }

    #[test]
    fn the_busiest_worker_is_the_limit() {
        let seen = minute(60_000, &[0.4, 0.1], 0.0, 1.5).headroom(TWO);
        assert_eq!((seen.requests, seen.busiest), (60_000, Some(0)));
        close(seen.rate, 1000.0);
        close(seen.cpu_us_per_request, 500.0);
        let estimate = seen.estimate.expect("an estimate");
        assert_eq!(estimate.limit, WORKER);
        close(estimate.more, 1000.0);
        close(estimate.more_if_even, 2200.0);
        assert!((seen.workers[1].lag_ms - 6.0).abs() < 1e-9);
    }

    #[test]
    fn a_quota_is_the_limit_where_it_is_less_than_the_workers() {
        let half = Processors {
            allowed: 2,
            usable: 0.5,
        };
        let seen = minute(60_000, &[0.1, 0.1], 0.0, 1.8).headroom(half);
        let estimate = seen.estimate.expect("an estimate");
        assert_eq!(estimate.limit, PROCESSORS);
        close(estimate.more, 1000.0);
    }

    #[test]
    fn what_else_runs_on_the_host_counts() {
        let estimate = |idle| {
            let seen = minute(60_000, &[0.2, 0.2], 0.1, idle).headroom(TWO);
            seen.estimate.expect("an estimate")
        };
        assert_eq!(estimate(0.9).limit, HOST);
        close(estimate(0.9).more, 1000.0);
        assert!(estimate(0.2).more.abs() < 1e-9, "no processor is free");
        assert_ne!(
            estimate(1.5).limit,
            WORKER,
            "the other threads need some too"
        );
    }

    #[test]
    fn a_full_worker_takes_no_more() {
        let seen = minute(60_000, &[0.95, 0.1], 0.0, 0.9).headroom(TWO);
        let estimate = seen.estimate.expect("an estimate");
        assert!(
            estimate.more.abs() < 1e-9 && estimate.more_if_even > 400.0,
            "{estimate:?}"
        );
    }

    #[test]
    fn says_when_too_little_was_seen() {
        let thin = |readings: Readings| readings.headroom(TWO);
        let nothing = thin(Readings::default());
        assert_eq!(nothing.too_thin.len(), 3, "{nothing:?}");
        assert!(nothing.estimate.is_none());
        let few = thin(minute(900, &[0.4, 0.1], 0.0, 1.5));
        assert!(few.too_thin[0].contains("900 requests"), "{few:?}");
        assert!(few.estimate.is_none());
        let idle = thin(minute(6000, &[0.02, 0.01], 0.0, 1.9));
        assert!(idle.too_thin[0].contains("1.5 %"), "{idle:?}");
    }

    #[test]
    fn keeps_a_minute() {
        let mut readings = Readings::default();
        for second in 0..200 {
            readings.push(Reading {
                at: Duration::from_secs(second),
                ..Reading::default()
            });
        }
        assert_eq!(readings.0.len(), KEPT);
        close(readings.headroom(TWO).seconds, 60.0);
    }
}
