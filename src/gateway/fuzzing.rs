//! Heads and forwarding fields of any bytes, see `src/fuzzing.rs`.

use std::net::IpAddr;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderValue;
use pingora::http::RequestHeader;

use super::decide;
use super::http1::body::BodyDecoder;
use super::http1::head::{Head, Scan, parse, scan};
use crate::config::ClientLimits;
use crate::primitives::ranges::AddressRanges;

pub(super) const LIMITS: ClientLimits = ClientLimits {
    header_timeout: Duration::from_secs(1),
    body_timeout: Duration::from_secs(1),
    write_timeout: Duration::from_secs(1),
    longest_byte: Duration::ZERO,
    keepalive_timeout: Duration::from_secs(1),
    keepalive_requests: 1,
    max_header_bytes: 2048,
    max_headers: 20,
    max_uri: 512,
    max_body: 0,
    max_connections: 1,
    max_connections_per_ip: 1,
    linger_body: 0,
    half_close: false,
};

/// The head that `bytes` begin with, and how long it is, if it is one.
pub(super) fn read(bytes: &[u8]) -> Option<(usize, Box<RequestHeader>, Head)> {
    let Scan::Whole(length) = scan(bytes, 0, &LIMITS) else {
        return None;
    };
    let (request, head) = parse(&Bytes::copy_from_slice(&bytes[..length]), &LIMITS).ok()?;
    Some((length, request, head))
}

/// A head means what its lines say, and ends at the same byte however it comes; so does the body that it announces.
pub fn head(bytes: &[u8]) {
    ends_once(bytes);
    let Some((length, request, head)) = read(bytes) else {
        return;
    };
    let text = String::from_utf8_lossy(&bytes[..length]).to_ascii_lowercase();
    let both = text.contains("\ncontent-length:") && text.contains("\ntransfer-encoding:");
    assert!(!both, "{text:?}");
    assert!(request.headers.len() <= LIMITS.max_headers);
    for (name, value) in &request.headers {
        let unfit = |byte: &u8| matches!(byte, b'\r' | b'\n' | 0);
        assert!(!value.as_bytes().iter().any(unfit), "{value:?}");
        let line = format!("\r\n{name}:");
        assert!(text.contains(&line), "{name} of {text:?}");
    }
    assert!(!request.raw_path().iter().any(u8::is_ascii_whitespace));
    body(BodyDecoder::new(head.framing), &bytes[length..]);
}

fn ends_once(bytes: &[u8]) {
    let Scan::Whole(whole) = scan(bytes, 0, &LIMITS) else {
        return;
    };
    for cut in 0..bytes.len() {
        match scan(&bytes[..cut], cut.saturating_sub(1), &LIMITS) {
            Scan::Whole(length) => {
                assert_eq!(length, whole);
                break;
            }
            Scan::TooLong(_) => break,
            Scan::Partial => assert!(cut < whole, "{cut} of {whole}"),
        }
    }
}

/// In one piece and byte by byte.
fn body(guard: BodyDecoder, bytes: &[u8]) {
    let (mut at_once, mut by_byte) = (guard, guard);
    let (mut payload, mut pieces) = (Vec::new(), Vec::new());
    let whole = at_once.admit(bytes, |data| payload.extend_from_slice(data));
    let mut taken = Ok(0);
    for byte in bytes.chunks(1) {
        let more = by_byte.admit(byte, |data| pieces.extend_from_slice(data));
        taken = taken.and_then(|taken| more.map(|more| taken + more));
    }
    assert_eq!(whole, taken);
    assert_eq!(at_once, by_byte);
    assert!(payload.len() <= bytes.len() && whole.is_err() || payload == pieces);
}

fn client(field: &[u8], peer: IpAddr) -> IpAddr {
    let trusted = AddressRanges::new(vec![AddressRanges::parse_one("10.0.0.0/8").expect("range")]);
    let mut head = RequestHeader::build("GET", b"/", None).expect("head");
    for line in field.split(|byte| *byte == b'\n') {
        if let Ok(value) = HeaderValue::from_bytes(line) {
            head.append_header("x-forwarded-for", value).expect("field");
        }
    }
    decide::client_ip(peer, &trusted, &head)
}

/// Whom the field names is believed of a trusted proxy alone; and whoever it is, the text must say so.
pub fn forwarded_for(field: &[u8]) {
    let (balancer, stranger) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([192, 0, 2, 1]));
    assert_eq!(client(field, stranger), stranger);
    let found = client(field, balancer);
    let text = String::from_utf8_lossy(field);
    let named = text
        .split([',', '\n', ' ', '\t', '[', ']', '%'])
        .filter_map(|word| {
            let address = word.parse::<IpAddr>().ok();
            address.or_else(|| word.rsplit_once(':')?.0.parse().ok())
        })
        .any(|address| address.to_canonical() == found);
    assert!(found == balancer || named, "{found} of {text:?}");
}
