//! The head of an answer, whoever read or made it.

use bytes::Bytes;
use http::{HeaderName, HeaderValue, StatusCode};
use pingora::http::{HeaderNameVariant, ResponseHeader};

/// Fields of most answers: room for them spares a later move.
const USUAL: usize = 16;

/// A head that cannot be passed on, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct InvalidHead(pub(crate) &'static str);

/// The head of an answer, whoever parsed it.
pub(crate) trait AnswerHead {
    /// Status of the answer.
    fn status(&self) -> u16;
    /// Reason phrase of the answer.
    fn reason(&self) -> &str;
    /// Shows each field in turn.
    fn each(&self, show: impl FnMut(&[u8], &[u8]));
    /// The head as a map, to be changed.
    fn into_header(self) -> Result<ResponseHeader, InvalidHead>
    where
        Self: Sized,
    {
        to_header(&self)
    }
}

/// The map of a head that is none.
pub(crate) fn to_header(head: &impl AnswerHead) -> Result<ResponseHeader, InvalidHead> {
    const MALFORMED: InvalidHead = InvalidHead("the answer's head is malformed");
    let status = StatusCode::from_u16(head.status())
        .map_err(|_| InvalidHead("the answer's status is none"))?;
    let mut map = ResponseHeader::build(status, Some(USUAL)).map_err(|_| MALFORMED)?;
    map.set_reason_phrase(Some(head.reason()))
        .map_err(|_| MALFORMED)?;
    let mut result = Ok(());
    head.each(|name, value| {
        let value = HeaderValue::from_maybe_shared(Bytes::copy_from_slice(value));
        let name = String::from_utf8_lossy(name).into_owned();
        let added = match (HeaderName::from_bytes(name.as_bytes()), value) {
            (Ok(_), Ok(value)) => map.append_header(name, value).is_ok(),
            _ => false,
        };
        if !added {
            result = Err(MALFORMED);
        }
    });
    result.map(|()| map)
}

impl AnswerHead for &ResponseHeader {
    fn status(&self) -> u16 {
        AnswerHead::status(*self)
    }

    fn reason(&self) -> &str {
        AnswerHead::reason(*self)
    }

    fn each(&self, show: impl FnMut(&[u8], &[u8])) {
        AnswerHead::each(*self, show);
    }

    fn into_header(self) -> Result<ResponseHeader, InvalidHead> {
        Ok(self.clone())
    }
}

impl AnswerHead for ResponseHeader {
    fn status(&self) -> u16 {
        self.status.as_u16()
    }

    fn reason(&self) -> &str {
        self.get_reason_phrase().unwrap_or_default()
    }

    fn each(&self, mut show: impl FnMut(&[u8], &[u8])) {
        let _ = self.map(|name, value| {
            match name {
                HeaderNameVariant::Case(name) => show(name.as_slice(), value.as_bytes()),
                HeaderNameVariant::Titled(name) => show(name.as_bytes(), value.as_bytes()),
            }
            Ok(())
        });
    }

    fn into_header(self) -> Result<ResponseHeader, InvalidHead> {
        Ok(self)
    }
}

/// Whether an answer has no body whatever its fields say (RFC 9112 §6.3).
pub(crate) fn has_no_body(status: u16, head_only: bool) -> bool {
    head_only || status < 200 || matches!(status, 204 | 304)
}

/// Whether an answer may have this status (RFC 9110 §15).
pub(crate) fn is_status(status: u16) -> bool {
    (100..600).contains(&status)
}

/// Whether a field is one by which the gateway speaks of itself: what an upstream says there is left out.
pub(crate) fn is_ours(name: &[u8]) -> bool {
    name.len() == 10 && name.eq_ignore_ascii_case(b"x-fallback")
}
