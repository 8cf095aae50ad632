//! A watch that stopped without an error: the connection works, reads are answered, and no event arrives any more.
//!
//! A proxy drops the events, so only the bridge's reads can show the fault.

use std::time::{Duration, Instant};

use bridge_servers::{Proxy, ZooKeeper, eventually, real_servers};

use crate::bridge::BOUND;
use crate::stage::{Place, Scene, shared};
use crate::verdict::{Events, folded};

/// A sample is taken every 10 seconds; the rest is for a machine busy with other tests.
const FOUND_WITHIN: Duration = Duration::from_secs(25);

/// A live scene that uses a proxy, with a few znodes.
async fn behind_proxy(name: &str, mut place: Place, zookeeper: &ZooKeeper) -> (Scene, Proxy) {
    let proxy = Proxy::start(zookeeper.client_addr(0)).await.unwrap();
    place.connect = proxy.addr().to_string();
    place.source = "session_timeout = \"30s\"".to_owned();
    let mut scene = Scene::at(name, place).await;
    scene.writer.create(scene.root(), "root").await;
    for name in ["changed", "deleted", "recreated"] {
        scene.writer.create(&scene.path(name), "before").await;
    }
    scene.bridge.start_ready().await;
    scene.settle().await;
    (scene, proxy)
}

async fn check(name: &str, place: Place, zookeeper: &ZooKeeper) {
    let (mut scene, proxy) = behind_proxy(name, place, zookeeper).await;
    let paths = ["changed", "deleted", "recreated", "new"].map(|name| scene.path(name));
    let epoch = scene.bridge.status().await["sources"][0]["epoch"].clone();

    proxy.deaf().await.unwrap();
    scene.writer.set(&paths[0], "unheard").await;
    scene.writer.delete(&paths[1]).await;
    scene.writer.delete(&paths[2]).await;
    scene.writer.create(&paths[2], "unheard").await;
    scene.writer.create(&paths[3], "unheard").await;
    let unheard = eventually("the events to be lost", BOUND, || async { proxy.unheard() == 5 });
    unheard.await.unwrap();
    proxy.restore().await.unwrap();
    let began = Instant::now();
    scene
        .bridge
        .until("the dead watch to be found and healed", |status| {
            status["ready"] == true && status["sources"][0]["epoch"] != epoch
        })
        .await;
    assert!(began.elapsed() < FOUND_WITHIN, "after {:?}", began.elapsed());

    scene.judge().await;
    assert_eq!(scene.gaps(), ["liveness"]);
    assert_eq!(
        scene.story(&paths[2])[1..],
        ["delete reconciled", "create reconciled"]
    );
    let gaps = [("source", "main"), ("reason", "liveness")];
    let counted = eventually("the metric", BOUND, || async {
        scene.bridge.metric("zkbridge_source_gaps_total", &gaps).await == 1.0
    });
    counted.await.unwrap();
    assert!(
        scene
            .bridge
            .has_logged(&["WARN", "the watch cannot be trusted (liveness)"]),
        "{:#?}",
        scene.bridge.log()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_that_died_in_silence_is_found_healed_and_reported() {
    real_servers!("a dead watch");
    check("dead-watch", Place::shared().await, &shared().await.zookeeper).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_that_died_in_silence_is_found_on_servers_whose_events_have_no_zxid() {
    real_servers!("a dead watch on an older server");
    let zookeeper = ZooKeeper::builder().version("3.8.6").start().await.unwrap();
    let mut place = Place::on(&zookeeper, &shared().await.kafka);
    place.events = Events::WithoutZxid;
    check("dead-watch-3-8", place, &zookeeper).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_any_event_samples_still_find_every_change() {
    real_servers!("watches that never tell");
    let place = Place::shared().await;
    let (mut scene, proxy) = behind_proxy("never-reported", place, &shared().await.zookeeper).await;
    proxy.deaf().await.unwrap();
    for round in 0..2 {
        let (kept, short) = (scene.path("changed"), scene.path(&format!("short-{round}")));
        scene.writer.set(&kept, format!("round {round}")).await;
        scene.writer.create(&short, "").await;
        scene.writer.delete(&short).await;
        scene.settle().await;
        let tree = scene.writer.tree(&scene.roots).await;
        let tree = tree
            .into_iter()
            .map(|(path, node)| (path, (node.czxid, node.mzxid)));
        assert_eq!(
            folded(&crate::verdict::each_once(&scene.topic.deliveries)),
            tree.collect()
        );
    }
    assert!(proxy.unheard() > 0);
    scene.judge().await;
    let gaps = scene.gaps();
    assert!(
        gaps.len() >= 2 && gaps.iter().all(|reason| reason == "liveness"),
        "{gaps:?}"
    );
}
