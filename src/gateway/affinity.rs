//! Where a request belongs: the key it is hashed by, and the endpoint that its client stays with.
//!
//! Found once, while the head is at hand, and only for upstreams that ask; every try reads it from the context. The other
//! upstream of a fallback has ways of its own, so what it would want to know is found beside.

use http::{HeaderMap, HeaderValue, header};
use pingora::http::RequestHeader;
use serde_json::Value;

use super::ctx::{Affinity, Ctx, FailoverAffinity};
use crate::config::{Balance, HashOn};
use crate::filter::Scheme;
use crate::observe::stats::StickyOutcome;
use crate::primitives::query;
use crate::upstream::{PickHints, Pool, Stickiness, hash};

/// Finds out where the request belongs in the upstream it is going to, and in the one that may take it over.
pub(super) fn learn(ctx: &mut Ctx, head: &RequestHeader, path: &str, scheme: Scheme) {
    if let Some(pool) = ctx.forward.pool.as_ref().filter(|pool| pool.asks_who()) {
        let (affinity, stuck) = belongs(pool, ctx, head, path, scheme);
        count(pool, stuck);
        ctx.forward.affinity = affinity;
    }
    let fallback = ctx.route.as_ref();
    let fallback = fallback.and_then(|route| route.policy.fallback.as_ref());
    let other = fallback.and_then(|fallback| fallback.pool());
    if let Some(pool) = other.filter(|pool| pool.asks_who()) {
        let (affinity, stuck) = belongs(pool, ctx, head, path, scheme);
        ctx.policy.failover_affinity = Some(Box::new(FailoverAffinity { affinity, stuck }));
    }
}

/// Another upstream takes the request over: its endpoints are others than the client was sent to before.
pub(super) fn go_elsewhere(ctx: &mut Ctx, pool: &Pool) {
    let elsewhere = ctx.policy.failover_affinity.take();
    count(pool, elsewhere.as_ref().and_then(|found| found.stuck));
    ctx.forward.affinity = elsewhere.map_or_else(Affinity::default, |found| found.affinity);
}

fn belongs(
    pool: &Pool,
    ctx: &Ctx,
    head: &RequestHeader,
    path: &str,
    scheme: Scheme,
) -> (Affinity, Option<StickyOutcome>) {
    let (stay, stuck) = stay(pool, ctx, &head.headers);
    let affinity = Affinity {
        key: key(pool, ctx, head, path),
        stay,
        tls: scheme == Scheme::Https,
    };
    (affinity, stuck)
}

fn count(pool: &Pool, stuck: Option<StickyOutcome>) {
    if let Some(stuck) = stuck {
        pool.stats().stuck(stuck);
    }
}

/// What the next try wishes for.
pub(super) fn pick_hints(ctx: &Ctx) -> PickHints<'_> {
    let affinity = &ctx.forward.affinity;
    PickHints {
        tried: &ctx.forward.tried,
        // Identifiers are random, and the attempts make it another number for each try.
        chance: ctx
            .span
            .rotate_left(17)
            .wrapping_mul(0x9e37_79b9_7f4a_7c15)
            .wrapping_add(u64::from(ctx.forward.attempts.count()) << 32),
        key: affinity.key,
        stay: affinity.stay.map(|stay| stay.tag),
    }
}

/// Whether the answer must give its client a cookie: it has none, an old one, or one that names another endpoint.
pub(super) fn has_cookie(ctx: &Ctx) -> bool {
    let Some((pool, endpoint)) = ctx.forward.trying() else {
        return false;
    };
    let Some(sticky) = pool.sticky() else {
        return false;
    };
    let stay = ctx.forward.affinity.stay;
    ctx.forward.attempts.took().is_some()
        && stay.is_none_or(|stay| stay.renew || stay.tag != sticky.tag(&endpoint.address))
}

/// The cookie that the answer gives its client, if it must give one.
pub(super) fn cookie(ctx: &Ctx) -> Option<HeaderValue> {
    let (pool, endpoint) = ctx.forward.trying()?;
    let sticky = pool.sticky().filter(|_| has_cookie(ctx))?;
    let tag = sticky.tag(&endpoint.address);
    let written = sticky.write(tag, ctx.at.as_secs(), ctx.forward.affinity.tls);
    HeaderValue::from_str(&written).ok()
}

fn stay(
    pool: &Pool,
    ctx: &Ctx,
    headers: &HeaderMap,
) -> (Option<Stickiness>, Option<StickyOutcome>) {
    let Some(sticky) = pool.sticky() else {
        return (None, None);
    };
    let found = cookie_of(headers, sticky.name());
    let stay = found.and_then(|value| sticky.read(value, ctx.at.as_secs()));
    let stuck = match (found, stay) {
        (None, _) => StickyOutcome::Fresh,
        (Some(_), None) => StickyOutcome::Invalid,
        (Some(_), Some(stay)) if pool.keeps(stay.tag) => StickyOutcome::Kept,
        (Some(_), Some(_)) => StickyOutcome::Moved,
    };
    (stay, Some(stuck))
}

/// What the request is hashed by. One without the configured key is hashed by its client's address.
pub(super) fn key(pool: &Pool, ctx: &Ctx, head: &RequestHeader, path: &str) -> Option<u64> {
    let Balance::ConsistentHash { on, .. } = &pool.settings().balance else {
        return None;
    };
    let found = match on {
        HashOn::ClientIp => None,
        HashOn::Path => Some(hash(path.as_bytes())),
        HashOn::Header(name) => head.headers.get(name).map(|value| hash(value.as_bytes())),
        HashOn::Cookie(name) => cookie_of(&head.headers, name).map(|value| hash(value.as_bytes())),
        HashOn::Claim(claim) => ctx
            .principal
            .as_ref()
            .and_then(|principal| principal.claim(claim))
            .and_then(|value| match value {
                Value::String(text) => Some(hash(text.as_bytes())),
                Value::Number(number) => Some(hash(number.to_string().as_bytes())),
                _ => None,
            }),
    };
    let address = || match ctx.client_ip.to_canonical() {
        std::net::IpAddr::V4(ip) => hash(&ip.octets()),
        std::net::IpAddr::V6(ip) => hash(&ip.octets()),
    };
    Some(found.unwrap_or_else(address))
}

/// HTTP/2 may split cookies over several fields, so all are read.
fn cookie_of<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    let fields = headers.get_all(header::COOKIE).iter();
    fields
        .filter_map(|value| std::str::from_utf8(value.as_bytes()).ok())
        .find_map(|text| query::cookie(text, name))
}
