//! Servers before 3.9, which do not send the zxids of their events: bounds instead of exact deletes, and the same
//! tree at the end.

use bridge_servers::{ZooKeeper, eventually, real_servers};

use crate::bridge::BOUND;
use crate::stage::{Place, Scene, shared};
use crate::verdict::{Events, each_once};
use crate::writer::{Storm, Writer};

async fn check(version: &str) {
    let zookeeper = ZooKeeper::builder().version(version).start().await.unwrap();
    let mut place = Place::on(&zookeeper, &shared().await.kafka);
    place.events = Events::WithoutZxid;
    let mut scene = Scene::at(&format!("line-{version}"), place).await;
    let root = scene.root().to_owned();
    scene.writer.create(&root, "root").await;
    let [kept, deleted, owned] = ["kept", "deleted", "owned"].map(|name| scene.path(name));
    scene.writer.create(&kept, "1").await;
    scene.bridge.start_ready().await;
    assert_eq!(scene.bridge.status().await["sources"][0]["server"], *version);

    let mortal = Writer::connect(&scene.place.direct).await;
    mortal.create_ephemeral(&owned, "here").await;
    scene.writer.create(&deleted, "1").await;
    scene.writer.set(&kept, "2").await;
    scene.settle().await;
    scene.writer.delete(&deleted).await;
    drop(mortal);
    let gone = eventually("the session to end", BOUND, || async {
        scene.writer.tree(std::slice::from_ref(&owned)).await.is_empty()
    });
    gone.await.unwrap();
    scene.settle().await;
    assert_eq!(scene.story(&kept), ["snapshot reconciled", "update exact"]);
    for path in [&deleted, &owned] {
        let end = &scene.last(path).record;
        assert_eq!(
            (end["op"].as_str(), end["zxid_kind"].as_str()),
            (Some("delete"), Some("upper_bound"))
        );
    }

    Storm::new(&scene.writer, &root, 61).blow(600).await;
    scene.bridge.kill().await;
    Storm::new(&scene.writer, &root, 62).blow(200).await;
    scene.bridge.start_ready().await;
    Storm::new(&scene.writer, &root, 63).blow(600).await;
    scene.judge().await;
    let records = each_once(&scene.topic.deliveries);
    let mut deletes = records.iter().filter(|record| record["op"] == "delete");
    assert!(deletes.all(|record| record["zxid_kind"] != "exact"));
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_of_zookeeper_3_6_are_recorded_with_bounds() {
    real_servers!("ZooKeeper 3.6");
    check("3.6.4").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_of_zookeeper_3_8_are_recorded_with_bounds() {
    real_servers!("ZooKeeper 3.8");
    check("3.8.6").await;
}
