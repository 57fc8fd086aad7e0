//! From claims to the one who is calling.

use http::{HeaderName, HeaderValue};
use serde_json::Value;

use crate::auth::header_text::{CONTROL, Unsayable, header_claim, header_text, number};
use crate::filter::{NamedBy, Principal};
use crate::primitives::AuthName;

/// What a principal is made of besides a token's claims.
pub(super) struct Naming {
    /// The `[auth.NAME]`.
    pub(super) auth: AuthName,
    /// The name of the `[auth.NAME]` as a header value.
    pub(super) header: Option<HeaderValue>,
    /// Claims that are headers upstream.
    pub(super) forward: Vec<(String, HeaderName)>,
    /// The claim that is the tier.
    pub(super) tier: Option<String>,
}

impl Naming {
    /// The principal of a verified token. One whose name, or whose forwarded claims, cannot be said upstream is nobody: to
    /// leave them out would make another identity of it.
    pub(super) fn principal(&self, claims: Value) -> Result<Principal, Unsayable> {
        let (named_by, consumer) = consumer(&claims)?;
        let mut principal = Principal {
            auth_header: self.header.clone(),
            consumer_header: header_text(&consumer),
            claims,
            ..Principal::named(&self.auth, named_by, &consumer)
        };
        let tier = self.tier.as_ref();
        let tier = tier.and_then(|path| match principal.claim(path)? {
            Value::String(text) => Some(text.as_str().into()),
            Value::Number(amount) => Some(number(amount)?.into()),
            _ => None,
        });
        principal.tier = tier;
        for (path, name) in &self.forward {
            let Some(claim) = principal.claim(path) else {
                continue;
            };
            if let Some(value) = header_claim(claim)? {
                principal.forward.push((name.clone(), value));
            }
        }
        Ok(principal)
    }
}

/// `sub`; where an issuer leaves it out for machines, the client's id, which is remembered: a client may be called as a
/// user is. Empty when the token names nobody.
fn consumer(claims: &Value) -> Result<(NamedBy, String), Unsayable> {
    let names = [
        NamedBy::Subject,
        NamedBy::ClientId,
        NamedBy::AuthorizedParty,
    ];
    for named_by in names {
        let text = match claims.get(named_by.as_str()) {
            None | Some(Value::Null) => continue,
            Some(Value::String(text)) if text.is_empty() => continue,
            Some(Value::String(text)) => text.clone(),
            Some(Value::Number(amount)) if amount.is_u64() || amount.is_i64() => amount.to_string(),
            Some(_) => return Err("the caller's name is neither a text nor a whole number"),
        };
        if text.bytes().any(|byte| byte.is_ascii_control()) {
            return Err(CONTROL);
        }
        return Ok((named_by, text));
    }
    Ok((NamedBy::Subject, String::new()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn naming(forward: &[(&str, &'static str)]) -> Naming {
        let forward = forward.iter();
        Naming {
            auth: AuthName::new("app"),
            header: header_text("app"),
            forward: forward
                .map(|(claim, header)| ((*claim).to_owned(), HeaderName::from_static(header)))
                .collect(),
            tier: Some("plan".to_owned()),
        }
    }

    #[test]
    fn the_consumer_is_sub_or_the_client_and_it_is_known_which() {
        for (claims, named_by, expected) in [
            (json!({"sub": "a", "client_id": "b"}), NamedBy::Subject, "a"),
            (json!({"sub": 7}), NamedBy::Subject, "7"),
            (json!({"sub": "7"}), NamedBy::Subject, "7"),
            (json!({"sub": "", "client_id": "b"}), NamedBy::ClientId, "b"),
            (
                json!({"sub": null, "client_id": "b"}),
                NamedBy::ClientId,
                "b",
            ),
            (json!({"azp": "c"}), NamedBy::AuthorizedParty, "c"),
            (json!({}), NamedBy::Subject, ""),
        ] {
            let found = consumer(&claims).expect("somebody");
            assert_eq!(found, (named_by, expected.to_owned()), "{claims}");
        }
    }

    #[test]
    fn a_name_that_is_none_is_not_looked_for_elsewhere() {
        for text in [
            r#"{"sub": ["a"], "client_id": "b"}"#,
            r#"{"sub": {"id": 1}, "client_id": "b"}"#,
            r#"{"sub": true, "client_id": "b"}"#,
            r#"{"sub": 7.5}"#,
            r#"{"sub": 7.0}"#,
            r#"{"sub": 12345678901234567890123}"#,
            r#"{"sub": "a\nb"}"#,
        ] {
            let claims: Value = serde_json::from_str(text).expect("JSON");
            assert!(consumer(&claims).is_err(), "{text}");
        }
    }

    #[test]
    fn forwards_nested_claims_and_skips_absent_ones() {
        let naming = naming(&[("org.id", "x-org"), ("none", "x-none")]);
        let made = |claims| naming.principal(claims);
        let principal = made(json!({"org": {"id": "o1"}, "plan": 2})).expect("sayable");
        assert_eq!(principal.forward.len(), 1);
        assert_eq!(principal.forward[0].1, "o1");
        assert_eq!(principal.tier.as_deref(), Some("2"));
        assert_eq!(principal.auth_header, header_text("app"));
        assert!(made(json!({"sub": "a", "org": {"id": {"a": 1}}})).is_err());
    }
}
