//! Errors that a real broker gives too rarely to wait for, injected into librdkafka's mock of one. Needs no server.
//!
//! The mock checks the sequence numbers of transactional producers only (librdkafka 2.12, `rdkafka_mock.c`,
//! `rd_kafka_mock_validate_records`): from the sink's it takes a request that follows one that it refused, which a real
//! broker does not. `max.in.flight` = 1 does not prevent this: librdkafka makes the next request of a partition while one
//! waits for its answer (`rdkafka_broker.c`, `rd_kafka_broker_outbufs_space`), and sends it also after a fatal error. So
//! no partition has more than one message under way here when the error comes; the order between several is tried in
//! `refusals`.

use std::sync::Arc;
use std::time::Instant;

use bridge_core::amount::Span;
use bridge_core::record::Record;
use bridge_core::sink::{DeliverError, Extent, Sink, SinkErrorKind};
use bridge_core::testing::{a_record, assert_kept_contract, some_records};
use bridge_kafka::KafkaConfig;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr as Injected};

use crate::rig::{self, Message};

type Mock = MockCluster<'static, DefaultProducerContext>;

const TOPIC: &str = "changes";

const PARTITIONS: i32 = 3;

fn mock() -> (Mock, KafkaConfig) {
    let mock = MockCluster::new(1).unwrap();
    mock.create_topic(TOPIC, PARTITIONS, 1).unwrap();
    let config = rig::config(&mock.bootstrap_servers(), TOPIC);
    (mock, config)
}

/// Rounds of records, in each of them one for every partition.
fn rounds(count: u64) -> Vec<Vec<Arc<Record>>> {
    let paths: Vec<String> = (0..PARTITIONS).map(path_in).collect();
    let mut seqs = 1..;
    let mut round = |_| {
        let records = paths.iter().zip(&mut seqs);
        records
            .map(|(path, seq)| a_record().seq(seq).path(path).after(format!("value {seq}")).arc())
            .collect()
    };
    (0..count).map(&mut round).collect()
}

fn path_in(partition: i32) -> String {
    let mut paths = (0..1_000).map(|number| format!("/path-{number}"));
    paths
        .find(|path| rig::partition_of(path, PARTITIONS) == partition)
        .unwrap()
}

/// Injects an error into the first message of a producer, which travels alone, and then into one of several that are
/// under way to a partition each. Returns the kinds of the errors met, of each.
async fn kinds_after(error: Injected) -> [Vec<SinkErrorKind>; 2] {
    [kinds_after_alone(error).await, kinds_in_company(error).await]
}

async fn kinds_after_alone(error: Injected) -> Vec<SinkErrorKind> {
    let (mock, config) = mock();
    let records = some_records(60, 6);
    let mut sink = rig::opened(&config).await;

    mock.request_errors(RDKafkaApiKey::Produce, &[error]);
    let kinds = rig::deliver_at_last(&mut sink, &records).await;

    assert_all_arrived(&config, &records).await;
    kinds
}

async fn kinds_in_company(error: Injected) -> Vec<SinkErrorKind> {
    let (mock, config) = mock();
    let rounds = rounds(6);
    let mut sink = rig::opened(&config).await;
    // Every partition knows the producer from here on.
    rig::deliver(&mut sink, &rounds[0]).await.unwrap();

    mock.request_errors(RDKafkaApiKey::Produce, &[error]);
    let mut kinds = Vec::new();
    for round in &rounds[1..] {
        kinds.extend(rig::deliver_at_last(&mut sink, round).await);
    }

    assert_all_arrived(&config, &rounds.concat()).await;
    kinds
}

async fn assert_all_arrived(config: &KafkaConfig, records: &[Arc<Record>]) {
    let messages = rig::messages(&config.brokers, TOPIC).await;
    let arrived: Vec<_> = messages.iter().filter_map(Message::arrived).collect();
    assert_kept_contract(records, &arrived);
}

#[tokio::test]
async fn a_producer_that_can_never_go_on_is_replaced_and_nothing_is_lost() {
    for (error, expected) in [
        (
            Injected::RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER,
            SinkErrorKind::Broken,
        ),
        (
            Injected::RD_KAFKA_RESP_ERR_INVALID_PRODUCER_EPOCH,
            SinkErrorKind::Broken,
        ),
        (
            Injected::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED,
            SinkErrorKind::Authorization,
        ),
        (
            Injected::RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED,
            SinkErrorKind::Authorization,
        ),
        (
            Injected::RD_KAFKA_RESP_ERR_UNSUPPORTED_COMPRESSION_TYPE,
            SinkErrorKind::Configuration,
        ),
    ] {
        assert_eq!(kinds_after(error).await, [[expected], [expected]], "{error:?}");
    }
}

#[tokio::test]
async fn a_condition_that_ends_by_itself_is_no_error() {
    for error in [
        Injected::RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION,
        Injected::RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS,
        Injected::RD_KAFKA_RESP_ERR_KAFKA_STORAGE_ERROR,
        Injected::RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT,
        Injected::RD_KAFKA_RESP_ERR_UNKNOWN_PRODUCER_ID,
    ] {
        assert_eq!(kinds_after(error).await, [[], []], "{error:?}");
    }
}

/// Two brokers. The second one leads one partition of the topic `changes`.
fn two_brokers() -> (Mock, KafkaConfig) {
    let mock = MockCluster::new(2).unwrap();
    mock.create_topic(TOPIC, PARTITIONS, 1).unwrap();
    for partition in 0..PARTITIONS {
        let leader = if partition == 1 { 2 } else { 1 };
        mock.partition_leader(TOPIC, partition, Some(leader)).unwrap();
    }
    let mut config = rig::config(&mock.bootstrap_servers(), TOPIC);
    config.timeout = Span::millis(2_000);
    (mock, config)
}

fn deferred(failure: &DeliverError) -> Vec<u64> {
    failure.deferred.iter().map(|one| one.seq.0).collect()
}

#[tokio::test]
async fn a_partition_that_acknowledges_nothing_costs_its_own_records_and_no_others() {
    let (mock, config) = two_brokers();
    let rounds = rounds(6);
    let mut sink = rig::opened(&config).await;
    rig::deliver(&mut sink, &rounds[0]).await.unwrap();

    mock.broker_down(2).unwrap();
    let failure = rig::deliver(&mut sink, &rounds[1]).await.unwrap_err();
    assert_eq!((failure.done, failure.error.is_none()), (3, true), "{failure:?}");
    assert_eq!(deferred(&failure), [rounds[1][1].seq.0]);
    let error = &failure.deferred[0].error;
    assert_eq!(error.kind, SinkErrorKind::Unavailable);
    for words in [
        "partition 1 of topic 'changes'",
        "min.insync.replicas",
        &config.brokers,
    ] {
        assert!(error.message.contains(words), "{error}");
    }

    // From now on nothing waits for it: neither a retry, nor others beside records of the partition.
    let began = Instant::now();
    let alone = rig::deliver(&mut sink, &rounds[1][1..2]).await.unwrap_err();
    assert_eq!((alone.done, alone.extent), (0, Extent::Unknown), "{alone:?}");
    sink.open().await.unwrap();
    for round in &rounds[2..] {
        let failure = rig::deliver(&mut sink, round).await.unwrap_err();
        assert_eq!((failure.done, failure.error.is_none()), (3, true), "{failure:?}");
        assert_eq!(deferred(&failure), [round[1].seq.0]);
    }
    assert!(began.elapsed() < config.timeout.0, "{:?}", began.elapsed());

    mock.broker_up(2).unwrap();
    let held: Vec<_> = rounds[1..].iter().map(|round| Arc::clone(&round[1])).collect();
    rig::deliver_at_last(&mut sink, &held).await;
    assert_all_arrived(&config, &rounds.concat()).await;
    let count = rig::messages(&config.brokers, TOPIC).await.len();
    assert_eq!(count, rounds.concat().len(), "each once");
}

#[tokio::test]
async fn the_only_records_of_a_partition_that_acknowledges_nothing_keep_no_later_ones_waiting() {
    let (mock, config) = two_brokers();
    let rounds = rounds(2);
    let mut sink = rig::opened(&config).await;

    mock.broker_down(2).unwrap();
    let alone = rig::deliver(&mut sink, &rounds[0][1..2]).await.unwrap_err();
    assert_eq!((alone.done, alone.extent), (0, Extent::Unknown), "{alone:?}");
    sink.open().await.unwrap();
    let extended = [&rounds[0][1..2], &rounds[1]].concat();
    let failure = rig::deliver(&mut sink, &extended).await.unwrap_err();

    assert_eq!((failure.done, failure.error.is_none()), (4, true), "{failure:?}");
    assert_eq!(deferred(&failure), [2, 5]);
}

#[tokio::test]
async fn a_hundred_topics_that_acknowledge_nothing_cost_two_waits() {
    let mock = MockCluster::new(2).unwrap();
    let bad: Vec<String> = (0..100).map(|number| format!("bad-{number}")).collect();
    for topic in bad.iter().map(String::as_str).chain(["good"]) {
        mock.create_topic(topic, 1, 1).unwrap();
        let leader = if topic == "good" { 1 } else { 2 };
        mock.partition_leader(topic, 0, Some(leader)).unwrap();
    }
    let mut config = rig::config(&mock.bootstrap_servers(), "{{ names[0] }}");
    config.timeout = Span::millis(3_000);
    let mut sink = rig::opened(&config).await;
    mock.broker_down(2).unwrap();
    // Two of each, so that the second one waits for the first.
    let topics = bad
        .iter()
        .flat_map(|topic| [topic.as_str(), topic])
        .chain(["good"]);
    let records: Vec<_> = topics
        .zip(1..)
        .map(|(topic, seq)| a_record().seq(seq).path(&format!("/{topic}")).arc())
        .collect();

    let began = Instant::now();
    let failure = rig::deliver(&mut sink, &records).await.unwrap_err();

    assert_eq!(
        (failure.done, failure.error.is_none()),
        (201, true),
        "{failure:?}"
    );
    assert_eq!(failure.deferred.len(), 200);
    assert!(began.elapsed() < rig::BOUND / 2, "{:?}", began.elapsed());
    mock.broker_up(2).unwrap();
    assert_eq!(rig::messages(&config.brokers, "good").await.len(), 1);
}

#[tokio::test]
async fn a_batch_refused_for_one_record_is_asked_record_by_record_before_any_is_blamed() {
    let invalid = Injected::RD_KAFKA_RESP_ERR_INVALID_RECORD;
    assert_eq!(kinds_after(invalid).await, [[], []], "none is refused alone");

    let (mock, config) = mock();
    // One path, and no control record yet: one partition.
    let records = some_records(16, 1);
    let mut sink = rig::opened(&config).await;
    // The first, which travels alone, is refused, and again when it is asked alone.
    mock.request_errors(RDKafkaApiKey::Produce, &[invalid, invalid]);
    let failure = rig::deliver(&mut sink, &records).await.unwrap_err();

    assert!(failure.error.is_none(), "{:?}", failure.error);
    assert_eq!(failure.done, records.len());
    let rejected: Vec<u64> = failure.rejected.iter().map(|one| one.seq.0).collect();
    assert_eq!(rejected.len(), 1, "{rejected:?}");
    let expected: Vec<_> = records
        .into_iter()
        .filter(|record| record.seq.0 != rejected[0])
        .collect();
    assert_all_arrived(&config, &expected).await;
}
