//! `split` and `[route.rollout]`: several upstreams for one route, and who goes where.

use std::collections::BTreeMap;
use std::time::Duration;

use http::HeaderName;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::known::Known;
use super::matching::values;
use crate::config::document::At;
use crate::config::header_rules::header_name;
use crate::config::scope::Scope;
use crate::primitives::UpstreamName;
use crate::primitives::matcher::ValueMatch;

/// One side of a split.
#[derive(Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RawSide {
    /// Upstream by name.
    upstream: String,
    /// The side's part of the requests; 0 for a side that only takes those it names.
    #[serde(default = "one")]
    weight: u32,
    /// Headers, any of which brings a request here.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    headers: BTreeMap<String, String>,
    /// Cookies, any of which brings a request here.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    cookies: BTreeMap<String, String>,
    /// Claims and values, any of which brings a request here.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    claims: BTreeMap<String, Vec<String>>,
}

fn one() -> u32 {
    1
}

/// How a split is carried out.
#[derive(Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawRollout {
    /// What keeps somebody on one side.
    by: String,
    /// Whether a side that is clearly worse than the first is stopped.
    stop: bool,
    /// The time over which sides are compared.
    window: String,
}

impl Default for RawRollout {
    fn default() -> Self {
        Self {
            by: "random".into(),
            stop: true,
            window: "1m".into(),
        }
    }
}

/// Several upstreams for one route.
#[derive(Clone, Debug)]
pub struct Split {
    /// The sides; the first is the main one.
    pub sides: Vec<Side>,
    /// What keeps somebody on one side.
    pub by: SplitKey,
    /// Whether a side that is clearly worse than the first is stopped.
    pub stop: bool,
    /// The time over which sides are compared.
    pub window: Duration,
}

/// One side of a split.
#[derive(Clone, Debug)]
pub struct Side {
    /// The upstream of this side.
    pub upstream: UpstreamName,
    /// The side's part of the requests.
    pub weight: u32,
    /// Headers, any of which brings a request here.
    pub headers: Vec<(HeaderName, ValueMatch)>,
    /// Cookies, any of which brings a request here.
    pub cookies: Vec<(String, ValueMatch)>,
    /// Claims and values, any of which brings a request here.
    pub claims: Vec<(String, Vec<String>)>,
}

/// What keeps somebody on one side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SplitKey {
    /// Nothing: each request for itself.
    Random,
    /// The client's address.
    ClientIp,
    /// Who is calling.
    Consumer,
    /// A header.
    Header(HeaderName),
    /// A cookie.
    Cookie(String),
    /// A claim by dotted path.
    Claim(String),
}

impl SplitKey {
    fn parse(text: &str) -> Result<Self, String> {
        let (kind, name) = text.split_once(':').unwrap_or((text, ""));
        match (kind, name) {
            ("random", "") => Ok(Self::Random),
            ("client_ip", "") => Ok(Self::ClientIp),
            ("consumer", "") => Ok(Self::Consumer),
            ("header", name) if !name.is_empty() => header_name(name).map(Self::Header),
            ("cookie", name) if !name.is_empty() => Ok(Self::Cookie(name.to_owned())),
            ("claim", name) if !name.is_empty() => Ok(Self::Claim(name.to_owned())),
            _ => Err(format!(
                "{text:?} is none of random, client_ip, consumer, header:NAME, cookie:NAME, claim:NAME"
            )),
        }
    }
}

impl Side {
    /// Whether it names requests of its own.
    pub fn names_some(&self) -> bool {
        !(self.headers.is_empty() && self.cookies.is_empty() && self.claims.is_empty())
    }
}

/// Most sides of a split: each is a metric label, and is asked for each request.
const MOST_SIDES: usize = 16;
/// Most weight: shares finer than a millionth are lost in chance.
const MOST_WEIGHT: u32 = 1_000_000;
/// Bounds of the time over which sides are compared.
const WINDOWS: std::ops::RangeInclusive<Duration> =
    Duration::from_secs(5)..=Duration::from_secs(600);

/// Reads the sides and how they are chosen.
pub(super) fn split(
    sides: &[RawSide],
    rollout: &RawRollout,
    at: &At<'_>,
    known: &Known<'_>,
    scope: &mut Scope<'_>,
) -> Split {
    let list = at.key("split");
    if !(2..=MOST_SIDES).contains(&sides.len()) {
        scope.problem(&list, format!("needs 2 to {MOST_SIDES} sides"));
    }
    let read = sides.iter().enumerate();
    let read: Vec<Side> = read
        .map(|(index, side)| side.validate(index, &list.index(index), known, scope))
        .collect();
    for (index, side) in read.iter().enumerate() {
        if read[..index]
            .iter()
            .any(|other| other.upstream == side.upstream)
        {
            let message = format!("{:?} stands twice", side.upstream.as_str());
            scope.problem(&list.index(index).key("upstream"), message);
        }
    }
    let here = at.key("rollout");
    let by = scope.read(&here.key("by"), &rollout.by, SplitKey::parse);
    let window = scope.duration(&here.key("window"), &rollout.window);
    if !WINDOWS.contains(&window) {
        scope.problem(&here.key("window"), "must lie between 5s and 10m");
    }
    Split {
        sides: read,
        by: by.unwrap_or(SplitKey::Random),
        stop: rollout.stop,
        window,
    }
}

impl RawSide {
    fn validate(
        &self,
        index: usize,
        at: &At<'_>,
        known: &Known<'_>,
        scope: &mut Scope<'_>,
    ) -> Side {
        known.upstream(&at.key("upstream"), &self.upstream, scope);
        let headers = self.headers.iter().filter_map(|(name, value)| {
            let table = at.key("headers");
            let here = table.key(name);
            let header = scope.read(&here, name, header_name);
            header.zip(scope.wanted(&here, value))
        });
        let headers = headers.collect();
        let cookies = values(&self.cookies, &at.key("cookies"), scope);
        for (claim, values) in &self.claims {
            if values.is_empty() {
                let table = at.key("claims");
                scope.problem(&table.key(claim), "an empty list names no value at all");
            }
        }
        let claims = self.claims.iter();
        let side = Side {
            upstream: UpstreamName::new(&self.upstream),
            weight: self.weight,
            headers,
            cookies,
            claims: claims.map(|(c, v)| (c.clone(), v.clone())).collect(),
        };
        let named = !(self.headers.is_empty() && self.cookies.is_empty() && self.claims.is_empty());
        if index == 0 && named {
            scope.problem(
                at,
                "the first side is the main one: it takes what the others do not, and names nothing",
            );
        }
        if self.weight == 0 && (index == 0 || !named) {
            let message =
                "0 takes nothing: only a further side with headers, cookies or claims may have it";
            scope.problem(&at.key("weight"), message);
        }
        if self.weight > MOST_WEIGHT {
            scope.problem(&at.key("weight"), format!("at most {MOST_WEIGHT}"));
        }
        side
    }
}
