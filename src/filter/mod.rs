//! What every filter shares: the exchange it sees, the verdict it gives, the reasons it may refuse for.
//!
//! A filter is a plain function of an [`Exchange`]. It never touches a socket and never waits: what needs time is
//! returned as [`Verdict::Wait`] or [`Verdict::NeedBody`] and the gateway does the waiting. That keeps the path free of
//! boxed futures, and lets `explain` ask the very code that serves, with [`Exchange::dry_run`] set.

mod exchange;
mod refusal;

pub use crate::config::Scheme;
pub use exchange::{
    Caller, ClientCertificate, Exchange, Held, Holdings, NamedBy, Pace, Policy, Principal, Quota,
    Ticket, Tickets, is_distinct,
};
pub use refusal::{Reason, Refusal};

use bytes::Bytes;
use http::header::LOCATION;
use http::{HeaderName, HeaderValue, StatusCode};
use pingora::http::{RequestHeader, ResponseHeader};
use std::sync::Arc;
use std::time::Duration;

use crate::config::RedirectTemplate;

/// A filter's answer.
#[derive(Debug)]
pub enum Verdict {
    /// Nothing against it.
    Continue,
    /// No, and why.
    Refuse(Refusal),
    /// The gateway answers itself: a preflight, a redirect, a fixed text.
    Answer(Arc<Reply>),
    /// Yes, but not before this long.
    Wait(Duration),
    /// The verdict depends on the whole body: the gateway buffers it and calls [`RequestFilter::check_body`].
    NeedBody,
}

/// An answer made by the gateway itself.
#[derive(Debug, PartialEq, Eq)]
pub struct Reply {
    /// Status line.
    pub status: StatusCode,
    /// Headers besides framing, date and trace id.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Body; its length is sent with it.
    pub body: Bytes,
    /// Where it leads, when that is made of the request.
    pub redirect: Option<RedirectTemplate>,
}

impl Reply {
    /// The same answer, leading there.
    pub fn leading_to(&self, location: HeaderValue) -> Self {
        let mut headers = self.headers.clone();
        headers.push((LOCATION, location));
        Self {
            status: self.status,
            headers,
            body: self.body.clone(),
            redirect: None,
        }
    }
}

/// What a filter asks about. A request that is made inside the process may leave a part out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Who may come in.
    Access,
    /// How much.
    Limits,
    /// What a request may look like, whoever makes it.
    Form,
}

/// Looks at a request before an upstream is chosen.
pub trait RequestFilter: Send + Sync {
    /// What stands in `explain` and in logs, as `limit.per_ip`.
    fn name(&self) -> &str;

    /// What it asks about.
    fn part(&self) -> Part {
        Part::Access
    }

    /// Decides. With `exchange.dry_run` nothing may be taken, remembered or counted.
    fn check(&self, exchange: &mut Exchange<'_>) -> Verdict;

    /// Takes back what [`RequestFilter::check`] took for the request: another limit refuses it. Filters are told in the
    /// reverse of the order in which they were asked.
    fn give_back(&self, _exchange: &mut Exchange<'_>) {}

    /// Decides again once the body is there; called only after [`Verdict::NeedBody`].
    fn check_body(&self, _exchange: &mut Exchange<'_>, _body: &[u8]) -> Verdict {
        Verdict::Continue
    }
}

/// Changes the head that goes to the upstream.
pub trait UpstreamRequestFilter: Send + Sync {
    /// Changes `head` in place.
    fn apply(&self, head: &mut RequestHeader);
}

/// Changes the head of the answer, whoever made it.
pub trait ResponseFilter: Send + Sync {
    /// Changes `head` in place; `origin` is the request's `Origin` header.
    fn apply(&self, origin: Option<&HeaderValue>, head: &mut ResponseHeader);
}
