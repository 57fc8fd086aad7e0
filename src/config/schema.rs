//! The shape of the file, derived from the raw types, and the check of a parsed file against it.
//!
//! serde stops at the first error; an operator wants all of them. The JSON Schema of the raw types knows every key and
//! type, so walking the file along the schema finds each unknown key and each wrong type with its place. What passes
//! here is deserialised without surprises.

use serde_json::Value;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::document::{At, Document, Patch, Placeholder};
use super::error::{Problem, did_you_mean};
use super::file::RawFile;

/// JSON Schema (2020-12) of a configuration file.
pub fn json_schema() -> Value {
    let mut schema = schemars::schema_for!(RawFile).to_value();
    schema["title"] = Value::from("tollgate configuration");
    schema
}

/// Walks `document` along the schema and reports every unknown key and wrong type; returns what must be mended before
/// the rest can be read.
pub(super) fn check(
    document: &Document<'_>,
    schema: &Value,
    problems: &mut Vec<Problem>,
) -> Vec<Placeholder> {
    let mut walk = Walk {
        document,
        schema,
        problems,
        placeholders: Vec::new(),
    };
    walk.table(schema, document.tree.get_ref(), &At::ROOT);
    walk.placeholders
}

struct Walk<'w, 't> {
    document: &'w Document<'t>,
    schema: &'w Value,
    problems: &'w mut Vec<Problem>,
    placeholders: Vec<Placeholder>,
}

impl<'w> Walk<'w, '_> {
    /// Follows `$ref`, and looks through the null alternative of an optional value.
    fn resolve(&self, mut shape: &'w Value) -> &'w Value {
        loop {
            if let Some(reference) = shape["$ref"].as_str() {
                shape = self
                    .schema
                    .pointer(reference.trim_start_matches('#'))
                    .unwrap_or(&Value::Null);
            } else if let Some(some) = shape["anyOf"]
                .as_array()
                .and_then(|all| all.iter().find(|one| one["type"] != "null"))
            {
                shape = some;
            } else {
                return shape;
            }
        }
    }

    fn table(&mut self, shape: &'w Value, table: &DeTable<'_>, at: &At<'_>) {
        let shape = self.resolve(shape);
        let known = shape["properties"].as_object();
        let others = &shape["additionalProperties"];
        for (key, value) in table.iter() {
            let name: &str = key.get_ref();
            let here = at.key(name);
            if let Some(next) = known.and_then(|keys| keys.get(name)) {
                self.value(next, value, &here);
            } else if others.is_object() {
                self.value(others, value, &here);
            } else if *others == Value::Bool(false)
                || shape["unevaluatedProperties"] == Value::Bool(false)
            {
                let names = known
                    .into_iter()
                    .flat_map(|keys| keys.keys().map(String::as_str));
                let hint =
                    did_you_mean(name, names).map(|meant| format!("; did you mean \"{meant}\"?"));
                let message = format!("unknown key{}", hint.unwrap_or_default());
                self.problems
                    .push(self.document.problem(key.span(), here.dotted(), message));
                self.placeholders
                    .push(Placeholder::new(&here, Patch::Remove));
            }
        }
        for name in shape["required"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
        {
            if !table.iter().any(|(key, _)| key.get_ref() == name) {
                let message = format!("the key \"{name}\" is missing");
                self.problems.push(self.document.problem_at(at, message));
                let wanted = known.and_then(|keys| keys.get(name));
                let placeholder = wanted.map(|shape| self.stand_in(shape, &at.key(name)));
                self.placeholders.extend(placeholder);
            }
        }
    }

    /// What to put where a value is missing or of a wrong type.
    fn stand_in(&self, shape: &'w Value, at: &At<'_>) -> Placeholder {
        let shape = self.resolve(shape);
        match words(shape).and_then(|words| words.first().map(|word| (*word).to_owned())) {
            Some(word) => Placeholder::of_choice(at, word),
            None => Placeholder::new(at, Patch::Place(wanted(shape).map_or("string", kind))),
        }
    }

    fn value(&mut self, shape: &'w Value, value: &Spanned<DeValue<'_>>, at: &At<'_>) {
        let shape = self.resolve(shape);
        let Some(wanted) = wanted(shape) else { return };
        match (value.get_ref(), wanted) {
            (DeValue::Table(table), "object") => self.table(shape, table, at),
            (DeValue::Array(items), "array") => {
                for (index, item) in items.iter().enumerate() {
                    self.value(&shape["items"], item, &at.index(index));
                }
            }
            (DeValue::String(text), "string") => self.word(shape, text, value, at),
            (DeValue::Boolean(_), "boolean") => {}
            (DeValue::Integer(number), _) if takes_number(shape) => {
                let (least, most) = bounds(shape);
                let parsed = i128::from_str_radix(number.as_str(), number.radix());
                if !parsed.is_ok_and(|number| (least..=most).contains(&number)) {
                    let message = format!("must lie between {least} and {most}");
                    self.problems
                        .push(self.document.problem(value.span(), at.dotted(), message));
                    self.placeholders
                        .push(Placeholder::new(at, Patch::Place("integer")));
                }
            }
            (DeValue::Float(_), "number") => {}
            (found, wanted) => {
                let hint = match (found, wanted) {
                    (DeValue::Integer(_) | DeValue::Float(_), "string") => {
                        "; a quantity is text with its unit, as \"10s\", \"16KiB\" or \"100/s\""
                    }
                    (DeValue::Table(_), "array") if at.dotted() == "route" => {
                        "; routes are written [[route]]"
                    }
                    (DeValue::Table(_), "array") if at.dotted() == "listener" => {
                        "; listeners are written [[listener]]"
                    }
                    _ => "",
                };
                let message = format!(
                    "expected {}, found {}{hint}",
                    article(wanted),
                    article(found.type_str())
                );
                self.problems
                    .push(self.document.problem(value.span(), at.dotted(), message));
                self.placeholders.push(self.stand_in(shape, at));
            }
        }
    }

    /// A text that must be one of a few words.
    fn word(&mut self, shape: &'w Value, text: &str, value: &Spanned<DeValue<'_>>, at: &At<'_>) {
        let Some(words) = words(shape) else { return };
        if words.contains(&text) {
            return;
        }
        let hint = did_you_mean(text, words.iter().copied())
            .map(|meant| format!("; did you mean \"{meant}\"?"));
        let message = format!(
            "{text:?} is none of {}{}",
            words.join(", "),
            hint.unwrap_or_default()
        );
        self.problems
            .push(self.document.problem(value.span(), at.dotted(), message));
        self.placeholders.push(self.stand_in(shape, at));
    }
}

/// The words a text may be, when they are few.
fn words(shape: &Value) -> Option<Vec<&str>> {
    let listed = shape["enum"]
        .as_array()
        .map(|words| words.iter().filter_map(Value::as_str).collect());
    let consts = || {
        shape["oneOf"].as_array().map(|words| {
            words
                .iter()
                .filter_map(|word| word["const"].as_str())
                .collect()
        })
    };
    listed.or_else(consts)
}

/// What the integer type behind a number holds.
fn bounds(shape: &Value) -> (i128, i128) {
    match shape["format"].as_str() {
        Some("uint16") => (0, u16::MAX.into()),
        Some("uint32") => (0, u32::MAX.into()),
        Some("int32") => (i32::MIN.into(), i32::MAX.into()),
        _ => (i64::MIN.into(), i64::MAX.into()),
    }
}

fn kind(wanted: &str) -> &'static str {
    match wanted {
        "object" => "object",
        "array" => "array",
        "boolean" => "boolean",
        "integer" | "number" => "integer",
        _ => "string",
    }
}

/// Whether a number may stand there, perhaps beside something else.
fn takes_number(shape: &Value) -> bool {
    let is_number = |kind: &Value| matches!(kind.as_str(), Some("integer" | "number"));
    match &shape["type"] {
        Value::Array(several) => several.iter().any(is_number),
        one => is_number(one),
    }
}

fn wanted(shape: &Value) -> Option<&str> {
    match &shape["type"] {
        Value::String(one) => Some(one),
        Value::Array(several) => several
            .iter()
            .filter_map(Value::as_str)
            .find(|one| *one != "null"),
        _ if shape["oneOf"].is_array() || shape["enum"].is_array() => Some("string"),
        _ => None,
    }
}

fn article(kind: &str) -> String {
    match kind {
        "object" | "table" => "a table".to_owned(),
        "array" => "a list".to_owned(),
        "string" => "text".to_owned(),
        "integer" => "an integer".to_owned(),
        other => format!("a {other}"),
    }
}

/// Every key the file knows, dotted, with `NAME` for names of the operator's choice and `[]` for lists.
pub fn keys() -> Vec<String> {
    let schema = json_schema();
    let mut found = Vec::new();
    collect(&schema, &schema, "", &mut found);
    found
}

fn collect(schema: &Value, shape: &Value, prefix: &str, found: &mut Vec<String>) {
    let mut shape = shape;
    loop {
        if let Some(reference) = shape["$ref"].as_str() {
            shape = schema
                .pointer(reference.trim_start_matches('#'))
                .unwrap_or(&Value::Null);
        } else if let Some(some) = shape["anyOf"]
            .as_array()
            .and_then(|all| all.iter().find(|s| s["type"] != "null"))
        {
            shape = some;
        } else {
            break;
        }
    }
    for (name, next) in shape["properties"].as_object().into_iter().flatten() {
        let path = if prefix.is_empty() {
            name.clone()
        } else {
            format!("{prefix}.{name}")
        };
        found.push(path.clone());
        collect(schema, next, &path, found);
    }
    if shape["items"].is_object() {
        collect(schema, &shape["items"], &format!("{prefix}[]"), found);
    }
    if shape["additionalProperties"].is_object() {
        collect(
            schema,
            &shape["additionalProperties"],
            &format!("{prefix}.NAME"),
            found,
        );
    }
}
