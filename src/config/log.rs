//! `[log]`: what is logged, where, and what is masked in it.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::document::At;
use super::scope::Scope;

/// Logs.
#[derive(Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawLog {
    /// Least level of messages.
    level: Level,
    /// Where access lines go: "stdout", "stderr", a path, or "off".
    access: String,
    /// Where messages go: "stdout", "stderr" or a path.
    file: String,
    /// Form of access lines.
    format: LogFormat,
    /// Names whose values are replaced by *** in queries and logged values.
    mask: Vec<String>,
}

impl Default for RawLog {
    fn default() -> Self {
        Self {
            level: Level::Info,
            access: "stdout".into(),
            file: "stdout".into(),
            format: LogFormat::Json,
            mask: ["password", "phone", "id_card", "session_key", "code"]
                .map(str::to_owned)
                .to_vec(),
        }
    }
}

/// Least level of messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Failures.
    Error,
    /// What deserves a look.
    Warn,
    /// What happened.
    Info,
    /// Why it happened.
    Debug,
    /// Everything.
    Trace,
}

/// Form of access lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// Apache's combined format.
    Combined,
}

/// Where lines go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sink {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
    /// A file, reopened on SIGUSR1.
    File(PathBuf),
    /// Nowhere.
    Off,
}

/// `[log]`, validated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// Least level of messages.
    pub level: Level,
    /// Where access lines go.
    pub access: Sink,
    /// Where messages go.
    pub messages: Sink,
    /// Form of access lines.
    pub format: LogFormat,
    /// Names whose values are masked, in lower case.
    pub mask: Vec<String>,
}

impl RawLog {
    pub(super) fn validate(&self, at: &At<'_>, scope: &mut Scope<'_>) -> Log {
        let messages = sink(&self.file);
        if messages == Sink::Off {
            scope.problem(
                &at.key("file"),
                "messages cannot be switched off; raise `level` instead",
            );
        }
        for (key, text) in [("access", &self.access), ("file", &self.file)] {
            if text.is_empty() {
                scope.problem(
                    &at.key(key),
                    "must be \"stdout\", \"stderr\", \"off\" or a path",
                );
            }
        }
        Log {
            level: self.level,
            access: sink(&self.access),
            messages,
            format: self.format,
            mask: self
                .mask
                .iter()
                .map(|name| name.to_ascii_lowercase())
                .collect(),
        }
    }
}

fn sink(text: &str) -> Sink {
    match text {
        "stdout" => Sink::Stdout,
        "stderr" => Sink::Stderr,
        "off" => Sink::Off,
        path => Sink::File(PathBuf::from(path)),
    }
}
