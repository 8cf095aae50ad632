//! Topics that change under the sink: compacted, deleted, given more partitions.

use std::collections::BTreeMap;
use std::sync::Arc;

use bridge_core::record::{Op, Record};
use bridge_core::sink::{Sink, SinkErrorKind};
use bridge_core::testing::{a_record, assert_kept_contract, some_records};
use bridge_kafka::Format;
use bridge_servers::{eventually, real_servers};
use rdkafka::admin::{AdminOptions, NewPartitions};
use serde_json::Value;

use crate::rig::{self, Message};

/// The tree after these records: the data of each path that lives.
fn tree_of(records: &[Arc<Record>]) -> BTreeMap<String, Vec<u8>> {
    let mut tree = BTreeMap::new();
    for record in records {
        let Some(path) = &record.path else { continue };
        match (
            &record.op,
            record.after.as_ref().and_then(|state| state.data.as_ref()),
        ) {
            (Op::Delete, _) => {
                tree.remove(&**path);
            }
            (_, Some(data)) => {
                tree.insert(path.to_string(), data.bytes.to_vec());
            }
            _ => {}
        }
    }
    tree
}

/// The same from what lies in a topic, by keys and values alone.
fn tree_in(messages: &[Message], data_of: fn(&[u8]) -> Option<Vec<u8>>) -> BTreeMap<String, Vec<u8>> {
    let mut tree = BTreeMap::new();
    for message in messages {
        let key = message.key.clone().unwrap();
        match message.value.as_deref().map(data_of) {
            _ if key.starts_with("control:") => {}
            None => {
                tree.remove(&key);
            }
            Some(Some(data)) => {
                tree.insert(key, data);
            }
            Some(None) => {}
        }
    }
    tree
}

fn data_in_record(value: &[u8]) -> Option<Vec<u8>> {
    let record: Value = serde_json::from_slice(value).unwrap();
    let text = record["after"]["data"]["value"].as_str()?;
    Some(text.as_bytes().to_vec())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fold_over_a_compacted_topic_from_its_beginning_is_the_tree() {
    real_servers!("a fold over a compacted topic from its beginning is the tree");
    let bootstrap = rig::shared_broker().await.bootstrap();
    for (format, data_of) in [
        (Format::Record, data_in_record as fn(&[u8]) -> Option<Vec<u8>>),
        (Format::Raw, |value| Some(value.to_vec())),
    ] {
        let mut config = rig::config(&bootstrap, &rig::new_topic_name());
        config.format = format;
        config.tombstones = true;
        config.create_topics = serde_json::from_str(
            r#"{"partitions": 2, "replication": 1, "config": {"cleanup.policy": "compact", "segment.ms": 100,
                "min.cleanable.dirty.ratio": "0.001", "delete.retention.ms": 0}}"#,
        )
        .unwrap();
        let records = some_records(412, 12);
        let mut sink = rig::opened(&config).await;
        rig::deliver(&mut sink, &records).await.unwrap();
        let whole = rig::messages(&bootstrap, &config.topic).await;
        assert!(!tree_of(&records).is_empty() && tree_of(&records).len() < 12);

        // A segment is closed by a record that comes after its time, and the newest is never compacted.
        let mut all = records.clone();
        let give_up = tokio::time::Instant::now() + rig::BOUND;
        let messages = loop {
            assert!(
                tokio::time::Instant::now() < give_up,
                "the topic was not compacted"
            );
            let seq = all.len() as u64 + 1;
            let late = a_record().seq(seq).path(&format!("/late/{}", seq % 4)).arc();
            rig::deliver(&mut sink, &[Arc::clone(&late)]).await.unwrap();
            all.push(late);
            let messages = rig::messages(&bootstrap, &config.topic).await;
            if messages.len() < whole.len() / 2 {
                break messages;
            }
        };
        assert_eq!(tree_in(&messages, data_of), tree_of(&all), "{format:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_deleted_at_work_is_missing_until_it_is_there_again() {
    real_servers!("a topic deleted at work is missing until it is there again");
    let bootstrap = rig::shared_broker().await.bootstrap();
    let topic = rig::create_topic(&bootstrap, 2, &[]).await;
    let mut config = rig::hasty_config(&bootstrap, &topic);
    config.properties.set("topic.metadata.refresh.interval.ms", "500");
    let records = some_records(300, 10);
    let mut sink = rig::opened(&config).await;
    rig::deliver(&mut sink, &records[..100]).await.unwrap();

    let deleted = rig::admin(&bootstrap)
        .delete_topics(&[&topic], &AdminOptions::new())
        .await;
    deleted.unwrap().remove(0).unwrap();
    let failure = rig::deliver(&mut sink, &records[100..]).await.unwrap_err();
    let done = 100 + failure.done;
    let kind = failure.error.unwrap().kind;
    assert!(
        matches!(kind, SinkErrorKind::Missing | SinkErrorKind::Unavailable),
        "{kind}"
    );
    let mut error = None;
    while error.is_none() {
        error = sink
            .open()
            .await
            .err()
            .filter(|error| error.kind == SinkErrorKind::Missing);
    }
    let message = error.unwrap().message;
    assert!(
        message.contains(&topic) && message.contains("create_topics"),
        "{message}"
    );

    rig::create_topic_named(&bootstrap, &topic, 2, &[]).await;
    rig::open_at_last(&mut sink).await;
    rig::deliver_at_last(&mut sink, &records[done..]).await;
    let messages = rig::messages(&bootstrap, &topic).await;
    let arrived: Vec<_> = messages.iter().filter_map(Message::arrived).collect();
    assert_kept_contract(&records[done..], &arrived);
}

#[tokio::test]
async fn partitions_that_are_added_take_paths_over_after_all_that_was_sent() {
    real_servers!("partitions that are added take paths over after all that was sent");
    let bootstrap = rig::shared_broker().await.bootstrap();
    let topic = rig::create_topic(&bootstrap, 2, &[]).await;
    let records = some_records(900, 30);
    let mut sink = rig::opened(&rig::config(&bootstrap, &topic)).await;
    rig::deliver(&mut sink, &records[..300]).await.unwrap();

    let more = NewPartitions::new(&topic, 7);
    let made = rig::admin(&bootstrap)
        .create_partitions(&[more], &AdminOptions::new())
        .await;
    made.unwrap().remove(0).unwrap();
    rig::deliver(&mut sink, &records[300..600]).await.unwrap();
    let used = |messages: &[Message]| messages.iter().map(|one| one.partition).max();
    assert_eq!(
        used(&rig::messages(&bootstrap, &topic).await),
        Some(1),
        "until it is opened again"
    );
    eventually("the partitions to be seen", rig::BOUND, || async {
        rig::count_of_partitions(&bootstrap, &topic).await == 7
    })
    .await
    .unwrap();
    sink.open().await.unwrap();
    rig::deliver(&mut sink, &records[600..]).await.unwrap();

    let messages = rig::messages(&bootstrap, &topic).await;
    assert_eq!(messages.len(), records.len());
    assert!(used(&messages) > Some(1));
    for message in &messages {
        let partitions = if message.seq() <= 600 { 2 } else { 7 };
        let expected = rig::partition_of(message.key.as_deref().unwrap(), partitions);
        assert_eq!(message.partition, expected, "{}", message.seq());
    }
    for partition in 0..7 {
        let mut last: BTreeMap<&str, u64> = BTreeMap::new();
        for message in messages.iter().filter(|one| one.partition == partition) {
            let before = last.insert(message.key.as_deref().unwrap(), message.seq());
            assert!(before.is_none_or(|before| before < message.seq()));
        }
    }
}
