//! What a route and its group can both say.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::host::{HostPattern, host_pattern};
use super::{Known, Scheme};
use crate::config::cors::RawCors;
use crate::config::document::At;
use crate::config::header_rules::RawHeaderRules;
use crate::config::limit::{LimitUse, RawLimitUse};
use crate::config::maintenance::RawMaintenance;
use crate::config::overload::Class;
use crate::config::scope::Scope;
use crate::config::tls::CertificatePart;
use crate::config::upstream::RawBreaker;
use crate::primitives::LimitName;

/// What becomes of `%2F` in a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum EncodedSlash {
    /// The request is refused.
    Refuse,
    /// It stays as it is, within a segment.
    Keep,
}

/// What a route and its group can both say.
#[derive(Clone, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
pub(super) struct Shared {
    /// Hosts, exact or "*.example.com"; any when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) hosts: Option<Vec<String>>,
    /// "http" or "https"; either when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) scheme: Option<Scheme>,
    /// Upstream by name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) upstream: Option<String>,
    /// Leading segments cut off before forwarding.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) strip_prefix: Option<u32>,
    /// Authenticators; the first whose credentials a request carries decides.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) auth: Option<Vec<String>>,
    /// Limits, asked in this order.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) limits: Option<Vec<String>>,
    /// What a request counts, and amounts of the route's own, by limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) limit_overrides: Option<BTreeMap<String, RawLimitUse>>,
    /// Claims and their allowed values.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) require: Option<BTreeMap<String, Vec<String>>>,
    /// Deadline of the whole exchange; default: the upstream's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) timeout: Option<String>,
    /// Circuit breaker of what the route sends, besides the upstream's own; none when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) breaker: Option<RawBreaker>,
    /// Bytes of a body; default: the server's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) max_body: Option<String>,
    /// Addresses that may come in; any when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) allow_ips: Option<Vec<String>>,
    /// Addresses that may not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) deny_ips: Option<Vec<String>>,
    /// Header changes towards the upstream.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) request: Option<RawHeaderRules>,
    /// Header changes towards the client.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) response: Option<RawHeaderRules>,
    /// Cross-origin requests.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) cors: Option<RawCors>,
    /// Closed for the time being.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) maintenance: Option<RawMaintenance>,
    /// Who is let in last under overload; "normal" when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) class: Option<Class>,
    /// What becomes of `%2F` in a path; "refuse" when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) encoded_slash: Option<EncodedSlash>,
    /// Whether `//` in a path is one slash; true when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) merge_slashes: Option<bool>,
    /// Whether another endpoint may be asked beside the first: whatever the method, or not at all. As the upstream says when
    /// absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) hedge: Option<bool>,
}

impl Shared {
    /// A route's own keys over its group's.
    pub(super) fn over(self, group: &Self) -> Self {
        Self {
            hosts: self.hosts.or_else(|| group.hosts.clone()),
            scheme: self.scheme.or(group.scheme),
            upstream: self.upstream.or_else(|| group.upstream.clone()),
            strip_prefix: self.strip_prefix.or(group.strip_prefix),
            auth: self.auth.or_else(|| group.auth.clone()),
            limits: self.limits.or_else(|| group.limits.clone()),
            limit_overrides: self
                .limit_overrides
                .or_else(|| group.limit_overrides.clone()),
            require: self.require.or_else(|| group.require.clone()),
            timeout: self.timeout.or_else(|| group.timeout.clone()),
            breaker: self.breaker.or_else(|| group.breaker.clone()),
            max_body: self.max_body.or_else(|| group.max_body.clone()),
            allow_ips: self.allow_ips.or_else(|| group.allow_ips.clone()),
            deny_ips: self.deny_ips.or_else(|| group.deny_ips.clone()),
            request: self.request.or_else(|| group.request.clone()),
            response: self.response.or_else(|| group.response.clone()),
            cors: self.cors.or_else(|| group.cors.clone()),
            maintenance: self.maintenance.or_else(|| group.maintenance.clone()),
            class: self.class.or(group.class),
            encoded_slash: self.encoded_slash.or(group.encoded_slash),
            merge_slashes: self.merge_slashes.or(group.merge_slashes),
            hedge: self.hedge.or(group.hedge),
        }
    }

    pub(super) fn hosts(&self, at: &At<'_>, scope: &mut Scope<'_>) -> Vec<HostPattern> {
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

    pub(super) fn guards(
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

    /// What the route says of limits that it asks.
    pub(super) fn limit_uses(
        &self,
        limits: &[String],
        at: &At<'_>,
        known: &Known<'_>,
        scope: &mut Scope<'_>,
    ) -> BTreeMap<LimitName, LimitUse> {
        let table = at.key("limit_overrides");
        let mut uses = BTreeMap::new();
        for (name, raw) in self.limit_overrides.iter().flatten() {
            let here = table.key(name);
            if !limits.contains(name) {
                scope.problem(
                    &here,
                    "the route does not ask this limit; name it in `limits`",
                );
            } else if let Some((limit, validated)) = (known.limit)(name) {
                let used = limit.used(raw, validated, &here, scope);
                uses.insert(LimitName::new(name), used);
            }
        }
        uses
    }

    pub(super) fn require(
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
