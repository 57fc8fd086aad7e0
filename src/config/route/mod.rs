//! `[[route]]` and `[group.NAME]`: what is served, and what several routes share.

mod access;
mod action;
mod conflicts;
mod degrade;
mod fallback;
mod host;
mod limits;
mod matching;
mod mirror;
mod policies;
mod says;
mod split;
mod transform;

use std::collections::{BTreeMap, HashMap};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use self::access::Access;
use self::access::RawAccess;
pub use self::action::Action;
use self::action::RawTarget;
pub(super) use self::conflicts::{check_conflicts, name_routes};
pub use self::degrade::Degrade;
pub use self::fallback::{Fallback, FallbackCause, FallbackOn, LastGood};
pub use self::host::HostPattern;
pub(super) use self::host::host_pattern;
use self::limits::RawRouteLimits;
pub use self::limits::RouteLimits;
pub use self::matching::Matching;
use self::matching::RawMatching;
pub use self::mirror::Mirror;
pub use self::policies::Policies;
use self::policies::RawPolicies;
pub(super) use self::says::GroupAt;
use self::says::Says;
pub use self::split::{Side, Split, SplitKey};
use self::transform::RawTransform;
pub use self::transform::Transform;
use super::document::At;
use super::error::Location;
use super::header_rules::HeaderField;
use super::limit::{Limit, RawLimit};
use super::maintenance::Maintenance;
use super::respond::RawRespond;
use super::scope::Scope;
use crate::primitives::RouteName;
use crate::primitives::template::PathTemplate;

/// What routes share; a route's own key wins.
#[derive(Clone, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawGroup {
    /// Put before every path.
    #[serde(skip_serializing_if = "Option::is_none")]
    prefix: Option<String>,
    /// Which requests.
    #[serde(flatten)]
    matching: RawMatching,
    /// Where they go.
    #[serde(flatten)]
    target: RawTarget,
    /// Who may send them.
    #[serde(flatten)]
    access: RawAccess,
    /// How much is taken.
    #[serde(flatten)]
    limits: RawRouteLimits,
    /// What happens in bad times.
    #[serde(flatten)]
    policies: RawPolicies,
    /// What is changed.
    #[serde(flatten)]
    transform: RawTransform,
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
    /// Which requests.
    #[serde(flatten)]
    matching: RawMatching,
    /// Where they go.
    #[serde(flatten)]
    target: RawTarget,
    /// Who may send them.
    #[serde(flatten)]
    access: RawAccess,
    /// How much is taken.
    #[serde(flatten)]
    limits: RawRouteLimits,
    /// What happens in bad times.
    #[serde(flatten)]
    policies: RawPolicies,
    /// What is changed.
    #[serde(flatten)]
    transform: RawTransform,
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
    /// Name of the route.
    pub name: RouteName,
    /// Whether the name was given, or made of the path.
    named: bool,
    /// Where it is written.
    pub location: Location,
    /// Which requests it takes.
    pub matching: Matching,
    /// What it does.
    pub action: Action,
    /// Who may use it.
    pub access: Access,
    /// How much it takes.
    pub limits: RouteLimits,
    /// What it does in bad times.
    pub policies: Policies,
    /// What it changes.
    pub transform: Transform,
}

/// Names that routes may refer to.
pub(super) struct Known<'k> {
    pub(super) upstreams: &'k dyn Fn(&str) -> bool,
    pub(super) hedged: &'k dyn Fn(&str) -> bool,
    pub(super) auths: &'k dyn Fn(&str) -> bool,
    pub(super) limits: &'k dyn Fn(&str) -> bool,
    pub(super) names: &'k dyn Fn(&str) -> Vec<&'k str>,
    pub(super) groups: &'k HashMap<&'k str, GroupAt<'k>>,
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

    /// Refuses names of a list that there are not, and those that stand twice; `kind` is `auth` or `limit`.
    fn named(&self, kind: &str, list: &[String], at: &At<'_>, scope: &mut Scope<'_>) {
        let exists = match kind {
            "auth" => self.auths,
            _ => self.limits,
        };
        for (index, name) in list.iter().enumerate() {
            if !exists(name) {
                scope.unknown_name(&at.index(index), kind, name, (self.names)(kind));
            } else if list[..index].contains(name) {
                scope.problem(&at.index(index), format!("{name:?} stands twice"));
            }
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
        let (full, path) = self.path(group, at, scope);
        let target = Says::new(&self.target, at, group, |group| &group.target);
        let action = self.action(&target, path.as_ref(), known, scope);
        let says = Says::new(&self.access, at, group, |group| &group.access);
        let access = RawAccess::validate(&says, known, scope);
        let says = Says::new(&self.limits, at, group, |group| &group.limits);
        let limits = RawRouteLimits::validate(&says, known, scope);
        if access.auth.iter().any(|name| (known.signs)(name.as_str())) {
            known.check_signed_body(limits.max_body, at, scope);
        }
        let says = Says::new(&self.policies, at, group, |group| &group.policies);
        let authenticated = !access.auth.is_empty();
        let policies = RawPolicies::validate(&says, self, authenticated, known, scope);
        let says = Says::new(&self.transform, at, group, |group| &group.transform);
        let transform = RawTransform::validate(&says, scope);
        let says = Says::new(&self.matching, at, group, |group| &group.matching);
        let unread = PathTemplate {
            segments: Vec::new(),
            tail: None,
        };
        let is_read = path.is_some();
        let matching = RawMatching::validate(&says, path.unwrap_or(unread), self, scope);
        let id = self.id.clone().unwrap_or(full);
        if self.id.as_ref().is_some_and(String::is_empty) {
            scope.problem(&at.key("id"), "must not be empty");
        }
        Some(Route {
            name: RouteName::new(&id),
            named: self.id.is_some(),
            location: scope.locate(at),
            matching,
            access,
            limits,
            policies,
            transform,
            action: action.filter(|_| is_read)?,
        })
    }

    /// The path with the group's prefix before it, as text and as it is read.
    fn path(
        &self,
        group: Option<GroupAt<'_>>,
        at: &At<'_>,
        scope: &mut Scope<'_>,
    ) -> (String, Option<PathTemplate>) {
        let prefix = group
            .and_then(|group| group.raw.prefix.as_deref())
            .unwrap_or_default()
            .trim_end_matches('/');
        let full = format!("{prefix}{}", self.path);
        let path = scope.read(&at.key("path"), &full, PathTemplate::parse);
        (full, path)
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
        let Some(hedge) = self.policies.hedge else {
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
        let upstream = self.target.upstream.as_deref().or(plain);
        if let Some(name) = upstream.filter(|name| hedge && !(known.hedged)(name)) {
            let message = format!("there is no [upstream.{name}.hedge] to say when");
            scope.problem(&here, message);
        }
    }
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
        let fixed = self
            .policies
            .fallback
            .as_ref()
            .and_then(|one| one.fixed.as_ref());
        let fixed = fixed.into_iter().flat_map(|(_, headers)| headers);
        let rules = [&self.transform.request, &self.transform.response].into_iter();
        rules
            .flat_map(|rules| rules.set.iter().chain(&rules.add))
            .chain(fixed)
    }
}
