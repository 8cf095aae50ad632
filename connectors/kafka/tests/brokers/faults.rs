//! Brokers that die, stop and are cut off. In all cases nothing is lost, no record passes an earlier one of its path,
//! and while one sink runs nothing arrives twice.

use std::sync::Arc;
use std::time::Duration;

use bridge_core::record::Record;
use bridge_core::sink::{Sink, SinkErrorKind};
use bridge_core::testing::{assert_kept_contract, some_records};
use bridge_kafka::{KafkaConfig, KafkaSink};
use bridge_servers::{Direction, Kafka, eventually, real_servers};

use crate::rig::{self, Message};

/// So many records per delivery; several batches of messages in each partition.
const BATCH: usize = 500;

async fn assert_all_arrived(bootstrap: &str, topic: &str, records: &[Arc<Record>]) -> Vec<Message> {
    let messages = rig::messages(bootstrap, topic).await;
    let arrived: Vec<_> = messages.iter().filter_map(Message::arrived).collect();
    assert_kept_contract(records, &arrived);
    messages
}

fn assert_no_duplicates(messages: &[Message], records: &[Arc<Record>]) {
    assert_eq!(messages.len(), records.len(), "something arrived twice");
}

/// A batch that is in flight while the broker does not answer, as another task.
fn delivering(
    config: &KafkaConfig,
    records: &[Arc<Record>],
) -> tokio::task::JoinHandle<(KafkaSink, Vec<SinkErrorKind>)> {
    let (config, records) = (config.clone(), records.to_vec());
    tokio::spawn(async move {
        let mut sink = rig::opened(&config).await;
        let mut kinds = Vec::new();
        for batch in records.chunks(BATCH) {
            kinds.extend(rig::deliver_at_last(&mut sink, batch).await);
        }
        (sink, kinds)
    })
}

async fn some_arrived(kafka: &Kafka, topic: &str, at_least: usize) {
    let bootstrap = kafka.bootstrap();
    eventually(format!("{at_least} messages"), rig::BOUND, || async {
        rig::count(&bootstrap, topic).await >= at_least
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_killed_and_restarted_in_mid_delivery_loses_and_repeats_nothing() {
    real_servers!("a broker killed and restarted in mid-delivery loses and repeats nothing");
    let kafka = Kafka::builder()
        .property("log.flush.interval.messages", "1")
        .start()
        .await
        .unwrap();
    let topic = rig::create_topic(&kafka.bootstrap(), 3, &[]).await;
    let records = some_records(60_000, 30);
    let task = delivering(&rig::hasty_config(&kafka.bootstrap(), &topic), &records);

    some_arrived(&kafka, &topic, 1_000).await;
    kafka.kill();
    assert!(
        !task.is_finished(),
        "the delivery had ended before the broker was killed"
    );
    kafka.restart().await.unwrap();
    let (mut sink, _) = task.await.unwrap();

    let messages = assert_all_arrived(&kafka.bootstrap(), &topic, &records).await;
    assert_no_duplicates(&messages, &records);
    sink.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_stops_beyond_every_timeout_gets_each_record_once() {
    real_servers!("a broker that stops beyond every timeout gets each record once");
    let kafka = Kafka::start().await.unwrap();
    let topic = rig::create_topic(&kafka.bootstrap(), 3, &[]).await;
    let records = some_records(1_500, 30);
    let mut config = rig::hasty_config(&kafka.bootstrap(), &topic);
    // The client gives its connection up too and sends again on a new one, while the old requests wait in the broker.
    config.properties.set("socket.timeout.ms", "1000");
    let mut sink = rig::opened(&config).await;
    rig::deliver(&mut sink, &records[..500]).await.unwrap();

    kafka.pause().unwrap();
    let failure = rig::deliver(&mut sink, &records[500..1_000]).await.unwrap_err();
    assert_eq!(failure.done, 0);
    assert_eq!(failure.error.unwrap().kind, SinkErrorKind::Unavailable);
    let error = sink.open().await.unwrap_err();
    assert_eq!(error.kind, SinkErrorKind::Unavailable);
    assert!(error.message.contains(&kafka.bootstrap()), "{error}");
    kafka.resume().unwrap();
    rig::open_at_last(&mut sink).await;
    for batch in records[500..].chunks(BATCH) {
        rig::deliver_at_last(&mut sink, batch).await;
    }

    let messages = assert_all_arrived(&kafka.bootstrap(), &topic, &records).await;
    assert_no_duplicates(&messages, &records);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lost_acknowledgements_make_no_duplicate_and_no_inversion() {
    real_servers!("lost acknowledgements make no duplicate and no inversion");
    let kafka = Kafka::builder().behind_proxy().start().await.unwrap();
    let topic = rig::create_topic(&kafka.bootstrap(), 3, &[]).await;
    let records = some_records(20_000, 30);
    let mut config = rig::hasty_config(&kafka.proxied_bootstrap(), &topic);
    // So that the time goes into deliveries, and not into waiting after each cut.
    config.properties.set("reconnect.backoff.max.ms", "200");
    let task = delivering(&config, &records);

    let mut cuts = 0;
    while !task.is_finished() {
        // Far enough that some answers get through, so that the delivery goes on between two cuts.
        kafka
            .proxy()
            .reset_after(Direction::ToClient, 3_000)
            .await
            .unwrap();
        let before = kafka.proxy().forwarded(Direction::ToClient);
        let moved =
            || async { task.is_finished() || kafka.proxy().forwarded(Direction::ToClient) >= before + 3_000 };
        eventually("answers", rig::BOUND, moved).await.unwrap();
        cuts += 1;
    }
    let (_sink, kinds) = task.await.unwrap();

    assert!(cuts >= 3, "the connection was cut {cuts} times only");
    let messages = assert_all_arrived(&kafka.bootstrap(), &topic, &records).await;
    assert_no_duplicates(&messages, &records);
    assert!(
        kinds.iter().all(|kind| *kind == SinkErrorKind::Unavailable),
        "{kinds:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_half_open_connection_heals_without_loss_or_duplicate() {
    real_servers!("a half-open connection heals without loss or duplicate");
    let kafka = Kafka::builder().behind_proxy().start().await.unwrap();
    let topic = rig::create_topic(&kafka.bootstrap(), 3, &[]).await;
    let records = some_records(2_000, 30);
    let mut config = rig::hasty_config(&kafka.proxied_bootstrap(), &topic);
    config.properties.set("socket.timeout.ms", "1000");
    let mut sink = rig::opened(&config).await;
    rig::deliver(&mut sink, &records[..500]).await.unwrap();

    kafka.proxy().dark().await.unwrap();
    let failure = rig::deliver(&mut sink, &records[500..1_000]).await.unwrap_err();
    assert_eq!(failure.error.unwrap().kind, SinkErrorKind::Unavailable);
    kafka.proxy().restore().await.unwrap();
    rig::open_at_last(&mut sink).await;
    for batch in records[500..].chunks(BATCH) {
        rig::deliver_at_last(&mut sink, batch).await;
    }

    let messages = assert_all_arrived(&kafka.bootstrap(), &topic, &records).await;
    assert_no_duplicates(&messages, &records);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn closing_while_the_broker_is_silent_ends_within_its_bound() {
    real_servers!("closing while the broker is silent ends within its bound");
    let kafka = Kafka::start().await.unwrap();
    let topic = rig::create_topic(&kafka.bootstrap(), 1, &[]).await;
    let records = some_records(100, 3);
    let config = rig::hasty_config(&kafka.bootstrap(), &topic);
    let mut sink = rig::opened(&config).await;

    kafka.pause().unwrap();
    rig::deliver(&mut sink, &records).await.unwrap_err();
    let closed = tokio::time::timeout(Duration::from_secs(15), sink.close()).await;
    closed.expect("close ends within its bound").unwrap();
    kafka.resume().unwrap();

    let mut sink = rig::opened(&config).await;
    rig::deliver_at_last(&mut sink, &records).await;
    assert_all_arrived(&kafka.bootstrap(), &topic, &records).await;
}
