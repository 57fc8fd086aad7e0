//! How long the body of an answer is, and how its end is told to a client.

use http::{Version, header};
use pingora::http::ResponseHeader;

use super::head::has_no_body;

/// How long the body of an answer is, as whoever makes it says before it comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BodySize {
    /// There is none, whatever length the head tells: that is another answer's (HEAD, 304).
    Absent,
    /// So many bytes.
    Exactly(u64),
    /// A body whose end will be told.
    Unknown,
    /// A body that ends with its connection: whether it came whole nobody can tell.
    UntilClose,
}

impl BodySize {
    /// What the fields of a head say, in a message that has a body.
    pub(crate) fn of(head: &ResponseHeader) -> Self {
        if head.headers.contains_key(header::TRANSFER_ENCODING) {
            return Self::Unknown;
        }
        let length = head.headers.get(header::CONTENT_LENGTH);
        length
            .and_then(|value| value.to_str().ok()?.parse().ok())
            .map_or(Self::Unknown, Self::Exactly)
    }
}

/// How the body of an answer is delimited (RFC 9112 §6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BodyFraming {
    /// No body.
    Absent,
    /// So many bytes.
    Length(u64),
    /// Chunks; over HTTP/2 frames, which need no more.
    Chunked,
    /// By the end of the connection.
    Close,
}

impl BodyFraming {
    /// How a body of this size is sent with this status to a client that speaks `version`, and asked for the head only or
    /// not.
    pub(crate) fn of(status: u16, size: BodySize, version: Version, head_only: bool) -> Self {
        if status == 101 {
            return Self::Close;
        }
        if has_no_body(status, head_only) {
            return Self::Absent;
        }
        match size {
            // The stream ends with its head; elsewhere an end has to be told.
            BodySize::Absent if version == Version::HTTP_2 => Self::Absent,
            BodySize::Absent => Self::Length(0),
            BodySize::Exactly(length) => Self::Length(length),
            _ if version == Version::HTTP_10 => Self::Close,
            BodySize::Unknown | BodySize::UntilClose => Self::Chunked,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HTTP_11: Version = Version::HTTP_11;

    #[test]
    fn delimits_as_the_client_understands() {
        let of = BodyFraming::of;
        let seven = BodySize::Exactly(7);
        assert_eq!(of(200, seven, HTTP_11, false), BodyFraming::Length(7));
        assert_eq!(of(200, seven, HTTP_11, true), BodyFraming::Absent);
        assert_eq!(of(304, seven, HTTP_11, false), BodyFraming::Absent);
        assert_eq!(of(204, seven, HTTP_11, false), BodyFraming::Absent);
        for size in [BodySize::Unknown, BodySize::UntilClose] {
            assert_eq!(of(200, size, HTTP_11, false), BodyFraming::Chunked);
            assert_eq!(of(200, size, Version::HTTP_10, false), BodyFraming::Close);
            assert_eq!(of(101, size, HTTP_11, false), BodyFraming::Close);
        }
    }

    #[test]
    fn a_body_that_is_absent_ends_where_the_client_can_see_it() {
        let of = |version| BodyFraming::of(200, BodySize::Absent, version, false);
        assert_eq!(of(Version::HTTP_2), BodyFraming::Absent);
        assert_eq!(of(HTTP_11), BodyFraming::Length(0));
        assert_eq!(of(Version::HTTP_10), BodyFraming::Length(0));
    }

    #[test]
    fn a_size_is_what_the_fields_say() {
        let head = |name: &'static str, value: &'static str| {
            let mut head = ResponseHeader::build(200, None).expect("head");
            head.append_header(name, value).expect("field");
            head
        };
        let of = |name, value| BodySize::of(&head(name, value));
        assert_eq!(of("Content-Length", "7"), BodySize::Exactly(7));
        assert_eq!(of("Content-Length", "x"), BodySize::Unknown);
        assert_eq!(of("Transfer-Encoding", "chunked"), BodySize::Unknown);
        assert_eq!(of("X-Other", "7"), BodySize::Unknown);
    }
}
