//! What becomes of a request: its route is found, the route's filters are asked, and it is answered, refused or sent on.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use pingora::http::RequestHeader;
use smallvec::SmallVec;

use super::arrival::Arrival;
use super::auth_buffer::Unbuffered;
use super::client::Pacing;
use super::ctx::Ctx;
use super::decision::Decision;
use super::snapshot::Target;
use super::{affinity, chain, decide, failure, judged, overload, policy, reply};
use crate::filter::{Exchange, Reason, Refusal, RequestFilter, Verdict};
use crate::primitives::level::Level;

/// Most time a request that is answered here may take, its body included.
const LONGEST_ANSWER: Duration = Duration::from_secs(60);

/// Finds out who asks for what, and asks the route's filters.
pub(super) async fn decide(head: &RequestHeader, ctx: &mut Ctx) -> Decision {
    let decision = decide_by(head, ctx).await;
    if let Decision::Refuse(refusal) = &decision {
        judged::refused(ctx, head, refusal);
    }
    decision
}

async fn decide_by(head: &RequestHeader, ctx: &mut Ctx) -> Decision {
    let Some(start) = &ctx.start else {
        return Decision::Refuse(reply::internal());
    };
    let (snapshot, peer) = (Arc::clone(&start.snapshot), Arc::clone(&start.peer));
    let known = start.head;
    ctx.learn(head, peer.address, &snapshot);
    let arrival = match Arrival::of(head, &peer, &snapshot, ctx.client_ip) {
        Ok(arrival) => arrival,
        Err(refusal) => return Decision::Refuse(refusal),
    };
    let Arrival {
        received,
        target,
        authority,
        host,
        asked_for,
        found,
    } = arrival;
    let certified = peer.certified.clone();
    let route = Arc::clone(&snapshot.routes[found.index]);
    ctx.enter(Arc::clone(&route));
    if let Err(refusal) = overload::enter(ctx, &route, snapshot.config.server.overload.as_ref()) {
        return Decision::Refuse(refusal);
    }
    ctx.policy.level = route.policy.level.now();
    let mut exchange = Exchange {
        head,
        raw_target: target.raw,
        path: &target.path,
        query: target.query,
        host: &host,
        authority,
        scheme: peer.scheme,
        client_ip: ctx.client_ip,
        certificate: certified.as_deref().map(|certified| &certified.certificate),
        route: &route.name,
        max_body: route.max_body,
        body_length: known.framing.length(),
        address_number: None,
        now: ctx.state.clock.at(ctx.began),
        unix_time: ctx.at.as_secs(),
        principal: None,
        quota: None,
        tickets: SmallVec::new(),
        held: Default::default(),
        paces: Vec::new(),
        turn: None,
        dry_run: false,
    };
    let deadline = match &route.target {
        Target::Forward { deadline, .. } => {
            let deadline = match known.deadline {
                true => decide::deadline(head, *deadline),
                false => *deadline,
            };
            ctx.forward.deadline = Some(ctx.began + deadline);
            deadline
        }
        Target::Respond(_) => LONGEST_ANSWER,
    };
    let mut ends = ctx.began + deadline;
    if let Some(latest) = ctx.inside().and_then(|inside| inside.latest) {
        ends = ends.min(latest);
        ctx.forward.deadline = ctx.forward.deadline.map(|at| at.min(latest));
    }
    if let Some(start) = &ctx.start {
        start.client.bound(ends, route.max_body);
    }
    let filters = route.chain.asked_at(ctx.policy.level);
    let some: Vec<_>;
    let filters = match ctx.inside() {
        None => filters,
        Some(inside) => {
            if !inside.parts.access {
                exchange.principal.clone_from(&inside.principal);
            }
            let asked = |filter: &&Arc<dyn RequestFilter>| inside.parts.asks(filter.part());
            some = filters.iter().filter(asked).cloned().collect();
            &some
        }
    };
    let decision = ask_all(filters, &mut exchange, ctx).await;
    ctx.principal = exchange.principal.take();
    ctx.quota = exchange.quota.take();
    ctx.tickets = std::mem::take(&mut exchange.tickets);
    if let Some(decision) = decision {
        return decision;
    }
    match &route.target {
        _ if ctx.policy.level == Level::Off => Decision::Refuse(policy::off()),
        Target::Respond(answer) => match &answer.redirect {
            None => Decision::Answer(Arc::clone(answer)),
            Some(template) => match decide::redirect(template, &host, &target) {
                Ok(location) => Decision::Answer(Arc::new(answer.leading_to(location))),
                Err(refusal) => Decision::Refuse(refusal),
            },
        },
        Target::Forward { pool, outgoing, .. } => {
            ctx.forward.pool = Some(Arc::clone(pool));
            let path = decide::outgoing(outgoing, &target, &found);
            ctx.outgoing = changed_target(&path, target.query, received);
            let decision = policy::lead(head, &target.path, ctx);
            if let Decision::Refuse(_) = decision {
                // No upstream and no answer of ours: it comes again, and has used nothing up.
                chain::give_back(filters, &mut exchange);
                ctx.tickets.clear();
            }
            affinity::learn(ctx, head, &target.path, asked_for);
            decision
        }
    }
}

/// Asks the filters in order, does the waiting that limits want, and hands over the paces they set. `None`: nothing against
/// the request.
async fn ask_all(
    filters: &[Arc<dyn RequestFilter>],
    exchange: &mut Exchange<'_>,
    ctx: &mut Ctx,
) -> Option<Decision> {
    let mut decision = None;
    for (index, filter) in filters.iter().enumerate() {
        decision = ask(&**filter, exchange, ctx).await;
        if let Some(decision) = &decision {
            if decision.is_of_a_limit() {
                chain::give_back(&filters[..index], exchange);
            }
            break;
        }
    }
    // Where limits make it wait it waits once, and only when all of them agreed.
    if let (None, Some(turn)) = (&decision, exchange.turn) {
        if ctx
            .forward
            .deadline
            .is_some_and(|deadline| turn >= deadline)
        {
            chain::give_back(filters, exchange);
            decision = Some(Decision::Refuse(failure::deadline()));
        } else if left_before(turn, ctx).await {
            chain::give_back(filters, exchange);
            decision = Some(Decision::Refuse(failure::gone()));
        }
    }
    if let (None, false, Some(start)) = (&decision, exchange.paces.is_empty(), &ctx.start) {
        let paces = std::mem::take(&mut exchange.paces);
        start.client.set_pace(Pacing::new(paces, ctx.state.clock));
    }
    decision
}

/// Waits for its turn; says whether the client left before that.
async fn left_before(turn: Instant, ctx: &Ctx) -> bool {
    let waiting = tokio::time::sleep_until(turn.into());
    match &ctx.start {
        Some(start) => start.client.unless_gone(waiting).await.is_err(),
        None => {
            waiting.await;
            false
        }
    }
}

/// Asks one filter, and does the waiting it wants. `None`: nothing against the request.
async fn ask(
    filter: &dyn RequestFilter,
    exchange: &mut Exchange<'_>,
    ctx: &mut Ctx,
) -> Option<Decision> {
    let mut verdict = filter.check(exchange);
    loop {
        verdict = match verdict {
            Verdict::Continue => return None,
            Verdict::Refuse(refusal) => return Some(Decision::Refuse(refusal)),
            Verdict::Answer(answer) => return Some(Decision::Done(answer)),
            Verdict::Wait(wait) => {
                let turn = Instant::now() + wait;
                exchange.turn = Some(exchange.turn.map_or(turn, |known| known.max(turn)));
                return None;
            }
            Verdict::NeedBody => match body(exchange.max_body, ctx).await {
                Ok(body) => {
                    reset_clock(exchange, ctx);
                    filter.check_body(exchange, &body)
                }
                Err(refusal) => return Some(Decision::Refuse(refusal)),
            },
        };
    }
}

/// The client took its time with the body: what counts is when it was there.
fn reset_clock(exchange: &mut Exchange<'_>, ctx: &Ctx) {
    let now = Instant::now();
    exchange.now = ctx.state.clock.at(now);
    exchange.unix_time = ctx.state.wall.at(now).as_secs();
}

/// The whole body, kept for forwarding.
async fn body(most: u64, ctx: &mut Ctx) -> Result<Bytes, Refusal> {
    let Some(start) = &ctx.start else {
        return Err(reply::internal());
    };
    let length = start.head.framing.length();
    if length.is_some_and(|length| length > most) {
        return Err(chain::too_large(most));
    }
    let room = start.snapshot.config.server.auth_buffer;
    let room = ctx.state.auth_buffer.room(room);
    if start.head.expects_continue && !start.client.has_ahead() {
        start.client.ask_on().await.map_err(|_| failure::gone())?;
    }
    let body = start
        .client
        .buffer_body(length.unwrap_or(most), most, room)
        .await
        .map_err(|why| match why {
            Unbuffered::Full => overload::auth_buffer_full(ctx),
            Unbuffered::TooLarge => chain::too_large(most),
            // Where nobody is asked, the client is all that is waited for.
            Unbuffered::Late if ctx.forward.deadline.is_some() => failure::deadline(),
            Unbuffered::Malformed => Refusal::new(Reason::BadRequest, "the body is malformed"),
            Unbuffered::TimedOut | Unbuffered::Late => {
                Refusal::new(Reason::RequestTimeout, "the body took too long")
            }
            Unbuffered::Incomplete => failure::incomplete(),
            Unbuffered::Gone => failure::gone(),
        })?;
    ctx.buffered = true;
    Ok(body)
}

/// The target to send, when it differs from the one received.
fn changed_target(path: &str, query: Option<&str>, received: &str) -> Option<String> {
    let same = match query {
        Some(query) => {
            received.len() == path.len() + 1 + query.len()
                && received.starts_with(path)
                && received.ends_with(query)
        }
        None => received == path,
    };
    if same {
        return None;
    }
    Some(match query {
        Some(query) => format!("{path}?{query}"),
        None => path.to_owned(),
    })
}
