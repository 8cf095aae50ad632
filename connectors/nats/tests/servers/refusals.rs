//! Refusals of servers, and their reports.

use std::time::Duration;

use async_nats::jetstream::stream::DiscardPolicy;
use bridge_core::amount::Span;
use bridge_core::sink::{Extent, Sink, SinkErrorKind};
use bridge_core::testing::{a_record, some_records};
use bridge_nats::{Auth, NatsConfig};
use bridge_servers::{NATS_LINES, Nats, Port, real_servers};

use crate::faults::assert_all_arrived_once;
use crate::rig;

fn as_user(urls: &str, stream: &str, user: &str) -> NatsConfig {
    let mut config = rig::hasty_config(urls, stream);
    config.auth = Some(Auth {
        user: Some(user.to_owned()),
        password: Some(bridge_core::secret::Secret::new(user)),
        ..Auth::default()
    });
    config
}

#[tokio::test]
async fn a_server_that_is_not_there_is_unavailable_under_its_address() {
    real_servers!("a server that is not there is unavailable under its address");
    let port = Port::reserve().unwrap();
    for servers in [
        format!("nats://{}", port.addr()),
        "nats://no-such-host.invalid:4222".to_owned(),
    ] {
        let (kind, said) = rig::refusal(&rig::hasty_config(&servers, "ZK")).await;
        assert_eq!(kind, SinkErrorKind::Unavailable, "{said}");
        assert!(said.contains(&servers), "{said}");
    }
}

#[tokio::test]
async fn a_record_without_a_subject_is_rejected_and_the_others_arrive() {
    real_servers!("a record without a subject is rejected and the others arrive");
    let urls = rig::shared_server().await.urls();
    let stream = rig::create_stream(&urls).await;
    let mut config = rig::config(&urls, &stream);
    config.subject = format!("{stream}.{{{{ names[0] }}}}");
    let mut sink = rig::opened(&config).await;
    let records: Vec<_> = ["/a", "/b c", "/a"]
        .into_iter()
        .zip(1..)
        .map(|(path, seq)| a_record().seq(seq).path(path).arc())
        .collect();

    let failure = rig::deliver(&mut sink, &records).await.unwrap_err();

    assert_eq!((failure.done, failure.rejected.len()), (3, 1));
    assert!(
        failure.rejected[0].reason.contains("b c"),
        "{}",
        failure.rejected[0].reason
    );
    let messages = rig::messages(&urls, &stream).await;
    assert_eq!(messages.iter().map(rig::Message::seq).collect::<Vec<_>>(), [1, 3]);
}

#[tokio::test]
async fn a_stream_that_is_full_takes_the_rest_in_order_when_it_has_room() {
    real_servers!("a stream that is full takes the rest in order when it has room");
    for version in NATS_LINES {
        let nats = rig::server(version).await;
        let context = rig::context(&nats.urls()).await;
        for by_messages in [true, false] {
            let stream = rig::new_name();
            let mut settings = rig::settings(&stream);
            settings.discard = DiscardPolicy::New;
            match by_messages {
                true => settings.max_messages = 100,
                false => settings.max_bytes = 100_000,
            }
            context.create_stream(settings.clone()).await.unwrap();
            let records = some_records(400, 10);
            let mut sink = rig::opened(&rig::config(&nats.urls(), &stream)).await;

            let failure = rig::deliver(&mut sink, &records).await.unwrap_err();
            let error = failure.error.unwrap();
            assert_eq!(error.kind, SinkErrorKind::Full, "{error}");
            assert!(
                error.message.contains("maximum") && error.message.contains("raise the limits"),
                "{error}"
            );
            assert_ne!(failure.done, 0);

            (settings.max_messages, settings.max_bytes) = (-1, -1);
            context.update_stream(settings).await.unwrap();
            sink.open().await.unwrap();
            rig::deliver(&mut sink, &records[failure.done..]).await.unwrap();
            assert_all_arrived_once(&nats.urls(), &stream, &records).await;
        }
    }
}

#[tokio::test]
async fn an_account_without_room_is_full() {
    real_servers!("an account without room is full");
    let accounts = "accounts { A: { jetstream: { max_file: 100KB }, users: [{user: a, password: a}] } }\nno_auth_user: a";
    let nats = Nats::builder().lines(accounts).start().await.unwrap();
    let stream = rig::create_stream(&nats.urls()).await;
    let mut sink = rig::opened(&rig::config(&nats.urls(), &stream)).await;

    let failure = rig::deliver(&mut sink, &some_records(400, 10)).await.unwrap_err();

    let error = failure.error.unwrap();
    assert_eq!(error.kind, SinkErrorKind::Full, "{error}");
}

#[tokio::test]
async fn a_right_that_is_missing_is_named() {
    real_servers!("a right that is missing is named");
    for version in NATS_LINES {
        let authorization = r#"authorization { users: [
            { user: owner, password: owner },
            { user: blind, password: blind, permissions: { publish: ["changes.>"] } },
            { user: mute, password: mute, permissions: { publish: ["$JS.API.>"] } },
            { user: deaf, password: deaf, permissions: { subscribe: ["nothing"] } }
        ] }"#;
        let nats = Nats::builder()
            .version(version)
            .lines(authorization)
            .start()
            .await
            .unwrap();
        rig::changes_of_owner(&nats).await;
        let records = some_records(20, 3);
        let mut sink = rig::opened(&as_user(&nats.urls(), "changes", "owner")).await;
        rig::deliver(&mut sink, &records).await.unwrap();

        for (user, expected) in [("blind", "$JS.API.STREAM.INFO.changes"), ("deaf", "_INBOX")] {
            let (kind, said) = rig::refusal(&as_user(&nats.urls(), "changes", user)).await;
            assert_eq!(kind, SinkErrorKind::Authorization, "{user}: {said}");
            assert!(
                said.contains("Permissions Violation") && said.contains(expected),
                "{said}"
            );
        }
        let mut mute = rig::opened(&as_user(&nats.urls(), "changes", "mute")).await;
        let failure = rig::deliver(&mut mute, &records).await.unwrap_err();
        let error = failure.error.unwrap();
        assert_eq!(
            (failure.done, error.kind),
            (0, SinkErrorKind::Authorization),
            "{error}"
        );
        assert!(error.message.contains("changes.services."), "{error}");
    }
}

#[tokio::test]
async fn a_subject_to_which_the_sink_may_not_publish_holds_its_own_records_and_no_others() {
    real_servers!("a subject to which the sink may not publish holds its own records and no others");
    for version in NATS_LINES {
        let users = r#"authorization { users: [
            { user: owner, password: owner },
            { user: partly, password: partly,
              permissions: { publish: { allow: ["$JS.API.>", "changes.>"], deny: ["changes.closed", "changes.secret.>"] } } }
        ] }"#;
        let nats = Nats::builder()
            .version(version)
            .lines(users)
            .start()
            .await
            .unwrap();
        let context = rig::changes_of_owner(&nats).await;
        let mut config = as_user(&nats.urls(), "changes", "partly");
        // Far longer than the test: nothing waits for it.
        config.timeout = Span::secs(600);
        let mut sink = rig::opened(&config).await;
        let records: Vec<_> = [
            "/open",
            "/closed",
            "/open",
            "/closed",
            "/secret/a",
            "/other",
            "/secret/b",
        ]
        .into_iter()
        .zip(1..)
        .map(|(path, seq)| a_record().seq(seq).path(path).arc())
        .collect();

        let failure = rig::deliver(&mut sink, &records).await.unwrap_err();

        assert_eq!((failure.done, failure.error.is_none()), (7, true), "{failure:?}");
        let deferred: Vec<u64> = failure.deferred.iter().map(|one| one.seq.0).collect();
        assert_eq!(deferred, [2, 4, 5, 7]);
        let error = &failure.deferred[0].error;
        assert_eq!(error.kind, SinkErrorKind::Authorization);
        assert!(error.message.contains("'changes.closed'"), "{error}");

        // Alone it does not show whether the sink may publish anything.
        let alone = rig::deliver(&mut sink, &records[1..2]).await.unwrap_err();
        assert_eq!((alone.done, alone.extent), (0, Extent::Unknown), "{alone:?}");
        assert_eq!(alone.error.unwrap().kind, SinkErrorKind::Authorization);
        let others = [a_record().seq(8).path("/open").arc()];
        rig::deliver(&mut sink, &others).await.unwrap();
        assert_eq!(rig::count(&context, "changes").await, 4);
    }
}

#[tokio::test]
async fn a_stream_deleted_meanwhile_is_missing_and_nothing_counts_that_it_did_not_take() {
    real_servers!("a stream deleted meanwhile is missing and nothing counts that it did not take");
    for version in NATS_LINES {
        let nats = rig::server(version).await;
        let urls = nats.urls();
        let stream = rig::create_stream(&urls).await;
        let records = some_records(200, 10);
        let mut sink = rig::opened(&rig::config(&urls, &stream)).await;
        rig::deliver(&mut sink, &records[..100]).await.unwrap();

        let context = rig::context(&urls).await;
        context.delete_stream(&stream).await.unwrap();
        let failure = rig::deliver(&mut sink, &records[100..]).await.unwrap_err();
        let error = failure.error.unwrap();
        assert_eq!((failure.done, error.kind), (0, SinkErrorKind::Missing), "{error}");
        assert!(error.message.contains(&stream), "{error}");
        assert_eq!(sink.open().await.unwrap_err().kind, SinkErrorKind::Missing);

        context.create_stream(rig::settings(&stream)).await.unwrap();
        sink.open().await.unwrap();
        rig::deliver(&mut sink, &records[100..]).await.unwrap();
        assert_all_arrived_once(&urls, &stream, &records[100..]).await;
    }
}

#[tokio::test]
async fn a_subject_that_the_stream_does_not_take_holds_its_own_records_and_no_others() {
    real_servers!("a subject that the stream does not take holds its own records and no others");
    let urls = rig::shared_server().await.urls();
    let context = rig::context(&urls).await;
    let stream = rig::new_name();
    let other = rig::new_name();
    let mut settings = rig::settings(&stream);
    settings.subjects = vec![format!("{stream}.taken")];
    context.create_stream(settings).await.unwrap();
    let mut settings = rig::settings(&other);
    settings.subjects = vec![format!("{stream}.others")];
    context.create_stream(settings).await.unwrap();

    for (name, kind) in [
        ("nobodys", SinkErrorKind::Missing),
        ("others", SinkErrorKind::Configuration),
    ] {
        let mut sink = rig::opened(&rig::config(&urls, &stream)).await;
        let records: Vec<_> = ["taken", "taken", name, "taken", name]
            .into_iter()
            .zip(1..)
            .map(|(name, seq)| a_record().seq(seq).path(&format!("/{name}")).arc())
            .collect();
        let failure = rig::deliver(&mut sink, &records).await.unwrap_err();
        assert_eq!((failure.done, failure.error.is_none()), (5, true), "{failure:?}");
        let deferred: Vec<u64> = failure.deferred.iter().map(|one| one.seq.0).collect();
        assert_eq!(deferred, [3, 5]);
        let error = &failure.deferred[0].error;
        assert_eq!(error.kind, kind, "{error}");
        assert!(error.message.contains(&format!("{stream}.{name}")), "{error}");

        // Alone it does not show whether the stream takes anything.
        let failure = rig::deliver(&mut sink, &records[2..3]).await.unwrap_err();
        assert_eq!(
            (failure.done, failure.extent),
            (0, Extent::Unknown),
            "{failure:?}"
        );
        assert_eq!(failure.error.unwrap().kind, kind);
    }
    assert_eq!(
        rig::count(&context, &other).await,
        0,
        "another stream took a record"
    );
}

#[tokio::test]
async fn a_subject_that_has_all_the_messages_it_may_have_holds_its_own_records_and_no_others() {
    real_servers!("a subject that has all the messages it may have holds its own records and no others");
    for version in NATS_LINES {
        let nats = rig::server(version).await;
        let context = rig::context(&nats.urls()).await;
        let stream = rig::new_name();
        let mut settings = rig::settings(&stream);
        settings.max_messages_per_subject = 1;
        settings.discard = DiscardPolicy::New;
        settings.discard_new_per_subject = true;
        context.create_stream(settings.clone()).await.unwrap();
        let records: Vec<_> = ["/q/a", "/q/a", "/q/b", "/q/a", "/q/c", "/q/d"]
            .into_iter()
            .zip(1..)
            .map(|(path, seq)| a_record().seq(seq).path(path).arc())
            .collect();
        let mut sink = rig::opened(&rig::config(&nats.urls(), &stream)).await;

        let failure = rig::deliver(&mut sink, &records).await.unwrap_err();

        assert_eq!((failure.done, failure.error.is_none()), (6, true), "{failure:?}");
        let deferred: Vec<u64> = failure.deferred.iter().map(|one| one.seq.0).collect();
        assert_eq!(deferred, [2, 4]);
        let error = &failure.deferred[0].error;
        assert_eq!(error.kind, SinkErrorKind::Full, "{error}");
        assert!(error.message.contains("per subject"), "{error}");

        settings.max_messages_per_subject = -1;
        settings.discard_new_per_subject = false;
        context.update_stream(settings).await.unwrap();
        rig::deliver(&mut sink, &[records[1].clone(), records[3].clone()])
            .await
            .unwrap();
        let messages = rig::messages(&nats.urls(), &stream).await;
        let seqs: Vec<u64> = messages.iter().map(rig::Message::seq).collect();
        assert_eq!(seqs, [1, 3, 5, 6, 2, 4]);
    }
}

#[tokio::test]
async fn a_server_without_room_for_connections_asks_to_slow_down() {
    real_servers!("a server without room for connections asks to slow down");
    let nats = Nats::builder().lines("max_connections: 1").start().await.unwrap();
    let stream = rig::create_stream(&nats.urls()).await;
    let config = rig::hasty_config(&nats.urls(), &stream);
    // The connection that made the stream may last a moment longer.
    let mut first = rig::sink(&config);
    rig::open_at_last(&mut first).await;
    let (kind, said) = rig::refusal(&config).await;
    assert_eq!(kind, SinkErrorKind::Throttled, "{said}");
    let ended = tokio::time::timeout(Duration::from_secs(5), first.close()).await;
    ended.expect("close ends within its bound").unwrap();
    rig::open_at_last(&mut rig::sink(&config)).await;
}
