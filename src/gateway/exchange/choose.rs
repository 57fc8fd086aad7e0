//! Which endpoint the next try goes to.

use std::sync::Arc;
use std::time::{Duration, Instant};

use pingora::Error;

use super::outcome::remaining;
use crate::filter::{Reason, Refusal};
use crate::gateway::ctx::Ctx;
use crate::gateway::session::read_error;
use crate::gateway::{affinity, breaking, failure, fallback, overload, reply};
use crate::upstream::{Endpoint, Pool, backoff};

/// Chooses an endpoint for the next try. Called once per try. Where the upstream has none for it, that of the fallback may.
pub(super) async fn choose(ctx: &mut Ctx) -> Result<Arc<Endpoint>, Box<Error>> {
    loop {
        let Some(pool) = ctx.forward.pool.take() else {
            return Err(failure::refused(ctx, reply::internal()));
        };
        let chosen = match overload::take_place(ctx, &pool).await {
            Ok(()) => choose_from(&pool, ctx).await,
            Err(error) => Err(error),
        };
        ctx.forward.pool = Some(pool);
        if chosen.is_ok() || !fallback::fail_over_refused(ctx) {
            return chosen;
        }
    }
}

async fn choose_from(pool: &Pool, ctx: &mut Ctx) -> Result<Arc<Endpoint>, Box<Error>> {
    let mut now = Instant::now();
    let attempts = ctx.forward.attempts.count();
    if attempts > 0 {
        let random = ctx.span.wrapping_add(attempts.into());
        let wait = backoff(&pool.settings().retry, attempts, random).min(remaining(ctx, now));
        if !wait.is_zero() && !ctx.forward.at_once {
            let waiting = tokio::time::sleep(wait);
            if let Some(start) = &ctx.start {
                let waited = start.client.unless_gone(waiting).await;
                waited.map_err(|gone| read_error(&gone))?;
            } else {
                waiting.await;
            }
            now = Instant::now();
        }
    }
    let clock = ctx.state.clock.at(now);
    if attempts == 0 {
        pool.request(clock);
    }
    if remaining(ctx, now).is_zero() {
        return Err(failure::refused(ctx, failure::deadline()));
    }
    if let Err(refusal) = breaking::enter(pool, ctx, clock) {
        return Err(failure::refused(ctx, refusal));
    }
    ctx.leave_endpoint();
    let Some(endpoint) = pool.choose(clock, &affinity::pick_hints(ctx)) else {
        let refusal = Refusal::new(Reason::NoEndpoint, "no endpoint is usable now")
            .retry_after(Duration::from_secs(1));
        return Err(failure::refused(ctx, refusal));
    };
    endpoint.in_flight.up();
    if let Some(start) = &ctx.start {
        start
            .client
            .bound_silence(pool.settings().timeout.read, now);
    }
    let forward = &mut ctx.forward;
    forward.tried.push(endpoint.address.clone());
    forward.current = Some(Arc::clone(&endpoint));
    forward.attempts.begin(Arc::clone(&endpoint), now);
    forward.reported = false;
    forward.retry = false;
    forward.at_once = false;
    Ok(endpoint)
}
