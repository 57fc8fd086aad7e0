//! Heads and addresses of the corpus, see [`crate::primitives::corpus`].

use std::net::IpAddr;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderValue;
use pingora::http::RequestHeader;
use proptest::prelude::*;

use super::decide;
use super::http1::head::{Scan, parse, scan};
use crate::config::ClientLimits;
use crate::primitives::corpus::{changed, entries, replay};
use crate::primitives::ranges::AddressRanges;

const LIMITS: ClientLimits = ClientLimits {
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
};

/// The head that `bytes` begin with, and how long it is, if it is one.
fn read(bytes: &[u8]) -> Option<(usize, Box<RequestHeader>)> {
    let Scan::Whole(length) = scan(bytes, 0, &LIMITS) else {
        return None;
    };
    let head = parse(&Bytes::copy_from_slice(&bytes[..length]), &LIMITS).ok()?;
    Some((length, head.0))
}

#[test]
fn heads_of_the_corpus() {
    replay("head", |bytes| read(bytes).is_some());
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
fn check_client(field: &[u8]) {
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

#[test]
fn addresses_of_the_corpus() {
    for (_, field) in entries("forwarded-for") {
        check_client(&field);
    }
}

proptest! {
    #[test]
    fn a_head_means_what_its_lines_say(bytes in changed("head")) {
        if let Some((length, head)) = read(&bytes) {
            let text = String::from_utf8_lossy(&bytes[..length]).to_ascii_lowercase();
            let both = text.contains("\ncontent-length:") && text.contains("\ntransfer-encoding:");
            prop_assert!(!both);
            prop_assert!(head.headers.len() <= LIMITS.max_headers);
            for (name, value) in &head.headers {
                prop_assert!(!value.as_bytes().iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0)));
                prop_assert!(text.contains(&format!("\r\n{name}:")), "{} of {:?}", name, text);
            }
            prop_assert!(!head.raw_path().iter().any(u8::is_ascii_whitespace));
        }
    }

    #[test]
    fn a_head_ends_at_the_same_byte_however_it_comes(bytes in changed("head")) {
        let Scan::Whole(whole) = scan(&bytes, 0, &LIMITS) else { return Ok(()) };
        for cut in 0..bytes.len() {
            match scan(&bytes[..cut], cut.saturating_sub(1), &LIMITS) {
                Scan::Whole(length) => {
                    prop_assert_eq!(length, whole);
                    break;
                }
                Scan::TooLong(_) => break,
                Scan::Partial => prop_assert!(cut < whole),
            }
        }
    }

    #[test]
    fn nobody_names_a_client_that_is_not_there(field in changed("forwarded-for")) {
        check_client(&field);
    }
}
