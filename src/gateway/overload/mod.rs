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
mod doorstep;
pub(super) mod entered;

use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use serde_json::{Value, json};

use self::budget::{Budget, ByClass, Seen};
pub(super) use self::doorstep::{Met, meet};
use self::entered::Entered;
use super::auth_buffer;
use super::ctx::Ctx;
use super::forward;
use super::session::read_error;
use super::snapshot::{RouteRuntime, Target};
use crate::config::{self, Class};
use crate::filter::{Reason, Refusal};
use crate::observe::overload::{OverloadStats, ShedCause};
use crate::primitives::clock::nanos;
use crate::upstream::{Place, Pool};

/// How much of what is allowed a class may use, in percent: the last tenths are kept for what matters more.
const SHARES: ByClass<u64> = [100, 80, 60];
/// The same for memory. It begins later: what is taken once is seldom given back to the system soon.
const MEMORY_SHARES: ByClass<u64> = [100, 95, 90];
/// With fewer requests than that in flight, memory is not filled by requests, and to refuse them frees none.
const FEW: u64 = 64;
/// A share of one, of what a worker lets in.
const WHOLE: u32 = 1 << 24;

/// What is known of overload; outlives every configuration.
pub struct Overload {
    stats: Arc<OverloadStats>,
    workers: OnceLock<Box<[Worker]>>,
    /// Refused when it was told last, and whether that has begun.
    told: Mutex<ByClass<u64>>,
    shedding: AtomicBool,
}

/// One worker's door.
#[derive(Default)]
struct Worker {
    asked: ByClass<AtomicU32>,
    let_in: AtomicU32,
    /// Withheld of each class, so that nothing is the beginning.
    withheld: ByClass<AtomicU32>,
    turn: AtomicU32,
    lag: AtomicU64,
    budget: Mutex<Budget>,
}

/// How much is refused at present.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ShedLevel {
    /// Nothing.
    Nothing,
    /// Sheddable requests, at least some of them.
    Sheddable,
    /// Normal ones as well.
    Normal,
    /// Critical ones as well.
    Critical,
}

impl ShedLevel {
    const ALL: [Self; 4] = [Self::Nothing, Self::Sheddable, Self::Normal, Self::Critical];

    /// A word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::Sheddable => "sheddable",
            Self::Normal => "normal",
            Self::Critical => "critical",
        }
    }
}

/// What a request holds while it is served. Dropping it gives all of it back.
#[derive(Default)]
pub(super) struct Held {
    door: Option<Entered>,
    place: Option<Place>,
    /// The current try was told about.
    told: bool,
}

impl Overload {
    /// Nothing known yet.
    pub(super) fn new(stats: Arc<OverloadStats>) -> Self {
        Self {
            stats,
            workers: OnceLock::new(),
            told: Mutex::default(),
            shedding: AtomicBool::new(false),
        }
    }

    /// There are so many workers.
    pub fn begin(&self, workers: usize) {
        let _ = self.workers.set(
            std::iter::repeat_with(Worker::default)
                .take(workers)
                .collect(),
        );
    }

    /// How much is refused at present.
    pub fn level(&self) -> ShedLevel {
        let level = self.stats.level.load(Relaxed) as usize;
        ShedLevel::ALL[level.min(ShedLevel::ALL.len() - 1)]
    }

    /// What was seen of a worker for a while: called by each about itself, ten times a second, while lateness is watched.
    pub fn beat(&self, worker: usize, lag: Duration, during: Duration, most: Option<Duration>) {
        let Some(worker) = self.workers.get().and_then(|workers| workers.get(worker)) else {
            return;
        };
        worker.lag.store(nanos(lag), Relaxed);
        let seen = Seen {
            lateness: most.map_or(0.0, |most| lag.as_secs_f64() / most.as_secs_f64()),
            asked: std::array::from_fn(|class| worker.asked[class].swap(0, Relaxed)),
            let_in: worker.let_in.swap(0, Relaxed),
            during,
        };
        let shares = worker.budget.lock().update(&seen);
        for (withheld, share) in worker.withheld.iter().zip(shares) {
            withheld.store(WHOLE - (share * f64::from(WHOLE)) as u32, Relaxed);
        }
    }

    /// The memory of the process now.
    pub fn uses_memory(&self, bytes: u64) {
        self.stats.memory.store(bytes, Relaxed);
    }

    /// Sums up the last second: the level, and a line in the log when refusing begins and when it ends.
    pub fn tell(&self) {
        let stats = &*self.stats;
        let lag = self.workers().map(|worker| worker.lag.load(Relaxed)).max();
        stats.lag.store(lag.unwrap_or_default(), Relaxed);
        let shed = Class::ALL.map(|class| stats.shed.of(class));
        let before = std::mem::replace(&mut *self.told.lock(), shed);
        let worst = (0..Class::ALL.len()).find(|class| shed[*class] > before[*class]);
        let level = worst.map_or(0, |class| Class::ALL.len() - class);
        stats.level.store(level as u32, Relaxed);
        let more: u64 = shed.iter().zip(before).map(|(now, then)| now - then).sum();
        let (in_flight, lag_ms) = (stats.in_flight.load(Relaxed), lag.unwrap_or(0) / 1_000_000);
        match (self.shedding.swap(more > 0, Relaxed), more > 0) {
            (false, true) => {
                log::warn!(in_flight = in_flight, lag_ms = lag_ms; "overloaded: {more} requests were refused within a second");
            }
            (true, false) => {
                let [critical, normal, sheddable] = shed;
                log::info!(in_flight = in_flight;
                    "no longer overloaded; refused since the start: {critical} critical, {normal} normal, {sheddable} sheddable");
            }
            _ => {}
        }
    }

    /// For people and programs who ask.
    pub fn describe(&self) -> Value {
        let shed = Class::ALL.map(|class| (class.as_str(), self.stats.shed.of(class)));
        json!({
            "refused_now": self.level().as_str(),
            "in_flight": self.stats.in_flight.load(Relaxed),
            "lag_ms": self.stats.lag.load(Relaxed) as f64 / 1e6,
            "refused": shed.into_iter().collect::<std::collections::BTreeMap<_, _>>(),
        })
    }

    fn workers(&self) -> impl Iterator<Item = &Worker> {
        self.workers.get().into_iter().flatten()
    }

    /// Whether some request would be refused by this worker now.
    fn refuses_some(&self, lane: usize, watched: &config::Overload) -> bool {
        let worker = self.workers.get().and_then(|workers| workers.get(lane));
        let withholds = |worker: &Worker| worker.withheld.iter().any(|n| n.load(Relaxed) > 0);
        let in_flight = u64::from(self.stats.in_flight.load(Relaxed));
        watched.max_lag.is_some() && worker.is_some_and(withholds)
            || self.against(Class::Sheddable, in_flight, watched).is_some()
    }

    /// Lets a request in, or not.
    fn enter(
        &self,
        class: Class,
        lane: usize,
        watched: &config::Overload,
    ) -> Result<Entered, ShedCause> {
        if watched.max_lag.is_some()
            && let Some(worker) = self.workers.get().and_then(|workers| workers.get(lane))
            && !worker.lets_in(class)
        {
            return Err(ShedCause::Lag);
        }
        let (entered, before) = Entered::count(&self.stats);
        self.against(class, before, watched)
            .map_or(Ok(entered), Err)
    }

    /// What speaks against one more of `class` beside so many.
    fn against(
        &self,
        class: Class,
        in_flight: u64,
        watched: &config::Overload,
    ) -> Option<ShedCause> {
        let class = class as usize;
        if let Some(most) = watched.max_in_flight {
            let share = (u64::from(most) * SHARES[class]).div_ceil(100);
            if in_flight >= share {
                return Some(ShedCause::InFlight);
            }
        }
        let most = watched.max_memory?;
        let share = most / 100 * MEMORY_SHARES[class];
        let full = in_flight >= FEW && self.stats.memory.load(Relaxed) >= share;
        full.then_some(ShedCause::Memory)
    }

    /// The verdict that a request of `class` would meet now, in words.
    fn foretell(&self, class: Class, watched: &config::Overload) -> (String, Option<ShedCause>) {
        let in_flight = self.stats.in_flight.load(Relaxed);
        let withheld = self
            .workers()
            .map(|worker| worker.withheld[class as usize].load(Relaxed));
        let withheld = withheld.max().unwrap_or_default();
        if let Some(cause) = self.against(class, u64::from(in_flight), watched) {
            let words = format!("{}: refused now, by {}", class.as_str(), cause.label());
            return (words, Some(cause));
        }
        if watched.max_lag.is_some() && withheld > 0 {
            let share = f64::from(withheld) / f64::from(WHOLE) * 100.0;
            let words = format!(
                "{}: {share:.0} % are refused now, by max_lag",
                class.as_str()
            );
            return (words, (withheld == WHOLE).then_some(ShedCause::Lag));
        }
        (
            format!("{}: let in, {in_flight} in flight", class.as_str()),
            None,
        )
    }
}

impl Worker {
    /// Every so many of a class are let in, evenly spread: the turn times the golden ratio fills the circle so.
    fn lets_in(&self, class: Class) -> bool {
        const GOLDEN: u32 = 0x9E37_79B9;
        self.asked[class as usize].fetch_add(1, Relaxed);
        let withheld = self.withheld[class as usize].load(Relaxed);
        let turn = || self.turn.fetch_add(1, Relaxed).wrapping_mul(GOLDEN) >> 8;
        let let_in = withheld == 0 || turn() >= withheld;
        if let_in {
            self.let_in.fetch_add(1, Relaxed);
        }
        let_in
    }
}

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
            waited.map_err(|_| forward::refused(ctx, refusal(ctx)))?
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
pub(super) fn free_place(pool: &Pool, class: Class) -> Result<Option<Place>, Full> {
    let Some(gate) = pool.gate() else {
        return Ok(None);
    };
    gate.enter(class).map(Some).ok_or(Full)
}

/// The try that holds this place is the request's from now on; that of the one before is free.
pub(super) fn take_over(ctx: &mut Ctx, place: Option<Place>) {
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
    if let (Some(place), Some(sent)) = (&ctx.held.place, ctx.forward.sent) {
        let now = Instant::now();
        place.gave_up(now.duration_since(sent), now);
    }
}

/// Clients that are all told the same would all come again at the same moment.
fn refusal(ctx: &Ctx) -> Refusal {
    let wait = Duration::from_secs(1 + ctx.span % RETRY_AFTER);
    Refusal::new(
        Reason::Overloaded,
        "more is asked for than can be served now",
    )
    .retry_after(wait)
}

/// The refusal of a body for which `server.auth_buffer` has no room.
pub(super) fn auth_buffer_full(ctx: &Ctx) -> Refusal {
    refusal(ctx).cause(auth_buffer::FULL)
}

/// Told to come again after one to so many seconds.
const RETRY_AFTER: u64 = 3;

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

/// The same for the door of an upstream.
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
pub fn describe_places(pool: &Pool) -> Option<Value> {
    let gate = pool.gate()?;
    let [_, in_flight, queued] = gate.counts().now();
    let shed = Class::ALL.map(|class| (class.as_str(), gate.counts().shed.of(class)));
    let adaptive = matches!(
        gate.settings().limit,
        config::ConcurrencyLimit::Adaptive { .. }
    );
    Some(json!({
        "limit": gate.limit(),
        "adaptive": adaptive,
        "unloaded_ms": gate.unloaded().map(|latency| latency.as_secs_f64() * 1e3),
        "in_flight": in_flight,
        "kept_from": {
            "normal": gate.kept_from(Class::Normal),
            "sheddable": gate.kept_from(Class::Sheddable),
        },
        "queued": queued,
        "queue": gate.settings().queue,
        "refusing": gate.is_shedding(),
        "refused": shed.into_iter().collect::<std::collections::BTreeMap<_, _>>(),
    }))
}
