//! Hosts that a route serves.

/// A host a route serves.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum HostPattern {
    /// A host by its name, lower case.
    Exact(String),
    /// Any host below this suffix, which begins with a dot.
    Below(String),
}

impl HostPattern {
    /// Whether `host` (lower case, without port) is one of these.
    pub fn matches(&self, host: &str) -> bool {
        match self {
            Self::Exact(name) => name == host,
            Self::Below(suffix) => host.len() > suffix.len() && host.ends_with(suffix.as_str()),
        }
    }

    pub(super) fn excludes(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Exact(a), Self::Exact(b)) => a != b,
            (Self::Exact(name), below) | (below, Self::Exact(name)) => !below.matches(name),
            (Self::Below(a), Self::Below(b)) => {
                !a.ends_with(b.as_str()) && !b.ends_with(a.as_str())
            }
        }
    }
}

impl std::fmt::Display for HostPattern {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Exact(name) => f.write_str(name),
            Self::Below(suffix) => write!(f, "*{suffix}"),
        }
    }
}

/// Reads a host. A final dot only says that the name is whole, as every host here is; requests are matched without it.
pub(in crate::config) fn host_pattern(text: &str) -> Result<HostPattern, String> {
    let lower = text.to_ascii_lowercase();
    let lower = lower.strip_suffix('.').unwrap_or(&lower);
    let (below, name) = match lower.strip_prefix("*.") {
        Some(rest) => (true, rest),
        None => (false, lower),
    };
    let plain = name
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'));
    let bracketed = name.starts_with('[') && name.ends_with(']') && !below;
    if name.is_empty() || !(plain || bracketed) {
        return Err(format!(
            "{text:?} is no host; write \"api.example.com\" or \"*.example.com\", without a port"
        ));
    }
    Ok(if below {
        HostPattern::Below(format!(".{name}"))
    } else {
        HostPattern::Exact(name.to_owned())
    })
}
