//! What the gateway would do with a request, and why: asked of the code that serves, with nothing taken.

use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use pingora::http::RequestHeader;

use super::arrival::{Arrival, ClientView};
use super::hop_by_hop::asks_for_websocket;
use super::http1::head::{self, Scan};
use super::route_runtime::{RouteRuntime, Target};
use super::snapshot::Snapshot;
use super::state::State;
use super::{breaking, decide, overload, policy, slashes};
use crate::api::{Candidate, Explanation, NearMiss, Question};
use crate::config::ClientLimits;
use crate::filter::{FilterContext, Moment, Reason, Refusal, RequestFilter, Scheme, Verdict};
use crate::primitives::clock;
use crate::primitives::level::Level;
use crate::route::{Asked, Found};
use crate::upstream::Pool;

/// Most routes named for a miss.
const NEAREST: usize = 5;

/// Explains a request against a snapshot: the answer that the API and `tollgate explain` give.
pub fn explain(question: &Question, snapshot: &Snapshot, state: &State) -> Explanation {
    let mut answer = Explanation::default();
    if let Err(refusal) = walk(question, snapshot, state, &mut answer) {
        refuse(&mut answer, &refusal);
    }
    answer
}

fn refuse(answer: &mut Explanation, refusal: &Refusal) {
    answer.decision = refusal.reason.code().to_owned();
    answer.status = Some(refusal.reason.status());
    answer.detail = Some(refusal.detail.to_string());
    answer.cause = refusal.cause.map(Into::into);
}

fn walk(
    question: &Question,
    snapshot: &Snapshot,
    state: &State,
    answer: &mut Explanation,
) -> Result<(), Refusal> {
    let (request, target) = wire(question);
    let (head, known) = match read(request, &snapshot.config.server.client) {
        Ok(read) => read,
        Err(refusal) => {
            answer.path = Some(target);
            answer.step("head", refusal.reason.code(), None);
            return Err(refusal);
        }
    };
    let peer = question.ip.unwrap_or(IpAddr::from([127, 0, 0, 1]));
    let client_ip = decide::client_ip(peer, &snapshot.config.server.trusted_proxies, &head);
    answer.client_ip = Some(client_ip);
    listeners(snapshot, client_ip, answer)?;
    let (authority, host) = decide::host(&head);
    let scheme = if question.url.starts_with("https://") {
        Scheme::Https
    } else {
        Scheme::Http
    };
    let asked = Asked {
        method: &head.method,
        host: &host,
        path: "/",
        scheme: decide::scheme(scheme, peer, &snapshot.config.server.trusted_proxies, &head),
        query: None,
        headers: &head.headers,
    };
    let (taken, found) = match decide::place(&head, &snapshot.table, &asked) {
        Ok(placed) => placed,
        Err(refusal) => {
            miss(&refusal, &head, &target, snapshot, &asked, answer);
            return Err(refusal);
        }
    };
    path_step(&taken, answer);
    let asked_for = asked.scheme;
    let route = &*snapshot.routes[found.index];
    let location = taken_by(route, snapshot, &found, &taken.path, answer);
    let watched = snapshot.config.server.overload.as_ref();
    if let Some((words, refusal)) = overload::explain(&state.overload, route, watched) {
        answer.step("overload", &words, Some(&location));
        refusal.map_or(Ok(()), Err)?;
    }
    let arrival = Arrival {
        received: taken.raw,
        target: taken,
        authority,
        host,
        asked_for,
        found,
    };
    let seen = ClientView {
        scheme,
        address: client_ip,
        certificate: None,
        body_length: known.framing.length(),
    };
    let moment = Moment {
        now: state.clock.now(),
        unix_time: clock::unix_now().as_secs(),
    };
    let mut context = FilterContext::new(arrival.view(&head, &seen, route), moment).dry();
    let filters = route.chain.asked_at(route.policy.level.now());
    let asked = ask(filters, &mut context, question, answer, &location);
    if let Some(principal) = &context.principal {
        answer.consumer_auth = Some(principal.auth.to_string());
        let caller = principal.caller();
        answer.consumer = caller.map(|caller| caller.name.to_owned());
        answer.consumer_claim = caller
            .and_then(|caller| caller.named_by.stand_in())
            .map(Into::into);
    }
    if asked? {
        return Ok(());
    }
    if let Target::Respond(reply) = &route.target
        && let Some(template) = &reply.redirect
    {
        let location = decide::redirect(template, &arrival.host, &arrival.target)?;
        let location = location.to_str().unwrap_or_default();
        answer.step("respond", &format!("redirect to {location}"), None);
    }
    let Some(pool) = policy::explain(route, &context, state, answer)? else {
        return Ok(());
    };
    lead(route, &pool, &arrival, state, answer)?;
    if asks_for_websocket(&head, &known) {
        answer.step("tunnel", &tunnel(&pool), None);
    }
    Ok(())
}

/// What becomes of a request that asks to go on as a WebSocket.
fn tunnel(pool: &Pool) -> String {
    let silence = pool.settings().timeout.tunnel;
    match pool.settings().http2 {
        false => format!("a WebSocket may be silent for {silence:?}"),
        true => "no WebSocket: the upstream speaks HTTP/2".to_owned(),
    }
}

/// Says what the path is read as.
fn path_step(taken: &decide::Target<'_>, answer: &mut Explanation) {
    answer.path = Some(with_query(&taken.path, taken.query));
    let kept = match slashes::are_doubtful(&taken.path) {
        true => ", slashes as they are",
        false => "",
    };
    answer.step("path", &format!("normal form {}{kept}", taken.path), None);
}

/// Says why nobody takes a request, and who came near.
fn miss(
    refusal: &Refusal,
    head: &RequestHeader,
    target: &str,
    snapshot: &Snapshot,
    asked: &Asked<'_>,
    answer: &mut Explanation,
) {
    let taken = match decide::Target::of(head) {
        Ok(taken) if refusal.reason != Reason::PathAmbiguous => taken,
        _ => {
            answer.path = Some(target.to_owned());
            return answer.step("path", refusal.reason.code(), None);
        }
    };
    path_step(&taken, answer);
    answer.step("route", refusal.reason.code(), None);
    let asked = Asked {
        path: &taken.path,
        query: taken.query,
        ..*asked
    };
    answer.nearest = nearest(snapshot, &asked);
}

/// Reads the head as it would be read from a connection.
fn read(
    request: Vec<u8>,
    limits: &ClientLimits,
) -> Result<(Box<RequestHeader>, head::Head), Refusal> {
    match head::scan(&request, 0, limits) {
        Scan::Whole(length) if length == request.len() => {
            head::parse(&Bytes::from(request), limits)
        }
        Scan::TooLong(refusal) => Err(refusal),
        Scan::Whole(_) | Scan::Partial => {
            Err(Refusal::new(Reason::BadRequest, "the request is malformed"))
        }
    }
}

/// Says which route takes it, and returns where in the configuration that stands.
fn taken_by(
    route: &RouteRuntime,
    snapshot: &Snapshot,
    found: &Found,
    path: &str,
    answer: &mut Explanation,
) -> String {
    let config = &snapshot.table.routes()[found.index];
    let location = config.location.to_string();
    answer.route = Some(route.name.to_string());
    answer.location = Some(location.clone());
    let names = config.matching.path.captures().map(str::to_owned);
    answer.captures = names.zip(found.captures(path).map(str::to_owned)).collect();
    let verdict = format!("{} takes it", route.name);
    answer.step("route", &verdict, Some(&location));
    location
}

/// What listeners with rules say of the address. Which one a request comes in at is not known here, so it is refused
/// where all of them refuse it.
fn listeners(snapshot: &Snapshot, client: IpAddr, answer: &mut Explanation) -> Result<(), Refusal> {
    let listeners = &snapshot.config.listeners;
    let mut refused = None;
    let mut refusals = 0;
    for listener in listeners {
        if !snapshot.listener_rules.contains_key(&listener.name) {
            continue;
        }
        let refusal = snapshot.turns_away(Some(&listener.name), client);
        let verdict = refusal.as_ref().map_or("continue", |r| r.reason.code());
        answer.step(&format!("listener.{}", listener.name), verdict, None);
        refusals += usize::from(refusal.is_some());
        refused = refused.or(refusal);
    }
    match refused {
        Some(refusal) if refusals == listeners.len() => Err(refusal),
        _ => Ok(()),
    }
}

/// Asks the filters in order. `true`: one of them answers.
fn ask(
    filters: &[Arc<dyn RequestFilter>],
    context: &mut FilterContext<'_>,
    question: &Question,
    answer: &mut Explanation,
    location: &str,
) -> Result<bool, Refusal> {
    for filter in filters {
        let mut verdict = filter.check(context);
        if matches!(verdict, Verdict::NeedBody) {
            let most = context.request.max_body;
            let verdict_of_body = format!("read first, up to {most} bytes in server.auth_buffer");
            answer.step("body", &verdict_of_body, Some(location));
            let body = question.body.as_deref().unwrap_or_default();
            verdict = filter.check_body(context, body.as_bytes());
        }
        match verdict {
            Verdict::Continue | Verdict::NeedBody => {
                answer.step(filter.name(), "continue", Some(location));
            }
            Verdict::Later(_) => {
                answer.step(filter.name(), "asked when it is served", Some(location));
            }
            Verdict::Wait(wait) => answer.step(
                filter.name(),
                &format!("wait {} ms", wait.as_millis()),
                Some(location),
            ),
            Verdict::Answer(reply) => {
                answer.step(filter.name(), "answer", Some(location));
                answer.decision = "respond".to_owned();
                answer.status = Some(reply.status.as_u16());
                return Ok(true);
            }
            Verdict::Refuse(refusal) => {
                answer.step(filter.name(), refusal.reason.code(), Some(location));
                return Err(refusal);
            }
        }
    }
    let body = question.body.as_deref().unwrap_or_default();
    for hook in &mut context.body_hooks {
        if let Err(refusal) = hook.on_body(body.as_bytes(), true) {
            answer.step("body", refusal.reason.code(), Some(location));
            return Err(refusal);
        }
    }
    Ok(false)
}

/// Where the request goes from there.
fn lead(
    route: &RouteRuntime,
    pool: &Pool,
    arrival: &Arrival<'_>,
    state: &State,
    answer: &mut Explanation,
) -> Result<(), Refusal> {
    let Target::Forward { outgoing, .. } = &route.target else {
        return Ok(());
    };
    let target = &arrival.target;
    let path = decide::outgoing(outgoing, target, &arrival.found);
    answer.path = Some(with_query(&path, target.query));
    answer.upstream = Some(pool.settings().name.to_string());
    let now = state.clock.now();
    let known = pool.endpoints();
    answer.candidates = known
        .iter()
        .map(|(endpoint, weight, backup)| Candidate {
            endpoint: endpoint.label.to_string(),
            weight: *weight,
            backup: *backup,
            state: endpoint.state(now).into(),
        })
        .collect();
    if known.is_empty() {
        let named = pool.settings().endpoints.iter();
        answer.candidates = named
            .map(|endpoint| Candidate {
                endpoint: endpoint.address.to_string(),
                weight: endpoint.weight.get(),
                backup: endpoint.backup,
                state: "unresolved".into(),
            })
            .collect();
    } else if !known.iter().any(|(endpoint, ..)| endpoint.usable(now)) {
        answer.step("upstream", Reason::NoEndpoint.code(), None);
        return Err(Refusal::new(
            Reason::NoEndpoint,
            "no endpoint is usable now",
        ));
    }
    answer.step(
        "upstream",
        &format!(
            "{}: {} endpoints, {}{}",
            pool.settings().name,
            answer.candidates.len(),
            pool.settings().balance.name(),
            match pool.settings().sticky {
                Some(_) => ", a client stays with its endpoint",
                None => "",
            }
        ),
        None,
    );
    breakers(route, pool, now, answer)?;
    if let Some(places) = overload::explain_places(pool, route.class) {
        answer.step("concurrency", &places, None);
    }
    answer.step("retry", &retries(pool, route.policy.level.now()), None);
    if let Some(pace) = pool.pace() {
        let verdict = match pace.after() {
            _ if route.hedge == Some(false) => "not on this route".to_owned(),
            Some(after) => {
                let place = pool.gate().map_or("", |_| ", if a place is free");
                format!(
                    "another endpoint is asked after {} ms{place}",
                    after.as_millis()
                )
            }
            None => "too little is known of the latency".to_owned(),
        };
        answer.step("hedge", &verdict, None);
    }
    answer.decision = "forward".to_owned();
    Ok(())
}

/// Which tries may follow the first.
fn retries(pool: &Pool, level: Level) -> String {
    let retry = &pool.settings().retry;
    if retry.attempts == 0 {
        return "none".to_owned();
    }
    if level >= Level::Lean {
        return "none at this level".to_owned();
    }
    let methods: Vec<&str> = retry.methods.iter().map(|method| method.as_str()).collect();
    let methods = match methods.is_empty() {
        true => "of no method once it was sent".to_owned(),
        false => format!("of {} once it was sent", methods.join(", ")),
    };
    let budget = (retry.budget.fraction() * 100_000.0).round() / 1000.0;
    format!(
        "up to {} more, {methods}, within {budget}% of what is live",
        retry.attempts
    )
}

/// What breakers in the way say.
fn breakers(
    route: &RouteRuntime,
    pool: &Pool,
    now: u64,
    answer: &mut Explanation,
) -> Result<(), Refusal> {
    let own = [
        ("breaker of the route", route.breaker.as_ref()),
        ("breaker of the upstream", pool.breaker()),
    ];
    for (step, breaker) in own {
        let Some(breaker) = breaker else { continue };
        if let Some(left) = breaker.refuses(now) {
            answer.step(step, Reason::BreakerOpen.code(), None);
            return Err(breaking::refusal(left));
        }
        answer.step(step, breaker.standing(now).state.as_str(), None);
    }
    Ok(())
}

fn nearest(snapshot: &Snapshot, asked: &Asked<'_>) -> Vec<NearMiss> {
    let losses = snapshot.table.nearest(asked, NEAREST).into_iter();
    let describe = |loss: crate::route::Loss| {
        let route = &snapshot.table.routes()[loss.index];
        NearMiss {
            route: route.name.to_string(),
            path: route.matching.path.to_string(),
            location: route.location.to_string(),
            why: loss.why,
        }
    };
    losses.map(describe).collect()
}

/// The request as a client would write it, and its target.
fn wire(question: &Question) -> (Vec<u8>, String) {
    let (authority, target) = match question.url.split_once("://") {
        Some((_, rest)) if !question.url.starts_with('/') => {
            let at = rest.find(['/', '?']).unwrap_or(rest.len());
            let target = if rest[at..].starts_with('/') {
                rest[at..].to_owned()
            } else {
                format!("/{}", &rest[at..])
            };
            (&rest[..at], target)
        }
        _ => ("localhost", question.url.clone()),
    };
    let mut text = format!("{} {target} HTTP/1.1\r\n", question.method);
    if !question
        .headers
        .iter()
        .any(|(name, _)| name.eq_ignore_ascii_case("host"))
    {
        text.push_str(&format!("Host: {authority}\r\n"));
    }
    for (name, value) in &question.headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    text.push_str("\r\n");
    (text.into_bytes(), target)
}

fn with_query(path: &str, query: Option<&str>) -> String {
    match query {
        Some(query) => format!("{path}?{query}"),
        None => path.to_owned(),
    }
}
