//! Names of methods.

use http::Method;

use super::error::did_you_mean;

/// Reads a method name: upper case, as on the wire.
pub(super) fn method(text: &str) -> Result<Method, String> {
    let known = ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"];
    match text {
        "CONNECT" | "TRACE" => Err(format!("{text} is never served")),
        _ if text
            .bytes()
            .all(|b| b.is_ascii_uppercase() || matches!(b, b'-' | b'_'))
            && !text.is_empty() =>
        {
            Method::from_bytes(text.as_bytes()).map_err(|_| format!("{text:?} is no method"))
        }
        _ => {
            let hint = did_you_mean(&text.to_ascii_uppercase(), known);
            let hint = hint
                .map(|meant| format!("; did you mean \"{meant}\"?"))
                .unwrap_or_default();
            Err(format!(
                "{text:?} is no method; methods are written in upper case{hint}"
            ))
        }
    }
}
