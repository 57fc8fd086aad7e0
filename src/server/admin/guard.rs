//! Who may ask the admin listener over TCP: whoever names it by a name of its own, and for `/api/` has the token.
//!
//! A page in a browser can ask any address of this host under a name that its own domain resolves to (DNS rebinding), and
//! the browser takes the answer for one of that domain. It cannot choose what it says in `Host`.

use http::header::{AUTHORIZATION, HOST};
use http::{HeaderValue, StatusCode};
use pingora::http::RequestHeader;

use super::page::Page;
use crate::config::HostPattern;
use crate::gateway::{Snapshot, asked_host};
use crate::primitives::address;

/// Why a request over TCP is not answered, told from its head alone; `None`: it is.
pub(in crate::server) fn refuse(head: &RequestHeader, snapshot: Option<&Snapshot>) -> Option<Page> {
    let hosts = snapshot.map_or(&[][..], |snapshot| &snapshot.config.admin.hosts);
    if !is_ours(head, hosts) {
        return Some(Page::error(
            StatusCode::MISDIRECTED_REQUEST,
            "the Host is neither an address, nor localhost, nor one of [admin].hosts",
        ));
    }
    if !head.uri.path().starts_with("/api/") {
        return None;
    }
    let Some(token) = snapshot.and_then(|snapshot| snapshot.admin_token.as_ref()) else {
        return Some(Page::error(
            StatusCode::FORBIDDEN,
            "[admin].token is not configured",
        ));
    };
    let given = head.headers.get(AUTHORIZATION).and_then(bearer);
    let same =
        |given| aws_lc_rs::constant_time::verify_slices_are_equal(given, token.expose()).is_ok();
    (!given.is_some_and(same)).then(Page::challenge)
}

fn bearer(text: &HeaderValue) -> Option<&[u8]> {
    let (scheme, token) = text.as_bytes().split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"bearer ").then_some(token)
}

/// Whether the request names this listener. One without any `Host` comes from no browser: HTTP/1.0 knows none, and some
/// load balancers check with it.
fn is_ours(head: &RequestHeader, hosts: &[HostPattern]) -> bool {
    if head.headers.get(HOST).is_none() && head.uri.authority().is_none() {
        return true;
    }
    let host = asked_host(head);
    host == "localhost"
        || address::is_ip_literal(&host)
        || hosts.iter().any(|pattern| pattern.matches(&host))
}
