//! What becomes of a request: its route is found, the route's filters are asked, and it is answered, refused or sent on.

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use pingora::http::RequestHeader;
use pingora_proxy::Session;
use smallvec::SmallVec;

use super::client::{Pacing, Unbuffered};
use super::ctx::{Ctx, Peer};
use super::snapshot::{Snapshot, Target};
use super::{affinity, chain, decide, failure, overload, policy, reply};
use crate::filter::{Exchange, Reason, Refusal, Reply, RequestFilter, Scheme, Verdict};
use crate::primitives::level::Level;
use crate::route::{Asked, Found};

/// Most time a request that is answered here may take, its body included.
const LONGEST_ANSWER: Duration = Duration::from_secs(60);

/// What becomes of a request.
pub(super) enum Decision {
    Forward,
    /// The route's own answer.
    Answer(Arc<Reply>),
    /// A filter's answer, complete as it is.
    Done(Arc<Reply>),
    Refuse(Refusal),
}

impl Decision {
    /// Whether a limit says no.
    fn is_of_a_limit(&self) -> bool {
        let limits = [Reason::RateLimited, Reason::ConcurrencyLimited];
        matches!(self, Self::Refuse(refusal) if limits.contains(&refusal.reason))
    }
}

/// What a head asks for, and the route that takes it.
pub(super) struct Arrival<'r> {
    /// The target as received.
    received: &'r str,
    target: decide::Target<'r>,
    authority: &'r str,
    host: Cow<'r, str>,
    /// How the client reached us, or the trusted proxy before us.
    asked_for: Scheme,
    pub(super) found: Found,
}

impl<'r> Arrival<'r> {
    /// Reads the head, or says why nobody takes it.
    pub(super) fn of(
        head: &'r RequestHeader,
        peer: &Peer,
        snapshot: &Snapshot,
        client_ip: IpAddr,
    ) -> Result<Self, Refusal> {
        if let Some(refusal) = snapshot.turns_away(peer.listener.as_ref(), client_ip) {
            return Err(refusal);
        }
        let received = std::str::from_utf8(head.raw_path())
            .map_err(|_| Refusal::new(Reason::BadRequest, "the request target is not text"))?;
        let target = decide::Target::parse(received)?;
        let (authority, host) = decide::host(head);
        let certified = peer.certified.as_ref();
        if certified.is_some_and(|certified| !certified.may_ask(&host)) {
            return Err(Refusal::new(
                Reason::MisdirectedRequest,
                "the connection was opened for another host",
            ));
        }
        let trusted = &snapshot.config.server.trusted_proxies;
        let asked = Asked {
            method: &head.method,
            host: &host,
            path: &target.path,
            scheme: decide::scheme(peer.scheme, peer.address, trusted, head),
            query: target.query,
            headers: &head.headers,
        };
        let found = decide::route(&snapshot.table, &asked)?;
        let asked_for = asked.scheme;
        Ok(Self {
            received,
            target,
            authority,
            host,
            asked_for,
            found,
        })
    }
}

/// Finds out who asks for what, and asks the route's filters.
pub(super) async fn decide(session: &Session, ctx: &mut Ctx) -> Decision {
    let head = session.req_header();
    let Some(start) = &ctx.start else {
        return Decision::Refuse(reply::internal());
    };
    let (snapshot, peer) = (Arc::clone(&start.snapshot), Arc::clone(&start.peer));
    let known = start.head;
    ctx.learn(head, &peer, &snapshot);
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
    if let Some(start) = &ctx.start {
        start.client.set_deadline(ctx.began + deadline);
    }
    let decision = ask_all(route.chain.filters(), &mut exchange, ctx).await;
    let Exchange {
        principal,
        quota,
        tickets,
        ..
    } = exchange;
    (ctx.principal, ctx.quota, ctx.tickets) = (principal, quota, tickets);
    if let Some(decision) = decision {
        return decision;
    }
    ctx.policy.level = route.policy.level.now();
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
            ctx.outgoing =
                changed_target(&outgoing.path(&target.path, &found), target.query, received);
            let decision = policy::lead(head, &target.path, ctx);
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
        } else {
            tokio::time::sleep_until(turn.into()).await;
        }
    }
    if let (None, false, Some(start)) = (&decision, exchange.paces.is_empty(), &ctx.start) {
        let paces = std::mem::take(&mut exchange.paces);
        start.client.set_pace(Pacing::new(paces, ctx.state.clock));
    }
    decision
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
                Ok(body) => filter.check_body(exchange, &body),
                Err(refusal) => return Some(Decision::Refuse(refusal)),
            },
        };
    }
}

/// The whole body, kept for forwarding.
async fn body(most: u64, ctx: &mut Ctx) -> Result<Bytes, Refusal> {
    let Some(start) = &ctx.start else {
        return Err(reply::internal());
    };
    if start
        .head
        .framing
        .length()
        .is_some_and(|length| length > most)
    {
        return Err(chain::too_large(most));
    }
    if start.head.expects_continue && !start.client.has_ahead() {
        start.client.ask_on().await.map_err(|_| reply::internal())?;
    }
    let body = start
        .client
        .buffer_body(most)
        .await
        .map_err(|why| match why {
            Unbuffered::TooLarge => chain::too_large(most),
            Unbuffered::Malformed => Refusal::new(Reason::BadRequest, "the body is malformed"),
            Unbuffered::TimedOut => Refusal::new(Reason::RequestTimeout, "the body took too long"),
            Unbuffered::Gone => Refusal::new(Reason::BadRequest, "the body is incomplete"),
        })?;
    ctx.buffered = true;
    ctx.body_in = body.len() as u64;
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
