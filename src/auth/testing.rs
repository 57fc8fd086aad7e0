//! Requests for the unit tests of this room.

use std::net::IpAddr;

use pingora::http::RequestHeader;

use crate::filter::{FilterContext, Moment, RequestView, Scheme, Verdict};
use crate::primitives::RouteName;

/// The wall clock of most tests, seconds.
pub(super) const NOW: u64 = 1_700_000_000;

/// A request in the making.
#[derive(Clone)]
pub(super) struct Call {
    head: RequestHeader,
    target: String,
    authority: String,
    scheme: Scheme,
    ip: IpAddr,
    /// Monotonic time, nanoseconds.
    pub(super) now: u64,
    /// Wall clock, seconds.
    pub(super) unix_time: u64,
    /// Ask only.
    pub(super) dry_run: bool,
    route: RouteName,
}

impl Call {
    pub(super) fn get(target: &str) -> Self {
        Self::new("GET", target)
    }

    pub(super) fn new(method: &str, target: &str) -> Self {
        Self {
            head: RequestHeader::build(method, target.as_bytes(), None).unwrap(),
            target: target.to_owned(),
            authority: "api.example.com".to_owned(),
            scheme: Scheme::Https,
            ip: "192.0.2.1".parse().unwrap(),
            now: 1_000_000_000,
            unix_time: NOW,
            dry_run: false,
            route: RouteName::new("r"),
        }
    }

    pub(super) fn header(mut self, name: &str, value: &str) -> Self {
        self.head
            .append_header(name.to_owned(), value.to_owned())
            .unwrap();
        self
    }

    pub(super) fn headers<N: AsRef<str>, V: AsRef<str>>(self, pairs: &[(N, V)]) -> Self {
        pairs.iter().fold(self, |call, (name, value)| {
            call.header(name.as_ref(), value.as_ref())
        })
    }

    pub(super) fn without(mut self, name: &str) -> Self {
        self.head.remove_header(name);
        self
    }

    pub(super) fn ip(mut self, address: &str) -> Self {
        self.ip = address.parse().unwrap();
        self
    }

    pub(super) fn to(mut self, authority: &str) -> Self {
        self.authority = authority.to_owned();
        self
    }

    pub(super) fn at(mut self, unix_time: u64) -> Self {
        self.unix_time = unix_time;
        self
    }

    pub(super) fn dry(mut self) -> Self {
        self.dry_run = true;
        self
    }

    pub(super) fn http2(mut self) -> Self {
        self.head.set_version(http::Version::HTTP_2);
        self
    }

    pub(super) fn head(&self) -> &RequestHeader {
        &self.head
    }

    pub(super) fn context(&self) -> FilterContext<'_> {
        let request = RequestView {
            host: &self.authority,
            authority: &self.authority,
            scheme: self.scheme,
            client_ip: self.ip,
            ..RequestView::bare(&self.head, &self.target, &self.route)
        };
        let moment = Moment {
            now: self.now,
            unix_time: self.unix_time,
        };
        FilterContext {
            dry_run: self.dry_run,
            ..FilterContext::new(request, moment)
        }
    }
}

/// The verdict in one word: the code of a refusal, `continue`, `need_body`.
pub(super) fn reason(verdict: &Verdict) -> &'static str {
    match verdict {
        Verdict::Continue => "continue",
        Verdict::NeedBody => "need_body",
        Verdict::Refuse(refusal) => refusal.reason.code(),
        Verdict::Answer(_) => "answer",
        Verdict::Wait(_) => "wait",
        Verdict::Later(_) => "later",
    }
}
