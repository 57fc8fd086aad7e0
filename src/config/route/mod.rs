//! `[[route]]` and `[group.NAME]`: what is served, and what several routes share.

mod action;
mod conflicts;
mod degrade;
mod fallback;
mod host;
mod mirror;
mod shared;
mod split;

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use http::{HeaderName, Method};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use self::action::Action;
pub(super) use self::conflicts::{check_conflicts, name_routes};
pub use self::degrade::Degrade;
pub use self::fallback::{Fallback, FallbackCause, FallbackOn, LastGood};
pub use self::host::HostPattern;
pub(super) use self::host::host_pattern;
pub use self::mirror::Mirror;
use self::shared::{EncodedSlash, Shared};
pub use self::split::{Side, Split, SplitKey};
use super::addresses::AddressList;
use super::cors::Cors;
use super::document::At;
use super::error::Location;
use super::header_rules::{HeaderField, HeaderRules, header_name, rules};
use super::limit::{Limit, LimitUse, RawLimit};
use super::maintenance::Maintenance;
use super::method::method;
use super::overload::Class;
use super::respond::RawRespond;
use super::scope::Scope;
use super::upstream::Breaker;
use crate::primitives::matcher::ValueMatch;
use crate::primitives::template::PathTemplate;
use crate::primitives::{AuthName, LimitName, RouteName};

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
    /// Several upstreams and their parts of the requests.
    #[serde(skip_serializing_if = "Option::is_none")]
    split: Option<Vec<split::RawSide>>,
    /// How a split is carried out.
    #[serde(skip_serializing_if = "Option::is_none")]
    rollout: Option<split::RawRollout>,
    /// A copy of some requests for an upstream whose answers nobody sees.
    #[serde(skip_serializing_if = "Option::is_none")]
    mirror: Option<mirror::RawMirror>,
    /// Answer when the upstream cannot.
    #[serde(skip_serializing_if = "Option::is_none")]
    fallback: Option<fallback::RawFallback>,
    /// Which level it takes by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    degrade: Option<degrade::RawDegrade>,
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
    /// What it says of some of them.
    pub limit_uses: BTreeMap<LimitName, LimitUse>,
    /// Claims (dotted paths) and their allowed values.
    pub require: Vec<(String, Vec<String>)>,
    /// Deadline of the whole exchange.
    pub timeout: Option<Duration>,
    /// Circuit breaker of what it sends.
    pub breaker: Option<Box<Breaker>>,
    /// Bytes of a body.
    pub max_body: u64,
    /// Addresses that may come in; `None` = any.
    pub allow_ips: Option<AddressList>,
    /// Addresses that may not.
    pub deny_ips: AddressList,
    /// Header changes towards the upstream.
    pub request: HeaderRules,
    /// Header changes towards the client.
    pub response: HeaderRules,
    /// Cross-origin requests.
    pub cors: Option<Cors>,
    /// How it answers while it is closed; `None` = open.
    pub maintenance: Option<Box<Maintenance>>,
    /// A copy of some requests.
    pub mirror: Option<Box<Mirror>>,
    /// Answer when the upstream cannot.
    pub fallback: Option<Box<Fallback>>,
    /// Which level it takes by itself.
    pub degrade: Degrade,
    /// Who is let in last under overload.
    pub class: Class,
    /// Whether `%2F` in a path stays as it is; else the request is refused.
    pub keeps_encoded_slash: bool,
    /// Whether `//` in a path is one slash.
    pub merges_slashes: bool,
    /// Whether another endpoint may be asked beside the first; `None`: as the upstream says.
    pub hedge: Option<bool>,
}

/// Names that routes may refer to.
pub(super) struct Known<'k> {
    pub(super) upstreams: &'k dyn Fn(&str) -> bool,
    pub(super) hedged: &'k dyn Fn(&str) -> bool,
    pub(super) auths: &'k dyn Fn(&str) -> bool,
    pub(super) limits: &'k dyn Fn(&str) -> bool,
    pub(super) names: &'k dyn Fn(&str) -> Vec<&'k str>,
    pub(super) groups: &'k HashMap<&'k str, &'k RawGroup>,
    pub(super) limit: &'k dyn Fn(&str) -> Option<(&'k RawLimit, &'k Limit)>,
    pub(super) max_body: u64,
    /// Whether requests of this `[auth.NAME]` are signed.
    pub(super) signs: &'k dyn Fn(&str) -> bool,
    pub(super) auth_buffer: u64,
    pub(super) maintenance: Option<&'k Maintenance>,
}

impl Known<'_> {
    /// Refuses bodies that could never be read to the end, which is what checking their signature takes.
    fn check_signed_body(&self, max_body: u64, at: &At<'_>, scope: &mut Scope<'_>) {
        let most = self.auth_buffer;
        if max_body > most {
            let message = format!(
                "a signed body of {max_body} bytes never fits into server.auth_buffer, which has {most}; \
                 raise that, or lower max_body"
            );
            scope.problem(&at.key("max_body"), message);
        }
    }

    /// Refuses the name of an upstream that there is not.
    fn upstream(&self, at: &At<'_>, name: &str, scope: &mut Scope<'_>) {
        if !(self.upstreams)(name) {
            scope.unknown_name(at, "upstream", name, (self.names)("upstream"));
        }
    }
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
        let limit_uses = shared.limit_uses(&limits, at, known, scope);
        let require = shared.require(at, &auth, scope);
        let allow_ips = shared
            .allow_ips
            .as_ref()
            .map(|ips| scope.addresses(&at.key("allow_ips"), ips));
        let deny_ips = shared
            .deny_ips
            .as_ref()
            .map(|ips| scope.addresses(&at.key("deny_ips"), ips));
        let max_body = shared
            .max_body
            .as_ref()
            .map(|text| scope.size(&at.key("max_body"), text));
        let max_body = max_body.unwrap_or(known.max_body);
        if auth.iter().any(|name| (known.signs)(name)) {
            known.check_signed_body(max_body, at, scope);
        }
        let headers = self.headers.iter().filter_map(|(name, value)| {
            let here = at.key("headers");
            let here = here.key(name);
            let header = scope.read(&here, name, header_name);
            let value = scope.wanted(&here, value);
            header.zip(value)
        });
        let headers = headers.collect();
        let id = self.id.clone().unwrap_or_else(|| full.clone());
        if self.id.as_ref().is_some_and(String::is_empty) {
            scope.problem(&at.key("id"), "must not be empty");
        }
        let mirror = self.mirror.as_ref();
        let mirror = mirror.map(|raw| raw.validate(&at.key("mirror"), known, scope));
        let fallback = self.fallback.as_ref();
        let fallback = fallback
            .and_then(|raw| raw.validate(&at.key("fallback"), !auth.is_empty(), known, scope));
        let degrade = self.degrade.as_ref().map(|raw| {
            let has_fallback = self.fallback.is_some();
            raw.validate(&at.key("degrade"), has_fallback, scope)
        });
        self.check_policies(at, scope);
        self.check_hedge(at, known, scope);
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
            limit_uses,
            require,
            timeout: shared
                .timeout
                .as_ref()
                .map(|text| scope.positive(&at.key("timeout"), text)),
            breaker: self.breaker(&shared, at, scope).map(Box::new),
            max_body,
            allow_ips,
            deny_ips: deny_ips.unwrap_or_default(),
            request: rules(shared.request.as_ref(), &at.key("request"), scope),
            response: rules(shared.response.as_ref(), &at.key("response"), scope),
            cors: shared
                .cors
                .as_ref()
                .map(|cors| cors.validate(&at.key("cors"), scope)),
            maintenance: match &shared.maintenance {
                Some(raw) => raw.validate(&at.key("maintenance"), scope),
                None => known.maintenance.cloned(),
            }
            .map(Box::new),
            mirror: mirror.map(Box::new),
            fallback: fallback.map(Box::new),
            degrade: degrade.unwrap_or_default(),
            class: shared.class.unwrap_or_default(),
            keeps_encoded_slash: shared.encoded_slash == Some(EncodedSlash::Keep),
            merges_slashes: shared.merge_slashes.unwrap_or(true),
            hedge: shared.hedge,
            path: path?,
            action: action?,
        })
    }

    /// What concerns an upstream has no place in a route that answers itself, nor a roll-out without sides.
    fn check_policies(&self, at: &At<'_>, scope: &mut Scope<'_>) {
        let given = [
            ("split", self.split.is_some()),
            ("mirror", self.mirror.is_some()),
            ("fallback", self.fallback.is_some()),
            ("degrade", self.degrade.is_some()),
        ];
        for (key, given) in given {
            if given && self.respond.is_some() {
                scope.problem(
                    &at.key(key),
                    "the route answers itself and asks no upstream",
                );
            }
        }
        if self.rollout.is_some() && self.split.is_none() {
            scope.problem(
                &at.key("rollout"),
                "says how a `split` is carried out; there is none",
            );
        }
    }

    /// A second try needs an upstream that knows when to begin it.
    fn check_hedge(&self, at: &At<'_>, known: &Known<'_>, scope: &mut Scope<'_>) {
        let Some(hedge) = self.shared.hedge else {
            return;
        };
        let here = at.key("hedge");
        if self.respond.is_some() {
            scope.problem(&here, "the route answers itself and asks no upstream");
            return;
        }
        let plain = self
            .uri
            .as_deref()
            .and_then(|uri| uri.strip_prefix("lb://"));
        let upstream = self.shared.upstream.as_deref().or(plain);
        if let Some(name) = upstream.filter(|name| hedge && !(known.hedged)(name)) {
            let message = format!("there is no [upstream.{name}.hedge] to say when");
            scope.problem(&here, message);
        }
    }

    fn breaker(&self, shared: &Shared, at: &At<'_>, scope: &mut Scope<'_>) -> Option<Breaker> {
        let here = at.key("breaker");
        if self.respond.is_some() {
            if self.shared.breaker.is_some() {
                scope.problem(&here, "a route that answers itself has nothing to break");
            }
            return None;
        }
        let raw = shared.breaker.as_ref()?;
        Some(raw.validate(&here, scope))
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
}

fn values(
    raw: &BTreeMap<String, String>,
    at: &At<'_>,
    scope: &mut Scope<'_>,
) -> Vec<(String, ValueMatch)> {
    let each = raw.iter();
    each.filter_map(|(name, value)| Some((name.clone(), scope.wanted(&at.key(name), value)?)))
        .collect()
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

impl Route {
    /// The fields of its header rules and of its fixed fallback.
    pub fn header_fields(&self) -> impl Iterator<Item = &HeaderField> {
        let fixed = self.fallback.as_ref().and_then(|one| one.fixed.as_ref());
        let fixed = fixed.into_iter().flat_map(|(_, headers)| headers);
        let rules = [&self.request, &self.response].into_iter();
        rules
            .flat_map(|rules| rules.set.iter().chain(&rules.add))
            .chain(fixed)
    }

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
