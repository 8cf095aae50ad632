//! The messages in the topics when nothing fails.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bridge_core::record::{Op, Record};
use bridge_core::testing::{a_record, limit_records, some_records};
use bridge_kafka::{Compression, KeyBy};
use bridge_servers::real_servers;

use crate::rig::{self, Message};

#[tokio::test]
async fn each_path_is_in_one_partition_in_the_order_of_seq() {
    real_servers!("each path is in one partition in the order of seq");
    let bootstrap = rig::shared_broker().await.bootstrap();
    let topic = rig::create_topic(&bootstrap, 6, &[]).await;
    let records = some_records(3_000, 40);

    let mut sink = rig::opened(&rig::config(&bootstrap, &topic)).await;
    for batch in records.chunks(700) {
        rig::deliver(&mut sink, batch).await.unwrap();
    }

    let messages = rig::messages(&bootstrap, &topic).await;
    assert_eq!(messages.len(), records.len());
    let partitions: BTreeSet<i32> = messages.iter().map(|message| message.partition).collect();
    assert_eq!(partitions.len(), 6, "the paths are spread");
    let mut by_key: BTreeMap<&str, Vec<&Message>> = BTreeMap::new();
    for message in &messages {
        by_key
            .entry(message.key.as_deref().unwrap())
            .or_default()
            .push(message);
    }
    for (key, messages) in by_key {
        assert!(
            messages.iter().all(|one| one.partition == messages[0].partition),
            "{key}"
        );
        assert!(messages.is_sorted_by_key(|one| one.seq()), "{key}");
    }
}

#[tokio::test]
async fn a_message_has_the_records_key_headers_and_json_in_every_compression() {
    real_servers!("a message has the record's key, headers and JSON in every compression");
    let bootstrap = rig::shared_broker().await.bootstrap();
    let record = a_record().path("/services/ü/日本語").arc();
    for compression in [
        Compression::Zstd,
        Compression::Lz4,
        Compression::Snappy,
        Compression::Gzip,
        Compression::None,
    ] {
        let topic = rig::create_topic(&bootstrap, 1, &[]).await;
        let mut config = rig::config(&bootstrap, &topic);
        config.compression = compression;
        config.key = KeyBy::ClusterPath;
        let mut sink = rig::opened(&config).await;

        rig::deliver(&mut sink, &[Arc::clone(&record)]).await.unwrap();

        let messages = rig::messages(&bootstrap, &topic).await;
        let [message] = messages.as_slice() else {
            panic!("{compression:?}: {messages:?}");
        };
        assert_eq!(message.key.as_deref(), Some("main/services/ü/日本語"));
        assert_eq!(message.value.as_deref(), Some(record.to_json().as_slice()));
        assert_eq!(message.headers["zkbridge-id"], record.id.to_string());
        assert_eq!(message.headers["zkbridge-op"], "update");
        assert_eq!(message.headers["zkbridge-zxid"], record.zxid.unwrap().to_string());
        assert_eq!(message.headers["zkbridge-cluster"], "main");
        assert_eq!(message.headers["zkbridge-schema"], "zkbridge.change/1");
    }
}

#[tokio::test]
async fn java_producers_would_choose_the_same_partition_for_a_path() {
    real_servers!("Java producers would choose the same partition for a path");
    let bootstrap = rig::shared_broker().await.bootstrap();
    let topic = rig::create_topic(&bootstrap, 7, &[]).await;
    let paths = [
        "/services/a",
        "/services/b",
        "/ü/日本語",
        "/",
        "/config/very/deep/path",
    ];
    let records: Vec<Arc<Record>> = paths
        .iter()
        .zip(1..)
        .map(|(path, seq)| a_record().seq(seq).path(path).arc())
        .collect();
    let mut sink = rig::opened(&rig::config(&bootstrap, &topic)).await;

    rig::deliver(&mut sink, &records).await.unwrap();

    for message in rig::messages(&bootstrap, &topic).await {
        let key = message.key.unwrap();
        let expected = rig::partition_of(&key, 7);
        assert_eq!(message.partition, expected, "{key}");
    }
}

#[tokio::test]
async fn a_delete_is_followed_by_a_tombstone_of_the_same_key() {
    real_servers!("a delete is followed by a tombstone of the same key");
    let bootstrap = rig::shared_broker().await.bootstrap();
    let topic = rig::create_topic(&bootstrap, 3, &[("cleanup.policy", "compact")]).await;
    let mut config = rig::config(&bootstrap, &topic);
    config.tombstones = true;
    let mut sink = rig::opened(&config).await;
    let records: Vec<Arc<Record>> = [Op::Create, Op::Delete, Op::Create]
        .into_iter()
        .zip(1..)
        .map(|(op, seq)| a_record().seq(seq).path("/a").op(op).arc())
        .collect();

    rig::deliver(&mut sink, &records).await.unwrap();

    let messages = rig::messages(&bootstrap, &topic).await;
    let seen: Vec<(Option<&str>, Option<u64>, &str)> = messages
        .iter()
        .map(|message| {
            let seq = message.arrived().map(|one| one.seq.0);
            (
                message.key.as_deref(),
                seq,
                message.headers["zkbridge-op"].as_str(),
            )
        })
        .collect();
    let key = Some("/a");
    assert_eq!(
        seen,
        [
            (key, Some(1), "create"),
            (key, Some(2), "delete"),
            (key, None, "delete"),
            (key, Some(3), "create"),
        ]
    );
}

#[tokio::test]
async fn records_at_the_limits_arrive_byte_for_byte() {
    real_servers!("records at the limits arrive byte for byte");
    let bootstrap = rig::shared_broker().await.bootstrap();
    let topic = rig::create_topic(&bootstrap, 1, &[("max.message.bytes", "20000000")]).await;
    let mut records = limit_records();
    // A mebibyte that takes twice its size as JSON, before and after.
    let quotes = vec![b'"'; 1 << 20];
    let largest = a_record()
        .seq(1_000)
        .path("/quotes")
        .before(&quotes)
        .after(&quotes)
        .limit(1 << 20)
        .arc();
    assert!(largest.to_json().len() > 4 << 20);
    records.push(largest);
    let mut sink = rig::opened(&rig::config(&bootstrap, &topic)).await;

    rig::deliver(&mut sink, &records).await.unwrap();

    let messages = rig::messages(&bootstrap, &topic).await;
    assert_eq!(messages.len(), records.len());
    for (message, record) in messages.iter().zip(&records) {
        assert!(
            message.value.as_deref() == Some(record.to_json().as_slice()),
            "{}",
            record.seq
        );
    }
}

#[tokio::test]
async fn a_batch_larger_than_the_queue_arrives_in_order() {
    real_servers!("a batch larger than the queue arrives in order");
    let bootstrap = rig::shared_broker().await.bootstrap();
    let topic = rig::create_topic(&bootstrap, 3, &[]).await;
    let mut config = rig::config(&bootstrap, &topic);
    config.properties.set("queue.buffering.max.messages", "10");
    let records = some_records(500, 7);
    let mut sink = rig::opened(&config).await;

    rig::deliver(&mut sink, &records).await.unwrap();

    let messages = rig::messages(&bootstrap, &topic).await;
    assert_eq!(messages.len(), records.len());
    let mut last: BTreeMap<String, u64> = BTreeMap::new();
    for message in messages {
        let seq = message.seq();
        let before = last.insert(message.key.unwrap(), seq);
        assert!(before.is_none_or(|before| before < seq), "{seq}");
    }
}

#[tokio::test]
async fn records_go_to_the_topics_of_their_template() {
    real_servers!("records go to the topics of their template");
    let bootstrap = rig::shared_broker().await.bootstrap();
    let prefix = rig::new_topic_name();
    let mut config = rig::config(&bootstrap, &format!("{prefix}.{{{{ names | first | topic }}}}"));
    config.create_topics = serde_json::from_str(r#"{"partitions": 2, "replication": 1}"#).unwrap();
    let mut sink = rig::opened(&config).await;
    let records: Vec<Arc<Record>> = ["/services/a", "/config", "/services/b", "/1.2"]
        .into_iter()
        .zip(1..)
        .map(|(path, seq)| a_record().seq(seq).path(path).arc())
        .collect();

    rig::deliver(&mut sink, &records).await.unwrap();

    for (topic, expected) in [("services", &[1, 3][..]), ("config", &[2]), ("1_2e2", &[4])] {
        let messages = rig::messages(&bootstrap, &format!("{prefix}.{topic}")).await;
        let mut seqs: Vec<u64> = messages.iter().map(Message::seq).collect();
        seqs.sort_unstable();
        assert_eq!(seqs, expected, "{topic}");
    }
}
