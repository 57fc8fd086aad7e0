//! Why we say no: one closed list, the same word for the client, the log, the metric and `explain`.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use super::reply::Reply;

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $status:literal $code:literal $title:literal),+ $(,)?) => {
        /// Every reason, with its status and code.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Reason { $($(#[$doc])* $name),+ }

        impl Reason {
            /// All of them, by status.
            pub const ALL: &'static [Reason] = &[$(Reason::$name),+];

            /// The HTTP status that carries it.
            pub const fn status(self) -> u16 {
                match self { $(Self::$name => $status),+ }
            }

            /// The stable word for it.
            pub const fn code(self) -> &'static str {
                match self { $(Self::$name => $code),+ }
            }

            /// A short title for people.
            pub const fn title(self) -> &'static str {
                match self { $(Self::$name => $title),+ }
            }
        }
    };
}

reasons! {
    /// Malformed request.
    BadRequest = 400 "bad_request" "Bad request",
    /// The path has no single meaning.
    PathAmbiguous = 400 "path_ambiguous" "Ambiguous path",
    /// `Host` is missing, malformed or contradicts the target.
    HostInvalid = 400 "host_invalid" "Invalid host",
    /// Two signature schemes at once.
    SigConflict = 400 "sig_conflict" "Conflicting signatures",
    /// No token where one is required.
    TokenMissing = 401 "token_missing" "Token missing",
    /// The token does not hold.
    TokenInvalid = 401 "token_invalid" "Token invalid",
    /// The token's time is over.
    TokenExpired = 401 "token_expired" "Token expired",
    /// The token's time has not come.
    TokenNotYetValid = 401 "token_not_yet_valid" "Token not yet valid",
    /// No signature where one is required.
    SigMissing = 401 "sig_missing" "Signature missing",
    /// The signature does not hold.
    SigInvalid = 401 "sig_invalid" "Signature invalid",
    /// The signature's time stamp is outside the allowed skew.
    SigExpired = 401 "sig_expired" "Signature expired",
    /// The nonce was used before.
    SigReplayed = 401 "sig_replayed" "Request replayed",
    /// The body is not the one that was signed.
    BodyDigest = 401 "body_digest" "Body digest mismatch",
    /// A required claim is absent or has another value.
    ClaimsDenied = 403 "claims_denied" "Not allowed by claims",
    /// The address may not use this route.
    IpDenied = 403 "ip_denied" "Address not allowed",
    /// The application may not call from this address.
    AppDenied = 403 "app_denied" "Application not allowed",
    /// No route takes the request.
    RouteNotFound = 404 "route_not_found" "No such route",
    /// Only the method stands between the request and a route.
    MethodNotAllowed = 405 "method_not_allowed" "Method not allowed",
    /// The client took too long.
    RequestTimeout = 408 "request_timeout" "Request timed out",
    /// The body is longer than the route takes.
    BodyTooLarge = 413 "body_too_large" "Body too large",
    /// The request target is too long.
    UriTooLong = 414 "uri_too_long" "URI too long",
    /// An `Expect` we do not know.
    ExpectationFailed = 417 "expectation_failed" "Expectation failed",
    /// The request is for another host than the connection.
    MisdirectedRequest = 421 "misdirected_request" "Misdirected request",
    /// A rate limit is reached.
    RateLimited = 429 "rate_limited" "Too many requests",
    /// Too many requests at once.
    ConcurrencyLimited = 429 "concurrency_limited" "Too many requests at once",
    /// The header fields are too large or too many.
    HeadersTooLarge = 431 "headers_too_large" "Headers too large",
    /// The client left before it was answered, or within its answer. Nobody is told; the status stands in records alone.
    ClientGone = 499 "client_gone" "Client closed request",
    /// Something is wrong with us.
    Internal = 500 "internal" "Internal error",
    /// A transfer coding we do not know.
    NotImplemented = 501 "not_implemented" "Not implemented",
    /// No connection to the upstream.
    UpstreamConnect = 502 "upstream_connect" "Upstream unreachable",
    /// The upstream broke off.
    UpstreamReset = 502 "upstream_reset" "Upstream broke off",
    /// The upstream's answer is no valid HTTP.
    UpstreamInvalid = 502 "upstream_invalid" "Upstream answer invalid",
    /// The upstream's answer is longer than the route lets through.
    AnswerTooLarge = 502 "answer_too_large" "Upstream answer too large",
    /// No endpoint is usable.
    NoEndpoint = 503 "no_endpoint" "No usable endpoint",
    /// The circuit breaker is open.
    BreakerOpen = 503 "breaker_open" "Upstream suspended",
    /// More than we can serve.
    Overloaded = 503 "overloaded" "Overloaded",
    /// The route is closed for the time being.
    Maintenance = 503 "maintenance" "Under maintenance",
    /// An operator switched the route off.
    RouteOff = 503 "route_off" "Route switched off",
    /// We are about to stop.
    Draining = 503 "draining" "Shutting down",
    /// The upstream took too long.
    UpstreamTimeout = 504 "upstream_timeout" "Upstream timed out",
    /// Neither side of a tunnel said anything for too long, or one of them took nothing.
    TunnelTimeout = 504 "tunnel_timeout" "Tunnel timed out",
    /// The whole exchange took too long.
    DeadlineExceeded = 504 "deadline_exceeded" "Deadline exceeded",
    /// A version of HTTP we do not speak.
    VersionNotSupported = 505 "version_not_supported" "HTTP version not supported",
}

impl Reason {
    /// The status of gRPC that it amounts to, by the published mapping of HTTP statuses (gRPC's
    /// `http-grpc-status-mapping`); `UNKNOWN` where that says nothing.
    pub const fn grpc_status(self) -> u8 {
        match self.status() {
            400 => 13,
            401 => 16,
            403 => 7,
            404 => 12,
            429 | 502..=504 => 14,
            _ => 2,
        }
    }
}

/// A reason with what the client is told besides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Why.
    pub reason: Reason,
    /// A sentence that helps the caller and tells an attacker nothing.
    pub detail: Cow<'static, str>,
    /// What the log and `explain` say besides, for the operator. The client is never told.
    pub cause: Option<&'static str>,
    /// When to come back, for 429 and 503.
    pub retry_after: Option<Duration>,
    /// `WWW-Authenticate`, for 401.
    pub challenge: Option<&'static str>,
    /// `Allow`, for 405.
    pub allow: Option<String>,
    /// What is sent in place of the usual body.
    pub answer: Option<Arc<Reply>>,
}

impl Refusal {
    /// A refusal with its sentence.
    pub fn new(reason: Reason, detail: impl Into<Cow<'static, str>>) -> Self {
        Self {
            reason,
            detail: detail.into(),
            cause: None,
            retry_after: None,
            challenge: None,
            allow: None,
            answer: None,
        }
    }

    /// Tells the operator more.
    #[must_use]
    pub fn cause(mut self, cause: &'static str) -> Self {
        self.cause = Some(cause);
        self
    }

    /// Tells the client when to come back.
    #[must_use]
    pub fn retry_after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }

    /// Tells the client how to prove who it is.
    #[must_use]
    pub fn challenge(mut self, scheme: &'static str) -> Self {
        self.challenge = Some(scheme);
        self
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn codes_are_distinct() {
        let codes: HashSet<_> = Reason::ALL.iter().map(|reason| reason.code()).collect();
        assert_eq!(codes.len(), Reason::ALL.len());
    }

    #[test]
    fn grpc_has_a_status_for_each() {
        for (reason, status) in [
            (Reason::BadRequest, 13),
            (Reason::TokenMissing, 16),
            (Reason::IpDenied, 7),
            (Reason::RouteNotFound, 12),
            (Reason::MethodNotAllowed, 2),
            (Reason::BodyTooLarge, 2),
            (Reason::RateLimited, 14),
            (Reason::Internal, 2),
            (Reason::UpstreamReset, 14),
            (Reason::Overloaded, 14),
            (Reason::DeadlineExceeded, 14),
        ] {
            assert_eq!(reason.grpc_status(), status, "{reason:?}");
        }
    }
}
