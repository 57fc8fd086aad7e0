//! What a request is counted under, as one number.
//!
//! The number is a 64-bit SipHash under a seed that nobody outside knows: callers cannot aim at each other's
//! number, nothing of the key itself is kept, and no memory is allocated. Among a million keys the odds that any two
//! share a number are 3 in 10^8; a pair that did would share one allowance, and no later check would tell them apart.
//!
//! An IPv6 client is counted by its /64: that is what a subscriber gets, so anything longer would hand one client
//! 2^64 allowances. An IPv4 address in IPv6 form is the IPv4 address.

use std::hash::{BuildHasher, Hasher};
use std::net::IpAddr;
use std::sync::Arc;

use serde_json::Value;

use super::seed::Seed;
use crate::config::{Limit, LimitKey, OnMissingKey};
use crate::filter::Exchange;

/// Finds the key of one limit.
pub(super) struct KeyFinder {
    source: LimitKey,
    on_missing: OnMissingKey,
    seed: Arc<Seed>,
}

/// What a request is counted under.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// This number, which is never zero.
    Key(u64),
    /// It has no such key and is refused.
    Deny,
    /// It has no such key and passes uncounted.
    Skip,
}

/// Goes first into the hash, so that a claim that reads like an address is not counted with the address.
#[derive(Clone, Copy)]
enum Kind {
    Ipv4,
    Ipv6,
    Consumer,
    Header,
    Text,
    Number,
    Flag,
    Route,
    ClientCert,
}

impl KeyFinder {
    pub(super) fn new(limit: &Limit, seed: &Arc<Seed>) -> Self {
        Self {
            source: limit.key.clone(),
            on_missing: limit.on_missing_key,
            seed: Arc::clone(seed),
        }
    }

    pub(super) fn find(&self, exchange: &mut Exchange<'_>) -> Found {
        let key = match &self.source {
            LimitKey::ClientIp => Some(self.client(exchange)),
            LimitKey::Consumer => exchange
                .principal
                .as_ref()
                .and_then(|principal| self.text(Kind::Consumer, principal.consumer.as_bytes())),
            LimitKey::Header(name) => exchange
                .head
                .headers
                .get(name)
                .and_then(|value| self.text(Kind::Header, value.as_bytes())),
            LimitKey::Claim(path) => exchange
                .principal
                .as_ref()
                .and_then(|principal| principal.claim(path))
                .and_then(|value| self.claim(value)),
            LimitKey::ClientCert(part) => exchange
                .certificate
                .and_then(|certificate| certificate.part(*part))
                .and_then(|value| self.text(Kind::ClientCert, value.as_bytes())),
            // Answers have a pace each; that there is one is all that is asked.
            LimitKey::Response => Some(1),
            LimitKey::Route => Some(self.number(Kind::Route, exchange.route.as_str().as_bytes())),
        };
        match (key, self.on_missing) {
            (Some(key), _) => Found::Key(key),
            (None, OnMissingKey::Deny) => Found::Deny,
            (None, OnMissingKey::Skip) => Found::Skip,
            (None, OnMissingKey::ClientIp) => Found::Key(self.client(exchange)),
        }
    }

    /// The client's address. Several limits of a route ask for it: it is worked out once.
    fn client(&self, exchange: &mut Exchange<'_>) -> u64 {
        let [seed, _] = self.seed.numbers();
        match exchange.address_number {
            Some((of, number)) if of == seed => number,
            _ => {
                let number = self.address(exchange.client_ip);
                exchange.address_number = Some((seed, number));
                number
            }
        }
    }

    fn address(&self, ip: IpAddr) -> u64 {
        match ip.to_canonical() {
            IpAddr::V4(ip) => self.number(Kind::Ipv4, &ip.octets()),
            IpAddr::V6(ip) => self.number(Kind::Ipv6, &ip.octets()[..8]),
        }
    }

    /// Empty text is no key: all who send nothing would share one allowance.
    fn text(&self, kind: Kind, bytes: &[u8]) -> Option<u64> {
        (!bytes.is_empty()).then(|| self.number(kind, bytes))
    }

    /// A list or an object names nobody; it counts as missing.
    fn claim(&self, value: &Value) -> Option<u64> {
        match value {
            Value::String(text) => self.text(Kind::Text, text.as_bytes()),
            Value::Bool(flag) => Some(self.number(Kind::Flag, &[u8::from(*flag)])),
            Value::Number(number) => {
                let bits = number
                    .as_u64()
                    .or_else(|| number.as_i64().map(i64::cast_unsigned))
                    .or_else(|| number.as_f64().map(f64::to_bits))?;
                Some(self.number(Kind::Number, &bits.to_le_bytes()))
            }
            Value::Null | Value::Array(_) | Value::Object(_) => None,
        }
    }

    /// Zero marks a free place in a table, so it stands for no key.
    fn number(&self, kind: Kind, bytes: &[u8]) -> u64 {
        let mut hasher = self.seed.build_hasher();
        hasher.write_u8(kind as u8);
        hasher.write(bytes);
        hasher.finish().max(1)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::testing::{self, Request};
    use super::*;
    use crate::filter::Principal;

    fn finder(source: LimitKey, on_missing: OnMissingKey) -> KeyFinder {
        let mut limit = testing::estimator("5/s");
        (limit.key, limit.on_missing_key) = (source, on_missing);
        KeyFinder::new(&limit, &Arc::new(Seed::random()))
    }

    fn principal(consumer: &str, claims: Value) -> Arc<Principal> {
        Arc::new(Principal {
            consumer: consumer.into(),
            consumer_header: None,
            claims,
            tier: None,
            forward: Vec::new(),
        })
    }

    #[test]
    fn counts_an_ipv6_client_by_its_64() {
        let finder = finder(LimitKey::ClientIp, OnMissingKey::Deny);
        let of = |ip: &str| finder.find(&mut Request::new().from(ip).exchange(1));
        assert_eq!(of("2001:db8:1:2::1"), of("2001:db8:1:2:ffff::9"));
        assert_ne!(of("2001:db8:1:2::1"), of("2001:db8:1:3::1"));
        assert_ne!(of("192.0.2.1"), of("192.0.2.2"));
        assert_eq!(of("192.0.2.1"), of("::ffff:192.0.2.1"));
    }

    #[test]
    fn a_missing_key_is_denied_counted_by_address_or_skipped() {
        let request = Request::new();
        let mut exchange = request.exchange(1);
        for source in [
            LimitKey::Consumer,
            LimitKey::Claim("sub".into()),
            LimitKey::Header("x-app".parse().unwrap()),
        ] {
            let mut with = |on_missing| finder(source.clone(), on_missing).find(&mut exchange);
            assert_eq!(with(OnMissingKey::Deny), Found::Deny);
            assert_eq!(with(OnMissingKey::Skip), Found::Skip);
            assert!(matches!(with(OnMissingKey::ClientIp), Found::Key(_)));
        }
    }

    #[test]
    fn an_empty_consumer_header_or_claim_is_missing() {
        let request = Request::new().header("x-app", "");
        let mut exchange = request.exchange(1);
        exchange.principal = Some(principal("", json!({ "sub": "", "roles": ["a"] })));
        for source in [
            LimitKey::Consumer,
            LimitKey::Claim("sub".into()),
            LimitKey::Claim("roles".into()),
            LimitKey::Header("x-app".parse().unwrap()),
        ] {
            let finder = finder(source, OnMissingKey::Deny);
            assert_eq!(finder.find(&mut exchange), Found::Deny);
        }
    }

    #[test]
    fn different_callers_have_different_keys() {
        let finder = finder(LimitKey::Claim("user.id".into()), OnMissingKey::Deny);
        let request = Request::new();
        let of = |id: Value| {
            let mut exchange = request.exchange(1);
            exchange.principal = Some(principal("c", json!({ "user": { "id": id } })));
            finder.find(&mut exchange)
        };
        let ids = [
            json!("7"),
            json!(7),
            json!(-7),
            json!(7.5),
            json!("8"),
            json!(true),
        ];
        for (index, id) in ids.iter().enumerate() {
            assert_eq!(of(id.clone()), of(id.clone()));
            for other in &ids[..index] {
                assert_ne!(of(id.clone()), of(other.clone()));
            }
        }
    }
}
