//! How long a client is waited for that sends or takes little.

use std::time::{Duration, Instant};

/// So long in one go, and no longer in all than what it moves makes good: each byte gives back the time it may take at the
/// lowest rate that is borne, up to the whole. So a client that moves a byte now and then is let go as one that moves none,
/// and one that pauses for less than the limit and then goes on is not.
pub(in crate::gateway) struct StallTimer {
    limit: Duration,
    /// Nanoseconds that a byte gives back; zero: any of them gives back all.
    per_byte: u64,
    spent: Duration,
    /// Nanoseconds in all, however much was made good.
    waited: u64,
    since: Option<Instant>,
}

impl StallTimer {
    /// Nothing is spent, and nothing waited for.
    pub(in crate::gateway) fn new(limit: Duration, per_byte: Duration) -> Self {
        Self {
            limit,
            per_byte: nanos(per_byte),
            spent: Duration::ZERO,
            waited: 0,
            since: None,
        }
    }

    /// From now on any byte gives back all.
    pub(in crate::gateway) fn any_rate(&mut self) {
        self.per_byte = 0;
        self.spent = Duration::ZERO;
    }

    /// Whether it is waited for.
    pub(in crate::gateway) fn is_waiting(&self) -> bool {
        self.since.is_some()
    }

    /// How long it was waited for in all.
    pub(in crate::gateway) fn waited(&self) -> Duration {
        Duration::from_nanos(self.waited)
    }

    /// Begins to wait, or goes on: says until when at most.
    pub(in crate::gateway) fn waits(&mut self) -> Option<Instant> {
        let since = *self.since.get_or_insert_with(Instant::now);
        since.checked_add(self.limit.saturating_sub(self.spent))
    }

    /// So many bytes moved; says whether they were waited for.
    pub(in crate::gateway) fn moved(&mut self, bytes: usize) -> bool {
        let since = self.since.take();
        if let Some(since) = since {
            self.waited = self.waited.saturating_add(nanos(since.elapsed()));
        }
        if since.is_some() || !self.spent.is_zero() {
            self.settle(since.map(|since| since.elapsed()), bytes);
        }
        since.is_some()
    }

    fn settle(&mut self, waited: Option<Duration>, bytes: usize) {
        if self.per_byte == 0 {
            return;
        }
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        let spent = self.spent.saturating_add(waited.unwrap_or_default());
        self.spent =
            spent.saturating_sub(Duration::from_nanos(self.per_byte).saturating_mul(bytes));
    }
}

/// Two words of a [`Duration`] as one: every idle connection holds two of these.
fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(30);

    fn patience(rate: u64) -> StallTimer {
        StallTimer::new(LIMIT, Duration::from_nanos(1_000_000_000 / rate))
    }

    /// Lets it wait `each` for `bytes` bytes until it has had enough, for an hour at most; says for how long it bore it.
    fn borne(mut patience: StallTimer, each: Duration, bytes: usize) -> Option<Duration> {
        let mut total = Duration::ZERO;
        while total < Duration::from_secs(3600) {
            if patience.spent + each > patience.limit {
                return Some(total);
            }
            patience.settle(Some(each), bytes);
            total += each;
        }
        None
    }

    #[test]
    fn who_moves_less_than_the_rate_is_borne_for_a_bounded_time() {
        let second = Duration::from_secs(1);
        for bytes in [0, 1, 100, 200] {
            let time = borne(patience(240), second, bytes).expect("not for ever");
            let earned = 1.0 - bytes as f64 / 240.0;
            assert!(time.as_secs_f64() <= 31.0 / earned, "{bytes}: {time:?}");
        }
        assert_eq!(borne(patience(240), second, 241), None);
        assert_eq!(borne(patience(240), LIMIT, 240 * 30 + 1), None);
    }

    #[test]
    fn what_moves_fast_pays_for_no_more_than_one_pause() {
        let mut patience = patience(240);
        patience.settle(Some(Duration::from_secs(29)), 10 << 20);
        assert_eq!(patience.spent, Duration::ZERO);
        assert_eq!(
            borne(patience, Duration::from_secs(31), 1),
            Some(Duration::ZERO)
        );
    }

    #[test]
    fn without_a_rate_any_byte_gives_back_all() {
        let patience = StallTimer::new(LIMIT, Duration::ZERO);
        assert_eq!(borne(patience, Duration::from_secs(29), 1), None);
        let mut slow = self::patience(1);
        slow.settle(Some(Duration::from_secs(9)), 1);
        slow.any_rate();
        assert_eq!(borne(slow, LIMIT, 1), None);
    }

    #[test]
    fn it_is_over_in_time() {
        let mut patience = patience(240);
        assert!(!patience.moved(1) && !patience.is_waiting());
        let due = patience.waits().expect("a time");
        assert!(due <= Instant::now() + LIMIT && patience.is_waiting());
        assert_eq!(patience.waits(), Some(due), "since the first time");
        assert!(patience.moved(1) && !patience.is_waiting());
    }
}
