//! What a route may refer to, and what it is checked against.

use crate::config::document::At;
use crate::config::limit::{Limit, RawLimit};
use crate::config::maintenance::Maintenance;
use crate::config::scope::Scope;

/// Names that routes may refer to.
pub(in crate::config) struct Known<'k> {
    pub(in crate::config) upstreams: &'k dyn Fn(&str) -> bool,
    pub(in crate::config) hedged: &'k dyn Fn(&str) -> bool,
    pub(in crate::config) auths: &'k dyn Fn(&str) -> bool,
    pub(in crate::config) limits: &'k dyn Fn(&str) -> bool,
    pub(in crate::config) names: &'k dyn Fn(&str) -> Vec<&'k str>,
    pub(in crate::config) limit: &'k dyn Fn(&str) -> Option<(&'k RawLimit, &'k Limit)>,
    pub(in crate::config) max_body: u64,
    /// Whether requests of this `[auth.NAME]` are signed.
    pub(in crate::config) signs: &'k dyn Fn(&str) -> bool,
    pub(in crate::config) auth_buffer: u64,
    pub(in crate::config) maintenance: Option<&'k Maintenance>,
}

impl Known<'_> {
    /// Refuses bodies that could never be read to the end, which is what checking their signature takes.
    pub(super) fn check_signed_body(&self, max_body: u64, at: &At<'_>, scope: &mut Scope<'_>) {
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
    pub(super) fn named(&self, kind: &str, list: &[String], at: &At<'_>, scope: &mut Scope<'_>) {
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
    pub(super) fn upstream(&self, at: &At<'_>, name: &str, scope: &mut Scope<'_>) {
        if !(self.upstreams)(name) {
            scope.unknown_name(at, "upstream", name, (self.names)("upstream"));
        }
    }
}
