//! The last good answers of a route, for when its upstream cannot answer.
//!
//! This is no cache: an answer is only given where the client would get an error. What matters most is that nobody gets
//! another's answer. So an answer is kept only when a shared cache might keep it (RFC 9111 §3): a GET answered 200,
//! without `Set-Cookie`, without `private`, `no-store`, `no-cache`, `must-revalidate` or `proxy-revalidate`, and whose
//! request carried nothing that tells who asked (`Authorization`, `Cookie`, a client certificate), unless the answer says
//! `public`. It is found again by host, target, the request headers that `Vary` names and those that the configuration
//! names; with `per = "consumer"` by the consumer too, and then credentials do no harm: they are who it is kept for.
//!
//! Bounded: each body, all of them together, and their age; the oldest go first.

mod carried;
mod first_format;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, header};
use parking_lot::{Mutex, RwLock};

pub use self::carried::{CarriedAnswers, RouteAnswers};
use crate::config::LastGood as Settings;
use crate::filter::Caller;
use crate::primitives::RouteName;
use crate::primitives::clock::nanos;
use crate::primitives::digest::key128;
use crate::primitives::interned::Interned;

/// The kept answers of all routes.
#[derive(Debug, Default)]
pub struct KeptAnswers {
    /// By route, and by what makes its answers and how they are kept: those of another configuration take nothing away.
    routes: Mutex<Interned<(RouteName, String), LastGood>>,
}

impl KeptAnswers {
    /// Kept answers of a route, kept from before while `identity` (what makes its answers) and settings are the same. New
    /// ones belong to who asked until they are [registered](Self::register).
    pub fn route(&self, name: &RouteName, settings: &Settings, identity: &str) -> Arc<LastGood> {
        let key = (name.clone(), stamp(settings, identity));
        self.routes.lock().find_or(key, |(_, stamp)| LastGood {
            stamp: stamp.clone(),
            settings: settings.clone(),
            kept: RwLock::default(),
        })
    }

    /// Keeps the answers of a route from now on: it is in force.
    pub fn register(&self, name: &RouteName, kept: &LastGood) {
        let key = (name.clone(), kept.stamp.clone());
        self.routes.lock().register(&key);
    }

    /// Forgets those of routes that are in no configuration.
    pub fn prune(&self) {
        self.routes.lock().prune();
    }
}

/// The kept answers of one route.
#[derive(Debug)]
pub struct LastGood {
    /// What makes its answers, and how they are kept.
    stamp: String,
    settings: Settings,
    kept: RwLock<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    by_key: HashMap<u128, Entry>,
    /// Keys from the oldest on.
    order: BTreeMap<u64, u128>,
    next: u64,
    bytes: usize,
}

#[derive(Debug)]
struct Entry {
    number: u64,
    cost: usize,
    what: What,
}

#[derive(Clone, Debug)]
enum What {
    /// Answers to this differ by these request headers; each has its own key.
    Varies(Arc<[HeaderName]>),
    Answer(Arc<LastGoodAnswer>),
}

/// An answer that was kept.
#[derive(Debug)]
pub struct LastGoodAnswer {
    /// Header fields of the answer, but for those of the connection.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Body of the answer.
    pub body: Bytes,
    /// When it came, nanoseconds of the process clock.
    at: u64,
    /// How old it was then: it came to the process before this one.
    before: u64,
}

/// A request, as far as its answer depends on it.
#[derive(Clone, Copy)]
pub struct Asked<'a> {
    /// Host, lower case.
    pub host: &'a str,
    /// Path and query as the upstream gets them.
    pub target: &'a [u8],
    /// Header fields.
    pub headers: &'a HeaderMap,
    /// Who is calling.
    pub caller: Option<Caller<'a>>,
    /// The client showed a certificate.
    pub certified: bool,
}

/// An answer on its way to the client, being kept.
#[derive(Debug)]
pub struct LastGoodWriter {
    key: u128,
    headers: Vec<(HeaderName, HeaderValue)>,
    vary: Option<(Arc<[HeaderName]>, u128)>,
    length: Option<usize>,
    body: BytesMut,
    most: usize,
    /// Bytes in front of what comes next that were taken already.
    ahead: usize,
    whole: bool,
}

/// An answer that is younger is not replaced: most requests of a busy route then leave the store alone.
const REFRESH: u64 = 1_000_000_000;
/// What an entry costs besides its bytes.
const ENTRY: usize = 256;
/// Most names in `Vary`.
const MOST_VARY: usize = 8;

impl LastGood {
    /// The answer to a request, if there is one that is not too old.
    pub fn find(&self, asked: &Asked<'_>, now: u64) -> Option<Arc<LastGoodAnswer>> {
        let kept = self.kept.read();
        let primary = self.key(asked)?;
        let mut what = &kept.by_key.get(&primary)?.what;
        if let What::Varies(names) = what {
            let key = secondary(primary, names, asked.headers);
            what = &kept.by_key.get(&key)?.what;
        }
        match what {
            What::Answer(good) if good.age(now) <= nanos(self.settings.max_age) => {
                Some(Arc::clone(good))
            }
            What::Answer(_) | What::Varies(_) => None,
        }
    }

    /// Begins to keep the answer to a GET with the head of a 200; `None` when it may not be, or was a moment ago.
    pub fn begin(
        &self,
        asked: &Asked<'_>,
        fields: &[(HeaderName, HeaderValue)],
        now: u64,
    ) -> Option<LastGoodWriter> {
        let key = self.key(asked)?;
        let said = Said::of(fields)?;
        let identified = asked.certified
            || asked.headers.contains_key(header::AUTHORIZATION)
            || asked.headers.contains_key(header::COOKIE);
        if identified && !said.public && !self.settings.per_consumer {
            return None;
        }
        if said
            .length
            .is_some_and(|length| length > self.settings.max_body)
        {
            return None;
        }
        if self
            .find(asked, now)
            .is_some_and(|good| good.age(now) < REFRESH)
        {
            return None;
        }
        let vary = (!said.vary.is_empty()).then(|| {
            let names: Arc<[HeaderName]> = said.vary.into();
            let key = secondary(key, &names, asked.headers);
            (names, key)
        });
        Some(LastGoodWriter {
            key,
            headers: fields
                .iter()
                .filter(|(name, _)| !of_connection(name))
                .cloned()
                .collect(),
            vary,
            length: said.length,
            body: BytesMut::new(),
            most: self.settings.max_body,
            ahead: 0,
            whole: true,
        })
    }

    /// Keeps an answer that came whole.
    pub fn keep(&self, keeping: LastGoodWriter, now: u64) {
        let cut = keeping
            .length
            .is_some_and(|length| length != keeping.body.len());
        if !keeping.whole || cut {
            return;
        }
        let good = LastGoodAnswer {
            headers: keeping.headers,
            body: keeping.body.freeze(),
            at: now,
            before: 0,
        };
        let cost = good.cost();
        if cost > self.settings.size {
            return;
        }
        let mut kept = self.kept.write();
        let answer = What::Answer(Arc::new(good));
        match keeping.vary {
            None => kept.put(keeping.key, answer, cost),
            Some((names, key)) => {
                kept.put(keeping.key, What::Varies(names), ENTRY);
                kept.put(key, answer, cost);
            }
        }
        while kept.bytes > self.settings.size {
            kept.drop_oldest();
        }
    }

    /// How many answers are kept, and their bytes.
    pub fn held(&self) -> (usize, usize) {
        let kept = self.kept.read();
        (kept.order.len(), kept.bytes)
    }

    /// `None` for somebody unknown where answers are told apart by who asks.
    fn key(&self, asked: &Asked<'_>) -> Option<u128> {
        let mut parts = vec![asked.host.as_bytes(), asked.target];
        if self.settings.per_consumer {
            let caller = asked.caller?;
            let all = [caller.auth, caller.named_by.as_str(), caller.name];
            parts.extend(all.map(str::as_bytes));
        }
        let values = values(&self.settings.vary, asked.headers);
        parts.extend(values.iter().map(Vec::as_slice));
        Some(key128(&parts))
    }
}

impl LastGoodAnswer {
    /// Nanoseconds since the upstream gave it.
    pub fn age(&self, now: u64) -> u64 {
        now.saturating_sub(self.at).saturating_add(self.before)
    }

    /// What keeping it costs.
    fn cost(&self) -> usize {
        let fields = self.headers.iter();
        let head: usize = fields
            .map(|(name, value)| name.as_str().len() + value.len() + 32)
            .sum();
        ENTRY + head + self.body.len()
    }
}

impl Kept {
    fn put(&mut self, key: u128, what: What, cost: usize) {
        self.next += 1;
        let number = self.next;
        let entry = Entry { number, cost, what };
        if let Some(old) = self.by_key.insert(key, entry) {
            self.order.remove(&old.number);
            self.bytes -= old.cost;
        }
        self.order.insert(number, key);
        self.bytes += cost;
    }

    fn drop_oldest(&mut self) {
        let Some((_, key)) = self.order.pop_first() else {
            self.bytes = 0;
            return;
        };
        if let Some(old) = self.by_key.remove(&key) {
            self.bytes -= old.cost;
        }
    }
}

impl LastGoodWriter {
    /// A piece of the body.
    pub fn add(&mut self, piece: &[u8]) {
        self.whole &= self.body.len() + piece.len() <= self.most;
        if self.whole {
            self.body.extend_from_slice(piece);
        } else {
            self.body = BytesMut::new();
        }
    }

    /// What is about to be sent: taken but for what of it was taken before.
    pub fn look(&mut self, front: &[u8]) {
        let ahead = self.ahead.min(front.len());
        self.add(&front[ahead..]);
        self.ahead = front.len().max(self.ahead);
    }

    /// So much of it was sent.
    pub fn sent(&mut self, count: usize) {
        self.ahead = self.ahead.saturating_sub(count);
    }
}

/// What the head of an answer says about keeping it.
struct Said {
    public: bool,
    vary: Vec<HeaderName>,
    length: Option<usize>,
}

impl Said {
    /// `None` when it must not be kept.
    fn of(fields: &[(HeaderName, HeaderValue)]) -> Option<Self> {
        let mut said = Self {
            public: false,
            vary: Vec::new(),
            length: None,
        };
        for (name, value) in fields {
            let text = value.to_str().unwrap_or("private");
            if *name == header::SET_COOKIE {
                return None;
            } else if *name == header::CACHE_CONTROL {
                said.cache_control(text)?;
            } else if *name == header::VARY {
                said.vary(text)?;
            } else if *name == header::CONTENT_LENGTH {
                said.length = Some(text.parse().ok()?);
            } else if *name == header::CONTENT_ENCODING {
                // Some forget to say so.
                said.vary.push(header::ACCEPT_ENCODING);
            }
        }
        said.vary
            .sort_unstable_by(|a, b| a.as_str().cmp(b.as_str()));
        said.vary.dedup();
        (said.vary.len() <= MOST_VARY).then_some(said)
    }

    fn cache_control(&mut self, text: &str) -> Option<()> {
        const FORBIDDING: [&str; 5] = [
            "private",
            "no-store",
            "no-cache",
            "must-revalidate",
            "proxy-revalidate",
        ];
        for directive in text.split(',') {
            let name = directive.split('=').next().unwrap_or_default().trim();
            if FORBIDDING
                .iter()
                .any(|word| name.eq_ignore_ascii_case(word))
            {
                return None;
            }
            self.public |= name.eq_ignore_ascii_case("public");
        }
        Some(())
    }

    fn vary(&mut self, text: &str) -> Option<()> {
        for name in text
            .split(',')
            .map(str::trim)
            .filter(|name| !name.is_empty())
        {
            if name == "*" {
                return None;
            }
            self.vary.push(name.parse().ok()?);
        }
        Some(())
    }
}

/// Tells answers that may stand for each other from all others.
fn stamp(settings: &Settings, identity: &str) -> String {
    let settings = format!("{settings:?}");
    let stamp = key128(&[identity.as_bytes(), settings.as_bytes()]);
    format!("{stamp:032x}")
}

fn secondary(primary: u128, names: &[HeaderName], headers: &HeaderMap) -> u128 {
    let values = values(names, headers);
    let primary = primary.to_be_bytes();
    let parts: Vec<&[u8]> = [primary.as_slice()]
        .into_iter()
        .chain(values.iter().map(Vec::as_slice))
        .collect();
    key128(&parts)
}

/// All values of each header; absent and empty are not the same.
fn values(names: &[HeaderName], headers: &HeaderMap) -> Vec<Vec<u8>> {
    let of = |name: &HeaderName| {
        let mut all = Vec::new();
        for value in headers.get_all(name) {
            all.push(b'=');
            all.extend_from_slice(&(value.len() as u64).to_be_bytes());
            all.extend_from_slice(value.as_bytes());
        }
        all
    };
    names.iter().map(of).collect()
}

/// Fields that concern the connection, or the message as it came.
fn of_connection(name: &HeaderName) -> bool {
    const NAMES: [&str; 9] = [
        "connection",
        "keep-alive",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "content-length",
        "age",
    ];
    NAMES.contains(&name.as_str())
}

#[cfg(test)]
mod tests;
