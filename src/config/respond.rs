//! `respond` of a route: answers made by the gateway itself.

use http::{HeaderValue, StatusCode};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::document::At;
use super::scope::Scope;

/// An answer made by the gateway.
#[derive(Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RawRespond {
    /// Status; default 200, with redirect 302.
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
    /// Body as text.
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<String>,
    /// Body as JSON.
    #[serde(skip_serializing_if = "Option::is_none")]
    json: Option<serde_json::Value>,
    /// Location of a redirect; {host} and {path} are those of the request, whose query goes along with {path}.
    #[serde(skip_serializing_if = "Option::is_none")]
    redirect: Option<String>,
}

/// An answer made by the gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Respond {
    /// Status.
    pub status: StatusCode,
    /// `Content-Type` and body.
    pub body: Option<(&'static str, Vec<u8>)>,
    /// `Location`.
    pub redirect: Option<HeaderValue>,
    /// `Location` that is made of the request.
    pub template: Option<RedirectTemplate>,
}

/// A location with places for the request's host and path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedirectTemplate(Vec<Piece>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    Host,
    Path,
}

impl RedirectTemplate {
    /// Reads a location; `None` when it holds no place.
    fn parse(text: &str) -> Result<Option<Self>, String> {
        if !text.contains(['{', '}']) {
            return Ok(None);
        }
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some(at) = rest.find(['{', '}']) {
            pieces.push(Piece::Text(rest[..at].to_owned()));
            rest = &rest[at..];
            let place = [("{host}", Piece::Host), ("{path}", Piece::Path)];
            let Some((name, piece)) = place.into_iter().find(|(name, _)| rest.starts_with(name))
            else {
                return Err(format!(
                    "{text:?}: only {{host}} and {{path}} are filled in"
                ));
            };
            pieces.push(piece);
            rest = &rest[name.len()..];
        }
        pieces.push(Piece::Text(rest.to_owned()));
        pieces.retain(|piece| *piece != Piece::Text(String::new()));
        if text.contains(['?', '#']) && pieces.contains(&Piece::Path) {
            return Err(format!(
                "{text:?}: the request's query goes along with {{path}}, so there is no room for ? or #"
            ));
        }
        let absolute = text.starts_with("https://") || text.starts_with("http://");
        if pieces.contains(&Piece::Host) && !absolute {
            return Err(format!(
                "{text:?}: write the scheme before {{host}}, as in https://{{host}}{{path}}"
            ));
        }
        let path = pieces.iter().position(|piece| *piece == Piece::Path);
        if path.is_some_and(|at| at + 1 < pieces.len()) {
            return Err(format!("{text:?}: {{path}} stands last"));
        }
        Ok(Some(Self(pieces)))
    }

    /// The location for a request. `path` begins with a slash; with more of them, as routes that do not merge slashes take
    /// it, it would name another host (RFC 3986 §4.2) where nothing stands before it.
    pub fn fill(&self, host: &str, path: &str, query: Option<&str>) -> String {
        let mut location = String::new();
        for piece in &self.0 {
            match piece {
                Piece::Text(text) => location.push_str(text),
                Piece::Host => location.push_str(host),
                Piece::Path => {
                    if location.is_empty() {
                        location.push('/');
                        location.push_str(path.trim_start_matches('/'));
                    } else {
                        location.push_str(path);
                    }
                    if let Some(query) = query {
                        location.push('?');
                        location.push_str(query);
                    }
                }
            }
        }
        location
    }
}

impl RawRespond {
    /// One that is no redirect.
    pub(super) fn fixed(
        status: Option<u16>,
        text: Option<String>,
        json: Option<serde_json::Value>,
    ) -> Self {
        Self {
            status,
            text,
            json,
            redirect: None,
        }
    }

    pub(super) fn validate(&self, at: &At<'_>, scope: &mut Scope<'_>) -> Option<Respond> {
        let bodies = [
            self.text.is_some(),
            self.json.is_some(),
            self.redirect.is_some(),
        ];
        if bodies.iter().filter(|given| **given).count() > 1 {
            scope.problem(at, "has more than one of `text`, `json` and `redirect`");
        }
        let default = if self.redirect.is_some() { 302 } else { 200 };
        let number = self.status.unwrap_or(default);
        let status = StatusCode::from_u16(number)
            .ok()
            .filter(|status| (200..600).contains(&status.as_u16()));
        let redirects = status.is_some_and(|status| status.is_redirection());
        if status.is_none() {
            scope.problem(
                &at.key("status"),
                format!("{number} is no status of a final answer"),
            );
        } else if self.redirect.is_some() && !redirects {
            scope.problem(&at.key("status"), "a redirect needs a status of 3xx");
        }
        let template = self
            .redirect
            .as_ref()
            .and_then(|text| scope.read(&at.key("redirect"), text, RedirectTemplate::parse));
        // What cannot be read as a template was reported as one.
        let template_or_wrong = self.redirect.is_some() && template != Some(None);
        let template = template.flatten();
        let redirect = self.redirect.as_ref().filter(|_| !template_or_wrong);
        let redirect = redirect.and_then(|text| {
            scope.read(&at.key("redirect"), text, |t| {
                HeaderValue::from_str(t).map_err(|_| "is no header value".into())
            })
        });
        let body = match (&self.text, &self.json) {
            (Some(text), _) => Some(("text/plain; charset=utf-8", text.clone().into_bytes())),
            (None, Some(json)) => Some(("application/json", json.to_string().into_bytes())),
            (None, None) => None,
        };
        if body.is_some() && matches!(number, 204 | 304) {
            scope.problem(at, format!("an answer with status {number} has no body"));
        }
        Some(Respond {
            status: status?,
            body,
            redirect,
            template,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_redirect_is_filled_in_and_keeps_the_query() {
        let fill = |text: &str, query| {
            let template = RedirectTemplate::parse(text).expect("template");
            template.expect("places").fill("a.example", "/b/c", query)
        };
        for (text, query, location) in [
            ("https://{host}{path}", None, "https://a.example/b/c"),
            (
                "https://{host}{path}",
                Some("x=1&y"),
                "https://a.example/b/c?x=1&y",
            ),
            (
                "https://{host}:8443{path}",
                None,
                "https://a.example:8443/b/c",
            ),
            (
                "https://new.example{path}",
                Some(""),
                "https://new.example/b/c?",
            ),
            (
                "https://www.{host}/moved",
                Some("x"),
                "https://www.a.example/moved",
            ),
        ] {
            assert_eq!(fill(text, query), location);
        }
        assert_eq!(RedirectTemplate::parse("https://a/"), Ok(None));
        let path = RedirectTemplate::parse("{path}").expect("template");
        let path = path.expect("places");
        assert_eq!(path.fill("a", "//evil.example/x", None), "/evil.example/x");
    }

    #[test]
    fn a_redirect_that_leads_nowhere_is_refused() {
        for text in [
            "https://{hots}/",
            "https://{host",
            "https://host}/",
            "{host}{path}",
            "//{host}{path}",
            "https://{host}{path}/more",
            "https://{host}{path}?a=b",
            "https://{host}{path}#a",
        ] {
            assert!(RedirectTemplate::parse(text).is_err(), "{text}");
        }
    }
}
