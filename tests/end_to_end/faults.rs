//! Servers and networks that fail under a running bridge.

use bridge_servers::{Kafka, Proxy, ZooKeeper, eventually, real_servers};

use crate::bridge::BOUND;
use crate::stage::{Place, Scene, shared};
use crate::writer::{Storm, Writer};

#[tokio::test(flavor = "multi_thread")]
async fn kafka_gets_everything_after_a_kill_and_a_restart() {
    real_servers!("kafka down");
    let kafka = Kafka::start().await.unwrap();
    let mut scene = Scene::at("kafka-down", Place::on(&shared().await.zookeeper, &kafka)).await;
    scene.writer.create(scene.root(), "root").await;
    scene.bridge.start_ready().await;
    let root = scene.root().to_owned();
    Storm::new(&scene.writer, &root, 1).blow(200).await;
    kafka.kill();
    Storm::new(&scene.writer, &root, 2).blow(500).await;
    scene
        .bridge
        .until("the sink to notice", |status| {
            !status["sinks"][0]["error"].is_null()
        })
        .await;
    // Capture continues, and the status shows it.
    assert_eq!(scene.bridge.get("/readyz").await.0, 200);
    scene.bridge.kill().await;
    scene.bridge.start_ready().await;
    Storm::new(&scene.writer, &root, 3).blow(200).await;
    kafka.restart().await.unwrap();
    scene.judge().await;
}

/// A live scene whose bridge connects to ZooKeeper through a proxy.
async fn behind_proxy(name: &str, session_timeout: &str) -> (Scene, Proxy) {
    let mut place = Place::shared().await;
    let proxy = Proxy::start(shared().await.zookeeper.client_addr(0))
        .await
        .unwrap();
    place.connect = proxy.addr().to_string();
    place.source = format!("session_timeout = \"{session_timeout}\"");
    let mut scene = Scene::at(name, place).await;
    scene.writer.create(scene.root(), "root").await;
    scene.bridge.start_ready().await;
    (scene, proxy)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_cut_for_less_than_the_session_is_a_gap_that_says_disconnected() {
    real_servers!("cut briefly");
    let (mut scene, proxy) = behind_proxy("cut-briefly", "20s").await;
    let paths = ["changed", "deleted", "recreated"].map(|name| scene.path(name));
    for path in &paths {
        scene.writer.create(path, "before").await;
    }
    scene.settle().await;
    proxy.cut().await.unwrap();
    scene.writer.set(&paths[0], "cut").await;
    scene.writer.delete(&paths[1]).await;
    scene.writer.delete(&paths[2]).await;
    scene.writer.create(&paths[2], "cut").await;
    proxy.restore().await.unwrap();
    scene.judge().await;
    assert_eq!(scene.gaps(), ["disconnected"]);
    assert_eq!(scene.story(&paths[1]), ["create exact", "delete reconciled"]);
    // And once more, with connections that are reset while many writes are made.
    let root = scene.root().to_owned();
    let mut storm = Storm::new(&scene.writer, &root, 5);
    for _ in 0..3 {
        storm.blow(200).await;
        proxy.reset_connections().await.unwrap();
    }
    storm.blow(200).await;
    scene.judge().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_cut_for_more_than_the_session_is_a_gap_that_says_expired() {
    real_servers!("cut long");
    let (mut scene, proxy) = behind_proxy("cut-long", "1111ms").await;
    let paths = ["changed", "deleted", "recreated"].map(|name| scene.path(name));
    for path in &paths {
        scene.writer.create(path, "before").await;
    }
    scene.settle().await;
    let zookeeper = &shared().await.zookeeper;
    proxy.cut().await.unwrap();
    scene.writer.set(&paths[0], "cut").await;
    scene.writer.delete(&paths[1]).await;
    scene.writer.delete(&paths[2]).await;
    scene.writer.create(&paths[2], "cut").await;
    scene
        .bridge
        .until("the bridge to be cut off", |status| {
            status["sources"][0]["state"] == "detached"
        })
        .await;
    // Waits for the end of the session at the server. No other session of the shared server has its timeout.
    let log = || std::fs::read_to_string(zookeeper.log(0)).unwrap_or_default();
    let expired = eventually("the session to expire", BOUND, || async {
        log().contains("timeout of 1111ms exceeded")
    });
    expired.await.unwrap();
    proxy.restore().await.unwrap();
    scene.judge().await;
    assert_eq!(scene.gaps(), ["expired"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_network_that_goes_dark_is_noticed_and_healed() {
    real_servers!("dark");
    let (mut scene, proxy) = behind_proxy("dark", "2s").await;
    let root = scene.root().to_owned();
    proxy.dark().await.unwrap();
    Storm::new(&scene.writer, &root, 7).blow(300).await;
    scene
        .bridge
        .until("the bridge to notice", |status| status["ready"] == false)
        .await;
    proxy.restore().await.unwrap();
    scene.judge().await;
}

/// An ensemble of three, and a bridge that knows all of them.
async fn on_ensemble(name: &str) -> (Scene, ZooKeeper) {
    let ensemble = ZooKeeper::builder().servers(3).start().await.unwrap();
    let mut place = Place::on(&ensemble, &shared().await.kafka);
    place.source = "session_timeout = \"6s\"".to_owned();
    let mut scene = Scene::at(name, place).await;
    scene.writer.create(scene.root(), "root").await;
    scene.bridge.start_ready().await;
    (scene, ensemble)
}

/// The server that the bridge is connected to: of all its connections, one has persistent watches.
async fn watched_server(ensemble: &ZooKeeper) -> usize {
    let find = || async {
        for server in 0..ensemble.count() {
            let answer = ensemble.four_letter(server, "wchs").await.unwrap_or_default();
            if answer
                .lines()
                .any(|line| line.starts_with("Total watches:") && !line.ends_with(":0"))
            {
                return Some(server);
            }
        }
        None
    };
    eventually("a server with watches", BOUND, find).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ensemble_that_loses_the_connected_server_and_then_its_leader_loses_no_change() {
    real_servers!("an ensemble loses servers");
    let (mut scene, ensemble) = on_ensemble("ensemble").await;
    let root = scene.root().to_owned();
    // The writer's own server may be killed too: the log knows the writes whose answers were lost.
    for round in 0..2 {
        let victim = match round {
            0 => watched_server(&ensemble).await,
            _ => ensemble.leader().await.unwrap(),
        };
        let writer = Writer::connect(&scene.place.direct).await;
        let mut storm = Storm::new(&writer, &root, 30 + round);
        storm.blow(300).await;
        ensemble.kill(victim);
        storm.blow(300).await;
        drop(writer);
        ensemble.restart(victim).await.unwrap();
        ensemble.serves().await.unwrap();
    }
    scene.writer = Writer::connect(&scene.place.direct).await;
    scene.judge().await;
}
