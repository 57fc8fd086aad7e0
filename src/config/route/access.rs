//! Who may use a route.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::known::Known;
use super::says::Says;
use crate::config::addresses::AddressList;
use crate::config::document::At;
use crate::config::scope::Scope;
use crate::config::tls::CertificatePart;
use crate::primitives::AuthName;

/// What a route and its group can both say of who may use them.
#[derive(Clone, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
pub(super) struct RawAccess {
    /// Authenticators; the first whose credentials a request carries decides.
    #[serde(skip_serializing_if = "Option::is_none")]
    auth: Option<Vec<String>>,
    /// Claims and their allowed values.
    #[serde(skip_serializing_if = "Option::is_none")]
    require: Option<BTreeMap<String, Vec<String>>>,
    /// Addresses that may come in; any when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    allow_ips: Option<Vec<String>>,
    /// Addresses that may not.
    #[serde(skip_serializing_if = "Option::is_none")]
    deny_ips: Option<Vec<String>>,
}

/// Who may use a route.
#[derive(Clone, Debug)]
pub struct Access {
    /// Authenticators.
    pub auth: Vec<AuthName>,
    /// Claims (dotted paths) and their allowed values.
    pub require: Vec<(String, Vec<String>)>,
    /// Addresses that may come in; `None` = any.
    pub allow_ips: Option<AddressList>,
    /// Addresses that may not.
    pub deny_ips: AddressList,
}

impl RawAccess {
    pub(super) fn validate(
        says: &Says<'_, Self>,
        known: &Known<'_>,
        scope: &mut Scope<'_>,
    ) -> Access {
        let auth = says.read(
            "auth",
            |raw| raw.auth.as_ref(),
            scope,
            |list, at, scope| {
                known.named("auth", list, at, scope);
                list.iter().map(|name| AuthName::new(name)).collect()
            },
        );
        let auth: Vec<AuthName> = auth.unwrap_or_default();
        let require = says.get(|raw| raw.require.as_ref());
        let of_certificate = |claim: &String| claim.starts_with("client_cert:");
        if let Some(require) = require
            && auth.is_empty()
            && !require.keys().all(of_certificate)
        {
            scope.problem(
                &says.at.key("require"),
                "claims are required, but the route has no `auth` to bring them",
            );
        }
        let require = says.read("require", |raw| raw.require.as_ref(), scope, read_claims);
        let addresses =
            |list: &Vec<String>, at: &At<'_>, scope: &mut Scope<'_>| scope.addresses(at, list);
        let allow_ips = says.read("allow_ips", |raw| raw.allow_ips.as_ref(), scope, addresses);
        let deny_ips = says.read("deny_ips", |raw| raw.deny_ips.as_ref(), scope, addresses);
        Access {
            auth,
            require: require.unwrap_or_default(),
            allow_ips,
            deny_ips: deny_ips.unwrap_or_default(),
        }
    }
}

fn read_claims(
    require: &BTreeMap<String, Vec<String>>,
    table: &At<'_>,
    scope: &mut Scope<'_>,
) -> Vec<(String, Vec<String>)> {
    for (claim, values) in require {
        if claim.starts_with("client_cert:") {
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
