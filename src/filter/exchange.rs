//! One request as a filter sees it.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{HeaderName, HeaderValue};
use pingora::http::RequestHeader;
use serde_json::{Number, Value};
use smallvec::SmallVec;

use crate::config::{CertificatePart, Scheme};
use crate::primitives::{AuthName, RouteName};

/// The certificate that a client showed, verified by the handshake.
#[derive(Debug)]
pub struct ClientCertificate {
    /// Its subject as RFC 4514 writes it, ASCII; `None` when it names nobody.
    pub subject: Option<HeaderValue>,
    /// SHA-256 of the certificate, in lower-case hexadecimal digits.
    pub fingerprint: HeaderValue,
}

impl ClientCertificate {
    /// What `part` says.
    pub fn part(&self, part: CertificatePart) -> Option<&HeaderValue> {
        match part {
            CertificatePart::Subject => self.subject.as_ref(),
            CertificatePart::Fingerprint => Some(&self.fingerprint),
        }
    }
}

/// What names a caller: one authenticator may call two by the same text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NamedBy {
    /// `sub` of a token.
    Subject,
    /// `client_id` of a token without `sub`.
    ClientId,
    /// `azp` of a token with neither.
    AuthorizedParty,
    /// The key of an application that signs.
    App,
}

impl NamedBy {
    /// In one word: the claim, or `app`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Subject => "sub",
            Self::ClientId => "client_id",
            Self::AuthorizedParty => "azp",
            Self::App => "app",
        }
    }

    /// The claim that stands in for `sub`; `None` where nothing does.
    pub const fn stand_in(self) -> Option<&'static str> {
        match self {
            Self::ClientId | Self::AuthorizedParty => Some(self.as_str()),
            Self::Subject | Self::App => None,
        }
    }
}

/// All that tells one caller from another: who authenticated him, and as what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caller<'p> {
    /// The `[auth.NAME]`.
    pub auth: &'p str,
    /// What names him.
    pub named_by: NamedBy,
    /// His name; not empty.
    pub name: &'p str,
}

/// Who is calling, as an authenticator established it.
#[derive(Debug)]
pub struct Principal {
    /// The `[auth.NAME]` that established it.
    pub auth: AuthName,
    /// The same as a header value, made once: the value of `X-Consumer-Auth`.
    pub auth_header: Option<HeaderValue>,
    /// What `consumer` is.
    pub named_by: NamedBy,
    /// `sub` of a token, or the application's key: what `X-Consumer` says. Two authenticators may mean two callers by it;
    /// see [`Principal::caller`].
    pub consumer: Arc<str>,
    /// The same as a header value, made once: the value of `X-Consumer`.
    pub consumer_header: Option<HeaderValue>,
    /// The token's claims; `Null` for a signed request.
    pub claims: Value,
    /// What it paid for, as limits know tiers.
    pub tier: Option<Arc<str>>,
    /// Headers to set upstream: `forward_claims`.
    pub forward: Vec<(HeaderName, HeaderValue)>,
}

impl Principal {
    /// A caller of whom nothing is known but the name.
    pub fn named(auth: &AuthName, named_by: NamedBy, name: &str) -> Self {
        Self {
            auth: auth.clone(),
            auth_header: None,
            named_by,
            consumer: name.into(),
            consumer_header: None,
            claims: Value::Null,
            tier: None,
            forward: Vec::new(),
        }
    }

    /// What to know a caller by; `None` when the credentials name nobody.
    pub fn caller(&self) -> Option<Caller<'_>> {
        (!self.consumer.is_empty()).then(|| Caller {
            auth: self.auth.as_str(),
            named_by: self.named_by,
            name: &self.consumer,
        })
    }

    /// A claim by dotted path into nested objects. A claim whose own name holds dots is found first.
    pub fn claim(&self, path: &str) -> Option<&Value> {
        if let Some(value) = self.claims.get(path) {
            return Some(value);
        }
        path.split('.')
            .try_fold(&self.claims, |value, key| value.get(key))
    }
}

/// Below this, doubles tell whole numbers apart: 2^53 is also what 2^53 + 1 is read as.
const EXACT: f64 = 9_007_199_254_740_992.0;

/// Whether no other number of a token reads like this one. What is written with a fraction or an exponent, or is too large
/// for an integer, is kept as a double, and two different ones may be the same: such a claim tells nobody from others.
pub fn is_distinct(number: &Number) -> bool {
    let whole = number.is_u64() || number.is_i64();
    whole || number.as_f64().is_some_and(|n| n.abs() < EXACT)
}

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
    /// Its name as a structured field's string.
    pub name: String,
    /// The item of `RateLimit-Policy`.
    pub policy: String,
    /// `X-RateLimit-*` is sent besides.
    pub legacy: bool,
}

/// What a limit took for a request, to be taken back when another refuses it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Held {
    /// Which limit, as it knows itself.
    pub limit: usize,
    /// What the request was counted under.
    pub key: u64,
    /// What the limit needs to take it back.
    pub mark: u64,
}

/// What limits took for a request, the last on top. The first few take no memory of their own: every request has this.
#[derive(Debug, Default)]
pub struct Holdings {
    few: [Held; 4],
    len: usize,
    more: Vec<Held>,
}

impl Holdings {
    /// Puts one on top.
    pub fn push(&mut self, held: Held) {
        match self.few.get_mut(self.len) {
            Some(place) => *place = held,
            None => self.more.push(held),
        }
        self.len += 1;
    }

    /// Takes the top one if it is this limit's.
    pub fn pop_of(&mut self, limit: usize) -> Option<Held> {
        let last = self.len.checked_sub(1)?;
        let held = self.few.get(last).or_else(|| self.more.last()).copied()?;
        if held.limit != limit {
            return None;
        }
        if last >= self.few.len() {
            self.more.pop();
        }
        self.len = last;
        Some(held)
    }

    /// Whether nothing was taken, or all of it back.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
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

/// One request with what is known about it so far.
pub struct Exchange<'a> {
    /// Request head as received.
    pub head: &'a RequestHeader,
    /// Request target as received, before any normalisation: what signatures cover.
    pub raw_target: &'a str,
    /// Normalised path.
    pub path: &'a str,
    /// Query without `?`, as received.
    pub query: Option<&'a str>,
    /// Effective host in lower case, without port; empty when an HTTP/1.0 client named none.
    pub host: &'a str,
    /// Effective authority as received: host and port.
    pub authority: &'a str,
    /// How the client reached us.
    pub scheme: Scheme,
    /// The client, seen through trusted proxies.
    pub client_ip: IpAddr,
    /// The certificate that the client showed.
    pub certificate: Option<&'a ClientCertificate>,
    /// The matched route.
    pub route: &'a RouteName,
    /// Most body bytes the route takes.
    pub max_body: u64,
    /// How long the request says its body is.
    pub body_length: Option<u64>,
    /// The number of the client's address under a seed of keys, and the seed's first half, once a limit worked it out.
    pub address_number: Option<(u64, u64)>,
    /// Monotonic time of the request, nanoseconds since the process started. Never zero.
    pub now: u64,
    /// Wall-clock time of the request, seconds since 1970.
    pub unix_time: u64,
    /// Who is calling; set by the authenticator.
    pub principal: Option<Arc<Principal>>,
    /// Tightest exact limit met.
    pub quota: Option<Quota>,
    /// What must be given back at the end.
    pub tickets: Tickets,
    /// What limits took for it so far.
    pub held: Holdings,
    /// The paces that its answer keeps.
    pub paces: Vec<Box<dyn Pace>>,
    /// When its turn is, where a limit makes it wait.
    pub turn: Option<Instant>,
    /// Ask only: nothing may be taken, remembered or counted.
    pub dry_run: bool,
}

impl<'a> Exchange<'a> {
    /// Of which nothing is known but what was asked for, over HTTP and of no host, by nobody in particular and at no time
    /// worth a name: what trials and measurements of single filters begin with.
    pub fn bare(head: &'a RequestHeader, target: &'a str, route: &'a RouteName) -> Self {
        let (path, query) = match target.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (target, None),
        };
        Self {
            head,
            raw_target: target,
            path,
            query,
            host: "",
            authority: "",
            scheme: Scheme::Http,
            client_ip: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            certificate: None,
            route,
            max_body: 1 << 20,
            body_length: None,
            address_number: None,
            now: 1,
            unix_time: 1,
            principal: None,
            quota: None,
            tickets: Tickets::default(),
            held: Holdings::default(),
            paces: Vec::new(),
            turn: None,
            dry_run: false,
        }
    }
}

impl Exchange<'_> {
    /// The first value of a header as text; `None` when absent or not UTF-8.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head
            .headers
            .get(name)
            .and_then(|value| std::str::from_utf8(value.as_bytes()).ok())
    }

    /// Remembers `quota` when it is tighter than what was met before.
    pub fn meet(&mut self, quota: Quota) {
        let known = self.quota.as_ref();
        if known.is_none_or(|known| quota.remaining < known.remaining) {
            self.quota = Some(quota);
        }
    }
}
