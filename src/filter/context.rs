//! What filters say of one request: who is calling, what it is told, what it holds, and what each remembers of it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use smallvec::SmallVec;

use super::body::{RequestBodyHook, ResponseBodyHook};
use super::memory::Memory;
use super::principal::Principal;
use super::request::RequestView;

/// What an exact limit told the client: the tightest one is answered in `X-RateLimit-*`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quota {
    /// Requests that pass at once on a full bucket.
    pub limit: u64,
    /// Requests that still pass now.
    pub remaining: u64,
    /// Time until the bucket is full again.
    pub reset: Duration,
    /// What the headers of the draft say; `None` = the old ones alone are sent.
    pub policy: Option<Arc<Policy>>,
}

/// What `RateLimit` and `RateLimit-Policy` say of a limit (draft-ietf-httpapi-ratelimit-headers), made once.
#[derive(Debug, PartialEq, Eq)]
pub struct Policy {
    /// The limit's name as a structured field's string.
    pub name: String,
    /// The item of `RateLimit-Policy`.
    pub policy: String,
    /// `X-RateLimit-*` is sent besides.
    pub legacy: bool,
}

/// How fast an answer may go out.
pub trait Pace: Send + Sync {
    /// Bytes that are best sent in one piece; at least 1.
    fn piece(&self) -> usize;

    /// Takes room for so many bytes, at `now` of the monotonic clock, and says how long they have to wait.
    fn reserve(&mut self, bytes: usize, now: u64) -> Duration;
}

/// Something given back when the request is over, however it ends: dropping it gives it back.
pub type Ticket = Box<dyn std::any::Any + Send + Sync>;

/// What a request holds of these; most hold one at most.
pub type Tickets = SmallVec<[Ticket; 1]>;

/// When a request is judged. A filter asks no clock of its own, so that the same question has the same answer.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// Monotonic time, nanoseconds since the process started. Never zero.
    pub now: u64,
    /// Wall-clock time, seconds since 1970.
    pub unix_time: u64,
}

/// One request with what its filters said so far.
pub struct FilterContext<'r> {
    /// The request itself.
    pub request: RequestView<'r>,
    /// Monotonic time of the request, nanoseconds since the process started. Never zero.
    pub now: u64,
    /// Wall-clock time of the request, seconds since 1970.
    pub unix_time: u64,
    /// Ask only: nothing may be taken, remembered or counted.
    pub dry_run: bool,
    /// Who is calling; set by the authenticator.
    pub principal: Option<Arc<Principal>>,
    /// Tightest exact limit met.
    pub quota: Option<Quota>,
    /// What must be given back at the end.
    pub tickets: Tickets,
    /// When its turn is, where a limit makes it wait.
    pub turn: Option<Instant>,
    /// The paces that its answer keeps.
    pub paces: Vec<Box<dyn Pace>>,
    /// Who sees its body as it streams.
    pub body_hooks: Vec<Box<dyn RequestBodyHook>>,
    /// Who sees an upstream's answer to it as it streams.
    pub answer_hooks: Vec<Box<dyn ResponseBodyHook>>,
    /// What filters remember of it from one call to the next.
    pub memory: Memory,
}

impl<'r> FilterContext<'r> {
    /// A request that no filter has said anything of yet.
    pub fn new(request: RequestView<'r>, moment: Moment) -> Self {
        Self {
            request,
            now: moment.now,
            unix_time: moment.unix_time,
            dry_run: false,
            principal: None,
            quota: None,
            tickets: Tickets::default(),
            turn: None,
            paces: Vec::new(),
            body_hooks: Vec::new(),
            answer_hooks: Vec::new(),
            memory: Memory::default(),
        }
    }

    /// A request that is only asked about: nothing is taken, remembered or counted for it.
    #[must_use]
    pub fn dry(self) -> Self {
        Self {
            dry_run: true,
            ..self
        }
    }

    /// Moves the request to another moment: what counts is when its body was there.
    pub fn set_moment(&mut self, moment: Moment) {
        (self.now, self.unix_time) = (moment.now, moment.unix_time);
    }

    /// Remembers `quota` when it is tighter than what was met before.
    pub fn meet(&mut self, quota: Quota) {
        let known = self.quota.as_ref();
        if known.is_none_or(|known| quota.remaining < known.remaining) {
            self.quota = Some(quota);
        }
    }
}
