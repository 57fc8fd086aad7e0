//! Who is let in when more comes in than can be served: by class, at the gateway's own door and at each upstream's.
//!
//! The gateway's own door comes right after the route, which says the class, and before every filter. A request that is
//! turned away with "come again" must not have used up a nonce or a quota, and what it is saved for is the costly part:
//! tokens, signatures, the upstream. Answers that the gateway makes itself are never refused: a refusal costs as much.
//!
//! Three signs are watched, each when it is configured: how many requests are in flight, how late a worker is with what
//! it wants to do, and the memory of the process. For the first and the last each class may use a share that rises with
//! its worth; lateness is answered by a [`budget`] of each worker. The door of an upstream is [`crate::upstream::Gate`].

mod budget;
mod shed;
pub(super) mod shed_permit;
pub(super) mod shedding;

use std::time::{Duration, Instant};

pub(super) use self::shed::{ShedDecision, refuses_some, shed};
use self::shedding::by_class;
pub use self::shedding::{Overload, ShedLevel};
use super::ctx::Ctx;
use super::failure;
use super::refusals;
use super::route_runtime::{RouteRuntime, Target};
use super::session::read_error;
use crate::api::{KeptFrom, PlacesStatus};
use crate::config::{self, Class};
use crate::filter::{Reason, Refusal};
use crate::observe::overload::ShedCause;
use crate::upstream::{GatePermit, Pool};

/// The gateway's own door.
pub(super) fn enter(
    ctx: &mut Ctx,
    route: &RouteRuntime,
    watched: Option<&config::Overload>,
) -> Result<(), Refusal> {
    let Some(watched) = watched else {
        return Ok(());
    };
    if matches!(route.target, Target::Respond(_)) {
        return Ok(());
    }
    if let Some(entered) = ctx.start.as_mut().and_then(|start| start.entered.take()) {
        ctx.held.door = Some(entered);
        return Ok(());
    }
    match ctx.state.overload.enter(route.class, ctx.lane(), watched) {
        Ok(entered) => {
            ctx.held.door = Some(entered);
            Ok(())
        }
        Err(cause) => Err(turn_away(ctx, route, cause)),
    }
}

fn turn_away(ctx: &Ctx, route: &RouteRuntime, cause: ShedCause) -> Refusal {
    ctx.state.overload.stats.shed.up(route.class, cause);
    refusal(ctx)
}

/// The door of the upstream that is tried next. A further try keeps the place of the one before. A client that goes away
/// while it waits there waits no longer.
pub(super) async fn take_place(ctx: &mut Ctx, pool: &Pool) -> pingora::Result<()> {
    let Some(gate) = pool.gate() else {
        ctx.held.place = None;
        return Ok(());
    };
    ctx.held.told = false;
    if ctx
        .held
        .place
        .as_ref()
        .is_some_and(|place| place.is_of(gate))
    {
        return Ok(());
    }
    // That of another upstream is not needed any more; nobody holds one and waits for another.
    ctx.held.place = None;
    let class = class(ctx);
    let place = match gate.enter(class) {
        Some(place) => place,
        None => {
            let waiting = gate.wait(class);
            let waited = match &ctx.start {
                Some(start) => start.client.unless_gone(waiting).await,
                None => Ok(waiting.await),
            };
            let waited = waited.map_err(|gone| read_error(&gone))?;
            waited.map_err(|_| failure::refused(ctx, refusal(ctx)))?
        }
    };
    ctx.held.place = Some(place);
    Ok(())
}

/// The class of a request.
pub(super) fn class(ctx: &Ctx) -> Class {
    let class = ctx.route.as_ref().map(|route| route.class);
    class.unwrap_or_default()
}

/// No place is free.
pub(super) struct Full;

/// A place that is free, where the upstream counts them, for what had better not be sent than wait: a try beside one that
/// holds a place already, or a copy.
pub(super) fn free_place(pool: &Pool, class: Class) -> Result<Option<GatePermit>, Full> {
    let Some(gate) = pool.gate() else {
        return Ok(None);
    };
    gate.enter(class).map(Some).ok_or(Full)
}

/// The try that holds this place is the request's from now on; that of the one before is free.
pub(super) fn take_over(ctx: &mut Ctx, place: Option<GatePermit>) {
    ctx.held.place = place;
    ctx.held.told = false;
}

/// The head of an answer came after so long. A connection that is switched over, as to a WebSocket, is no request any more:
/// it may last for hours, and would take a place from those that last for moments.
pub(super) fn answered(ctx: &mut Ctx, status: u16, took: Duration, now: Instant) {
    let Some(place) = &ctx.held.place else {
        if status == 101 {
            ctx.held.door = None;
        }
        return;
    };
    ctx.held.told = true;
    if status == 101 {
        ctx.held.place = None;
        ctx.held.door = None;
    } else {
        place.answered(status, took, now);
    }
}

/// The try was given up: no answer came in time.
pub(super) fn gave_up(ctx: &mut Ctx) {
    if ctx.held.told {
        return;
    }
    if let (Some(place), Some(sent)) = (&ctx.held.place, ctx.forward.attempts.sent()) {
        let now = Instant::now();
        place.gave_up(now.duration_since(sent), now);
    }
}

/// Clients that are all told the same would all come again at the same moment.
fn refusal(ctx: &Ctx) -> Refusal {
    refusals::overloaded(ctx.span)
}

/// What a request of this route would meet at the gateway's door now; `None` when nothing is watched.
pub(super) fn explain(
    overload: &Overload,
    route: &RouteRuntime,
    watched: Option<&config::Overload>,
) -> Option<(String, Option<Refusal>)> {
    let watched = watched?;
    if matches!(route.target, Target::Respond(_)) {
        return None;
    }
    let (words, cause) = overload.foretell(route.class, watched);
    let refusal = |_| {
        Refusal::new(
            Reason::Overloaded,
            "more is asked for than can be served now",
        )
    };
    Some((words, cause.map(refusal)))
}

/// What the door of an upstream would say, in words.
pub(super) fn explain_places(pool: &Pool, class: Class) -> Option<String> {
    let gate = pool.gate()?;
    let [_, in_flight, queued] = gate.counts().now();
    let (limit, free) = (gate.limit(), gate.limit_of(class));
    let verdict = match (
        in_flight < free && queued == 0,
        queued < gate.settings().queue,
    ) {
        (true, _) => "let in",
        (false, true) => "would wait",
        (false, false) => "would wait in the place of one that matters less, or be refused",
    };
    let class = class.as_str();
    Some(format!(
        "{class}: {verdict}, {in_flight} of {limit} places taken, {queued} waiting"
    ))
}

/// The places of an upstream, for people and programs who ask.
pub fn describe_places(pool: &Pool) -> Option<PlacesStatus> {
    let gate = pool.gate()?;
    let [_, in_flight, queued] = gate.counts().now();
    let adaptive = matches!(
        gate.settings().limit,
        config::ConcurrencyLimit::Adaptive { .. }
    );
    Some(PlacesStatus {
        limit: gate.limit(),
        adaptive,
        unloaded_ms: gate.unloaded().map(|latency| latency.as_secs_f64() * 1e3),
        in_flight,
        kept_from: KeptFrom {
            normal: gate.kept_from(Class::Normal),
            sheddable: gate.kept_from(Class::Sheddable),
        },
        queued,
        queue: gate.settings().queue,
        refusing: gate.is_shedding(),
        refused: by_class(&gate.counts().shed),
    })
}
