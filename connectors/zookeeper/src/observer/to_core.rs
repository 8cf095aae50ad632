//! From decoded transactions to those of the machine. Pure.

use std::sync::Arc;

use bridge_core::committed::{CommittedTxn, NodeOperation, TreeDigestValue, TxnContent};
use bridge_core::number::{SessionId, Zxid};
use bridge_core::path::ZnodePath;
use bridge_core::record::{Lifetime, LifetimeKind};
use bridge_transactions::transaction::{self, Operation, Transaction};

use super::learner::CommittedPayload;
use crate::acl::recorded;
use crate::config::AclDigests;

/// The transactions of a leader for the machine, without those that have no number and are no part of the history. `last` is
/// the zxid of the transaction before them, and afterwards the one of the last.
///
/// # Errors
/// If one cannot be read.
pub(super) fn history(
    payloads: &[CommittedPayload],
    last: &mut i64,
    digests: AclDigests,
) -> Result<Vec<CommittedTxn>, String> {
    let mut history = Vec::with_capacity(payloads.len());
    for payload in payloads {
        let transaction = decoded(payload)?;
        if !transaction.is_without_number(*last) {
            *last = transaction.zxid;
            history.push(committed(transaction, digests)?);
        }
    }
    Ok(history)
}

/// The transaction of a payload.
///
/// # Errors
/// If it is none that is known.
pub(super) fn decoded(payload: &CommittedPayload) -> Result<Transaction, String> {
    Transaction::decode(&payload.bytes).map_err(|error| {
        format!(
            "transaction 0x{:x} cannot be read: {error}; nothing from it on is recorded: use capture = \"watch\" or a \
             newer zkbridge",
            payload.zxid
        )
    })
}

/// A transaction for the machine.
///
/// # Errors
/// If a path is none that a znode can have.
pub(crate) fn committed(transaction: Transaction, digests: AclDigests) -> Result<CommittedTxn, String> {
    let zxid = transaction.zxid;
    let content = content(transaction.operation, digests)
        .map_err(|reason| format!("transaction 0x{zxid:x} cannot be read: {reason}"))?;
    Ok(CommittedTxn {
        zxid: Zxid(zxid.cast_unsigned()),
        session: SessionId(transaction.session.cast_unsigned()),
        cxid: transaction.cxid,
        time: transaction.time,
        content,
        digest: transaction.digest.map(|digest| TreeDigestValue {
            version: digest.version,
            value: digest.value,
        }),
        payload_crc: transaction.payload_crc,
    })
}

fn content(operation: Operation, digests: AclDigests) -> Result<TxnContent, String> {
    Ok(match operation {
        Operation::Multi(parts) => {
            let parts: Result<_, _> = parts.into_iter().map(|part| single(part, digests)).collect();
            TxnContent::Multi(parts?)
        }
        Operation::CloseSession { paths } => {
            let paths = paths.map(|paths| paths.iter().map(|path| parsed(path)).collect::<Result<_, _>>());
            TxnContent::CloseSession {
                paths: paths.transpose()?,
            }
        }
        // The configuration is below /zookeeper, which is never captured.
        Operation::Reconfigure { .. }
        | Operation::FailedMulti { .. }
        | Operation::CreateSession { .. }
        | Operation::Error { .. } => TxnContent::Nothing,
        operation => TxnContent::Single(single(operation, digests)?),
    })
}

fn single(operation: Operation, digests: AclDigests) -> Result<NodeOperation, String> {
    Ok(match operation {
        Operation::Create {
            path,
            data,
            acl,
            lifetime,
            parent_cversion,
        } => NodeOperation::Create {
            path: parsed(&path)?,
            data: bytes(data),
            acl: recorded(&acl, digests),
            lifetime: core_lifetime(lifetime),
            parent_cversion: (parent_cversion != -1).then_some(parent_cversion),
        },
        Operation::Delete { path } => NodeOperation::Delete {
            path: parsed(&path)?,
            is_of_container: false,
        },
        Operation::DeleteContainer { path } => NodeOperation::Delete {
            path: parsed(&path)?,
            is_of_container: true,
        },
        Operation::SetData { path, data, version } => NodeOperation::SetData {
            path: parsed(&path)?,
            data: bytes(data),
            version,
        },
        Operation::SetAcl { path, acl, version } => NodeOperation::SetAcl {
            path: parsed(&path)?,
            acl: recorded(&acl, digests),
            version,
        },
        Operation::Check { .. } => NodeOperation::Check,
        other => return Err(format!("{} within a multi", other.type_name())),
    })
}

/// The lifetime of a znode in a record.
pub(super) fn core_lifetime(lifetime: transaction::Lifetime) -> Lifetime {
    let (kind, ttl) = match lifetime {
        transaction::Lifetime::Persistent => (LifetimeKind::Persistent, None),
        transaction::Lifetime::Ephemeral => (LifetimeKind::Ephemeral, None),
        transaction::Lifetime::Container => (LifetimeKind::Container, None),
        transaction::Lifetime::Ttl { ms } => (LifetimeKind::Ttl, Some(ms)),
    };
    Lifetime { kind, ttl }
}

pub(super) fn parsed(path: &str) -> Result<ZnodePath, String> {
    // The root is "" in the tree of a server.
    match path {
        "" => Ok(ZnodePath::slash()),
        path => ZnodePath::parse(path).map_err(|bad| bad.to_string()),
    }
}

/// A null value reads as an empty one.
fn bytes(data: Option<Vec<u8>>) -> Arc<[u8]> {
    data.unwrap_or_default().into()
}

#[cfg(test)]
mod tests {
    use bridge_core::record::Acl;
    use bridge_transactions::testing;
    use bridge_transactions::transaction::{AclEntry, TreeDigest};

    use super::*;

    #[test]
    fn the_error_of_a_malformed_request_never_takes_the_place_of_the_transaction_before_it() {
        let error = |zxid| testing::transaction(zxid, Operation::Error { code: -5 }, None);
        let (last, begin) = (0x1_0000_0007, 0x2_0000_0000);
        let sent = [
            error(last),
            testing::a_create(last + 1, "/a"),
            error(last + 1),
            error(last + 2),
            error(begin),
            testing::a_create(begin + 1, "/b"),
        ];
        let payload = |transaction: &Transaction| CommittedPayload {
            zxid: transaction.zxid,
            bytes: testing::payload(transaction),
        };
        let payloads: Vec<CommittedPayload> = sent.iter().map(payload).collect();
        let mut at = last;
        let read = history(&payloads, &mut at, AclDigests::Full).unwrap();
        let crcs: Vec<u32> = read.iter().map(|one| one.payload_crc).collect();
        assert_eq!(crcs, [1, 3, 5].map(|index: usize| sent[index].payload_crc));
        assert_eq!(at, begin + 1);
        // After a TRUNC to the transaction before, a failed request with a number of its own is sent again.
        let mut at = last - 1;
        let read = history(&payloads[..1], &mut at, AclDigests::Full).unwrap();
        assert_eq!((read.len(), at), (1, last));
    }

    fn of(operation: Operation) -> Result<TxnContent, String> {
        let transaction = Transaction {
            zxid: 0x1_0000_0007,
            session: -1,
            cxid: -3,
            time: 5,
            operation,
            digest: Some(TreeDigest { version: 2, value: 9 }),
            payload_crc: 11,
        };
        let converted = committed(transaction, AclDigests::Masked)?;
        assert_eq!(
            (converted.zxid, converted.session),
            (Zxid(0x1_0000_0007), SessionId(u64::MAX))
        );
        assert_eq!(
            (converted.cxid, converted.time, converted.payload_crc),
            (-3, 5, 11)
        );
        assert_eq!(converted.digest, Some(TreeDigestValue { version: 2, value: 9 }));
        Ok(converted.content)
    }

    fn set(path: &str) -> Operation {
        Operation::SetData {
            path: path.to_owned(),
            data: None,
            version: 4,
        }
    }

    fn path(text: &str) -> ZnodePath {
        ZnodePath::parse(text).unwrap()
    }

    #[test]
    fn a_create_has_its_list_masked_and_its_lifetime() {
        let acl = [("digest", "user:hash", 31), ("world", "anyone", 1)];
        let entry = |(scheme, id, permissions): &(&str, &str, i32)| AclEntry {
            permissions: *permissions,
            scheme: (*scheme).to_owned(),
            id: (*id).to_owned(),
        };
        let create = Operation::Create {
            path: "/a".to_owned(),
            data: Some(b"x".to_vec()),
            acl: acl.iter().map(entry).collect(),
            lifetime: transaction::Lifetime::Ttl { ms: 70 },
            parent_cversion: -1,
        };
        let expected = |scheme: &str, id: &str, perms: &str| Acl {
            scheme: scheme.to_owned(),
            id: id.to_owned(),
            perms: perms.to_owned(),
        };
        let create = of(create).unwrap();
        let expected = TxnContent::Single(NodeOperation::Create {
            path: path("/a"),
            data: b"x".as_slice().into(),
            acl: vec![
                expected("digest", "user:x", "cdrwa"),
                expected("world", "anyone", "r"),
            ],
            lifetime: Lifetime {
                kind: LifetimeKind::Ttl,
                ttl: Some(70),
            },
            parent_cversion: None,
        });
        assert_eq!(create, expected);
    }

    #[test]
    fn transactions_that_change_no_captured_znode_are_kept_without_content() {
        for operation in [
            Operation::Error { code: -101 },
            Operation::CreateSession { timeout: 1 },
            Operation::FailedMulti { parts: 2, code: -101 },
            Operation::Reconfigure {
                path: "/zookeeper/config".to_owned(),
                data: None,
                version: -1,
            },
        ] {
            assert_eq!(of(operation), Ok(TxnContent::Nothing));
        }
    }

    #[test]
    fn a_multi_and_the_end_of_a_session_keep_their_order() {
        let check = Operation::Check {
            path: "/c".to_owned(),
            version: 1,
        };
        let Ok(TxnContent::Multi(parts)) = of(Operation::Multi(vec![set("/b"), check, set("/a")])) else {
            panic!("it is a multi")
        };
        assert_eq!(parts.len(), 3);
        assert_eq!(parts[1], NodeOperation::Check);
        let paths = Some(vec!["/b".to_owned(), "/a".to_owned()]);
        let expected = Some(vec![path("/b"), path("/a")]);
        assert_eq!(
            of(Operation::CloseSession { paths }),
            Ok(TxnContent::CloseSession { paths: expected })
        );
    }

    #[test]
    fn a_path_that_no_znode_can_have_is_an_error_with_the_zxid() {
        let error = of(set("a")).unwrap_err();
        assert!(
            error.contains("transaction 0x100000007 cannot be read"),
            "{error}"
        );
        assert!(of(Operation::Multi(vec![set("/a/")])).is_err());
        let root = NodeOperation::SetData {
            path: ZnodePath::slash(),
            data: Arc::default(),
            version: 4,
        };
        assert_eq!(of(set("/")), Ok(TxnContent::Single(root)));
    }
}
