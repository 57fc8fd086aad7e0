//! What every filter shares: the request it sees, the verdict it gives, the reasons it may refuse for.
//!
//! A filter is a plain function of a [`FilterContext`]. It never touches a socket and never waits: what needs time is
//! returned as [`Verdict::Wait`], [`Verdict::NeedBody`] or [`Verdict::Later`], and the gateway does the waiting. That keeps
//! the path of nearly all requests free of boxed futures, and lets `explain` ask the very code that serves, with
//! [`FilterContext::dry_run`] set. What is to be seen of a body without waiting for it goes through a [`RequestBodyHook`], and of an answer's through a
//! [`ResponseBodyHook`].

mod body;
mod context;
mod memory;
mod principal;
mod refusal;
mod reply;
mod request;

pub use crate::config::Scheme;
pub use body::{RequestBodyHook, ResponseBodyHook};
pub use context::{FilterContext, Moment, Pace, Policy, Quota, Ticket, Tickets};
pub use memory::{Memory, Note};
pub use principal::{Caller, NamedBy, Principal, is_distinct};
pub use refusal::{Reason, Refusal};
pub use reply::Reply;
pub use request::{ClientCertificate, RequestView};

use std::fmt;
use std::future::Future;
use std::pin::Pin;

use http::{HeaderName, HeaderValue};
use pingora::http::{RequestHeader, ResponseHeader};
use std::sync::Arc;
use std::time::Duration;

/// A verdict that takes time: what a filter has to ask of others before it can say anything.
pub type PendingVerdict = Pin<Box<dyn Future<Output = Verdict> + Send>>;

/// A filter's answer.
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
    /// Not yet. The gateway awaits it, for as long as the request has time and its client is there; dropping it ends what
    /// it began. With [`FilterContext::dry_run`] it is not awaited, so it must begin nothing before it is polled.
    Later(PendingVerdict),
}

impl fmt::Debug for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Continue => f.write_str("Continue"),
            Self::Refuse(refusal) => f.debug_tuple("Refuse").field(refusal).finish(),
            Self::Answer(reply) => f.debug_tuple("Answer").field(reply).finish(),
            Self::Wait(wait) => f.debug_tuple("Wait").field(wait).finish(),
            Self::NeedBody => f.write_str("NeedBody"),
            Self::Later(_) => f.write_str("Later"),
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
    /// What a request and its answer may look like, whoever makes it.
    Form,
}

/// Looks at a request before an upstream is chosen.
pub trait RequestFilter: Send + Sync {
    /// What stands in `explain` and in logs, as `limit.per_ip`.
    fn name(&self) -> &str;

    /// What the filter asks about.
    fn part(&self) -> Part {
        Part::Access
    }

    /// Decides. With [`FilterContext::dry_run`] nothing may be taken, remembered or counted.
    fn check(&self, context: &mut FilterContext<'_>) -> Verdict;

    /// Takes back what [`RequestFilter::check`] took for the request: another limit refuses it. Filters are told in the
    /// reverse of the order in which they were asked.
    fn give_back(&self, _context: &mut FilterContext<'_>) {}

    /// Decides again once the body is there; called only after [`Verdict::NeedBody`].
    fn check_body(&self, _context: &mut FilterContext<'_>, _body: &[u8]) -> Verdict {
        Verdict::Continue
    }
}

/// Changes the head that goes to the upstream.
pub trait UpstreamRequestFilter: Send + Sync {
    /// Changes `head` in place.
    fn apply(&self, head: &mut RequestHeader);

    /// Whether it decides about fields of this name: nobody else says them behind the body.
    fn decides(&self, name: &HeaderName) -> bool;
}

/// Changes the head of the answer, whoever made it.
pub trait ResponseFilter: Send + Sync {
    /// Changes `head` in place; `origin` is the request's `Origin` header.
    fn apply(&self, origin: Option<&HeaderValue>, head: &mut ResponseHeader);

    /// Whether it decides about fields of this name: nobody else says them behind the body.
    fn decides(&self, name: &HeaderName) -> bool;
}
