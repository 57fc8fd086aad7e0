//! `[route.request]` and `[route.response]`: header changes. Their values may be secret: they come from where secrets come
//! from, and are shown as those are.

use std::collections::BTreeMap;

use http::{HeaderName, HeaderValue};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::document::At;
use super::error::{Location, Problem};
use super::raw::RawSecret;
use super::scope::Scope;
use crate::primitives::secret::{ReadSecret, Secret, SecretSource};

/// Header changes.
#[derive(Clone, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawHeaderRules {
    /// Replaces or creates.
    set: BTreeMap<String, RawSecret>,
    /// Adds a further value.
    add: BTreeMap<String, RawSecret>,
    /// Removes.
    remove: Vec<String>,
}

/// Header changes, applied as remove, set, add.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeaderRules {
    /// Replaces or creates.
    pub set: Vec<HeaderField>,
    /// Adds a further value.
    pub add: Vec<HeaderField>,
    /// Removes.
    pub remove: Vec<HeaderName>,
}

/// A header with its value, which may be secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderField {
    /// Name of the field.
    pub name: HeaderName,
    written: String,
    value: SecretSource,
    /// What the environment brought into it.
    brought: Vec<Secret>,
    key: String,
    location: Location,
}

/// What is said of a value that cannot be one, without a word of it.
const NO_VALUE: &str = "is no header value: it holds a line end or another control character";

impl HeaderField {
    /// The value, read from where it is. What does not stand in the configuration itself is secret: it is marked as such,
    /// so that no compressor of headers keeps it (RFC 7541 §7.1.3).
    pub fn value(&self, read: ReadSecret<'_>) -> Result<HeaderValue, Problem> {
        let problem = |why: &str| Problem {
            file: self.location.file.to_string(),
            line: self.location.line,
            column: self.location.column,
            key: self.key.clone(),
            message: why.to_owned(),
        };
        let written = match &self.value {
            SecretSource::Literal(text) => {
                let mut value = header_value(text).map_err(|why| problem(&why))?;
                value.set_sensitive(!self.brought.is_empty());
                return Ok(value);
            }
            elsewhere => read(elsewhere),
        };
        let secret = written.map_err(|why| match self.brought.is_empty() {
            true => problem(&why),
            false => problem("cannot be read; the environment has a part in where it is"),
        })?;
        secret.check_end().map_err(problem)?;
        if secret.expose().is_empty() {
            return Err(problem("is empty"));
        }
        let mut value = header_value(&secret).map_err(|why| problem(&why))?;
        value.set_sensitive(true);
        Ok(value)
    }
}

impl HeaderField {
    /// What the environment brought into the value, and may be secret.
    pub fn brought(&self) -> &[Secret] {
        &self.brought
    }
}

fn header_value(secret: &Secret) -> Result<HeaderValue, String> {
    HeaderValue::from_bytes(secret.expose()).map_err(|_| NO_VALUE.to_owned())
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
pub(super) fn rules(raw: &RawHeaderRules, at: &At<'_>, scope: &mut Scope<'_>) -> HeaderRules {
    let set = distinct_fields(&raw.set, &at.key("set"), scope);
    let add = fields(&raw.add, &at.key("add"), scope);
    let list = at.key("remove");
    let names = raw.remove.iter().enumerate();
    let remove = names
        .filter_map(|(i, name)| scope.read(&list.index(i), name, changeable))
        .collect();
    HeaderRules { set, add, remove }
}

/// Reads fields that do not frame the message, each of which stands once: case has no meaning, so the second would take the
/// place of the first.
pub(super) fn distinct_fields(
    map: &BTreeMap<String, RawSecret>,
    table: &At<'_>,
    scope: &mut Scope<'_>,
) -> Vec<HeaderField> {
    let fields = fields(map, table, scope);
    for (index, field) in fields.iter().enumerate() {
        if fields[..index].iter().any(|other| other.name == field.name) {
            let message = format!("{:?} stands twice", field.name.as_str());
            scope.problem(&table.key(&field.written), message);
        }
    }
    fields
}

/// Reads fields that do not frame the message.
fn fields(
    map: &BTreeMap<String, RawSecret>,
    table: &At<'_>,
    scope: &mut Scope<'_>,
) -> Vec<HeaderField> {
    let field = |(written, value): (&String, &RawSecret)| {
        let here = table.key(written);
        let name = scope.read(&here, written, changeable);
        let value = SecretSource::parse(&value.0);
        if let SecretSource::Literal(text) = &value
            && let Err(why) = header_value(text)
        {
            scope.problem(&here, why);
        }
        Some(HeaderField {
            name: name?,
            written: written.clone(),
            value,
            brought: scope.brought(&here),
            key: here.dotted(),
            location: scope.locate(&here),
        })
    };
    map.iter().filter_map(field).collect()
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
