//! `[[route]]` and `[group.NAME]`: what is served, and what several routes share.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use http::{HeaderName, Method};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::cors::{Cors, RawCors};
use super::document::At;
use super::error::Location;
use super::header_rules::{HeaderRules, RawHeaderRules, header_name, rules};
use super::raw::Later;
use super::respond::{RawRespond, Respond};
use super::scope::Scope;
use super::tls::CertificatePart;
use super::upstream::method;
use crate::primitives::matcher::ValueMatch;
use crate::primitives::ranges::AddressRanges;
use crate::primitives::template::{PathTemplate, Rewrite};
use crate::primitives::{AuthName, LimitName, RouteName, UpstreamName};

/// What routes share; a route's own key wins.
#[derive(Clone, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawGroup {
    /// Put before every path.
    #[serde(skip_serializing_if = "Option::is_none")]
    prefix: Option<String>,
    /// What a route can say as well.
    #[serde(flatten)]
    shared: Shared,
}

/// A route.
#[derive(Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RawRoute {
    /// Name, used as a metric label; default: the path, with the methods before it where several routes have that path.
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    /// Group whose keys it takes over.
    #[serde(skip_serializing_if = "Option::is_none")]
    group: Option<String>,
    /// Path template.
    path: String,
    /// Methods; any when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    methods: Option<Vec<String>>,
    /// Headers and what they must be.
    #[serde(default)]
    headers: BTreeMap<String, String>,
    /// Query parameters and what they must be.
    #[serde(default)]
    query: BTreeMap<String, String>,
    /// Cookies and what they must be.
    #[serde(default)]
    cookies: BTreeMap<String, String>,
    /// Decides between routes that are equally specific; the higher wins.
    #[serde(default)]
    priority: i32,
    /// "lb://NAME", the same as upstream = "NAME".
    #[serde(skip_serializing_if = "Option::is_none")]
    uri: Option<String>,
    /// Path sent upstream, built from captures.
    #[serde(skip_serializing_if = "Option::is_none")]
    rewrite: Option<String>,
    /// Answer made by the gateway.
    #[serde(skip_serializing_if = "Option::is_none")]
    respond: Option<RawRespond>,
    /// Weighted split. Not supported yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    split: Option<Later>,
    /// Mirroring. Not supported yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    mirror: Option<Later>,
    /// Class under overload. Not supported yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    class: Option<Later>,
    /// Answer when the upstream cannot. Not supported yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    fallback: Option<Later>,
    /// What a group can say as well.
    #[serde(flatten)]
    shared: Shared,
}

/// How a client reached the gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Scheme {
    /// Plain HTTP.
    Http,
    /// HTTP over TLS.
    Https,
}

impl Scheme {
    /// `http` or `https`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }
}

/// What a route and its group can both say.
#[derive(Clone, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
struct Shared {
    /// Hosts, exact or "*.example.com"; any when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    hosts: Option<Vec<String>>,
    /// "http" or "https"; either when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    scheme: Option<Scheme>,
    /// Upstream by name.
    #[serde(skip_serializing_if = "Option::is_none")]
    upstream: Option<String>,
    /// Leading segments cut off before forwarding.
    #[serde(skip_serializing_if = "Option::is_none")]
    strip_prefix: Option<u32>,
    /// Authenticators; the first whose credentials a request carries decides.
    #[serde(skip_serializing_if = "Option::is_none")]
    auth: Option<Vec<String>>,
    /// Limits, asked in this order.
    #[serde(skip_serializing_if = "Option::is_none")]
    limits: Option<Vec<String>>,
    /// Claims and their allowed values.
    #[serde(skip_serializing_if = "Option::is_none")]
    require: Option<BTreeMap<String, Vec<String>>>,
    /// Deadline of the whole exchange; default: the upstream's.
    #[serde(skip_serializing_if = "Option::is_none")]
    timeout: Option<String>,
    /// Bytes of a body; default: the server's.
    #[serde(skip_serializing_if = "Option::is_none")]
    max_body: Option<String>,
    /// Addresses that may come in; any when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    allow_ips: Option<Vec<String>>,
    /// Addresses that may not.
    #[serde(skip_serializing_if = "Option::is_none")]
    deny_ips: Option<Vec<String>>,
    /// Header changes towards the upstream.
    #[serde(skip_serializing_if = "Option::is_none")]
    request: Option<RawHeaderRules>,
    /// Header changes towards the client.
    #[serde(skip_serializing_if = "Option::is_none")]
    response: Option<RawHeaderRules>,
    /// Cross-origin requests.
    #[serde(skip_serializing_if = "Option::is_none")]
    cors: Option<RawCors>,
}

/// A route, validated, with its group's keys taken over.
#[derive(Clone, Debug)]
pub struct Route {
    /// Its name.
    pub name: RouteName,
    /// Whether the name was given, or made of the path.
    named: bool,
    /// Where it is written.
    pub location: Location,
    /// Its path, the group's prefix included.
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
    /// What it does.
    pub action: Action,
    /// Authenticators.
    pub auth: Vec<AuthName>,
    /// Limits.
    pub limits: Vec<LimitName>,
    /// Claims (dotted paths) and their allowed values.
    pub require: Vec<(String, Vec<String>)>,
    /// Deadline of the whole exchange.
    pub timeout: Option<Duration>,
    /// Bytes of a body.
    pub max_body: u64,
    /// Addresses that may come in; `None` = any.
    pub allow_ips: Option<AddressRanges>,
    /// Addresses that may not.
    pub deny_ips: AddressRanges,
    /// Header changes towards the upstream.
    pub request: HeaderRules,
    /// Header changes towards the client.
    pub response: HeaderRules,
    /// Cross-origin requests.
    pub cors: Option<Cors>,
}

/// A host a route serves.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum HostPattern {
    /// This host, lower case.
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

    fn excludes(&self, other: &Self) -> bool {
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

/// What a route does.
#[derive(Clone, Debug)]
pub enum Action {
    /// Sends the request to an upstream.
    Forward {
        /// Which.
        upstream: UpstreamName,
        /// Leading segments to cut off.
        strip_prefix: usize,
        /// Path to send instead.
        rewrite: Option<Rewrite>,
    },
    /// Answers itself.
    Respond(Box<Respond>),
}

/// Names that routes may refer to.
pub(super) struct Known<'k> {
    pub(super) upstreams: &'k dyn Fn(&str) -> bool,
    pub(super) auths: &'k dyn Fn(&str) -> bool,
    pub(super) limits: &'k dyn Fn(&str) -> bool,
    pub(super) names: &'k dyn Fn(&str) -> Vec<&'k str>,
    pub(super) groups: &'k HashMap<&'k str, &'k RawGroup>,
    pub(super) max_body: u64,
}

impl RawGroup {
    /// What is wrong with a group shows even when no route uses it.
    pub(super) fn validate(&self, at: &At<'_>, scope: &mut Scope<'_>) {
        if let Some(prefix) = &self.prefix {
            scope.read(&at.key("prefix"), prefix, prefix_template);
        }
    }
}

impl RawRoute {
    pub(super) fn validate(
        &self,
        at: &At<'_>,
        known: &Known<'_>,
        scope: &mut Scope<'_>,
    ) -> Option<Route> {
        for (key, later) in [
            ("split", &self.split),
            ("mirror", &self.mirror),
            ("class", &self.class),
            ("fallback", &self.fallback),
        ] {
            scope.later(&at.key(key), later.as_ref());
        }
        let group = self.group.as_ref().and_then(|name| {
            let found = known.groups.get(name.as_str()).copied();
            if found.is_none() {
                scope.unknown_name(
                    &at.key("group"),
                    "group",
                    name,
                    known.groups.keys().copied(),
                );
            }
            found
        });
        let shared = group.map_or_else(
            || self.shared.clone(),
            |group| self.shared.clone().over(&group.shared),
        );
        let prefix = group
            .and_then(|group| group.prefix.as_deref())
            .unwrap_or_default()
            .trim_end_matches('/');
        let full = if prefix.is_empty() || self.path == "/" && prefix.is_empty() {
            self.path.clone()
        } else {
            format!("{prefix}{}", self.path)
        };
        let path = scope.read(&at.key("path"), &full, PathTemplate::parse);
        let hosts = shared.hosts(at, scope);
        let methods = self.methods(at, scope);
        // A path that cannot be read hides nothing but what depends on its captures.
        let unread = PathTemplate {
            segments: Vec::new(),
            tail: None,
        };
        let action = match &path {
            Some(path) => self.action(&shared, path, at, known, scope),
            None if self.rewrite.is_none() && shared.strip_prefix.is_none() => {
                self.action(&shared, &unread, at, known, scope)
            }
            None => None,
        };
        let (auth, limits) = shared.guards(at, known, scope);
        let require = shared.require(at, &auth, scope);
        let allow_ips = shared
            .allow_ips
            .as_ref()
            .map(|ips| scope.ranges(&at.key("allow_ips"), ips));
        let deny_ips = shared
            .deny_ips
            .as_ref()
            .map(|ips| scope.ranges(&at.key("deny_ips"), ips));
        let max_body = shared
            .max_body
            .as_ref()
            .map(|text| scope.size(&at.key("max_body"), text));
        let headers = self.headers.iter().filter_map(|(name, value)| {
            let here = at.key("headers");
            let here = here.key(name);
            let header = scope.read(&here, name, header_name);
            let value = scope.read(&here, value, ValueMatch::parse);
            header.zip(value)
        });
        let headers = headers.collect();
        let id = self.id.clone().unwrap_or_else(|| full.clone());
        if self.id.as_ref().is_some_and(String::is_empty) {
            scope.problem(&at.key("id"), "must not be empty");
        }
        Some(Route {
            name: RouteName::new(&id),
            named: self.id.is_some(),
            location: scope.locate(at),
            methods,
            hosts,
            scheme: shared.scheme,
            headers,
            query: values(&self.query, &at.key("query"), scope),
            cookies: values(&self.cookies, &at.key("cookies"), scope),
            priority: self.priority,
            auth: auth.into_iter().map(|name| AuthName::new(&name)).collect(),
            limits: limits
                .into_iter()
                .map(|name| LimitName::new(&name))
                .collect(),
            require,
            timeout: shared
                .timeout
                .as_ref()
                .map(|text| scope.positive(&at.key("timeout"), text)),
            max_body: max_body.unwrap_or(known.max_body),
            allow_ips,
            deny_ips: deny_ips.unwrap_or_default(),
            request: rules(shared.request.as_ref(), &at.key("request"), scope),
            response: rules(shared.response.as_ref(), &at.key("response"), scope),
            cors: shared
                .cors
                .as_ref()
                .map(|cors| cors.validate(&at.key("cors"), scope)),
            path: path?,
            action: action?,
        })
    }

    fn methods(&self, at: &At<'_>, scope: &mut Scope<'_>) -> Vec<Method> {
        let list = at.key("methods");
        let texts = self.methods.as_deref().unwrap_or_default();
        if self.methods.is_some() && texts.is_empty() {
            scope.problem(
                &list,
                "an empty list would match nothing; leave the key out for any method",
            );
        }
        texts
            .iter()
            .enumerate()
            .filter_map(|(i, text)| scope.read(&list.index(i), text, method))
            .collect()
    }

    fn action(
        &self,
        shared: &Shared,
        path: &PathTemplate,
        at: &At<'_>,
        known: &Known<'_>,
        scope: &mut Scope<'_>,
    ) -> Option<Action> {
        let from_uri = self
            .uri
            .as_ref()
            .and_then(|text| match text.strip_prefix("lb://") {
                Some(name) if !name.is_empty() => Some(name.to_owned()),
                _ => {
                    scope.problem(
                        &at.key("uri"),
                        format!("{text:?} must be \"lb://NAME\" with the name of an upstream"),
                    );
                    None
                }
            });
        if self.uri.is_some() && self.shared.upstream.is_some() {
            scope.problem(at, "`uri` and `upstream` say the same; keep one");
        }
        if let Some(respond) = &self.respond {
            let forwards = self.uri.is_some() || self.shared.upstream.is_some();
            if forwards || self.rewrite.is_some() || self.shared.strip_prefix.is_some() {
                scope.problem(
                    &at.key("respond"),
                    "a route answers itself or forwards, not both",
                );
            }
            return respond
                .validate(&at.key("respond"), scope)
                .map(|respond| Action::Respond(Box::new(respond)));
        }
        let named = if self.uri.is_some() {
            from_uri
        } else {
            shared.upstream.clone()
        };
        let Some(upstream) = named else {
            if self.uri.is_none() && self.split.is_none() {
                scope.problem(
                    at,
                    "the route does nothing: it needs `upstream`, `uri` or `respond`",
                );
            }
            return None;
        };
        if !(known.upstreams)(&upstream) {
            let key = if self.uri.is_some() {
                "uri"
            } else {
                "upstream"
            };
            scope.unknown_name(
                &at.key(key),
                "upstream",
                &upstream,
                (known.names)("upstream"),
            );
        }
        let rewrite = self
            .rewrite
            .as_ref()
            .and_then(|text| scope.read(&at.key("rewrite"), text, |t| Rewrite::parse(t, path)));
        if self.rewrite.is_some() && self.shared.strip_prefix.is_some() {
            scope.problem(
                &at.key("rewrite"),
                "`rewrite` and `strip_prefix` both decide the path; keep one",
            );
        }
        let strip_prefix = if rewrite.is_some() {
            0
        } else {
            shared.strip_prefix.unwrap_or(0) as usize
        };
        if strip_prefix > path.segments.len() {
            let message = format!(
                "cuts {strip_prefix} segments, but the path has {} before its tail",
                path.segments.len()
            );
            scope.problem(&at.key("strip_prefix"), message);
        }
        Some(Action::Forward {
            upstream: UpstreamName::new(&upstream),
            strip_prefix,
            rewrite,
        })
    }
}

impl Shared {
    /// A route's own keys over its group's.
    fn over(self, group: &Self) -> Self {
        Self {
            hosts: self.hosts.or_else(|| group.hosts.clone()),
            scheme: self.scheme.or(group.scheme),
            upstream: self.upstream.or_else(|| group.upstream.clone()),
            strip_prefix: self.strip_prefix.or(group.strip_prefix),
            auth: self.auth.or_else(|| group.auth.clone()),
            limits: self.limits.or_else(|| group.limits.clone()),
            require: self.require.or_else(|| group.require.clone()),
            timeout: self.timeout.or_else(|| group.timeout.clone()),
            max_body: self.max_body.or_else(|| group.max_body.clone()),
            allow_ips: self.allow_ips.or_else(|| group.allow_ips.clone()),
            deny_ips: self.deny_ips.or_else(|| group.deny_ips.clone()),
            request: self.request.or_else(|| group.request.clone()),
            response: self.response.or_else(|| group.response.clone()),
            cors: self.cors.or_else(|| group.cors.clone()),
        }
    }

    fn hosts(&self, at: &At<'_>, scope: &mut Scope<'_>) -> Vec<HostPattern> {
        let list = at.key("hosts");
        let texts = self.hosts.as_deref().unwrap_or_default();
        if self.hosts.is_some() && texts.is_empty() {
            scope.problem(
                &list,
                "an empty list would match nothing; leave the key out for any host",
            );
        }
        texts
            .iter()
            .enumerate()
            .filter_map(|(i, text)| scope.read(&list.index(i), text, host_pattern))
            .collect()
    }

    fn guards(
        &self,
        at: &At<'_>,
        known: &Known<'_>,
        scope: &mut Scope<'_>,
    ) -> (Vec<String>, Vec<String>) {
        let (auth, limits) = (
            self.auth.clone().unwrap_or_default(),
            self.limits.clone().unwrap_or_default(),
        );
        for (key, kind, list, exists) in [
            ("auth", "auth", &auth, known.auths),
            ("limits", "limit", &limits, known.limits),
        ] {
            let here = at.key(key);
            for (index, name) in list.iter().enumerate() {
                if !exists(name) {
                    scope.unknown_name(&here.index(index), kind, name, (known.names)(kind));
                } else if list[..index].contains(name) {
                    scope.problem(&here.index(index), format!("{name:?} stands twice"));
                }
            }
        }
        (auth, limits)
    }

    fn require(
        &self,
        at: &At<'_>,
        auth: &[String],
        scope: &mut Scope<'_>,
    ) -> Vec<(String, Vec<String>)> {
        let Some(require) = &self.require else {
            return Vec::new();
        };
        let table = at.key("require");
        let of_certificate = |claim: &String| claim.starts_with("client_cert:");
        if auth.is_empty() && !require.keys().all(of_certificate) {
            scope.problem(
                &table,
                "claims are required, but the route has no `auth` to bring them",
            );
        }
        for (claim, values) in require {
            if of_certificate(claim) {
                scope.read(&table.key(claim), claim, CertificatePart::parse);
            }
            if values.is_empty() {
                scope.problem(&table.key(claim), "an empty list allows no value at all");
            }
        }
        require
            .iter()
            .map(|(claim, values)| (claim.clone(), values.clone()))
            .collect()
    }
}

fn values(
    raw: &BTreeMap<String, String>,
    at: &At<'_>,
    scope: &mut Scope<'_>,
) -> Vec<(String, ValueMatch)> {
    let each = raw.iter();
    each.filter_map(|(name, value)| {
        Some((
            name.clone(),
            scope.read(&at.key(name), value, ValueMatch::parse)?,
        ))
    })
    .collect()
}

fn host_pattern(text: &str) -> Result<HostPattern, String> {
    let lower = text.to_ascii_lowercase();
    let (below, name) = match lower.strip_prefix("*.") {
        Some(rest) => (true, rest),
        None => (false, lower.as_str()),
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

fn prefix_template(text: &str) -> Result<(), String> {
    if text.is_empty() || text == "/" {
        return Ok(());
    }
    let template = PathTemplate::parse(text.trim_end_matches('/'))?;
    if template.tail.is_some() {
        Err(format!("{text:?}: a prefix has no tail"))
    } else {
        Ok(())
    }
}

/// Makes names that were not given tell routes of one path apart: by their methods, else by a number. A route alone on
/// its path keeps the path as its name, so that another route elsewhere does not rename its metrics.
pub(super) fn name_routes(routes: &mut [Route]) {
    let mut taken: HashSet<String> = HashSet::with_capacity(routes.len());
    let mut paths: HashMap<String, usize> = HashMap::new();
    for route in &*routes {
        if route.named {
            taken.insert(route.name.to_string());
        } else {
            *paths.entry(route.name.to_string()).or_default() += 1;
        }
    }
    for route in routes.iter_mut().filter(|route| !route.named) {
        let path = route.name.to_string();
        let mut name = path.clone();
        if paths.get(&path).is_some_and(|count| *count > 1) && !route.methods.is_empty() {
            let methods: Vec<&str> = route.methods.iter().map(Method::as_str).collect();
            name = format!("{} {path}", methods.join(","));
        }
        let wanted = name.clone();
        let mut number = 1;
        while !taken.insert(name.clone()) {
            number += 1;
            name = format!("{wanted} #{number}");
        }
        route.name = RouteName::new(&name);
    }
}

/// Reports routes that cannot be told apart, and names that stand twice.
pub(super) fn check_conflicts(routes: &[Route], report: &mut dyn FnMut(usize, String)) {
    let mut names: HashMap<&str, usize> = HashMap::with_capacity(routes.len());
    let mut shapes: HashMap<String, Vec<usize>> = HashMap::with_capacity(routes.len());
    for (index, route) in routes.iter().enumerate() {
        if let Some(first) = names.insert(route.name.as_str(), index) {
            let place = &routes[first].location;
            report(
                index,
                format!(
                    "the id {:?} is taken by the route at {place}",
                    route.name.as_str()
                ),
            );
        }
        let same = shapes.entry(route.path.shape()).or_default();
        for other in same.iter().map(|other| &routes[*other]) {
            if indistinct(route, other) {
                let message = format!(
                    "cannot be told apart from route {:?} at {}: same path, equally many predicates, none excludes the \
                     other; give one a higher `priority` or another predicate",
                    other.name.as_str(),
                    other.location
                );
                report(index, message);
                break;
            }
        }
        same.push(index);
    }
}

impl Route {
    /// How many predicates besides the path it has.
    pub fn predicates(&self) -> usize {
        usize::from(!self.methods.is_empty())
            + usize::from(!self.hosts.is_empty())
            + usize::from(self.scheme.is_some())
            + self.headers.len()
            + self.query.len()
            + self.cookies.len()
    }
}

fn indistinct(a: &Route, b: &Route) -> bool {
    a.priority == b.priority && a.predicates() == b.predicates() && !excludes(a, b)
}

fn excludes(a: &Route, b: &Route) -> bool {
    let disjoint_methods = !a.methods.is_empty()
        && !b.methods.is_empty()
        && a.methods.iter().all(|m| {
            !b.methods.contains(m) && !admits_head(m, &b.methods) && !admits_head_of(m, &b.methods)
        });
    let disjoint_hosts = !a.hosts.is_empty()
        && !b.hosts.is_empty()
        && a.hosts
            .iter()
            .all(|x| b.hosts.iter().all(|y| x.excludes(y)));
    let other_scheme = a.scheme.zip(b.scheme).is_some_and(|(a, b)| a != b);
    disjoint_methods
        || disjoint_hosts
        || other_scheme
        || differ(&a.headers, &b.headers)
        || differ(&a.query, &b.query)
        || differ(&a.cookies, &b.cookies)
}

/// `GET` on one side takes `HEAD` too, unless the other names it: then the more literal wins by order of methods.
fn admits_head(method: &Method, others: &[Method]) -> bool {
    *method == Method::GET && others.contains(&Method::HEAD)
}

fn admits_head_of(method: &Method, others: &[Method]) -> bool {
    *method == Method::HEAD && others.contains(&Method::GET)
}

fn differ<K: PartialEq>(a: &[(K, ValueMatch)], b: &[(K, ValueMatch)]) -> bool {
    a.iter().any(|(name, value)| {
        b.iter()
            .any(|(other, wanted)| name == other && value.excludes(wanted))
    })
}
