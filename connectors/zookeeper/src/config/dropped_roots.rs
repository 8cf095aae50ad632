//! What becomes of the znodes of a root that is no longer watched.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The records about znodes of a root that is no longer watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DroppedRoots {
    /// None: destinations keep the last state of each.
    #[default]
    Keep,
    /// A `delete` for each znode that the journal knows there, although it may exist in ZooKeeper, once, at the next start
    /// or reload. Until the root is watched again it is in a gap with the reason `unwatched`.
    Delete,
}
