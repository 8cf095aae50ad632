//! Logs and snapshots that are whole, damaged, or of a server that was alone before.

use bridge_transactions::compression::Compression;
use bridge_transactions::digest::PersistedStat;
use bridge_transactions::snapshot::{AclId, SnapshotZnode};
use bridge_transactions::testing::{self, Trailer};
use bridge_transactions::transaction::{Lifetime, Operation, TreeDigest};

use super::*;

/// Creates, each with the digest of the tree after it.
fn history(begin: &mut Tree, zxids: std::ops::RangeInclusive<i64>) -> Vec<Transaction> {
    let create = |zxid| {
        let operation = Operation::Create {
            path: format!("/ë{zxid}"),
            data: None,
            acl: vec![testing::anyone()],
            lifetime: Lifetime::Persistent,
            parent_cversion: begin.get("/").unwrap().stat.cversion + 1,
        };
        let mut transaction = testing::transaction(zxid, operation, None);
        begin.apply(&transaction);
        transaction.digest = Some(digest_of(begin));
        transaction
    };
    zxids.map(create).collect()
}

fn digest_of(tree: &Tree) -> TreeDigest {
    TreeDigest {
        version: DIGEST_VERSION,
        value: tree.digest(),
    }
}

fn znodes(paths: &[&str], tree: &Tree) -> Vec<SnapshotZnode> {
    let znode = |path: &&str| SnapshotZnode {
        path: (*path).to_owned(),
        data: None,
        acl: AclId::OPEN,
        stat: tree
            .get(path)
            .map_or(PersistedStat::default(), |znode| znode.stat),
    };
    paths.iter().map(znode).collect()
}

/// The report for a snapshot after 5 transactions with these znodes, and a log of those after it.
fn checked(znodes: &[SnapshotZnode], trailer: Trailer, log: &[Transaction]) -> CheckReport {
    let folder = tempfile::tempdir().unwrap();
    let snapshot = testing::snapshot_file(&testing::snapshot_body(&[], &[], znodes), trailer);
    std::fs::write(folder.path().join("snapshot.5"), snapshot).unwrap();
    std::fs::write(folder.path().join("log.6"), testing::log_file(log)).unwrap();
    of_folder(&LogFolder::new(folder.path())).unwrap()
}

const OLD: [&str; 8] = [
    "/",
    "/zookeeper",
    "/zookeeper/config",
    "/ë1",
    "/ë2",
    "/ë3",
    "/ë4",
    "/ë5",
];

#[test]
fn a_snapshot_with_a_part_of_a_later_transaction_is_judged_by_the_first_digest_after_it() {
    let mut tree = Tree::of_new_server();
    history(&mut tree, 1..=5);
    let (at_5, digest) = (tree.clone(), digest_of(&tree));
    let log = history(&mut tree, 6..=8);
    let trailer = Trailer::Both(5, digest);

    let exact = checked(&znodes(&OLD, &at_5), trailer, &log);
    assert_eq!((exact.digests, exact.warnings.len()), (4, 0), "{exact:?}");
    assert_eq!(exact.errors, Vec::<String>::new());

    // The znode of the sixth transaction is there, and its parent has not counted it.
    let mut ahead = znodes(&OLD, &at_5);
    ahead.extend(znodes(&["/ë6"], &tree));
    let fuzzy = checked(&ahead, trailer, &log);
    assert_eq!((fuzzy.digests, fuzzy.warnings.len()), (3, 1), "{fuzzy:?}");
    assert_eq!(fuzzy.errors, Vec::<String>::new());
    assert!(
        fuzzy.warnings[0].contains("the next digest of a log decides"),
        "{fuzzy:?}"
    );

    // One that lacks a znode is wrong: no transaction after it explains that.
    let damaged = checked(&znodes(&OLD[..7], &at_5), trailer, &log);
    assert_eq!((damaged.digests, damaged.errors.len()), (0, 1), "{damaged:?}");
    assert!(
        damaged.errors[0].contains("the digest of the tree after 0x0000000000000006"),
        "{damaged:?}"
    );
    // A digest of a tree before the name, as after the beginning of an epoch, is not compared.
    let before = checked(&znodes(&OLD, &at_5), Trailer::Digest(4, digest), &log);
    assert_eq!(
        (before.digests, before.warnings.len(), before.errors.len()),
        (3, 0, 0)
    );
}

#[test]
fn logs_from_epoch_1_on_begin_with_an_empty_tree_only_where_the_first_digest_shows_it() {
    const EPOCH: i64 = 1 << 32;
    let session = || testing::transaction(EPOCH + 1, Operation::CreateSession { timeout: 1 }, None);
    // The log of epoch 1, and a snapshot after its second transaction.
    let check = |before: std::ops::RangeInclusive<i64>, spoiled: Option<usize>, with_snapshot: bool| {
        let mut tree = Tree::of_new_server();
        history(&mut tree, before);
        let mut log = vec![session()];
        tree.apply(&log[0]);
        log.extend(history(&mut tree, EPOCH + 2..=EPOCH + 2));
        let at_2 = (tree.clone(), digest_of(&tree));
        log.extend(history(&mut tree, EPOCH + 3..=EPOCH + 5));
        if let Some(digest) = spoiled.and_then(|at| log[at].digest.as_mut()) {
            digest.value ^= 1;
        }
        let folder = tempfile::tempdir().unwrap();
        let name = format!("log.{:x}", EPOCH + 1);
        std::fs::write(folder.path().join(name), testing::log_file(&log)).unwrap();
        if with_snapshot {
            let old = OLD.map(str::to_owned).into_iter();
            let paths: Vec<String> = old.chain([format!("/ë{}", EPOCH + 2)]).collect();
            let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
            let body = testing::snapshot_body(&[], &[], &znodes(&paths, &at_2.0));
            let snapshot = testing::snapshot_file(&body, Trailer::Both(EPOCH + 2, at_2.1));
            let name = format!("snapshot.{:x}", EPOCH + 2);
            std::fs::write(folder.path().join(name), snapshot).unwrap();
        }
        let report = of_folder(&LogFolder::new(folder.path())).unwrap();
        assert!(report.warnings.is_empty(), "{report:?}");
        (report.digests, report.errors.len())
    };
    #[allow(
        clippy::reversed_empty_ranges,
        reason = "a new ensemble has no history before it"
    )]
    let none = 1..=0;
    // A new ensemble: all digests agree, and a wrong one after the first is damage.
    assert_eq!(check(none.clone(), None, false), (4, 0));
    assert_eq!(check(none, Some(3), false), (2, 1));
    // A server that was alone before, without its logs of that time: nothing is damaged, and a snapshot begins the
    // comparison.
    assert_eq!(check(1..=5, None, false), (0, 0));
    assert_eq!(check(1..=5, None, true), (4, 0));
    assert_eq!(check(1..=5, Some(3), true), (2, 1));
}

#[test]
fn a_snapshot_without_a_digest_is_judged_only_once_a_digest_has_agreed() {
    let mut tree = Tree::of_new_server();
    history(&mut tree, 1..=5);
    let at_5 = tree.clone();
    let mut log = history(&mut tree, 6..=8);
    let wrong = checked(&znodes(&OLD[..7], &at_5), Trailer::Seal, &log);
    assert_eq!((wrong.digests, wrong.errors.len()), (0, 0), "{wrong:?}");
    log[2].digest = Some(TreeDigest {
        version: DIGEST_VERSION,
        value: 1,
    });
    let late = checked(&znodes(&OLD, &at_5), Trailer::Seal, &log);
    assert_eq!((late.digests, late.errors.len()), (2, 1), "{late:?}");
}

#[test]
fn digests_of_a_server_in_another_charset_agree_and_the_error_of_a_malformed_request_is_passed() {
    use bridge_transactions::digest::PathCharset;

    let mut tree = Tree::of_new_server();
    let mut log = Vec::new();
    for zxid in 1..=3 {
        let mut next = history(&mut tree, zxid..=zxid).remove(0);
        let value = tree.digest_in(PathCharset::Ascii);
        assert_ne!(value, tree.digest());
        next.digest = Some(TreeDigest {
            version: DIGEST_VERSION,
            value,
        });
        log.push(next);
        log.push(testing::transaction(zxid, Operation::Error { code: -5 }, None));
    }
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("log.1"), testing::log_file(&log)).unwrap();
    let report = of_folder(&LogFolder::new(folder.path())).unwrap();
    assert_eq!((report.transactions, report.digests), (3, 3), "{report:?}");
    assert!(
        report.warnings.is_empty() && report.errors.is_empty(),
        "{report:?}"
    );
}

#[test]
fn the_znodes_of_a_snapshot_reach_no_further_than_the_greatest_of_its_three_zxids() {
    let file = SnapshotFile {
        zxid: 5,
        compression: Compression::Plain,
        path: PathBuf::from("snapshot.5"),
    };
    let digest = |zxid| Some((zxid, digest_of(&Tree::of_new_server())));
    let check = |digest, last_zxid, expected| {
        let end = SnapshotEnd { digest, last_zxid };
        assert_eq!(Trust::of_snapshot(&file, &end), expected);
    };
    check(None, None, Trust::Open);
    check(digest(9), None, Trust::After(9));
    check(digest(4), None, Trust::After(5));
    check(digest(4), Some(7), Trust::After(7));
    check(None, Some(5), Trust::After(5));
}
