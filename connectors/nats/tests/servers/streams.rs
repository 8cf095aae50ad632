//! The stream is looked at, and made.

use std::time::Duration;

use async_nats::jetstream::stream::{DiscardPolicy, StorageType};
use bridge_core::amount::{Size, Span};
use bridge_core::sink::SinkErrorKind;
use bridge_core::testing::some_records;
use bridge_nats::{CreateStream, Storage, StreamSettings, WhenFull};
use bridge_servers::{NATS_LINES, Nats, real_servers};

use crate::rig;

#[tokio::test]
async fn a_stream_that_is_not_there_is_missing_until_it_is_created_as_asked() {
    real_servers!("a stream that is not there is missing until it is created as asked");
    for version in NATS_LINES {
        let nats = rig::server(version).await;
        let stream = rig::new_name();
        let mut config = rig::config(&nats.urls(), &stream);
        let (kind, said) = rig::refusal(&config).await;
        assert_eq!(kind, SinkErrorKind::Missing, "{said}");
        assert!(said.contains(&stream) && said.contains("create_stream"), "{said}");

        config.create_stream = CreateStream::Yes(StreamSettings {
            subjects: vec![format!("{stream}.>"), "also.this".to_owned()],
            storage: Storage::Memory,
            max_age: Some(Span::secs(3_600)),
            max_bytes: Some(Size(50 << 20)),
            when_full: WhenFull::RemoveOldest,
            duplicate_window: Span::secs(300),
            ..StreamSettings::default()
        });
        // Two workers at once, and one later, find or make the same.
        let (_one, _other) = tokio::join!(rig::opened(&config), rig::opened(&config));
        let mut sink = rig::opened(&config).await;
        rig::deliver(&mut sink, &some_records(50, 20)).await.unwrap();

        let context = rig::context(&nats.urls()).await;
        let made = context
            .get_stream(&stream)
            .await
            .unwrap()
            .cached_info()
            .config
            .clone();
        assert_eq!(made.subjects, [format!("{stream}.>"), "also.this".to_owned()]);
        assert_eq!(
            (made.storage, made.discard),
            (StorageType::Memory, DiscardPolicy::Old)
        );
        assert_eq!(
            (made.max_age, made.max_bytes),
            (Duration::from_secs(3_600), 50 << 20)
        );
        assert_eq!(made.duplicate_window, Duration::from_secs(300));
        assert_eq!(rig::count(&context, &stream).await, 50);
    }
}

#[tokio::test]
async fn a_stream_made_by_default_takes_the_template_for_every_cluster_and_loses_nothing() {
    real_servers!("a stream made by default takes the template for every cluster and loses nothing");
    let nats = Nats::start().await.unwrap();
    let mut config = bridge_nats::NatsConfig::new(nats.urls(), "ZK");
    config.create_stream = CreateStream::Yes(StreamSettings::default());
    for cluster in ["main", "other"] {
        let mut sink = bridge_nats::NatsSink::new(&config, cluster).unwrap();
        bridge_core::sink::Sink::open(&mut sink).await.unwrap();
        rig::deliver(&mut sink, &some_records(10, 2)).await.unwrap();
    }
    let context = rig::context(&nats.urls()).await;
    let made = context
        .get_stream("ZK")
        .await
        .unwrap()
        .cached_info()
        .config
        .clone();
    assert_eq!(made.subjects, ["zk.>"]);
    assert_eq!((made.max_age, made.max_bytes), (Duration::ZERO, -1));
    assert_eq!(
        (made.discard, made.duplicate_window),
        (DiscardPolicy::New, Duration::from_secs(600))
    );
}

#[tokio::test]
async fn an_existing_stream_is_not_changed_and_one_that_takes_none_of_our_subjects_is_named() {
    real_servers!("an existing stream is not changed and one that takes none of our subjects is named");
    let urls = rig::shared_server().await.urls();
    let stream = rig::create_stream(&urls).await;
    let mut config = rig::config(&urls, &stream);
    config.subject = "elsewhere.{{ names | subject }}".to_owned();
    config.create_stream = CreateStream::Yes(StreamSettings::default());
    let (kind, said) = rig::refusal(&config).await;
    assert_eq!(kind, SinkErrorKind::Missing, "{said}");
    assert!(
        said.contains(&format!("takes {stream}.>")) && said.contains("elsewhere.>"),
        "{said}"
    );
}

#[tokio::test]
async fn a_stream_that_the_servers_cannot_make_is_an_error_of_the_configuration() {
    real_servers!("what the servers cannot make is an error of the configuration");
    let urls = rig::shared_server().await.urls();
    let taken = rig::create_stream(&urls).await;
    for (settings, expected) in [
        (
            StreamSettings {
                replicas: 3,
                ..StreamSettings::default()
            },
            "3 copies",
        ),
        (
            StreamSettings {
                subjects: vec![format!("{taken}.>")],
                ..StreamSettings::default()
            },
            "overlap",
        ),
    ] {
        let mut config = rig::config(&urls, &rig::new_name());
        config.create_stream = CreateStream::Yes(settings);
        let (kind, said) = rig::refusal(&config).await;
        assert_eq!(kind, SinkErrorKind::Configuration, "{said}");
        assert!(
            said.contains("cannot be created") && said.contains(expected),
            "{said}"
        );
    }
}

#[tokio::test]
async fn an_account_without_jetstream_has_no_stream_and_says_so() {
    real_servers!("an account without JetStream has no stream and says so");
    let accounts = "accounts { A: { users: [{user: a, password: a}] } }\nno_auth_user: a";
    let nats = Nats::builder().lines(accounts).start().await.unwrap();
    let mut config = rig::config(&nats.urls(), "ZK");
    for create in [CreateStream::No, CreateStream::Yes(StreamSettings::default())] {
        config.create_stream = create;
        let (kind, said) = rig::refusal(&config).await;
        assert_eq!(kind, SinkErrorKind::Missing, "{said}");
        assert!(said.contains("JetStream"), "{said}");
    }
}
