//! The fence: what somebody else wrote is not written over, and what is ours is not taken for somebody else's.

use std::time::Duration;

use bridge_core::amount::Span;
use bridge_core::record::Op;
use bridge_core::sink::{Sink, SinkErrorKind};
use bridge_core::testing::{a_record, assert_kept_contract, some_records};
use bridge_nats::NatsConfig;
use bridge_servers::{Direction, NATS_LINES, NATS_NEWEST, eventually, real_servers};

use crate::rig;

fn fenced(urls: &str, stream: &str) -> NatsConfig {
    let mut config = rig::hasty_config(urls, stream);
    config.fence = true;
    config
}

#[tokio::test]
async fn a_message_of_somebody_else_stops_the_sink_until_it_is_started_again() {
    real_servers!("a message of somebody else stops the sink until it is started again");
    for version in NATS_LINES {
        let nats = rig::server(version).await;
        let urls = nats.urls();
        let stream = rig::create_stream(&urls).await;
        let records = some_records(90, 3);
        let mut sink = rig::opened(&fenced(&urls, &stream)).await;
        rig::deliver(&mut sink, &records[..30]).await.unwrap();

        let context = rig::context(&urls).await;
        let subject = format!("{stream}.services.node-1");
        context
            .publish(subject.clone(), "not a record".into())
            .await
            .unwrap()
            .await
            .unwrap();
        let failure = rig::deliver(&mut sink, &records[30..60]).await.unwrap_err();
        let error = failure.error.unwrap();
        assert_eq!(error.kind, SinkErrorKind::Configuration, "{error}");
        assert!(
            error.message.contains(&subject) && error.message.contains("other writer"),
            "{error}"
        );

        // Opening alone forgets nothing; a new sink takes what is there as given.
        sink.open().await.unwrap();
        let again = rig::deliver(&mut sink, &records[30..60]).await.unwrap_err();
        assert_eq!(again.error.unwrap().kind, SinkErrorKind::Configuration);
        let mut sink = rig::opened(&fenced(&urls, &stream)).await;
        rig::deliver(&mut sink, &records[30..]).await.unwrap();
        let messages = rig::messages(&urls, &stream).await;
        let arrived: Vec<_> = messages
            .iter()
            .filter(|message| message.payload != b"not a record")
            .map(rig::Message::arrived)
            .collect();
        assert_kept_contract(&records, &arrived);
    }
}

#[tokio::test]
async fn messages_that_the_stream_had_all_along_count_as_delivered_also_after_the_window() {
    real_servers!("messages that the stream had all along count as delivered also after the window");
    let urls = rig::shared_server().await.urls();
    let context = rig::context(&urls).await;
    let stream = rig::new_name();
    let mut settings = rig::settings(&stream);
    settings.duplicate_window = Duration::from_millis(100);
    context.create_stream(settings).await.unwrap();
    let records = some_records(2, 2);
    // It knows the subject as empty, and another worker of the same bridge delivers meanwhile, as after a lost answer.
    let mut sink = rig::opened(&fenced(&urls, &stream)).await;
    rig::deliver(&mut sink, &records[..1]).await.unwrap();
    context.get_stream(&stream).await.unwrap().purge().await.unwrap();
    eventually(
        "the message of the other, after the window",
        rig::BOUND,
        || async {
            let mut other = rig::opened(&fenced(&urls, &stream)).await;
            rig::deliver(&mut other, &records[..1]).await.unwrap();
            rig::count(&context, &stream).await == 1
        },
    )
    .await
    .unwrap();

    // After the window, when the stream does not know the id any more, the fence does.
    let plain = rig::config(&urls, &stream);
    eventually("the end of the window", rig::BOUND, || async {
        let mut probe = rig::opened(&plain).await;
        rig::deliver(&mut probe, &records[1..]).await.unwrap();
        rig::count(&context, &stream).await >= 3
    })
    .await
    .unwrap();
    let before = rig::count(&context, &stream).await;
    rig::deliver(&mut sink, &records[..1]).await.unwrap();
    assert_eq!(rig::count(&context, &stream).await, before);
}

#[tokio::test]
async fn messages_that_the_stream_has_removed_are_no_sign_of_somebody_else() {
    real_servers!("messages that the stream has removed are no sign of somebody else");
    let urls = rig::shared_server().await.urls();
    let stream = rig::create_stream(&urls).await;
    let records = some_records(60, 3);
    let mut sink = rig::opened(&fenced(&urls, &stream)).await;
    rig::deliver(&mut sink, &records[..30]).await.unwrap();

    let context = rig::context(&urls).await;
    context.get_stream(&stream).await.unwrap().purge().await.unwrap();
    rig::deliver(&mut sink, &records[30..]).await.unwrap();

    let messages = rig::messages(&urls, &stream).await;
    let arrived: Vec<_> = messages.iter().map(rig::Message::arrived).collect();
    assert_kept_contract(&records[30..], &arrived);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_path_has_one_message_on_its_way_also_where_a_fence_knows_it_by_several_subjects() {
    real_servers!("a path has one message on its way also where a fence knows it by several subjects");
    let nats = rig::proxied_server(NATS_NEWEST).await;
    let stream = rig::create_stream(&nats.urls()).await;
    let mut config = fenced(&nats.proxied_url(), &stream);
    config.subject = format!("{stream}.{{{{ names | subject }}}}.{{{{ op }}}}");
    config.timeout = Span::secs(60);
    let records: Vec<_> = [Op::Create, Op::Update, Op::Delete, Op::Create, Op::Update]
        .into_iter()
        .zip(1..)
        .map(|(op, seq)| {
            a_record()
                .seq(seq)
                .path("/a")
                .op(op)
                .after(vec![b'x'; 10_000])
                .arc()
        })
        .collect();
    let mut sink = rig::opened(&config).await;
    // The fence knows the last message of each subject from here on, and has nothing to ask.
    rig::deliver(&mut sink, &records[..3]).await.unwrap();

    nats.pause(0).unwrap();
    let before = nats.proxy().forwarded(Direction::ToServer);
    let rest = records[3..].to_vec();
    let task = tokio::spawn(async move { (rig::deliver(&mut sink, &rest).await, sink) });
    let sent = || nats.proxy().forwarded(Direction::ToServer) - before;
    eventually("the first message", rig::BOUND, || async { sent() > 10_000 })
        .await
        .unwrap();
    let second = eventually("a second", Duration::from_secs(2), || async { sent() > 20_000 }).await;
    assert!(
        second.is_err(),
        "{} bytes were sent before the first was acknowledged",
        sent()
    );
    nats.resume(0).unwrap();
    let (delivered, _sink) = task.await.unwrap();

    delivered.unwrap();
    let messages = rig::messages(&nats.urls(), &stream).await;
    let seqs: Vec<u64> = messages.iter().map(rig::Message::seq).collect();
    assert_eq!(seqs, [1, 2, 3, 4, 5]);
}
