//! Files of real servers of every line: each record is read, and the tree that they build has the digest that the server
//! wrote after each of them.

#![allow(clippy::unwrap_used, reason = "a helper of a test fails as the test does")]

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bridge_servers::{ZOOKEEPER_LINES, ZooKeeper, eventually, real_servers};
use bridge_transactions::compression::{Compression, Decompressed};
use bridge_transactions::digest::PathCharset;
use bridge_transactions::log_file::{LogEnd, LogItem, LogReader, zxid_of_log};
use bridge_transactions::snapshot::{SnapshotEnd, SnapshotItem, SnapshotReader, zxid_of_snapshot};
use bridge_transactions::transaction::{Lifetime, Operation, Transaction, can_follow};
use bridge_transactions::tree::Tree;
use zookeeper_client::{Acl, Acls, AuthId, Client, CreateMode, Permission};

/// The longest wait for a server to do something of its own.
const BOUND: Duration = Duration::from_secs(60);

/// The numbers of a version.
fn numbers(version: &str) -> (u32, u32, u32) {
    let parts: Vec<u32> = version.split('.').map(|part| part.parse().unwrap()).collect();
    (parts[0], parts[1], parts[2])
}

/// Whether a version writes digests, and lists of the znodes that a session's end deletes.
fn has_digests(version: &str) -> bool {
    numbers(version) >= (3, 6, 0)
}

async fn connect(zookeeper: &ZooKeeper) -> Client {
    let (major, minor, patch) = numbers(zookeeper.version());
    let connector = Client::connector().with_server_version(major, minor, patch);
    connector.connect(&zookeeper.connect_string()).await.unwrap()
}

/// Every kind of transaction that a client can ask for. The session has ended after it, and with it its ephemerals.
async fn every_kind(zookeeper: &ZooKeeper) {
    let client = connect(zookeeper).await;
    let open = Acls::anyone_all();
    let persistent = CreateMode::Persistent.with_acls(open);
    let ephemeral = CreateMode::Ephemeral.with_acls(open);
    let sequential = CreateMode::PersistentSequential.with_acls(open);
    client.create("/a", b"1", &persistent).await.unwrap();
    client.create("/a/Zoë 雪", b"", &persistent).await.unwrap();
    client.create("/a/n-", b"1", &sequential).await.unwrap();
    client.create("/a/e1", b"1", &ephemeral).await.unwrap();
    client.create("/a/e2", b"1", &ephemeral).await.unwrap();
    client.set_data("/a", b"2", None).await.unwrap();
    client.set_data("/a", b"2", None).await.unwrap();
    client.set_data("/", b"root", None).await.unwrap();
    let list = [
        Acl::new(Permission::READ, AuthId::anyone()),
        Acl::new(Permission::ALL, AuthId::new("ip", "127.0.0.1")),
    ];
    client.set_acl("/a", &list, None).await.unwrap();
    client.delete("/a/e1", None).await.unwrap();
    // Two that fail.
    client.create("/a", b"1", &persistent).await.unwrap_err();
    client.set_data("/a", b"1", Some(77)).await.unwrap_err();

    client.create("/m", b"1", &persistent).await.unwrap();
    client.create("/m/x", b"1", &persistent).await.unwrap();
    let mut multi = client.new_multi_writer();
    let mut failing = client.new_multi_writer();
    // Of a create within a multi the client asks for a Stat, which 3.4 does not know.
    if numbers(zookeeper.version()) >= (3, 5, 0) {
        multi.add_create("/m/y", b"1", &persistent).unwrap();
        failing.add_create("/n", b"1", &persistent).unwrap();
    } else {
        multi.add_set_data("/m/x", b"2", None).unwrap();
        failing.add_set_data("/m", b"3", None).unwrap();
    }
    multi.add_set_data("/m", b"2", None).unwrap();
    multi.add_check_version("/m", 1).unwrap();
    multi.add_delete("/m/x", None).unwrap();
    multi.commit().await.unwrap();
    failing.add_delete("/missing", None).unwrap();
    failing.add_delete("/m", None).unwrap();
    failing.commit().await.unwrap_err();

    if numbers(zookeeper.version()) >= (3, 5, 3) {
        let container = CreateMode::Container.with_acls(open);
        client.create("/c", b"1", &container).await.unwrap();
        client.create("/c/child", b"1", &persistent).await.unwrap();
        client.delete("/c/child", None).await.unwrap();
        let ttl = CreateMode::Persistent
            .with_acls(open)
            .with_ttl(Duration::from_millis(300));
        client.create("/t", b"1", &ttl).await.unwrap();
        let gone = eventually(
            "the server to delete the container and the TTL",
            BOUND,
            || async {
                client.list_children("/").await.unwrap() == ["a", "m", "zookeeper"]
                    || client.list_children("/").await.unwrap().len() == 3
            },
        );
        gone.await.unwrap();
    }
    drop(client);
    let watching = connect(zookeeper).await;
    let gone = eventually("the session to end", BOUND, || async {
        watching.check_stat("/a/e2").await.unwrap().is_none()
    });
    gone.await.unwrap();
}

fn version_2(zookeeper: &ZooKeeper) -> PathBuf {
    zookeeper.data_dir(0).join("version-2")
}

/// The names in a folder that are those of files of a kind, in the order of their zxids.
fn files<T: Ord>(folder: &Path, zxid_of: impl Fn(&str) -> Option<T>) -> Vec<(T, PathBuf)> {
    let mut files: Vec<(T, PathBuf)> = std::fs::read_dir(folder)
        .unwrap()
        .filter_map(|entry| {
            let path = entry.unwrap().path();
            let zxid = zxid_of(path.file_name()?.to_str()?)?;
            Some((zxid, path))
        })
        .collect();
    files.sort();
    files
}

/// All transactions of all logs of a server.
fn transactions(folder: &Path) -> Vec<Transaction> {
    let mut all = Vec::new();
    for (first, path) in files(folder, zxid_of_log) {
        let mut reader = LogReader::new(File::open(&path).unwrap()).unwrap();
        let mut of_file = Vec::new();
        while let Some(item) = reader.next_item().unwrap() {
            match item {
                LogItem::Transaction { transaction, .. } => of_file.push(transaction),
                LogItem::End(LogEnd::Whole { .. }) => {}
                other => panic!("{}: {other:?}", path.display()),
            }
        }
        assert_eq!(of_file.first().map(|one| one.zxid), Some(first));
        all.extend(of_file);
    }
    for pair in all.windows(2) {
        assert!(can_follow(pair[1].zxid, pair[0].zxid), "{pair:?}");
    }
    all
}

fn read_snapshot(path: &Path, compression: Compression) -> (Tree, SnapshotEnd) {
    let input = Decompressed::new(File::open(path).unwrap(), compression);
    let mut reader = SnapshotReader::new(input).unwrap();
    let mut tree = Tree::default();
    while let Some(item) = reader.next_item().unwrap() {
        match item {
            SnapshotItem::Session { id, .. } => tree.insert_session(id),
            SnapshotItem::AclList { list, .. } => assert!(!list.is_empty()),
            SnapshotItem::Znode(znode) => tree.insert(&znode.path, znode.data.as_deref(), znode.stat),
            SnapshotItem::End(end) => return (tree, end),
        }
    }
    panic!("{} has no end", path.display())
}

/// The operations, with those of a `multi` one by one.
fn operations(all: &[Transaction]) -> Vec<&Operation> {
    let mut operations = Vec::new();
    for transaction in all {
        match &transaction.operation {
            Operation::Multi(parts) => operations.extend(parts),
            other => operations.push(other),
        }
    }
    operations
}

fn check_operations(version: &str, all: &[Transaction]) {
    let operations = operations(all);
    let count = |wanted: &dyn Fn(&Operation) -> bool| operations.iter().filter(|one| wanted(one)).count();
    let of_type = |name: &str| count(&|one| one.type_name() == name);
    assert_eq!(of_type("setACL"), 1);
    assert_eq!(count(&|one| matches!(one, Operation::Error { code: -110 })), 1);
    assert_eq!(count(&|one| matches!(one, Operation::Error { code: -103 })), 1);
    let failed = Operation::FailedMulti { parts: 3, code: -101 };
    assert_eq!(count(&|one| *one == failed), 1);
    let multi = all.iter().find_map(|one| match &one.operation {
        Operation::Multi(parts) => Some(parts),
        _ => None,
    });
    let types: Vec<&str> = multi.unwrap().iter().map(Operation::type_name).collect();
    assert_eq!(types[1..], ["setData", "check", "delete"]);
    let named = |name: &str, operation: &Operation| operation.path() == Some(name);
    let create = |name: &str| {
        operations
            .iter()
            .find(|one| one.type_name().starts_with("create") && named(name, one))
    };
    let lifetime = |name: &str| match create(name) {
        Some(Operation::Create { lifetime, .. }) => Some(*lifetime),
        _ => None,
    };
    assert_eq!(lifetime("/a/Zoë 雪"), Some(Lifetime::Persistent));
    assert_eq!(lifetime("/a/n-0000000001"), Some(Lifetime::Persistent));
    assert_eq!(lifetime("/a/e2"), Some(Lifetime::Ephemeral));
    if numbers(version) >= (3, 5, 3) {
        assert_eq!(lifetime("/c"), Some(Lifetime::Container));
        assert_eq!(lifetime("/t"), Some(Lifetime::Ttl { ms: 300 }));
        assert_eq!(of_type("deleteContainer"), 2);
    }
    let listed = Operation::CloseSession {
        paths: has_digests(version).then(|| vec!["/a/e2".to_owned()]),
    };
    assert_eq!(
        count(&|one| *one == listed && has_digests(version)),
        usize::from(has_digests(version))
    );
    assert!(of_type("closeSession") >= 1);
    let root = operations.iter().find(|one| named("/", one));
    assert!(
        matches!(root, Some(Operation::SetData { version: 1, .. })),
        "{root:?}"
    );
    let author = all.iter().find(|one| named("/a", &one.operation)).unwrap();
    assert!(author.session != 0 && author.cxid != 0 && author.time > 1_600_000_000_000);
}

/// Replays everything and compares the digest after each transaction.
fn check_digests(version: &str, all: &[Transaction]) -> Tree {
    let mut tree = Tree::of_new_server();
    let mut compared = 0;
    for transaction in all {
        tree.apply(transaction);
        if let Some(digest) = transaction.digest {
            assert_eq!(digest.version, 2);
            assert!(tree.has_digest(digest.value), "{version}: after {transaction:?}");
            compared += 1;
        }
    }
    let expected = match has_digests(version) {
        // The two errors have none. A multi that failed has the digest of the unchanged tree.
        true => all.len() - 2,
        false => 0,
    };
    assert_eq!(compared, expected, "{version}: of {}", all.len());
    let failed = all
        .iter()
        .find(|one| matches!(one.operation, Operation::FailedMulti { .. }));
    assert_eq!(
        failed.unwrap().digest.is_some(),
        has_digests(version),
        "{version}"
    );
    tree
}

async fn check_line(version: &str) {
    let mut builder = ZooKeeper::builder()
        .version(version)
        .system_property("zookeeper.extendedTypesEnabled", "true")
        .system_property("znode.container.checkIntervalMs", "100");
    if !has_digests(version) {
        // A server writes a snapshot when it starts, but not 3.4; this one does it after a few transactions.
        builder = builder.system_property("zookeeper.snapCount", "20");
    }
    let zookeeper = builder.start().await.unwrap();
    every_kind(&zookeeper).await;
    let folder = version_2(&zookeeper);
    let has_snapshot = || std::future::ready(!files(&folder, zxid_of_snapshot_name).is_empty());
    eventually("a snapshot to be written", BOUND, has_snapshot)
        .await
        .unwrap_or_else(|error| panic!("{version}: {error}"));
    zookeeper.restart(0).await.unwrap();
    zookeeper.stop(0).await.unwrap();
    let all = transactions(&version_2(&zookeeper));
    check_operations(version, &all);
    let tree = check_digests(version, &all);

    let last = all.last().unwrap().zxid;
    let snapshots = files(&version_2(&zookeeper), zxid_of_snapshot_name);
    let (begin, path) = snapshots
        .last()
        .unwrap_or_else(|| panic!("{version} wrote no snapshot"));
    let (mut replayed, end) = read_snapshot(path, Compression::Plain);
    let is_newest = numbers(version) >= (3, 9, 0);
    assert_eq!(end.last_zxid, is_newest.then_some(last), "{version}");
    let expected = has_digests(version).then(|| (last, tree.digest()));
    assert_eq!(
        end.digest.map(|(zxid, digest)| (zxid, digest.value)),
        expected,
        "{version}"
    );
    if has_digests(version) {
        assert_eq!((*begin, replayed.digest()), (last, tree.digest()), "{version}");
    }
    // The transactions that the snapshot lacks, and some that it may already have.
    let after = all.iter().filter(|transaction| transaction.zxid > *begin);
    after.for_each(|transaction| replayed.apply(transaction));
    assert_eq!(replayed.digest(), tree.digest(), "{version}");
    assert!(replayed.len() >= 7, "{version}");

    // Negative control: a changed byte of a value is noticed by the seal and by the digest.
    let bytes = std::fs::read(path).unwrap();
    for at in [100, bytes.len() / 2, bytes.len() - 40] {
        let mut changed = bytes.clone();
        changed[at] ^= 1;
        let mut reader = SnapshotReader::new(changed.as_slice()).unwrap();
        let read = loop {
            match reader.next_item() {
                Ok(Some(SnapshotItem::End(_))) | Ok(None) => break Ok(()),
                Ok(Some(_)) => {}
                Err(error) => break Err(error),
            }
        };
        assert!(read.is_err(), "{version}: byte {at} changed");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn files_of_every_line_are_read_to_the_last_byte_and_digests_agree() {
    real_servers!("files of every line");
    for version in ZOOKEEPER_LINES {
        check_line(version).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn digests_agree_with_servers_that_encode_paths_in_other_charsets() {
    real_servers!("digests in other charsets");
    for (charset, name) in [
        (PathCharset::Ascii, "US-ASCII"),
        (PathCharset::Latin1, "ISO-8859-1"),
    ] {
        let zookeeper = ZooKeeper::builder()
            .system_property("file.encoding", name)
            .start()
            .await
            .unwrap();
        let client = connect(&zookeeper).await;
        let persistent = CreateMode::Persistent.with_acls(Acls::anyone_all());
        for path in ["/a", "/a/Zoë 雪", "/é"] {
            client.create(path, b"1", &persistent).await.unwrap();
        }
        client.set_data("/a/Zoë 雪", b"2", None).await.unwrap();
        client.delete("/é", None).await.unwrap();
        drop(client);
        zookeeper.stop(0).await.unwrap();
        let all = transactions(&version_2(&zookeeper));
        let mut tree = Tree::of_new_server();
        let (mut compared, mut others) = (0, 0);
        for transaction in &all {
            tree.apply(transaction);
            if let Some(digest) = transaction.digest {
                assert_eq!(
                    tree.digest_in(charset),
                    digest.value,
                    "{name}: after {transaction:?}"
                );
                assert!(tree.has_digest(digest.value) && !tree.has_digest(digest.value ^ 1));
                compared += 1;
                others += usize::from(tree.digest() != digest.value);
            }
        }
        // As long as there is a name outside of ASCII, the digest is not the one of UTF-8.
        assert!(compared >= 6 && others >= 4, "{name}: {compared}, {others}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn compressed_snapshots_and_a_session_end_without_a_list_are_read() {
    real_servers!("compressed snapshots");
    for (method, compression) in [("gz", Compression::Gzip), ("snappy", Compression::Snappy)] {
        let zookeeper = ZooKeeper::builder()
            .system_property("zookeeper.snapshot.compression.method", method)
            .system_property("zookeeper.closeSessionTxn.enabled", "false")
            .system_property("zookeeper.extendedTypesEnabled", "true")
            .system_property("znode.container.checkIntervalMs", "100")
            .start()
            .await
            .unwrap();
        every_kind(&zookeeper).await;
        zookeeper.restart(0).await.unwrap();
        zookeeper.stop(0).await.unwrap();
        let all = transactions(&version_2(&zookeeper));
        let unlisted = Operation::CloseSession { paths: None };
        assert!(
            all.iter()
                .any(|one| one.operation == unlisted && one.digest.is_some())
        );
        check_digests(zookeeper.version(), &all);
        let newest = files(&version_2(&zookeeper), zxid_of_snapshot_name)
            .pop()
            .unwrap();
        let (zxid, path) = newest;
        let name = path.file_name().unwrap().to_str().unwrap();
        assert_eq!(zxid_of_snapshot(name), Some((zxid, compression)));
        let (tree, end) = read_snapshot(&path, compression);
        assert_eq!(end.digest.map(|(_, digest)| digest.value), Some(tree.digest()));
    }
}

fn zxid_of_snapshot_name(name: &str) -> Option<i64> {
    zxid_of_snapshot(name).map(|(zxid, _)| zxid)
}
