//! The path as the upstream gets it.

use std::borrow::Cow;

use super::table::Found;
use crate::config::{Action, Route};
use crate::primitives::template::Rewrite;

/// How a route changes the path. Made once per snapshot.
#[derive(Clone, Debug)]
pub enum Outgoing {
    /// Not at all.
    Same,
    /// Without its first segments.
    Stripped(usize),
    /// Built from captures; the names stand in the order in which the template captures them.
    Rewritten(Rewrite, Vec<String>),
}

impl Outgoing {
    /// What `route` asks for.
    pub fn of(route: &Route) -> Self {
        match &route.action {
            Action::Forward {
                rewrite: Some(rewrite),
                ..
            } => Self::Rewritten(
                rewrite.clone(),
                route.matching.path.captures().map(str::to_owned).collect(),
            ),
            Action::Forward { strip_prefix, .. } if *strip_prefix > 0 => {
                Self::Stripped(*strip_prefix)
            }
            _ => Self::Same,
        }
    }

    /// The outgoing path for a normalised `path` that was `found`.
    pub fn path<'p>(&self, path: &'p str, found: &Found) -> Cow<'p, str> {
        match self {
            Self::Same => Cow::Borrowed(path),
            Self::Stripped(segments) => Cow::Borrowed(strip(path, *segments)),
            Self::Rewritten(rewrite, names) => {
                let value = |name: &str| {
                    names
                        .iter()
                        .position(|known| known == name)
                        .and_then(|i| found.captures(path).nth(i))
                };
                Cow::Owned(rewrite.build(value))
            }
        }
    }
}

fn strip(path: &str, segments: usize) -> &str {
    match path.match_indices('/').nth(segments) {
        Some((at, _)) => &path[at..],
        None => "/",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strips_whole_segments() {
        assert_eq!(strip("/api/users/7", 1), "/users/7");
        assert_eq!(strip("/api/users/7", 2), "/7");
        assert_eq!(strip("/api/users/", 2), "/");
        assert_eq!(strip("/api", 1), "/");
    }
}
