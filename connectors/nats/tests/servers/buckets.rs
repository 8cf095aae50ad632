//! Key-value buckets as mirrors of the tree, as a client for buckets reads them.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_nats::jetstream::kv::{self, Operation, Store};
use bridge_core::number::Zxid;
use bridge_core::record::{Op, Record};
use bridge_core::sink::SinkErrorKind;
use bridge_core::testing::a_record;
use bridge_nats::{CreateStream, KeyBy, NatsConfig, StreamSettings};
use bridge_servers::real_servers;
use futures::TryStreamExt;

use crate::rig;

/// The options for a bucket that the sink creates.
fn config(urls: &str, bucket: &str) -> NatsConfig {
    let mut config = NatsConfig::new(urls, "");
    config.bucket = Some(bucket.to_owned());
    config.create_stream = CreateStream::Yes(StreamSettings::default());
    config
}

async fn store(urls: &str, bucket: &str) -> Store {
    rig::context(urls).await.get_key_value(bucket).await.unwrap()
}

/// All keys that are there, with their values.
async fn tree(store: &Store) -> BTreeMap<String, Vec<u8>> {
    let keys: Vec<String> = store.keys().await.unwrap().try_collect().await.unwrap();
    let mut tree = BTreeMap::new();
    for key in keys {
        let value = store.get(&key).await.unwrap().unwrap();
        tree.insert(key, value.to_vec());
    }
    tree
}

fn record(seq: u64, zxid: u64, op: Op, path: &str, value: &str) -> Arc<Record> {
    let mut record = a_record().seq(seq).path(path).op(op).after(value).build();
    record.zxid = Some(Zxid(zxid));
    Arc::new(record)
}

fn expected(entries: &[(&str, &str)]) -> BTreeMap<String, Vec<u8>> {
    let owned = entries
        .iter()
        .map(|(key, value)| ((*key).to_owned(), value.as_bytes().to_vec()));
    owned.collect()
}

#[tokio::test]
async fn a_bucket_has_the_value_of_each_znode_that_exists_and_marks_what_was_deleted() {
    real_servers!("a bucket as a mirror");
    let urls = rig::shared_server().await.urls();
    let bucket = rig::new_name();
    let mut sink = rig::opened(&config(&urls, &bucket)).await;
    let records = [
        a_record().seq(1).control(Op::SnapshotBegin).arc(),
        record(2, 10, Op::Snapshot, "/", "root"),
        record(3, 11, Op::Create, "/a.b", "1"),
        record(4, 12, Op::Create, "/a.b/ü", ""),
        record(5, 13, Op::Update, "/a.b", "2"),
        record(6, 14, Op::Acl, "/a.b", "2"),
        record(7, 15, Op::Create, "/gone", "x"),
        record(8, 16, Op::Delete, "/gone", ""),
        record(9, 17, Op::Create, "/again", "x"),
        record(10, 18, Op::Delete, "/again", ""),
        record(11, 19, Op::Create, "/again", "y"),
    ];
    rig::deliver(&mut sink, &records).await.unwrap();

    let store = store(&urls, &bucket).await;
    let all = expected(&[
        ("_", "root"),
        ("a_2eb", "2"),
        ("a_2eb._c3_bc", ""),
        ("again", "y"),
    ]);
    assert_eq!(tree(&store).await, all);
    let gone = store.entry("gone").await.unwrap().unwrap();
    assert_eq!((gone.operation, gone.value.len()), (Operation::Delete, 0));
    assert_eq!(store.get("gone").await.unwrap(), None);
    let status = store.status().await.unwrap();
    assert_eq!(
        (status.history(), status.max_age()),
        (1, std::time::Duration::ZERO)
    );

    // Another client takes the sink's bucket for one of its own.
    store.put("a_2eb", "other".into()).await.unwrap();
    assert_eq!(store.get("a_2eb").await.unwrap().unwrap().as_ref(), b"other");
    store.purge("again").await.unwrap();
}

#[tokio::test]
async fn a_record_that_comes_again_late_takes_the_place_of_no_newer_value_and_of_no_delete() {
    real_servers!("late records before a bucket");
    let urls = rig::shared_server().await.urls();
    let bucket = rig::new_name();
    let mut sink = rig::opened(&config(&urls, &bucket)).await;
    rig::deliver(
        &mut sink,
        &[
            record(5, 50, Op::Update, "/a", "new"),
            record(6, 60, Op::Delete, "/b", ""),
            record(7, 70, Op::Create, "/c", "old"),
        ],
    )
    .await
    .unwrap();
    // Of the same sink, and of the next start.
    for attempt in 0..2 {
        if attempt == 1 {
            sink = rig::opened(&config(&urls, &bucket)).await;
        }
        let late = [
            record(2, 20, Op::Create, "/a", "late"),
            record(3, 30, Op::Create, "/b", "late"),
            // The ensemble was set back: its transactions are lower, and its place in the journal is later.
            record(8 + attempt, 65 - attempt, Op::Update, "/c", "set back"),
        ];
        rig::deliver(&mut sink, &late).await.unwrap();
        let store = store(&urls, &bucket).await;
        assert_eq!(tree(&store).await, expected(&[("a", "new"), ("c", "set back")]));
    }

    // An entry of another writer gives way: the mirror is that of the tree.
    store(&urls, &bucket)
        .await
        .put("a", "foreign".into())
        .await
        .unwrap();
    rig::deliver(&mut sink, &[record(4, 40, Op::Update, "/a", "own")])
        .await
        .unwrap();
    let store = store(&urls, &bucket).await;
    assert_eq!(store.get("a").await.unwrap().unwrap().as_ref(), b"own");
}

#[tokio::test]
async fn several_clusters_share_a_bucket_and_one_that_exists_is_used_as_it_is() {
    real_servers!("a bucket of several clusters");
    let urls = rig::shared_server().await.urls();
    let bucket = rig::new_name();
    let made = kv::Config {
        bucket: bucket.clone(),
        history: 5,
        ..kv::Config::default()
    };
    rig::context(&urls).await.create_key_value(made).await.unwrap();
    let mut shared = config(&urls, &bucket);
    shared.create_stream = CreateStream::No;
    shared.key = KeyBy::ClusterPath;
    let mut sink = rig::opened(&shared).await;
    let records = [
        record(1, 10, Op::Create, "/a", "1"),
        record(2, 20, Op::Update, "/a", "2"),
    ];
    rig::deliver(&mut sink, &records).await.unwrap();
    let store = store(&urls, &bucket).await;
    assert_eq!(tree(&store).await, expected(&[("main.a", "2")]));
    let history: Vec<_> = store
        .history("main.a")
        .await
        .unwrap()
        .try_collect()
        .await
        .unwrap();
    assert_eq!(history.len(), 2);

    let mut missing = config(&urls, &rig::new_name());
    missing.create_stream = CreateStream::No;
    let (kind, message) = rig::refusal(&missing).await;
    assert_eq!(kind, SinkErrorKind::Missing, "{message}");
}
