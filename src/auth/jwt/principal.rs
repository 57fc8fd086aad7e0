//! From claims to the one who is calling.

use std::fmt::Write;

use http::{HeaderName, HeaderValue};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use serde_json::Value;

use crate::filter::Principal;

/// What is escaped in a text that cannot travel as it is. `%` too, so that it can be told from an escape.
const ESCAPED: &AsciiSet = &CONTROLS.add(b'%');
/// The same for an element of a joined list, where a comma would make two of one.
const ESCAPED_IN_LIST: &AsciiSet = &ESCAPED.add(b',');

/// The principal of a verified token.
pub(super) fn from_claims(
    claims: Value,
    forward: &[(String, HeaderName)],
    tier: Option<&str>,
) -> Principal {
    let consumer = consumer(&claims);
    let mut principal = Principal {
        consumer_header: header_text(&consumer),
        consumer: consumer.into(),
        claims,
        tier: None,
        forward: Vec::new(),
    };
    let tier = tier.and_then(|path| principal.claim(path)?.as_str());
    principal.tier = tier.map(Into::into);
    principal.forward = forward
        .iter()
        .filter_map(|(path, name)| {
            let value = claim_text(principal.claim(path)?)?;
            Some((name.clone(), value))
        })
        .collect();
    principal
}

/// `sub`; where an issuer leaves it out for machines, the client's id. Empty when the token names nobody.
fn consumer(claims: &Value) -> String {
    ["sub", "client_id", "azp"]
        .iter()
        .filter_map(|name| match claims.get(name)? {
            Value::String(text) if !text.is_empty() => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            _ => None,
        })
        .next()
        .unwrap_or_default()
}

fn claim_text(claim: &Value) -> Option<HeaderValue> {
    let Value::Array(elements) = claim else {
        return header_text(&scalar(claim)?);
    };
    let mut list = String::new();
    for (i, element) in elements.iter().enumerate() {
        let text = scalar(element)?;
        if text.bytes().any(|byte| byte.is_ascii_control()) {
            return None;
        }
        let comma = if i == 0 { "" } else { "," };
        let _ = if text.is_ascii() && !text.contains(',') {
            write!(list, "{comma}{text}")
        } else {
            write!(
                list,
                "{comma}{}",
                utf8_percent_encode(&text, ESCAPED_IN_LIST)
            )
        };
    }
    visible(&list)
}

fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(flag) => Some(flag.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

/// `text` as a header value: visible ASCII stays as it is, other characters are percent-encoded as UTF-8. `None` for
/// control characters, which have no business in a header, and for nothing.
pub(in crate::auth) fn header_text(text: &str) -> Option<HeaderValue> {
    if text.is_ascii() {
        return visible(text);
    }
    if text.bytes().any(|byte| byte.is_ascii_control()) {
        return None;
    }
    visible(&utf8_percent_encode(text, ESCAPED).to_string())
}

fn visible(text: &str) -> Option<HeaderValue> {
    if text.is_empty() || text.bytes().any(|byte| byte.is_ascii_control()) {
        return None;
    }
    HeaderValue::from_str(text).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn text(claim: &Value) -> Option<String> {
        claim_text(claim).map(|value| value.to_str().unwrap().to_owned())
    }

    #[test]
    fn claims_become_headers_that_cannot_be_misread() {
        for (claim, expected) in [
            (json!("alice"), Some("alice")),
            (json!("a 50%"), Some("a 50%")),
            (json!("José 50%"), Some("Jos%C3%A9 50%25")),
            (json!(42), Some("42")),
            (json!(true), Some("true")),
            (json!(["a", 1, false]), Some("a,1,false")),
            (json!(["viewer,admin", "é"]), Some("viewer%2Cadmin,%C3%A9")),
            (json!("a\r\nX-Role: admin"), None),
            (json!("a\tb"), None),
            (json!(["a", "b\n"]), None),
            (json!(["a", ["b"]]), None),
            (json!({"a": 1}), None),
            (json!(null), None),
            (json!(""), None),
            (json!([]), None),
        ] {
            assert_eq!(text(&claim).as_deref(), expected, "{claim}");
        }
    }

    #[test]
    fn the_consumer_is_sub_or_the_client() {
        for (claims, expected) in [
            (json!({"sub": "a", "client_id": "b"}), "a"),
            (json!({"sub": 7}), "7"),
            (json!({"sub": "", "client_id": "b"}), "b"),
            (json!({"azp": "c"}), "c"),
            (json!({"sub": ["a"]}), ""),
            (json!({}), ""),
        ] {
            assert_eq!(consumer(&claims), expected, "{claims}");
        }
    }

    #[test]
    fn forwards_nested_claims_and_skips_absent_ones() {
        let name = HeaderName::from_static;
        let forward = [
            ("org.id".to_owned(), name("x-org")),
            ("none".to_owned(), name("x-none")),
        ];
        let principal = from_claims(json!({"org": {"id": "o1"}}), &forward, None);
        assert_eq!(principal.forward.len(), 1);
        assert_eq!(principal.forward[0].1, "o1");
    }
}
