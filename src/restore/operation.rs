//! One write of a plan, as its file has it.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bridge_core::number::Zxid;
use bridge_core::path::ZnodePath;
use bridge_core::record::{Acl, Lifetime, LifetimeKind};
use bridge_zookeeper::TreeWrite;
use bridge_zookeeper::acl::{is_masked, unknown_letter};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::sync::Arc;

/// The largest data of one operation: eight times the most that servers take by default.
const DATA_BYTES_MAX: usize = 8 << 20;

/// Entries of one access control list.
const ACL_ENTRIES_MAX: usize = 1_000;

/// Five bytes of milliseconds, as servers keep a time to live.
const TTL_MS_MAX: i64 = 0xff_ffff_ffff;

/// Bytes of a request besides data, path and list of an operation.
const REQUEST_BYTES: usize = 64;

/// One write of a znode.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case", deny_unknown_fields)]
pub enum Operation {
    /// The znode is missing and is created.
    Create {
        /// The znode.
        path: ZnodePath,
        /// Its data.
        data: PlannedData,
        /// Its access control list.
        acl: Vec<Acl>,
        /// How long it lasts.
        lifetime: Lifetime,
    },
    /// The znode has other data.
    Set {
        /// The znode.
        path: ZnodePath,
        /// Its data then.
        data: PlannedData,
        /// The version that it had when the plan was made.
        version: i32,
        /// The incarnation that it was then.
        czxid: Zxid,
    },
    /// The znode did not exist.
    Delete {
        /// The znode.
        path: ZnodePath,
        /// The version that it had when the plan was made.
        version: i32,
        /// The incarnation that it was then.
        czxid: Zxid,
    },
}

/// Data as base64.
#[derive(Clone, PartialEq, Eq)]
pub struct PlannedData(pub Arc<[u8]>);

impl Operation {
    /// The znode.
    pub fn path(&self) -> &ZnodePath {
        match self {
            Operation::Create { path, .. } | Operation::Set { path, .. } | Operation::Delete { path, .. } => {
                path
            }
        }
    }

    /// The data that the znode has afterwards; `None` of a delete.
    pub fn data(&self) -> Option<&Arc<[u8]>> {
        match self {
            Operation::Create { data, .. } | Operation::Set { data, .. } => Some(&data.0),
            Operation::Delete { .. } => None,
        }
    }

    /// The verb for people.
    pub fn verb(&self) -> &'static str {
        match self {
            Operation::Create { .. } => "create",
            Operation::Set { .. } => "set",
            Operation::Delete { .. } => "delete",
        }
    }

    /// Roughly its bytes in a request.
    pub fn request_bytes(&self) -> usize {
        let list = match self {
            Operation::Create { acl, .. } => acl.iter().map(|acl| acl.scheme.len() + acl.id.len() + 12).sum(),
            _ => 0,
        };
        REQUEST_BYTES + self.path().len() + self.data().map_or(0, |data| data.len()) + list
    }

    /// The write that carries it out.
    pub fn write(&self) -> TreeWrite<'_> {
        match self {
            Operation::Create {
                path,
                data,
                acl,
                lifetime,
            } => TreeWrite::Create {
                path,
                data: &data.0,
                acl,
                lifetime: *lifetime,
            },
            Operation::Set {
                path, data, version, ..
            } => TreeWrite::Set {
                path,
                data: &data.0,
                version: *version,
            },
            Operation::Delete { path, version, .. } => TreeWrite::Delete {
                path,
                version: *version,
            },
        }
    }

    /// Why no plan of ours has it; `None` of one that can be carried out.
    pub fn objection(&self) -> Option<String> {
        if self.data().is_some_and(|data| data.len() > DATA_BYTES_MAX) {
            return Some(format!("its data has more than {DATA_BYTES_MAX} bytes"));
        }
        match self {
            Operation::Create { acl, lifetime, .. } => {
                acl_objection(acl).or_else(|| lifetime_objection(*lifetime))
            }
            Operation::Set { version, czxid, .. } | Operation::Delete { version, czxid, .. } => {
                let is_bad = *version < 0 || *czxid == Zxid::ZERO;
                is_bad.then(|| format!("version {version} of {czxid} is that of no znode"))
            }
        }
    }
}

/// Why servers would not take a list.
pub fn acl_objection(acl: &[Acl]) -> Option<String> {
    if acl.is_empty() || acl.len() > ACL_ENTRIES_MAX {
        return Some(format!(
            "its access control list has {} entries, and 1 to {ACL_ENTRIES_MAX} are possible",
            acl.len()
        ));
    }
    acl.iter().find_map(|entry| {
        if let Some(letter) = unknown_letter(&entry.perms) {
            return Some(format!("{letter:?} is none of the permissions c, d, r, w, a"));
        }
        if entry.scheme.is_empty() {
            return Some("an entry of its access control list has no scheme".to_owned());
        }
        is_masked(entry).then(|| {
            "a digest of its access control list is masked (user:x), so that nobody could use the znode"
                .to_owned()
        })
    })
}

/// Why a znode cannot be created with a lifetime.
pub fn lifetime_objection(lifetime: Lifetime) -> Option<String> {
    match (lifetime.kind, lifetime.ttl) {
        (LifetimeKind::Persistent | LifetimeKind::Container, None) => None,
        (LifetimeKind::Ttl, Some(1..=TTL_MS_MAX)) => None,
        (LifetimeKind::Ephemeral, _) => Some("an ephemeral znode cannot be put back".to_owned()),
        (kind, ttl) => Some(format!(
            "a lifetime of {kind:?} has no time to live of {ttl:?} ms"
        )),
    }
}

impl std::fmt::Debug for PlannedData {
    /// Never the data: it may be a secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

impl Serialize for PlannedData {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for PlannedData {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<PlannedData, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        // Its own error would show the data.
        let bytes = STANDARD.decode(&*text);
        let bytes = bytes.map_err(|_| D::Error::custom("the data is not base64"))?;
        Ok(PlannedData(bytes.into()))
    }
}
