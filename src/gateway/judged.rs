//! Which requests tell something about a configuration on trial, and about the side of a split that served them.
//!
//! A judge that anybody can speak to is a switch in anybody's hand. So what a client caused by itself is left out: what it
//! cut short, by a deadline of its own, a body that does not come or an answer it does not take; and a refusal that the
//! configuration before the trial would have given as well. A bad token, a path that nobody serves or a rate beyond the
//! limit are refused before a trial and during it, however many they are. What is refused now and would have passed before
//! is the configuration's doing, and counts: that is asked of the configuration before, which takes nothing for it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use pingora::http::RequestHeader;

use super::arrival::{Arrival, ClientView};
use super::ctx::Ctx;
use super::decide;
use super::route_runtime::{RouteRuntime, Target};
use super::snapshot::Snapshot;
use super::timers::AbortReason;
use crate::config::ClientLimits;
use crate::filter::{FilterContext, Moment, Reason, Refusal, RequestFilter, Verdict};
use crate::observe::stats::RouteStats;

/// A client that takes or sends nothing for longer than this in all makes an answer slow, and not its upstream.
const NOTICED: Duration = Duration::from_millis(20);

/// What a request tells those who judge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tells {
    /// What became of it, and how long it took.
    All,
    /// All, but by the time without that for which the client was waited for.
    InItsOwnTime(Duration),
    /// Nothing.
    Nothing,
}

impl Tells {
    /// What a request tells that took so long.
    pub(super) fn of(ctx: &Ctx, took: Duration) -> Self {
        if ctx.refused_alike {
            return Self::Nothing;
        }
        if ctx.tunnel_end.is_some() {
            // How long both sides had something to say is theirs.
            return Self::InItsOwnTime(ctx.forward.attempts.took().unwrap_or_default());
        }
        let reason = ctx.refusal.as_ref().map(|refusal| refusal.reason);
        if reason.is_some_and(|reason| cut_short(reason, ctx)) {
            return Self::Nothing;
        }
        let client = ctx.start.as_ref().map(|start| &start.client);
        let Some(client) = client.filter(|_| reason.is_some() || took > NOTICED) else {
            return Self::All;
        };
        match (client.fault(), client.kept_waiting()) {
            (
                Some(
                    AbortReason::Framing
                    | AbortReason::Incomplete
                    | AbortReason::TooLarge
                    | AbortReason::Paused
                    | AbortReason::Stalled,
                ),
                _,
            ) => Self::Nothing,
            (Some(AbortReason::Refused), _) if !ctx.refused_anew => Self::Nothing,
            (Some(AbortReason::Deadline), _) if in_a_hurry(ctx) || !client.body_done() => {
                Self::Nothing
            }
            (_, waited) if waited > NOTICED => Self::InItsOwnTime(took.saturating_sub(waited)),
            _ => Self::All,
        }
    }

    /// Counts an answer apart that tells less than all.
    pub(super) fn note(self, stats: &RouteStats, method: &str, status: u16, took: Duration) {
        if self != Self::All {
            stats.apart().served(method, status, took);
        }
        if let Self::InItsOwnTime(own) = self {
            stats.amended().served(method, status, own);
        }
    }
}

/// Whether it was the client that ended a request which was refused for `reason` on its way.
fn cut_short(reason: Reason, ctx: &Ctx) -> bool {
    match reason {
        Reason::DeadlineExceeded | Reason::UpstreamTimeout => in_a_hurry(ctx),
        Reason::BadRequest | Reason::RequestTimeout => !ctx.refused_anew,
        // Whoever sends more than can be served causes it.
        Reason::ClientGone | Reason::Overloaded => true,
        _ => false,
    }
}

/// Whether its time is over because its client gave it less than is configured: nothing that an upstream could answer for.
pub(super) fn in_a_hurry(ctx: &Ctx) -> bool {
    let configured = match ctx.route.as_deref().map(|route| &route.target) {
        Some(Target::Forward { deadline, .. }) => ctx.began.checked_add(*deadline),
        _ => None,
    };
    let over = ctx.forward.deadline.is_some_and(|at| at <= Instant::now());
    over && ctx.forward.deadline < configured
}

/// A request was refused before anything was asked of an upstream. Remembers whether the configuration before the trial
/// under way would have let it pass.
pub(super) fn refused(ctx: &mut Ctx, head: &RequestHeader, refusal: &Refusal) {
    match refusal.reason {
        // Whoever sends more than can be served causes it, and whoever gives it less time than its turn takes; a level is
        // set by an operator.
        Reason::Overloaded | Reason::DeadlineExceeded | Reason::RouteOff => {
            ctx.refused_alike = true;
        }
        Reason::Internal | Reason::ClientGone => {}
        reason => {
            let before = ctx.state.fallback();
            ctx.refused_anew = before.is_some_and(|before| passes(&before, head, ctx, reason));
            ctx.refused_alike = !ctx.refused_anew;
        }
    }
}

/// A body was refused on its way. It tells nothing, unless the configuration before the trial under way let it pass.
pub(super) fn body_refused(ctx: &mut Ctx, head: &RequestHeader, refusal: &Refusal) {
    if by_a_hook(ctx) {
        refused(ctx, head, refusal);
    }
}

/// Whether a filter that saw the body on its way ended the request.
fn by_a_hook(ctx: &Ctx) -> bool {
    let fault = ctx.start.as_ref().and_then(|start| start.client.fault());
    matches!(fault, Some(AbortReason::Refused))
}

/// Whether JSON may nest deeper on the route of `before` than on the one that serves the request.
fn is_flatter(ctx: &Ctx, before: &RouteRuntime) -> bool {
    let now = ctx.route.as_ref().and_then(|route| route.json_depth);
    now.is_some_and(|now| before.json_depth.is_none_or(|before| now < before))
}

/// A head was refused that nobody looked further at, within these limits. It tells nothing, unless the configuration before
/// the trial under way took longer heads.
pub(super) fn head_refused(ctx: &mut Ctx, limits: &ClientLimits, reason: Reason) {
    let before = ctx.state.fallback();
    let anew = before.is_some_and(|before| {
        let before = &before.config.server.client;
        match reason {
            Reason::UriTooLong => limits.max_uri < before.max_uri,
            Reason::HeadersTooLarge => {
                limits.max_header_bytes < before.max_header_bytes
                    || limits.max_headers < before.max_headers
            }
            _ => false,
        }
    });
    ctx.refused_alike = !anew;
}

/// Whether `before` would have let the request pass, as far as its head tells; and where its body was refused, the depth
/// that it may have.
fn passes(before: &Snapshot, head: &RequestHeader, ctx: &Ctx, reason: Reason) -> bool {
    let Some(start) = &ctx.start else {
        return false;
    };
    let trusted = &before.config.server.trusted_proxies;
    let inside = ctx.inside();
    let client_ip = match inside {
        Some(inside) => inside.client_ip,
        None => decide::client_ip(start.peer.address, trusted, head),
    };
    let Ok(arrival) = Arrival::of(head, &start.peer, before, client_ip) else {
        return false;
    };
    let route = &before.routes[arrival.found.index];
    if by_a_hook(ctx) && !is_flatter(ctx, route) {
        return false;
    }
    let limits = &before.config.routes[arrival.found.index].limits.names;
    let now = &start.snapshot.config.limits;
    let unchanged = || {
        limits
            .iter()
            .all(|name| before.config.limits.get(name) == now.get(name))
    };
    if reason == Reason::ConcurrencyLimited && unchanged() {
        // A place may have come free since.
        return false;
    }
    let certified = start.peer.certified.as_deref();
    let seen = ClientView {
        scheme: start.peer.scheme,
        address: client_ip,
        certificate: certified.map(|certified| &certified.certificate),
        body_length: start.head.framing.length(),
    };
    let moment = Moment {
        now: ctx.state.clock.at(ctx.began),
        unix_time: ctx.at.as_secs(),
    };
    let mut context = FilterContext::new(arrival.view(head, &seen, route), moment).dry();
    if let Some(inside) = inside.filter(|inside| !inside.parts.access) {
        context.principal.clone_from(&inside.principal);
    }
    let asked = |filter: &&Arc<dyn RequestFilter>| {
        inside.is_none_or(|inside| inside.parts.asks(filter.part()))
    };
    for filter in route.chain.filters().iter().filter(asked) {
        match filter.check(&mut context) {
            Verdict::Continue | Verdict::Wait(_) => {}
            Verdict::Answer(_) => return true,
            // What takes a body, or time, is not known by the head.
            Verdict::NeedBody | Verdict::Later(_) => return false,
            // The nonce is spent: by this request, whose signature was good.
            Verdict::Refuse(refusal)
                if refusal.reason == Reason::SigReplayed
                    && reason != Reason::SigReplayed
                    && ctx.principal.is_some() =>
            {
                context.principal.clone_from(&ctx.principal);
            }
            Verdict::Refuse(_) => return false,
        }
    }
    true
}
