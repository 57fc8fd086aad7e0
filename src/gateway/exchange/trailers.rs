//! Fields behind a body: which of them may pass.
//!
//! What frames a message, routes it, says who sent it or how to read its content means something before the body and must
//! not be said behind it (RFC 9110 §6.5.1); a field of a connection concerns no further one (RFC 9110 §7.6.1).

use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue};
use smallvec::SmallVec;

use crate::filter::ResponseFilter;
use crate::gateway::message::strip_trailers;

/// Fields of one trailer section. More is nothing that anybody means.
const MOST_FIELDS: usize = 64;

/// A trailer section that is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::gateway) struct Malformed;

/// Reads a trailer section of HTTP/1.1, up to and with its empty line, whose bytes were followed already. `None`: it is
/// empty, or has more fields than anybody means.
pub(in crate::gateway) fn read(section: &[u8]) -> Result<Option<HeaderMap>, Malformed> {
    if section == b"\r\n" {
        return Ok(None);
    }
    let mut room = [httparse::EMPTY_HEADER; MOST_FIELDS];
    let (length, fields) = match httparse::parse_headers(section, &mut room) {
        Ok(httparse::Status::Complete(read)) => read,
        // The body is good without them.
        Err(httparse::Error::TooManyHeaders) => return Ok(None),
        Ok(httparse::Status::Partial) | Err(_) => return Err(Malformed),
    };
    if length != section.len() {
        return Err(Malformed);
    }
    let mut trailers = HeaderMap::with_capacity(fields.len());
    for field in fields {
        let name = HeaderName::from_bytes(field.name.as_bytes()).map_err(|_| Malformed)?;
        let value = HeaderValue::from_bytes(field.value).map_err(|_| Malformed)?;
        trailers.append(name, value);
    }
    Ok(Some(trailers))
}

/// Removes what may not stand behind a body, and what `besides` names. `None`: nothing is left, or there are more fields
/// than anybody means.
pub(in crate::gateway) fn checked(
    mut trailers: HeaderMap,
    besides: impl Fn(&HeaderName) -> bool,
) -> Option<HeaderMap> {
    if trailers.len() > MOST_FIELDS {
        return None;
    }
    strip_trailers(&mut trailers);
    let dropped = trailers.keys().filter(|name| besides(name));
    let dropped: SmallVec<[HeaderName; 2]> = dropped.cloned().collect();
    for name in &dropped {
        trailers.remove(name);
    }
    (!trailers.is_empty()).then_some(trailers)
}

/// Who decides about fields of an answer besides its origin.
pub(in crate::gateway) struct Deciding<'d> {
    /// Filters that its head went through.
    pub(in crate::gateway) filters: &'d [Arc<dyn ResponseFilter>],
    /// The field by which the endpoint reports its load.
    pub(in crate::gateway) load: Option<&'d HeaderName>,
    /// Fields that the head's `Connection` named: they concern no further connection.
    pub(in crate::gateway) nominated: &'d [HeaderName],
}

/// Removes from the trailers of an answer what its head could not have said to the client either.
pub(in crate::gateway) fn of_answer(
    trailers: HeaderMap,
    deciding: &Deciding<'_>,
) -> Option<HeaderMap> {
    checked(trailers, |name| {
        is_gateways(name.as_str())
            || deciding.load == Some(name)
            || deciding.nominated.contains(name)
            || deciding.filters.iter().any(|filter| filter.decides(name))
    })
}

/// Whether a field of an answer is one by which the gateway speaks of itself, or a browser is told what it may do.
fn is_gateways(name: &str) -> bool {
    match name.as_bytes().first() {
        Some(b'a') => name.starts_with("access-control-"),
        Some(b'r') => name == "ratelimit" || name.starts_with("ratelimit-"),
        Some(b's') => name == "server",
        Some(b'x') => name == "x-trace-id" || name.starts_with("x-ratelimit-"),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(trailers: Option<HeaderMap>) -> Vec<String> {
        let trailers = trailers.unwrap_or_default();
        let mut names: Vec<_> = trailers.keys().map(ToString::to_string).collect();
        names.sort();
        names
    }

    #[test]
    fn a_section_is_read_as_its_fields() {
        assert_eq!(read(b"\r\n"), Ok(None));
        let section = b"Grpc-Status: 0\r\nx-sum:  a b \r\nX-Sum: c\r\n\r\n";
        let trailers = read(section).expect("a section").expect("fields");
        assert_eq!(trailers["grpc-status"], "0");
        let sums: Vec<_> = trailers.get_all("x-sum").iter().collect();
        assert_eq!(sums, ["a b", "c"]);
        for section in [
            &b"a: b\r\n"[..],
            b"a : b\r\n\r\n",
            b": b\r\n\r\n",
            b"a: b\r\n\r\nmore",
        ] {
            assert_eq!(read(section), Err(Malformed), "{section:?}");
        }
        let many = [b"a: b\r\n".repeat(MOST_FIELDS + 1), b"\r\n".to_vec()].concat();
        assert_eq!(read(&many), Ok(None));
    }

    #[test]
    fn what_means_something_before_the_body_does_not_stand_behind_it() {
        let mut trailers = HeaderMap::new();
        for name in ["host", "authorization", "x-fallback", "x-kept", "x-besides"] {
            let name: HeaderName = name.parse().expect("a name");
            trailers.append(name, HeaderValue::from_static("v"));
        }
        let left = checked(trailers, |name| *name == "x-besides");
        assert_eq!(names(left), ["x-kept"]);
    }

    #[test]
    fn nothing_is_left_of_a_flood() {
        let mut trailers = HeaderMap::new();
        for number in 0..=MOST_FIELDS {
            let name: HeaderName = format!("x-{number}").parse().expect("a name");
            trailers.append(name, HeaderValue::from_static("v"));
        }
        assert_eq!(checked(trailers, |_| false), None);
    }
}
