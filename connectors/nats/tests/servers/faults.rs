//! Servers that die, stop and are cut off. In all cases nothing is lost, no record passes an earlier one of its path,
//! and within the duplicate window no message is in the stream twice.

use std::sync::Arc;
use std::time::Duration;

use bridge_core::record::Record;
use bridge_core::sink::{Sink, SinkErrorKind};
use bridge_core::testing::{assert_kept_contract, some_records};
use bridge_nats::{NatsConfig, NatsSink};
use bridge_servers::{Direction, NATS_LINES, NATS_NEWEST, Nats, eventually, real_servers};

use crate::rig;

/// So many records per delivery.
const BATCH: usize = 500;

pub async fn assert_all_arrived_once(urls: &str, stream: &str, records: &[Arc<Record>]) {
    let messages = rig::messages(urls, stream).await;
    let arrived: Vec<_> = messages.iter().map(rig::Message::arrived).collect();
    assert_kept_contract(records, &arrived);
    assert_eq!(messages.len(), records.len(), "something lies there twice");
}

/// A batch after the other as another task, while the server does not always answer.
pub fn delivering(
    config: &NatsConfig,
    records: &[Arc<Record>],
) -> tokio::task::JoinHandle<(NatsSink, Vec<SinkErrorKind>)> {
    let (config, records) = (config.clone(), records.to_vec());
    tokio::spawn(async move {
        let mut sink = rig::opened(&config).await;
        let mut kinds = Vec::new();
        for batch in records.chunks(BATCH) {
            kinds.extend(rig::deliver_at_last(&mut sink, batch).await);
        }
        (sink, kinds)
    })
}

pub async fn some_arrived(urls: &str, stream: &str, at_least: u64) {
    let context = rig::context(urls).await;
    eventually(format!("{at_least} messages"), rig::BOUND, || async {
        rig::count(&context, stream).await >= at_least
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_killed_and_restarted_in_mid_delivery_loses_and_repeats_nothing() {
    real_servers!("a server killed and restarted in mid-delivery loses and repeats nothing");
    for version in NATS_LINES {
        let nats = rig::server(version).await;
        let stream = rig::create_stream(&nats.urls()).await;
        let records = some_records(20_000, 200);
        let task = delivering(&rig::hasty_config(&nats.urls(), &stream), &records);

        some_arrived(&nats.urls(), &stream, 1_000).await;
        nats.kill(0);
        assert!(
            !task.is_finished(),
            "the delivery had ended before the server was killed"
        );
        nats.restart(0).await.unwrap();
        let (mut sink, kinds) = task.await.unwrap();

        assert!(
            kinds.iter().all(|kind| *kind == SinkErrorKind::Unavailable),
            "{kinds:?}"
        );
        assert!(!kinds.is_empty(), "nobody noticed the kill");
        assert_all_arrived_once(&nats.urls(), &stream, &records).await;
        sink.close().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_stops_beyond_the_timeout_gets_each_record_once() {
    real_servers!("a server that stops beyond the timeout gets each record once");
    let nats = Nats::start().await.unwrap();
    let stream = rig::create_stream(&nats.urls()).await;
    let records = some_records(1_500, 30);
    let mut sink = rig::opened(&rig::hasty_config(&nats.urls(), &stream)).await;
    rig::deliver(&mut sink, &records[..500]).await.unwrap();

    nats.pause(0).unwrap();
    let failure = rig::deliver(&mut sink, &records[500..1_000]).await.unwrap_err();
    assert_eq!(failure.done, 0);
    let error = failure.error.unwrap();
    assert_eq!(error.kind, SinkErrorKind::Unavailable);
    assert!(
        error.message.contains("no acknowledgement for 1s 500ms"),
        "{error}"
    );
    nats.resume(0).unwrap();
    rig::open_at_last(&mut sink).await;
    for batch in records[500..].chunks(BATCH) {
        rig::deliver_at_last(&mut sink, batch).await;
    }

    assert_all_arrived_once(&nats.urls(), &stream, &records).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_cut_in_the_middle_make_no_duplicate_and_no_inversion() {
    real_servers!("connections cut in the middle make no duplicate and no inversion");
    let nats = rig::proxied_server(NATS_NEWEST).await;
    let stream = rig::create_stream(&nats.urls()).await;
    // Few paths, so that each has its next message soon after one that was cut off.
    let records = some_records(6_000, 7);
    let task = delivering(&rig::hasty_config(&nats.proxied_url(), &stream), &records);

    let mut cuts = 0;
    while !task.is_finished() {
        // Acknowledgements are lost in one direction, messages torn in the other.
        let (direction, bytes) = match cuts % 2 {
            0 => (Direction::ToClient, 15_000),
            _ => (Direction::ToServer, 150_000),
        };
        nats.proxy().reset_after(direction, bytes).await.unwrap();
        let before = nats.proxy().forwarded(direction);
        let moved = || async { task.is_finished() || nats.proxy().forwarded(direction) >= before + bytes };
        eventually("answers", rig::BOUND, moved).await.unwrap();
        cuts += 1;
    }
    let (_sink, kinds) = task.await.unwrap();

    assert!(cuts >= 3, "the connection was cut {cuts} times only");
    assert!(
        kinds.iter().all(|kind| *kind == SinkErrorKind::Unavailable),
        "{kinds:?}"
    );
    assert_all_arrived_once(&nats.urls(), &stream, &records).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_held_back_and_a_half_open_connection_heal_without_loss_or_duplicate() {
    real_servers!("answers held back and a half-open connection heal without loss or duplicate");
    let nats = rig::proxied_server(NATS_NEWEST).await;
    let stream = rig::create_stream(&nats.urls()).await;
    let records = some_records(2_000, 30);
    let mut sink = rig::opened(&rig::hasty_config(&nats.proxied_url(), &stream)).await;
    rig::deliver(&mut sink, &records[..500]).await.unwrap();

    nats.proxy().hold().await.unwrap();
    let failure = rig::deliver(&mut sink, &records[500..1_000]).await.unwrap_err();
    assert_eq!(failure.error.unwrap().kind, SinkErrorKind::Unavailable);
    nats.proxy().release().await.unwrap();
    rig::open_at_last(&mut sink).await;
    rig::deliver_at_last(&mut sink, &records[500..1_000]).await;

    nats.proxy().dark().await.unwrap();
    let failure = rig::deliver(&mut sink, &records[1_000..1_500]).await.unwrap_err();
    assert_eq!(failure.error.unwrap().kind, SinkErrorKind::Unavailable);
    nats.proxy().restore().await.unwrap();
    rig::open_at_last(&mut sink).await;
    for batch in records[1_000..].chunks(BATCH) {
        rig::deliver_at_last(&mut sink, batch).await;
    }

    assert_all_arrived_once(&nats.urls(), &stream, &records).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_lost_between_deliveries_is_made_anew_and_is_no_failure() {
    real_servers!("a connection lost between deliveries is made anew and is no failure");
    let nats = Nats::start().await.unwrap();
    let stream = rig::create_stream(&nats.urls()).await;
    let records = some_records(200, 3);
    let mut sink = rig::opened(&rig::hasty_config(&nats.urls(), &stream)).await;
    rig::deliver(&mut sink, &records[..100]).await.unwrap();

    nats.restart(0).await.unwrap();
    let kinds = rig::deliver_at_last(&mut sink, &records[100..]).await;

    // The word of the loss may come a moment after the server is back.
    assert!(kinds.len() <= 1, "{kinds:?}");
    assert_all_arrived_once(&nats.urls(), &stream, &records).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn closing_while_the_server_is_silent_ends_within_its_bound() {
    real_servers!("closing while the server is silent ends within its bound");
    let nats = Nats::start().await.unwrap();
    let stream = rig::create_stream(&nats.urls()).await;
    let records = some_records(100, 3);
    let config = rig::hasty_config(&nats.urls(), &stream);
    let mut sink = rig::opened(&config).await;

    nats.pause(0).unwrap();
    rig::deliver(&mut sink, &records).await.unwrap_err();
    let closed = tokio::time::timeout(Duration::from_secs(5), sink.close()).await;
    closed.expect("close ends within its bound").unwrap();
    nats.resume(0).unwrap();

    let mut sink = rig::opened(&config).await;
    rig::deliver(&mut sink, &records).await.unwrap();
    assert_all_arrived_once(&nats.urls(), &stream, &records).await;
}
