//! Everything that a server may write is read as it was meant, and changed bytes are an error or another transaction,
//! never a panic. A failure prints the case.

use bridge_transactions::testing;
use bridge_transactions::transaction::{AclEntry, Lifetime, Operation, Transaction, TreeDigest};
use proptest::prelude::*;

fn path() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("/".to_owned()),
        proptest::collection::vec("[a-zäЖ\u{1f418}0-9 ]{1,5}", 1..4)
            .prop_map(|names| names.into_iter().map(|name| format!("/{name}")).collect()),
    ]
}

fn data() -> impl Strategy<Value = Option<Vec<u8>>> {
    proptest::option::of(proptest::collection::vec(any::<u8>(), 0..40))
}

fn acl() -> impl Strategy<Value = Vec<AclEntry>> {
    let entry = (any::<i32>(), "[a-z]{0,6}", "[^\0]{0,8}").prop_map(|(permissions, scheme, id)| AclEntry {
        permissions,
        scheme,
        id,
    });
    proptest::collection::vec(entry, 0..3)
}

fn lifetime() -> impl Strategy<Value = Lifetime> {
    prop_oneof![
        Just(Lifetime::Persistent),
        Just(Lifetime::Ephemeral),
        Just(Lifetime::Container),
        any::<i64>().prop_map(|ms| Lifetime::Ttl { ms }),
    ]
}

/// Operations that can be a part of a `multi`.
fn part() -> impl Strategy<Value = Operation> {
    prop_oneof![
        (path(), data(), acl(), lifetime(), any::<i32>()).prop_map(
            |(path, data, acl, lifetime, parent_cversion)| Operation::Create {
                path,
                data,
                acl,
                lifetime,
                parent_cversion,
            }
        ),
        path().prop_map(|path| Operation::Delete { path }),
        path().prop_map(|path| Operation::DeleteContainer { path }),
        (path(), data(), any::<i32>()).prop_map(|(path, data, version)| Operation::SetData {
            path,
            data,
            version,
        }),
        (path(), any::<i32>()).prop_map(|(path, version)| Operation::Check { path, version }),
    ]
}

fn operation() -> impl Strategy<Value = Operation> {
    prop_oneof![
        4 => part(),
        1 => (path(), acl(), any::<i32>()).prop_map(|(path, acl, version)| Operation::SetAcl { path, acl, version }),
        2 => proptest::collection::vec(part(), 0..5).prop_map(Operation::Multi),
        1 => (1..5_usize, 1..200_i32).prop_map(|(parts, code)| Operation::FailedMulti { parts, code: -code - 2 }),
        1 => any::<i32>().prop_map(|timeout| Operation::CreateSession { timeout }),
        1 => proptest::option::of(proptest::collection::vec(path(), 0..4))
            .prop_map(|paths| Operation::CloseSession { paths }),
        1 => any::<i32>().prop_map(|code| Operation::Error { code }),
        1 => (path(), data()).prop_map(|(path, data)| Operation::Reconfigure { path, data, version: -1 }),
    ]
}

fn transaction() -> impl Strategy<Value = Transaction> {
    let digest = proptest::option::of(any::<u64>().prop_map(|value| TreeDigest { version: 2, value }));
    let header = (any::<i64>(), any::<i64>(), any::<i32>(), any::<i64>());
    (header, operation(), digest).prop_map(|((zxid, session, cxid, time), operation, digest)| {
        let mut transaction = Transaction {
            session,
            cxid,
            time,
            ..testing::transaction(zxid, operation, digest)
        };
        transaction.payload_crc = testing::checksum_of(&transaction);
        transaction
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_transaction_is_read_as_it_was_written(transaction in transaction()) {
        let payload = testing::payload(&transaction);
        prop_assert_eq!(Transaction::decode(&payload), Ok(transaction));
    }

    #[test]
    fn a_payload_that_is_cut_is_never_taken_for_the_whole(transaction in transaction(), cut in any::<prop::sample::Index>()) {
        let payload = testing::payload(&transaction);
        let cut = &payload[..cut.index(payload.len())];
        // A payload without its digest can be whole; its checksum shows that it is another one.
        if let Ok(read) = Transaction::decode(cut) {
            prop_assert_ne!(read.payload_crc, transaction.payload_crc);
        }
    }

    #[test]
    fn changed_bytes_never_panic(transaction in transaction(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut payload = testing::payload(&transaction);
        let at = at.index(payload.len());
        payload[at] = byte;
        if let Err(error) = Transaction::decode(&payload) {
            prop_assert!(!error.to_string().is_empty());
        }
    }
}
