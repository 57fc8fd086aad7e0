//! Who answers in place of a route's upstream, built from its settings. How a request comes to that is in
//! [`fallback`](super::fallback).

use std::sync::Arc;

use http::{HeaderName, HeaderValue};

use super::facts::Facts;
use super::parts::Parts;
use crate::config::{self, Auth, FallbackCause, FallbackOn};
use crate::degrade::LastGood;
use crate::filter::{Reason, Reply};
use crate::observe::rollouts::{FallbackCalled, FallbackKind};
use crate::transform;
use crate::upstream::Pool;

/// Fallback of a route: who answers when the upstream cannot.
pub struct Fallback {
    on: FallbackOn,
    pub(super) upstream: Option<Arc<Pool>>,
    pub(super) last_good: Option<Arc<LastGood>>,
    pub(super) fixed: Option<Arc<Reply>>,
}

impl Fallback {
    /// The fallback of a route; `headers` are those of its fixed answer, with their values read.
    pub(super) fn new(
        route: &config::Route,
        settings: &config::Fallback,
        headers: &[(HeaderName, HeaderValue)],
        parts: &Parts<'_>,
        facts: &Facts,
    ) -> Self {
        let upstream = settings.upstream.as_ref();
        let fixed = settings.fixed.as_ref().map(|(respond, _)| {
            let mut reply = transform::reply(respond);
            if let Some(reply) = Arc::get_mut(&mut reply) {
                for (name, value) in headers {
                    reply.headers.retain(|(own, _)| own != name);
                    reply.headers.push((name.clone(), value.clone()));
                }
            }
            reply
        });
        // Whatever makes another answer of the same request makes what was kept worthless.
        let identity = || {
            format!(
                "{:?} {:?} {:?}",
                route.matching.path.to_string(),
                route.action,
                route
                    .access
                    .auth
                    .iter()
                    .map(|name| (name, parts.auths.get(name).map(authority)))
                    .collect::<Vec<_>>()
            )
        };
        let last_good = settings.last_good.as_ref();
        Self {
            on: settings.on.clone(),
            upstream: upstream.map(|name| Arc::clone(&parts.pools[name])),
            last_good: last_good
                .map(|settings| facts.kept_answers.route(&route.name, settings, &identity())),
            fixed,
        }
    }

    /// Good answers that are kept.
    pub(super) fn kept(&self) -> Option<&LastGood> {
        self.last_good.as_deref()
    }

    /// Whether good answers are kept.
    pub(super) fn keeps(&self) -> bool {
        self.last_good.is_some()
    }

    /// What there is, in the order of use, for `explain` and the API.
    pub fn kinds(&self) -> Vec<&'static str> {
        let kinds = [
            (FallbackKind::Upstream, self.upstream.is_some()),
            (FallbackKind::LastGood, self.last_good.is_some()),
            (FallbackKind::Fixed, self.fixed.is_some()),
        ];
        let there = kinds.into_iter().filter(|(_, there)| *there);
        there.map(|(kind, _)| kind.as_str()).collect()
    }

    /// The upstream that answers in place of the route's own.
    pub(super) fn pool(&self) -> Option<&Pool> {
        self.upstream.as_deref()
    }

    /// The name of the other upstream.
    pub fn upstream(&self) -> Option<&str> {
        self.upstream
            .as_ref()
            .map(|pool| pool.settings().name.as_str())
    }

    /// How many answers are kept, and their bytes.
    pub fn held(&self) -> Option<(usize, usize)> {
        self.last_good.as_ref().map(|kept| kept.held())
    }

    /// Who answers at the level of the fallback: another upstream, or an answer with this status.
    pub(super) fn explain(&self) -> (Option<Arc<Pool>>, Option<u16>) {
        let fixed = self.fixed.as_ref().map(|reply| reply.status.as_u16());
        let kept = self.last_good.as_ref().map(|_| 200);
        (self.upstream.clone(), kept.or(fixed))
    }

    /// Whether what happened calls for it.
    pub(super) fn wants(&self, called: FallbackCalled) -> bool {
        match called {
            FallbackCalled::Level => true,
            FallbackCalled::Status(status) => self.on.statuses.contains(&status),
            FallbackCalled::Refused(reason) => {
                let cause = cause(reason);
                cause.is_some_and(|cause| self.on.causes.contains(&cause))
                    || (is_of_upstream(reason) && self.on.statuses.contains(&reason.status()))
            }
        }
    }
}

/// Who says who a caller is. Another issuer may give the same names to others.
fn authority(auth: &Auth) -> String {
    match auth {
        Auth::Jwt(jwt) => format!("{:?} {:?} {:?}", jwt.issuer, jwt.audience, jwt.key),
        Auth::Signature(_) => "signature".to_owned(),
    }
}

/// What may call for a fallback.
fn cause(reason: Reason) -> Option<FallbackCause> {
    match reason {
        Reason::BreakerOpen => Some(FallbackCause::Breaker),
        // The last endpoint is never put aside; that it takes no connection comes to the same.
        Reason::NoEndpoint | Reason::UpstreamConnect => Some(FallbackCause::NoEndpoint),
        Reason::DeadlineExceeded => Some(FallbackCause::Deadline),
        Reason::Overloaded => Some(FallbackCause::Overloaded),
        Reason::UpstreamReset => Some(FallbackCause::Reset),
        Reason::UpstreamTimeout => Some(FallbackCause::Timeout),
        _ => None,
    }
}

/// Whether the refusal is about the upstream, not about the client or ourselves.
pub(super) fn is_of_upstream(reason: Reason) -> bool {
    cause(reason).is_some() || matches!(reason, Reason::UpstreamInvalid | Reason::AnswerTooLarge)
}
