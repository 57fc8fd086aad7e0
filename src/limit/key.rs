//! What a request is counted under, as one number.
//!
//! The number is a 64-bit SipHash under a seed that nobody outside knows: callers cannot aim at each other's
//! number, nothing of the key itself is kept, and no memory is allocated. Among a million keys the odds that any two
//! share a number are 3 in 10^8; a pair that did would share one allowance, and no later check would tell them apart.
//!
//! An IPv6 client is counted by its /64: that is what a subscriber gets, so anything longer would hand one client
//! 2^64 allowances. An IPv4 address in IPv6 form is the IPv4 address.

use std::fmt::{Result as Written, Write};
use std::hash::{BuildHasher, Hasher};
use std::net::IpAddr;
use std::sync::Arc;

use serde_json::Value;
use siphasher::sip::SipHasher13;

use super::seed::Seed;
use crate::config::{Limit, LimitKey, OnMissingKey};
use crate::filter::{Caller, FilterContext, Note, is_distinct};

/// Finds the key of one limit.
pub(super) struct KeyFinder {
    source: LimitKey,
    on_missing: OnMissingKey,
    seed: Arc<Seed>,
}

/// What a request is counted under.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// The key as a number, which is never zero.
    Key(u64),
    /// The request has no such key and is refused.
    Deny,
    /// The request has no such key and passes uncounted.
    Skip,
}

/// Goes first into the hash, so that a claim that reads like an address is not counted with the address. Counts travel to
/// other versions: a number is never used for something else (2, 4, 5 and 6 were callers without their authenticator).
#[derive(Clone, Copy)]
enum Kind {
    Ipv4 = 0,
    Ipv6 = 1,
    Header = 3,
    Route = 7,
    ClientCert = 8,
    Caller = 9,
    Claim = 10,
}

/// The number of the client's address, and the first half of the seed that it was made under.
#[derive(Clone, Copy)]
struct AddressNumber {
    under: u64,
    number: u64,
}

impl Note for AddressNumber {
    fn to_numbers(self) -> [u64; 3] {
        [self.under, self.number, 0]
    }

    fn of_numbers([under, number, _]: [u64; 3]) -> Self {
        Self { under, number }
    }
}

impl KeyFinder {
    pub(super) fn new(limit: &Limit, seed: &Arc<Seed>) -> Self {
        Self {
            source: limit.key.clone(),
            on_missing: limit.on_missing_key,
            seed: Arc::clone(seed),
        }
    }

    pub(super) fn find(&self, context: &mut FilterContext<'_>) -> Found {
        let key = match &self.source {
            LimitKey::ClientIp => Some(self.client(context)),
            LimitKey::Consumer => context
                .principal
                .as_ref()
                .and_then(|principal| principal.caller())
                .map(|caller| self.caller(&caller)),
            LimitKey::Header(name) => context
                .request
                .head
                .headers
                .get(name)
                .and_then(|value| self.text(Kind::Header, value.as_bytes())),
            LimitKey::Claim(path) => context
                .principal
                .as_ref()
                .and_then(|principal| self.claim(principal.auth.as_str(), principal.claim(path)?)),
            LimitKey::ClientCert(part) => context
                .request
                .certificate
                .and_then(|certificate| certificate.part(*part))
                .and_then(|value| self.text(Kind::ClientCert, value.as_bytes())),
            // Answers have a pace each; that there is one is all that is asked.
            LimitKey::Response => Some(1),
            LimitKey::Route => {
                Some(self.number(Kind::Route, context.request.route.as_str().as_bytes()))
            }
        };
        match (key, self.on_missing) {
            (Some(key), _) => Found::Key(key),
            (None, OnMissingKey::Deny) => Found::Deny,
            (None, OnMissingKey::Skip) => Found::Skip,
            (None, OnMissingKey::ClientIp) => Found::Key(self.client(context)),
        }
    }

    /// The client's address. Several limits of a route ask for it: it is worked out once.
    fn client(&self, context: &mut FilterContext<'_>) -> u64 {
        let [seed, _] = self.seed.numbers();
        match context.memory.noted(&*self.seed) {
            Some(AddressNumber { under, number }) if under == seed => number,
            _ => {
                let number = self.address(context.request.client_ip);
                let noted = AddressNumber {
                    under: seed,
                    number,
                };
                context.memory.note(&*self.seed, noted);
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

    /// A name means somebody only together with who says it.
    fn caller(&self, caller: &Caller<'_>) -> u64 {
        let mut hasher = self.begin(Kind::Caller);
        framed(&mut hasher, caller.auth);
        hasher.write_u8(caller.named_by as u8);
        hasher.write(caller.name.as_bytes());
        hasher.finish().max(1)
    }

    /// A claim counts as its text, as it does in headers and in `require`: 7 and "7" are one. A list or an object names
    /// nobody, and neither does a number that others read like; it counts as missing.
    fn claim(&self, auth: &str, value: &Value) -> Option<u64> {
        let mut hasher = self.begin(Kind::Claim);
        framed(&mut hasher, auth);
        let mut text = Hashed(&mut hasher);
        // Hashing cannot fail.
        let _ = match value {
            Value::String(empty) if empty.is_empty() => return None,
            Value::String(string) => text.write_str(string),
            Value::Bool(flag) => write!(text, "{flag}"),
            Value::Number(number) if is_distinct(number) => write!(text, "{number}"),
            Value::Number(_) | Value::Null | Value::Array(_) | Value::Object(_) => return None,
        };
        Some(hasher.finish().max(1))
    }

    /// Zero marks a free place in a table, so it stands for no key.
    fn number(&self, kind: Kind, bytes: &[u8]) -> u64 {
        let mut hasher = self.begin(kind);
        hasher.write(bytes);
        hasher.finish().max(1)
    }

    fn begin(&self, kind: Kind) -> SipHasher13 {
        let mut hasher = self.seed.build_hasher();
        hasher.write_u8(kind as u8);
        hasher
    }
}

/// Adds a text behind its length, so that what follows it cannot be taken for its end.
fn framed(hasher: &mut impl Hasher, text: &str) {
    hasher.write_u64(text.len() as u64);
    hasher.write(text.as_bytes());
}

/// Writes into a hash: no text is made of a number that is only counted.
struct Hashed<'h, H>(&'h mut H);

impl<H: Hasher> Write for Hashed<'_, H> {
    fn write_str(&mut self, text: &str) -> Written {
        self.0.write(text.as_bytes());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::testing::{self, Request};
    use super::*;
    use crate::filter::{NamedBy, Principal};
    use crate::primitives::AuthName;

    fn finder(source: LimitKey, on_missing: OnMissingKey) -> KeyFinder {
        let mut limit = testing::estimator("5/s");
        (limit.key, limit.on_missing_key) = (source, on_missing);
        KeyFinder::new(&limit, &Arc::new(Seed::random()))
    }

    fn principal(consumer: &str, claims: Value) -> Arc<Principal> {
        Arc::new(Principal {
            claims,
            ..Principal::named(&AuthName::new("app"), NamedBy::Subject, consumer)
        })
    }

    #[test]
    fn counts_an_ipv6_client_by_its_64() {
        let finder = finder(LimitKey::ClientIp, OnMissingKey::Deny);
        let of = |ip: &str| finder.find(&mut Request::new().from(ip).context(1));
        assert_eq!(of("2001:db8:1:2::1"), of("2001:db8:1:2:ffff::9"));
        assert_ne!(of("2001:db8:1:2::1"), of("2001:db8:1:3::1"));
        assert_ne!(of("192.0.2.1"), of("192.0.2.2"));
        assert_eq!(of("192.0.2.1"), of("::ffff:192.0.2.1"));
    }

    #[test]
    fn a_missing_key_is_denied_counted_by_address_or_skipped() {
        let request = Request::new();
        let mut context = request.context(1);
        for source in [
            LimitKey::Consumer,
            LimitKey::Claim("sub".into()),
            LimitKey::Header("x-app".parse().unwrap()),
        ] {
            let mut with = |on_missing| finder(source.clone(), on_missing).find(&mut context);
            assert_eq!(with(OnMissingKey::Deny), Found::Deny);
            assert_eq!(with(OnMissingKey::Skip), Found::Skip);
            assert!(matches!(with(OnMissingKey::ClientIp), Found::Key(_)));
        }
    }

    #[test]
    fn an_empty_consumer_header_or_claim_is_missing() {
        let request = Request::new().header("x-app", "");
        let mut context = request.context(1);
        context.principal = Some(principal("", json!({ "sub": "", "roles": ["a"] })));
        for source in [
            LimitKey::Consumer,
            LimitKey::Claim("sub".into()),
            LimitKey::Claim("roles".into()),
            LimitKey::Header("x-app".parse().unwrap()),
        ] {
            let finder = finder(source, OnMissingKey::Deny);
            assert_eq!(finder.find(&mut context), Found::Deny);
        }
    }

    #[test]
    fn different_callers_have_different_keys() {
        let finder = finder(LimitKey::Claim("user.id".into()), OnMissingKey::Deny);
        let request = Request::new();
        let of = |id: Value| {
            let mut context = request.context(1);
            context.principal = Some(principal("c", json!({ "user": { "id": id } })));
            finder.find(&mut context)
        };
        let ids = [json!("7"), json!(-7), json!(7.5), json!("8"), json!(true)];
        for (index, id) in ids.iter().enumerate() {
            assert_eq!(of(id.clone()), of(id.clone()));
            for other in &ids[..index] {
                assert_ne!(of(id.clone()), of(other.clone()));
            }
        }
        // Two whole numbers that are one as doubles.
        for large in ["12345678901234567890123", "9007199254740993.0"] {
            let claim: Value = serde_json::from_str(large).expect("JSON");
            assert_eq!(of(claim), Found::Deny, "{large}");
        }
        for (one, same) in [(json!(7), json!("7")), (json!(true), json!("true"))] {
            assert_eq!(of(one), of(same), "a claim counts as its text");
        }
    }

    #[test]
    fn a_caller_is_who_authenticated_him_and_as_what() {
        let request = Request::new();
        for source in [LimitKey::Consumer, LimitKey::Claim("sub".into())] {
            let finder = finder(source.clone(), OnMissingKey::Deny);
            let of = |auth: &str, named_by, name: &str| {
                let mut context = request.context(1);
                context.principal = Some(Arc::new(Principal {
                    claims: json!({ "sub": name }),
                    ..Principal::named(&AuthName::new(auth), named_by, name)
                }));
                finder.find(&mut context)
            };
            let known = of("app", NamedBy::Subject, "7");
            assert_eq!(known, of("app", NamedBy::Subject, "7"));
            assert_ne!(known, of("partner", NamedBy::Subject, "7"));
            assert_ne!(
                of("a", NamedBy::Subject, "bc"),
                of("ab", NamedBy::Subject, "c")
            );
            if source == LimitKey::Consumer {
                assert_ne!(known, of("app", NamedBy::ClientId, "7"));
            }
        }
    }
}
