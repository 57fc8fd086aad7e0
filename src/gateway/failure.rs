//! What an error of the framework means: for the client a refusal, for the endpoint an outcome.

use pingora::{Error, ErrorSource, ErrorType};

use super::ctx::Ctx;
pub(super) use super::refusals::{deadline, gone, incomplete};
use super::timers::AbortReason;
use super::{refusals, reply};
use crate::filter::{Reason, Refusal};
use crate::observe::stats::RetryCause;

/// What the client is told; [`gone`] when it is not there any more.
pub(super) fn refusal(error: &Error, ctx: &mut Ctx) -> Refusal {
    if let Some(refusal) = ctx.refusal.take() {
        return refusal;
    }
    let fault = ctx.start.as_ref().and_then(|start| start.client.fault());
    match (fault, error.esource()) {
        (Some(AbortReason::Deadline), _) => deadline(),
        (Some(AbortReason::Framing), _) => refusals::malformed(),
        (Some(AbortReason::Incomplete), _) => incomplete(),
        (Some(AbortReason::Paused), _) => refusals::slow(),
        // Who takes nothing for so long is not there.
        (Some(AbortReason::Stalled), _) => gone(),
        (Some(AbortReason::Silence), _) => {
            Refusal::new(Reason::UpstreamTimeout, "the upstream took too long")
        }
        (Some(AbortReason::TooLarge), _) => {
            let route = ctx.route.as_ref();
            refusals::too_large(route.map_or(u64::MAX, |route| route.max_body))
        }
        (Some(AbortReason::Refused), _) => {
            let client = ctx.start.as_ref().map(|start| &start.client);
            let refusal = client.and_then(|client| client.take_body_refusal());
            refusal.unwrap_or_else(reply::internal)
        }
        (None, ErrorSource::Downstream) => match error.etype() {
            ErrorType::ReadTimedout => refusals::slow(),
            ErrorType::InvalidHTTPHeader | ErrorType::HTTPStatus(400) => {
                Refusal::new(Reason::BadRequest, "the request is malformed")
            }
            _ => gone(),
        },
        (None, ErrorSource::Upstream) => upstream(error, ctx),
        (None, _) if cause(error).is_some() => upstream(error, ctx),
        (None, _) => reply::internal(),
    }
}

/// Ends the request with `refusal`.
pub(super) fn refused(ctx: &mut Ctx, refusal: Refusal) -> Box<Error> {
    let status = refusal.reason.status();
    ctx.refusal = Some(refusal);
    Error::create(
        ErrorType::HTTPStatus(status),
        ErrorSource::Internal,
        None,
        None,
    )
}

/// An answer that cannot be passed on.
pub(super) fn invalid(why: &'static str) -> Box<Error> {
    Error::explain(ErrorType::InvalidHTTPHeader, why).into_up()
}

/// A request that has no form in the endpoint's protocol.
pub(super) fn unsendable() -> Box<Error> {
    Error::explain(ErrorType::InternalError, "the request cannot be sent so")
}
/// Whether there was no descriptor left to connect with: nothing that any endpoint could help.
pub(super) fn out_of_descriptors(error: &Error) -> bool {
    const EMFILE: i32 = 24;
    const ENFILE: i32 = 23;
    let cause = error.root_cause().downcast_ref::<std::io::Error>();
    cause.is_some_and(|cause| matches!(cause.raw_os_error(), Some(EMFILE | ENFILE)))
}

fn upstream(error: &Error, ctx: &Ctx) -> Refusal {
    if out_of_descriptors(error) {
        return Refusal::new(Reason::Overloaded, "too much is going on")
            .retry_after(std::time::Duration::from_secs(1));
    }
    let late = ctx
        .forward
        .deadline
        .is_some_and(|deadline| std::time::Instant::now() >= deadline);
    match cause(error) {
        Some(RetryCause::Timeout) if late => deadline(),
        Some(RetryCause::Timeout) => {
            Refusal::new(Reason::UpstreamTimeout, "the upstream took too long")
        }
        Some(RetryCause::Connect) => {
            Refusal::new(Reason::UpstreamConnect, "the upstream cannot be reached")
        }
        Some(RetryCause::Reset) => Refusal::new(Reason::UpstreamReset, "the upstream broke off"),
        Some(RetryCause::Status) | None => Refusal::new(
            Reason::UpstreamInvalid,
            "the upstream's answer is not valid",
        ),
    }
}

/// What a failure of a try means, when it is the last.
pub(super) fn reason(cause: Option<RetryCause>) -> Reason {
    match cause {
        Some(RetryCause::Timeout) => Reason::UpstreamTimeout,
        Some(RetryCause::Connect) => Reason::UpstreamConnect,
        Some(RetryCause::Reset) => Reason::UpstreamReset,
        Some(RetryCause::Status) | None => Reason::UpstreamInvalid,
    }
}

/// What kind of failure it is; `None` for an answer that makes no sense.
pub(super) fn cause(error: &Error) -> Option<RetryCause> {
    match error.etype() {
        ErrorType::ConnectTimedout | ErrorType::TLSHandshakeTimedout => Some(RetryCause::Timeout),
        ErrorType::ReadTimedout | ErrorType::WriteTimedout => Some(RetryCause::Timeout),
        ErrorType::ConnectRefused
        | ErrorType::ConnectNoRoute
        | ErrorType::ConnectError
        | ErrorType::ConnectProxyFailure
        | ErrorType::TLSHandshakeFailure
        | ErrorType::TLSWantX509Lookup
        | ErrorType::HandshakeError
        | ErrorType::InvalidCert
        | ErrorType::BindError
        | ErrorType::SocketError
        | ErrorType::H2Downgrade => Some(RetryCause::Connect),
        ErrorType::ReadError
        | ErrorType::WriteError
        | ErrorType::ConnectionClosed
        | ErrorType::H2Error => Some(RetryCause::Reset),
        _ => None,
    }
}
