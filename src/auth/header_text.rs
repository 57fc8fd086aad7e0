//! Identities as header values, by one escape that loses nothing: two that differ never look alike upstream.
//!
//! Visible ASCII and inner spaces stay as they are. Percent-encoded, as UTF-8, is what is not ASCII, `%` itself, `,` and
//! `"`, by which a reader takes lists apart, and a space at either end, which is cut off on the way. What has no place in a
//! header is not said at all: the token that claims it is refused. A claim is its text, so 7 and "7" are one value, here
//! as in limits and in `require`, and a list of one is its element.

use std::fmt::Write;

use http::HeaderValue;
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use serde_json::{Number, Value};

use crate::filter::is_distinct;

/// What is escaped of ASCII.
const ESCAPED: &AsciiSet = &CONTROLS.add(b'%').add(b',').add(b'"');

/// Why a claim cannot be said in a header: the operator's words.
pub(super) type Unsayable = &'static str;

/// `text` as a header value; `None` for nothing, and for control characters.
pub(super) fn header_text(text: &str) -> Option<HeaderValue> {
    let mut out = String::with_capacity(text.len());
    escape(text, &mut out).ok()?;
    value(&out).ok()?
}

/// A claim as a header value: a text, number or flag, or a list of them with commas between. `None` for null, an empty text
/// and an empty list, which say nothing.
pub(super) fn header_claim(claim: &Value) -> Result<Option<HeaderValue>, Unsayable> {
    let Value::Array(elements) = claim else {
        return match scalar(claim)? {
            Some(text) => {
                let mut out = String::with_capacity(text.len());
                escape(&text, &mut out)?;
                value(&out)
            }
            None => Ok(None),
        };
    };
    let mut list = String::new();
    for (i, element) in elements.iter().enumerate() {
        let text = scalar(element)?.filter(|text| !text.is_empty());
        // Readers skip an empty element (RFC 9110 section 5.6.1).
        let text = text.ok_or("a forwarded list has an element that says nothing")?;
        if i > 0 {
            list.push(',');
        }
        escape(&text, &mut list)?;
    }
    value(&list)
}

/// The text of a number, if no other number has it.
pub(super) fn number(number: &Number) -> Option<String> {
    is_distinct(number).then(|| number.to_string())
}

fn scalar(claim: &Value) -> Result<Option<String>, Unsayable> {
    match claim {
        Value::Null => Ok(None),
        Value::String(text) => Ok(Some(text.clone())),
        Value::Bool(flag) => Ok(Some(flag.to_string())),
        Value::Number(amount) => match number(amount) {
            Some(text) => Ok(Some(text)),
            None => Err("a forwarded number is too large to be told from others"),
        },
        Value::Array(_) | Value::Object(_) => Err("a forwarded claim is an object, or lists lists"),
    }
}

fn escape(text: &str, out: &mut String) -> Result<(), Unsayable> {
    if text.bytes().any(|byte| byte.is_ascii_control()) {
        return Err(CONTROL);
    }
    let (front, rest) = match text.strip_prefix(' ') {
        Some(rest) => ("%20", rest),
        None => ("", text),
    };
    let (middle, back) = match rest.strip_suffix(' ') {
        Some(middle) => (middle, "%20"),
        None => (rest, ""),
    };
    let middle = utf8_percent_encode(middle, ESCAPED);
    // Writing to memory cannot fail.
    let _ = write!(out, "{front}{middle}{back}");
    Ok(())
}

/// A name or claim holds what could end a header.
pub(super) const CONTROL: Unsayable = "a name or forwarded claim holds control characters";

fn value(text: &str) -> Result<Option<HeaderValue>, Unsayable> {
    if text.is_empty() {
        return Ok(None);
    }
    HeaderValue::from_str(text).map(Some).map_err(|_| CONTROL)
}

#[cfg(test)]
mod tests {
    use percent_encoding::percent_decode_str;
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn said(claim: &Value) -> Option<String> {
        let value = header_claim(claim).expect("sayable")?;
        Some(value.to_str().expect("visible").to_owned())
    }

    #[test]
    fn claims_become_headers_that_cannot_be_misread() {
        for (claim, expected) in [
            (json!("alice"), Some("alice")),
            (
                json!("auth0|a b@example.com"),
                Some("auth0|a b@example.com"),
            ),
            (json!("a 50%"), Some("a 50%25")),
            (json!("aé"), Some("a%C3%A9")),
            (json!("a%C3%A9"), Some("a%25C3%25A9")),
            (json!("alice "), Some("alice%20")),
            (json!("  a"), Some("%20 a")),
            (json!(" "), Some("%20")),
            (json!("admin,editor"), Some("admin%2Ceditor")),
            (json!(["admin", "editor"]), Some("admin,editor")),
            (json!(["admin,editor"]), Some("admin%2Ceditor")),
            (json!(["a\"b", "c\"d", " e "]), Some("a%22b,c%22d,%20e%20")),
            (json!(42), Some("42")),
            (json!("42"), Some("42")),
            (json!(-42), Some("-42")),
            (json!(u64::MAX), Some("18446744073709551615")),
            (json!(7.5), Some("7.5")),
            (json!(true), Some("true")),
            (json!(["a", 1, false]), Some("a,1,false")),
            (json!(["a"]), Some("a")),
            (json!(null), None),
            (json!(""), None),
            (json!([]), None),
        ] {
            assert_eq!(said(&claim).as_deref(), expected, "{claim}");
        }
    }

    #[test]
    fn what_cannot_be_said_is_not_left_out_but_refused() {
        for text in [
            r#""a\r\nX-Role: admin""#,
            r#""a\tb""#,
            r#""\u007f""#,
            r#"["a", "b\n"]"#,
            r#"["a", ["b"]]"#,
            r#"["", "a"]"#,
            r#"["a", null]"#,
            r#"{"a": 1}"#,
            "12345678901234567890123",
            "9007199254740993.0",
            "9007199254740994.0",
        ] {
            let claim: Value = serde_json::from_str(text).expect("JSON");
            assert!(header_claim(&claim).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn the_escape_loses_nothing(texts in prop::collection::vec("[a-c é%,\"2C0]{1,6}", 1..4)) {
            let header = said(&json!(texts)).expect("said");
            let read: Vec<String> = header
                .split(',')
                .map(|element| percent_decode_str(element.trim()).decode_utf8().expect("text").into())
                .collect();
            prop_assert_eq!(read, texts);
        }
    }
}
