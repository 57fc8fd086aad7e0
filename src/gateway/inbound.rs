//! What becomes of a request: its route is found, the route's filters are asked, and it is answered, refused or sent on.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::answer::Pacing;
use super::arrival::{Arrival, ClientView};
use super::asking_filters::{Asker, Objection, give_back};
use super::ctx::Ctx;
use super::decision::Decision;
use super::http1::head::Head;
use super::route_runtime::{RouteRuntime, Target};
use super::{affinity, decide, judged, overload, policy, refusals, reply};
use crate::filter::{FilterContext, Moment, RequestFilter};
use crate::primitives::level::Level;
use pingora::http::RequestHeader;

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
    let (known, client) = (start.head, Arc::clone(&start.client));
    ctx.learn(head, peer.address, &snapshot);
    let arrival = match Arrival::of(head, &peer, &snapshot, ctx.client_ip) {
        Ok(arrival) => arrival,
        Err(refusal) => return Decision::Refuse(refusal),
    };
    ctx.scheme = arrival.asked_for;
    let route = Arc::clone(&snapshot.routes[arrival.found.index]);
    ctx.enter(Arc::clone(&route));
    if let Err(refusal) = overload::enter(ctx, &route, snapshot.config.server.overload.as_ref()) {
        return Decision::Refuse(refusal);
    }
    ctx.policy.level = route.policy.level.now();
    let deadline = deadline(&route, head, &known, ctx);
    client.bound(deadline, route.max_body);
    let certified = peer.certified.as_deref();
    let seen = ClientView {
        scheme: peer.scheme,
        address: ctx.client_ip,
        certificate: certified.map(|certified| &certified.certificate),
        body_length: known.framing.length(),
    };
    let moment = Moment {
        now: ctx.state.clock.at(ctx.began),
        unix_time: ctx.at.as_secs(),
    };
    let mut context = FilterContext::new(arrival.view(head, &seen, &route), moment);
    let filters = route.chain.asked_at(ctx.policy.level);
    let some: Vec<_>;
    let filters = match ctx.inside() {
        None => filters,
        Some(inside) => {
            if !inside.parts.access {
                context.principal.clone_from(&inside.principal);
            }
            let asked = |filter: &&Arc<dyn RequestFilter>| inside.parts.asks(filter.part());
            some = filters.iter().filter(asked).cloned().collect();
            &some
        }
    };
    let mut asker = Asker {
        client: &client,
        head: &known,
        until: deadline,
        forwards: ctx.forward.deadline.is_some(),
        clock: ctx.state.clock,
        wall: &ctx.state.wall,
        auth_buffer: &ctx.state.auth_buffer,
        most_kept: snapshot.config.server.auth_buffer,
        spread: ctx.span,
        buffered: false,
    };
    let asked = asker.ask_all(filters, &mut context).await;
    ctx.buffered = asker.buffered;
    // A limit that gives back may ask who calls.
    ctx.principal.clone_from(&context.principal);
    ctx.quota = context.quota.take();
    ctx.tickets = std::mem::take(&mut context.tickets);
    ctx.answer_hooks = std::mem::take(&mut context.answer_hooks);
    match asked {
        Ok(()) if context.paces.is_empty() => {}
        Ok(()) => {
            let paces = std::mem::take(&mut context.paces);
            ctx.pacing = Some(Box::new(Pacing::new(paces, ctx.state.clock)));
        }
        Err(Objection::Answer(answer)) => return Decision::Done(answer),
        Err(Objection::Refuse(refusal) | Objection::Ended(refusal)) => {
            return Decision::Refuse(refusal);
        }
    }
    let target = &arrival.target;
    match &route.target {
        _ if ctx.policy.level == Level::Off => Decision::Refuse(refusals::off()),
        Target::Respond(answer) => match &answer.redirect {
            None => Decision::Answer(Arc::clone(answer)),
            Some(template) => match decide::redirect(template, &arrival.host, target) {
                Ok(location) => Decision::Answer(Arc::new(answer.leading_to(location))),
                Err(refusal) => Decision::Refuse(refusal),
            },
        },
        Target::Forward { pool, outgoing, .. } => {
            ctx.forward.pool = Some(Arc::clone(pool));
            let path = decide::outgoing(outgoing, target, &arrival.found);
            ctx.outgoing = changed_target(&path, target.query, arrival.received);
            let decision = policy::apply(head, &target.path, ctx);
            if let Decision::Refuse(_) = decision {
                // No upstream and no answer of ours: it comes again, and has used nothing up.
                give_back(filters, &mut context);
                ctx.tickets.clear();
            }
            affinity::learn(ctx, head, &target.path, arrival.asked_for);
            decision
        }
    }
}

/// When the request must be over: by its route, by its client, or by the request that made it.
fn deadline(route: &RouteRuntime, head: &RequestHeader, known: &Head, ctx: &mut Ctx) -> Instant {
    let latest = ctx.inside().and_then(|inside| inside.latest);
    let earlier = |at: Instant| latest.map_or(at, |latest| latest.min(at));
    let Target::Forward { deadline, .. } = &route.target else {
        return earlier(ctx.began + LONGEST_ANSWER);
    };
    let deadline = match known.deadline {
        true => decide::deadline(head, *deadline),
        false => *deadline,
    };
    let at = earlier(ctx.began + deadline);
    ctx.forward.deadline = Some(at);
    at
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
