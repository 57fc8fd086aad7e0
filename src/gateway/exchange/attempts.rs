//! The tries of one request, in the order in which they began: who was asked, when, and why it ended.
//!
//! The list is the request's own. The access line, the metrics of second tries and the decisions about the next try read
//! it, so that none of them can tell another story.

use std::sync::Arc;
use std::time::{Duration, Instant};

use smallvec::SmallVec;

use crate::observe::stats::RetryCause;
use crate::observe::{HedgeOutcome, Try, TryEnd};
use crate::upstream::{Endpoint, Pool};

/// The tries of one request. Those that hedging began stand beside the current one, whose answer goes to the client.
/// Bounded by what the upstream allows of retries and hedges. Room for two needs no allocation.
#[derive(Default)]
pub(in crate::gateway) struct Attempts {
    list: SmallVec<[Attempt; 2]>,
    current: usize,
    counted: u32,
}

/// A try: a request sent to one endpoint.
pub(in crate::gateway) struct Attempt {
    endpoint: Arc<Endpoint>,
    began: Instant,
    /// A connection that was opened for it stood; `None` on one that was there.
    connected: Option<Instant>,
    /// The head of its answer came.
    head: Option<Instant>,
    ended: Option<(TryEnd, Instant)>,
    traffic: Traffic,
    /// Another was made since it failed, at this upstream and for this cause.
    again: Option<(Arc<Pool>, RetryCause)>,
}

/// Bytes of a try as its transport counts them: over HTTP/1.1 all, over HTTP/2 those of bodies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::gateway) struct Traffic {
    /// Towards the endpoint.
    pub(in crate::gateway) sent: u64,
    /// From it.
    pub(in crate::gateway) received: u64,
}

impl Attempts {
    /// How many tries were sent to the upstream that has the request now. One on a kept connection that was found closed
    /// is none.
    pub(in crate::gateway) fn count(&self) -> u32 {
        self.counted
    }

    /// The try whose answer the client gets.
    pub(in crate::gateway) fn current(&self) -> Option<&Attempt> {
        self.list.get(self.current)
    }

    /// When the current try was sent.
    pub(in crate::gateway) fn sent(&self) -> Option<Instant> {
        self.current().map(Attempt::sent)
    }

    /// How long the head of the current try's answer took; `None` while there is none.
    pub(in crate::gateway) fn took(&self) -> Option<Duration> {
        self.current().and_then(Attempt::took)
    }

    /// All tries, the first first.
    pub(in crate::gateway) fn each(&self) -> impl ExactSizeIterator<Item = &Attempt> {
        self.list.iter()
    }

    /// A try begins, which is the current one from here on.
    pub(super) fn begin(&mut self, endpoint: Arc<Endpoint>, now: Instant) {
        self.current = self.list.len();
        self.begin_beside(endpoint, now);
    }

    /// A try begins beside the current one. Returns its place in the list.
    pub(super) fn begin_beside(&mut self, endpoint: Arc<Endpoint>, now: Instant) -> usize {
        self.counted += 1;
        self.list.push(Attempt {
            endpoint,
            began: now,
            connected: None,
            head: None,
            ended: None,
            traffic: Traffic::default(),
            again: None,
        });
        self.list.len() - 1
    }

    /// The current try was lost to the one at `index`, which is the current one from here on.
    pub(super) fn take_over(&mut self, index: usize) {
        self.end_current(TryEnd::Lost);
        self.current = index;
    }

    /// The current try told nothing about its endpoint: it does not count.
    pub(super) fn forget_current(&mut self) {
        self.end_current(TryEnd::Stale);
        self.counted = self.counted.saturating_sub(1);
    }

    /// Another upstream takes the request over: its tries are counted anew.
    pub(in crate::gateway) fn count_anew(&mut self) {
        self.counted = 0;
    }

    /// The current try ended so, unless that is known already.
    pub(super) fn end_current(&mut self, end: TryEnd) {
        self.end(self.current, end);
    }

    /// Another try is made at the same upstream, since the current one failed for this cause.
    pub(super) fn again(&mut self, pool: Arc<Pool>, cause: RetryCause) {
        if let Some(attempt) = self.list.get_mut(self.current) {
            attempt.again = Some((pool, cause));
        }
    }

    /// Counts the retries of the request, which is over: `gateway_upstream_retries_total`.
    pub(in crate::gateway) fn count_retries(&self) {
        for (pool, cause) in self
            .list
            .iter()
            .filter_map(|attempt| attempt.again.as_ref())
        {
            pool.stats().retried(*cause);
        }
    }

    /// The try at `index` ended so, unless that is known already.
    pub(super) fn end(&mut self, index: usize, end: TryEnd) {
        if let Some(attempt) = self.list.get_mut(index) {
            attempt.ended.get_or_insert_with(|| (end, Instant::now()));
        }
    }

    /// A connection that was opened for the try at `index` stands.
    pub(super) fn connected(&mut self, index: usize, now: Instant) {
        if let Some(attempt) = self.list.get_mut(index) {
            attempt.connected = Some(now);
        }
    }

    /// A connection that was opened for the current try stands.
    pub(super) fn current_connected(&mut self, now: Instant) {
        self.connected(self.current, now);
    }

    /// The head of the current try's answer came. Returns how long it took.
    pub(super) fn head_came(&mut self, now: Instant) -> Duration {
        let Some(attempt) = self.list.get_mut(self.current) else {
            return Duration::ZERO;
        };
        attempt.head = Some(now);
        now.saturating_duration_since(attempt.sent())
    }

    /// What the current try sent and received.
    pub(super) fn traffic(&self) -> Traffic {
        self.current()
            .map_or(Traffic::default(), |attempt| attempt.traffic)
    }

    /// The current try sent and received so much.
    pub(super) fn count_current(&mut self, traffic: Traffic) {
        self.count_traffic(self.current, traffic);
    }

    /// The try at `index` sent and received so much.
    pub(super) fn count_traffic(&mut self, index: usize, traffic: Traffic) {
        if let Some(attempt) = self.list.get_mut(index) {
            attempt.traffic = traffic;
        }
    }
}

impl Attempt {
    /// When it could be sent: when it began, or when its new connection stood.
    pub(in crate::gateway) fn sent(&self) -> Instant {
        self.connected.unwrap_or(self.began)
    }

    fn took(&self) -> Option<Duration> {
        let head = self.head?;
        Some(head.saturating_duration_since(self.sent()))
    }

    /// What a record says of it. One that nobody ended was answered to the end, or given up at `now` with its request.
    pub(in crate::gateway) fn said(&self, now: Instant) -> Try<'_> {
        let open = match self.head {
            Some(_) => TryEnd::Answered,
            None => TryEnd::GivenUp,
        };
        let (end, ended) = self.ended.unwrap_or((open, now));
        Try {
            endpoint: &self.endpoint.label,
            took: ended.saturating_duration_since(self.began),
            end,
        }
    }
}

/// How a try ended that failed for this cause.
pub(super) fn failed(cause: Option<RetryCause>) -> TryEnd {
    match cause {
        Some(RetryCause::Connect) => TryEnd::Connect,
        Some(RetryCause::Reset) => TryEnd::Reset,
        Some(RetryCause::Timeout) => TryEnd::Timeout,
        Some(RetryCause::Status) => TryEnd::Status,
        None => TryEnd::Invalid,
    }
}

/// What became of a try that hedging began and that ended so.
pub(super) fn hedge_outcome(end: TryEnd) -> HedgeOutcome {
    match end {
        TryEnd::Answered => HedgeOutcome::Won,
        TryEnd::Lost | TryEnd::GivenUp => HedgeOutcome::Lost,
        _ => HedgeOutcome::Failed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::Metrics;
    use crate::primitives::UpstreamName;
    use crate::primitives::address::Address;
    use crate::upstream::EndpointFacts;

    fn endpoints() -> [Arc<Endpoint>; 2] {
        let metrics = Metrics::new("0", "0").expect("metrics");
        let facts = EndpointFacts::new(Arc::new(metrics));
        ["127.0.0.1:1", "127.0.0.1:2"].map(|label| {
            let address = Address::Inet(label.parse().expect("an address"));
            facts.endpoint(&UpstreamName::new("u"), label, address)
        })
    }

    fn ends(attempts: &Attempts, now: Instant) -> Vec<(String, TryEnd, u128)> {
        let said = attempts.each().map(|attempt| attempt.said(now));
        said.map(|one| (one.endpoint.to_owned(), one.end, one.took.as_millis()))
            .collect()
    }

    #[test]
    fn a_try_counts_from_when_it_could_be_sent() {
        let [one, _] = endpoints();
        let (mut attempts, began) = (Attempts::default(), Instant::now());
        let later = |millis| began + Duration::from_millis(millis);
        assert_eq!(
            (attempts.count(), attempts.sent(), attempts.took()),
            (0, None, None)
        );
        attempts.begin(one, began);
        assert_eq!((attempts.count(), attempts.sent()), (1, Some(began)));
        attempts.current_connected(later(5));
        assert_eq!(attempts.sent(), Some(later(5)));
        assert_eq!(attempts.head_came(later(12)), Duration::from_millis(7));
        assert_eq!(attempts.took(), Some(Duration::from_millis(7)));
        // How long it lasted counts connecting in.
        let label = "127.0.0.1:1".to_owned();
        assert_eq!(ends(&attempts, later(20)), [(label, TryEnd::Answered, 20)]);
    }

    #[test]
    fn a_try_that_told_nothing_does_not_count_and_is_listed() {
        let [one, two] = endpoints();
        let (mut attempts, now) = (Attempts::default(), Instant::now());
        attempts.begin(one, now);
        attempts.forget_current();
        assert_eq!((attempts.count(), attempts.each().len()), (0, 1));
        attempts.begin(two, now);
        // The try had ended already: the first word stands.
        attempts.end(0, TryEnd::Reset);
        let told: Vec<_> = ends(&attempts, now)
            .into_iter()
            .map(|(_, end, _)| end)
            .collect();
        assert_eq!(told, [TryEnd::Stale, TryEnd::GivenUp]);
        assert_eq!(attempts.count(), 1);
        attempts.count_anew();
        assert_eq!((attempts.count(), attempts.each().len()), (0, 2));
    }

    #[test]
    fn the_winner_of_a_race_is_the_request_s_try() {
        let [one, two] = endpoints();
        let (mut attempts, now) = (Attempts::default(), Instant::now());
        let later = now + Duration::from_millis(60);
        attempts.begin(one, now);
        let index = attempts.begin_beside(two, later);
        assert_eq!((attempts.sent(), attempts.count()), (Some(now), 2));
        attempts.take_over(index);
        assert_eq!(attempts.sent(), Some(later));
        attempts.head_came(later);
        let traffic = Traffic {
            sent: 3,
            received: 4,
        };
        attempts.count_current(traffic);
        assert_eq!(attempts.traffic(), traffic);
        let told: Vec<_> = ends(&attempts, later)
            .into_iter()
            .map(|(_, end, _)| end)
            .collect();
        assert_eq!(told, [TryEnd::Lost, TryEnd::Answered]);
    }
}
