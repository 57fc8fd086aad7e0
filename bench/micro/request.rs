//! A configuration and a request for it, as small as they come.

use std::net::{IpAddr, Ipv4Addr};

use pingora::http::RequestHeader;
use tollgate::config::{self, Config, Source};
use tollgate::filter::{FilterContext, Moment, RequestView};
use tollgate::primitives::RouteName;

/// Seconds since 1970 at which every request here arrives.
pub(crate) const NOW: u64 = 1_800_000_000;

/// A million of something.
pub(crate) const MILLION: u32 = 1_000_000;

/// A configuration with one listener and what `text` says.
pub(crate) fn configuration(text: &str) -> Config {
    let text = format!("[[listener]]\naddress = \"127.0.0.1:8080\"\n{text}");
    let source = Source {
        file: "bench.toml".into(),
        text: text.into(),
    };
    config::load(&[source], &|_| Ok(None)).unwrap_or_else(|problems| panic!("{problems}"))
}

/// A `GET` of `target` with these header fields.
pub(crate) fn head(target: &str, fields: &[(&'static str, &str)]) -> RequestHeader {
    let mut head = RequestHeader::build("GET", target.as_bytes(), None).expect("head");
    for (name, value) in fields {
        head.append_header(*name, *value).expect("field");
    }
    head
}

/// The request of client number `client` at `now`, nanoseconds of the monotonic clock.
pub(crate) fn context<'e>(
    head: &'e RequestHeader,
    target: &'e str,
    route: &'e RouteName,
    client: u32,
    now: u64,
) -> FilterContext<'e> {
    let request = RequestView {
        host: "api.example.com",
        authority: "api.example.com",
        client_ip: IpAddr::V4(Ipv4Addr::from(client)),
        ..RequestView::bare(head, target, route)
    };
    let unix_time = NOW;
    FilterContext::new(request, Moment { now, unix_time })
}

/// Number `i` of a walk over `count` things that meets each once, far from the one before: no prefetcher guesses it.
pub(crate) fn far_apart(i: u64, count: u64) -> u64 {
    // Odd and no multiple of 5: without a factor in common with the powers of ten that are counts here.
    i.wrapping_mul(7_368_787) % count
}
