//! How long a further try waits.

use std::time::Duration;

use crate::config::{Jitter, Retry};

/// The wait before further try number `attempt`, from 1: doubled each time up to a bound, and a part of it by chance, so
/// that those who failed together do not come back together. `random` is any number that differs from try to try.
pub fn backoff(retry: &Retry, attempt: u32, random: u64) -> Duration {
    let doubled = 1 << attempt.saturating_sub(1).min(20);
    let wait = retry.backoff.saturating_mul(doubled);
    let wait = wait.min(retry.max_backoff.max(retry.backoff));
    let by_chance = |most: Duration| most.mul_f64(mixed(random) as f64 / u64::MAX as f64);
    match retry.jitter {
        Jitter::None => wait,
        Jitter::Equal => wait / 2 + by_chance(wait / 2),
        Jitter::Full => by_chance(wait),
    }
}

/// A number of which every bit depends on every bit of `number` (the finaliser of SplitMix64).
fn mixed(number: u64) -> u64 {
    let number = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let number = (number ^ number >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ number >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ number >> 31
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::primitives::units::Percent;

    fn retry(jitter: Jitter) -> Retry {
        Retry {
            attempts: 10,
            on_connect: true,
            on_reset: true,
            on_timeout: false,
            on_status: Vec::new(),
            methods: Vec::new(),
            budget: Percent::whole(20),
            backoff: Duration::from_millis(25),
            max_backoff: Duration::from_millis(300),
            jitter,
        }
    }

    #[test]
    fn doubles_up_to_its_bound() {
        let waits = (1..=6).map(|attempt| backoff(&retry(Jitter::None), attempt, 7).as_millis());
        assert_eq!(waits.collect::<Vec<_>>(), [25, 50, 100, 200, 300, 300]);
    }

    #[test]
    fn chance_stays_in_its_part_and_fills_it() {
        for (jitter, least) in [(Jitter::Equal, 100.0), (Jitter::Full, 0.0)] {
            let waits = (0..2000).map(|n| backoff(&retry(jitter), 4, n).as_secs_f64() * 1000.0);
            let waits: Vec<f64> = waits.collect();
            assert!(waits.iter().all(|wait| (least..=200.0).contains(wait)));
            let mean = waits.iter().sum::<f64>() / 2000.0;
            let middle = (least + 200.0) / 2.0;
            assert!((mean - middle).abs() < 5.0, "{jitter:?}: {mean}");
        }
    }
}
