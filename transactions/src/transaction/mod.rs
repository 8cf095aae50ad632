//! A transaction: one change of the tree or of the sessions, which every server of an ensemble applies in the same order.
//!
//! The payload of a record in a log and of an INFORM or PROPOSAL packet are the same bytes: a header, a body that depends
//! on the type, and from 3.6 on a digest of the tree after the transaction. [`Transaction::decode`] reads one.

mod decode;

/// The upper half of a zxid: the leader's term.
pub fn epoch(zxid: i64) -> u32 {
    let [a, b, c, d, ..] = zxid.to_be_bytes();
    u32::from_be_bytes([a, b, c, d])
}

/// The lower half of a zxid: 1 for the first transaction of an epoch.
pub fn counter(zxid: i64) -> u32 {
    let [.., a, b, c, d] = zxid.to_be_bytes();
    u32::from_be_bytes([a, b, c, d])
}

/// Whether a transaction can come directly after another one: the next of the same epoch, or the first of a later one.
///
/// Whether the last transaction of the earlier epoch was committed is not answered by this.
pub fn can_follow(zxid: i64, last: i64) -> bool {
    match epoch(zxid).cmp(&epoch(last)) {
        std::cmp::Ordering::Less => false,
        std::cmp::Ordering::Equal => counter(last).checked_add(1) == Some(counter(zxid)),
        std::cmp::Ordering::Greater => counter(zxid) == 1,
    }
}

/// A transaction as its leader proposed it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transaction {
    /// Its number, ascending within an ensemble.
    pub zxid: i64,
    /// The session that asked for it; 0 for the server itself.
    pub session: i64,
    /// The number that the client gave its request; 0 for the server itself.
    pub cxid: i32,
    /// The leader's clock, in milliseconds since 1970.
    pub time: i64,
    /// The change.
    pub operation: Operation,
    /// The digest of the tree after it. None up to 3.5, in failed transactions, and where digests are turned off.
    pub digest: Option<TreeDigest>,
    /// CRC-32 of the payload. Two payloads at one zxid with different sums are of different histories.
    pub payload_crc: u32,
}

/// A digest of the whole tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TreeDigest {
    /// The way it is computed; [`crate::transaction::DIGEST_VERSION`] is the only one that is known.
    pub version: i32,
    /// The sum over all znodes.
    pub value: u64,
}

/// The version of the digest in all releases from 3.6.0 to 3.9.
pub const DIGEST_VERSION: i32 = 2;

/// An entry of an access control list.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct AclEntry {
    /// Permissions: 1 read, 2 write, 4 create, 8 delete, 16 admin.
    pub permissions: i32,
    /// The scheme, such as `world` or `digest`.
    pub scheme: String,
    /// The identity within the scheme.
    pub id: String,
}

/// The lifetime of a created znode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lifetime {
    /// Until somebody deletes it.
    Persistent,
    /// Until the session of the transaction ends.
    Ephemeral,
    /// Until the server deletes it because its last child is gone.
    Container,
    /// Until the server deletes it because it had neither writes nor children for this long.
    Ttl {
        /// Milliseconds.
        ms: i64,
    },
}

/// The persisted owner of a container.
pub const CONTAINER_OWNER: i64 = i64::MIN;
/// The upper byte of the persisted owner of a znode with a TTL; the TTL is in the others.
pub const TTL_OWNER: i64 = 0xff << 56;

impl Lifetime {
    /// The owner that the server stores for a znode that this session creates.
    pub fn owner(self, session: i64) -> i64 {
        match self {
            Lifetime::Persistent => 0,
            Lifetime::Ephemeral => session,
            Lifetime::Container => CONTAINER_OWNER,
            Lifetime::Ttl { ms } => TTL_OWNER | ms,
        }
    }
}

/// The change of a transaction, or of one part of a `multi`.
///
/// Null data are `None`: a client wrote no value, which readers of the znode see as an empty one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    /// A new znode: `create`, `create2`, `createContainer` or `createTTL`.
    Create {
        /// Its path, with the number of a sequential one.
        path: String,
        /// Its value.
        data: Option<Vec<u8>>,
        /// Its access control list.
        acl: Vec<AclEntry>,
        /// Its lifetime.
        lifetime: Lifetime,
        /// The persisted cversion of its parent after it; -1 for one more than before.
        parent_cversion: i32,
    },
    /// A deleted znode.
    Delete {
        /// Its path.
        path: String,
    },
    /// A znode that the server deleted: a container without children, or a TTL that passed.
    DeleteContainer {
        /// Its path.
        path: String,
    },
    /// A new value.
    SetData {
        /// The path of the znode.
        path: String,
        /// The value.
        data: Option<Vec<u8>>,
        /// The version of the znode after it.
        version: i32,
    },
    /// A new access control list.
    SetAcl {
        /// The path of the znode.
        path: String,
        /// The list.
        acl: Vec<AclEntry>,
        /// The version of the list after it.
        version: i32,
    },
    /// The check of a version; only in a `multi`. It changes nothing.
    Check {
        /// The path of the znode.
        path: String,
        /// The version that was asked for, and one more.
        version: i32,
    },
    /// Several operations that took effect together, in this order. None of them is a `Multi` or of a session.
    Multi(Vec<Operation>),
    /// A `multi` of which one part failed. It changes nothing.
    FailedMulti {
        /// The number of its parts.
        parts: usize,
        /// The error code of the part that failed.
        code: i32,
    },
    /// A new session.
    CreateSession {
        /// Its timeout in milliseconds.
        timeout: i32,
    },
    /// The end of a session, and of all its ephemeral znodes.
    CloseSession {
        /// The ephemeral znodes that it deletes, in order. None up to 3.5, and where `closeSessionTxn.enabled` is false.
        paths: Option<Vec<String>>,
    },
    /// A request that failed. It changes nothing but uses a zxid.
    Error {
        /// The error code.
        code: i32,
    },
    /// A new configuration of the ensemble, which is the value of `/zookeeper/config`.
    Reconfigure {
        /// The path of the configuration.
        path: String,
        /// The configuration.
        data: Option<Vec<u8>>,
        /// -1.
        version: i32,
    },
}

impl Operation {
    /// The name of the type, as in ZooKeeper's documentation. `create2` is a `create` with another answer.
    pub fn type_name(&self) -> &'static str {
        match self {
            Operation::Create { lifetime, .. } => match lifetime {
                Lifetime::Persistent | Lifetime::Ephemeral => "create",
                Lifetime::Container => "createContainer",
                Lifetime::Ttl { .. } => "createTTL",
            },
            Operation::Delete { .. } => "delete",
            Operation::DeleteContainer { .. } => "deleteContainer",
            Operation::SetData { .. } => "setData",
            Operation::SetAcl { .. } => "setACL",
            Operation::Check { .. } => "check",
            Operation::Multi(_) | Operation::FailedMulti { .. } => "multi",
            Operation::CreateSession { .. } => "createSession",
            Operation::CloseSession { .. } => "closeSession",
            Operation::Error { .. } => "error",
            Operation::Reconfigure { .. } => "reconfig",
        }
    }

    /// The path of the znode that it concerns; none for sessions, errors and a whole `multi`.
    pub fn path(&self) -> Option<&str> {
        match self {
            Operation::Create { path, .. }
            | Operation::Delete { path }
            | Operation::DeleteContainer { path }
            | Operation::SetData { path, .. }
            | Operation::SetAcl { path, .. }
            | Operation::Check { path, .. }
            | Operation::Reconfigure { path, .. } => Some(path),
            Operation::Multi(_)
            | Operation::FailedMulti { .. }
            | Operation::CreateSession { .. }
            | Operation::CloseSession { .. }
            | Operation::Error { .. } => None,
        }
    }
}

/// The name of an error code, as in ZooKeeper's documentation; `None` for one that no release has.
pub fn error_name(code: i32) -> Option<&'static str> {
    Some(match code {
        -1 => "SystemError",
        -2 => "RuntimeInconsistency",
        -3 => "DataInconsistency",
        -4 => "ConnectionLoss",
        -5 => "MarshallingError",
        -6 => "Unimplemented",
        -7 => "OperationTimeout",
        -8 => "BadArguments",
        -12 => "UnknownSession",
        -13 => "NewConfigNoQuorum",
        -14 => "ReconfigInProgress",
        -100 => "APIError",
        -101 => "NoNode",
        -102 => "NoAuth",
        -103 => "BadVersion",
        -108 => "NoChildrenForEphemerals",
        -110 => "NodeExists",
        -111 => "NotEmpty",
        -112 => "SessionExpired",
        -113 => "InvalidCallback",
        -114 => "InvalidACL",
        -115 => "AuthFailed",
        -118 => "SessionMoved",
        -119 => "NotReadOnly",
        -120 => "EphemeralOnLocalSession",
        -121 => "NoWatcher",
        -122 => "RequestTimeout",
        -123 => "ReconfigDisabled",
        -124 => "SessionClosedRequireSaslAuth",
        -125 => "QuotaExceeded",
        -127 => "ThrottledOp",
        _ => return None,
    })
}

/// All that [`Operation::type_name`] returns.
pub const TYPE_NAMES: [&str; 13] = [
    "create",
    "createContainer",
    "createTTL",
    "delete",
    "deleteContainer",
    "setData",
    "setACL",
    "check",
    "multi",
    "reconfig",
    "createSession",
    "closeSession",
    "error",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_zxid_follows_within_its_epoch_by_one_and_otherwise_only_as_the_first_of_a_later_epoch() {
        let check =
            |zxid: i64, last: i64, expected| assert_eq!(can_follow(zxid, last), expected, "{zxid:#x}");
        check(0x1_0000_0002, 0x1_0000_0001, true);
        check(0x1_0000_0001, 0x1_0000_0001, false);
        check(0x1_0000_0003, 0x1_0000_0001, false);
        check(0x2_0000_0001, 0x1_0000_0009, true);
        check(0x5_0000_0001, 0x1_0000_0009, true);
        check(0x2_0000_0002, 0x1_0000_0009, false);
        check(0x2_0000_0000, 0x1_ffff_ffff, false);
        check(0x1_0000_0001, 0x2_0000_0000, false);
        // A leader that had no transaction yet.
        check(0x2_0000_0001, 0x2_0000_0000, true);
        assert_eq!((epoch(0x5_0000_0007), counter(0x5_0000_0007)), (5, 7));
    }

    #[test]
    fn an_owner_shows_the_lifetime() {
        assert_eq!(Lifetime::Persistent.owner(7), 0);
        assert_eq!(Lifetime::Ephemeral.owner(7), 7);
        assert_eq!(
            Lifetime::Container.owner(7).to_be_bytes(),
            [0x80, 0, 0, 0, 0, 0, 0, 0]
        );
        let ttl = Lifetime::Ttl { ms: 0x1234 };
        assert_eq!(ttl.owner(7).to_be_bytes(), [0xff, 0, 0, 0, 0, 0, 0x12, 0x34]);
    }
}
