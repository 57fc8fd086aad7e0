//! `require`: what a token, or the client's certificate, must say before it may use a route.

use serde_json::Value;

use crate::config::CertificatePart;
use crate::filter::{FilterContext, Reason, Refusal, RequestFilter, Verdict};

/// Requires claims. Every one named must have one of its values; an array has a value when one of its elements does.
pub struct ClaimsFilter {
    require: Vec<(Source, Vec<String>)>,
}

/// Where a claim is found. A token cannot speak for a certificate: the names of its parts are never looked up in one.
enum Source {
    Claim(String),
    Certificate(CertificatePart),
}

impl ClaimsFilter {
    /// Requires these claims (dotted paths); `None` when there are none.
    pub fn new(require: Vec<(String, Vec<String>)>) -> Option<Self> {
        let source = |name: String| match CertificatePart::parse(&name) {
            Ok(part) => Source::Certificate(part),
            Err(_) => Source::Claim(name),
        };
        let require: Vec<_> = require
            .into_iter()
            .map(|(name, allowed)| (source(name), allowed))
            .collect();
        (!require.is_empty()).then_some(Self { require })
    }
}

impl RequestFilter for ClaimsFilter {
    fn name(&self) -> &str {
        "claims"
    }

    fn check(&self, context: &mut FilterContext<'_>) -> Verdict {
        let principal = context.principal.as_deref();
        let met = self.require.iter().all(|(source, allowed)| match source {
            Source::Claim(path) => principal
                .and_then(|principal| principal.claim(path))
                .is_some_and(|claim| has_one(claim, allowed)),
            Source::Certificate(part) => context
                .request
                .certificate
                .and_then(|certificate| certificate.part(*part))
                .is_some_and(|value| allowed.iter().any(|allowed| value == allowed.as_str())),
        });
        if met {
            return Verdict::Continue;
        }
        // Neither the claim nor its values are named: they would tell what to ask an issuer for.
        Verdict::Refuse(Refusal::new(
            Reason::ClaimsDenied,
            "Your credentials do not allow this request.",
        ))
    }
}

fn has_one(claim: &Value, allowed: &[String]) -> bool {
    match claim {
        Value::Array(elements) => elements.iter().any(|element| is_one(element, allowed)),
        scalar => is_one(scalar, allowed),
    }
}

fn is_one(scalar: &Value, allowed: &[String]) -> bool {
    match scalar {
        Value::String(text) => allowed.contains(text),
        Value::Bool(true) => allowed.iter().any(|value| value == "true"),
        Value::Bool(false) => allowed.iter().any(|value| value == "false"),
        Value::Number(number) => {
            let text = number.to_string();
            allowed.contains(&text)
        }
        Value::Null | Value::Array(_) | Value::Object(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::*;
    use crate::auth::testing::{Call, reason};
    use crate::filter::{NamedBy, Principal};
    use crate::primitives::AuthName;

    fn asked(path: &str, allowed: &[&str], claims: Value) -> &'static str {
        let allowed = allowed.iter().map(|v| (*v).to_owned()).collect();
        let filter = ClaimsFilter::new(vec![(path.to_owned(), allowed)]).unwrap();
        let call = Call::get("/");
        let mut context = call.context();
        context.principal = Some(Arc::new(Principal {
            claims,
            ..Principal::named(&AuthName::new("app"), NamedBy::Subject, "someone")
        }));
        reason(&filter.check(&mut context))
    }

    #[test]
    fn any_of_the_values_will_do() {
        let roles = ["admin", "editor"];
        assert_eq!(asked("role", &roles, json!({"role": "editor"})), "continue");
        assert_eq!(
            asked("role", &roles, json!({"role": ["viewer", "admin"]})),
            "continue"
        );
        for claims in [
            json!({}),
            json!(null),
            json!({"role": "Admin"}),
            json!({"role": "admin,editor"}),
            json!({"role": []}),
            json!({"role": [["admin"]]}),
            json!({"role": {"admin": true}}),
            json!({"role": null}),
        ] {
            assert_eq!(
                asked("role", &roles, claims.clone()),
                "claims_denied",
                "{claims}"
            );
        }
    }

    #[test]
    fn paths_reach_into_objects_and_scalars_compare_as_text() {
        let claims = json!({"org": {"plan": 3, "active": true}, "a.b": "dotted"});
        assert_eq!(asked("org.plan", &["3"], claims.clone()), "continue");
        assert_eq!(asked("org.active", &["true"], claims.clone()), "continue");
        assert_eq!(asked("a.b", &["dotted"], claims.clone()), "continue");
        assert_eq!(asked("org.plan", &["4"], claims.clone()), "claims_denied");
        assert_eq!(asked("org.active.x", &["true"], claims), "claims_denied");
    }

    #[test]
    fn a_token_cannot_speak_for_a_certificate() {
        let claims = json!({"client_cert:subject": "CN=a", "client_cert": {"subject": "CN=a"}});
        assert_eq!(
            asked("client_cert:subject", &["CN=a"], claims),
            "claims_denied"
        );
    }

    #[test]
    fn nobody_is_denied_and_the_answer_names_nothing() {
        let filter = ClaimsFilter::new(vec![("role".into(), vec!["admin".into()])]).unwrap();
        let Verdict::Refuse(refusal) = filter.check(&mut Call::get("/").context()) else {
            panic!("let nobody in");
        };
        assert_eq!(refusal.reason, Reason::ClaimsDenied);
        assert!(!refusal.detail.contains("role") && !refusal.detail.contains("admin"));
    }
}
