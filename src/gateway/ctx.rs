//! What is known about one request while it is served.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{HeaderMap, Method, Uri, Version, header};
use pingora::http::RequestHeader;
use smallvec::SmallVec;

use super::affinity::Affinity;
use super::answer::Pacing;
use super::breaking::Permits;
use super::client::Moved;
use super::exchange::attempts::Attempts;
use super::judged::Tells;
use super::lane::Lane;
use super::overload::{self, Held};
use super::route_runtime::RouteRuntime;
use super::snapshot::Snapshot;
use super::start::{Inside, Start};
use super::state::State;
use super::timers::Fault;
use super::{decide, failure, judged, policy};
use crate::filter::{Principal, Quota, Reason, Refusal, ResponseBodyHook, Tickets};
use crate::observe::{Internal, LogHandle, Record, Try, TunnelEnd};
use crate::primitives::address::Address;
use crate::primitives::trace::{TraceId, TraceParent};
use crate::upstream::{Endpoint, Pool};

/// What is known about one request. Dropping it gives back what the request held and, should nobody have done so,
/// writes its record: no request ends unseen, not even by a panic.
pub struct Ctx {
    pub(super) state: Arc<State>,
    lane: usize,
    pub(super) start: Option<Start>,
    pub(super) began: Instant,
    pub(super) at: Duration,
    pub(super) trace: TraceId,
    pub(super) parent: Option<TraceParent>,
    /// Of the first try; each further one has the next.
    pub(super) span: u64,
    pub(super) client_ip: IpAddr,
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
    pub(super) policy: policy::Path,
    /// What it holds of what is bounded.
    pub(super) held: Held,
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
    pub(super) permits: Permits,
}

impl Forward {
    /// Upstream and endpoint of the current try.
    pub(super) fn trying(&self) -> Option<(&Arc<Pool>, &Arc<Endpoint>)> {
        self.pool.as_ref().zip(self.current.as_ref())
    }
}

impl Ctx {
    /// A request that begins now; without `start` it is one that is refused by its head alone.
    pub(super) fn new(state: Arc<State>, lane: &Lane, start: Option<Start>) -> Self {
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
                permits: Permits::default(),
            },
            policy: policy::Path::default(),
            held: Held::default(),
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

    /// Writes the record of a request that was served; `headers` are its own.
    pub(super) fn finish(&mut self, headers: &HeaderMap) {
        let moved = self.moved();
        self.record(moved, Some(headers));
    }

    /// The exchange with the client is over: what went over its wire.
    fn moved(&mut self) -> Moved {
        let now = *self.ended.get_or_insert_with(Instant::now);
        let start = self.start.as_ref();
        start.map_or_else(Moved::default, |start| start.client.ended(now))
    }

    /// Writes the request's one record: metrics and access line always agree.
    pub(super) fn record(&mut self, moved: Moved, headers: Option<&HeaderMap>) {
        if std::mem::replace(&mut self.logged, true) {
            return;
        }
        self.forward.attempts.count_retries();
        let now = self.ended.unwrap_or_else(Instant::now);
        let took = now.duration_since(self.began);
        let status = moved.status;
        let reason = self.refusal.as_ref().map(|refusal| refusal.reason);
        let unanswered = status == 0 && reason == Some(Reason::ClientGone);
        let tells = Tells::of(self, took);
        // Who left without an answer says nothing of anybody's answers.
        policy::record(self, status, took, tells);
        let stats = self
            .route
            .as_ref()
            .map_or(&self.state.metrics.unmatched, |route| &route.stats);
        if status > 0 {
            stats.served(self.method.as_str(), status, took);
        } else if unanswered {
            stats.left(Reason::ClientGone.status());
        }
        if status > 0 {
            tells.note(stats, self.method.as_str(), status, took);
        }
        let status = if unanswered {
            Reason::ClientGone.status()
        } else {
            status
        };
        let fell = self.policy.fell.as_ref();
        if let Some(reason) = reason.filter(|_| fell.is_none()) {
            stats.refused(reason);
            if tells == Tells::Nothing {
                stats.apart().refused(reason);
            }
        }
        let internal = self.inside().map(|inside| inside.kind);
        if let Some(internal) = internal {
            self.state.metrics.internal.up(internal);
        }
        let log = self.state.log.as_ref();
        let logged =
            |log: &&_| LogHandle::writes_access(log) && internal.is_none_or(Internal::is_logged);
        let Some(log) = log.filter(logged) else {
            return;
        };
        let said = |name| headers.and_then(|headers| headers.get(name));
        let trying = self.forward.trying();
        let attempts = &self.forward.attempts;
        // Of a single try all is said already.
        let tries: SmallVec<[Try<'_>; 4]> = match attempts.each().len() {
            0 | 1 => SmallVec::new(),
            _ => attempts.each().map(|attempt| attempt.said(now)).collect(),
        };
        log.access(
            self.lane,
            &Record {
                at: self.at,
                trace_id: &self.trace,
                route: self.route.as_ref().map(|route| route.name.as_str()),
                method: &self.method,
                target: &self.uri,
                status,
                took,
                upstream: trying.map(|(pool, _)| pool.settings().name.as_str()),
                endpoint: trying.map(|(_, endpoint)| &*endpoint.label),
                upstream_took: attempts.took(),
                attempts: attempts.count(),
                tries: &tries,
                client_ip: self.client_ip,
                consumer: self
                    .principal
                    .as_ref()
                    .map(|principal| &*principal.consumer),
                consumer_auth: self
                    .principal
                    .as_ref()
                    .map(|principal| principal.auth.as_str()),
                bytes_in: moved.received,
                bytes_out: moved.sent,
                version: self.version,
                user_agent: said(header::USER_AGENT),
                referer: said(header::REFERER),
                reason,
                cause: self.refusal.as_ref().and_then(|refusal| refusal.cause),
                fallback: fell.map(|fell| (fell.kind.as_str(), fell.called)),
                tunnel_end: self.tunnel_end,
                internal,
            },
        );
    }
}

impl Drop for Ctx {
    fn drop(&mut self) {
        if !self.logged
            && let Some(start) = &self.start
        {
            let client = Arc::clone(&start.client);
            let overdue = client.fault() == Some(Fault::Deadline);
            let refusal = if std::thread::panicking() {
                Some(super::reply::internal())
            } else if overdue {
                Some(failure::deadline())
            } else {
                // Whoever made it inside the process wants it no more.
                self.inside().map(|_| failure::gone())
            };
            // The connection answers in place of a request that is gone; who left is told nothing.
            let told = refusal.as_ref().map(|refusal| refusal.reason);
            let told = told.filter(|reason| *reason != Reason::ClientGone && !client.answered());
            let status = told.map(Reason::status);
            client.note(self.trace);
            if overdue && !judged::in_a_hurry(self) {
                overload::gave_up(self);
            }
            self.refusal = refusal.or(self.refusal.take());
            let mut moved = self.moved();
            if moved.status == 0 {
                moved.status = status.unwrap_or(0);
            }
            self.record(moved, None);
        }
        self.leave_endpoint();
        if let Some(route) = &self.route {
            route.stats.in_flight.down();
        }
        self.state.request_ended();
    }
}
