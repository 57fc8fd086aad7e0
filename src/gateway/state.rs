//! What outlives a configuration: counts, health, nonces, connections, and the snapshot in force.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;

use super::admission::Admission;
use super::snapshot::Snapshot;
use crate::auth::AuthFacts;
use crate::limit::LimitFacts;
use crate::observe::{LogHandle, Metrics, Windows};
use crate::primitives::clock::{self, Clock, WallClock};
use crate::tls::TlsFacts;
use crate::upstream::EndpointFacts;

/// Facts of the running process. Made once in `server` and handed down.
pub struct State {
    /// Counts.
    pub metrics: Arc<Metrics>,
    /// Rates and quantiles per route.
    pub windows: Windows,
    /// The process' monotonic clock.
    pub clock: Clock,
    /// Wall-clock time without asking for it.
    pub wall: WallClock,
    /// Wall-clock time of the start, since 1970.
    pub started: Duration,
    /// Connections.
    pub admission: Arc<Admission>,
    /// What limits counted.
    pub limits: LimitFacts,
    /// Nonces and verified tokens.
    pub auth: AuthFacts,
    /// What is remembered of TLS handshakes.
    pub tls: TlsFacts,
    /// What is known about endpoints.
    pub endpoints: Arc<EndpointFacts>,
    /// The log; `None` in commands that serve nothing.
    pub log: Option<LogHandle>,
    snapshot: ArcSwapOption<Snapshot>,
    ready: AtomicBool,
    draining: AtomicBool,
    in_flight: AtomicU64,
}

impl State {
    /// A state without a snapshot.
    pub fn new(metrics: Arc<Metrics>, log: Option<LogHandle>) -> Self {
        let started = clock::unix_now();
        let clock = Clock::start();
        Self {
            windows: Windows::default(),
            wall: WallClock::new(clock),
            clock,
            started,
            admission: Arc::default(),
            limits: LimitFacts::new(),
            auth: AuthFacts::new(u64::try_from(started.as_millis()).unwrap_or(u64::MAX)),
            tls: TlsFacts::default(),
            endpoints: Arc::new(EndpointFacts::new(Arc::clone(&metrics))),
            log,
            snapshot: ArcSwapOption::empty(),
            ready: AtomicBool::new(true),
            draining: AtomicBool::new(false),
            in_flight: AtomicU64::new(0),
            metrics,
        }
    }

    /// The snapshot in force; `None` before the first good configuration.
    pub fn snapshot(&self) -> Option<Arc<Snapshot>> {
        self.snapshot.load_full()
    }

    /// Puts a snapshot in force. Requests under way keep theirs.
    pub fn publish(&self, snapshot: &Arc<Snapshot>) {
        self.publish_beside(snapshot, None);
    }

    /// The same, and nothing is forgotten that `fallback` counts or knows: it may be in force again soon.
    pub fn publish_beside(&self, snapshot: &Arc<Snapshot>, fallback: Option<&Snapshot>) {
        self.metrics
            .applied(snapshot.routes.len(), &snapshot.config.hash);
        for (listener, tls) in &snapshot.tls {
            let shown = tls.shown.iter();
            let certificates = shown.map(|shown| (shown.name.clone(), shown.not_after));
            self.metrics.certificates(listener, certificates.collect());
        }
        let old = self.snapshot.swap(Some(Arc::clone(snapshot)));
        let configs = || [Some(&**snapshot), fallback].into_iter().flatten();
        self.limits
            .retain(configs().flat_map(|snapshot| snapshot.config.limits.values()));
        self.auth
            .retain(configs().flat_map(|snapshot| snapshot.config.auths.values()));
        drop(old);
        self.endpoints.prune();
        self.metrics.prune();
    }

    /// Whether new clients should come: a snapshot is in force, and nobody asked the process to stop.
    pub fn ready(&self) -> bool {
        self.ready.load(Ordering::Acquire) && self.snapshot.load().is_some()
    }

    /// Tells whether new clients should come.
    pub fn set_ready(&self, ready: bool) {
        self.ready.store(ready, Ordering::Release);
    }

    /// Whether the process is about to stop.
    pub fn draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    /// From now on the process is about to stop.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Release);
    }

    /// Requests being served now.
    pub fn in_flight(&self) -> u64 {
        self.in_flight.load(Ordering::Acquire)
    }

    pub(super) fn request_began(&self) {
        self.in_flight.fetch_add(1, Ordering::AcqRel);
    }

    pub(super) fn request_ended(&self) {
        self.in_flight.fetch_sub(1, Ordering::AcqRel);
    }
}
