//! What is known about one request while it is served.
//!
//! The files beside hold what a request keeps of each policy. The policies themselves stand above: they are given the whole
//! context, and it knows none of them but for its end, which is in `record`.

mod affinity;
mod held;
mod path;
mod permits;
mod record;
mod shadow;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{Method, Uri, Version};
use pingora::http::RequestHeader;
use smallvec::SmallVec;

pub(super) use self::affinity::{Affinity, FailoverAffinity};
pub(super) use self::held::RequestPermits;
pub(super) use self::path::{Failover, Path};
pub(super) use self::permits::BreakerPermits;
pub(super) use self::shadow::{Shadow, UnderWay};
use super::answer::Pacing;
use super::decide;
use super::exchange::attempts::Attempts;
use super::request_seed::{Inside, RequestSeed};
use super::route_runtime::RouteRuntime;
use super::snapshot::Snapshot;
use super::state::State;
use super::worker_local::WorkerLocal;
use crate::filter::{Principal, Quota, Refusal, ResponseBodyHook, Scheme, Tickets};
use crate::observe::TunnelEnd;
use crate::primitives::address::Address;
use crate::primitives::trace::{TraceId, TraceParent};
use crate::upstream::{Endpoint, Pool};

/// What is known about one request. Dropping it gives back what the request held and, should nobody have done so,
/// writes its record: no request ends unseen, not even by a panic.
pub struct Ctx {
    pub(super) state: Arc<State>,
    lane: usize,
    pub(super) start: Option<RequestSeed>,
    pub(super) began: Instant,
    pub(super) at: Duration,
    pub(super) trace: TraceId,
    pub(super) parent: Option<TraceParent>,
    /// Of the first try; each further one has the next.
    pub(super) span: u64,
    pub(super) client_ip: IpAddr,
    /// How the client reached us, or the trusted proxy before us.
    pub(super) scheme: Scheme,
    pub(super) method: Method,
    pub(super) uri: Uri,
    pub(super) version: Version,
    pub(super) route: Option<Arc<RouteRuntime>>,
    pub(super) principal: Option<Arc<Principal>>,
    pub(super) quota: Option<Quota>,
    pub(super) tickets: Tickets,
    /// Target to send upstream, when it is not the one received.
    pub(super) outgoing: Option<String>,
    /// Why the request was refused, or failed.
    pub(super) refusal: Option<Refusal>,
    /// Whether the request was refused, and would have been before the trial under way as well.
    pub(super) refused_alike: bool,
    /// Whether the request was refused, and would not have been before the trial under way.
    pub(super) refused_anew: bool,
    /// The body was read before it was forwarded.
    pub(super) buffered: bool,
    /// How fast its answer may go out.
    pub(super) pacing: Option<Box<Pacing>>,
    /// Who sees an upstream's answer as it streams.
    pub(super) answer_hooks: Vec<Box<dyn ResponseBodyHook>>,
    pub(super) forward: Forward,
    /// Level, side, fallback and copy.
    pub(super) policy: Path,
    /// What it holds of what is bounded.
    pub(super) held: RequestPermits,
    /// When its exchange with an endpoint was over, and with it the answer.
    pub(super) ended: Option<Instant>,
    /// How the tunnel ended that it became.
    pub(super) tunnel_end: Option<TunnelEnd>,
    logged: bool,
}

/// The upstream side of a request.
pub(super) struct Forward {
    pub(super) deadline: Option<Instant>,
    /// The upstream it is sent to.
    pub(super) pool: Option<Arc<Pool>>,
    /// The endpoint of the current try.
    pub(super) current: Option<Arc<Endpoint>>,
    /// Addresses that its upstream was asked at.
    pub(super) tried: SmallVec<[Address; 4]>,
    pub(super) attempts: Attempts,
    /// The endpoint of the current try was told about already.
    pub(super) reported: bool,
    /// The current failure was decided to be tried again.
    pub(super) retry: bool,
    /// A connection kept from before was found dead once; such a try does not count.
    pub(super) stale: bool,
    /// The next try waits for nothing.
    pub(super) at_once: bool,
    pub(super) informational: u32,
    /// Where in the upstream it belongs.
    pub(super) affinity: Affinity,
    /// What breakers let the current try through with.
    pub(super) permits: BreakerPermits,
}

impl Forward {
    /// Upstream and endpoint of the current try.
    pub(super) fn trying(&self) -> Option<(&Arc<Pool>, &Arc<Endpoint>)> {
        self.pool.as_ref().zip(self.current.as_ref())
    }
}

impl Ctx {
    /// A request that begins now; without `start` it is one that is refused by its head alone.
    pub(super) fn new(state: Arc<State>, lane: &WorkerLocal, start: Option<RequestSeed>) -> Self {
        state.request_began();
        let (trace, span) = lane.identity();
        let began = Instant::now();
        let at = state.wall.at(began);
        Self {
            state,
            lane: lane.index(),
            start,
            began,
            at,
            trace,
            span,
            parent: None,
            client_ip: IpAddr::from([0, 0, 0, 0]),
            scheme: Scheme::Http,
            method: Method::GET,
            uri: Uri::default(),
            version: Version::HTTP_11,
            route: None,
            principal: None,
            quota: None,
            tickets: Tickets::new(),
            outgoing: None,
            refusal: None,
            refused_alike: false,
            refused_anew: false,
            buffered: false,
            pacing: None,
            answer_hooks: Vec::new(),
            forward: Forward {
                deadline: None,
                pool: None,
                current: None,
                tried: SmallVec::new(),
                attempts: Attempts::default(),
                reported: false,
                retry: false,
                stale: false,
                at_once: false,
                informational: 0,
                affinity: Affinity::default(),
                permits: BreakerPermits::default(),
            },
            policy: Path::default(),
            held: RequestPermits::default(),
            ended: None,
            tunnel_end: None,
            logged: false,
        }
    }

    /// Remembers who asks for what.
    pub(super) fn learn(&mut self, head: &RequestHeader, peer: IpAddr, snapshot: &Snapshot) {
        (self.method, self.uri, self.version) =
            (head.method.clone(), head.uri.clone(), head.version);
        if let Some(inside) = self.inside() {
            let (client_ip, known) = (inside.client_ip, inside.trace);
            let (trace, parent) =
                known.unwrap_or_else(|| (self.trace, TraceParent::of_random(&self.trace)));
            (self.client_ip, self.trace, self.parent) = (client_ip, trace, Some(parent));
            return;
        }
        let trusted = &snapshot.config.server.trusted_proxies;
        self.client_ip = decide::client_ip(peer, trusted, head);
        let (trace, parent) = decide::trace(head, self.trace);
        (self.trace, self.parent) = (trace, Some(parent));
    }

    /// What it has of the request that made it, if it was made inside the process.
    pub(super) fn inside(&self) -> Option<&Inside> {
        self.start.as_ref()?.inside.as_deref()
    }

    /// Remembers the matched route and counts the request in.
    pub(super) fn enter(&mut self, route: Arc<RouteRuntime>) {
        route.stats.in_flight.up();
        self.route = Some(route);
    }

    /// Number of the worker that serves it.
    pub(super) fn lane(&self) -> usize {
        self.lane
    }

    /// The monotonic clock.
    pub(super) fn now(&self) -> u64 {
        self.state.clock.now()
    }

    /// Takes a failed or unfinished try off the endpoint.
    pub(super) fn leave_endpoint(&mut self) {
        if let Some(endpoint) = self.forward.current.take() {
            endpoint.in_flight.down();
        }
    }
}
