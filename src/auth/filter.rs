//! The authenticators of one route, in order.

use std::sync::Arc;

use super::Authenticator;
use super::signature;
use crate::filter::{Exchange, Reason, Refusal, RequestFilter, Verdict};

/// Asks the first authenticator whose credentials the request brings. Its answer is final: a bad token is not helped by
/// a good signature beside it, since falling through would let an attacker choose the weaker check.
pub struct AuthFilter {
    name: String,
    authenticators: Vec<Arc<dyn Authenticator>>,
    signs: bool,
}

impl AuthFilter {
    /// A filter for a route's `auth` list. An empty list lets everything pass.
    pub fn new(authenticators: Vec<Arc<dyn Authenticator>>) -> Self {
        let names: Vec<&str> = authenticators.iter().map(|auth| auth.name()).collect();
        Self {
            name: format!("auth.{}", names.join("|")),
            signs: authenticators.iter().any(|auth| auth.signs()),
            authenticators,
        }
    }

    fn presented(&self, exchange: &Exchange<'_>) -> Option<&Arc<dyn Authenticator>> {
        self.authenticators
            .iter()
            .find(|auth| auth.presented(exchange))
    }

    /// Two signature schemes at once would leave open which parts of the request are covered.
    fn contradicts(&self, exchange: &Exchange<'_>) -> bool {
        let has = |name: &str| exchange.head.headers.contains_key(name);
        self.signs && has(signature::CA_HEADER) && has(signature::RFC9421_HEADER)
    }
}

impl RequestFilter for AuthFilter {
    fn name(&self) -> &str {
        &self.name
    }

    fn check(&self, exchange: &mut Exchange<'_>) -> Verdict {
        if self.contradicts(exchange) {
            return Verdict::Refuse(Refusal::new(
                Reason::SigConflict,
                "The request carries two kinds of signature; send one.",
            ));
        }
        let mut authenticators = self.authenticators.iter();
        match authenticators.find_map(|auth| auth.check_presented(exchange)) {
            Some(verdict) => verdict,
            None => match self.authenticators.first() {
                Some(first) => Verdict::Refuse(first.missing()),
                None => Verdict::Continue,
            },
        }
    }

    fn check_body(&self, exchange: &mut Exchange<'_>, body: &[u8]) -> Verdict {
        match self.presented(exchange) {
            Some(auth) => auth.check_body(exchange, body),
            None => Verdict::Continue,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::testing::{Call, reason};

    /// Accepts when its header says `good`.
    struct Fake(&'static str, bool);

    impl Authenticator for Fake {
        fn name(&self) -> &str {
            self.0
        }
        fn presented(&self, exchange: &Exchange<'_>) -> bool {
            exchange.header(self.0).is_some()
        }
        fn check(&self, exchange: &mut Exchange<'_>) -> Verdict {
            if exchange.header(self.0) == Some("body") {
                return Verdict::NeedBody;
            }
            if exchange.header(self.0) == Some("good") {
                return Verdict::Continue;
            }
            Verdict::Refuse(Refusal::new(Reason::TokenInvalid, "no"))
        }
        fn check_body(&self, _: &mut Exchange<'_>, body: &[u8]) -> Verdict {
            if body == self.0.as_bytes() {
                return Verdict::Continue;
            }
            Verdict::Refuse(Refusal::new(Reason::BodyDigest, "no"))
        }
        fn missing(&self) -> Refusal {
            Refusal::new(Reason::TokenMissing, self.0)
        }
        fn signs(&self) -> bool {
            self.1
        }
    }

    fn filter(signs: bool) -> AuthFilter {
        AuthFilter::new(vec![
            Arc::new(Fake("x-a", false)),
            Arc::new(Fake("x-b", signs)),
        ])
    }

    #[test]
    fn the_first_presented_decides_alone() {
        let filter = filter(false);
        assert_eq!(filter.name(), "auth.x-a|x-b");
        let asked = |call: Call| filter.check(&mut call.exchange());
        assert_eq!(
            reason(&asked(Call::get("/").header("x-b", "good"))),
            "continue"
        );
        let both = Call::get("/").header("x-a", "bad").header("x-b", "good");
        assert_eq!(reason(&asked(both)), "token_invalid");
        assert_eq!(reason(&asked(Call::get("/"))), "token_missing");
    }

    #[test]
    fn the_body_goes_to_the_one_that_decided() {
        let filter = filter(false);
        let call = Call::get("/").header("x-b", "body");
        assert!(matches!(
            filter.check(&mut call.exchange()),
            Verdict::NeedBody
        ));
        assert_eq!(
            reason(&filter.check_body(&mut call.exchange(), b"x-b")),
            "continue"
        );
        assert_eq!(
            reason(&filter.check_body(&mut call.exchange(), b"x-a")),
            "body_digest"
        );
    }

    #[test]
    fn two_signature_schemes_conflict_where_signatures_count() {
        let call = Call::get("/")
            .header("x-a", "good")
            .header("x-ca-signature", "s")
            .header("signature-input", "s");
        assert_eq!(
            reason(&filter(true).check(&mut call.exchange())),
            "sig_conflict"
        );
        assert_eq!(
            reason(&filter(false).check(&mut call.exchange())),
            "continue"
        );
    }
}
