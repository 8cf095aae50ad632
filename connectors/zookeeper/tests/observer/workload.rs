//! Writes to an ensemble, and the independent sources of the truth: its transaction logs and its client port.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::BufReader;

use bridge_core::committed::StagedNode;
use bridge_core::record::Stat;
use bridge_servers::{ZooKeeper, eventually};
use bridge_transactions::log_file::{LogItem, LogReader, zxid_of_log};
use zookeeper_client::{Acls, Client, CreateMode, CreateOptions, Error};

use crate::player::BOUND;

const OPEN: CreateOptions<'static> = CreateMode::Persistent.with_acls(Acls::anyone_all());
const EPHEMERAL: CreateOptions<'static> = CreateMode::Ephemeral.with_acls(Acls::anyone_all());
const SEQUENTIAL: CreateOptions<'static> = CreateMode::PersistentSequential.with_acls(Acls::anyone_all());

/// A session, as soon as there is one to be had.
pub async fn client(zookeeper: &ZooKeeper) -> Client {
    let connect = zookeeper.connect_string();
    eventually("a session", BOUND, || async {
        Client::connect(&connect).await.ok()
    })
    .await
    .unwrap()
}

/// Every kind of transaction that a client can cause, below a path of its own.
pub async fn every_kind(zookeeper: &ZooKeeper, top: &str) {
    let session = client(zookeeper).await;
    session.create(top, b"top", &OPEN).await.unwrap();
    let at = |name: &str| format!("{top}/{name}");
    session.create(&at("ä"), b"", &OPEN).await.unwrap();
    session.create(&at("a"), b"one", &OPEN).await.unwrap();
    session.create(&at("a-b"), b"sibling", &OPEN).await.unwrap();
    session.create(&at("a/b"), b"child", &OPEN).await.unwrap();
    session.create(&at("s-"), b"", &SEQUENTIAL).await.unwrap();
    session.set_data(&at("a"), b"two", None).await.unwrap();
    session.set_data(&at("a"), b"two", None).await.unwrap();
    session
        .set_acl(
            &at("a"),
            zookeeper_client::Acls::anyone_read().to_vec().as_slice(),
            None,
        )
        .await
        .unwrap();
    session.create(&at("gone"), b"", &OPEN).await.unwrap();
    session.delete(&at("gone"), None).await.unwrap();
    assert_eq!(session.delete(&at("never"), None).await, Err(Error::NoNode));
    let mut multi = session.new_multi_writer();
    multi.add_create(&at("m"), b"m", &OPEN).unwrap();
    multi.add_set_data(&at("m"), b"mm", None).unwrap();
    multi.add_delete(&at("a-b"), None).unwrap();
    multi.commit().await.unwrap();
    let mut failing = session.new_multi_writer();
    failing.add_create(&at("never"), b"", &OPEN).unwrap();
    failing.add_delete(&at("nowhere"), None).unwrap();
    assert!(failing.commit().await.is_err());
    let other = client(zookeeper).await;
    other.create(&at("e1"), b"", &EPHEMERAL).await.unwrap();
    other.create(&at("e2"), b"", &EPHEMERAL).await.unwrap();
    drop(other);
    eventually("the end of a session", BOUND, || async {
        session.check_stat(&at("e1")).await.unwrap().is_none()
    })
    .await
    .unwrap();
}

/// So many writes of one znode.
pub async fn writes(zookeeper: &ZooKeeper, path: &str, count: usize) {
    let session = client(zookeeper).await;
    match session.create(path, b"", &OPEN).await {
        Ok(_) | Err(Error::NodeExists) => {}
        Err(error) => panic!("{error}"),
    }
    let mut written = 0;
    while written < count {
        let batch = (count - written).min(100);
        let pending: Vec<_> = (0..batch)
            .map(|i| {
                let data = (written + i).to_string();
                let (session, path) = (session.clone(), path.to_owned());
                async move { session.set_data(&path, data.as_bytes(), None).await }
            })
            .collect();
        for done in futures::future::join_all(pending).await {
            done.unwrap();
        }
        written += batch;
    }
}

/// The zxids and checksums in the logs of a server, in order.
pub fn logged(zookeeper: &ZooKeeper, server: usize) -> BTreeMap<u64, u32> {
    let folder = zookeeper.data_dir(server).join("version-2");
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    let logs = files.filter(|file| zxid_of_log(&file.file_name().to_string_lossy()).is_some());
    let mut found = BTreeMap::new();
    for log in logs {
        let mut reader = LogReader::new(BufReader::new(File::open(log.path()).unwrap())).unwrap();
        while let Some(item) = reader.next_item().unwrap() {
            if let LogItem::Transaction { transaction, .. } = item {
                found.insert(transaction.zxid.cast_unsigned(), transaction.payload_crc);
            }
        }
    }
    found
}

/// The tree as a client reads it, without `/zookeeper`.
pub async fn read_tree(zookeeper: &ZooKeeper) -> BTreeMap<String, (Stat, Vec<u8>)> {
    let session = client(zookeeper).await;
    let mut tree = BTreeMap::new();
    let mut open = vec!["/".to_owned()];
    while let Some(path) = open.pop() {
        let (data, stat) = session.get_data(&path).await.unwrap();
        let children = session.list_children(&path).await.unwrap();
        let prefix = if path == "/" { "" } else { &path };
        open.extend(
            children
                .iter()
                .map(|name| format!("{prefix}/{name}"))
                .filter(|path| path != "/zookeeper"),
        );
        tree.insert(path, (stat_of(&stat), data));
    }
    tree
}

/// A staged tree as a client would read it.
pub fn as_read(tree: &BTreeMap<String, StagedNode>) -> BTreeMap<String, (Stat, Vec<u8>)> {
    let is_zookeeper = |path: &str| path == "/zookeeper" || path.starts_with("/zookeeper/");
    tree.iter()
        .filter(|(path, _)| !is_zookeeper(path))
        .map(|(path, node)| {
            let stat = node
                .raw
                .read_as(node.lifetime, node.data.len(), node.children.len());
            (path.clone(), (stat, node.data.to_vec()))
        })
        .collect()
}

fn stat_of(stat: &zookeeper_client::Stat) -> Stat {
    use bridge_core::number::{SessionId, Zxid};
    Stat {
        czxid: Zxid(stat.czxid.cast_unsigned()),
        mzxid: Zxid(stat.mzxid.cast_unsigned()),
        pzxid: Zxid(stat.pzxid.cast_unsigned()),
        ctime: stat.ctime,
        mtime: stat.mtime,
        version: stat.version,
        cversion: stat.cversion,
        aversion: stat.aversion,
        ephemeral_owner: SessionId(stat.ephemeral_owner.cast_unsigned()),
        data_length: stat.data_length,
        num_children: stat.num_children,
    }
}
