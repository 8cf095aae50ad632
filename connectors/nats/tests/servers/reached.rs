//! Servers that are reached in another way than usual: by a domain, with inboxes of a user's own, or not at all.

use std::time::{Duration, Instant};

use bridge_core::sink::{Sink, SinkErrorKind};
use bridge_core::testing::some_records;
use bridge_nats::Auth;
use bridge_servers::{NATS_LINES, Nats, real_servers};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::faults::assert_all_arrived_once;
use crate::rig;

#[tokio::test]
async fn a_stream_of_a_domain_is_reached_by_its_name_and_by_no_other() {
    real_servers!("a stream of a domain is reached by its name and by no other");
    for version in NATS_LINES {
        let nats = Nats::builder()
            .version(version)
            .domain("hub")
            .start()
            .await
            .unwrap();
        let stream = rig::create_stream(&nats.urls()).await;
        let mut config = rig::hasty_config(&nats.urls(), &stream);
        for (domain, is_there) in [("hub", true), ("elsewhere", false)] {
            config.domain = Some(domain.to_owned());
            let mut sink = rig::sink(&config);
            match sink.open().await {
                Ok(()) => assert!(is_there, "{domain}"),
                Err(error) => {
                    assert!(!is_there, "{domain}: {error}");
                    assert_eq!(error.kind, SinkErrorKind::Missing, "{error}");
                    continue;
                }
            }
            let records = some_records(60, 5);
            rig::deliver(&mut sink, &records).await.unwrap();
            assert_all_arrived_once(&nats.urls(), &stream, &records).await;
        }
    }
}

#[tokio::test]
async fn a_user_that_has_inboxes_of_its_own_gets_its_answers_there() {
    real_servers!("a user that has inboxes of its own gets its answers there");
    let users = r#"authorization { users: [
        { user: owner, password: owner },
        { user: own, password: own, permissions: { subscribe: ["_INBOX_own.>"] } }
    ] }"#;
    let nats = Nats::builder().lines(users).start().await.unwrap();
    let context = rig::changes_of_owner(&nats).await;
    let mut config = rig::hasty_config(&nats.urls(), "changes");
    config.auth = Some(Auth {
        user: Some("own".to_owned()),
        password: Some(bridge_core::secret::Secret::new("own")),
        ..Auth::default()
    });

    let (kind, said) = rig::refusal(&config).await;
    assert_eq!(kind, SinkErrorKind::Authorization, "{said}");
    assert!(said.contains("inbox_prefix"), "{said}");

    config.inbox_prefix = "_INBOX_own".to_owned();
    let mut sink = rig::opened(&config).await;
    rig::deliver(&mut sink, &some_records(60, 5)).await.unwrap();
    assert_eq!(rig::count(&context, "changes").await, 60);
}

/// More than the client keeps, and what the sockets hold on both sides.
const FLOOD_MAX: usize = 32 << 20;

#[tokio::test]
async fn a_line_without_an_end_and_a_message_of_any_size_end_the_connection() {
    let info = "INFO {\"server_id\":\"x\",\"version\":\"2.12.0\",\"proto\":1,\"host\":\"h\",\"port\":1,\
                \"headers\":true,\"max_payload\":1048576}\r\n";
    for (name, beginning) in [
        ("a line before all others", String::new()),
        ("the first INFO", "INFO {\"server_id\":\"".to_owned()),
        (
            "a later INFO",
            format!("{info}PONG\r\nINFO {{\"connect_urls\":[\""),
        ),
        ("a line", format!("{info}PONG\r\n")),
        (
            "a message",
            format!("{info}PONG\r\nMSG a 1 18446744073709551615\r\n"),
        ),
        (
            "a message of the longest signed length",
            format!("{info}PONG\r\nMSG a 1 9223372036854775807\r\n"),
        ),
        (
            "a message with headers",
            format!("{info}PONG\r\nHMSG a 1 10 99999999999\r\n"),
        ),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let config = rig::hasty_config(&listener.local_addr().unwrap().to_string(), "ZK");
        let server = tokio::spawn(async move {
            let (mut socket, _) = listener.accept().await.unwrap();
            socket.write_all(beginning.as_bytes()).await.unwrap();
            let (mut from, mut to) = socket.split();
            let mut rest = Vec::new();
            // Until the client goes; it must not have taken all.
            let flood = async {
                let mut sent = 0;
                while sent < FLOOD_MAX && to.write_all(&[b'x'; 4096]).await.is_ok() {
                    sent += 4096;
                }
                sent
            };
            let (sent, _) = tokio::join!(flood, from.read_to_end(&mut rest));
            sent
        });
        let began = Instant::now();
        let (kind, said) = rig::refusal(&config).await;
        assert_eq!(kind, SinkErrorKind::Unavailable, "{name}: {said}");
        let sent = tokio::time::timeout(Duration::from_secs(20), server).await;
        let sent = sent.expect("the client leaves").unwrap();
        assert!(sent < FLOOD_MAX, "{name}: {sent} bytes were taken");
        assert!(began.elapsed() < rig::BOUND, "{name}");
    }
}
