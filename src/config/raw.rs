//! Values of the file that sections share as serde sees them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize, Serializer};

/// Text that is secret unless it only says where the secret is. Shown as `***`.
#[derive(Clone, Deserialize, JsonSchema)]
#[serde(transparent)]
pub(super) struct RawSecret(pub(super) String);

impl Serialize for RawSecret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&crate::primitives::secret::SecretSource::parse(&self.0))
    }
}

/// A key of a later release: any value parses, none is accepted.
#[derive(Clone, Deserialize, Serialize, JsonSchema)]
#[serde(transparent)]
pub(super) struct Later(pub(super) serde_json::Value);
