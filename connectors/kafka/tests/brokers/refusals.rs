//! Refusals of brokers, and their reports.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bridge_core::format::Format;
use bridge_core::record::Record;
use bridge_core::sink::{Extent, Sink, SinkErrorKind};
use bridge_core::testing::{a_record, assert_kept_contract, some_records};
use bridge_kafka::{Compression, CreateTopics, KafkaConfig};
use bridge_servers::{Direction, Kafka, eventually, real_servers};

use crate::rig::{self, Message};

/// Text that compression makes no smaller.
fn noise(bytes: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let letter = |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_"[(state >> 58) as usize]
    };
    (0..bytes).map(letter).collect()
}

/// Records of a few paths in turn; the value of those in `large` has so many bytes.
fn records_with(count: u64, large: &[u64], bytes: usize) -> Vec<Arc<Record>> {
    let record = |seq: u64| {
        let record = a_record()
            .seq(seq)
            .path(&format!("/services/{}", seq % 5))
            .before("");
        if large.contains(&seq) {
            return record.after(noise(bytes)).limit(bytes).arc();
        }
        record.after(format!("value {seq}")).arc()
    };
    (1..=count).map(record).collect()
}

/// The large ones arrive with the beginning of their value, all others as they are, and all in their order.
async fn assert_only_cut(
    topic: &str,
    config: &KafkaConfig,
    records: &[Arc<Record>],
    large: &[u64],
    most: usize,
) {
    let mut sink = rig::opened(config).await;

    rig::deliver(&mut sink, records).await.unwrap();

    assert_eq!(sink.take_shrunk(), large.len() as u64);
    let messages = rig::messages(&config.brokers, topic).await;
    let (cut, whole): (Vec<_>, Vec<_>) = messages.iter().partition(|one| large.contains(&one.seq()));
    for message in cut {
        let sent = records
            .iter()
            .find(|record| record.seq.0 == message.seq())
            .unwrap();
        assert_cut(message, sent, most);
    }
    let arrived: Vec<_> = whole.into_iter().filter_map(Message::arrived).collect();
    let expected: Vec<_> = records
        .iter()
        .filter(|record| !large.contains(&record.seq.0))
        .cloned()
        .collect();
    assert_kept_contract(&expected, &arrived);
    for path in 0..5 {
        // Records after the refused ones in other partitions may come twice.
        let mut seen = BTreeSet::new();
        let is_new = |seq: &u64| seq % 5 == path && seen.insert(*seq);
        let seqs: Vec<u64> = messages.iter().map(Message::seq).filter(is_new).collect();
        let expected = records
            .iter()
            .map(|record| record.seq.0)
            .filter(|seq| seq % 5 == path);
        assert!(seqs.iter().copied().eq(expected), "{seqs:?}");
    }
}

/// It is the beginning of the value and says so; no more is missing than has to.
fn assert_cut(message: &Message, sent: &Record, most: usize) {
    let value = message.value.as_deref().unwrap();
    let arrived: Record = serde_json::from_slice(value).unwrap();
    let data = |record: &Record| record.after.clone().unwrap().data.unwrap();
    let (cut, whole) = (data(&arrived), data(sent));
    assert!(cut.truncated && whole.bytes.starts_with(&cut.bytes));
    assert_eq!(
        (cut.size, arrived.id, &arrived.path),
        (whole.size, sent.id, &sent.path)
    );
    assert_eq!(data(&arrived).size as usize, whole.bytes.len());
    assert!(arrived.before.unwrap().data.unwrap().bytes.is_empty());
    assert!(
        (most - 600..most).contains(&value.len()),
        "{} of {most}",
        value.len()
    );
}

#[tokio::test]
async fn a_record_too_large_for_the_broker_is_cut_and_its_neighbours_arrive_in_order() {
    real_servers!("a record too large for the broker is cut and its neighbours arrive in order");
    let bootstrap = rig::shared_broker().await.bootstrap();
    let topic = rig::create_topic(&bootstrap, 3, &[]).await;
    let records = records_with(60, &[20, 21, 60], 2_000_000);
    let config = rig::config(&bootstrap, &topic);
    assert_only_cut(&topic, &config, &records, &[20, 21, 60], 1_048_588).await;
}

#[tokio::test]
async fn a_record_refused_in_company_is_found_among_its_neighbours() {
    real_servers!("a record refused in company is found among its neighbours");
    let bootstrap = rig::shared_broker().await.bootstrap();
    // Far below the size of a batch, so that the large record shares one with others; and small batches, so that some
    // after it are under way when it is refused.
    let topic = rig::create_topic(&bootstrap, 1, &[("max.message.bytes", "20000")]).await;
    let mut config = rig::config(&bootstrap, &topic);
    config.properties.set("batch.num.messages", "5");
    let records = records_with(400, &[111], 30_000);
    assert_only_cut(&topic, &config, &records, &[111], 20_000).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_passes_a_record_refused_in_a_producers_first_batch() {
    real_servers!("nothing passes a record refused in a producer's first batch");
    let kafka = Kafka::builder().behind_proxy().start().await.unwrap();
    let topic = rig::create_topic(&kafka.bootstrap(), 2, &[("max.message.bytes", "20000")]).await;
    let mut config = rig::config(&kafka.proxied_bootstrap(), &topic);
    config.properties.set("batch.num.messages", "5");
    // So that the bytes on the wire can be counted: the first request has 31 kB, each of the others 10.
    config.compression = Compression::None;
    let record = |seq: u64, path: &str, bytes: usize| {
        a_record()
            .seq(seq)
            .path(path)
            .before("")
            .after(noise(bytes))
            .limit(bytes)
            .arc()
    };
    let mut sink = rig::opened(&config).await;
    // The producer has its identity now, and a connection; the broker knows it in this one partition.
    rig::deliver(&mut sink, &[record(1, "/other-0", 10)])
        .await
        .unwrap();
    let known = rig::messages(&kafka.bootstrap(), &topic).await[0].partition;
    let path = path_of_other_partition(known);
    let mut records = vec![record(2, &path, 30_000)];
    records.extend((3..60).map(|seq| record(seq, &path, 1_500)));

    // All that the sink is willing to send lies in the broker's socket when it refuses the first of it. A sink that does
    // not hold the others back has sent a second request by then.
    kafka.pause().unwrap();
    let before = kafka.proxy().forwarded(Direction::ToServer);
    let to_deliver = records.clone();
    let task = tokio::spawn(async move { (rig::deliver(&mut sink, &to_deliver).await, sink) });
    let sent = || kafka.proxy().forwarded(Direction::ToServer) - before;
    eventually("the first request", rig::BOUND, || async { sent() > 30_000 })
        .await
        .unwrap();
    let second = eventually("a second", Duration::from_secs(2), || async { sent() > 36_000 }).await;
    assert!(
        second.is_err(),
        "{} bytes were sent before the first was acknowledged",
        sent()
    );
    kafka.resume().unwrap();
    let (delivered, _sink) = task.await.unwrap();

    delivered.unwrap();
    let messages = rig::messages(&kafka.bootstrap(), &topic).await;
    let arrived: Vec<_> = messages
        .iter()
        .filter(|message| message.partition != known)
        .map(Message::seq)
        .collect();
    let expected: Vec<u64> = records.iter().map(|record| record.seq.0).collect();
    assert_eq!(
        arrived, expected,
        "something was taken before the refused record was settled"
    );
}

/// A path whose messages go to the other one of two partitions.
fn path_of_other_partition(known: i32) -> String {
    let mut paths = (0..100).map(|number| format!("/path-{number}"));
    paths.find(|path| rig::partition_of(path, 2) != known).unwrap()
}

#[tokio::test]
async fn a_record_too_large_for_the_sinks_own_limit_is_cut_without_a_resend() {
    real_servers!("a record too large for the sink's own limit is cut without a resend");
    let bootstrap = rig::shared_broker().await.bootstrap();
    let topic = rig::create_topic(&bootstrap, 3, &[]).await;
    let mut config = rig::config(&bootstrap, &topic);
    config.properties.set("message.max.bytes", "10000");
    let records = records_with(60, &[20], 20_000);
    assert_only_cut(&topic, &config, &records, &[20], 10_000).await;
}

#[tokio::test]
async fn what_compression_makes_small_enough_is_not_cut() {
    real_servers!("what compression makes small enough is not cut");
    let bootstrap = rig::shared_broker().await.bootstrap();
    let topic = rig::create_topic(&bootstrap, 1, &[("max.message.bytes", "20000")]).await;
    let large = "b".repeat(900_000);
    let records = [a_record().seq(1).before(&large).after(&large).arc()];
    let mut sink = rig::opened(&rig::config(&bootstrap, &topic)).await;

    rig::deliver(&mut sink, &records).await.unwrap();

    assert_eq!(sink.take_shrunk(), 0);
    let messages = rig::messages(&bootstrap, &topic).await;
    let arrived: Vec<_> = messages.iter().filter_map(Message::arrived).collect();
    assert_kept_contract(&records, &arrived);
}

#[tokio::test]
async fn every_form_of_a_large_record_is_cut_where_nothing_is_compressed() {
    real_servers!("every form of a large record is cut where nothing is compressed");
    let bootstrap = rig::shared_broker().await.bootstrap();
    for &format in Format::ALL.iter().filter(|format| !format.is_of_services()) {
        let topic = rig::create_topic(&bootstrap, 1, &[("max.message.bytes", "20000")]).await;
        let mut config = rig::config(&bootstrap, &topic);
        config.compression = Compression::None;
        config.format = format;
        let mut sink = rig::opened(&config).await;
        let large = |seq| {
            a_record()
                .seq(seq)
                .before(noise(900_000))
                .after(noise(900_000))
                .arc()
        };
        // The second is cut before it is sent: the topic's limit is known by then.
        for seq in [1, 2] {
            rig::deliver(&mut sink, &[large(seq)]).await.unwrap();
            assert_eq!(sink.take_shrunk(), 1, "{format:?}");
        }
        let messages = rig::messages(&bootstrap, &topic).await;
        assert_eq!(messages.len(), 2, "{format:?}");
        for message in &messages {
            let bytes = message.value.as_ref().unwrap().len();
            assert!((18_500..20_000).contains(&bytes), "{format:?}: {bytes}");
            let truncated = message.headers.get("zkbridge-truncated").map(String::as_str);
            assert_eq!(truncated, (format == Format::Raw).then_some("900000"));
        }
    }
}

#[tokio::test]
async fn a_record_too_large_without_its_data_is_rejected_and_its_neighbours_arrive() {
    real_servers!("a record too large without its data is rejected and its neighbours arrive");
    let bootstrap = rig::shared_broker().await.bootstrap();
    let topic = rig::create_topic(&bootstrap, 1, &[("max.message.bytes", "4000")]).await;
    let mut config = rig::config(&bootstrap, &topic);
    // So that a batch of small ones is no suspect.
    config.properties.set("batch.num.messages", "1");
    let long = format!("/{}", String::from_utf8(noise(6_000)).unwrap());
    let records = [
        a_record().seq(1).arc(),
        a_record().seq(2).path(&long).arc(),
        a_record().seq(3).arc(),
    ];
    let mut sink = rig::opened(&config).await;

    let failure = rig::deliver(&mut sink, &records).await.unwrap_err();

    assert!(failure.error.is_none(), "{:?}", failure.error);
    assert_eq!((failure.done, failure.rejected.len()), (3, 1));
    let reason = &failure.rejected[0].reason;
    assert!(
        reason.contains("too large") && reason.contains(&topic),
        "{reason}"
    );
    let messages = rig::messages(&bootstrap, &topic).await;
    assert_eq!(messages.iter().map(Message::seq).collect::<Vec<_>>(), [1, 3]);
}

#[tokio::test]
async fn batches_too_large_for_a_topic_are_made_smaller_and_no_record_is_blamed() {
    real_servers!("batches too large for a topic are made smaller and no record is blamed");
    let bootstrap = rig::shared_broker().await.bootstrap();
    let topic = rig::create_topic(&bootstrap, 1, &[("max.message.bytes", "100000")]).await;
    let large: Vec<u64> = (1..=40).collect();
    let records = records_with(40, &large, 40_000);
    let mut sink = rig::opened(&rig::config(&bootstrap, &topic)).await;

    rig::deliver(&mut sink, &records).await.unwrap();

    let messages = rig::messages(&bootstrap, &topic).await;
    let arrived: Vec<_> = messages.iter().filter_map(Message::arrived).collect();
    assert_kept_contract(&records, &arrived);
}

#[tokio::test]
async fn a_record_without_a_topic_is_rejected_and_the_others_arrive() {
    real_servers!("a record without a topic is rejected and the others arrive");
    let bootstrap = rig::shared_broker().await.bootstrap();
    let prefix = rig::new_topic_name();
    let mut config = rig::config(&bootstrap, &format!("{prefix}.{{{{ names[0] }}}}"));
    config.create_topics = CreateTopics::Yes(Default::default());
    let mut sink = rig::opened(&config).await;
    let records: Vec<_> = ["/a", "/b c", "/a"]
        .into_iter()
        .zip(1..)
        .map(|(path, seq)| a_record().seq(seq).path(path).arc())
        .collect();

    let failure = rig::deliver(&mut sink, &records).await.unwrap_err();

    assert!(failure.error.is_none());
    assert_eq!(failure.done, 3);
    assert_eq!(failure.rejected.len(), 1);
    assert_eq!(failure.rejected[0].seq.0, 2);
    assert!(
        failure.rejected[0].reason.contains("b c"),
        "{}",
        failure.rejected[0].reason
    );
    let messages = rig::messages(&bootstrap, &format!("{prefix}.a")).await;
    assert_eq!(messages.iter().map(Message::seq).collect::<Vec<_>>(), [1, 3]);
}

#[tokio::test]
async fn a_topic_that_is_not_there_is_missing_until_it_is() {
    real_servers!("a topic that is not there is missing until it is");
    let bootstrap = rig::shared_broker().await.bootstrap();
    let topic = rig::new_topic_name();
    let mut config = rig::config(&bootstrap, &topic);
    let error = rig::sink(&config).open().await.unwrap_err();
    assert_eq!(error.kind, SinkErrorKind::Missing);
    for part in [topic.as_str(), "create_topics", &bootstrap] {
        assert!(error.message.contains(part), "{error}");
    }

    config.create_topics = serde_json::from_str(
        r#"{"partitions": 4, "replication": 1, "config": {"cleanup.policy": "compact"}}"#,
    )
    .unwrap();
    let mut sink = rig::opened(&config).await;
    // A second sink, and a second open, find it there.
    rig::opened(&config).await;
    sink.open().await.unwrap();
    let records = some_records(50, 20);
    rig::deliver(&mut sink, &records).await.unwrap();
    let messages = rig::messages(&bootstrap, &topic).await;
    assert_eq!(messages.len(), 50);
    assert!(messages.iter().any(|message| message.partition == 3));
    assert_eq!(
        rig::topic_setting(&bootstrap, &topic, "cleanup.policy").await,
        "compact"
    );
}

#[tokio::test]
async fn a_topic_of_a_template_that_is_missing_holds_its_own_records_and_no_others() {
    real_servers!("a topic of a template that is missing holds its own records and no others");
    let bootstrap = rig::shared_broker().await.bootstrap();
    let there = rig::create_topic(&bootstrap, 1, &[]).await;
    let config = rig::config(&bootstrap, "{{ names[0] }}");
    let mut sink = rig::opened(&config).await;
    let records: Vec<_> = [there.as_str(), &there, "not-there", &there, "not-there"]
        .into_iter()
        .zip(1..)
        .map(|(name, seq)| a_record().seq(seq).path(&format!("/{name}")).arc())
        .collect();

    let failure = rig::deliver(&mut sink, &records).await.unwrap_err();

    assert_eq!((failure.done, failure.error.is_none()), (5, true), "{failure:?}");
    let deferred: Vec<u64> = failure.deferred.iter().map(|one| one.seq.0).collect();
    assert_eq!(deferred, [3, 5]);
    let error = &failure.deferred[0].error;
    assert_eq!(error.kind, SinkErrorKind::Missing);
    assert!(error.message.contains("not-there"), "{error}");
    let messages = rig::messages(&bootstrap, &there).await;
    assert_eq!(messages.iter().map(Message::seq).collect::<Vec<_>>(), [1, 2, 4]);

    // Alone it does not show whether the brokers take anything.
    let failure = rig::deliver(&mut sink, &records[2..3]).await.unwrap_err();
    assert_eq!(
        (failure.done, failure.extent),
        (0, Extent::Unknown),
        "{failure:?}"
    );
    assert_eq!(failure.error.unwrap().kind, SinkErrorKind::Missing);
}

#[tokio::test]
async fn a_topic_that_differs_from_another_in_dots_and_underscores_costs_its_own_records_and_no_others() {
    real_servers!(
        "a topic that differs from another in dots and underscores costs its own records and no others"
    );
    let bootstrap = rig::shared_broker().await.bootstrap();
    let prefix = rig::new_topic_name();
    let topic = format!("{prefix}.{{{{ path | replace('/', '.') | trim('.') }}}}");
    let mut config = rig::config(&bootstrap, &topic);
    config.create_topics = CreateTopics::Yes(Default::default());
    let mut sink = rig::opened(&config).await;
    let records: Vec<_> = [
        "/apps/pay.ments",
        "/apps/pay_ments",
        "/apps/pay.ments",
        "/apps/other",
    ]
    .into_iter()
    .zip(1..)
    .map(|(path, seq)| a_record().seq(seq).path(path).arc())
    .collect();

    let failure = rig::deliver(&mut sink, &records).await.unwrap_err();

    assert_eq!((failure.done, failure.error.is_none()), (4, true), "{failure:?}");
    let rejected: Vec<u64> = failure.rejected.iter().map(|one| one.seq.0).collect();
    assert_eq!(rejected, [2]);
    let reason = &failure.rejected[0].reason;
    for words in [
        "apps.pay_ments",
        "collides with topic",
        "apps.pay.ments",
        "filter topic_strict",
    ] {
        assert!(reason.contains(words), "{reason}");
    }
    let messages = rig::messages(&bootstrap, &format!("{prefix}.apps.pay.ments")).await;
    assert_eq!(messages.iter().map(Message::seq).collect::<Vec<_>>(), [1, 3]);
}

#[tokio::test]
async fn a_topic_that_a_cluster_cannot_create_is_an_error_of_the_configuration() {
    real_servers!("what a cluster cannot create is an error of the configuration");
    let bootstrap = rig::shared_broker().await.bootstrap();
    for (settings, expected) in [
        (r#"{"replication": 3}"#, SinkErrorKind::Configuration),
        (
            r#"{"config": {"no.such.setting": 1}}"#,
            SinkErrorKind::Configuration,
        ),
    ] {
        let mut config = rig::config(&bootstrap, &rig::new_topic_name());
        config.create_topics = serde_json::from_str(settings).unwrap();
        let error = rig::sink(&config).open().await.unwrap_err();
        assert_eq!(error.kind, expected, "{error}");
        assert!(error.message.contains("cannot be created"), "{error}");
    }
}

#[tokio::test]
async fn a_broker_that_is_down_is_unavailable_under_its_address() {
    real_servers!("a broker that is down is unavailable under its address");
    // A port that was free a moment ago.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    drop(listener);
    for topic in ["changes", "{{ names | topic }}"] {
        let error = rig::sink(&rig::config(&address, topic)).open().await.unwrap_err();
        assert_eq!(error.kind, SinkErrorKind::Unavailable, "{error}");
        assert!(error.message.contains(&address), "{error}");
    }
}
