//! Rates, latency quantiles and error ratio per route over the last ten seconds and five minutes.
//!
//! A background service calls [`Windows::tick`] once a second; it keeps sums in two rings and never touches the
//! request path.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use parking_lot::Mutex;

use super::metrics::Metrics;
use super::stats::{BUCKETS, RouteStats};
use crate::api::{RouteWindows, TrafficWindow};
use crate::filter::Reason;

/// Answers up to one moment, by latency.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sums {
    total: u64,
    errors: u64,
    refused: u64,
    buckets: [u64; BUCKETS.len() + 1],
}

impl Sums {
    /// Sums of one route.
    pub fn of(stats: &RouteStats) -> Self {
        let mut sums = Self {
            // A client that leaves was not refused.
            refused: stats
                .refusals()
                .filter(|(reason, _)| *reason != Reason::ClientGone)
                .map(|(_, count)| count)
                .sum(),
            ..Self::default()
        };
        for (_, class, histogram) in stats.latencies() {
            for (sum, count) in sums.buckets.iter_mut().zip(histogram.counts()) {
                *sum += count;
                sums.total += count;
                sums.errors += if class == 5 { count } else { 0 };
            }
        }
        sums
    }

    /// Sums of one route without the requests that tell nothing about it.
    pub fn judged(stats: &RouteStats) -> Self {
        let [apart, amended] = stats.seen_apart().map(|seen| seen.map(Self::of));
        let mut judged = Self::of(stats);
        if let Some(apart) = apart {
            judged = judged.since(&apart);
        }
        if let Some(amended) = amended {
            judged.add(&amended);
        }
        judged
    }

    /// All answers.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// 5xx answers.
    pub fn errors(&self) -> u64 {
        self.errors
    }

    /// Requests that the gateway refused.
    pub fn refused(&self) -> u64 {
        self.refused
    }

    /// What came after `before`.
    pub fn since(&self, before: &Self) -> Self {
        let mut buckets = self.buckets;
        buckets
            .iter_mut()
            .zip(before.buckets)
            .for_each(|(now, then)| *now = now.saturating_sub(then));
        Self {
            total: self.total.saturating_sub(before.total),
            errors: self.errors.saturating_sub(before.errors),
            refused: self.refused.saturating_sub(before.refused),
            buckets,
        }
    }

    /// Adds those of another route.
    pub fn add(&mut self, more: &Self) {
        self.total += more.total;
        self.errors += more.errors;
        self.refused += more.refused;
        self.buckets
            .iter_mut()
            .zip(more.buckets)
            .for_each(|(sum, more)| *sum += more);
    }
}

/// Ten seconds in steps of one, five minutes in steps of ten.
const SHORT: usize = 10;
const LONG: usize = 30;
const LONG_STEP: u64 = 10;
/// Ticks of a minute.
const MINUTE: u64 = 60;

/// Sums and the tick they were taken at.
type Reading = (u64, Sums);

/// Readings of one route. Both rings begin with the zeros before its first traffic.
struct Rings {
    short: VecDeque<Reading>,
    long: VecDeque<Reading>,
    now: Reading,
    /// As `long` and `now`, without requests that tell nothing about the route.
    judged: VecDeque<Reading>,
    judged_now: Reading,
}

impl Rings {
    fn new(tick: u64) -> Self {
        let before = (tick.saturating_sub(1), Sums::default());
        Self {
            short: VecDeque::from([before]),
            long: VecDeque::from([before]),
            now: before,
            judged: VecDeque::from([before]),
            judged_now: before,
        }
    }
}

/// The windows of every route that had traffic.
#[derive(Default)]
pub struct Windows {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    ticks: u64,
    /// Of all routes, those that are gone included, so that it only grows.
    served: Sums,
    routes: HashMap<Arc<str>, Rings>,
}

impl Windows {
    /// Takes the sums of one second. Called once a second.
    pub fn tick(&self, metrics: &Metrics) {
        let routes = metrics.each_route();
        let mut state = self.state.lock();
        state.ticks += 1;
        let tick = state.ticks;
        let long_step = tick.is_multiple_of(LONG_STEP);
        let mut served = Sums::default();
        for (route, stats) in &routes {
            let sums = Sums::of(stats);
            if sums.total == 0 && !state.routes.contains_key(route) {
                continue;
            }
            let rings = state
                .routes
                .entry(Arc::clone(route))
                .or_insert_with(|| Rings::new(tick));
            served.add(&sums.since(&rings.now.1));
            push(&mut rings.short, rings.now, SHORT);
            if long_step {
                push(&mut rings.long, rings.now, LONG);
                push(&mut rings.judged, rings.judged_now, LONG);
            }
            rings.now = (tick, sums);
            rings.judged_now = (tick, Sums::judged(stats));
        }
        state.served.add(&served);
        if state.routes.len() > routes.len() {
            state
                .routes
                .retain(|name, _| routes.iter().any(|(route, _)| route == name));
        }
    }

    /// Answers of all routes up to the last tick.
    pub fn served(&self) -> Sums {
        self.state.lock().served
    }

    /// What each route with traffic did in the last minute, or since the start, without requests that tell nothing about it.
    pub fn last_minute(&self) -> HashMap<Arc<str>, Sums> {
        let state = self.state.lock();
        let minute = |rings: &Rings| {
            let (tick, now) = rings.judged_now;
            let old_enough = |(at, _): &&Reading| at + MINUTE <= tick;
            let before = rings.judged.iter().rev().find(old_enough);
            let before = before.or(rings.judged.front()).map(|(_, sums)| *sums);
            now.since(&before.unwrap_or_default())
        };
        let routes = state.routes.iter();
        routes
            .map(|(route, rings)| (Arc::clone(route), minute(rings)))
            .collect()
    }

    /// The windows of one route; zeros when it had no traffic.
    pub fn of(&self, route: &str) -> RouteWindows {
        let state = self.state.lock();
        let empty = Rings::new(state.ticks);
        let rings = state.routes.get(route).unwrap_or(&empty);
        RouteWindows {
            last_10s: window(&rings.short, rings.now),
            last_5m: window(&rings.long, rings.now),
        }
    }
}

fn push(ring: &mut VecDeque<Reading>, reading: Reading, most: usize) {
    if ring.len() == most {
        ring.pop_front();
    }
    ring.push_back(reading);
}

fn window(ring: &VecDeque<Reading>, (tick, now): Reading) -> TrafficWindow {
    let (began, before) = ring.front().copied().unwrap_or((tick, now));
    let delta = now.since(&before);
    let seconds = (tick - began).max(1);
    let quantile = |q| quantile(&delta, q) * 1000.0;
    TrafficWindow {
        seconds,
        requests: delta.total,
        rate: delta.total as f64 / seconds as f64,
        error_ratio: if delta.total == 0 {
            0.0
        } else {
            delta.errors as f64 / delta.total as f64
        },
        p50_ms: quantile(0.5),
        p90_ms: quantile(0.9),
        p99_ms: quantile(0.99),
    }
}

/// The value below which a share `q` lies, in seconds, linear within the bucket (as Prometheus' `histogram_quantile`).
pub fn quantile(sums: &Sums, q: f64) -> f64 {
    let rank = q * sums.total as f64;
    let mut below = 0.0;
    for (index, count) in sums.buckets.iter().enumerate() {
        let count = *count as f64;
        if count > 0.0 && below + count >= rank {
            let lower = if index == 0 { 0.0 } else { BUCKETS[index - 1] };
            let upper = BUCKETS.get(index).copied().unwrap_or(lower);
            return lower + (upper - lower) * (rank - below) / count;
        }
        below += count;
    }
    0.0
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::primitives::RouteName;

    #[test]
    fn shows_the_last_seconds_and_forgets_older_ones() {
        let metrics = Metrics::new("0", "0").expect("metrics");
        let stats = metrics.route(&RouteName::new("r"));
        metrics.register_route(&RouteName::new("r"));
        let windows = Windows::default();
        windows.tick(&metrics);
        for _ in 0..90 {
            stats.served("GET", 200, Duration::from_millis(4));
        }
        for _ in 0..10 {
            stats.served("GET", 500, Duration::from_millis(400));
        }
        windows.tick(&metrics);
        let seen = windows.of("r");
        assert_eq!(seen.last_10s.requests, 100);
        assert!((seen.last_10s.error_ratio - 0.1).abs() < 1e-9);
        assert!(seen.last_10s.p50_ms < 5.0 && seen.last_10s.p99_ms > 250.0);
        (0..20).for_each(|_| windows.tick(&metrics));
        assert_eq!(windows.of("r").last_10s.requests, 0);
        assert_eq!(windows.of("r").last_5m.requests, 100);
        assert_eq!(windows.last_minute()["r"].total, 100);
        (0..70).for_each(|_| windows.tick(&metrics));
        assert_eq!(windows.last_minute()["r"].total, 0);
    }

    #[test]
    fn what_clients_cause_by_themselves_is_shown_and_not_judged() {
        let metrics = Metrics::new("0", "0").expect("metrics");
        let stats = metrics.route(&RouteName::new("r"));
        metrics.register_route(&RouteName::new("r"));
        let (short, long) = (Duration::from_millis(4), Duration::from_secs(20));
        for _ in 0..10 {
            stats.served("GET", 504, long);
            stats.apart().served("GET", 504, long);
            stats.served("GET", 200, long);
            stats.apart().served("GET", 200, long);
            stats.amended().served("GET", 200, short);
        }
        stats.served("GET", 500, short);
        let (all, judged) = (Sums::of(&stats), Sums::judged(&stats));
        assert_eq!((all.total(), all.errors()), (21, 11));
        assert_eq!((judged.total(), judged.errors()), (11, 1));
        assert!(quantile(&judged, 0.99) < 0.01 && quantile(&all, 0.5) > 1.0);
        let windows = Windows::default();
        (0..2).for_each(|_| windows.tick(&metrics));
        assert_eq!(windows.of("r").last_10s.requests, 21);
        assert_eq!(windows.last_minute()["r"].total(), 11);
    }
}
