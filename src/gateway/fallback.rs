//! Somebody else answers where the upstream cannot: another upstream, the last good answer, or a fixed one.
//!
//! Another upstream takes the request over in the middle of choosing an endpoint, so both ways of forwarding need know
//! nothing of it. The other two are answers of our own, given where a refusal would be. A request falls once; when the
//! other upstream fails too, the last good answer and the fixed one remain.

use std::collections::BTreeMap;
use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use pingora::http::RequestHeader;

use super::ctx::Ctx;
use super::decision::Decision;
use super::state::State;
use super::{affinity, decide, policy};
use crate::config::{self, Auth, FallbackCause, FallbackOn};
use crate::degrade::{Asked, Good, LastGood};
use crate::filter::{Reason, Refusal, Reply};
use crate::observe::rollouts::{FallbackCalled, FallbackKind};
use crate::primitives::{AuthName, UpstreamName};
use crate::transform;
use crate::upstream::Pool;

/// Who answers when the upstream cannot.
pub struct Fallback {
    on: FallbackOn,
    upstream: Option<Arc<Pool>>,
    last_good: Option<Arc<LastGood>>,
    fixed: Option<Arc<Reply>>,
}

/// Somebody else answers this request.
pub(super) struct Fell {
    /// Who.
    pub(super) kind: FallbackKind,
    /// Why.
    pub(super) called: FallbackCalled,
    /// The answer, while it is not given yet.
    pending: Option<Arc<Reply>>,
}

/// Who says who a caller is. Another issuer may give the same names to others.
fn authority(auth: &Auth) -> String {
    match auth {
        Auth::Jwt(jwt) => format!("{:?} {:?} {:?}", jwt.issuer, jwt.audience, jwt.key),
        Auth::Signature(_) => "signature".to_owned(),
    }
}

impl Fallback {
    pub(super) fn new(
        route: &config::Route,
        (settings, headers): (&config::Fallback, &[(HeaderName, HeaderValue)]),
        (pools, auths): (
            &BTreeMap<UpstreamName, Arc<Pool>>,
            &BTreeMap<AuthName, Auth>,
        ),
        state: &State,
    ) -> Self {
        let upstream = settings.upstream.as_ref();
        let fixed = settings.fixed.as_ref().map(|(respond, _)| {
            let mut reply = transform::reply(respond);
            if let Some(reply) = Arc::get_mut(&mut reply) {
                for (name, value) in headers {
                    reply.headers.retain(|(own, _)| own != name);
                    reply.headers.push((name.clone(), value.clone()));
                }
            }
            reply
        });
        // Whatever makes another answer of the same request makes what was kept worthless.
        let identity = || {
            format!(
                "{:?} {:?} {:?}",
                route.path.to_string(),
                route.action,
                route
                    .auth
                    .iter()
                    .map(|name| (name, auths.get(name).map(authority)))
                    .collect::<Vec<_>>()
            )
        };
        let last_good = settings.last_good.as_ref();
        Self {
            on: settings.on.clone(),
            upstream: upstream.map(|name| Arc::clone(&pools[name])),
            last_good: last_good
                .map(|settings| state.kept_answers.route(&route.name, settings, &identity())),
            fixed,
        }
    }

    /// Whether good answers are kept.
    pub(super) fn keeps(&self) -> bool {
        self.last_good.is_some()
    }

    /// What there is, in the order of use, for `explain` and the API.
    pub fn kinds(&self) -> Vec<&'static str> {
        let kinds = [
            (FallbackKind::Upstream, self.upstream.is_some()),
            (FallbackKind::LastGood, self.last_good.is_some()),
            (FallbackKind::Fixed, self.fixed.is_some()),
        ];
        let there = kinds.into_iter().filter(|(_, there)| *there);
        there.map(|(kind, _)| kind.as_str()).collect()
    }

    /// The other upstream.
    pub(super) fn pool(&self) -> Option<&Pool> {
        self.upstream.as_deref()
    }

    /// The name of the other upstream.
    pub fn upstream(&self) -> Option<&str> {
        self.upstream
            .as_ref()
            .map(|pool| pool.settings().name.as_str())
    }

    /// How many answers are kept, and their bytes.
    pub fn held(&self) -> Option<(usize, usize)> {
        self.last_good.as_ref().map(|kept| kept.held())
    }

    /// The route's level says that the upstream is not asked.
    pub(super) fn in_place(&self, head: &RequestHeader, ctx: &mut Ctx) -> Decision {
        if let Some(pool) = &self.upstream {
            ctx.forward.pool = Some(Arc::clone(pool));
            ctx.policy.fell = Some(Fell::upstream(FallbackCalled::Level));
            return Decision::Forward;
        }
        match self.reply(head, ctx) {
            Some((kind, reply)) => {
                ctx.policy.fell = Some(Fell {
                    kind,
                    called: FallbackCalled::Level,
                    pending: None,
                });
                Decision::Answer(reply)
            }
            None => Decision::Refuse(policy::off()),
        }
    }

    /// Who answers at the level of the fallback: another upstream, or an answer with this status.
    pub(super) fn explain(&self) -> (Option<Arc<Pool>>, Option<u16>) {
        let fixed = self.fixed.as_ref().map(|reply| reply.status.as_u16());
        let kept = self.last_good.as_ref().map(|_| 200);
        (self.upstream.clone(), kept.or(fixed))
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

    fn wants(&self, called: FallbackCalled) -> bool {
        match called {
            FallbackCalled::Level => true,
            FallbackCalled::Status(status) => self.on.statuses.contains(&status),
            FallbackCalled::Refused(reason) => {
                let cause = cause(reason);
                cause.is_some_and(|cause| self.on.causes.contains(&cause))
                    || (is_of_upstream(reason) && self.on.statuses.contains(&reason.status()))
            }
        }
    }
}

impl Fell {
    fn upstream(called: FallbackCalled) -> Self {
        Self {
            kind: FallbackKind::Upstream,
            called,
            pending: None,
        }
    }
}

/// What may call for a fallback.
fn cause(reason: Reason) -> Option<FallbackCause> {
    match reason {
        Reason::BreakerOpen => Some(FallbackCause::Breaker),
        // The last endpoint is never put aside; that it takes no connection comes to the same.
        Reason::NoEndpoint | Reason::UpstreamConnect => Some(FallbackCause::NoEndpoint),
        Reason::DeadlineExceeded => Some(FallbackCause::Deadline),
        Reason::Overloaded => Some(FallbackCause::Overloaded),
        Reason::UpstreamReset => Some(FallbackCause::Reset),
        Reason::UpstreamTimeout => Some(FallbackCause::Timeout),
        _ => None,
    }
}

/// Whether the refusal is about the upstream, not about the client or ourselves.
fn is_of_upstream(reason: Reason) -> bool {
    cause(reason).is_some() || reason == Reason::UpstreamInvalid
}

/// The other upstream takes the request over, if there is one and it is called for. The next try goes there.
pub(super) fn turn(ctx: &mut Ctx, called: FallbackCalled) -> bool {
    let Some(route) = &ctx.route else {
        return false;
    };
    let Some(fallback) = &route.policy.fallback else {
        return false;
    };
    let (Some(pool), None) = (&fallback.upstream, &ctx.policy.fell) else {
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
    ctx.policy.fell = Some(Fell::upstream(called));
    ctx.refusal = None;
    // Spans of these tries are others than those of the first.
    ctx.span = ctx.span.wrapping_add(16);
    let forward = &mut ctx.forward;
    forward.pool = Some(pool);
    forward.permits = Default::default();
    forward.tried.clear();
    forward.attempts = 0;
    forward.reported = false;
    forward.stale = false;
    forward.at_once = true;
    true
}

/// The same where a refusal was found while an endpoint was chosen.
pub(super) fn turn_refused(ctx: &mut Ctx) -> bool {
    let reason = ctx.refusal.as_ref().map(|refusal| refusal.reason);
    reason.is_some_and(|reason| turn(ctx, FallbackCalled::Refused(reason)))
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
            .fell
            .as_ref()
            .is_some_and(|fell| fell.pending.is_some())
    {
        return false;
    }
    let Some((kind, reply)) = fallback.reply(head, ctx) else {
        return false;
    };
    let called = ctx.policy.fell.as_ref().map_or(called, |fell| fell.called);
    ctx.policy.fell = Some(Fell {
        kind,
        called,
        pending: Some(reply),
    });
    true
}

/// Whether an answer of our own waits to be given.
pub(super) fn is_pending(ctx: &Ctx) -> bool {
    ctx.policy
        .fell
        .as_ref()
        .is_some_and(|fell| fell.pending.is_some())
}

/// The answer of our own that waits.
pub(super) fn pending(ctx: &mut Ctx) -> Option<Arc<Reply>> {
    ctx.policy.fell.as_mut()?.pending.take()
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
    let earlier = ctx.policy.fell.take();
    if ctx.forward.pool.is_none() || !is_of_upstream(refusal.reason) {
        return None;
    }
    let called = match earlier {
        Some(fell) => fell.called,
        None => Some(FallbackCalled::Refused(refusal.reason))
            .filter(|called| fallback.wants(*called))?,
    };
    let (kind, reply) = fallback.reply(head, ctx)?;
    ctx.policy.fell = Some(Fell {
        kind,
        called,
        pending: None,
    });
    Some(reply)
}

/// Begins to keep an answer that may be kept, see [`policy::keeps`].
pub(super) fn begin_keeping(head: &RequestHeader, ctx: &mut Ctx, fields: &HeaderMap) {
    let Some(route) = ctx.route.clone() else {
        return;
    };
    let kept = route.policy.fallback.as_ref();
    let Some(kept) = kept.and_then(|fallback| fallback.last_good.as_ref()) else {
        return;
    };
    let fields = fields.iter();
    let fields: Vec<(HeaderName, HeaderValue)> = fields
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    let (_, host) = decide::host(head);
    let keeping = kept.begin(&asked(head, &host, ctx), &fields, ctx.now());
    ctx.policy.keeping = keeping.map(Box::new);
}

/// The answer that was being kept is whole.
pub(super) fn keep(ctx: &mut Ctx) {
    let Some(keeping) = ctx.policy.keeping.take() else {
        return;
    };
    let kept = ctx
        .route
        .as_ref()
        .and_then(|route| route.policy.fallback.as_ref());
    if let Some(kept) = kept.and_then(|fallback| fallback.last_good.as_ref()) {
        kept.keep(*keeping, ctx.now());
    }
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
fn again(good: &Good, now: u64) -> Reply {
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
