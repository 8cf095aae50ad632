//! A cluster of three, whose leader changes and dies.

use std::sync::{Arc, Mutex};

use async_nats::jetstream::Context;
use bridge_core::testing::some_records;
use bridge_nats::{CreateStream, NatsConfig, StreamSettings};
use bridge_servers::{Nats, eventually, real_servers};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::faults::{assert_all_arrived_once, delivering};
use crate::rig;

async fn cluster(stream: &str) -> (Nats, NatsConfig) {
    let nats = Nats::builder().cluster(3).start().await.unwrap();
    let mut config = rig::hasty_config(&nats.urls(), stream);
    config.create_stream = CreateStream::Yes(StreamSettings {
        replicas: 3,
        ..StreamSettings::default()
    });
    // The cluster chooses its leader first.
    rig::open_at_last(&mut rig::sink(&config)).await;
    (nats, config)
}

async fn leader(context: &Context, stream: &str) -> Option<String> {
    let stream = context.get_stream(stream).await.ok()?;
    stream.cached_info().cluster.as_ref()?.leader.clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_changes_its_leader_keeps_the_order_of_every_path() {
    real_servers!("a stream that changes its leader keeps the order of every path");
    let stream = rig::new_name();
    let (nats, config) = cluster(&stream).await;
    let records = some_records(4_000, 11);
    let context = rig::context(&nats.urls()).await;

    let task = delivering(&config, &records);
    let mut changes = 0;
    while !task.is_finished() {
        let before = leader(&context, &stream).await;
        let asked: Result<Value, _> = context
            .request(format!("STREAM.LEADER.STEPDOWN.{stream}"), &json!({}))
            .await;
        if asked.is_err() || before.is_none() {
            continue;
        }
        eventually("another leader", rig::BOUND, || async {
            task.is_finished()
                || leader(&context, &stream)
                    .await
                    .is_some_and(|now| Some(now) != before)
        })
        .await
        .unwrap();
        changes += 1;
    }
    task.await.unwrap();

    assert!(changes >= 1, "the leader changed {changes} times only");
    assert_all_arrived_once(&nats.urls(), &stream, &records).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_is_killed_loses_nothing_that_was_acknowledged() {
    real_servers!("a leader that is killed loses nothing that was acknowledged");
    let stream = rig::new_name();
    let (nats, config) = cluster(&stream).await;
    let records = some_records(4_000, 50);
    let context = rig::context(&nats.urls()).await;

    let task = delivering(&config, &records);
    crate::faults::some_arrived(&nats.urls(), &stream, 200).await;
    let name = eventually("a leader", rig::BOUND, || leader(&context, &stream))
        .await
        .unwrap();
    let at = (0..3).find(|at| nats.name(*at) == name).unwrap();
    nats.kill(at);
    assert!(
        !task.is_finished(),
        "the delivery had ended before the leader was killed"
    );
    task.await.unwrap();

    nats.restart(at).await.unwrap();
    assert_all_arrived_once(&nats.urls(), &stream, &records).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_that_shut_down_in_lame_duck_mode_cost_no_record() {
    real_servers!("servers that shut down in lame duck mode");
    let stream = rig::new_name();
    let builder = Nats::builder().cluster(3).lines("lame_duck_grace_period: 1s");
    let nats = builder.start().await.unwrap();
    let mut config = rig::hasty_config(&nats.urls(), &stream);
    config.create_stream = CreateStream::Yes(StreamSettings {
        replicas: 3,
        ..StreamSettings::default()
    });
    rig::open_at_last(&mut rig::sink(&config)).await;
    let records = some_records(600, 20);
    let mut batches = records.chunks(100);
    let mut sink = rig::opened(&config).await;
    let context = rig::context(&nats.urls()).await;

    // One after another, so that the one to which the sink is connected is among them.
    for at in 0..3 {
        rig::deliver_at_last(&mut sink, batches.next().unwrap()).await;
        let process = nats.process_id(at).unwrap().to_string();
        let asked = std::process::Command::new("kill")
            .args(["-USR2", &process])
            .status();
        assert!(asked.unwrap().success());
        rig::deliver_at_last(&mut sink, batches.next().unwrap()).await;
        eventually("the end of the server", rig::BOUND, || async {
            !nats.is_running(at)
        })
        .await
        .unwrap();
        nats.restart(at).await.unwrap();
        eventually("a leader", rig::BOUND, || leader(&context, &stream))
            .await
            .unwrap();
    }
    assert_all_arrived_once(&nats.urls(), &stream, &records).await;
}

/// The beginnings of the conversations that clients begin with a listener: a CONNECT with the name of each.
async fn visitors(listener: TcpListener, seen: Arc<Mutex<Vec<String>>>) {
    let info = "INFO {\"server_id\":\"x\",\"version\":\"2.12.0\",\"proto\":1,\"host\":\"h\",\"port\":1,\
                \"headers\":true,\"max_payload\":1048576}\r\n";
    while let Ok((mut socket, _)) = listener.accept().await {
        if socket.write_all(info.as_bytes()).await.is_err() {
            continue;
        }
        let mut beginning = vec![0; 4096];
        let bytes = socket.read(&mut beginning).await.unwrap_or(0);
        let text = String::from_utf8_lossy(&beginning[..bytes]).into_owned();
        seen.lock().unwrap().push(text);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn addresses_that_servers_announce_are_never_connected_to() {
    real_servers!("addresses that servers announce");
    let stream = rig::new_name();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let announced = format!("client_advertise: \"{}\"", listener.local_addr().unwrap());
    let seen = Arc::default();
    let watching = tokio::spawn(visitors(listener, Arc::clone(&seen)));
    let nats = Nats::builder()
        .cluster(3)
        .lines(&announced)
        .start()
        .await
        .unwrap();
    // One configured server, as a client behind an address of a load balancer has.
    let mut config = rig::hasty_config(&nats.url(0), &stream);
    config.create_stream = CreateStream::Yes(StreamSettings::default());
    rig::open_at_last(&mut rig::sink(&config)).await;
    let mut sink = rig::opened(&config).await;
    let other = async_nats::ConnectOptions::new().name("a client that takes them");
    let other = other.connect(nats.url(0)).await.unwrap();

    nats.kill(0);

    // The negative control: the same library without the option goes to the address, again and again.
    let count = |words: &str| {
        seen.lock()
            .unwrap()
            .iter()
            .filter(|text: &&String| text.contains(words))
            .count()
    };
    let visited = eventually("a client at the announced address", rig::BOUND, || async {
        count("a client that takes them") >= 3
    });
    visited.await.unwrap();
    let failed = rig::deliver(&mut sink, &some_records(3, 1)).await.unwrap_err();
    assert!(failed.error.is_some(), "{failed:?}");
    assert_eq!(count("\"name\":\"zkbridge\""), 0, "{:?}", seen.lock().unwrap());
    drop(other);
    watching.abort();
}
