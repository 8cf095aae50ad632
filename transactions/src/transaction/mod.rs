//! A transaction: one change of the tree or of the sessions, which every server of an ensemble applies in the same order.
//!
//! The payload of a record in a log and of an INFORM or PROPOSAL packet are the same bytes: a header, a body that depends
//! on the type, and from 3.6 on a digest of the tree after the transaction. [`Transaction::decode`] reads one.

mod decode;

#[cfg(any(test, feature = "testing"))]
pub(crate) use decode::checksum;

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
/// A plain standalone server has no epochs and counts on from (e, `ffffffff`) to (e+1, 0). No leader of an ensemble does:
/// it gives its office up before, and (e+1, 0) is no transaction there.
///
/// Whether the last transaction of the earlier epoch was committed is not answered by this.
pub fn can_follow(zxid: i64, last: i64) -> bool {
    match epoch(zxid).cmp(&epoch(last)) {
        std::cmp::Ordering::Less => false,
        std::cmp::Ordering::Equal => counter(last).checked_add(1) == Some(counter(zxid)),
        std::cmp::Ordering::Greater => {
            counter(zxid) == 1 || counter(zxid) == 0 && last.checked_add(1) == Some(zxid)
        }
    }
}

/// A transaction as its leader proposed it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transaction {
    /// Its number, ascending within an ensemble. One kind of entry has no number of its own: see
    /// [`Transaction::is_without_number`].
    pub zxid: i64,
    /// The session that asked for it; 0 for the server itself.
    pub session: i64,
    /// The number that the client gave its request; 0 for the server itself.
    pub cxid: i32,
    /// The leader's clock, in milliseconds since 1970.
    pub time: i64,
    /// The change.
    pub operation: Operation,
    /// The digest of the tree after it. None up to 3.5, in errors, and where digests are turned off. A `multi` that failed
    /// has the one of the unchanged tree.
    pub digest: Option<TreeDigest>,
    /// CRC-32 of the payload; of a `multi` that failed, of what is before and after its parts. Two payloads at one zxid
    /// with different sums are of different histories, except for one that [is without a
    /// number](Transaction::is_without_number), which must be dropped before anything is compared.
    pub payload_crc: u32,
}

impl Transaction {
    /// Whether this is the error of a malformed request, which has no zxid of its own: the leader writes it under the last
    /// zxid that it gave, be that the one of the transaction before or (e, 0) when its epoch has none yet. It changes
    /// nothing and is no part of the history: it is dropped, and its payload is never the one of its zxid.
    ///
    /// `last` is the zxid of the transaction before.
    pub fn is_without_number(&self, last: i64) -> bool {
        let is_begin_of_epoch = counter(self.zxid) == 0 && epoch(self.zxid) > epoch(last);
        matches!(self.operation, Operation::Error { .. })
            && (self.zxid == last || is_begin_of_epoch && !can_follow(self.zxid, last))
    }
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

/// The list of a znode that is open to everybody. Servers of 3.4 with `skipACL` write null in its place.
pub fn open_list() -> Vec<AclEntry> {
    vec![AclEntry {
        permissions: 31,
        scheme: "world".to_owned(),
        id: "anyone".to_owned(),
    }]
}

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
/// The upper 3 bytes of the persisted owner of a znode with a TTL; the TTL is in the others.
const TTL_OWNER: i64 = 0xff << 56;
/// The bits of an owner that hold the TTL.
const TTL_BITS: i64 = 0xff_ffff_ffff;

impl Lifetime {
    /// The lifetime of a znode with this persisted owner.
    ///
    /// The id of a session of a server 255 can look like the owner of a TTL, so `is_session` is asked for those: whether
    /// the session is known. The form of the beta 3.5.3, 0x80 and the TTL, is not known, and is read as a session.
    pub fn of_owner(owner: i64, is_session: impl FnOnce(i64) -> bool) -> Lifetime {
        match owner {
            0 => Lifetime::Persistent,
            CONTAINER_OWNER => Lifetime::Container,
            _ if owner & !TTL_BITS == TTL_OWNER && !is_session(owner) => {
                Lifetime::Ttl { ms: owner & TTL_BITS }
            }
            _ => Lifetime::Ephemeral,
        }
    }

    /// The owner that the server stores for a znode that this session creates.
    pub fn owner(self, session: i64) -> i64 {
        match self {
            Lifetime::Persistent => 0,
            Lifetime::Ephemeral => session,
            Lifetime::Container => CONTAINER_OWNER,
            Lifetime::Ttl { ms } => TTL_OWNER | ms & TTL_BITS,
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
        check(0x2_0000_0000, 0x1_ffff_fffe, false);
        check(0x3_0000_0000, 0x1_ffff_ffff, false);
        check(0x1_0000_0001, 0x2_0000_0000, false);
        // A leader that had no transaction yet.
        check(0x2_0000_0001, 0x2_0000_0000, true);
        assert_eq!((epoch(0x5_0000_0007), counter(0x5_0000_0007)), (5, 7));
    }

    #[test]
    fn a_standalone_server_counts_on_where_the_lower_half_of_a_zxid_ends() {
        assert!(can_follow(0x1_0000_0000, 0xffff_ffff));
        assert!(can_follow(0x2_0000_0000, 0x1_ffff_ffff));
        assert!(can_follow(0x2_0000_0001, 0x2_0000_0000));
        assert!(!can_follow(i64::MIN, i64::MAX));
    }

    #[test]
    fn the_error_of_a_malformed_request_is_without_a_number_and_other_errors_have_one() {
        let error = |zxid| crate::testing::transaction(zxid, Operation::Error { code: -5 }, None);
        let create = |zxid| crate::testing::a_create(zxid, "/a");
        let (last, begin) = (0x1_0000_0007, 0x2_0000_0000);
        assert!(error(last).is_without_number(last));
        assert!(error(begin).is_without_number(last));
        assert!(!error(last + 1).is_without_number(last));
        assert!(!create(last).is_without_number(last) && !create(begin).is_without_number(last));
        // A failed request of a standalone server that counts on.
        assert!(!error(begin).is_without_number(0x1_ffff_ffff));
        assert!(error(begin).is_without_number(begin));
    }

    #[test]
    fn an_owner_is_read_as_a_ttl_only_with_its_exact_mark_and_if_it_is_no_session() {
        let check = |owner: u64, expected| {
            let lifetime = Lifetime::of_owner(owner.cast_signed(), |session| session & 0xff == 0x77);
            assert_eq!(lifetime, expected, "{owner:#x}");
        };
        check(0, Lifetime::Persistent);
        check(1 << 63, Lifetime::Container);
        check(0xff00_0000_0000_1234, Lifetime::Ttl { ms: 0x1234 });
        check(0xff00_00ff_ffff_ffff, Lifetime::Ttl { ms: 0xff_ffff_ffff });
        // Sessions: of a server 255 after some hours, and one that is known.
        check(0xff00_0100_0000_0000, Lifetime::Ephemeral);
        check(0xff01_8c07_0000_0001, Lifetime::Ephemeral);
        check(0xff00_0000_0000_0077, Lifetime::Ephemeral);
        check(0x0100_000d_8c07_0000, Lifetime::Ephemeral);
        // The TTL of the beta 3.5.3 is not known.
        check(0x8000_0000_0000_1234, Lifetime::Ephemeral);
        for ms in [0, 1, 0x1234, 0xff_ffff_ffff] {
            let ttl = Lifetime::Ttl { ms };
            assert_eq!(Lifetime::of_owner(ttl.owner(7), |_| false), ttl);
        }
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
