//! What is said about heads that cannot be served.

use crate::config::ClientLimits;
use crate::filter::{Reason, Refusal};

pub(crate) fn uri_too_long(limits: &ClientLimits) -> Refusal {
    Refusal::new(
        Reason::UriTooLong,
        format!("the request target may have {} bytes", limits.max_uri),
    )
}

pub(crate) fn headers_too_large(limits: &ClientLimits) -> Refusal {
    let (bytes, fields) = (limits.max_header_bytes, limits.max_headers);
    Refusal::new(
        Reason::HeadersTooLarge,
        format!("the header may have {bytes} bytes in {fields} fields"),
    )
}

pub(crate) fn bad(detail: &'static str) -> Refusal {
    Refusal::new(Reason::BadRequest, detail)
}

pub(crate) fn host_invalid(detail: &'static str) -> Refusal {
    Refusal::new(Reason::HostInvalid, detail)
}

pub(crate) fn two_hosts() -> Refusal {
    host_invalid("Host and the request target name different hosts")
}

pub(crate) fn only_continue() -> Refusal {
    Refusal::new(
        Reason::ExpectationFailed,
        "only 100-continue can be expected",
    )
}

/// The refusal of CONNECT and TRACE.
pub(crate) fn never_served() -> Refusal {
    let mut refusal = Refusal::new(Reason::MethodNotAllowed, "this method is never served");
    refusal.allow = Some("GET, HEAD, POST, PUT, DELETE, PATCH, OPTIONS".to_owned());
    refusal
}
