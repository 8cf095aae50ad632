//! Records that are larger than a stream takes.

use std::sync::Arc;

use bridge_core::format::Format;
use bridge_core::record::{Data, Record};
use bridge_core::sink::Sink;
use bridge_core::testing::{a_record, assert_kept_contract};
use bridge_servers::{Nats, real_servers};

use crate::rig::{self, Message};

const LARGE: usize = 900_000;

fn headers_and_payload(message: &Message) -> usize {
    let line = |(name, value): (&String, &String)| name.len() + value.len() + 4;
    12 + message.headers.iter().map(line).sum::<usize>() + message.payload.len()
}

fn data_after(record: &Record) -> &Data {
    record.after.as_ref().unwrap().data.as_ref().unwrap()
}

/// The 20th and the 60th are as large as ZooKeeper's znodes can be, before and after.
fn records_with_large_ones() -> Vec<Arc<Record>> {
    let record = |seq: u64| {
        let path = format!("/services/{}", seq % 5);
        let record = a_record().seq(seq).path(&path).before("");
        match seq {
            20 => record.before("b".repeat(LARGE)).after("x".repeat(LARGE)).arc(),
            60 => record.after([0xff, 0].repeat(LARGE / 2)).arc(),
            _ => record.after(format!("value {seq}")).arc(),
        }
    };
    (1..=60).map(record).collect()
}

#[tokio::test]
async fn records_that_are_too_large_arrive_cut_to_what_stream_and_server_take() {
    real_servers!("records that are too large arrive cut to what stream and server take");
    let nats = Nats::builder().lines("max_payload: 100KB").start().await.unwrap();
    let context = rig::context(&nats.urls()).await;
    for (max_message_size, fence, limit) in [
        (-1, false, 102_400),
        (20_000, false, 20_000),
        (20_000, true, 20_000),
    ] {
        let stream = rig::new_name();
        let mut settings = rig::settings(&stream);
        settings.max_message_size = max_message_size;
        context.create_stream(settings).await.unwrap();
        let mut config = rig::config(&nats.urls(), &stream);
        config.fence = fence;
        let mut sink = rig::opened(&config).await;
        let records = records_with_large_ones();

        rig::deliver(&mut sink, &records).await.unwrap();

        assert_eq!((sink.take_shrunk(), sink.take_shrunk()), (2, 0));
        let messages = rig::messages(&nats.urls(), &stream).await;
        assert_eq!(messages.len(), records.len());
        for large in [&records[19], &records[59]] {
            let message = messages
                .iter()
                .find(|message| message.seq() == large.seq.0)
                .unwrap();
            let size = headers_and_payload(message);
            assert!((limit - 100..=limit).contains(&size), "{size} of {limit}");
            let arrived: Record = serde_json::from_slice(&message.payload).unwrap();
            assert_eq!((arrived.id, &arrived.path), (large.id, &large.path));
            let (cut, whole) = (data_after(&arrived), data_after(large));
            assert!(cut.truncated && whole.bytes.starts_with(&cut.bytes));
            assert_eq!(cut.size as usize, LARGE);
            let before = arrived.before.unwrap();
            assert!(before.data.unwrap().bytes.is_empty());
            assert!(before.stat.is_some(), "only data goes");
        }
        let others = |seq: u64| ![20, 60].contains(&seq);
        let arrived: Vec<_> = messages
            .iter()
            .filter(|message| others(message.seq()))
            .map(Message::arrived)
            .collect();
        let expected: Vec<_> = records.into_iter().filter(|one| others(one.seq.0)).collect();
        assert_kept_contract(&expected, &arrived);
    }
}

#[tokio::test]
async fn raw_bytes_are_cut_and_the_header_says_how_many_there_are() {
    real_servers!("raw bytes are cut and the header says how many there are");
    let urls = rig::shared_server().await.urls();
    let stream = rig::new_name();
    let mut settings = rig::settings(&stream);
    settings.max_message_size = 20_000;
    rig::context(&urls).await.create_stream(settings).await.unwrap();
    let mut config = rig::config(&urls, &stream);
    config.format = Some(Format::Raw);
    let mut sink = rig::opened(&config).await;

    let records = [
        a_record().seq(1).after("x".repeat(LARGE)).arc(),
        a_record().seq(2).after("whole").arc(),
    ];
    rig::deliver(&mut sink, &records).await.unwrap();

    let messages = rig::messages(&urls, &stream).await;
    assert_eq!(headers_and_payload(&messages[0]), 20_000);
    assert_eq!(messages[0].headers["zkbridge-truncated"], LARGE.to_string());
    assert_eq!(messages[1].payload, b"whole");
    assert!(!messages[1].headers.contains_key("zkbridge-truncated"));
}

#[tokio::test]
async fn a_limit_lowered_while_the_sink_is_open_is_kept() {
    real_servers!("a limit lowered while the sink is open is kept");
    let urls = rig::shared_server().await.urls();
    let stream = rig::create_stream(&urls).await;
    let mut sink = rig::opened(&rig::config(&urls, &stream)).await;
    let mut settings = rig::settings(&stream);
    settings.max_message_size = 5_000;
    rig::context(&urls).await.update_stream(settings).await.unwrap();

    let large = a_record().seq(1).after("x".repeat(10_000)).arc();
    rig::deliver(&mut sink, &[large, a_record().seq(2).arc()])
        .await
        .unwrap();

    assert_eq!(sink.take_shrunk(), 1);
    let messages = rig::messages(&urls, &stream).await;
    assert_eq!(messages.iter().map(Message::seq).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(headers_and_payload(&messages[0]), 5_000);
}

#[tokio::test]
async fn a_record_that_is_too_large_without_data_is_rejected_and_the_others_arrive() {
    real_servers!("a record that is too large without data is rejected and the others arrive");
    let urls = rig::shared_server().await.urls();
    let stream = rig::new_name();
    let mut settings = rig::settings(&stream);
    settings.max_message_size = 4_000;
    rig::context(&urls).await.create_stream(settings).await.unwrap();
    let mut sink = rig::opened(&rig::config(&urls, &stream)).await;
    let long = format!("/{}", "long".repeat(600));
    let records = [
        a_record().seq(1).arc(),
        a_record().seq(2).path(&long).arc(),
        a_record().seq(3).arc(),
    ];

    let failure = rig::deliver(&mut sink, &records).await.unwrap_err();

    assert!(failure.error.is_none(), "{:?}", failure.error);
    assert_eq!((failure.done, failure.rejected.len()), (3, 1));
    let reason = &failure.rejected[0].reason;
    assert!(reason.contains("it takes 4000 at most"), "{reason}");
    let messages = rig::messages(&urls, &stream).await;
    assert_eq!(messages.iter().map(Message::seq).collect::<Vec<_>>(), [1, 3]);
}
