//! Which side of a split a request goes to.

use std::borrow::Cow;
use std::hash::Hasher;
use std::net::IpAddr;
use std::sync::Arc;

use http::{HeaderMap, HeaderName, header};
use serde_json::Value;
use siphasher::sip::SipHasher13;

use super::judge::{RolloutFacts, SideFacts};
use crate::config::{self, Side, SplitKey};
use crate::filter::{Principal, is_distinct};
use crate::primitives::digest::names128;
use crate::primitives::{RouteName, query};

/// A split, ready to choose from.
pub struct Split {
    settings: config::Split,
    /// One for each side.
    seeds: Vec<[u64; 2]>,
    facts: Arc<RolloutFacts>,
}

/// A request, as far as its side depends on it.
#[derive(Clone, Copy)]
pub struct Asked<'a> {
    /// Header fields.
    pub headers: &'a HeaderMap,
    /// The client's address.
    pub client_ip: IpAddr,
    /// Who is calling.
    pub principal: Option<&'a Principal>,
    /// A number that no other request has.
    pub random: u64,
}

/// Why a request goes to a side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// The side names it.
    Named,
    /// The request's key falls there.
    Key,
    /// Chance.
    Chance,
}

impl Why {
    /// In words.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Named => "it names the request",
            Self::Key => "the request's key falls there",
            Self::Chance => "by chance",
        }
    }
}

impl Split {
    /// The split of a route.
    pub fn new(route: &RouteName, settings: &config::Split, facts: Arc<RolloutFacts>) -> Self {
        let seed = |side: &Side| {
            // Clients stay on their side when the program changes.
            let seed = names128(&[route.as_str(), side.upstream.as_str()]);
            [(seed >> 64) as u64, seed as u64]
        };
        Self {
            seeds: settings.sides.iter().map(seed).collect(),
            settings: settings.clone(),
            facts,
        }
    }

    /// The number of the side that a request goes to.
    pub fn pick(&self, asked: &Asked<'_>) -> (usize, Why) {
        let open = |index: usize| !self.facts.side(index).is_some_and(SideFacts::stopped);
        let sides = self.settings.sides.iter().enumerate();
        let mut named = sides.clone().filter(|(index, side)| {
            *index > 0 && side.names_some() && open(*index) && names(side, asked)
        });
        if let Some((index, _)) = named.next() {
            return (index, Why::Named);
        }
        let weight = |index: usize, side: &Side| if open(index) { side.weight } else { 0 };
        match self.settings.by {
            SplitKey::Random => {
                let total: u64 = sides
                    .clone()
                    .map(|(i, side)| u64::from(weight(i, side)))
                    .sum();
                let mut left = mix(asked.random) % total.max(1);
                for (index, side) in sides {
                    let weight = u64::from(weight(index, side));
                    if left < weight {
                        return (index, Why::Chance);
                    }
                    left -= weight;
                }
                (0, Why::Chance)
            }
            _ => {
                let mut best = (0, f64::INFINITY);
                for (index, side) in sides {
                    let weight = weight(index, side);
                    if weight == 0 {
                        continue;
                    }
                    let score = self.score(index, asked) / f64::from(weight);
                    if score < best.1 {
                        best = (index, score);
                    }
                }
                (best.0, Why::Key)
            }
        }
    }

    /// Settings of its sides.
    pub fn sides(&self) -> &[Side] {
        &self.settings.sides
    }

    /// What is known of its sides.
    pub fn facts(&self) -> &Arc<RolloutFacts> {
        &self.facts
    }

    /// How far a request's key is from a side: exponentially distributed, so that the least of `score / weight` falls to
    /// each side by its weight.
    fn score(&self, index: usize, asked: &Asked<'_>) -> f64 {
        let [first, second] = self.seeds[index];
        let mut hasher = SipHasher13::new_with_keys(first, second);
        if !self.key(asked, &mut hasher) {
            address(asked.client_ip, &mut hasher);
        }
        // 53 bits, never zero.
        let share = ((hasher.finish() >> 11) as f64 + 0.5) / (1_u64 << 53) as f64;
        -share.ln()
    }

    /// Adds the key; `false` when the request has none.
    fn key(&self, asked: &Asked<'_>, hasher: &mut SipHasher13) -> bool {
        let mut add = |bytes: &[u8]| {
            hasher.write(bytes);
            !bytes.is_empty()
        };
        match &self.settings.by {
            SplitKey::Random | SplitKey::ClientIp => false,
            // What a caller is called, and what is claimed of one, means something only beside who says so.
            SplitKey::Consumer => asked
                .principal
                .and_then(Principal::caller)
                .is_some_and(|who| {
                    framed(who.auth, &mut add);
                    framed(who.named_by.as_str(), &mut add);
                    add(who.name.as_bytes())
                }),
            SplitKey::Header(name) => first(asked.headers, name).is_some_and(|v| add(v.as_bytes())),
            SplitKey::Cookie(name) => {
                cookie(asked.headers, name).is_some_and(|v| add(v.as_bytes()))
            }
            SplitKey::Claim(path) => {
                let said = asked
                    .principal
                    .and_then(|p| Some((&p.auth, p.claim(path)?)));
                let text = said.and_then(|(auth, claim)| match claim {
                    Value::String(text) if !text.is_empty() => Some((auth, Cow::from(text))),
                    // One that other numbers read like is no key.
                    Value::Number(number) if !is_distinct(number) => None,
                    Value::Number(_) | Value::Bool(_) => Some((auth, claim.to_string().into())),
                    _ => None,
                });
                text.is_some_and(|(auth, text)| {
                    framed(auth.as_str(), &mut add);
                    add(text.as_bytes())
                })
            }
        }
    }
}

/// Adds a text behind its length.
fn framed(text: &str, add: &mut impl FnMut(&[u8]) -> bool) {
    add(&(text.len() as u64).to_be_bytes());
    add(text.as_bytes());
}

/// Whether a side names this request.
fn names(side: &Side, asked: &Asked<'_>) -> bool {
    let header = |name: &HeaderName| {
        let values = asked.headers.get_all(name).iter();
        values.filter_map(|value| value.to_str().ok())
    };
    side.headers
        .iter()
        .any(|(name, wanted)| header(name).any(|value| wanted.matches(value)))
        || side.cookies.iter().any(|(name, wanted)| {
            cookie(asked.headers, name).is_some_and(|value| wanted.matches(value))
        })
        || side.claims.iter().any(|(path, wanted)| {
            let claim = asked.principal.and_then(|principal| principal.claim(path));
            claim.is_some_and(|claim| says(claim, wanted))
        })
}

/// Whether a claim is, or holds, one of these values.
fn says(claim: &Value, wanted: &[String]) -> bool {
    match claim {
        Value::String(text) => wanted.contains(text),
        Value::Array(list) => list.iter().any(|one| !one.is_array() && says(one, wanted)),
        Value::Number(_) | Value::Bool(_) => wanted.contains(&claim.to_string()),
        Value::Null | Value::Object(_) => false,
    }
}

fn first<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

fn cookie<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    let fields = headers.get_all(header::COOKIE).iter();
    let texts = fields.filter_map(|value| value.to_str().ok());
    texts.filter_map(|text| query::cookie(text, name)).next()
}

/// An IPv6 client by its /64: that is what a subscriber keeps.
fn address(ip: IpAddr, hasher: &mut SipHasher13) {
    match ip.to_canonical() {
        IpAddr::V4(ip) => hasher.write(&ip.octets()),
        IpAddr::V6(ip) => hasher.write(&ip.octets()[..8]),
    }
}

/// Spreads the bits of a number (the finaliser of SplitMix64).
pub(super) fn mix(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests;
