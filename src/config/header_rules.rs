//! `[route.request]` and `[route.response]`: header changes.

use std::collections::BTreeMap;

use http::{HeaderName, HeaderValue};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::document::At;
use super::scope::Scope;

/// Header changes.
#[derive(Clone, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawHeaderRules {
    /// Replaces or creates.
    set: BTreeMap<String, String>,
    /// Adds a further value.
    add: BTreeMap<String, String>,
    /// Removes.
    remove: Vec<String>,
}

/// Header changes, applied as remove, set, add.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeaderRules {
    /// Replaces or creates.
    pub set: Vec<(HeaderName, HeaderValue)>,
    /// Adds a further value.
    pub add: Vec<(HeaderName, HeaderValue)>,
    /// Removes.
    pub remove: Vec<HeaderName>,
}

impl HeaderRules {
    /// Whether nothing is changed.
    pub fn is_empty(&self) -> bool {
        self.set.is_empty() && self.add.is_empty() && self.remove.is_empty()
    }
}

/// Headers that frame the message: rules may not touch them.
const FRAMING: [&str; 7] = [
    "host",
    "connection",
    "content-length",
    "transfer-encoding",
    "upgrade",
    "keep-alive",
    "te",
];

/// Reads the rules of one direction.
pub(super) fn rules(
    raw: Option<&RawHeaderRules>,
    at: &At<'_>,
    scope: &mut Scope<'_>,
) -> HeaderRules {
    let Some(raw) = raw else {
        return HeaderRules::default();
    };
    let set = fields(&raw.set, &at.key("set"), scope);
    let add = fields(&raw.add, &at.key("add"), scope);
    let list = at.key("remove");
    let names = raw.remove.iter().enumerate();
    let remove = names
        .filter_map(|(i, name)| scope.read(&list.index(i), name, changeable))
        .collect();
    HeaderRules { set, add, remove }
}

/// Reads fields that do not frame the message.
pub(super) fn fields(
    map: &BTreeMap<String, String>,
    table: &At<'_>,
    scope: &mut Scope<'_>,
) -> Vec<(HeaderName, HeaderValue)> {
    let pair = |(name, value): (&String, &String)| {
        let here = table.key(name);
        let name = scope.read(&here, name, changeable);
        let value = scope.read(&here, value, |text| {
            HeaderValue::from_str(text).map_err(|_| format!("{text:?} is no header value"))
        });
        name.zip(value)
    };
    map.iter().filter_map(pair).collect()
}

fn changeable(text: &str) -> Result<HeaderName, String> {
    let name = header_name(text)?;
    if FRAMING.contains(&name.as_str()) {
        return Err(format!(
            "{text:?} frames the message and cannot be changed by a rule"
        ));
    }
    Ok(name)
}

/// Reads a header name.
pub(super) fn header_name(text: &str) -> Result<HeaderName, String> {
    text.parse()
        .map_err(|_| format!("{text:?} is no header name"))
}
