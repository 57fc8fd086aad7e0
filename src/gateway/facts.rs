//! What the process knows that no configuration says: counts, health, nonces, connections, the clocks.
//!
//! Facts lie below every snapshot. Building one looks them up and changes none: what is new is its own until it is
//! [registered](super::Snapshot), on coming into force. What a snapshot wants of them (lifetimes,
//! capacities) is [applied](Facts::apply) when it comes into force, and when it comes back, and is passed along with each
//! call where it can be.

use std::sync::Arc;
use std::time::Duration;

use super::admission::Admission;
use super::auth_buffer::AuthBuffer;
use super::overload::shedding::Overload;
use super::probe::OwnConnections;
use super::upstream_connections::UpstreamConnections;
use crate::auth::AuthFacts;
use crate::config::Config;
use crate::degrade::{KeptAnswers, Levels};
use crate::limit::LimitFacts;
use crate::observe::{LogHandle, Metrics, Windows};
use crate::primitives::clock::{self, Clock, WallClock};
use crate::rollout::Rollouts;
use crate::tls::TlsFacts;
use crate::upstream::EndpointFacts;

/// Facts of the running process. Made once in `server` and handed down.
pub struct Facts {
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
    /// Bodies that are kept until it is known who sent them.
    pub auth_buffer: Arc<AuthBuffer>,
    /// What is remembered of TLS handshakes.
    pub tls: TlsFacts,
    /// Who is let in when more comes in than can be served.
    pub overload: Overload,
    /// What is known about endpoints.
    pub endpoints: Arc<EndpointFacts>,
    /// How much of its work each route does.
    pub levels: Levels,
    /// Sides of splits that were stopped.
    pub rollouts: Rollouts,
    /// Good answers that are kept for bad times.
    pub kept_answers: KeptAnswers,
    /// What opens connections to upstreams, for each worker.
    pub connections: UpstreamConnections,
    /// The log; `None` in commands that serve nothing.
    pub log: Option<LogHandle>,
    /// Connections this process makes to its own listeners.
    pub own: OwnConnections,
}

impl Facts {
    /// Nothing known yet, but when it began.
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
            auth_buffer: Arc::default(),
            tls: TlsFacts::default(),
            overload: Overload::new(Arc::clone(&metrics.overload)),
            endpoints: Arc::new(EndpointFacts::new(Arc::clone(&metrics))),
            levels: Levels::default(),
            rollouts: Rollouts::default(),
            kept_answers: KeptAnswers::default(),
            connections: UpstreamConnections::default(),
            log,
            own: OwnConnections::default(),
            metrics,
        }
    }

    /// What these configurations want of facts holds: of each bound the largest.
    pub(super) fn apply(&self, configs: &[&Config]) {
        let configs = || configs.iter().copied();
        self.limits.apply(configs().flat_map(Config::every_limit));
        self.auth
            .apply(configs().flat_map(|config| config.auths.values()));
    }

    /// Forgets facts that nobody holds and none of `configs` counts or knows.
    pub(super) fn prune(&self, configs: &[&Config]) {
        let configs = || configs.iter().copied();
        self.limits.prune(configs().flat_map(Config::every_limit));
        self.auth.prune(
            configs().flat_map(|config| config.auths.values()),
            self.clock.now(),
        );
        self.endpoints.prune();
        self.levels.prune();
        self.rollouts.prune();
        self.kept_answers.prune();
        self.metrics.prune();
    }
}
