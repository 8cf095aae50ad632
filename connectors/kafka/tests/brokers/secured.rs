//! Certificates, passwords and rights: what is refused, how it is reported, and that delivery goes on once it is mended.

use std::sync::Arc;

use bridge_core::record::Record;
use bridge_core::sink::{Sink, SinkError, SinkErrorKind};
use bridge_core::testing::{assert_kept_contract, some_records};
use bridge_kafka::{Compression, CreateTopics, KafkaConfig};
use bridge_servers::real_servers;

use crate::guards::{self, ELSEWHERE, Guarded, MUTUAL, PASSWORD, SCRAM, SCRAMS, TLS};
use crate::rig::{self, Message};

async fn assert_all_arrived(guarded: &Guarded, topic: &str, records: &[Arc<Record>]) {
    let messages = rig::messages(&guarded.kafka.bootstrap(), topic).await;
    let arrived: Vec<_> = messages.iter().filter_map(Message::arrived).collect();
    assert_kept_contract(records, &arrived);
    assert_eq!(arrived.len(), records.len(), "something arrived twice");
}

async fn assert_delivers(guarded: &Guarded, config: &KafkaConfig) {
    let records = some_records(30, 3);
    let mut sink = rig::opened(config).await;
    rig::deliver(&mut sink, &records).await.unwrap();
    sink.close().await.unwrap();
    assert_all_arrived(guarded, &config.topic, &records).await;
}

async fn new_topic(guarded: &Guarded) -> String {
    rig::create_topic(&guarded.kafka.bootstrap(), 3, &[]).await
}

async fn refusal(config: &KafkaConfig, kind: SinkErrorKind, words: &[&str]) -> SinkError {
    let error = rig::sink(config).open().await.unwrap_err();
    assert_eq!(error.kind, kind, "{error}");
    for word in words.iter().chain([&config.brokers.as_str()]) {
        assert!(error.message.contains(word), "{word}: {error}");
    }
    error
}

#[tokio::test]
async fn tls_takes_the_brokers_certificate_by_authority_and_by_name() {
    real_servers!("TLS takes the broker's certificate by authority and by name");
    let guarded = guards::shared().await;
    let topic = new_topic(guarded).await;
    let config = guarded.config(TLS, &topic);
    assert_delivers(guarded, &config).await;

    let mut unknown = config.clone();
    unknown
        .properties
        .set("ssl.ca.location", guarded.papers.stranger());
    let kind = SinkErrorKind::Authentication;
    refusal(&unknown, kind, &["certificate verify failed", "ssl.ca.location"]).await;

    let elsewhere = guarded.config(ELSEWHERE, &topic);
    refusal(&elsewhere, kind, &["certificate verify failed", "name the hosts"]).await;

    // A port without TLS closes the handshake, as a broker does that is going down: the two look alike, but it is said, in
    // one of two ways, by which side is the first to notice.
    let mut plain = guarded.config(TLS, &topic);
    plain.brokers = guarded.kafka.bootstrap();
    refusal(&plain, SinkErrorKind::Unavailable, &["SSL"]).await;
}

#[tokio::test]
async fn a_broker_that_asks_for_a_certificate_takes_a_known_one_only() {
    real_servers!("a broker that asks for a certificate takes a known one only");
    let guarded = guards::shared().await;
    let topic = new_topic(guarded).await;
    let mut config = guarded.config(MUTUAL, &topic);
    refusal(
        &config,
        SinkErrorKind::Authentication,
        &["ssl.certificate.location"],
    )
    .await;

    let (certificate, key) = (guarded.papers.certificate(), guarded.papers.key());
    config.properties.set("ssl.certificate.location", certificate);
    config.properties.set("ssl.key.location", key);
    assert_delivers(guarded, &config).await;
}

#[tokio::test]
async fn passwords_are_right_or_refused_and_never_shown() {
    real_servers!("passwords are right or refused and never shown");
    let guarded = guards::shared().await;
    for mechanism in SCRAMS {
        guarded.set_password("scram", mechanism, "s-pass").await;
    }
    for (listener, mechanism, user, password) in [
        (PASSWORD, "PLAIN", "writer", "w-pass"),
        (SCRAM, SCRAMS[0], "scram", "s-pass"),
        (SCRAM, SCRAMS[1], "scram", "s-pass"),
    ] {
        let topic = new_topic(guarded).await;
        let right = guarded.config_of(listener, &topic, mechanism, user, password);
        assert_delivers(guarded, &right).await;

        let wrong = guarded.config_of(listener, &topic, mechanism, user, "not-the-password");
        let error = refusal(&wrong, SinkErrorKind::Authentication, &["sasl.password"]).await;
        assert!(!format!("{error:?}").contains("not-the-password"), "{error:?}");
    }
    let topic = new_topic(guarded).await;
    let unknown = guarded.config_of(PASSWORD, &topic, SCRAMS[0], "writer", "w-pass");
    refusal(&unknown, SinkErrorKind::Authentication, &["sasl.mechanism"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn credentials_deleted_at_work_stop_the_delivery_until_they_are_back() {
    real_servers!("credentials deleted at work stop the delivery until they are back");
    let guarded = guards::shared().await;
    let (user, mechanism) = ("short-lived", SCRAMS[1]);
    guarded.set_password(user, mechanism, "first").await;
    let topic = new_topic(guarded).await;
    let config = guarded.config_of(SCRAM, &topic, mechanism, user, "first");
    let records = some_records(60_000, 20);
    let mut sink = rig::opened(&config).await;
    rig::deliver(&mut sink, &records[..100]).await.unwrap();

    guarded.delete_password(user, mechanism).await;
    // The broker asks for the password again within two seconds, and until then takes what comes.
    let mut done = 100;
    let error = loop {
        assert!(done < records.len() - 500, "nothing was refused");
        match rig::deliver(&mut sink, &records[done..=done]).await {
            Ok(()) => done += 1,
            Err(failure) => break failure.error.unwrap(),
        }
    };
    assert!(
        matches!(
            error.kind,
            SinkErrorKind::Authentication | SinkErrorKind::Unavailable
        ),
        "{error}"
    );
    rig::refused_at_last(&mut sink, SinkErrorKind::Authentication).await;

    guarded.set_password(user, mechanism, "first").await;
    rig::open_at_last(&mut sink).await;
    rig::deliver_at_last(&mut sink, &records[done..]).await;
    assert_all_arrived(guarded, &topic, &records).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_missing_right_is_named_and_delivery_goes_on_once_it_is_granted() {
    real_servers!("each missing right is named and delivery goes on once it is granted");
    let guarded = guards::shared().await;
    let topic = rig::new_topic_name();
    let mut config = guarded.config_of(PASSWORD, &topic, "PLAIN", "nobody", "n-pass");
    config.create_topics = CreateTopics::Yes(Default::default());
    let kind = SinkErrorKind::Authorization;
    refusal(&config, kind, &[&topic, "DESCRIBE"]).await;

    guarded.allow("nobody", &topic, &["Describe"]).await;
    refusal(&config, kind, &[&topic, "CREATE"]).await;

    guarded.allow("nobody", &topic, &["Create"]).await;
    let mut sink = rig::opened(&config).await;
    let records = some_records(200, 5);
    // A producer that may write to nothing gets no identity.
    let failure = rig::deliver(&mut sink, &records).await.unwrap_err();
    assert_eq!(failure.done, 0);
    let error = failure.error.unwrap();
    assert_eq!(error.kind, kind, "{error}");
    for word in ["WRITE", &config.brokers] {
        assert!(error.message.contains(word), "{error}");
    }

    // It gets one by a right elsewhere, and may still not write here.
    guarded.allow("nobody", "elsewhere", &["Write"]).await;
    rig::open_at_last(&mut sink).await;
    let failure = rig::deliver(&mut sink, &records).await.unwrap_err();
    let error = failure.error.unwrap();
    assert_eq!(error.kind, kind, "{error}");
    for word in ["WRITE", &topic] {
        assert!(error.message.contains(word), "{error}");
    }

    guarded.allow("nobody", &topic, &["Write"]).await;
    rig::deliver_at_last(&mut sink, &records).await;
    assert_all_arrived(guarded, &topic, &records).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_quota_slows_the_sink_down_and_is_not_taken_for_a_broker_that_is_gone() {
    real_servers!("a quota slows the sink down and is not taken for a broker that is gone");
    let guarded = guards::shared().await;
    guarded.set_quota("slow", 20_000).await;
    let topic = new_topic(guarded).await;
    let mut config = guarded.config_of(PASSWORD, &topic, "PLAIN", "slow", "slow-pass");
    config.compression = Compression::None;
    config.properties.set("statistics.interval.ms", "100");
    let records = some_records(600, 20);
    let mut sink = rig::opened(&config).await;

    let mut kinds = Vec::new();
    for batch in records.chunks(200) {
        kinds.extend(rig::deliver_at_last(&mut sink, batch).await);
    }

    assert!(kinds.contains(&SinkErrorKind::Throttled), "{kinds:?}");
    assert_all_arrived(guarded, &topic, &records).await;
}
