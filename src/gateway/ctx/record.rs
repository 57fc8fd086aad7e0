//! The end of a request: its one record, whoever or whatever ends it.

use std::sync::Arc;
use std::time::Instant;

use http::{HeaderMap, header};
use smallvec::SmallVec;

use super::Ctx;
use crate::filter::Reason;
use crate::gateway::client::Moved;
use crate::gateway::judged::{self, Tells};
use crate::gateway::timers::AbortReason;
use crate::gateway::{failure, overload, policy, reply};
use crate::observe::{Internal, LogHandle, Record, Try};

impl Ctx {
    /// Writes the record of a request that was served; `headers` are its own.
    pub(in crate::gateway) fn finish(&mut self, headers: &HeaderMap) {
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
    pub(in crate::gateway) fn record(&mut self, moved: Moved, headers: Option<&HeaderMap>) {
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
        let failover = self.policy.failover.as_ref();
        if let Some(reason) = reason.filter(|_| failover.is_none()) {
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
                fallback: failover.map(|failover| (failover.kind.as_str(), failover.called)),
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
            let overdue = client.fault() == Some(AbortReason::Deadline);
            let refusal = if std::thread::panicking() {
                Some(reply::internal())
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
