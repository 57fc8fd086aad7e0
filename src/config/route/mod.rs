//! `[[route]]` and `[group.NAME]`: what is served, and what several routes share.

mod access;
mod action;
mod conflicts;
mod degrade;
mod fallback;
mod host;
mod known;
mod limits;
mod matching;
mod mirror;
mod policies;
mod says;
mod scheme;
mod split;
mod transform;

use std::collections::{BTreeMap, HashMap};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use self::access::Access;
use self::access::RawAccess;
pub use self::action::Action;
use self::action::{OwnTarget, RawTarget};
pub(super) use self::conflicts::{check_conflicts, name_routes};
pub use self::degrade::Degrade;
pub use self::fallback::{Fallback, FallbackCause, FallbackOn, LastGood};
pub use self::host::HostPattern;
pub(super) use self::host::host_pattern;
pub(super) use self::known::Known;
use self::limits::RawRouteLimits;
pub use self::limits::RouteLimits;
pub use self::matching::Matching;
use self::matching::{OwnMatching, RawMatching};
pub use self::mirror::Mirror;
pub use self::policies::Policies;
use self::policies::{OwnPolicies, RawPolicies};
pub(super) use self::says::GroupPlace;
use self::says::Says;
pub use self::scheme::Scheme;
pub use self::split::{Side, Split, SplitKey};
use self::transform::RawTransform;
pub use self::transform::Transform;
use super::document::At;
use super::error::Location;
use super::header_rules::HeaderField;
use super::respond::RawRespond;
use super::scope::Scope;
use crate::primitives::RouteName;
use crate::primitives::template::PathTemplate;

/// A group with the place where it stands.
#[derive(Clone, Copy)]
pub(super) struct GroupAt<'r> {
    pub(super) raw: &'r RawGroup,
    pub(super) place: GroupPlace<'r>,
}

/// Groups by name.
pub(super) type Groups<'r> = HashMap<&'r str, GroupAt<'r>>;

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
        groups: &Groups<'_>,
        known: &Known<'_>,
        scope: &mut Scope<'_>,
    ) -> Option<Route> {
        let group = self.group.as_ref().and_then(|name| {
            let found = groups.get(name.as_str()).copied();
            if found.is_none() {
                scope.unknown_name(&at.key("group"), "group", name, groups.keys().copied());
            }
            found
        });
        let (full, path) = self.path(group, at, scope);
        let says = merged(&self.target, at, group, |group| &group.target);
        let action = RawTarget::validate(&says, &self.own_target(), path.as_ref(), known, scope);
        let says = merged(&self.access, at, group, |group| &group.access);
        let access = RawAccess::validate(&says, known, scope);
        let says = merged(&self.limits, at, group, |group| &group.limits);
        let limits = RawRouteLimits::validate(&says, known, scope);
        if access.auth.iter().any(|name| (known.signs)(name.as_str())) {
            known.check_signed_body(limits.max_body, at, scope);
        }
        let says = merged(&self.policies, at, group, |group| &group.policies);
        let own = OwnPolicies {
            mirror: self.mirror.as_ref(),
            fallback: self.fallback.as_ref(),
            degrade: self.degrade.as_ref(),
            authenticated: !access.auth.is_empty(),
            responds: self.respond.is_some(),
        };
        let policies = RawPolicies::validate(&says, &own, known, scope);
        self.check_policies(at, scope);
        self.check_hedge(at, known, scope);
        let says = merged(&self.transform, at, group, |group| &group.transform);
        let transform = RawTransform::validate(&says, scope);
        let says = merged(&self.matching, at, group, |group| &group.matching);
        let unread = PathTemplate {
            segments: Vec::new(),
            tail: None,
        };
        let is_read = path.is_some();
        let own = OwnMatching {
            path: path.unwrap_or(unread),
            methods: self.methods.as_deref(),
            headers: &self.headers,
            query: &self.query,
            cookies: &self.cookies,
            priority: self.priority,
        };
        let matching = RawMatching::validate(&says, own, scope);
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

    fn own_target(&self) -> OwnTarget<'_> {
        OwnTarget {
            uri: self.uri.as_deref(),
            rewrite: self.rewrite.as_deref(),
            respond: self.respond.as_ref(),
            split: self.split.as_deref(),
            rollout: self.rollout.as_ref(),
        }
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

/// The keys of one kind that a route has, and its group, in which `of` finds them.
fn merged<'r, K>(
    own: &'r K,
    at: &'r At<'r>,
    group: Option<GroupAt<'r>>,
    of: impl FnOnce(&'r RawGroup) -> &'r K,
) -> Says<'r, K> {
    Says::new(own, at, group.map(|group| (of(group.raw), group.place)))
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
