//! What an error of the framework means: for the client a refusal, for the endpoint an outcome.

use pingora::{Error, ErrorSource, ErrorType};

use super::ctx::Ctx;
use super::timers::Fault;
use super::{chain, reply};
use crate::filter::{Reason, Refusal};
use crate::observe::stats::RetryCause;

/// What the client is told; [`gone`] when it is not there any more.
pub(super) fn refusal(error: &Error, ctx: &mut Ctx) -> Refusal {
    if let Some(refusal) = ctx.refusal.take() {
        return refusal;
    }
    let fault = ctx.start.as_ref().and_then(|start| start.client.fault());
    match (fault, error.esource()) {
        (Some(Fault::Deadline), _) => deadline(),
        (Some(Fault::Framing), _) => Refusal::new(Reason::BadRequest, "the body is malformed"),
        (Some(Fault::Incomplete), _) => incomplete(),
        (Some(Fault::Paused), _) => Refusal::new(Reason::RequestTimeout, "the body took too long"),
        // Who takes nothing for so long is not there.
        (Some(Fault::Stalled), _) => gone(),
        (Some(Fault::Silence), _) => {
            Refusal::new(Reason::UpstreamTimeout, "the upstream took too long")
        }
        (Some(Fault::TooLarge), _) => {
            let route = ctx.route.as_ref();
            chain::too_large(route.map_or(u64::MAX, |route| route.max_body))
        }
        (None, ErrorSource::Downstream) => match error.etype() {
            ErrorType::ReadTimedout => {
                Refusal::new(Reason::RequestTimeout, "the body took too long")
            }
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

/// What stands in records of a client that left. It is told nothing.
pub(super) fn gone() -> Refusal {
    Refusal::new(Reason::ClientGone, "the client left")
}

/// The refusal of a body that ended before its end.
pub(super) fn incomplete() -> Refusal {
    Refusal::new(Reason::BadRequest, "the body is incomplete")
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

/// The refusal of an exchange whose time is over.
pub(super) fn deadline() -> Refusal {
    Refusal::new(Reason::DeadlineExceeded, "the request took too long")
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
