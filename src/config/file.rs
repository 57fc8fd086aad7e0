//! The file as serde sees it. Each section's own raw type stands beside its validated twin; this is their sum.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub(super) use super::admin::RawAdmin;
use super::auth::RawAuth;
pub(super) use super::limit::RawLimit;
use super::listener::RawListener;
pub(super) use super::log::RawLog;
pub(super) use super::route::{RawGroup, RawRoute};
pub(super) use super::server::RawServer;
use super::upstream::RawUpstream;

/// One file. Included files have the same shape.
#[derive(Clone, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawFile {
    /// Further files, as paths or patterns relative to this one.
    pub(super) include: Vec<String>,
    /// The process as a whole.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) server: Option<RawServer>,
    /// Addresses to accept connections on.
    pub(super) listener: Vec<RawListener>,
    /// The TCP side of the admin listener.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) admin: Option<RawAdmin>,
    /// Logs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) log: Option<RawLog>,
    /// Groups of endpoints, by name.
    pub(super) upstream: BTreeMap<String, RawUpstream>,
    /// Ways to find out who is calling, by name.
    pub(super) auth: BTreeMap<String, RawAuth>,
    /// Limits, by name.
    pub(super) limit: BTreeMap<String, RawLimit>,
    /// What routes share, by name.
    pub(super) group: BTreeMap<String, RawGroup>,
    /// Routes.
    pub(super) route: Vec<RawRoute>,
}
