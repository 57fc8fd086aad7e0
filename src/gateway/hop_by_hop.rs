//! Fields of a request that concern one connection, and what a request for an upgrade says (RFC 9110 §7.6.1, §7.8).

use http::{HeaderMap, HeaderName, HeaderValue, Version, header};
use pingora::http::RequestHeader;
use smallvec::SmallVec;

use super::http1::head::{Framing, Head};

/// Fields of a connection, whether `Connection` names them or not.
static ALWAYS: [HeaderName; 9] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::UPGRADE,
    HeaderName::from_static("http2-settings"),
];
/// What a request is about, or how long it is: nothing that `Connection` could name.
static NEVER: [HeaderName; 3] = [
    header::HOST,
    header::CONTENT_LENGTH,
    header::TRANSFER_ENCODING,
];

/// Removes them.
pub(super) fn strip(headers: &mut HeaderMap) {
    let named: SmallVec<[HeaderName; 4]> = tokens(headers, &header::CONNECTION)
        .filter_map(|token| HeaderName::from_bytes(token).ok())
        .filter(|name| !NEVER.contains(name))
        .collect();
    for name in named.iter().chain(&ALWAYS) {
        headers.remove(name);
    }
}

/// Whether a client asks to go on as a WebSocket (RFC 6455 §4.1). Any other upgrade is left out: nobody here could say
/// where its messages end.
pub(super) fn asks_for_websocket(request: &RequestHeader, head: &Head) -> bool {
    let headers = &request.headers;
    if head.end_to_end || head.version != Version::HTTP_11 || head.framing != Framing::None {
        return false;
    }
    let mut protocols = headers.get_all(header::UPGRADE).iter();
    let (protocol, other) = (protocols.next(), protocols.next());
    let websocket = |value: &HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"websocket");
    protocol.is_some_and(websocket)
        && other.is_none()
        && tokens(headers, &header::CONNECTION).any(|token| token.eq_ignore_ascii_case(b"upgrade"))
}

/// Whether a client of HTTP/1.1 says that it takes trailers (RFC 9110 §10.1.4).
pub(super) fn takes_trailers(headers: &HeaderMap) -> bool {
    tokens(headers, &header::TE).any(|token| token.eq_ignore_ascii_case(b"trailers"))
}

fn tokens<'h>(headers: &'h HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'h [u8]> {
    let values = headers.get_all(name).into_iter();
    values
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .map(<[u8]>::trim_ascii)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_takes_trailers_says_so() {
        let takes = |value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.append(header::TE, HeaderValue::from_static(value));
            takes_trailers(&headers)
        };
        assert!(takes("trailers") && takes("gzip;q=0.5, Trailers"));
        assert!(!takes("gzip") && !takes("trailers;q=0") && !takes(""));
        assert!(!takes_trailers(&HeaderMap::new()));
    }

    #[test]
    fn what_concerns_the_connection_is_removed_and_nothing_else() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            (
                "connection",
                "close, X-Hop, , Host, Content-Length, no token",
            ),
            ("connection", "x-other"),
            ("x-hop", "1"),
            ("x-other", "2"),
            ("x-kept", "3"),
            ("host", "a"),
            ("content-length", "0"),
            ("te", "trailers"),
            ("keep-alive", "timeout=5"),
            ("upgrade", "h2c"),
            ("http2-settings", "AAMAAABk"),
        ] {
            headers.append(name, value.parse().expect("value"));
        }
        strip(&mut headers);
        let mut left: Vec<&str> = headers.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["content-length", "host", "x-kept"]);
    }
}
