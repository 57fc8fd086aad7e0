//! Requests and limits for the tests of this room.

use std::sync::Arc;

use http::{HeaderName, HeaderValue};
use pingora::http::RequestHeader;

use super::{LimitFacts, build};
use crate::config::{Algorithm, Limit, LimitHeaders, LimitKey, OnMissingKey};
use crate::filter::{FilterContext, Moment, RequestFilter, RequestView, Verdict};
use crate::observe::stats::LimitStats;
use crate::primitives::{LimitName, RouteName, units};

/// A second of [`FilterContext::now`].
pub(super) const SECOND: u64 = 1_000_000_000;
/// When most tests begin.
pub(super) const START: u64 = 1_000 * SECOND;

/// A request to build contexts from.
pub(super) struct Request {
    head: RequestHeader,
    route: RouteName,
    client: std::net::IpAddr,
}

impl Request {
    pub(super) fn new() -> Self {
        Self {
            head: RequestHeader::build("GET", b"/", None).unwrap(),
            route: RouteName::new("r"),
            client: [192, 0, 2, 1].into(),
        }
    }

    pub(super) fn from(mut self, ip: &str) -> Self {
        self.client = ip.parse().unwrap();
        self
    }

    pub(super) fn header(mut self, name: &str, value: &str) -> Self {
        let name: HeaderName = name.parse().unwrap();
        let value = HeaderValue::from_str(value).unwrap();
        self.head.append_header(name, value).unwrap();
        self
    }

    pub(super) fn context(&self, now: u64) -> FilterContext<'_> {
        let request = RequestView {
            client_ip: self.client,
            ..RequestView::bare(&self.head, "/", &self.route)
        };
        let unix_time = 1_700_000_000;
        FilterContext::new(request, Moment { now, unix_time })
    }
}

/// A filter with its figures.
pub(super) struct Built {
    pub(super) filter: Arc<dyn RequestFilter>,
    pub(super) stats: Arc<LimitStats>,
}

impl Built {
    pub(super) fn of(limit: &Limit) -> Self {
        Self::again(limit, &LimitFacts::new())
    }

    pub(super) fn again(limit: &Limit, facts: &LimitFacts) -> Self {
        let stats = Arc::<LimitStats>::default();
        let filter = build(limit, Arc::clone(&stats), facts);
        facts.register([limit]);
        Self { filter, stats }
    }

    /// What the same client is told at `now`.
    pub(super) fn at(&self, now: u64) -> Verdict {
        self.filter.check(&mut Request::new().context(now))
    }

    /// How many of `n` requests at `now` pass at once.
    pub(super) fn passed(&self, n: usize, now: u64) -> usize {
        let verdicts = (0..n).map(|_| self.at(now));
        verdicts
            .filter(|verdict| matches!(verdict, Verdict::Continue))
            .count()
    }
}

pub(super) fn limit(algorithm: Algorithm) -> Limit {
    Limit {
        name: LimitName::new("l"),
        route: None,
        key: LimitKey::ClientIp,
        algorithm,
        tiers: Vec::new(),
        on_missing_key: OnMissingKey::Deny,
        headers: LimitHeaders::Legacy,
        dry_run: false,
        largest_cost: 1,
    }
}

pub(super) fn estimator(rate: &str) -> Limit {
    let rate = units::rate(rate).unwrap();
    limit(Algorithm::Estimator { rate })
}

pub(super) fn token_bucket(rate: &str, burst: u32) -> Limit {
    limit(Algorithm::TokenBucket {
        rate: units::rate(rate).unwrap(),
        burst,
        capacity: 1000,
    })
}

pub(super) fn leaky_bucket(rate: &str, burst: u32, max_delay: &str) -> Limit {
    limit(Algorithm::LeakyBucket {
        rate: units::rate(rate).unwrap(),
        burst,
        max_delay: units::duration(max_delay).unwrap(),
        capacity: 1000,
    })
}

pub(super) fn concurrency(max: u32) -> Limit {
    limit(Algorithm::Concurrency {
        max,
        capacity: 1000,
    })
}
