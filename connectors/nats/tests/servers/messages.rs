//! The messages in the stream when nothing fails.

use std::collections::BTreeSet;
use std::time::Duration;

use bridge_core::format::Format;
use bridge_core::record::Op;
use bridge_core::testing::{a_record, limit_records, some_records};
use bridge_servers::real_servers;

use crate::rig;

#[tokio::test]
async fn a_message_has_its_paths_subject_the_records_headers_and_its_json() {
    real_servers!("a message has its path's subject, the record's headers and its JSON");
    let urls = rig::shared_server().await.urls();
    let stream = rig::create_stream(&urls).await;
    let record = a_record().path("/services/ü/10.0.0.7:80").arc();
    let mut sink = rig::opened(&rig::config(&urls, &stream)).await;

    rig::deliver(&mut sink, std::slice::from_ref(&record))
        .await
        .unwrap();

    let messages = rig::messages(&urls, &stream).await;
    let [message] = messages.as_slice() else {
        panic!("{messages:?}");
    };
    assert_eq!(
        message.subject,
        format!("{stream}.services._c3_bc.10_2e0_2e0_2e7_3a80")
    );
    assert_eq!(message.payload, record.to_json());
    let id = record.id.to_string();
    for (name, expected) in [
        ("Nats-Msg-Id", id.as_str()),
        ("zkbridge-id", &id),
        ("zkbridge-op", "update"),
        ("zkbridge-path", "/services/%C3%BC/10.0.0.7:80"),
        ("zkbridge-cluster", "main"),
    ] {
        assert_eq!(message.headers[name], expected, "{name}");
    }
}

#[tokio::test]
async fn every_form_arrives_with_its_headers() {
    real_servers!("every form arrives with its headers");
    let urls = rig::shared_server().await.urls();
    let records = [
        a_record().seq(1).op(Op::Create).after([0xff, 0]).arc(),
        a_record().seq(2).op(Op::Delete).arc(),
        a_record().seq(3).control(Op::Heartbeat).arc(),
    ];
    for (format, expected) in [
        (Format::Cloudevents, 3),
        (Format::CloudeventsBinary, 3),
        (Format::Raw, 2),
    ] {
        let stream = rig::create_stream(&urls).await;
        let mut config = rig::config(&urls, &stream);
        config.format = Some(format);
        let mut sink = rig::opened(&config).await;

        rig::deliver(&mut sink, &records).await.unwrap();

        let messages = rig::messages(&urls, &stream).await;
        assert_eq!(messages.len(), expected, "{format:?}");
        let first = &messages[0];
        let id = records[0].id.to_string();
        match format {
            Format::Raw => {
                assert_eq!(first.payload, [0xff, 0]);
                assert_eq!(
                    (
                        messages[1].payload.len(),
                        messages[1].headers["zkbridge-op"].as_str()
                    ),
                    (0, "delete")
                );
            }
            Format::Cloudevents => {
                let event: serde_json::Value = serde_json::from_slice(&first.payload).unwrap();
                assert_eq!(event["id"], id);
            }
            _ => assert_eq!(
                (&first.headers["ce-id"], &first.headers["ce-specversion"]),
                (&id, &"1.0".to_owned())
            ),
        }
    }
}

#[tokio::test]
async fn paths_beside_each_other_are_on_their_way_together_and_each_stays_in_order() {
    real_servers!("paths beside each other are in flight together and each stays in order");
    let urls = rig::shared_server().await.urls();
    let stream = rig::create_stream(&urls).await;
    let records = some_records(2_000, 40);
    let mut config = rig::config(&urls, &stream);
    config.in_flight = 7;
    let mut sink = rig::opened(&config).await;

    for batch in records.chunks(700) {
        rig::deliver(&mut sink, batch).await.unwrap();
    }

    let messages = rig::messages(&urls, &stream).await;
    assert_eq!(messages.len(), records.len());
    let subjects: BTreeSet<&str> = messages.iter().map(|message| message.subject.as_str()).collect();
    assert_eq!(subjects.len(), 41, "one for each path, one for the heartbeats");
    // One connection to one server: what waits for nothing arrives as it was sent.
    assert!(messages.is_sorted_by_key(rig::Message::seq));
}

#[tokio::test]
async fn one_subject_for_all_takes_records_at_the_limits_byte_for_byte() {
    real_servers!("one subject for all takes records at the limits byte for byte");
    let urls = rig::shared_server().await.urls();
    let stream = rig::create_stream(&urls).await;
    let records = limit_records();
    let mut config = rig::config(&urls, &stream);
    config.subject = format!("{stream}.{{{{ cluster }}}}");
    let mut sink = rig::opened(&config).await;

    rig::deliver(&mut sink, &records).await.unwrap();

    let messages = rig::messages(&urls, &stream).await;
    assert_eq!(messages.len(), records.len());
    for (message, record) in messages.iter().zip(&records) {
        assert!(message.payload == record.to_json(), "record {}", record.seq);
    }
}

#[tokio::test]
async fn a_repeated_message_is_stored_once_within_the_window_and_later_with_the_same_id_and_body() {
    real_servers!("what comes again within the window is stored once and later with the same id and body");
    let urls = rig::shared_server().await.urls();
    let stream = rig::create_stream(&urls).await;
    let records = some_records(100, 10);
    for _ in 0..3 {
        let mut sink = rig::opened(&rig::config(&urls, &stream)).await;
        rig::deliver(&mut sink, &records).await.unwrap();
    }
    assert_eq!(rig::messages(&urls, &stream).await.len(), 100);

    let context = rig::context(&urls).await;
    let short = rig::new_name();
    let mut settings = rig::settings(&short);
    settings.duplicate_window = Duration::from_millis(100);
    context.create_stream(settings).await.unwrap();
    let mut sink = rig::opened(&rig::config(&urls, &short)).await;
    rig::deliver(&mut sink, &records[..1]).await.unwrap();
    let again = || async {
        let mut sink = rig::opened(&rig::config(&urls, &short)).await;
        rig::deliver(&mut sink, &records[..1]).await.unwrap();
        rig::count(&context, &short).await > 1
    };
    bridge_servers::eventually("the end of the window", rig::BOUND, again)
        .await
        .unwrap();
    let messages = rig::messages(&urls, &short).await;
    assert_eq!(messages[0], messages[1]);
}
