//! What a pool learns from live traffic beside failures, what the background service makes of it, and how it is shown.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderName;

use super::Pool;
use crate::api::EndpointScore;
use crate::config::{Balance, Outlier};
use crate::observe::stats::Ejection;
use crate::primitives::secret::Secret;
use crate::upstream::endpoint::Endpoint;
use crate::upstream::members::{Member, Members};
use crate::upstream::outlier::{self, Compared, Interval, Tally};
use crate::upstream::score::{self, Seen};
use crate::upstream::sticky::StickyCookie;

/// How an endpoint stands in its pool.
pub struct Standing {
    /// The endpoint.
    pub endpoint: Arc<Endpoint>,
    /// Configured weight of the endpoint.
    pub weight: u32,
    /// Weight of the endpoint now.
    pub effective: f64,
    /// Whether it is used only when no primary is usable.
    pub backup: bool,
    /// What its score is made of.
    pub score: Option<EndpointScore>,
    /// Why its weight is not the configured one, or why it gets nothing.
    pub why: Vec<String>,
}

/// A change of a score by less than this part of it is not worth a new order.
const NOTABLE: f64 = 0.05;

impl Pool {
    /// Lets clients stay with their endpoints, by a cookie that this secret signs.
    pub fn let_stay(&mut self, secret: &Secret, now: u64) {
        let settings = self.settings.sticky.as_ref();
        let name = &self.settings.name;
        self.sticky = settings.map(|sticky| StickyCookie::new(sticky, name, secret));
        self.gather(now);
    }

    /// The cookie by which clients stay with their endpoints.
    pub fn sticky(&self) -> Option<&StickyCookie> {
        self.sticky.as_ref()
    }

    /// Whether choosing an endpoint asks for more of a request than where it was tried.
    pub fn asks_who(&self) -> bool {
        self.sticky.is_some() || matches!(self.settings.balance, Balance::ConsistentHash { .. })
    }

    /// Whether the endpoint of this tag is used now.
    pub fn keeps(&self, tag: u64) -> bool {
        let members = self.members.load();
        let index = members.tags.get(&tag);
        index.is_some_and(|index| members.uses(*index))
    }

    pub(super) fn scores(&self) -> bool {
        matches!(self.settings.balance, Balance::Score(_))
    }

    /// Endpoints by the tags that cookies name them by.
    pub(super) fn tags(&self, all: &[Member]) -> Arc<HashMap<u64, u32>> {
        let Some(sticky) = &self.sticky else {
            return Arc::default();
        };
        let tag = |(index, member): (u32, &Member)| (sticky.tag(&member.endpoint.address), index);
        Arc::new((0u32..).zip(all).map(tag).collect())
    }

    /// Learns what one try was like: how long until its first byte, or until it was given up. One look where nothing reads it.
    pub fn observe(&self, endpoint: &Endpoint, took: Duration, failed: bool, now: u64) {
        if let Some(follow) = self.balance.follows() {
            endpoint.live.cost.add(took, failed, follow, now);
        }
        let outlier = self.settings.outlier.as_ref();
        if outlier.is_none() && !self.scores() {
            return;
        }
        let in_a_row = endpoint.live.observe(took, failed);
        if let Some(rule) = outlier
            && rule.consecutive > 0
            && in_a_row >= rule.consecutive
        {
            let why = format!("{in_a_row} failures in a row");
            self.put_aside(endpoint, rule, Ejection::Consecutive, &why, now);
        }
    }

    /// The header in which endpoints may report their load; `None` where nothing reads it.
    pub fn load_header(&self) -> Option<&HeaderName> {
        match &self.settings.balance {
            Balance::Score(score) => Some(&score.load_header),
            _ => None,
        }
    }

    /// An endpoint reported its load. What cannot be read is no report.
    pub fn report_load(&self, endpoint: &Endpoint, text: &[u8], now: u64) {
        if let Some(load) = score::load(text) {
            endpoint.live.report_load(load, now);
        }
    }

    /// Compares endpoints and computes weights anew, where that is asked for. Called about once a second.
    pub fn watch(&self, now: u64) {
        self.tick(now);
        if let Some(rule) = &self.settings.outlier {
            self.compare(rule, now);
        }
        if let Balance::Score(rule) = &self.settings.balance {
            self.weigh(rule.least.fraction(), now);
        }
    }

    fn compare(&self, rule: &Outlier, now: u64) {
        let members = self.members.load_full();
        let all: Vec<Compared> = members
            .all
            .iter()
            .map(|member| {
                let endpoint = &member.endpoint;
                Compared {
                    address: endpoint.address.clone(),
                    sums: endpoint.live.sums(),
                    usable: endpoint.usable(now),
                }
            })
            .collect();
        let Some(intervals) = self.comparison.lock().due(rule, all, now) else {
            return;
        };
        let usable: Vec<(&Endpoint, &Interval)> = members
            .all
            .iter()
            .map(|member| &*member.endpoint)
            .zip(&intervals)
            .filter(|(endpoint, _)| endpoint.usable(now))
            .collect();
        let tallies: Vec<Tally> = usable.iter().map(|(_, interval)| interval.tally).collect();
        let found = outlier::outliers(&tallies, rule);
        for (index, (endpoint, interval)) in usable.into_iter().enumerate() {
            match found.iter().find(|(outlier, ..)| *outlier == index) {
                Some((_, cause, why)) => self.put_aside(endpoint, rule, *cause, why, now),
                None if interval.whole => endpoint.live.forgive_one(),
                None => {}
            }
        }
    }

    /// Puts an outlier aside, unless it is aside already, is the last one or too many are.
    fn put_aside(&self, endpoint: &Endpoint, rule: &Outlier, cause: Ejection, why: &str, now: u64) {
        let _one_at_a_time = self.ejecting.lock();
        let members = self.members.load_full();
        let all = members.all.iter().filter(|member| !member.backup);
        let aside = all
            .clone()
            .filter(|member| member.endpoint.ejected_until() > now)
            .count();
        if !endpoint.usable(now)
            || !self.has_other(endpoint, now)
            || !outlier::room(rule, aside, all.count())
        {
            return;
        }
        let times = endpoint.live.ejected();
        let term = Duration::from_nanos(outlier::term(rule, times));
        endpoint.eject(now + outlier::term(rule, times));
        endpoint.counts.stats.ejected(cause);
        log::warn!(upstream = self.settings.name.as_str(), endpoint = &*endpoint.label;
            "endpoint put aside for {term:?} as an outlier: {why}");
        self.reorder(now);
    }

    /// By what weights are multiplied where this pool is in force: as its own scores say, or by nothing.
    pub(super) fn set_factors(&self, all: &[Member]) {
        let scores = self.scores.lock();
        for Member { endpoint, .. } in all {
            let scored = scores.of(&endpoint.address).filter(|_| self.scores());
            match scored {
                Some(scored) => endpoint.live.set_factor(scored.factor),
                None if !self.scores() => endpoint.live.set_factor(1.0),
                None => {}
            }
        }
    }

    fn weigh(&self, least: f64, now: u64) {
        let members = self.members.load_full();
        let usable: Vec<&Member> = members
            .all
            .iter()
            .filter(|member| member.endpoint.usable(now) && !member.backup)
            .collect();
        let seen: Vec<Seen> = usable
            .iter()
            .map(|member| {
                let endpoint = &member.endpoint;
                Seen {
                    address: endpoint.address.clone(),
                    weight: f64::from(member.weight),
                    sums: endpoint.live.sums(),
                    in_flight: endpoint.in_flight.value().max(0).cast_unsigned(),
                    load: endpoint.live.load(now),
                    factor: endpoint.live.factor(),
                }
            })
            .collect();
        let mut scores = self.scores.lock();
        if !scores.step(&seen, least, now) {
            return;
        }
        let mut changed = false;
        for member in usable {
            let live = &member.endpoint.live;
            let factor = scores
                .of(&member.endpoint.address)
                .map_or(1.0, |scored| scored.factor);
            let known = live.factor();
            if (factor - known).abs() > known * NOTABLE || (factor == 1.0 && known != 1.0) {
                live.set_factor(factor);
                changed = true;
            }
        }
        drop(scores);
        if changed {
            self.reorder(now);
        }
    }

    /// How its endpoints stand, and why.
    pub fn standings(&self, now: u64) -> Vec<Standing> {
        let members = self.members.load_full();
        let scores = self.scores.lock();
        let each = members.all.iter().map(|member| {
            let endpoint = &member.endpoint;
            let factor = Members::factor(endpoint, &self.settings.passive, now);
            let scored = endpoint.live.factor();
            let score = scores
                .of(&endpoint.address)
                .filter(|_| self.scores())
                .cloned();
            let mut why = Vec::new();
            let until = endpoint.ejected_until();
            if until > now {
                let left = (until - now).div_ceil(1_000_000_000);
                why.push(format!("put aside for {left} s more"));
            }
            if let Some(score) = &score {
                let reasons = score.reasons.iter();
                why.extend(reasons.map(|r| format!("× {:.2}: {}", r.factor, r.text)));
                if scored < 1.0 && score.reasons.is_empty() {
                    why.push("nothing is against it any more: its weight rises".to_owned());
                }
            }
            if factor < scored {
                why.push(format!(
                    "slow start: {:.0} % of its weight",
                    factor / scored * 100.0
                ));
            }
            Standing {
                endpoint: Arc::clone(endpoint),
                weight: member.weight,
                effective: f64::from(member.weight) * factor,
                backup: member.backup,
                score,
                why,
            }
        });
        each.collect()
    }
}
