//! Snapshots as servers write them, and changed ones.

use super::*;
use crate::testing::{self, Trailer};
use crate::transaction::DIGEST_VERSION;

const DIGEST: TreeDigest = TreeDigest {
    version: DIGEST_VERSION,
    value: 0xabc,
};

fn items(bytes: &[u8]) -> Result<Vec<SnapshotItem>, SnapshotError> {
    all(SnapshotReader::new(bytes)?)
}

fn all(mut reader: SnapshotReader<&[u8]>) -> Result<Vec<SnapshotItem>, SnapshotError> {
    let mut items = Vec::new();
    while let Some(item) = reader.next_item()? {
        items.push(item);
    }
    Ok(items)
}

fn end(bytes: &[u8]) -> SnapshotEnd {
    match items(bytes).expect("the snapshot is whole").pop() {
        Some(SnapshotItem::End(end)) => end,
        other => panic!("{other:?}"),
    }
}

#[test]
fn sessions_lists_and_znodes_are_read_in_their_order() {
    let items = items(&testing::some_snapshot(Trailer::Seal)).unwrap();
    assert_eq!(items.len(), 8);
    assert_eq!(
        items[0],
        SnapshotItem::Session {
            id: 0x1000,
            timeout: 30_000
        }
    );
    assert!(matches!(&items[2], SnapshotItem::AclList { id: AclId(2), list } if list.len() == 2));
    let paths: Vec<&str> = items
        .iter()
        .filter_map(|item| match item {
            SnapshotItem::Znode(znode) => Some(znode.path.as_str()),
            _ => None,
        })
        .collect();
    assert_eq!(paths, ["/", "/zookeeper", "/a", "/a/b"]);
    assert!(
        matches!(&items[4], SnapshotItem::Znode(znode) if znode.data.is_none()),
        "{items:?}"
    );
}

#[test]
fn each_form_of_the_end_is_read() {
    let check = |trailer, digest, last_zxid| {
        let expected = SnapshotEnd { digest, last_zxid };
        assert_eq!(end(&testing::some_snapshot(trailer)), expected);
    };
    check(Trailer::Seal, None, None);
    check(Trailer::Digest(9, DIGEST), Some((9, DIGEST)), None);
    check(Trailer::LastZxid(9), None, Some(9));
    check(Trailer::Both(9, DIGEST), Some((9, DIGEST)), Some(9));
    // A server that has just started has no digest and writes an empty one.
    check(Trailer::Digest(0, DIGEST), None, None);
}

#[test]
fn a_snapshot_that_was_cut_or_changed_at_any_byte_is_an_error() {
    let whole = testing::some_snapshot(Trailer::Both(9, DIGEST));
    let seal_only = testing::some_snapshot(Trailer::Seal).len();
    let with_digest = testing::some_snapshot(Trailer::Digest(9, DIGEST)).len();
    for cut in 0..whole.len() {
        // Cut exactly after a seal it is what an older server writes.
        let is_whole = cut == seal_only || cut == with_digest;
        assert_eq!(items(&whole[..cut]).is_ok(), is_whole, "cut at {cut}");
    }
    // The id of the database means nothing and is covered by the seals.
    for at in 0..whole.len() {
        let mut changed = whole.clone();
        changed[at] ^= 0x10;
        assert!(items(&changed).is_err(), "byte {at} changed");
    }
    let longer = [&whole[..], &[0; 21]].concat();
    assert!(items(&longer).is_err());
    let much_longer = [&whole[..], &[0; 4096]].concat();
    let error = items(&much_longer).unwrap_err().to_string();
    assert!(error.contains("the limit is 1024"), "{error}");
}

#[test]
fn counts_and_lengths_of_two_to_the_31_are_refused() {
    let header = &testing::some_snapshot(Trailer::Seal)[..16];
    let largest = [0x7f, 0xff, 0xff, 0xff];
    let check = |body: &[&[u8]], expected: &str| {
        let bytes = [header, &body.concat()].concat();
        let error = items(&bytes).expect_err("the snapshot is wrong").to_string();
        assert!(error.contains(expected), "{error}");
    };
    check(&[&largest], "ends at byte 20 within the session");
    check(&[&[0; 4], &largest], "ends at byte 24 within the ACL id");
    check(
        &[&[0; 8], &largest],
        "path at byte 24: its length is 2147483647, the limit is 16777216",
    );
    check(
        &[&[0; 8], &[0; 4], &largest],
        "data at byte 28: its length is 2147483647",
    );
    check(
        &[&[0; 8], &[0; 4], b"\0\x10\0\0...."],
        "ends at byte 36 within the data",
    );
    check(
        &[&[0; 4], &[0, 0, 0, 1], &[0; 8], &largest],
        "access control list at byte 32: its length is",
    );
    check(
        &[&[0xff; 4]],
        "number of sessions at byte 16: the length -1 is negative",
    );
    check(
        &[&[0; 8], b"\0\0\0\x01\xff"],
        "path at byte 24: the text is not UTF-8",
    );
}

#[test]
fn the_form_of_a_leader_has_no_header_and_its_input_goes_on_after_it() {
    let body = testing::snapshot_body(&[(7, 8)], &[], &[testing::root()]);
    let stream = [&body[..], b"and more"].concat();
    let mut reader = SnapshotReader::of_leader(stream.as_slice()).unwrap();
    let mut count = 0;
    while reader.next_item().unwrap().is_some() {
        count += 1;
    }
    assert_eq!((count, reader.into_inner()), (3, &b"and more"[..]));
}

#[test]
fn a_file_that_is_no_snapshot_is_refused_with_what_it_begins_with() {
    let check = |bytes: &[u8], expected: &str| {
        let error = items(bytes).expect_err("the file is foreign").to_string();
        assert!(error.contains(expected), "{error}");
    };
    check(b"", "begins with []");
    check(&testing::log_header(), "begins with [5a, 4b, 4c, 47]");
    check(b"ZKSN\0\0\0\x01", "has the format 1");
}

#[test]
fn the_name_of_a_snapshot_has_its_zxid_and_its_compression() {
    let check = |name, expected| assert_eq!(zxid_of_snapshot(name), expected, "{name}");
    check("snapshot.0", Some((0, Compression::Plain)));
    check("snapshot.1f.gz", Some((0x1f, Compression::Gzip)));
    check("snapshot.1f.snappy", Some((0x1f, Compression::Snappy)));
    check("snapshot.1f.zip", None);
    check("snapshot.", None);
    check("log.1", None);
}

#[test]
fn a_tree_has_one_root_and_it_comes_first_in_a_file_and_from_a_leader() {
    let znode = |path: &str| SnapshotZnode {
        path: path.to_owned(),
        ..testing::root()
    };
    let check = |znodes: &[SnapshotZnode], expected: Option<&str>| {
        let body = testing::snapshot_body(&[], &[], znodes);
        let file = testing::snapshot_file(&body, Trailer::Seal);
        let of_leader = all(SnapshotReader::of_leader(body.as_slice()).unwrap());
        for read in [items(&file), of_leader] {
            match (read, expected) {
                (read, None) => assert_eq!(read.unwrap().len(), znodes.len() + 1),
                (read, Some(expected)) => {
                    let error = read.expect_err("it is no tree").to_string();
                    assert!(error.contains(expected), "{error}");
                }
            }
        }
    };
    check(&[znode("/")], None);
    check(&[znode("/"), znode("/a")], None);
    check(&[], Some(r#""/" is the first znode in place of the root"#));
    check(
        &[znode("/a"), znode("/")],
        Some(r#""/a" is the first znode in place of the root"#),
    );
    check(
        &[znode("/"), znode("/a"), znode("/")],
        Some(r#""" is the root a second time"#),
    );
}

#[test]
fn an_access_control_list_has_a_limit_of_bytes_beside_the_one_of_its_entries() {
    let list = |texts: &[usize]| {
        let entry = |length: &usize| AclEntry {
            id: "i".repeat(*length),
            ..testing::anyone()
        };
        let list: Vec<AclEntry> = texts.iter().map(entry).collect();
        let body = testing::snapshot_body(&[], &[(AclId(1), list)], &[testing::root()]);
        all(SnapshotReader::of_leader(body.as_slice()).unwrap())
    };
    // The scheme is "world".
    let half = ACL_LIST_BYTES_MAX / 2 - 5;
    assert_eq!(list(&[half, half]).unwrap().len(), 3);
    for texts in [&[half, half + 1][..], &[half, half, 0], &[2 * half + 6]] {
        let error = list(texts).expect_err("the list is too long").to_string();
        assert!(error.contains("ACL"), "{error}");
        assert!(error.contains("the limit is"), "{error}");
    }
}
