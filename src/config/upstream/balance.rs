//! `balance`, `hash_on` and `[upstream.NAME.score]`: how an endpoint is chosen.

use http::HeaderName;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::document::At;
use crate::config::scope::Scope;
use crate::primitives::units::{self, Percent};

#[derive(Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum RawBalance {
    #[default]
    WeightedRoundRobin,
    LeastConnections,
    PeakEwma,
    ConsistentHash,
    Random,
    Score,
}

/// How an endpoint is chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Balance {
    /// In turns, smoothly.
    WeightedRoundRobin,
    /// The one with the fewest requests in flight for its weight.
    LeastConnections,
    /// Of two the one that answers sooner.
    PeakEwma,
    /// One endpoint for one key, as long as it is there.
    ConsistentHash {
        /// What the key is.
        on: HashOn,
        /// How much more than its share an endpoint may hold before further keys go elsewhere.
        excess: Percent,
    },
    /// Any.
    Random,
    /// In turns, with weights that follow what is seen of each.
    Score(Score),
}

impl Balance {
    /// As the file says it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::WeightedRoundRobin => "weighted_round_robin",
            Self::LeastConnections => "least_connections",
            Self::PeakEwma => "peak_ewma",
            Self::ConsistentHash { .. } => "consistent_hash",
            Self::Random => "random",
            Self::Score(_) => "score",
        }
    }
}

/// What `consistent_hash` hashes. A request without it is hashed by the client's address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HashOn {
    /// The client's address.
    ClientIp,
    /// The first value of a header.
    Header(HeaderName),
    /// A cookie.
    Cookie(String),
    /// The path, in normal form.
    Path,
    /// A claim, by dotted path.
    Claim(String),
}

impl HashOn {
    fn parse(text: &str) -> Result<Self, String> {
        match (text, text.split_once(':')) {
            ("client_ip", _) => Ok(Self::ClientIp),
            ("path", _) => Ok(Self::Path),
            (_, Some(("header", name))) => name
                .parse()
                .map(Self::Header)
                .map_err(|_| format!("{name:?} is no header name")),
            (_, Some(("cookie", name))) if !name.is_empty() => Ok(Self::Cookie(name.to_owned())),
            (_, Some(("claim", path))) if !path.is_empty() => Ok(Self::Claim(path.to_owned())),
            _ => Err(format!(
                "{text:?} is none of client_ip, header:NAME, cookie:NAME, path, claim:NAME"
            )),
        }
    }
}

#[derive(Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawScore {
    /// Header in which an endpoint may report its load, in answers and in those to checks.
    load_header: String,
    /// What is left of a weight at the worst.
    least: String,
}

impl Default for RawScore {
    fn default() -> Self {
        Self {
            load_header: "endpoint-load-metrics".into(),
            least: "2%".into(),
        }
    }
}

/// How weights follow what is seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Score {
    /// Header in which an endpoint may report its load.
    pub load_header: HeaderName,
    /// What is left of a weight at the worst; more than nothing.
    pub least: Percent,
}

impl RawScore {
    fn validate(&self, at: &At<'_>, scope: &mut Scope<'_>) -> Score {
        let header = scope.read(&at.key("load_header"), &self.load_header, |name| {
            name.parse()
                .map_err(|_| format!("{name:?} is no header name"))
        });
        let least = scope.read(&at.key("least"), &self.least, units::percent);
        if least == Some(Percent::ZERO) {
            scope.problem(
                &at.key("least"),
                "must be more than nothing: an endpoint without requests could never show that it is well again",
            );
        }
        Score {
            load_header: header.unwrap_or_else(|| HeaderName::from_static("endpoint-load-metrics")),
            least: least.unwrap_or(Percent::whole(2)),
        }
    }
}

/// Keys of an upstream that say how an endpoint is chosen.
pub(super) struct RawChoice<'r> {
    pub(super) balance: RawBalance,
    pub(super) hash_on: Option<&'r String>,
    pub(super) hash_excess: Option<&'r String>,
    pub(super) score: Option<&'r RawScore>,
}

impl RawChoice<'_> {
    pub(super) fn validate(&self, at: &At<'_>, scope: &mut Scope<'_>) -> Balance {
        let hashes = self.balance == RawBalance::ConsistentHash;
        let foreign = [
            (
                "hash_on",
                self.hash_on.is_some() && !hashes,
                "consistent_hash",
            ),
            (
                "hash_excess",
                self.hash_excess.is_some() && !hashes,
                "consistent_hash",
            ),
            (
                "score",
                self.score.is_some() && self.balance != RawBalance::Score,
                "score",
            ),
        ];
        for (key, wrong, balance) in foreign {
            if wrong {
                scope.problem(
                    &at.key(key),
                    format!("means nothing without balance = \"{balance}\""),
                );
            }
        }
        let on = self
            .hash_on
            .and_then(|text| scope.read(&at.key("hash_on"), text, HashOn::parse));
        let excess = self
            .hash_excess
            .and_then(|text| scope.read(&at.key("hash_excess"), text, units::percent));
        match self.balance {
            RawBalance::WeightedRoundRobin => Balance::WeightedRoundRobin,
            RawBalance::LeastConnections => Balance::LeastConnections,
            RawBalance::PeakEwma => Balance::PeakEwma,
            RawBalance::Random => Balance::Random,
            RawBalance::ConsistentHash => Balance::ConsistentHash {
                on: on.unwrap_or(HashOn::ClientIp),
                excess: excess.unwrap_or(Percent::whole(25)),
            },
            RawBalance::Score => {
                let raw = self.score.cloned().unwrap_or_default();
                Balance::Score(raw.validate(&at.key("score"), scope))
            }
        }
    }
}
