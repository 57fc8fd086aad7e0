//! Somebody else answers where the upstream cannot: another upstream, the last good answer, or a fixed one.
//!
//! Another upstream takes the request over in the middle of choosing an endpoint, so that nobody else need know of
//! it. The other two are answers of our own, given where a refusal would be. A request falls once; when the
//! other upstream fails too, the last good answer and the fixed one remain.

use std::sync::Arc;

use http::{HeaderValue, Method, StatusCode, header};
use pingora::http::RequestHeader;

use super::answer::KeepPlan;
use super::ctx::{Ctx, Failover};
use super::decision::Decision;
use super::route_fallback::{Fallback, is_of_upstream};
use super::{affinity, decide, refusals};
use crate::degrade::{Asked, LastGoodAnswer};
use crate::filter::{Reason, Refusal, Reply};
use crate::observe::rollouts::{FallbackCalled, FallbackKind};

impl Fallback {
    /// The route's level says that the upstream is not asked.
    pub(super) fn in_place(&self, head: &RequestHeader, ctx: &mut Ctx) -> Decision {
        if let Some(pool) = &self.upstream {
            ctx.forward.pool = Some(Arc::clone(pool));
            ctx.policy.failover = Some(Failover::upstream(FallbackCalled::Level));
            return Decision::Forward;
        }
        match self.reply(head, ctx) {
            Some((kind, reply)) => {
                ctx.policy.failover = Some(Failover {
                    kind,
                    called: FallbackCalled::Level,
                    pending: None,
                });
                Decision::Answer(reply)
            }
            None => Decision::Refuse(refusals::off()),
        }
    }

    /// An answer of our own.
    fn reply(&self, head: &RequestHeader, ctx: &Ctx) -> Option<(FallbackKind, Arc<Reply>)> {
        let reads = matches!(ctx.method, Method::GET | Method::HEAD);
        let kept = self.last_good.as_ref().filter(|_| reads).and_then(|kept| {
            let (_, host) = decide::host(head);
            kept.find(&asked(head, &host, ctx), ctx.now())
        });
        if let Some(good) = kept {
            return Some((FallbackKind::LastGood, Arc::new(again(&good, ctx.now()))));
        }
        let fixed = self.fixed.as_ref()?;
        Some((FallbackKind::Fixed, Arc::clone(fixed)))
    }
}

/// Hands the request to another upstream, if there is one and it is called for: the next try goes there.
pub(super) fn fail_over(ctx: &mut Ctx, called: FallbackCalled) -> bool {
    let Some(route) = &ctx.route else {
        return false;
    };
    let Some(fallback) = &route.policy.fallback else {
        return false;
    };
    let (Some(pool), None) = (&fallback.upstream, &ctx.policy.failover) else {
        return false;
    };
    // After the deadline there is no time left to ask anybody.
    let late = called == FallbackCalled::Refused(Reason::DeadlineExceeded);
    if late || !fallback.wants(called) {
        return false;
    }
    let pool = Arc::clone(pool);
    ctx.leave_endpoint();
    affinity::go_elsewhere(ctx, &pool);
    ctx.policy.failover = Some(Failover::upstream(called));
    ctx.refusal = None;
    // Spans of these tries are others than those of the first.
    ctx.span = ctx.span.wrapping_add(16);
    let forward = &mut ctx.forward;
    forward.pool = Some(pool);
    forward.permits = Default::default();
    forward.tried.clear();
    forward.attempts.count_anew();
    forward.reported = false;
    forward.stale = false;
    forward.at_once = true;
    true
}

/// Hands the request to another upstream, as [`fail_over`], where a refusal was found while an endpoint was chosen.
pub(super) fn fail_over_refused(ctx: &mut Ctx) -> bool {
    let reason = ctx.refusal.as_ref().map(|refusal| refusal.reason);
    reason.is_some_and(|reason| fail_over(ctx, FallbackCalled::Refused(reason)))
}

/// The upstream answered a status that calls for an answer of our own: there is one, and it waits to be given.
pub(super) fn covers_status(head: &RequestHeader, ctx: &mut Ctx, status: u16) -> bool {
    if status < 500 {
        return false;
    }
    let Some(route) = ctx.route.clone() else {
        return false;
    };
    let Some(fallback) = &route.policy.fallback else {
        return false;
    };
    let called = FallbackCalled::Status(status);
    if !fallback.wants(called)
        || ctx
            .policy
            .failover
            .as_ref()
            .is_some_and(|failover| failover.pending.is_some())
    {
        return false;
    }
    let Some((kind, reply)) = fallback.reply(head, ctx) else {
        return false;
    };
    let called = ctx
        .policy
        .failover
        .as_ref()
        .map_or(called, |failover| failover.called);
    ctx.policy.failover = Some(Failover {
        kind,
        called,
        pending: Some(reply),
    });
    true
}

/// Whether an answer of our own waits to be given.
pub(super) fn is_pending(ctx: &Ctx) -> bool {
    ctx.policy
        .failover
        .as_ref()
        .is_some_and(|failover| failover.pending.is_some())
}

/// The answer of our own that waits.
pub(super) fn pending(ctx: &mut Ctx) -> Option<Arc<Reply>> {
    ctx.policy.failover.as_mut()?.pending.take()
}

/// An answer of our own in place of a refusal that came after all filters had passed. Without one the request did not
/// fall, whatever was tried.
pub(super) fn instead(
    head: &RequestHeader,
    ctx: &mut Ctx,
    refusal: &Refusal,
) -> Option<Arc<Reply>> {
    let route = ctx.route.clone()?;
    let fallback = route.policy.fallback.as_ref()?;
    let earlier = ctx.policy.failover.take();
    if ctx.forward.pool.is_none() || !is_of_upstream(refusal.reason) {
        return None;
    }
    let called = match earlier {
        Some(failover) => failover.called,
        None => Some(FallbackCalled::Refused(refusal.reason))
            .filter(|called| fallback.wants(*called))?,
    };
    let (kind, reply) = fallback.reply(head, ctx)?;
    ctx.policy.failover = Some(Failover {
        kind,
        called,
        pending: None,
    });
    Some(reply)
}

/// How an answer of this request is kept, where its route keeps some, see [`policy::keeps`](super::policy::keeps).
pub(super) fn keep_plan<'a>(
    head: &'a RequestHeader,
    host: &'a str,
    ctx: &'a Ctx,
) -> Option<KeepPlan<'a>> {
    let fallback = ctx.route.as_ref()?.policy.fallback.as_ref()?;
    Some(KeepPlan {
        store: fallback.last_good.as_ref()?,
        asked: asked(head, host, ctx),
        clock: ctx.state.clock,
    })
}

fn asked<'a>(head: &'a RequestHeader, host: &'a str, ctx: &'a Ctx) -> Asked<'a> {
    let target = ctx
        .outgoing
        .as_ref()
        .map_or(head.raw_path(), |target| target.as_bytes());
    Asked {
        host,
        target,
        headers: &head.headers,
        caller: ctx.principal.as_ref().and_then(|known| known.caller()),
        certified: ctx
            .start
            .as_ref()
            .is_some_and(|start| start.peer.certified.is_some()),
    }
}

/// A kept answer, with its age (RFC 9111 §5.1).
fn again(good: &LastGoodAnswer, now: u64) -> Reply {
    let mut headers = good.headers.clone();
    let age = good.age(now) / 1_000_000_000;
    headers.push((header::AGE, HeaderValue::from(age)));
    Reply {
        status: StatusCode::OK,
        headers,
        body: good.body.clone(),
        redirect: None,
    }
}
