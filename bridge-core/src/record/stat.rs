//! ZooKeeper's Stat, as read from a server.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::number::{SessionId, Zxid};

/// The Stat of a znode under ZooKeeper's own names.
///
/// `czxid`, `mzxid`, `version`, the times, `dataLength` and `ephemeralOwner` belong to the version that a record
/// speaks of; `pzxid`, `cversion`, `numChildren` and `aversion` to the moment of the read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Stat {
    /// Of the create: names the incarnation.
    pub czxid: Zxid,
    /// Of the last write of data (of the create, if there was none).
    pub mzxid: Zxid,
    /// Of the last create or delete of a child.
    pub pzxid: Zxid,
    /// Of the create, in ms since 1970, by the leader's clock.
    pub ctime: i64,
    /// Of the last write of data, in ms since 1970, by the leader's clock.
    pub mtime: i64,
    /// Writes of data since the create.
    pub version: i32,
    /// Creates and deletes of children.
    pub cversion: i32,
    /// Changes of the ACL.
    pub aversion: i32,
    /// The session whose end deletes the znode; none for all others.
    pub ephemeral_owner: SessionId,
    /// Bytes of data.
    pub data_length: i32,
    /// Children at the moment of the read.
    pub num_children: i32,
}

impl Stat {
    /// Whether the znode goes with its session.
    pub fn is_ephemeral(&self) -> bool {
        self.ephemeral_owner != SessionId::NONE
    }

    /// The greatest zxid that this Stat proves to have been applied by the server that sent it.
    pub fn newest_zxid(&self) -> Zxid {
        self.czxid.max(self.mzxid).max(self.pzxid)
    }
}
