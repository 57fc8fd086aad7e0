//! An answer of the admin listener before it is written.

use http::StatusCode;
use serde::Serialize;

use crate::api::Failure;

/// An answer.
pub(super) struct Page {
    pub(super) status: StatusCode,
    pub(super) kind: &'static str,
    pub(super) body: String,
    pub(super) challenge: bool,
}

impl Page {
    pub(super) fn json(status: StatusCode, body: &impl Serialize) -> Self {
        // Through a value: its fields are in the order of their names.
        let body = serde_json::to_value(body).unwrap_or_default();
        Self {
            status,
            kind: "application/json",
            body: format!("{body:#}\n"),
            challenge: false,
        }
    }

    pub(super) fn ok(body: &impl Serialize) -> Self {
        Self::json(StatusCode::OK, body)
    }

    pub(super) fn error(status: StatusCode, what: &str) -> Self {
        let error = what.to_owned();
        Self::json(status, &Failure { error })
    }

    /// Asks for the token.
    pub(super) fn challenge() -> Self {
        Self {
            challenge: true,
            ..Self::error(
                StatusCode::UNAUTHORIZED,
                "the bearer token is missing or wrong",
            )
        }
    }

    pub(super) fn text(kind: &'static str, body: String) -> Self {
        Self {
            status: StatusCode::OK,
            kind,
            body,
            challenge: false,
        }
    }
}
