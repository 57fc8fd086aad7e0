//! Who is calling, as an authenticator established it.

use std::sync::Arc;

use http::{HeaderName, HeaderValue};
use serde_json::{Number, Value};

use crate::primitives::AuthName;

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
    /// The caller's name; not empty.
    pub name: &'p str,
}

/// Who is calling, as an authenticator established it.
#[derive(Debug)]
pub struct Principal {
    /// The `[auth.NAME]` that established it.
    pub auth: AuthName,
    /// `auth` as a header value, made once: the value of `X-Consumer-Auth`.
    pub auth_header: Option<HeaderValue>,
    /// What `consumer` is.
    pub named_by: NamedBy,
    /// `sub` of a token, or the application's key: what `X-Consumer` says. Two authenticators may mean two callers by it;
    /// see [`Principal::caller`].
    pub consumer: Arc<str>,
    /// `consumer` as a header value, made once: the value of `X-Consumer`.
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
