//! What a request must be for a route to take it.

use std::collections::BTreeMap;

use http::{HeaderName, Method};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::host::{HostPattern, host_pattern};
use super::says::Says;
use super::scheme::Scheme;
use crate::config::document::At;
use crate::config::header_rules::header_name;
use crate::config::method::method;
use crate::config::scope::Scope;
use crate::primitives::matcher::ValueMatch;
use crate::primitives::template::PathTemplate;

/// What becomes of `%2F` in a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum EncodedSlash {
    /// The request is refused.
    Refuse,
    /// A `%2F` stays as it is, within a segment.
    Keep,
}

/// What a route and its group can both say of the requests that they take.
#[derive(Clone, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
pub(super) struct RawMatching {
    /// Hosts, exact or "*.example.com"; any when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    hosts: Option<Vec<String>>,
    /// "http" or "https"; either when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    scheme: Option<Scheme>,
    /// What becomes of `%2F` in a path; "refuse" when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    encoded_slash: Option<EncodedSlash>,
    /// Whether `//` in a path is one slash; true when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    merge_slashes: Option<bool>,
}

/// What a route says of the requests it takes that no group can say for it.
pub(super) struct OwnMatching<'r> {
    /// The group's prefix included.
    pub(super) path: PathTemplate,
    pub(super) methods: Option<&'r [String]>,
    pub(super) headers: &'r BTreeMap<String, String>,
    pub(super) query: &'r BTreeMap<String, String>,
    pub(super) cookies: &'r BTreeMap<String, String>,
    pub(super) priority: i32,
}

/// What a request must be for a route to take it.
#[derive(Clone, Debug)]
pub struct Matching {
    /// Path, the group's prefix included.
    pub path: PathTemplate,
    /// Methods; empty = any. `GET` admits `HEAD`.
    pub methods: Vec<Method>,
    /// Hosts; empty = any.
    pub hosts: Vec<HostPattern>,
    /// How the client must have reached the gateway; `None` = either way.
    pub scheme: Option<Scheme>,
    /// Headers and what they must be.
    pub headers: Vec<(HeaderName, ValueMatch)>,
    /// Query parameters and what they must be.
    pub query: Vec<(String, ValueMatch)>,
    /// Cookies and what they must be.
    pub cookies: Vec<(String, ValueMatch)>,
    /// Decides between equals.
    pub priority: i32,
    /// Whether `%2F` in a path stays as it is; else the request is refused.
    pub keeps_encoded_slash: bool,
    /// Whether `//` in a path is one slash.
    pub merges_slashes: bool,
}

impl Matching {
    /// How many predicates besides the path there are.
    pub fn predicates(&self) -> usize {
        usize::from(!self.methods.is_empty())
            + usize::from(!self.hosts.is_empty())
            + usize::from(self.scheme.is_some())
            + self.headers.len()
            + self.query.len()
            + self.cookies.len()
    }
}

impl RawMatching {
    /// Reads what a route takes; problems hide nothing of it.
    pub(super) fn validate(
        says: &Says<'_, Self>,
        own: OwnMatching<'_>,
        scope: &mut Scope<'_>,
    ) -> Matching {
        let at = says.at;
        let hosts = says.read(
            "hosts",
            |raw| raw.hosts.as_ref(),
            scope,
            |list, at, scope| read_hosts(list, at, scope),
        );
        let encoded_slash = says.get(|raw| raw.encoded_slash.as_ref());
        Matching {
            path: own.path,
            methods: read_methods(own.methods, &at.key("methods"), scope),
            hosts: hosts.unwrap_or_default(),
            scheme: says.get(|raw| raw.scheme.as_ref()).copied(),
            headers: read_headers(own.headers, &at.key("headers"), scope),
            query: values(own.query, &at.key("query"), scope),
            cookies: values(own.cookies, &at.key("cookies"), scope),
            priority: own.priority,
            keeps_encoded_slash: encoded_slash == Some(&EncodedSlash::Keep),
            merges_slashes: says.get(|raw| raw.merge_slashes.as_ref()) != Some(&false),
        }
    }
}

fn read_hosts(texts: &[String], list: &At<'_>, scope: &mut Scope<'_>) -> Vec<HostPattern> {
    if texts.is_empty() {
        scope.problem(
            list,
            "an empty list would match nothing; leave the key out for any host",
        );
    }
    let texts = texts.iter().enumerate();
    texts
        .filter_map(|(i, text)| scope.read(&list.index(i), text, host_pattern))
        .collect()
}

fn read_methods(texts: Option<&[String]>, list: &At<'_>, scope: &mut Scope<'_>) -> Vec<Method> {
    if texts.is_some_and(<[String]>::is_empty) {
        scope.problem(
            list,
            "an empty list would match nothing; leave the key out for any method",
        );
    }
    let texts = texts.unwrap_or_default().iter().enumerate();
    texts
        .filter_map(|(i, text)| scope.read(&list.index(i), text, method))
        .collect()
}

fn read_headers(
    raw: &BTreeMap<String, String>,
    at: &At<'_>,
    scope: &mut Scope<'_>,
) -> Vec<(HeaderName, ValueMatch)> {
    let headers = raw.iter().filter_map(|(name, value)| {
        let here = at.key(name);
        let header = scope.read(&here, name, header_name);
        let value = scope.wanted(&here, value);
        header.zip(value)
    });
    headers.collect()
}

pub(super) fn values(
    raw: &BTreeMap<String, String>,
    at: &At<'_>,
    scope: &mut Scope<'_>,
) -> Vec<(String, ValueMatch)> {
    let each = raw.iter();
    each.filter_map(|(name, value)| Some((name.clone(), scope.wanted(&at.key(name), value)?)))
        .collect()
}
