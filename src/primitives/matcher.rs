//! Matching one value of a header, query parameter or cookie.

use regex::Regex;

/// What a value must be, as written in `headers = { x-version = "2" }`.
#[derive(Clone, Debug)]
pub enum ValueMatch {
    /// Exactly this text.
    Exact(String),
    /// `"~regex"`: the expression must match the whole value.
    Pattern(Box<Regex>),
    /// `"*"`: any value, but present.
    Present,
    /// What is not shown: it may be secret.
    Veiled(Box<ValueMatch>),
}

/// Compiled size an expression may reach; keeps a hostile or careless pattern from eating memory.
const PATTERN_SIZE: usize = 1 << 20;

impl ValueMatch {
    /// Reads the notation of the configuration.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text == "*" {
            return Ok(Self::Present);
        }
        let Some(pattern) = text.strip_prefix('~') else {
            return Ok(Self::Exact(text.to_owned()));
        };
        regex::RegexBuilder::new(&format!("^(?:{pattern})$"))
            .size_limit(PATTERN_SIZE)
            .build()
            .map(|regex| Self::Pattern(Box::new(regex)))
            .map_err(|error| {
                format!(
                    "{pattern:?} is no regular expression: {}",
                    last_line(&error.to_string())
                )
            })
    }

    /// Whether `value` satisfies it.
    pub fn matches(&self, value: &str) -> bool {
        match self {
            Self::Exact(text) => text == value,
            Self::Pattern(regex) => regex.is_match(value),
            Self::Present => true,
            Self::Veiled(wanted) => wanted.matches(value),
        }
    }

    /// Whether no value can satisfy both: known only for two different texts.
    pub fn excludes(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Veiled(a), b) | (b, Self::Veiled(a)) => a.excludes(b),
            (Self::Exact(a), Self::Exact(b)) => a != b,
            (Self::Exact(a), Self::Pattern(p)) | (Self::Pattern(p), Self::Exact(a)) => {
                !p.is_match(a)
            }
            _ => false,
        }
    }
}

impl std::fmt::Display for ValueMatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Exact(text) => f.write_str(text),
            Self::Pattern(regex) => {
                let text = regex.as_str();
                write!(
                    f,
                    "~{}",
                    text.strip_prefix("^(?:")
                        .and_then(|t| t.strip_suffix(")$"))
                        .unwrap_or(text)
                )
            }
            Self::Present => f.write_str("*"),
            Self::Veiled(_) => f.write_str("***"),
        }
    }
}

fn last_line(text: &str) -> &str {
    text.lines()
        .last()
        .unwrap_or(text)
        .trim_start_matches("error: ")
}
