//! An answer of the admin listener before it is written.

use http::StatusCode;
use serde::Serialize;

use crate::api::Failure;

/// An answer.
pub(in crate::server) struct Page {
    pub(in crate::server) status: StatusCode,
    pub(in crate::server) kind: &'static str,
    pub(in crate::server) body: String,
    pub(in crate::server) challenge: bool,
}

impl Page {
    pub(in crate::server) fn json(status: StatusCode, body: &impl Serialize) -> Self {
        // Through a value: its fields are in the order of their names.
        let body = serde_json::to_value(body).unwrap_or_default();
        Self {
            status,
            kind: "application/json",
            body: format!("{body:#}\n"),
            challenge: false,
        }
    }

    pub(in crate::server) fn ok(body: &impl Serialize) -> Self {
        Self::json(StatusCode::OK, body)
    }

    pub(in crate::server) fn error(status: StatusCode, what: &str) -> Self {
        let error = what.to_owned();
        Self::json(status, &Failure { error })
    }

    /// Asks for the token.
    pub(in crate::server) fn challenge() -> Self {
        Self {
            challenge: true,
            ..Self::error(
                StatusCode::UNAUTHORIZED,
                "the bearer token is missing or wrong",
            )
        }
    }

    pub(in crate::server) fn text(kind: &'static str, body: String) -> Self {
        Self {
            status: StatusCode::OK,
            kind,
            body,
            challenge: false,
        }
    }
}
