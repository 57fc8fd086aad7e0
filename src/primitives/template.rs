//! Path templates: `/users/{id}/orders/**`.

use std::fmt;

use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

use super::path;

/// One segment of a template.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Segment {
    /// Exactly this text, in normal form.
    Literal(String),
    /// Any one non-empty segment, captured under this name.
    Param(String),
}

/// A path to match: segments, then perhaps a tail.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PathTemplate {
    /// The segments before the tail. A trailing slash is a last, empty literal.
    pub segments: Vec<Segment>,
    /// `**` (unnamed) or `{*name}`: everything below, and the bare prefix itself.
    pub tail: Option<String>,
}

/// Name under which an unnamed `**` is captured.
pub const TAIL: &str = "**";

/// Escaped in literals, so that an operator may write `/café` or a space.
const ESCAPED: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'<')
    .add(b'>')
    .add(b'`')
    .add(b'^')
    .add(b'|');

impl PathTemplate {
    /// Reads a template. Errors say what is wrong with the text.
    pub fn parse(text: &str) -> Result<Self, String> {
        let Some(rest) = text.strip_prefix('/') else {
            return Err(format!("{text:?} must begin with a slash"));
        };
        let mut template = Self {
            segments: Vec::new(),
            tail: None,
        };
        let parts: Vec<&str> = rest.split('/').collect();
        for (index, part) in parts.iter().enumerate() {
            let last = index + 1 == parts.len();
            match tail_name(part) {
                Some(name) if last => template.tail = Some(template.fresh(name, text)?),
                Some(_) => return Err(format!("{text:?}: a tail may only stand last")),
                None => template.push(part, last, text)?,
            }
        }
        Ok(template)
    }

    fn push(&mut self, part: &str, last: bool, text: &str) -> Result<(), String> {
        if let Some(name) = part.strip_prefix('{').and_then(|p| p.strip_suffix('}')) {
            let name = self.fresh(name, text)?;
            self.segments.push(Segment::Param(name));
            return Ok(());
        }
        if part.contains(['{', '}', '*']) {
            return Err(format!(
                "{text:?}: a parameter must be a whole segment, as in \"/users/{{id}}\""
            ));
        }
        if part.is_empty() {
            if !last {
                return Err(format!(
                    "{text:?}: empty segment; duplicate slashes never match"
                ));
            }
            self.segments.push(Segment::Literal(String::new()));
            return Ok(());
        }
        let escaped = format!("/{}", utf8_percent_encode(part, ESCAPED));
        let normal = path::normalize(&escaped).map_err(|why| format!("{text:?}: {why}"))?;
        if normal.len() < 2 {
            return Err(format!(
                "{text:?}: dot segments never match, paths are normalised first"
            ));
        }
        self.segments.push(Segment::Literal(normal[1..].to_owned()));
        Ok(())
    }

    fn fresh(&self, name: &str, text: &str) -> Result<String, String> {
        let well_formed = name == TAIL
            || (!name.is_empty()
                && name
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-')));
        if !well_formed {
            return Err(format!(
                "{text:?}: {name:?} is no parameter name; use letters, digits, - and _"
            ));
        }
        if self.captures().any(|known| known == name) {
            return Err(format!("{text:?}: {name:?} stands twice"));
        }
        Ok(name.to_owned())
    }

    /// Names of what it captures, in order.
    pub fn captures(&self) -> impl Iterator<Item = &str> {
        self.segments
            .iter()
            .filter_map(|segment| match segment {
                Segment::Param(name) => Some(name.as_str()),
                Segment::Literal(_) => None,
            })
            .chain(self.tail.as_deref())
    }

    /// The template with parameter names left out: two templates of one shape match the same paths.
    pub fn shape(&self) -> String {
        let mut shape = String::new();
        for segment in &self.segments {
            shape.push('/');
            match segment {
                Segment::Literal(text) => shape.push_str(text),
                Segment::Param(_) => shape.push_str("{}"),
            }
        }
        if self.tail.is_some() {
            shape.push_str("/**");
        }
        shape
    }
}

impl fmt::Display for PathTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for segment in &self.segments {
            match segment {
                Segment::Literal(text) => write!(f, "/{text}")?,
                Segment::Param(name) => write!(f, "/{{{name}}}")?,
            }
        }
        match self.tail.as_deref() {
            Some(TAIL) => f.write_str("/**"),
            Some(name) => write!(f, "/{{*{name}}}"),
            None => Ok(()),
        }
    }
}

/// `**` or `{*name}`.
fn tail_name(part: &str) -> Option<&str> {
    if part == TAIL {
        return Some(TAIL);
    }
    part.strip_prefix("{*").and_then(|p| p.strip_suffix('}'))
}

/// A path to build from captures: `/v2/items/{id}/**`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rewrite(Vec<Piece>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    Capture(String),
}

impl Rewrite {
    /// Reads a rewrite; every name must be captured by `template`.
    pub fn parse(text: &str, template: &PathTemplate) -> Result<Self, String> {
        if !text.starts_with('/') {
            return Err(format!("{text:?} must begin with a slash"));
        }
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some(open) = rest.find(['{', '*']) {
            pieces.push(Piece::Text(rest[..open].to_owned()));
            let after = &rest[open..];
            let (name, used) = if after.starts_with(TAIL) {
                (TAIL, TAIL.len())
            } else if let Some(close) = after.find('}').filter(|_| after.starts_with('{')) {
                (after[1..close].trim_start_matches('*'), close + 1)
            } else {
                return Err(format!("{text:?}: a capture is written {{name}} or **"));
            };
            if !template.captures().any(|known| known == name) {
                let known: Vec<&str> = template.captures().collect();
                let known = if known.is_empty() {
                    "nothing".to_owned()
                } else {
                    known.join(", ")
                };
                return Err(format!(
                    "{text:?}: {name:?} is not captured by the path, which captures {known}"
                ));
            }
            pieces.push(Piece::Capture(name.to_owned()));
            rest = &after[used..];
        }
        pieces.push(Piece::Text(rest.to_owned()));
        for piece in &mut pieces {
            if let Piece::Text(text) = piece {
                let probe = format!("/{}", text.trim_start_matches('/'));
                path::normalize(&probe).map_err(|why| format!("{text:?}: {why}"))?;
                *text = path::escape_raw(text);
            }
        }
        pieces.retain(|piece| *piece != Piece::Text(String::new()));
        Ok(Self(pieces))
    }

    /// The path, with each name replaced by what `capture` says.
    pub fn build<'p>(&self, capture: impl Fn(&str) -> Option<&'p str>) -> String {
        let mut path = String::new();
        for piece in &self.0 {
            match piece {
                Piece::Text(text) => path.push_str(text),
                Piece::Capture(name) => path.push_str(capture(name).unwrap_or_default()),
            }
        }
        path
    }
}

impl fmt::Display for Rewrite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|piece| match piece {
            Piece::Text(text) => f.write_str(text),
            Piece::Capture(name) if name == TAIL => f.write_str(TAIL),
            Piece::Capture(name) => write!(f, "{{{name}}}"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_and_prints_templates() {
        for text in ["/", "/a", "/a/", "/a/{b}", "/a/**", "/**", "/{a}/{*rest}"] {
            assert_eq!(
                PathTemplate::parse(text).map(|t| t.to_string()).as_deref(),
                Ok(text)
            );
        }
        assert_eq!(
            PathTemplate::parse("/caf\u{e9}")
                .map(|t| t.to_string())
                .as_deref(),
            Ok("/caf%C3%A9")
        );
    }

    #[test]
    fn refuses_what_can_never_match() {
        for text in [
            "", "a", "/a//b", "/a/../b", "/./a", "/a{b}", "/{a}/{a}", "/**/a", "/{}", "/a%2fb",
            "/*",
        ] {
            assert!(PathTemplate::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn rewrites_with_captures() {
        let template = PathTemplate::parse("/a/{id}/**").expect("template");
        let rewrite = Rewrite::parse("/v2/{id}/x/**", &template).expect("rewrite");
        let path = rewrite.build(|name| Some(if name == "id" { "7" } else { "b/c" }));
        assert_eq!(path, "/v2/7/x/b/c");
        assert!(Rewrite::parse("/v2/{other}", &template).is_err());
        assert!(Rewrite::parse("v2", &template).is_err());
    }
}
