//! The head of an endpoint's answer: is it one that every parser reads alike?
//!
//! What is ambiguous is no answer (attacks.md §1): the client gets a 502 instead, and the connection is not used again.

use std::mem::MaybeUninit;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, StatusCode};
use httparse::Header;
use pingora::http::ResponseHeader;
use smallvec::SmallVec;

use crate::gateway::http1::answer::{AnswerHead, has_no_body};
use crate::gateway::http1::body::BodyGuard;
use crate::gateway::http1::head::{Framing, content_length};

/// Most fields of an answer.
const MOST_FIELDS: usize = 256;
/// Most fields that its `Connection` may name.
const MOST_NOMINATED: usize = 32;
/// Most bytes of its head.
pub(super) const MOST_BYTES: usize = 64 << 10;

/// Room for the fields of an answer.
pub(super) type Room<'b> = [MaybeUninit<Header<'b>>; MOST_FIELDS];

/// Room that nothing was put into yet.
pub(super) fn room<'b>() -> Room<'b> {
    [const { MaybeUninit::uninit() }; MOST_FIELDS]
}

/// A head that passed.
pub(super) struct Answer<'b> {
    status: u16,
    reason: &'b str,
    fields: &'b [Header<'b>],
    /// Fields that `Connection` names: they concern the endpoint's connection.
    nominated: SmallVec<[&'b [u8]; 2]>,
    length: Option<u64>,
    chunked: bool,
    /// The endpoint will take another request.
    persistent: bool,
    /// It said that it will not.
    closes: bool,
}

/// Why a head is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Invalid(pub(super) &'static str);

impl<'b> Answer<'b> {
    /// Reads a head and says how long it is; `None` while it is not whole.
    pub(super) fn parse(
        bytes: &'b [u8],
        room: &'b mut Room<'b>,
    ) -> Result<Option<(Self, usize)>, Invalid> {
        let mut parsed = httparse::Response::new(&mut []);
        let mut rules = httparse::ParserConfig::default();
        rules.allow_spaces_after_header_name_in_responses(true);
        let length = match rules.parse_response_with_uninit_headers(&mut parsed, bytes, room) {
            Ok(httparse::Status::Complete(length)) => length,
            Ok(httparse::Status::Partial) if bytes.len() > MOST_BYTES => {
                return Err(Invalid("the answer's head is too long"));
            }
            Ok(httparse::Status::Partial) => return Ok(None),
            Err(_) => return Err(Invalid("the answer's head is malformed")),
        };
        let mut answer = Self {
            status: parsed.code.unwrap_or_default(),
            reason: parsed.reason.unwrap_or_default(),
            fields: parsed.headers,
            nominated: SmallVec::new(),
            length: None,
            chunked: false,
            persistent: parsed.version == Some(1),
            closes: false,
        };
        answer.judge(parsed.version == Some(1))?;
        Ok(Some((answer, length)))
    }

    fn judge(&mut self, version_11: bool) -> Result<(), Invalid> {
        const AMBIGUOUS: Invalid = Invalid("the answer's length is ambiguous");
        if !(100..1000).contains(&self.status) {
            return Err(Invalid("the answer's status is none"));
        }
        for field in self.fields {
            let (name, value) = (field.name.as_bytes(), field.value);
            match name.len() {
                14 if name.eq_ignore_ascii_case(b"content-length") => {
                    let length = content_length(value);
                    if self.length.is_some() || self.chunked || length.is_none() {
                        return Err(AMBIGUOUS);
                    }
                    self.length = length;
                }
                17 if name.eq_ignore_ascii_case(b"transfer-encoding") => {
                    let known = value.eq_ignore_ascii_case(b"chunked") && version_11;
                    if self.chunked || self.length.is_some() || !known {
                        return Err(AMBIGUOUS);
                    }
                    self.chunked = true;
                }
                10 if name.eq_ignore_ascii_case(b"connection") => self.connection(value)?,
                _ => {}
            }
        }
        Ok(())
    }

    fn connection(&mut self, value: &'b [u8]) -> Result<(), Invalid> {
        for token in value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
            if token.eq_ignore_ascii_case(b"close") {
                self.closes = true;
            } else if token.eq_ignore_ascii_case(b"keep-alive") {
                self.persistent = true;
            } else if !token.is_empty() && !token.eq_ignore_ascii_case(b"content-length") {
                self.nominated.push(token);
            }
        }
        if self.nominated.len() > MOST_NOMINATED {
            return Err(Invalid("the answer's Connection names too many fields"));
        }
        Ok(())
    }

    /// How the endpoint delimits the body, to be followed as it comes; `Raw`: by the end of the connection.
    pub(super) fn body(&self, head_only: bool) -> BodyGuard {
        if has_no_body(self.status, head_only) {
            return BodyGuard::Done;
        }
        match (self.chunked, self.length) {
            (true, _) => BodyGuard::new(Framing::Chunked),
            (false, Some(0)) => BodyGuard::Done,
            (false, Some(length)) => BodyGuard::Length(length),
            (false, None) => BodyGuard::Raw,
        }
    }

    /// The length of the body where it is known before.
    pub(super) fn length(&self) -> Option<u64> {
        self.length
    }

    /// Whether the endpoint will take another request on this connection.
    pub(super) fn persistent(&self) -> bool {
        self.persistent && !self.closes
    }

    /// The first value of a field.
    pub(super) fn value(&self, name: &str) -> Option<&'b [u8]> {
        let mut fields = self.fields.iter();
        fields
            .find(|field| field.name.eq_ignore_ascii_case(name))
            .map(|field| field.value)
    }

    /// The head as the framework knows it, for filters.
    pub(super) fn to_header(&self) -> Result<ResponseHeader, Invalid> {
        let wrong = |_| Invalid("the answer's head is malformed");
        let status = StatusCode::from_u16(self.status)
            .map_err(|_| Invalid("the answer's status is none"))?;
        let mut head = ResponseHeader::build(status, Some(self.fields.len())).map_err(wrong)?;
        head.set_reason_phrase(Some(self.reason)).map_err(wrong)?;
        let mut result = Ok(());
        self.each(|name, value| {
            let value = HeaderValue::from_maybe_shared(Bytes::copy_from_slice(value));
            let name = String::from_utf8_lossy(name).into_owned();
            let added = match (HeaderName::from_bytes(name.as_bytes()), value) {
                (Ok(_), Ok(value)) => head.append_header(name, value).map_err(wrong),
                _ => Err(Invalid("the answer's head is malformed")),
            };
            result = result.and(added.map(|_| ()));
        });
        result.map(|()| head)
    }
}

impl AnswerHead for Answer<'_> {
    fn status(&self) -> u16 {
        self.status
    }

    fn reason(&self) -> &str {
        self.reason
    }

    fn each(&self, mut show: impl FnMut(&[u8], &[u8])) {
        for field in self.fields {
            let name = field.name.as_bytes();
            let mut nominated = self.nominated.iter();
            if !nominated.any(|nominated| name.eq_ignore_ascii_case(nominated)) {
                show(name, field.value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed<T>(bytes: &[u8], look: impl FnOnce(&Answer<'_>) -> T) -> Result<T, Invalid> {
        let mut room = room();
        let (answer, length) = Answer::parse(bytes, &mut room)?.expect("whole");
        assert_eq!(length, bytes.len());
        Ok(look(&answer))
    }

    fn body(head: &[u8]) -> Result<BodyGuard, Invalid> {
        parsed(head, |answer| answer.body(false))
    }

    #[test]
    fn knows_how_the_body_is_delimited() {
        let chunked = BodyGuard::new(Framing::Chunked);
        for (head, expected) in [
            ("HTTP/1.1 200 OK\r\n\r\n", BodyGuard::Raw),
            ("HTTP/1.1 204 No Content\r\n\r\n", BodyGuard::Done),
            (
                "HTTP/1.1 304 Not Modified\r\nContent-Length: 7\r\n\r\n",
                BodyGuard::Done,
            ),
            (
                "HTTP/1.1 200\r\ncontent-length: 7\r\n\r\n",
                BodyGuard::Length(7),
            ),
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
                BodyGuard::Done,
            ),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n",
                chunked,
            ),
        ] {
            assert_eq!(body(head.as_bytes()), Ok(expected), "{head:?}");
        }
        let head = b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n";
        assert_eq!(
            parsed(head, |answer| answer.body(true)),
            Ok(BodyGuard::Done)
        );
    }

    #[test]
    fn refuses_what_two_parsers_read_differently() {
        for head in [
            "HTTP/1.1 200 OK\r\nContent-Length: 7\r\nTransfer-Encoding: chunked\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 7\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 7\r\nContent-Length: 7\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 7, 7\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: +7\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 007\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 18446744073709551615\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: \r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\n\r\n",
            "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            "HTTP/1.1 200 OK\r\nX: a\r\n folded\r\n\r\n",
            "HTTP/1.1 200 OK\r\nX: a\0b\r\n\r\n",
            "HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
            "HTTP/1.1 099 OK\r\n\r\n",
            "HTTP/2 200 OK\r\n\r\n",
            "ICY 200 OK\r\n\r\n",
        ] {
            assert!(body(head.as_bytes()).is_err(), "{head:?}");
        }
    }

    #[test]
    fn a_head_is_bounded_in_bytes_and_fields() {
        let mut room_a = room();
        let long = [b"HTTP/1.1 200 OK\r\nX: ".to_vec(), vec![b'x'; MOST_BYTES]].concat();
        assert!(Answer::parse(&long, &mut room_a).is_err());
        let many = format!(
            "HTTP/1.1 200 OK\r\n{}\r\n",
            "A: b\r\n".repeat(MOST_FIELDS + 1)
        );
        assert!(body(many.as_bytes()).is_err());
        let mut room_b = room();
        let partial = Answer::parse(b"HTTP/1.1 200 OK\r\nX", &mut room_b);
        assert!(matches!(partial, Ok(None)));
    }

    #[test]
    fn fields_that_connection_names_are_not_shown() {
        let head = b"HTTP/1.1 200 OK\r\nConnection: close, X-Hop\r\nx-hop: 1\r\nX-Kept: 2\r\nContent-Length: 1\r\n\r\n";
        let (names, persistent) = parsed(head, |answer| {
            let mut names = Vec::new();
            answer.each(|name, _| names.push(String::from_utf8_lossy(name).into_owned()));
            (names, answer.persistent())
        })
        .expect("an answer");
        assert_eq!(names, ["Connection", "X-Kept", "Content-Length"]);
        assert!(!persistent);
        let both = b"HTTP/1.1 200 OK\r\nConnection: close, keep-alive\r\n\r\n";
        assert_eq!(parsed(both, |answer| answer.persistent()), Ok(false));
        let many = format!("HTTP/1.1 200 OK\r\nConnection: {}\r\n\r\n", "a,".repeat(33));
        assert!(body(many.as_bytes()).is_err());
        let old = b"HTTP/1.0 200 OK\r\n\r\n";
        assert_eq!(parsed(old, |answer| answer.persistent()), Ok(false));
    }
}
