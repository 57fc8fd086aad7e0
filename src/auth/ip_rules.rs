//! `allow_ips` and `deny_ips` of a route or a listener.

use std::net::IpAddr;
use std::sync::Arc;

use crate::filter::{FilterContext, Reason, Refusal, RequestFilter, Verdict};
use crate::primitives::ranges::AddressRanges;

/// Looks at the client's address. The deny list comes first: an address in both lists stays out.
pub struct IpRules {
    allow: Option<Arc<AddressRanges>>,
    deny: Arc<AddressRanges>,
}

impl IpRules {
    /// Rules; `None` when they say nothing.
    pub fn new(allow: Option<Arc<AddressRanges>>, deny: Arc<AddressRanges>) -> Option<Self> {
        if allow.is_none() && deny.is_empty() {
            return None;
        }
        Some(Self { allow, deny })
    }

    /// Whether `address` may come in.
    pub fn admits(&self, address: IpAddr) -> bool {
        let allowed = || self.allow.as_ref().is_none_or(|l| l.contains(address));
        !self.deny.contains(address) && allowed()
    }

    /// The refusal of an address that may not.
    pub fn refusal() -> Refusal {
        Refusal::new(Reason::IpDenied, "Your address may not use this route.")
    }
}

impl RequestFilter for IpRules {
    fn name(&self) -> &str {
        "ip"
    }

    fn check(&self, context: &mut FilterContext<'_>) -> Verdict {
        if self.admits(context.request.client_ip) {
            Verdict::Continue
        } else {
            Verdict::Refuse(Self::refusal())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::testing::{Call, reason};

    fn ranges(texts: &[&str]) -> Arc<AddressRanges> {
        Arc::new(AddressRanges::new(
            texts
                .iter()
                .map(|text| AddressRanges::parse_one(text).unwrap())
                .collect(),
        ))
    }

    #[test]
    fn deny_comes_before_allow() {
        let allow = Some(ranges(&["10.0.0.0/8", "2001:db8::/32"]));
        let rules = IpRules::new(allow, ranges(&["10.9.0.0/16"])).unwrap();
        for (address, expected) in [
            ("10.1.2.3", "continue"),
            ("::ffff:10.1.2.3", "continue"),
            ("2001:db8::7", "continue"),
            ("10.9.0.1", "ip_denied"),
            ("::ffff:10.9.0.1", "ip_denied"),
            ("11.0.0.1", "ip_denied"),
            ("::1", "ip_denied"),
        ] {
            let call = Call::get("/").ip(address);
            assert_eq!(
                reason(&rules.check(&mut call.context())),
                expected,
                "{address}"
            );
        }
    }

    #[test]
    fn an_empty_allow_list_allows_nobody_and_no_rules_are_no_filter() {
        let rules = IpRules::new(Some(ranges(&[])), ranges(&[])).unwrap();
        assert_eq!(
            reason(&rules.check(&mut Call::get("/").context())),
            "ip_denied"
        );
        assert!(IpRules::new(None, ranges(&[])).is_none());
    }
}
