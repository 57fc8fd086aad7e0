//! What every limit does alike: find the key, choose the tier, ask the meter, keep the figures, and give back.
//!
//! All limits of a route are asked, and none counts a request that one of them refuses: whoever was asked before takes back
//! what it took. What a meter cannot take back exactly it takes back in part, so that a limit never lets more pass than it
//! would have without the refused request.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use sfv::{ItemSerializer, StringRef};

use super::LimitFacts;
use super::key::{Found, KeyFinder};
use crate::config::{Algorithm, Limit, LimitHeaders};
use crate::filter::{
    FilterContext, Note, Part, Policy, Quota, Reason, Refusal, RequestFilter, Ticket, Verdict,
};
use crate::observe::stats::LimitStats;

/// One way of counting.
pub(super) trait Meter: Send + Sync + Sized {
    /// A meter with these amounts; `None` when they are another's.
    fn of(algorithm: &Algorithm, limit: &Limit, facts: &LimitFacts) -> Option<Self>;

    /// Decides for one request, and takes what it costs unless it only looks.
    fn admit(&self, ask: &Ask) -> Told;

    /// Takes back what was taken with `mark`.
    fn give_back(&self, ask: &Ask, mark: u64);

    /// What it promises in the headers of the draft: so many in so many seconds.
    fn promise(&self) -> Option<(u64, u64)> {
        None
    }
}

/// One request, as a meter sees it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ask {
    /// What it is counted under; never zero.
    pub(super) key: u64,
    /// What it counts; at least 1.
    pub(super) cost: u64,
    /// Monotonic time.
    pub(super) now: u64,
    /// Wall-clock time, seconds since 1970.
    pub(super) unix_time: u64,
    /// Nothing is to be taken.
    pub(super) look: bool,
}

/// What a meter says.
pub(super) struct Told {
    pub(super) verdict: Verdict,
    /// What the client may be told: the limit, what is left of it, and when all of it is back.
    pub(super) left: Option<(u64, u64, Duration)>,
    /// What is needed to take it back.
    pub(super) mark: u64,
    /// Given back at the end of the request.
    pub(super) ticket: Option<Ticket>,
}

impl Told {
    /// A verdict, and nothing else.
    pub(super) fn only(verdict: Verdict) -> Self {
        Self {
            verdict,
            left: None,
            mark: 0,
            ticket: None,
        }
    }

    /// A verdict with a mark.
    pub(super) fn marked(verdict: Verdict, mark: u64) -> Self {
        Self {
            mark,
            ..Self::only(verdict)
        }
    }
}

/// The filter of one limit.
pub(super) struct Limiter<M> {
    /// With what is not usual about it.
    name: String,
    bare: String,
    keys: KeyFinder,
    stats: Arc<LimitStats>,
    cost: u64,
    headers: LimitHeaders,
    dry_run: bool,
    /// When a request that would have been refused was last spoken of in the log.
    said: AtomicU64,
    usual: Tier<M>,
    tiers: Vec<(String, Tier<M>)>,
}

/// Callers with amounts of their own.
struct Tier<M> {
    meter: M,
    policy: Option<Arc<Policy>>,
}

/// What a limit took for a request, to be taken back when another refuses it.
#[derive(Clone, Copy)]
struct Taken {
    /// What the request was counted under.
    key: u64,
    /// What the meter needs to take it back.
    mark: u64,
    /// Whose amounts it was counted by, as [`Limiter::place`] says.
    place: usize,
}

impl Note for Taken {
    fn to_numbers(self) -> [u64; 3] {
        [self.key, self.mark, self.place as u64]
    }

    fn of_numbers([key, mark, place]: [u64; 3]) -> Self {
        let place = place as usize;
        Self { key, mark, place }
    }
}

/// Between two words in the log about one limit.
const SAID_AGAIN: u64 = 1_000_000_000;

impl<M: Meter> Limiter<M> {
    /// The filter of a limit where a request counts `cost`; `None` when its algorithm is another's.
    pub(super) fn of(
        limit: &Limit,
        cost: u32,
        stats: Arc<LimitStats>,
        facts: &LimitFacts,
    ) -> Option<Self> {
        let tier = |algorithm: &Algorithm| {
            let meter = M::of(algorithm, limit, facts)?;
            let policy = policy(limit, meter.promise());
            Some(Tier { meter, policy })
        };
        let tiers = limit.tiers.iter();
        let tiers = tiers.filter_map(|(name, algorithm)| Some((name.clone(), tier(algorithm)?)));
        Some(Self {
            name: shown(limit, cost),
            bare: format!("limit.{}", limit.name),
            keys: KeyFinder::new(limit, facts.seed_of(limit)),
            stats,
            cost: u64::from(cost.max(1)),
            headers: limit.headers,
            dry_run: limit.dry_run,
            said: AtomicU64::new(0),
            usual: tier(&limit.algorithm)?,
            tiers: tiers.collect(),
        })
    }

    /// The place of the caller's tier among all; without one of its own it is beyond the last.
    fn place(&self, context: &FilterContext<'_>) -> usize {
        let usual = self.tiers.len();
        if usual == 0 {
            return usual;
        }
        let principal = context.principal.as_ref();
        let name = principal.and_then(|principal| principal.tier.as_deref());
        let known = name.and_then(|name| self.tiers.iter().position(|(known, _)| known == name));
        known.unwrap_or(usual)
    }

    fn tier(&self, place: usize) -> &Tier<M> {
        let known = self.tiers.get(place);
        known.map_or(&self.usual, |(_, tier)| tier)
    }

    fn ask(&self, key: u64, context: &FilterContext<'_>) -> Ask {
        Ask {
            key,
            cost: self.cost,
            now: context.now,
            unix_time: context.unix_time,
            look: context.dry_run,
        }
    }

    fn tell(&self, told: &Told, tier: &Tier<M>, context: &mut FilterContext<'_>) {
        let Some((limit, remaining, reset)) = told.left else {
            return;
        };
        if !self.dry_run && self.headers != LimitHeaders::None {
            context.meet(Quota {
                limit,
                remaining,
                reset,
                policy: tier.policy.clone(),
            });
        }
    }

    /// Keeps the figures. A limit that only counts lets everything pass.
    fn decided(&self, verdict: Verdict, context: &FilterContext<'_>) -> Verdict {
        let counts = !context.dry_run;
        match (&verdict, self.dry_run) {
            (Verdict::Refuse(_), false) if counts => self.stats.refused.up(),
            (Verdict::Wait(_), false) if counts => self.stats.delayed.up(),
            (Verdict::Refuse(_), true) if counts => {
                self.stats.would_refuse.up();
                self.say(context.now);
            }
            (Verdict::Wait(_), true) if counts => self.stats.would_delay.up(),
            _ if counts => self.stats.allowed.up(),
            _ => {}
        }
        if self.dry_run {
            Verdict::Continue
        } else {
            verdict
        }
    }

    /// At most one line a second, whatever comes.
    fn say(&self, now: u64) {
        let said = self.said.load(Ordering::Relaxed);
        if now.saturating_sub(said) < SAID_AGAIN && said > 0 {
            return;
        }
        let turn = self
            .said
            .compare_exchange(said, now, Ordering::Relaxed, Ordering::Relaxed);
        if turn.is_ok() {
            let (name, count) = (&self.bare, self.stats.would_refuse.value());
            log::info!(limit = name.as_str(); "{name} would refuse, but only counts: {count} so far");
        }
    }
}

impl<M: Meter> RequestFilter for Limiter<M> {
    fn name(&self) -> &str {
        &self.name
    }

    fn part(&self) -> Part {
        Part::Limits
    }

    fn check(&self, context: &mut FilterContext<'_>) -> Verdict {
        let key = match self.keys.find(context) {
            Found::Key(key) => key,
            Found::Deny => return self.decided(Verdict::Refuse(missing()), context),
            Found::Skip => {
                if !context.dry_run {
                    self.stats.skipped.up();
                }
                return Verdict::Continue;
            }
        };
        let place = self.place(context);
        let tier = self.tier(place);
        let mut told = tier.meter.admit(&self.ask(key, context));
        self.tell(&told, tier, context);
        if !context.dry_run && !matches!(told.verdict, Verdict::Refuse(_)) {
            if let Some(ticket) = told.ticket.take() {
                context.tickets.push(ticket);
            }
            let mark = told.mark;
            context.memory.note(self, Taken { key, mark, place });
        }
        self.decided(told.verdict, context)
    }

    fn give_back(&self, context: &mut FilterContext<'_>) {
        let Some(Taken { key, mark, place }) = context.memory.take_note(self) else {
            return;
        };
        let ask = self.ask(key, context);
        self.tier(place).meter.give_back(&ask, mark);
        self.stats.returned.up();
    }
}

/// A limit's name for `explain` and lists.
fn shown(limit: &Limit, cost: u32) -> String {
    let mut shown = format!("limit.{}", limit.name);
    if limit.route.is_some() {
        shown.push_str(", own amounts");
    }
    if cost > 1 {
        shown.push_str(&format!(", cost {cost}"));
    }
    if limit.dry_run {
        shown.push_str(", only counts");
    }
    shown
}

/// What the headers of the draft say of a limit; `None` when only the old ones are sent.
fn policy(limit: &Limit, promise: Option<(u64, u64)>) -> Option<Arc<Policy>> {
    let legacy = match limit.headers {
        LimitHeaders::Legacy | LimitHeaders::None => return None,
        LimitHeaders::Both => true,
        LimitHeaders::Draft => false,
    };
    let (quota, window) = promise?;
    let name = sf_string(limit.name.as_str());
    let policy = format!("{name};q={quota};w={window}");
    Some(Arc::new(Policy {
        name,
        policy,
        legacy,
    }))
}

/// A text as structured fields write it (RFC 9651 §3.3.3), without what they cannot hold.
fn sf_string(text: &str) -> String {
    let held: String = text.chars().filter(|c| matches!(c, ' '..='~')).collect();
    let string = StringRef::from_str(&held);
    string.map_or_else(
        |_| String::new(),
        |string| ItemSerializer::new().bare_item(string).finish(),
    )
}

/// The refusal of a rate: come back after `wait`.
pub(super) fn too_many(wait: Duration) -> Verdict {
    let refusal = Refusal::new(
        Reason::RateLimited,
        "The rate limit is reached; wait before the next request.",
    );
    Verdict::Refuse(refusal.retry_after(wait))
}

/// Waiting does not bring the key, but every 429 says when to come back; a second is the least that can be said.
pub(super) fn missing() -> Refusal {
    Refusal::new(
        Reason::RateLimited,
        "The request lacks what its limit is counted by.",
    )
    .retry_after(Duration::from_secs(1))
}
