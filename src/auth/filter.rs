//! The authenticators of one route, in order.

use std::sync::Arc;

use super::Authenticator;
use super::signature;
use crate::filter::{FilterContext, Note, Reason, Refusal, RequestFilter, RequestView, Verdict};

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

    /// Two signature schemes at once would leave open which parts of the request are covered.
    fn contradicts(&self, request: &RequestView<'_>) -> bool {
        let has = |name: &str| request.head.headers.contains_key(name);
        self.signs && has(signature::CA_HEADER) && has(signature::RFC9421_HEADER)
    }
}

/// Which authenticator asked for the body.
#[derive(Clone, Copy)]
struct Asked(usize);

impl Note for Asked {
    fn to_numbers(self) -> [u64; 3] {
        [self.0 as u64, 0, 0]
    }

    fn of_numbers([index, ..]: [u64; 3]) -> Self {
        Self(usize::try_from(index).unwrap_or(usize::MAX))
    }
}

impl RequestFilter for AuthFilter {
    fn name(&self) -> &str {
        &self.name
    }

    fn check(&self, context: &mut FilterContext<'_>) -> Verdict {
        if self.contradicts(&context.request) {
            return Verdict::Refuse(Refusal::new(
                Reason::SigConflict,
                "The request carries two kinds of signature; send one.",
            ));
        }
        let mut authenticators = self.authenticators.iter().enumerate();
        let decided = authenticators.find_map(|(index, auth)| {
            auth.check_presented(context)
                .map(|verdict| (index, verdict))
        });
        match decided {
            Some((index, verdict)) => {
                if matches!(verdict, Verdict::NeedBody) {
                    context.memory.note(self, Asked(index));
                }
                verdict
            }
            None => match self.authenticators.first() {
                Some(first) => Verdict::Refuse(first.missing()),
                None => Verdict::Continue,
            },
        }
    }

    fn check_body(&self, context: &mut FilterContext<'_>, body: &[u8]) -> Verdict {
        let asked = context.memory.take_note(self);
        match asked.and_then(|Asked(index)| self.authenticators.get(index)) {
            Some(auth) => auth.check_body(context, body),
            // Nobody asked for it.
            None => Verdict::Refuse(Refusal::new(Reason::Internal, "something is wrong with us")),
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
        fn presented(&self, request: &RequestView<'_>) -> bool {
            request.header(self.0).is_some()
        }
        fn check(&self, context: &mut FilterContext<'_>) -> Verdict {
            if context.request.header(self.0) == Some("body") {
                return Verdict::NeedBody;
            }
            if context.request.header(self.0) == Some("good") {
                return Verdict::Continue;
            }
            Verdict::Refuse(Refusal::new(Reason::TokenInvalid, "no"))
        }
        fn check_body(&self, _: &mut FilterContext<'_>, body: &[u8]) -> Verdict {
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
        let asked = |call: Call| filter.check(&mut call.context());
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
        for (body, expected) in [(b"x-b", "continue"), (b"x-a", "body_digest")] {
            let mut context = call.context();
            assert!(matches!(filter.check(&mut context), Verdict::NeedBody));
            assert_eq!(reason(&filter.check_body(&mut context, body)), expected);
        }
    }

    #[test]
    fn two_signature_schemes_conflict_where_signatures_count() {
        let call = Call::get("/")
            .header("x-a", "good")
            .header("x-ca-signature", "s")
            .header("signature-input", "s");
        assert_eq!(
            reason(&filter(true).check(&mut call.context())),
            "sig_conflict"
        );
        assert_eq!(
            reason(&filter(false).check(&mut call.context())),
            "continue"
        );
    }
}
