//! What a route changes of requests and answers.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::says::Says;
use crate::config::cors::{Cors, RawCors};
use crate::config::header_rules::{HeaderRules, RawHeaderRules, rules};
use crate::config::scope::Scope;

/// What a route and its group can both say of changes.
#[derive(Clone, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
pub(super) struct RawTransform {
    /// Header changes towards the upstream.
    #[serde(skip_serializing_if = "Option::is_none")]
    request: Option<RawHeaderRules>,
    /// Header changes towards the client.
    #[serde(skip_serializing_if = "Option::is_none")]
    response: Option<RawHeaderRules>,
    /// Cross-origin requests.
    #[serde(skip_serializing_if = "Option::is_none")]
    cors: Option<RawCors>,
}

/// What a route changes of requests and answers.
#[derive(Clone, Debug)]
pub struct Transform {
    /// Header changes towards the upstream.
    pub request: HeaderRules,
    /// Header changes towards the client.
    pub response: HeaderRules,
    /// Cross-origin requests.
    pub cors: Option<Cors>,
}

impl RawTransform {
    pub(super) fn validate(says: &Says<'_, Self>, scope: &mut Scope<'_>) -> Transform {
        let request = says.read("request", |raw| raw.request.as_ref(), scope, rules);
        let response = says.read("response", |raw| raw.response.as_ref(), scope, rules);
        Transform {
            request: request.unwrap_or_default(),
            response: response.unwrap_or_default(),
            cors: says.read(
                "cors",
                |raw| raw.cors.as_ref(),
                scope,
                |raw, at, scope| raw.validate(at, scope),
            ),
        }
    }
}
