//! What a snapshot has built before it builds its routes.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::limits::Limits;
use crate::auth::Authenticator;
use crate::config::Auth;
use crate::primitives::{AuthName, UpstreamName};
use crate::upstream::Pool;

/// What routes are built from.
pub(super) struct Parts<'c> {
    /// What `authenticators` are made of.
    pub(super) auths: &'c BTreeMap<AuthName, Auth>,
    pub(super) authenticators: BTreeMap<AuthName, Arc<dyn Authenticator>>,
    pub(super) limits: Limits,
    pub(super) pools: &'c BTreeMap<UpstreamName, Arc<Pool>>,
}
