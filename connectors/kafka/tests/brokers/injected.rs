//! Errors that a real broker gives too rarely to wait for, injected into librdkafka's mock of one. Needs no server.
//!
//! The mock checks the sequence numbers of transactional producers only (librdkafka 2.12, `rdkafka_mock.c`,
//! `rd_kafka_mock_validate_records`): from the sink's it takes a request behind one that it refused, which a real broker
//! does not. So only one request is under way here; the order between several is tried in `refusals`.

use bridge_core::sink::SinkErrorKind;
use bridge_core::testing::{assert_kept_contract, some_records};
use bridge_kafka::KafkaConfig;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr as Injected};

use crate::rig::{self, Message};

type Mock = MockCluster<'static, DefaultProducerContext>;

const TOPIC: &str = "changes";

fn mock() -> (Mock, KafkaConfig) {
    let mock = MockCluster::new(1).unwrap();
    mock.create_topic(TOPIC, 2, 1).unwrap();
    let mut config = rig::config(&mock.bootstrap_servers(), TOPIC);
    config.properties.set("max.in.flight", "1");
    (mock, config)
}

/// Injects errors into the produce requests of one delivery, and returns the kinds of the errors that came of it.
async fn kinds_after(errors: &[Injected]) -> Vec<SinkErrorKind> {
    let (mock, config) = mock();
    let records = some_records(60, 6);
    let mut sink = rig::opened(&config).await;
    rig::deliver(&mut sink, &records[..20]).await.unwrap();

    mock.request_errors(RDKafkaApiKey::Produce, errors);
    let kinds = rig::deliver_at_last(&mut sink, &records[20..]).await;

    let messages = rig::messages(&config.brokers, TOPIC).await;
    let arrived: Vec<_> = messages.iter().filter_map(Message::arrived).collect();
    assert_kept_contract(&records, &arrived);
    kinds
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
        assert_eq!(kinds_after(&[error]).await, [expected], "{error:?}");
    }
}

#[tokio::test]
async fn what_heals_by_itself_is_no_error() {
    for error in [
        Injected::RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION,
        Injected::RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS,
        Injected::RD_KAFKA_RESP_ERR_KAFKA_STORAGE_ERROR,
        Injected::RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT,
        Injected::RD_KAFKA_RESP_ERR_UNKNOWN_PRODUCER_ID,
    ] {
        assert_eq!(kinds_after(&[error]).await, [], "{error:?}");
    }
}

#[tokio::test]
async fn a_batch_refused_for_one_record_is_asked_record_by_record_before_any_is_blamed() {
    let invalid = Injected::RD_KAFKA_RESP_ERR_INVALID_RECORD;
    assert_eq!(kinds_after(&[invalid]).await, [], "none is refused alone");

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
    let messages = rig::messages(&config.brokers, TOPIC).await;
    let arrived: Vec<_> = messages.iter().filter_map(Message::arrived).collect();
    assert_kept_contract(&expected, &arrived);
}
