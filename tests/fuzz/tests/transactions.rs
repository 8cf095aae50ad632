//! Transaction logs, packets and snapshots that a disk, a crash or a stranger changed: the readers end with an error or
//! with transactions that are in the file, and never panic or take memory for what is not there.

use std::io::{Read, Write};

use bridge_fuzz::damaged;
use bridge_transactions::compression::{Compression, Decompressed};
use bridge_transactions::log_file::{LogItem, LogReader};
use bridge_transactions::snapshot::{SnapshotItem, SnapshotReader};
use bridge_transactions::testing::{self, Trailer};
use bridge_transactions::transaction::{DIGEST_VERSION, Lifetime, Operation, Transaction, TreeDigest};

/// Numbers that mean a length, a type or a count somewhere.
const WORDS: &[&str] = &[
    "\x7f\u{7f}\u{7f}\u{7f}",
    "\0\0\0\0",
    "\0\0\0\x01",
    "\0\0\0\x0e",
    "ZKLG",
    "ZKSN",
    "B",
    "/",
    "\0\0\0\x01/",
];

fn transactions() -> Vec<Transaction> {
    let value = TreeDigest {
        version: DIGEST_VERSION,
        value: 7,
    };
    let path = || "/a/b".to_owned();
    let create = |lifetime| Operation::Create {
        path: path(),
        data: Some(b"value".to_vec()),
        acl: vec![testing::anyone()],
        lifetime,
        parent_cversion: 1,
    };
    let set = Operation::SetData {
        path: path(),
        data: None,
        version: 3,
    };
    let operations = [
        Operation::CreateSession { timeout: 4000 },
        create(Lifetime::Ephemeral),
        create(Lifetime::Ttl { ms: 9 }),
        create(Lifetime::Container),
        set.clone(),
        Operation::SetAcl {
            path: path(),
            acl: vec![testing::anyone(), testing::anyone()],
            version: 1,
        },
        Operation::Multi(vec![
            create(Lifetime::Persistent),
            set,
            Operation::Delete { path: path() },
        ]),
        Operation::FailedMulti { parts: 3, code: -101 },
        Operation::CloseSession {
            paths: Some(vec![path(), path()]),
        },
        Operation::Error { code: -110 },
    ];
    let numbered = (1..).zip(operations);
    numbered
        .map(|(zxid, operation)| testing::transaction(zxid, operation, Some(value)))
        .collect()
}

#[test]
fn a_changed_payload_is_an_error_or_another_transaction() {
    let payloads: Vec<Vec<u8>> = transactions().iter().map(testing::payload).collect();
    damaged!(
        "a_changed_payload_is_an_error_or_another_transaction",
        20_000,
        payloads,
        WORDS,
        |_, bytes: &[u8]| {
            if let Err(error) = Transaction::decode(bytes) {
                assert!(!error.to_string().is_empty());
            }
        }
    );
}

#[test]
fn a_changed_log_yields_only_transactions_that_were_written() {
    let written = transactions();
    let mut valid = testing::log_file(&written);
    valid.extend([0; 64]);
    damaged!(
        "a_changed_log_yields_only_transactions_that_were_written",
        5_000,
        [valid],
        WORDS,
        |_, bytes: &[u8]| {
            let Ok(mut reader) = LogReader::new(bytes) else {
                return;
            };
            let mut items = 0;
            // Each item but the end passes some bytes, and the end comes once, also in a file without a byte.
            while let Ok(Some(item)) = reader.next_item() {
                items += 1;
                assert!(items <= bytes.len() + usize::from(matches!(item, LogItem::End(..))));
                if let LogItem::Transaction { transaction, .. } = item {
                    assert!(
                        written.contains(&transaction),
                        "{transaction:?} was never written"
                    );
                }
            }
        }
    );
}

fn items_of(input: impl Read) -> Option<Vec<SnapshotItem>> {
    let mut reader = SnapshotReader::new(input).ok()?;
    let mut items = Vec::new();
    while let Some(item) = reader.next_item().ok()? {
        items.push(item);
    }
    Some(items)
}

#[test]
fn a_changed_snapshot_is_an_error_or_the_same_snapshot() {
    let digest = TreeDigest {
        version: DIGEST_VERSION,
        value: 7,
    };
    let valid = testing::some_snapshot(Trailer::Both(9, digest));
    let whole = items_of(valid.as_slice());
    let ends =
        [Trailer::Seal, Trailer::Digest(9, digest)].map(|trailer| testing::some_snapshot(trailer).len());
    damaged!(
        "a_changed_snapshot_is_an_error_or_the_same_snapshot",
        5_000,
        [valid],
        WORDS,
        |_, bytes: &[u8]| {
            let read = items_of(bytes);
            // Cut after a seal it is what an older server writes.
            let is_older = ends.contains(&bytes.len());
            assert!(read.is_none() || read == whole || is_older, "{read:?}");
        }
    );
}

#[test]
fn a_changed_compressed_snapshot_is_an_error_or_the_same_snapshot() {
    let valid = testing::some_snapshot(Trailer::Seal);
    let whole = items_of(valid.as_slice());
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&valid).expect("a vector takes all bytes");
    let gzip = gzip.finish().expect("a vector takes all bytes");
    let mut snappy = b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01".to_vec();
    for block in valid.chunks(200) {
        let block = snap::raw::Encoder::new()
            .compress_vec(block)
            .expect("the block is small");
        snappy.extend(
            u32::try_from(block.len())
                .expect("the block is small")
                .to_be_bytes(),
        );
        snappy.extend(block);
    }
    for (file, compression) in [(gzip, Compression::Gzip), (snappy, Compression::Snappy)] {
        assert_eq!(items_of(Decompressed::new(file.as_slice(), compression)), whole);
        let name = "a_changed_compressed_snapshot_is_an_error_or_the_same_snapshot";
        damaged!(name, 2_000, [file], WORDS, |_, bytes: &[u8]| {
            let read = items_of(Decompressed::new(bytes, compression));
            assert!(read.is_none() || read == whole, "{read:?}");
        });
    }
}
