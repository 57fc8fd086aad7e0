//! What a request does with what its route has for bad times and for trying something new: see
//! [`route_policy`](super::route_policy).
//!
//! A route without any of it costs a request one look. The rest of what a request needs of it is in [`Path`](super::ctx::Path), a
//! part of its context.

use std::sync::Arc;
use std::time::Duration;

use pingora::http::RequestHeader;

use super::ctx::Ctx;
use super::decision::Decision;
use super::facts::Facts;
use super::judged::Tells;
use super::route_fallback::Fallback;
use super::route_policy::TrafficSplit;
use super::route_runtime::{RouteRuntime, Target};
use super::{auth_buffer, mirror, refusals};
use crate::api::Explanation;
use crate::filter::{FilterContext, Refusal};
use crate::observe::rollouts::FallbackCalled;
use crate::primitives::level::Level;
use crate::rollout::{self, SideFacts, Why};
use crate::upstream::Pool;

impl Ctx {
    /// Whether optional work is left out.
    pub(super) fn lean(&self) -> bool {
        self.policy.level >= Level::Lean
    }
}

/// Decides where a request goes that passed all filters; `path` is its normal one, `ctx.forward.pool` the route's upstream.
pub(super) fn apply(head: &RequestHeader, path: &str, ctx: &mut Ctx) -> Decision {
    let route = match &ctx.route {
        Some(route) if !route.policy.plain => Arc::clone(route),
        _ => return Decision::Forward,
    };
    let policy = &route.policy;
    if ctx.policy.level == Level::Fallback
        && let Some(fallback) = &policy.fallback
    {
        return fallback.in_place(head, ctx);
    }
    if let Some(sides) = &policy.sides {
        let (index, _) = pick(sides, head, ctx);
        ctx.forward.pool = sides.pools.get(index).map(Arc::clone);
        let facts = sides.split.facts().side(index);
        ctx.policy.side = facts.map(|side| Arc::clone(side.stats()));
    }
    if let Some(mirror) = &policy.mirror
        && !ctx.lean()
    {
        mirror::begin(mirror, head, path, ctx);
    }
    Decision::Forward
}

fn pick(sides: &TrafficSplit, head: &RequestHeader, ctx: &Ctx) -> (usize, Why) {
    sides.split.pick(&rollout::Asked {
        headers: &head.headers,
        client_ip: ctx.client_ip,
        principal: ctx.principal.as_deref(),
        random: ctx.span,
    })
}

/// The request is over: counts what became of it, and tells the route what it met. `took` is its time, and
/// `tells` what it says about its side.
pub(super) fn record(ctx: &mut Ctx, status: u16, took: Duration, tells: Tells) {
    let Some(route) = &ctx.route else { return };
    let policy = &route.policy;
    if policy.plain && ctx.refusal.is_none() {
        return;
    }
    let failover = ctx.policy.failover.as_ref();
    let refused = ctx.refusal.as_ref().map(|refusal| refusal.reason);
    let met = match failover.map(|failover| failover.called) {
        Some(FallbackCalled::Refused(reason)) => Some(reason),
        // Who is nobody yet shall not switch a route.
        _ if ctx.refusal.as_ref().and_then(|refusal| refusal.cause) == Some(auth_buffer::FULL) => {
            None
        }
        _ => refused,
    };
    if let Some(reason) = met {
        policy.met(reason, ctx.now());
    }
    if let Some(failover) = failover {
        policy.level.marks().fell(failover.kind, failover.called);
    }
    if let Some(side) = &ctx.policy.side {
        // What it would have been without the fallback.
        let status = failover
            .and_then(|failover| failover.called.status())
            .unwrap_or(status);
        if status > 0 {
            side.served.served(ctx.method.as_str(), status, took);
            tells.note(&side.served, ctx.method.as_str(), status, took);
        }
    }
    if let Some(shadow) = ctx.policy.shadow.take() {
        shadow.left_out();
    }
}

/// The answer may be kept: the route wants it, and it is a whole one to a GET.
pub(super) fn keeps(ctx: &Ctx, status: u16) -> bool {
    let Some(route) = &ctx.route else {
        return false;
    };
    !route.policy.plain
        && status == 200
        && ctx.method == http::Method::GET
        && ctx.policy.failover.is_none()
        && route
            .policy
            .fallback
            .as_deref()
            .is_some_and(Fallback::keeps)
}

/// What these policies would do with a request, step by step: the pool it goes to, or `None` when the gateway answers.
pub(super) fn explain(
    route: &RouteRuntime,
    context: &FilterContext<'_>,
    facts: &Facts,
    answer: &mut Explanation,
) -> Result<Option<Arc<Pool>>, Refusal> {
    let policy = &route.policy;
    let shown = policy.level.shown(facts.clock.now());
    match policy.acts_as() {
        Some(level) => {
            let level = level.as_str();
            let words = format!("{}, as {level}: the route has no fallback", shown.level);
            answer.step("level", &words, None);
        }
        None if policy.level.now() > Level::Normal => answer.step("level", &shown.level, None),
        None => {}
    }
    if policy.level.now() == Level::Off {
        return Err(refusals::off());
    }
    let pool = match &route.target {
        Target::Respond(reply) => {
            answer.respond(reply.status.as_u16());
            return Ok(None);
        }
        Target::Forward { pool, .. } => pool,
    };
    if let Some(fallback) = &policy.fallback {
        answer.step("fallback", &fallback.kinds().join(", then "), None);
        if policy.level.now() == Level::Fallback {
            let (pool, status) = fallback.explain();
            if let Some(status) = status.filter(|_| pool.is_none()) {
                answer.respond(status);
            }
            return Ok(pool);
        }
    }
    let mut pool = Arc::clone(pool);
    if let Some(sides) = &policy.sides {
        let (index, why) = sides.split.pick(&rollout::Asked {
            headers: &context.request.head.headers,
            client_ip: context.request.client_ip,
            principal: context.principal.as_deref(),
            random: 0,
        });
        let each = sides.split.sides().iter().enumerate();
        let each = each.map(|(index, side)| {
            let stopped = sides
                .split
                .facts()
                .side(index)
                .is_some_and(SideFacts::stopped);
            let stopped = if stopped { " (stopped)" } else { "" };
            format!("{} {}{stopped}", side.upstream, side.weight)
        });
        let each = each.collect::<Vec<_>>().join(", ");
        let chosen = match why {
            Why::Chance => format!("by chance, one of {each}"),
            _ => {
                let index = index.min(sides.pools.len() - 1);
                pool = Arc::clone(&sides.pools[index]);
                format!(
                    "{}, because {}; of {each}",
                    pool.settings().name,
                    why.as_str()
                )
            }
        };
        answer.step("split", &chosen, None);
    }
    if let Some(mirror) = &policy.mirror {
        let settings = mirror.settings();
        let copied = settings.methods.contains(&context.request.head.method);
        let verdict = match (copied, policy.level.now()) {
            (false, _) => "no copy of this method".to_owned(),
            (true, Level::Normal) => {
                let percent = settings.share.fraction() * 100.0;
                format!("{percent}% copied to {}", settings.upstream)
            }
            (true, _) => "no copy at this level".to_owned(),
        };
        answer.step("mirror", &verdict, None);
    }
    Ok(Some(pool))
}
