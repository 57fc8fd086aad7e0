//! How many requests a worker lets in while it is late, found from how late it is; and how they are shared by class.
//!
//! What a worker can do is not known, and changes with what it is asked for. So it is taken from the moment when it was
//! late: as many as it let in then were too many, and a little less is tried, and a little more again once it is on time
//! (the way of DAGOR, the admission control of WeChat: queueing time as the sign, priority as the order, small steps up
//! and larger ones down). The budget goes to critical requests first. It is about what comes in, not a share of it: when
//! less comes in than it allows, the overload is over at that moment and nothing has to be unlearned.

use std::time::Duration;

use crate::config::Class;

/// Numbers by class, the most important first.
pub(super) type ByClass<T> = [T; Class::ALL.len()];

/// A worker's budget.
#[derive(Debug, Default)]
pub(super) struct Budget {
    /// Requests a second; `None` while it is on time.
    rate: Option<f64>,
    /// Requests a second that came in when it was late last.
    storm: f64,
    /// Times in a row that it was on time since.
    on_time: u32,
}

/// What was seen of a worker for a while.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen {
    /// How late it was at its best, as a part of what is allowed. Its best, because a queue that stands is late always,
    /// and a moment's burst or the kernel's whim is not (CoDel's lesson).
    pub(super) lateness: f64,
    /// Requests that came in.
    pub(super) asked: ByClass<u32>,
    /// Requests among them that were let in.
    pub(super) let_in: u32,
    /// The time they came in.
    pub(super) during: Duration,
}

/// Steps: down by how late it is, within these; up by this much a tenth of a second, and each time by as much more.
const DOWN: (f64, f64) = (0.6, 0.95);
const UP: f64 = 0.03;
const MOST_UP: f64 = 1.3;
/// How much of a storm is none any more.
const CALM: f64 = 0.7;
/// On time, clearly.
const ON_TIME: f64 = 0.5;
/// So late that critical requests are given up as well.
const TOO_LATE: f64 = 10.0;
/// Requests a second that are always let in: a budget of none would never learn that the overload is over.
const LEAST: f64 = 10.0;

impl Budget {
    /// Learns, and says which share of each class is let in from now on.
    pub(super) fn update(&mut self, seen: &Seen) -> ByClass<f64> {
        let seconds = seen.during.as_secs_f64().max(0.001);
        let asked = seen.asked.map(|n| f64::from(n) / seconds);
        let total: f64 = asked.iter().sum();
        if seen.lateness > 1.0 {
            let known = self.rate.unwrap_or(f64::INFINITY);
            let rate = known.min(f64::from(seen.let_in) / seconds);
            self.rate = Some((rate * (1.0 / seen.lateness).clamp(DOWN.0, DOWN.1)).max(LEAST));
            // A storm that is over leaves work behind, which is late still.
            self.storm = total.max(self.storm * 0.8);
            self.on_time = 0;
        } else if let Some(rate) = self.rate
            && seen.lateness < ON_TIME
        {
            self.on_time += 1;
            let rate = rate * (1.0 + UP * f64::from(self.on_time)).min(MOST_UP);
            // What was refused cost something as well, so much less coming in is another world.
            let over = total <= rate || total < self.storm * CALM;
            self.rate = (!over).then_some(rate);
        }
        let Some(rate) = self.rate else {
            return [1.0; Class::ALL.len()];
        };
        // To refuse costs something too. Where that alone keeps the worker busy it is late whatever it lets in, and the
        // critical ones would be given up for nothing.
        let mut left = if seen.lateness < TOO_LATE {
            rate.max(asked[Class::Critical as usize])
        } else {
            rate
        };
        asked.map(|asked| {
            let given = asked.min(left);
            left -= given;
            if asked > given { given / asked } else { 1.0 }
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TICK: Duration = Duration::from_millis(100);

    /// A worker that does so many a second; what it has let in and not done makes it late. To refuse costs it a fifth.
    struct Worker {
        capacity: f64,
        backlog: f64,
        budget: Budget,
        shares: ByClass<f64>,
    }

    impl Worker {
        fn new(capacity: f64) -> Self {
            Self {
                capacity,
                backlog: 0.0,
                budget: Budget::default(),
                shares: [1.0; 3],
            }
        }

        /// A tenth of a second with so many requests a second; says how many of each were let in, and how late it is.
        fn tick(&mut self, rates: ByClass<f64>, allowed: f64) -> (ByClass<f64>, f64) {
            let asked = rates.map(|rate| rate / 10.0);
            let let_in: ByClass<f64> = std::array::from_fn(|c| asked[c] * self.shares[c]);
            let (sum, all): (f64, f64) = (let_in.iter().sum(), asked.iter().sum());
            let work = sum + (all - sum) * 0.2;
            self.backlog = (self.backlog + work - self.capacity / 10.0).max(0.0);
            let lag = self.backlog / self.capacity;
            let seen = Seen {
                lateness: lag / allowed,
                asked: asked.map(|n| n as u32),
                let_in: sum as u32,
                during: TICK,
            };
            self.shares = self.budget.update(&seen);
            (let_in, lag)
        }
    }

    #[test]
    fn critical_requests_pass_under_twice_the_capacity() {
        let mut worker = Worker::new(5000.0);
        let load = [2000.0, 3000.0, 5000.0];
        for _ in 0..30 {
            worker.tick(load, 0.02);
        }
        let (mut critical, mut all, mut late) = (0.0, 0.0, 0.0_f64);
        for _ in 0..300 {
            let (let_in, lag) = worker.tick(load, 0.02);
            critical += let_in[0];
            all += let_in.iter().sum::<f64>();
            late = late.max(lag);
        }
        assert!(critical > 2000.0 * 30.0 * 0.99, "{critical}");
        assert!(late < 0.06, "{late}");
        // What is left after the refusals.
        let possible = (5000.0 - 10_000.0 * 0.2) / 0.8 * 30.0;
        assert!(all > possible * 0.85, "{all} of {possible}");
    }

    #[test]
    fn everybody_is_let_in_again_at_once() {
        let mut worker = Worker::new(5000.0);
        for _ in 0..100 {
            worker.tick([2000.0, 3000.0, 5000.0], 0.02);
        }
        assert!(worker.shares[2] < 0.5);
        for _ in 0..5 {
            worker.tick([500.0, 500.0, 500.0], 0.02);
        }
        assert_eq!(worker.shares, [1.0; 3]);
    }

    #[test]
    fn a_worker_on_time_refuses_nobody() {
        let mut budget = Budget::default();
        let seen = Seen {
            lateness: 0.9,
            asked: [1000; 3],
            let_in: 3000,
            during: TICK,
        };
        assert_eq!(budget.update(&seen), [1.0; 3]);
    }

    proptest! {
        #[test]
        fn what_matters_more_is_never_worse_off(
            capacity in 100.0..20_000.0_f64,
            load in prop::array::uniform3(0.0..10_000.0_f64),
        ) {
            let mut worker = Worker::new(capacity);
            for _ in 0..200 {
                worker.tick(load, 0.02);
                let [critical, normal, sheddable] = worker.shares;
                prop_assert!(critical >= normal || load[1] < 20.0, "{:?}", worker.shares);
                prop_assert!(normal >= sheddable || load[2] < 20.0, "{:?}", worker.shares);
                prop_assert!(worker.shares.iter().all(|share| (0.0..=1.0).contains(share)));
            }
            for _ in 0..10 {
                worker.tick([capacity / 10.0, 0.0, 0.0], 0.02);
                worker.backlog = 0.0;
            }
            prop_assert_eq!(worker.shares, [1.0; 3]);
        }
    }
}
